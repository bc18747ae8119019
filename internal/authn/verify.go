package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxTokenLength   = 16 << 10 // bytes of the longest bearer token that is looked at
	usualTokenLength = 2 << 10  // bytes
)

// Verifier authenticates callers. It may be used concurrently; it needs no closing.
type Verifier struct {
	issuers map[string]*issuer
	skew    time.Duration
	now     func() time.Time
	cache   *cache
	proofs  *replay
}

// Verify reports who a bearer token (a JWT in compact form, without the word
// "Bearer") authenticates: RFC 7519, RFC 8725, OpenID Connect Core section 2.
// iss, sub, aud and exp are required; exp gets no skew. It may wait for the
// issuer's keys, up to 5 s or the end of ctx. The token must have been made for
// one of the audiences; none named is the API's. Every error is an *Error.
func (v *Verifier) Verify(ctx context.Context, token string, audiences ...Audience) (Claims, error) {
	if token == "" {
		return Claims{}, refuse(CodeTokenMissing, "send an access token of a configured issuer as Authorization: Bearer")
	}
	if len(token) > maxTokenLength {
		return Claims{}, refuse(CodeTokenMalformed, fmt.Sprintf("the token is longer than %d bytes; ask the issuer for one with fewer claims", maxTokenLength))
	}
	now := v.now()
	sum := fingerprint(token)
	if e := v.cache.get(sum); e != nil {
		valid, err := v.recheck(ctx, e, now)
		if err != nil {
			return Claims{}, err
		}
		if valid {
			if err := e.madeFor(audiences); err != nil {
				return Claims{}, err
			}
			return e.claims, nil
		}
		v.cache.remove(sum)
	}
	e, err := v.verify(ctx, token, now, audiences)
	if err != nil {
		return Claims{}, err
	}
	v.cache.put(sum, e, now)
	return e.claims, nil
}

// fingerprint is the SHA-256 of a token; one of the usual size is hashed without an allocation.
func fingerprint(token string) [32]byte {
	var buffer [usualTokenLength]byte
	return sha256.Sum256(append(buffer[:0], token...))
}

// recheck repeats for a remembered token what can change: time and keys. It
// is false when the key is no longer published and the token must be verified again.
func (v *Verifier) recheck(ctx context.Context, e *entry, now time.Time) (bool, error) {
	if err := v.checkTimes(e.claims.Expiry, e.notBefore, now); err != nil {
		return false, err
	}
	set, err := e.issuer.keys(ctx, now)
	if err != nil {
		return false, err
	}
	if set.generation == e.generation.Load() {
		return true, nil
	}
	if !set.has(e.key) {
		return false, nil
	}
	e.generation.Store(set.generation)
	return true, nil
}

// verify does all of it, for a token that was not seen before.
func (v *Verifier) verify(ctx context.Context, token string, now time.Time, audiences []Audience) (*entry, error) {
	parsed, err := parseJWS(token)
	if errors.Is(err, errAlgorithm) {
		return nil, refuse(CodeTokenAlgorithm, "the token is not signed with an accepted algorithm; configure the issuer for one of "+algorithmList(supportedAlgorithms()))
	}
	if err != nil {
		return nil, refuse(CodeTokenMalformed, "the token cannot be read: "+err.Error())
	}
	alg := jose.SignatureAlgorithm(parsed.header.alg)
	if !acceptedType(parsed.header.typ) {
		return nil, refuse(CodeTokenMalformed, "the token's typ is that of another kind of token; send an access token or an ID token")
	}
	from, err := v.issuerOf(parsed.claims)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(from.algorithms, alg) {
		return nil, refuse(CodeTokenAlgorithm, "the algorithm is not allowed for this issuer; configure the issuer for one of "+algorithmList(from.algorithms))
	}
	key, set, err := from.verifySignature(ctx, token, parsed.header, now)
	if err != nil {
		return nil, err
	}
	e := &entry{issuer: from, key: key.id}
	e.generation.Store(set.generation)
	if err := v.fillClaims(e, parsed.claims, now, audiences); err != nil {
		return nil, err
	}
	return e, nil
}

// acceptedType keeps tokens of other kinds, signed with the same keys, from
// passing for access tokens (RFC 8725 section 3.11).
func acceptedType(typ string) bool {
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case "", "jwt", "at+jwt", "jose":
		return true
	default:
		return false
	}
}

func (v *Verifier) issuerOf(claims map[string]any) (*issuer, error) {
	name, ok := claims["iss"].(string)
	if !ok || name == "" {
		return nil, refuse(CodeTokenMalformed, "the token has no iss, or it is not a string; use a token of an OIDC issuer")
	}
	from, ok := v.issuers[name]
	if !ok {
		return nil, refuse(CodeTokenUnknownIssuer, "the token's issuer is not configured here; use a token of a configured issuer, or have the operator add this one exactly as iss spells it")
	}
	return from, nil
}

// verifySignature finds the key and checks the signature, fetching keys where needed.
func (i *issuer) verifySignature(ctx context.Context, token string, h header, now time.Time) (publicKey, *keySet, error) {
	alg := jose.SignatureAlgorithm(h.alg)
	set, err := i.keys(ctx, now)
	if err != nil {
		return publicKey{}, nil, err
	}
	keys, named := set.candidates(h.kid, alg)
	if len(keys) == 0 && !named {
		if set, err = i.keysForUnknown(ctx, now); err != nil {
			return publicKey{}, nil, err
		}
		keys, named = set.candidates(h.kid, alg)
	}
	switch {
	case len(keys) == 0 && named:
		return publicKey{}, nil, refuse(CodeTokenAlgorithm, "the key that the token names is not for the token's algorithm; get a fresh token, and if it stays so, correct the issuer")
	case len(keys) == 0:
		return publicKey{}, nil, refuse(CodeTokenUnknownKey, fmt.Sprintf("the issuer does not publish the key that signed the token; get a fresh token, and after a key rotation try again in %s", retryAfter))
	case h.kid == "" && len(keys) > 1:
		return publicKey{}, nil, refuse(CodeTokenUnknownKey, "the token names no key and the issuer publishes several; configure the issuer to set kid")
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return publicKey{}, nil, refuse(CodeTokenMalformed, "the token's header cannot be used; get a fresh token")
	}
	for _, key := range keys {
		if _, err := signed.Verify(key.public); err == nil {
			return key, set, nil
		}
	}
	return publicKey{}, nil, refuse(CodeTokenBadSignature, "the signature does not match the issuer's key; get a fresh token and send it unchanged")
}

// fillClaims checks what a genuine token says, and keeps it.
func (v *Verifier) fillClaims(e *entry, claims map[string]any, now time.Time, audiences []Audience) error {
	subject, ok := claims["sub"].(string)
	if !ok || subject == "" || len(subject) > maxSubjectLength {
		return refuse(CodeTokenMalformed, fmt.Sprintf("the token needs a sub of 1 to %d bytes; have the issuer set it", maxSubjectLength))
	}
	if e.audience, ok = audienceOf(claims["aud"]); !ok {
		return refuse(CodeTokenMalformed, "the token needs an aud that is a string or a list of strings; have the issuer set it")
	}
	expiry, present, ok := numericDate(claims, "exp")
	if !present || !ok {
		return refuse(CodeTokenMalformed, "the token needs an exp in seconds since 1970; have the issuer set it")
	}
	for _, name := range []string{"nbf", "iat"} {
		t, _, ok := numericDate(claims, name)
		if !ok {
			return refuse(CodeTokenMalformed, "nbf and iat, where given, must be seconds since 1970; correct the issuer")
		}
		if t.After(e.notBefore) {
			e.notBefore = t
		}
	}
	if err := v.checkTimes(expiry, e.notBefore, now); err != nil {
		return err
	}
	if err := e.madeFor(audiences); err != nil {
		return err
	}
	thumbprint, err := confirmation(claims)
	if err != nil {
		return err
	}
	login, _, _ := numericDate(claims, "auth_time") // one that cannot be read is as good as none
	e.claims = Claims{Issuer: e.issuer.url, Subject: subject, Expiry: expiry, KeyID: e.key.kid, AuthenticatedAt: login, Thumbprint: thumbprint, All: claims}
	return nil
}

// checkTimes grants skew to the beginning of a token's life, never to its end.
func (v *Verifier) checkTimes(expiry, notBefore, now time.Time) error {
	if !now.Before(expiry) {
		return refuse(CodeTokenExpired, "the token has expired; get a fresh one from its issuer")
	}
	if now.Add(v.skew).Before(notBefore) {
		return refuse(CodeTokenNotYetValid, "the token is not valid yet (nbf or iat lies ahead); wait, or correct the clocks of issuer and service")
	}
	return nil
}
