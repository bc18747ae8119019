package jwt

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const maxToken = 16 << 10 // bytes

// Issued is what a token says that this issuer signed.
type Issued struct {
	GrantID     string
	Audience    string
	Confirmed   string // thumbprint of the key that it is bound to
	Certificate string // or that of the certificate
	Claims      json.RawMessage
}

// oneSpelling reports whether a token is written as it was issued: base64 can be written in several ways, and a list of fingerprints
// would know only one.
func oneSpelling(token string) bool {
	parts := strings.Split(token, ".")
	return len(parts) == 3 && !slices.ContainsFunc(parts, func(part string) bool {
		_, err := base64.RawURLEncoding.Strict().DecodeString(part)
		return err != nil || strings.ContainsAny(part, "\r\n")
	})
}

// Verify reads a token that one of the published keys signed and that has not expired at now (RFC 9068 section 4); ok is false for
// everything else. Whether its grant is still alive is not in the token.
func (i *Issuer) Verify(token string, now time.Time) (issued Issued, ok bool) {
	if len(token) > maxToken || !oneSpelling(token) {
		return issued, false
	}
	signed, err := jose.ParseSignedCompact(token, i.algorithms)
	if err != nil {
		return issued, false
	}
	header := signed.Signatures[0].Protected
	at := slices.IndexFunc(i.keys, func(k Key) bool { return k.id == header.KeyID && string(k.alg) == header.Algorithm })
	if at < 0 || header.ExtraHeaders[jose.HeaderType] != "at+jwt" {
		return issued, false
	}
	payload, err := signed.Verify(i.keys[at].private.Public())
	if err != nil {
		return issued, false
	}
	var said claims
	if json.Unmarshal(payload, &said) != nil || said.Issuer != i.name || now.Unix() >= said.Expiry {
		return issued, false
	}
	issued = Issued{GrantID: said.ID, Claims: payload}
	issued.Audience, _ = said.Audience.(string)
	if said.Confirmed != nil {
		issued.Confirmed, issued.Certificate = said.Confirmed.Thumbprint, said.Confirmed.Certificate
	}
	return issued, true
}
