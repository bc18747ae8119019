package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// idp is an OIDC provider with real keys whose answers a test can bend.
type idp struct {
	url       string
	mu        sync.Mutex
	published []jose.JSONWebKey
	override  http.HandlerFunc // answers the key set request instead, when set
	fetches   atomic.Int64     // of the key set
	discovery atomic.Int64
}

// newIDP starts a provider on loopback.
func newIDP(t testing.TB, keys ...signingKey) *idp {
	t.Helper()
	p := &idp{}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	p.publish(keys...)
	return p
}

func (p *idp) publish(keys ...signingKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published = nil
	for _, k := range keys {
		p.published = append(p.published, k.public())
	}
}

func (p *idp) answer(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.override = h
}

func (p *idp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		p.discovery.Add(1)
		writeJSON(w, map[string]string{"issuer": p.url, "jwks_uri": p.url + "/keys"})
		return
	}
	p.fetches.Add(1)
	p.mu.Lock()
	override, keys := p.override, p.published
	p.mu.Unlock()
	if override != nil {
		override(w, r)
		return
	}
	if keys == nil {
		keys = []jose.JSONWebKey{}
	}
	writeJSON(w, map[string]any{"keys": keys})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

// signingKey is a private key of an issuer or of a client.
type signingKey struct {
	alg     jose.SignatureAlgorithm
	kid     string
	private crypto.Signer
}

func (k signingKey) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.kid, Algorithm: string(k.alg), Use: "sig"}
}

func newKey(t testing.TB, alg jose.SignatureAlgorithm, kid string) signingKey {
	t.Helper()
	var private crypto.Signer
	var err error
	switch string(alg) {
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signingKey{alg: alg, kid: kid, private: private}
}

// sign makes a compact JWS over the payload with the given extra header members.
func (k signingKey) sign(t testing.TB, payload []byte, extra map[jose.HeaderKey]any) string {
	t.Helper()
	head := map[string]any{"alg": k.alg, "typ": "JWT"}
	if k.kid != "" {
		head["kid"] = k.kid
	}
	for name, value := range extra {
		if value == nil {
			delete(head, string(name))
			continue
		}
		head[string(name)] = value
	}
	raw, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	return k.signRaw(t, raw, payload)
}

// signRaw signs header and payload as they are, which no JOSE library does, so
// that they may be as wrong as a test likes.
func (k signingKey) signRaw(t testing.TB, head, payload []byte) string {
	t.Helper()
	input := b64(head) + "." + b64(payload)
	signature, err := rawSignature(k, []byte(input))
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(signature)
}

func rawSignature(k signingKey, input []byte) ([]byte, error) {
	var hash crypto.Hash
	switch string(k.alg[len(k.alg)-3:]) {
	case "256":
		hash = crypto.SHA256
	case "384":
		hash = crypto.SHA384
	case "512":
		hash = crypto.SHA512
	}
	digest := input
	if hash != 0 {
		h := hash.New()
		h.Write(input)
		digest = h.Sum(nil)
	}
	switch private := k.private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(private, input), nil
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, digest)
		if err != nil {
			return nil, err
		}
		size := (private.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
	case *rsa.PrivateKey:
		if strings.HasPrefix(string(k.alg), "PS") {
			return rsa.SignPSS(rand.Reader, private, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(nil, private, hash, digest)
	default:
		return nil, errors.New("unknown key")
	}
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

const audience = "https://writ.example"

// epoch is when the tests happen.
func epoch() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// clock is a time that a test sets.
type clock struct{ unixNano atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.unixNano.Store(epoch().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.unixNano.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.unixNano.Add(int64(d)) }

// claimsAt are the claims of a good token made at now.
func (p *idp) claimsAt(now time.Time, change map[string]any) map[string]any {
	claims := map[string]any{
		"iss": p.url, "sub": "agent-1", "aud": audience,
		"iat": now.Unix(), "exp": now.Add(2 * time.Hour).Unix(),
	}
	maps.Copy(claims, change)
	for name, value := range claims {
		if value == nil {
			delete(claims, name)
		}
	}
	return claims
}

// token signs good claims with some changed; a nil value removes a claim.
func (p *idp) token(t testing.TB, k signingKey, now time.Time, change map[string]any) string {
	t.Helper()
	raw, err := json.Marshal(p.claimsAt(now, change))
	if err != nil {
		t.Fatal(err)
	}
	return k.sign(t, raw, nil)
}

func newVerifier(t testing.TB, p *idp, now func() time.Time) *Verifier {
	t.Helper()
	v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience}}}, &http.Client{}, now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantCode fails unless err is a refusal with the code, "" meaning no error.
func wantCode(t testing.TB, err error, want Code) {
	t.Helper()
	var got *Error
	switch {
	case want == "" && err == nil:
	case want == "" || err == nil:
		t.Fatalf("error = %v, want code %q", err, want)
	case !errors.As(err, &got):
		t.Fatalf("error = %v, which is no *Error; want code %q", err, want)
	case got.Code != want:
		t.Fatalf("code = %q (%s), want %q", got.Code, got.Detail, want)
	case got.Detail == "":
		t.Fatalf("code %q has no detail", got.Code)
	}
}
