package app

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/writ-project/writ/internal/authn"
	"github.com/writ-project/writ/internal/control"
)

// gate finds out who calls.
type gate struct {
	verifier *authn.Verifier
	svids    *authn.SPIFFE // nil: no SVIDs
	control  *control.Control
	url      string // as callers know it: what a proof of possession is made for
}

// authenticate verifies the client certificate or the bearer token, and the proof of possession if one is shown, and finds the
// registered identity. A call that shows a certificate and a token must be the same identity by both.
func (g *gate) authenticate(ctx context.Context, r *http.Request) (control.Caller, error) {
	if g.svids == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return g.byToken(ctx, r)
	}
	caller, err := g.byCertificate(ctx, r)
	if err != nil || r.Header.Get("Authorization") == "" {
		return caller, err
	}
	other, err := g.byToken(ctx, r)
	if err != nil {
		return control.Caller{}, err
	}
	if other.Identity != caller.Identity {
		return control.Caller{}, refused(authn.CodeProofMismatch, "the token and the client certificate are of two identities: send one of them")
	}
	if other.BoundTo != "" {
		return other, nil
	}
	return caller, nil
}

// byCertificate is the caller by its X.509-SVID: what it gets is bound to that certificate.
func (g *gate) byCertificate(ctx context.Context, r *http.Request) (control.Caller, error) {
	caller, claims, err := g.certified(r)
	if err != nil {
		return caller, err
	}
	return g.identified(ctx, caller, claims)
}

func (g *gate) certified(r *http.Request) (caller control.Caller, _ *authn.Claims, err error) {
	claims, err := g.svids.VerifyX509(r.TLS.PeerCertificates)
	if err != nil {
		return caller, nil, unauthenticated(err)
	}
	caller.BoundTo = control.ByCertificate + claims.CertificateThumbprint
	return caller, &claims, nil
}

func (g *gate) byToken(ctx context.Context, r *http.Request) (control.Caller, error) {
	scheme, token, err := bearer(r)
	if err != nil {
		return control.Caller{}, err
	}
	claims, err := authn.VerifyBearer(ctx, g.verifier, g.svids, token)
	if err != nil {
		return control.Caller{}, unauthenticated(err)
	}
	if len(r.Header.Values("DPoP")) == 0 && strings.EqualFold(scheme, schemeDPoP) {
		return control.Caller{}, refused(authn.CodeProofMissing, "the DPoP scheme needs a proof: send one in the DPoP header")
	}
	return g.admitted(ctx, r, control.Caller{}, &claims, token)
}

// admitted adds whose the claims are, and the key of the DPoP proof if the caller sends one. Who cannot prove the key that its claims
// are bound to is no caller, and is not charged for it; who is refused fills no memory of proofs. No token: the caller has none.
func (g *gate) admitted(ctx context.Context, r *http.Request, caller control.Caller, claims *authn.Claims, token string) (control.Caller, error) {
	admit := func(thumbprint string) (err error) {
		if err := claims.CheckProof(thumbprint); err != nil {
			return err
		}
		caller.BoundTo = cmp.Or(thumbprint, caller.BoundTo)
		caller, err = g.identified(ctx, caller, claims)
		return err
	}
	var err error
	switch proofs := r.Header.Values("DPoP"); len(proofs) {
	case 0:
		err = admit("")
	case 1:
		_, err = g.verifier.VerifyProof(ctx, authn.ProofInput{
			Proof: proofs[0], Method: r.Method, URL: g.url + r.URL.EscapedPath(), AccessToken: token, Alone: token == "", Admit: admit,
		})
	default:
		err = refused(authn.CodeProofMalformed, "send one DPoP header")
	}
	if err != nil {
		return control.Caller{}, unauthenticated(err)
	}
	return caller, nil
}

// identified adds whose the claims are.
func (g *gate) identified(ctx context.Context, caller control.Caller, claims *authn.Claims) (_ control.Caller, err error) {
	caller.AuthenticatedAt = claims.AuthenticatedAt
	caller.Identity, err = g.control.Identify(ctx, claims.Issuer, claims.Subject, claims.All)
	return caller, err
}

const (
	schemeBearer = "Bearer"
	schemeDPoP   = "DPoP"
)

func bearer(r *http.Request) (scheme, token string, err error) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", "", refused(authn.CodeTokenMissing, "send one Authorization header with a bearer token of a configured issuer")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, schemeBearer) && !strings.EqualFold(scheme, schemeDPoP) {
		return "", "", refused(authn.CodeTokenMissing, "use the Bearer scheme, or DPoP with a proof")
	}
	return scheme, token, nil
}

func refused(code authn.Code, detail string) error {
	return unauthenticated(&authn.Error{Code: code, Detail: detail})
}

func unauthenticated(err error) error {
	var known *authn.Error
	if errors.As(err, &known) {
		return &control.Invalid{
			Kind: control.AuthenticationMissing, Reason: string(known.Code), Temporary: known.Code.Temporary(), Detail: known.Detail, Cause: err,
		}
	}
	return err
}
