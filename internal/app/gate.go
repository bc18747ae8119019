package app

import (
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
	control  *control.Control
	url      string // as callers know it: what a proof of possession is made for
}

// authenticate verifies the bearer token, and the proof of possession if one is shown, and finds the registered identity.
func (g *gate) authenticate(ctx context.Context, r *http.Request) (control.Caller, error) {
	token, err := bearer(r)
	if err != nil {
		return control.Caller{}, err
	}
	claims, err := g.verifier.Verify(ctx, token)
	if err != nil {
		return control.Caller{}, unauthenticated(err)
	}
	caller := control.Caller{}
	proofs := r.Header.Values("DPoP")
	if len(proofs) > 1 {
		return caller, &control.Invalid{Kind: control.AuthenticationMissing, Detail: "send one DPoP header"}
	}
	if len(proofs) == 1 {
		caller.BoundTo, err = g.verifier.VerifyProof(ctx, authn.ProofInput{
			Proof: proofs[0], Method: r.Method, URL: g.url + r.URL.EscapedPath(), AccessToken: token,
		})
		if err != nil {
			return caller, unauthenticated(err)
		}
	}
	caller.Identity, err = g.control.Identify(ctx, claims.Issuer, claims.Subject, claims.All)
	return caller, err
}

func bearer(r *http.Request) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", &control.Invalid{Kind: control.AuthenticationMissing, Detail: "token_missing: send one Authorization header with a bearer token of a configured issuer"}
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "DPoP") {
		return "", &control.Invalid{Kind: control.AuthenticationMissing, Detail: "token_missing: use the Bearer scheme"}
	}
	return token, nil
}

func unauthenticated(err error) error {
	var known *authn.Error
	if errors.As(err, &known) {
		return &control.Invalid{Kind: control.AuthenticationMissing, Detail: string(known.Code) + ": " + known.Detail, Cause: err}
	}
	return err
}
