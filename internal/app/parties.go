package app

import (
	"context"
	"net/http"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/authn"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/oauth"
)

// client authenticates a client of the OAuth endpoint, in exactly one way (RFC 6749 section 2.3): by its certificate, by an assertion,
// or by the Authorization header as every caller. What it gets is bound to the key of its DPoP proof, or else to its certificate.
func (g *gate) client(ctx context.Context, r *http.Request, assertion oauth.Assertion) (oauth.Client, error) {
	certified := g.svids != nil && r.TLS != nil && len(r.TLS.PeerCertificates) > 0
	bearing := len(r.Header.Values("Authorization")) > 0
	switch {
	case certified && bearing, certified && assertion.Token != "", bearing && assertion.Token != "":
		return oauth.Client{}, oauth.ErrTwoWays
	case bearing:
		caller, err := g.byToken(ctx, r)
		return oauth.Client{Caller: caller}, err
	case certified:
		caller, claims, err := g.certified(r)
		if err != nil {
			return oauth.Client{}, err
		}
		caller, err = g.admitted(ctx, r, caller, claims, "")
		return oauth.Client{Caller: caller, Subject: claims.Subject}, err
	case assertion.Token == "":
		return oauth.Client{}, refused(authn.CodeTokenMissing, "authenticate by a client certificate, a client_assertion, or a bearer token")
	}
	claims, err := g.asserted(ctx, assertion)
	if err != nil {
		return oauth.Client{}, unauthenticated(err)
	}
	caller, err := g.admitted(ctx, r, control.Caller{}, &claims, "")
	return oauth.Client{Caller: caller, Subject: claims.Subject}, err
}

// asserted is what a client assertion says; its audience is this server's URL and nothing else.
func (g *gate) asserted(ctx context.Context, assertion oauth.Assertion) (authn.Claims, error) {
	here := authn.Audience{Only: g.url}
	switch {
	case assertion.Type == oauth.AssertionBearer:
		return g.verifier.Verify(ctx, assertion.Token, here)
	case g.svids == nil:
		return authn.Claims{}, &authn.Error{Code: authn.CodeTrustDomainUnknown, Detail: "no SVIDs are accepted here"}
	default:
		return g.svids.VerifyJWT(assertion.Token, here)
	}
}

// actor is the identity that a token names as the one to receive a right. The token is for that alone, by its audience, and proves
// nothing about who calls: one that is bound to a key needs no proof here.
func (g *gate) actor(ctx context.Context, token string) (access.Ref, error) {
	claims, err := authn.VerifyBearer(ctx, g.verifier, g.svids, token, authn.Audience{Only: g.url + oauth.ActorAudience})
	if err != nil {
		return access.Ref{}, unauthenticated(err)
	}
	return g.control.Known(ctx, claims.Issuer, claims.Subject, claims.All)
}

// principal is the human that a token is of, made for showing for whom the caller works. One that says who may act (may_act, RFC 8693
// section 4.4) is good for that identity alone, and one that is bound to a key for nobody, because no proof of it can be sent.
func (g *gate) principal(ctx context.Context, token string, caller access.Ref) (access.Ref, error) {
	claims, err := g.verifier.Verify(ctx, token, authn.Audience{Principal: true})
	if err == nil {
		err = claims.CheckProof("")
	}
	if err != nil {
		return access.Ref{}, unauthenticated(err)
	}
	human, err := g.control.Known(ctx, claims.Issuer, claims.Subject, claims.All)
	if err != nil {
		return access.Ref{}, err
	}
	if human.Type != access.TypeHuman {
		return access.Ref{}, refused(authn.CodeTokenMalformed, "the token is not a person's: agents work for people")
	}
	if mayAct, restricted := claims.All["may_act"]; restricted {
		return human, g.mayAct(ctx, mayAct, claims.Issuer, caller)
	}
	return human, nil
}

// mayAct refuses a caller that is not the one that a may_act names, by the issuer's subject or, without an issuer, also as Writ names it.
func (g *gate) mayAct(ctx context.Context, mayAct any, from string, caller access.Ref) error {
	members, _ := mayAct.(map[string]any)
	subject, _ := members["sub"].(string)
	issuer, named := members["iss"].(string)
	if _, given := members["iss"]; given && !named || subject == "" {
		return refused(authn.CodeTokenMalformed, "may_act needs a sub, and an iss that is a string where it is given; correct the issuer")
	}
	if !named {
		issuer = from
	}
	if !named && subject == caller.String() || named && issuer == g.url && subject == caller.String() {
		return nil
	}
	actor, err := g.control.Known(ctx, issuer, subject, members)
	if err != nil || actor != caller {
		return refused(authn.CodeTokenConfirmation, "the token says that somebody else may act for this person (may_act)")
	}
	return nil
}
