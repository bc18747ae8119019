package authn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// VerifyJWT reports who a JWT-SVID authenticates, a JWS in compact form (JWT-SVID
// sections 2 to 4; SPIFFE-ID section 2). aud and exp are required, exp gets no
// skew, and kid must name a key of the trust domain that sub is of; iss means
// nothing. It never waits. Audiences are as for Verify. Every error is an *Error.
func (s *SPIFFE) VerifyJWT(token string, audiences ...Audience) (Claims, error) {
	if token == "" {
		return Claims{}, refuse(CodeTokenMissing, "send a JWT-SVID as Authorization: Bearer")
	}
	if len(token) > maxTokenLength {
		return Claims{}, refuse(CodeTokenMalformed, fmt.Sprintf("the token is longer than %d bytes; ask the issuer for one with fewer claims", maxTokenLength))
	}
	now := s.now()
	sum := fingerprint(token)
	if e := s.tokens.get(sum); e != nil {
		id, err := parseID(e.claims.Subject)
		if err != nil {
			return Claims{}, malformedSubject(err)
		}
		trusted, err := s.bundle(id.TrustDomain(), ofJWT, now)
		if err != nil {
			return Claims{}, err
		}
		if e.bundle == trusted {
			if err := s.rules.checkTimes(e.claims.Expiry, e.notBefore, now); err != nil {
				return Claims{}, err
			}
			if err := e.madeFor(audiences); err != nil {
				return Claims{}, err
			}
			return e.claims, nil
		}
	}
	e, err := s.verifyJWT(token, now, audiences)
	if err != nil {
		return Claims{}, err
	}
	s.tokens.put(sum, e, now)
	return e.claims, nil
}

// verifyJWT does all of it, for a token that was not seen before.
func (s *SPIFFE) verifyJWT(token string, now time.Time, audiences []Audience) (*entry, error) {
	parsed, err := parseJWS(token)
	alg := jose.SignatureAlgorithm(parsed.header.alg)
	if errors.Is(err, errAlgorithm) || alg == jose.EdDSA { // JWT-SVID section 2.1 has no EdDSA
		return nil, refuse(CodeTokenAlgorithm, "a JWT-SVID is signed with RS, PS or ES and 256, 384 or 512; get one from SPIFFE")
	}
	if err != nil {
		return nil, refuse(CodeTokenMalformed, "the token cannot be read: "+err.Error())
	}
	if typ := parsed.header.typ; typ != "" && typ != "JWT" && typ != "JOSE" {
		return nil, refuse(CodeTokenMalformed, "the typ of a JWT-SVID, where given, must be JWT or JOSE; this is another kind of token")
	}
	subject, _ := parsed.claims["sub"].(string)
	id, err := parseID(subject)
	if err != nil {
		return nil, malformedSubject(err)
	}
	trusted, err := s.bundle(id.TrustDomain(), ofJWT, now)
	if err != nil {
		return nil, err
	}
	if err := verifyWith(trusted, token, parsed.header); err != nil {
		return nil, err
	}
	e := &entry{
		// The rules for what a genuine token says are those for OIDC.
		issuer: &issuer{url: id.TrustDomain().IDString(), audience: s.audience},
		key:    keyID{kid: parsed.header.kid},
		bundle: trusted,
	}
	if err := s.rules.fillClaims(e, parsed.claims, now, audiences); err != nil {
		return nil, err
	}
	return e, nil
}

func malformedSubject(cause error) error {
	return &Error{Code: CodeTokenMalformed, Detail: "the sub of a JWT-SVID must be the SPIFFE ID of a workload (spiffe://trust-domain/path, the trust domain in lower case); get one from SPIFFE", cause: cause}
}

// verifyWith checks the signature with the key that kid names in the bundle.
func verifyWith(trusted *bundle, token string, h header) error {
	alg := jose.SignatureAlgorithm(h.alg)
	key, ok := trusted.source.FindJWTAuthority(h.kid)
	switch {
	case h.kid == "":
		return refuse(CodeTokenUnknownKey, "the token names no key; a JWT-SVID needs kid")
	case !ok:
		return refuse(CodeTokenUnknownKey, "the trust domain does not publish the key that signed the token, or not yet; get a fresh JWT-SVID, and after a key rotation try again in a few minutes")
	case !fits(alg, key):
		return refuse(CodeTokenAlgorithm, "the key that the token names is not for the token's algorithm; get a fresh JWT-SVID, and if it stays so, correct its issuer")
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return refuse(CodeTokenMalformed, "the token's header cannot be used; get a fresh JWT-SVID")
	}
	if _, err := signed.Verify(key); err != nil {
		return refuse(CodeTokenBadSignature, "the signature does not match the trust domain's key; get a fresh JWT-SVID and send it unchanged")
	}
	return nil
}

// VerifyBearer verifies a bearer token by the one whose it is: a token whose iss
// is configured is of that OIDC issuer; else one whose sub begins with
// spiffe:// is a JWT-SVID, because iss of a JWT-SVID means nothing; all others
// are OIDC tokens. Either verifier may be nil, not both. Audiences are as for
// Verify. Every error is an *Error.
func VerifyBearer(ctx context.Context, v *Verifier, s *SPIFFE, token string, audiences ...Audience) (Claims, error) {
	switch {
	case s == nil:
		return v.Verify(ctx, token, audiences...)
	case v == nil || isJWTSVID(v, s, token):
		return s.VerifyJWT(token, audiences...)
	default:
		return v.Verify(ctx, token, audiences...)
	}
}

// isJWTSVID tells where to verify a token, and nothing about whether it is genuine.
func isJWTSVID(v *Verifier, s *SPIFFE, token string) bool {
	if token == "" || len(token) > maxTokenLength {
		return false
	}
	sum := fingerprint(token)
	if known := s.tokens.get(sum); known != nil {
		iss, _ := known.claims.All["iss"].(string)
		return v.issuers[iss] == nil // what was verified before for another purpose tells nothing
	}
	if v.cache.get(sum) != nil {
		return false
	}
	parsed, err := parseJWS(token)
	if err != nil {
		return false
	}
	if iss, ok := parsed.claims["iss"].(string); ok && v.issuers[iss] != nil {
		return false
	}
	sub, _ := parsed.claims["sub"].(string)
	return strings.HasPrefix(sub, "spiffe://")
}
