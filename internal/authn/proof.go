package authn

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxProofLength = 8 << 10 // bytes
	maxProofID     = 256     // bytes of jti
	// proofWindow is how far iat may lie from now, in either direction.
	proofWindow = 60 * time.Second
)

// ProofInput is a DPoP proof and what it must be a proof of.
type ProofInput struct {
	// Proof is the value of the one DPoP header.
	Proof string
	// Method and URL are those of the request, as the client sent it; behind a
	// proxy the URL is built from the configured public address.
	Method string
	URL    string
	// AccessToken is the bearer token that came with the request. It is required, unless Alone is set.
	AccessToken string
	// Alone says that the caller authenticated without a bearer token (RFC 9449 section 5): ath is not looked at.
	Alone bool
	// Admit is asked, with the thumbprint of the key, once the proof is good and before it is remembered; its error is that of
	// VerifyProof. So who is refused anyway cannot fill the memory of used proofs. nil: everybody is admitted.
	Admit func(thumbprint string) error
}

// VerifyProof checks a DPoP proof (RFC 9449 section 4.3) and reports the
// RFC 7638 thumbprint (SHA-256, base64url) of the key that made it.
//
// The proof comes with a bearer token of the caller's own issuer, or with
// another way to authenticate, and says to which key the credential that Writ
// issues shall be bound; ath is therefore over that bearer token, and required
// where there is one. The memory of used proofs is per process: see Admit for who
// can fill it. Every error is an *Error, the one of ctx, or that of Admit.
func (v *Verifier) VerifyProof(ctx context.Context, in ProofInput) (jkt string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	switch {
	case in.Proof == "":
		return "", refuse(CodeProofMissing, "send a DPoP proof in the DPoP header")
	case in.AccessToken == "" && !in.Alone:
		return "", refuse(CodeTokenMissing, "a DPoP proof is accepted only with a bearer token")
	case len(in.Proof) > maxProofLength:
		return "", refuse(CodeProofMalformed, fmt.Sprintf("the proof is longer than %d bytes; leave out what RFC 9449 does not ask for", maxProofLength))
	}
	parsed, err := parseJWS(in.Proof)
	if errors.Is(err, errAlgorithm) {
		return "", refuse(CodeProofAlgorithm, "sign the proof with one of "+algorithmList(supportedAlgorithms()))
	}
	if err != nil {
		return "", refuse(CodeProofMalformed, "the proof cannot be read: "+err.Error())
	}
	key, err := verifyProofSignature(in.Proof, parsed.header)
	if err != nil {
		return "", err
	}
	now := v.now()
	id, until, err := checkProofClaims(parsed.claims, in, now)
	if err != nil {
		return "", err
	}
	jkt = base64.RawURLEncoding.EncodeToString(key.id.thumbprint[:])
	if in.Admit != nil {
		if err := in.Admit(jkt); err != nil {
			return "", err
		}
	}
	// The id is taken with the key, so that nobody can use up another one's ids.
	if err := v.proofs.use(sha256.Sum256(append(key.id.thumbprint[:], id...)), until, now); err != nil {
		return "", err
	}
	return jkt, nil
}

// verifyProofSignature checks the header and the signature by the key inside it.
func verifyProofSignature(proof string, h header) (publicKey, error) {
	if h.typ != "dpop+jwt" {
		return publicKey{}, refuse(CodeProofMalformed, "the proof's typ must be dpop+jwt")
	}
	alg := jose.SignatureAlgorithm(h.alg)
	if h.jwk == nil {
		return publicKey{}, refuse(CodeProofMalformed, "the proof's header needs jwk, the public key")
	}
	key, err := parsePublicKey(h.jwk)
	if err != nil {
		return publicKey{}, refuse(CodeProofMalformed, "the proof's jwk must be a public RSA key of 2048 bits or more, an EC key or an Ed25519 key, without private members")
	}
	if !key.fits(alg) {
		return publicKey{}, refuse(CodeProofAlgorithm, "the proof's alg does not fit its jwk")
	}
	signed, err := jose.ParseSignedCompact(proof, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return publicKey{}, refuse(CodeProofMalformed, "the proof's header cannot be used")
	}
	if _, err := signed.Verify(key.public); err != nil {
		return publicKey{}, refuse(CodeProofBadSignature, "the proof is not signed by the key in its jwk")
	}
	return key, nil
}

// checkProofClaims compares the proof with the request; it reports the proof's
// id and until when that id must be remembered.
func checkProofClaims(claims map[string]any, in ProofInput, now time.Time) (id string, until time.Time, err error) {
	id, _ = claims["jti"].(string)
	if id == "" || len(id) > maxProofID {
		return "", until, refuse(CodeProofMalformed, fmt.Sprintf("the proof needs a jti of 1 to %d bytes", maxProofID))
	}
	issued, present, ok := numericDate(claims, "iat")
	if !present || !ok {
		return "", until, refuse(CodeProofMalformed, "the proof needs an iat in seconds since 1970")
	}
	if now.Sub(issued).Abs() > proofWindow {
		return "", until, refuse(CodeProofStale, fmt.Sprintf("the proof's iat is more than %s from now; make a proof for each request and correct the clock", proofWindow))
	}
	if claims["htm"] != in.Method || in.Method == "" {
		return "", until, refuse(CodeProofMismatch, "the proof's htm is not the method of this request")
	}
	if htu, _ := claims["htu"].(string); !sameTarget(htu, in.URL) {
		return "", until, refuse(CodeProofMismatch, "the proof's htu is not the URL of this request")
	}
	if in.Alone {
		return strings.Clone(id), issued.Add(proofWindow), nil
	}
	sum := sha256.Sum256([]byte(in.AccessToken))
	ath, _ := claims["ath"].(string)
	if subtle.ConstantTimeCompare([]byte(ath), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) != 1 {
		return "", until, refuse(CodeProofMismatch, "the proof's ath must be the base64url SHA-256 of the bearer token sent with it")
	}
	return strings.Clone(id), issued.Add(proofWindow), nil
}
