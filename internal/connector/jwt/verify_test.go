package jwt

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestATokenIsKnownAgain(t *testing.T) {
	former, key := newTestKey(t, ES256), newTestKey(t, EdDSA)
	token := verifiable()
	token.Certificate, token.Transaction = base64.RawURLEncoding.EncodeToString(make([]byte, 32)), "4bf92f3577b34da6a3ce929d0e0e4736"
	token.Actor = &Actor{Subject: "b", Actor: &Actor{Subject: "a"}}
	for name, signer := range map[string]*Issuer{"the key that signs": newIssuer(t, key, former), "the key before": newIssuer(t, former)} {
		text, err := signer.Issue(token)
		if err != nil {
			t.Fatal(err)
		}
		issued, ok := newIssuer(t, key, former).Verify(text, token.IssuedAt)
		if !ok || issued.GrantID != token.GrantID || issued.Audience != token.Audience[0] || issued.Certificate != token.Certificate || issued.Confirmed != "" {
			t.Errorf("%s: %+v, %v", name, issued, ok)
		}
		var said map[string]any
		if err := json.Unmarshal(issued.Claims, &said); err != nil || said["txn"] != token.Transaction || said["act"].(map[string]any)["sub"] != "b" {
			t.Errorf("%s: %s", name, issued.Claims)
		}
	}
}

func TestNothingElseIsKnown(t *testing.T) {
	key, other := newTestKey(t, ES256), newTestKey(t, ES256)
	i := newIssuer(t, key)
	token := verifiable()
	good, err := i.Issue(token)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	signed := func(k Key, payload []byte, headers map[jose.HeaderKey]any) string {
		t.Helper()
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.alg), Key: k.private}, &jose.SignerOptions{ExtraHeaders: headers})
		if err != nil {
			t.Fatal(err)
		}
		object, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := object.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	usual := map[jose.HeaderKey]any{"typ": "at+jwt", "kid": key.id}
	if _, ok := i.Verify(signed(key, payload, usual), token.IssuedAt); !ok {
		t.Fatal("what the cases below change is not known to begin with")
	}
	elsewhere := strings.Replace(string(payload), "https://writ.example", "https://other.example", 1)
	for name, text := range map[string]string{
		"nothing":                    "",
		"no token":                   "a.b.c",
		"a grant's id":               token.GrantID,
		"unsigned":                   parts[0] + "." + parts[1] + ".",
		"another payload":            parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(elsewhere)) + "." + parts[2],
		"of another key":             signed(other, payload, map[jose.HeaderKey]any{"typ": "at+jwt", "kid": other.id}),
		"of another key, under ours": signed(other, payload, usual),
		"without a key's name":       signed(key, payload, map[jose.HeaderKey]any{"typ": "at+jwt"}),
		"of another type":            signed(key, payload, map[jose.HeaderKey]any{"typ": "JWT", "kid": key.id}),
		"of another issuer":          signed(key, []byte(elsewhere), usual),
		"no claims":                  signed(key, []byte(`[]`), usual),
		"with a line end":            parts[0] + "." + parts[1] + "." + parts[2] + "\n",
		"with other trailing bits":   otherBits(good),
		"too long":                   good + strings.Repeat("x", maxToken),
		"in JSON":                    `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	} {
		if issued, ok := i.Verify(text, token.IssuedAt); ok {
			t.Errorf("%s: %+v", name, issued)
		}
	}
	for at, want := range map[time.Time]bool{token.Expiry.Add(-time.Second): true, token.Expiry: false, token.Expiry.Add(time.Hour): false} {
		if _, ok := i.Verify(good, at); ok != want {
			t.Errorf("%s before its expiry it is known: %v", token.Expiry.Sub(at), ok)
		}
	}
}

func verifiable() Token {
	token := leastToken()
	token.Expiry = issuedAt().Add(90 * time.Second).Truncate(time.Second)
	return token
}

// otherBits spells the same signature in another way: of the last letter of 64 bytes in base64 four bits say nothing.
func otherBits(token string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(letters, token[len(token)-1])
	return token[:len(token)-1] + string(letters[last^1])
}
