package authn

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math"
	"time"
)

const (
	maxSubjectLength = 2048 // the longest SPIFFE ID
	maxAudiences     = 64
	maxNumericDate   = 253402300799 // the end of year 9999
)

// Claims is what a verified token or SVID says.
type Claims struct {
	// Issuer is iss of an OIDC token; of an SVID, the SPIFFE ID of its trust domain ("spiffe://example.org").
	Issuer string
	// Subject is sub of a token; of an SVID, its SPIFFE ID.
	Subject string
	Expiry  time.Time
	// KeyID is the kid of the key that signed, as the issuer publishes it; may be empty.
	KeyID string
	// AuthenticatedAt is auth_time: when the person behind the token logged in (OpenID Connect Core section 2). Zero: it does not say.
	AuthenticatedAt time.Time
	// Thumbprint is cnf.jkt: the token is good only together with a proof by the
	// key of this thumbprint (RFC 9449 section 6.1). Empty: it is bound to no key.
	Thumbprint string
	// CertificateThumbprint is the x5t#S256 of the client's certificate (RFC 8705
	// section 3.1) when it was an X.509-SVID that authenticated; else empty.
	CertificateThumbprint string
	// All holds every claim; numbers are json.Number. It is shared between
	// callers and must not be modified.
	All map[string]any
}

// CheckProof refuses a token that is bound to a key when the call does not
// prove that very key (RFC 9449 section 7.1). proven is what VerifyProof
// reported; empty: there was no proof. The error is an *Error.
func (c *Claims) CheckProof(proven string) error {
	switch {
	case c.Thumbprint == "" || c.Thumbprint == proven:
		return nil
	case proven == "":
		return refuse(CodeProofMissing, "the token is bound to a key (cnf.jkt); send a DPoP proof by that key with it")
	default:
		return refuse(CodeProofMismatch, "the proof is not by the key that the token is bound to (cnf.jkt)")
	}
}

// confirmation reads cnf (RFC 7800 section 3.1). A binding that is not checked
// is no binding, so a token that is bound in any other way than by jkt is refused.
func confirmation(claims map[string]any) (thumbprint string, err error) {
	value, present := claims["cnf"]
	if !present {
		return "", nil
	}
	members, ok := value.(map[string]any)
	if !ok {
		return "", refuse(CodeTokenMalformed, "cnf, where given, must be an object; correct the issuer")
	}
	jkt, bound := members["jkt"]
	if !bound || len(members) > 1 {
		return "", refuse(CodeTokenConfirmation, "the token is bound to its holder in a way that is not checked here (cnf may hold jkt alone); ask the issuer for one that is bound by DPoP, or to no key")
	}
	thumbprint, _ = jkt.(string)
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(thumbprint); err != nil || len(raw) != sha256.Size {
		return "", refuse(CodeTokenMalformed, "cnf.jkt must be a SHA-256 thumbprint in base64url (RFC 7638); correct the issuer")
	}
	return thumbprint, nil
}

// numericDate reads a date (RFC 7519 section 2). The second result tells
// whether the claim is there, the third whether it is well formed.
func numericDate(claims map[string]any, name string) (t time.Time, present, ok bool) {
	value, present := claims[name]
	if !present {
		return time.Time{}, false, true
	}
	number, isNumber := value.(json.Number)
	if !isNumber {
		return time.Time{}, true, false
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > maxNumericDate {
		return time.Time{}, true, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), true, true
}

// audienceOf reads aud: a string, or a list of strings.
func audienceOf(value any) ([]string, bool) {
	switch aud := value.(type) {
	case string:
		return []string{aud}, aud != ""
	case []any:
		if len(aud) == 0 || len(aud) > maxAudiences {
			return nil, false
		}
		out := make([]string, len(aud))
		for i, one := range aud {
			s, ok := one.(string)
			if !ok || s == "" {
				return nil, false
			}
			out[i] = s
		}
		return out, true
	default:
		return nil, false
	}
}
