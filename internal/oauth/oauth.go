// Package oauth is the OAuth endpoint: token exchange (RFC 8693), introspection (RFC 7662), revocation (RFC 7009), and what its
// metadata says (RFC 8414). It decides nothing: it turns forms into calls of control, and answers into the JSON of RFC 6749. A claim
// act in a token that comes in is never read: authority comes from the grants in the store.
package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// Where the endpoint is, below the server's URL.
const (
	TokenPath      = "/oauth/token"
	IntrospectPath = "/oauth/introspect"
	RevokePath     = "/oauth/revoke"
)

// ActorAudience is the audience of actor tokens, below the server's URL. It is one of its own: a token that is handed over to name who
// shall receive a right logs nobody in.
const ActorAudience = "/oauth/actor"

// MaxBody is how many bytes a form may have.
const MaxBody = 128 << 10

// The types of client assertions.
const (
	// AssertionBearer is a token of an OIDC issuer (RFC 7523 section 2.2).
	AssertionBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// AssertionSPIFFE is a JWT-SVID (draft-ietf-oauth-spiffe-client-auth section 3.1).
	AssertionSPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
)

// Assertion is what a client says of itself in the form; empty if nothing.
type Assertion struct {
	Type  string // AssertionBearer or AssertionSPIFFE
	Token string
}

// Client is who has authenticated.
type Client struct {
	control.Caller

	// Subject is by what it did, such as a SPIFFE ID: it may name itself by that, too.
	Subject string

	trace string // that the request goes by (W3C Trace Context)
}

// ErrTwoWays says that a client authenticates in more than one way (RFC 6749 section 2.3).
var ErrTwoWays = errors.New("authenticate in one way: by a client certificate, a client_assertion, or the Authorization header")

// Options are what the endpoint is made of. Refusals of its functions are *control.Invalid of the kind control.AuthenticationMissing,
// whose Detail is "reason: words" (reason as in package authn), or *control.Refusal.
type Options struct {
	Control *control.Control
	// Authenticate finds out which client calls: from the connection, the headers and the assertion. It may return ErrTwoWays.
	Authenticate func(ctx context.Context, r *http.Request, assertion Assertion) (Client, error)
	// Principal finds the human that a token handed to the caller is of.
	Principal func(ctx context.Context, token string, caller access.Ref) (access.Ref, error)
	// Actor finds the identity that a token is of, as the one that shall receive a right.
	Actor func(ctx context.Context, token string) (access.Ref, error)
}

// Endpoint answers forms. It is safe for concurrent use.
type Endpoint struct{ Options }

// New returns the endpoint.
func New(o Options) *Endpoint { return &Endpoint{o} }

// Reply is an answer, to be written with headers that keep it from being stored.
type Reply struct {
	Status int
	Body   []byte // JSON
	Header map[string]string
	Caller access.Ref // who has authenticated; zero: nobody
	Cause  error      // of a failure, for the log alone
}

// Token is the token endpoint.
func (e *Endpoint) Token(ctx context.Context, r *http.Request, body []byte) Reply {
	return e.serve(ctx, r, body, func(ctx context.Context, client Client, f form) (any, error) {
		switch grantType := f["grant_type"]; grantType {
		case "":
			return nil, missing("grant_type")
		case grantCredentials:
			return e.credentials(ctx, client, f)
		case grantExchange:
			return e.exchange(ctx, client, f)
		case grantCIBA:
			return e.redeem(ctx, client, f)
		default:
			return nil, &fault{err: "unsupported_grant_type", code: "unsupported_grant_type",
				detail: "use client_credentials, token exchange, or CIBA with an approval as auth_req_id"}
		}
	})
}

// serve is what the three have in common: the form, the client, the answer.
func (e *Endpoint) serve(ctx context.Context, r *http.Request, body []byte, answer func(context.Context, Client, form) (any, error)) Reply {
	var client Client
	var value any
	f, err := parseForm(r.Header, body)
	if err == nil {
		client, err = e.authenticate(ctx, r, f)
	}
	if err == nil {
		value, err = answer(ctx, client, f)
	}
	if err != nil {
		return refuse(r, client, f, err)
	}
	return reply(http.StatusOK, client, value)
}

func reply(status int, client Client, value any) Reply {
	body, err := json.Marshal(value)
	if err != nil {
		return Reply{Status: http.StatusInternalServerError, Body: []byte(`{"error":"server_error"}`), Caller: client.Identity, Cause: fmt.Errorf("encode the answer: %w", err)}
	}
	return Reply{Status: status, Body: body, Caller: client.Identity, Header: map[string]string{"Pragma": "no-cache"}} // RFC 6749 section 5.1
}

// authenticate finds out which client calls, and refuses one that names itself as another.
func (e *Endpoint) authenticate(ctx context.Context, r *http.Request, f form) (Client, error) {
	assertion := Assertion{Type: f["client_assertion_type"], Token: f["client_assertion"]}
	switch {
	case (assertion.Type == "") != (assertion.Token == ""):
		return Client{}, malformed("client_assertion and client_assertion_type go together")
	case assertion.Type != "" && assertion.Type != AssertionBearer && assertion.Type != AssertionSPIFFE:
		return Client{}, unknownClient("the type of the client_assertion is not supported: use " + AssertionSPIFFE + " or " + AssertionBearer)
	case f["client_secret"] != "":
		return Client{}, unknownClient("there are no client secrets here: authenticate by a client certificate, a client_assertion, or a bearer token")
	}
	client, err := e.Authenticate(ctx, r, assertion)
	if err != nil {
		return Client{}, &clientFault{err}
	}
	if id := f["client_id"]; id != "" && id != client.Identity.String() && id != client.Subject {
		return Client{}, unknownClient("the client_id is not the client that has authenticated: leave it out, or send " + client.Identity.String())
	}
	client.trace = access.TraceOf(r.Header.Values("Traceparent"))
	return client, nil
}
