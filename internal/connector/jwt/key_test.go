package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func algorithms() []Algorithm { return []Algorithm{EdDSA, ES256} }

func newTestKey(t testing.TB, alg Algorithm) Key {
	t.Helper()
	raw, err := GenerateKey(alg, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeyIsPublishedAsOthersUnderstandIt(t *testing.T) {
	for _, alg := range algorithms() {
		key := newTestKey(t, alg)
		var jwk jose.JSONWebKey
		if err := json.Unmarshal(key.jwk, &jwk); err != nil {
			t.Fatal(err)
		}
		sum, err := jwk.Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if want := encode(sum); key.ID() != want || jwk.KeyID != want {
			t.Errorf("%s: kid %s and %s, want the thumbprint %s", alg, key.ID(), jwk.KeyID, want)
		}
		if !jwk.IsPublic() || jwk.Use != "sig" || jwk.Algorithm != string(alg) || key.Algorithm() != alg {
			t.Errorf("%s: published as %s", alg, key.jwk)
		}
		public, ok := jwk.Key.(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !public.Equal(key.private.Public()) {
			t.Errorf("%s: another public key is published", alg)
		}
	}
}

// TestThumbprintOfTheRFC runs the Ed25519 example of RFC 8037 appendices A.1 to A.3.
func TestThumbprintOfTheRFC(t *testing.T) {
	seed := []byte{
		0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
		0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
	}
	raw, err := GenerateKey(EdDSA, bytes.NewReader(seed))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	if want := "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; key.ID() != want {
		t.Errorf("kid = %s, want %s", key.ID(), want)
	}
}

func TestGenerateKeyIsDeterministicInItsSource(t *testing.T) {
	for _, alg := range algorithms() {
		generate := func(fill byte) []byte {
			raw, err := GenerateKey(alg, bytes.NewReader(bytes.Repeat([]byte{fill}, scalarSize)))
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		if !bytes.Equal(generate(1), generate(1)) || bytes.Equal(generate(1), generate(2)) {
			t.Errorf("%s: the key does not follow from the source", alg)
		}
	}
}

func TestGenerateKeyFaults(t *testing.T) {
	if _, err := GenerateKey("RS256", rand.Reader); err == nil || !strings.Contains(err.Error(), "EdDSA or ES256") {
		t.Errorf("unknown algorithm: %v", err)
	}
	if _, err := GenerateKey(EdDSA, strings.NewReader("short")); err == nil {
		t.Error("accepted too little randomness")
	}
	// A number above the curve's order is drawn again, but not for ever.
	if _, err := GenerateKey(ES256, bytes.NewReader(bytes.Repeat([]byte{0xff}, maxKeyAttempts*scalarSize))); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("broken source: %v", err)
	}
	again := append(bytes.Repeat([]byte{0xff}, scalarSize), bytes.Repeat([]byte{1}, scalarSize)...)
	if _, err := GenerateKey(ES256, bytes.NewReader(again)); err != nil {
		t.Errorf("second draw: %v", err)
	}
}

func pemOf(t testing.TB, private any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
}

func TestParseKeyRefusals(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := GenerateKey(ES256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"nothing", nil, `no PEM block; expected "BEGIN PRIVATE KEY"`},
		{"too large", make([]byte, maxKeyFile+1), "larger than"},
		{"the older EC form", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1}}), "openssl pkcs8 -topk8 -nocrypt"},
		{"an encrypted key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), "-nocrypt"},
		{"two keys", append(bytes.Clone(good), good...), "something follows the key"},
		{"no PKCS#8", pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: []byte("secret")}), "not a PKCS#8 private key"},
		{"RSA", pemOf(t, rsaKey), "only Ed25519 and ECDSA P-256"},
		{"P-384", pemOf(t, p384), "ECDSA on P-384"},
	} {
		if _, err := ParseKey(test.raw); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error = %v, want %q", test.name, err, test.want)
		}
	}
}

func TestLoadKey(t *testing.T) {
	raw, err := GenerateKey(EdDSA, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		mode fs.FileMode
		want error
	}{
		{0o600, nil}, {0o400, nil},
		{0o640, ErrKeyFileMode}, {0o604, ErrKeyFileMode}, {0o620, ErrKeyFileMode}, {0o700, ErrKeyFileMode}, {0o666, ErrKeyFileMode},
	} {
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(path); !errors.Is(err, test.want) {
			t.Errorf("mode %04o: error = %v, want %v", test.mode, err, test.want)
		}
	}
	if _, err := LoadKey(path + ".absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := LoadKey(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a broken file: error = %v, want its path named", err)
	}
}

func TestKeyNeverPrintsItself(t *testing.T) {
	for _, alg := range algorithms() {
		key := newTestKey(t, alg)
		want := fmt.Sprintf("jwt.Key(%s %s)", alg, key.ID())
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			if got := fmt.Sprintf(verb, key); got != want {
				t.Errorf("%s prints %q", verb, got)
			}
			if got := fmt.Sprintf(verb, &key); got != want {
				t.Errorf("%s of a pointer prints %q", verb, got)
			}
		}
		if raw, err := json.Marshal(map[string]any{"key": key}); err != nil || string(raw) != `{"key":{}}` {
			t.Errorf("as JSON: %s, %v", raw, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, alg := range algorithms() {
		raw, err := GenerateKey(alg, bytes.NewReader(bytes.Repeat([]byte{7}, scalarSize)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		key, err := ParseKey(raw)
		if err != nil {
			return
		}
		signature, err := key.sign([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if public, ok := key.private.Public().(ed25519.PublicKey); ok && !ed25519.Verify(public, []byte("x"), signature) {
			t.Fatal("accepted a key whose signature does not verify")
		}
	})
}
