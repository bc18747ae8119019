package event

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"github.com/writ-project/writ/internal/access"
)

// Pseudonymizer turns entities into pseudonyms with the installation's key. It is safe for concurrent use.
type Pseudonymizer struct{ key []byte }

// NewPseudonymizer takes the installation's key, 32 bytes.
func NewPseudonymizer(key []byte) *Pseudonymizer { return &Pseudonymizer{key: key} }

// Fingerprint names the key without telling it.
func (p *Pseudonymizer) Fingerprint() string {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte("fingerprint"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Of is the pseudonym of an entity: "p_" and 128 bits of HMAC-SHA-256 over the Ref's text. The zero Ref has none.
func (p *Pseudonymizer) Of(ref access.Ref) Pseudonym {
	if ref.IsZero() {
		return ""
	}
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(ref.String()))
	return Pseudonym("p_" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16]))
}

// MAC authenticates a text with the installation's key (HMAC-SHA-256), for one use: labels keep uses apart from each other, and from
// pseudonyms, whose texts hold a "::".
func (p *Pseudonymizer) MAC(label, text string) []byte {
	use := hmac.New(sha256.New, p.key)
	use.Write([]byte("mac of a " + label))
	mac := hmac.New(sha256.New, use.Sum(nil))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
