package authn

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const bearer = "the.bearer.token"

// proofOf signs a good proof with claims and header members changed; nil removes.
func proofOf(t testing.TB, key signingKey, now time.Time, change map[string]any, header map[jose.HeaderKey]any) string {
	t.Helper()
	sum := sha256.Sum256([]byte(bearer))
	claims := map[string]any{
		"jti": "id-" + strconv.FormatInt(now.UnixNano(), 10), "htm": "POST", "htu": "https://writ.example/v1/requests",
		"iat": now.Unix(), "ath": b64(sum[:]),
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	raw, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	public := key.public()
	public.KeyID, public.Use, public.Algorithm = "", "", ""
	all := map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": public}
	maps.Copy(all, header)
	return key.sign(t, raw, all)
}

func input(proof string) ProofInput {
	return ProofInput{Proof: proof, Method: "POST", URL: "https://writ.example/v1/requests?x=1", AccessToken: bearer}
}

// proofVerifier needs an issuer to be configured and never asks it.
func proofVerifier(t testing.TB, size int, now func() time.Time) *Verifier {
	t.Helper()
	v, err := New(Config{Issuers: []Issuer{{URL: "https://idp.example", Audience: audience}}, ReplaySize: size}, &http.Client{}, now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerifyProofOfEveryKeyKind(t *testing.T) {
	for _, alg := range []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, jose.RS256, jose.PS512} {
		key, c := newKey(t, alg, ""), newClock()
		got, err := proofVerifier(t, 0, c.now).VerifyProof(t.Context(), input(proofOf(t, key, c.now(), nil, nil)))
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		public := key.public()
		want, err := public.Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if got != b64(want) {
			t.Errorf("%s: jkt = %s, want %s", alg, got, b64(want))
		}
	}
}

// TestVerifyProofOfTheRFC runs the example of RFC 9449 section 7.1.
func TestVerifyProofOfTheRFC(t *testing.T) {
	const proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR" +
		"nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj" +
		"oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTN" +
		"Fc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	v := proofVerifier(t, 0, func() time.Time { return time.Unix(1562262618, 0) })
	got, err := v.VerifyProof(t.Context(), ProofInput{
		Proof: proof, Method: "GET", URL: "https://resource.example.org/protectedresource",
		AccessToken: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
	})
	if want := "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"; err != nil || got != want {
		t.Errorf("jkt = %q, error = %v, want %q", got, err, want)
	}
}

func TestVerifyProofRefusals(t *testing.T) {
	key, c := newKey(t, jose.ES256, ""), newClock()
	claims := func(change map[string]any) ProofInput { return input(proofOf(t, key, c.now(), change, nil)) }
	header := func(change map[jose.HeaderKey]any) ProofInput { return input(proofOf(t, key, c.now(), nil, change)) }
	with := func(change func(*ProofInput)) ProofInput { in := claims(nil); change(&in); return in }
	at := func(d time.Duration) int64 { return c.now().Add(d).Unix() }
	private, other := key.public(), newKey(t, jose.ES256, "").public()
	private.Key = key.private

	for _, test := range []struct {
		name string
		in   ProofInput
		want Code
	}{
		{"a good proof", claims(nil), ""},
		{"no proof", input(""), CodeProofMissing},
		{"no bearer token", with(func(in *ProofInput) { in.AccessToken = "" }), CodeTokenMissing},
		{"longer than 8 kB", claims(map[string]any{"x": strings.Repeat("x", maxProofLength)}), CodeProofMalformed},
		{"not a JWS", input("hello"), CodeProofMalformed},
		{"two proofs in one header", with(func(in *ProofInput) { in.Proof += ", " + in.Proof }), CodeProofMalformed},

		{"typ of a plain JWT", header(map[jose.HeaderKey]any{"typ": "JWT"}), CodeProofMalformed},
		{"no typ", header(map[jose.HeaderKey]any{"typ": nil}), CodeProofMalformed},
		{"crit", header(map[jose.HeaderKey]any{"crit": []string{"x"}}), CodeProofMalformed},
		{"alg none", header(map[jose.HeaderKey]any{"alg": "none"}), CodeProofAlgorithm},
		{"alg none without a signature", input(b64([]byte(`{"alg":"none","typ":"dpop+jwt"}`)) + ".e30."), CodeProofAlgorithm},
		{"alg HS256", header(map[jose.HeaderKey]any{"alg": "HS256"}), CodeProofAlgorithm},
		{"alg of another curve", header(map[jose.HeaderKey]any{"alg": "ES384"}), CodeProofAlgorithm},
		{"no jwk", header(map[jose.HeaderKey]any{"jwk": nil}), CodeProofMalformed},
		{"jwk with the private key", header(map[jose.HeaderKey]any{"jwk": private}), CodeProofMalformed},
		{"jwk is a secret", header(map[jose.HeaderKey]any{"jwk": map[string]string{"kty": "oct", "k": "c2VjcmV0"}}), CodeProofMalformed},
		{"jwk off the curve", header(map[jose.HeaderKey]any{"jwk": map[string]string{"kty": "EC", "crv": "P-256", "x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))}}), CodeProofMalformed},
		{"jwk of another key", header(map[jose.HeaderKey]any{"jwk": other}), CodeProofBadSignature},
		{"x5c that is none", header(map[jose.HeaderKey]any{"x5c": []string{"x"}}), CodeProofMalformed},

		{"no jti", claims(map[string]any{"jti": nil}), CodeProofMalformed},
		{"jti of 257 bytes", claims(map[string]any{"jti": strings.Repeat("j", maxProofID+1)}), CodeProofMalformed},
		{"no iat", claims(map[string]any{"iat": nil}), CodeProofMalformed},
		{"iat as a string", claims(map[string]any{"iat": "now"}), CodeProofMalformed},
		{"iat 60 s ago", claims(map[string]any{"iat": at(-60 * time.Second)}), ""},
		{"iat 61 s ago", claims(map[string]any{"iat": at(-61 * time.Second)}), CodeProofStale},
		{"iat 60 s ahead", claims(map[string]any{"iat": at(60 * time.Second)}), ""},
		{"iat 61 s ahead", claims(map[string]any{"iat": at(61 * time.Second)}), CodeProofStale},

		{"another method", claims(map[string]any{"htm": "GET"}), CodeProofMismatch},
		{"method in small letters", claims(map[string]any{"htm": "post"}), CodeProofMismatch},
		{"no method on either side", with(func(in *ProofInput) { *in = claims(map[string]any{"htm": ""}); in.Method = "" }), CodeProofMismatch},
		{"another path", claims(map[string]any{"htu": "https://writ.example/v1/grants"}), CodeProofMismatch},
		{"another host", claims(map[string]any{"htu": "https://writ.example.org/v1/requests"}), CodeProofMismatch},
		{"no htu", claims(map[string]any{"htu": nil}), CodeProofMismatch},
		{"htu with a query", claims(map[string]any{"htu": "https://writ.example/v1/requests?y=2#z"}), ""},
		{"htu in another spelling", claims(map[string]any{"htu": "HTTPS://Writ.Example:443/v1/./x/../%72equests"}), ""},

		{"no ath", claims(map[string]any{"ath": nil}), CodeProofMismatch},
		{"ath of another token", with(func(in *ProofInput) { in.AccessToken = "another" }), CodeProofMismatch},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := proofVerifier(t, 0, c.now).VerifyProof(t.Context(), test.in)
			wantCode(t, err, test.want)
		})
	}
}

func TestVerifyProofStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := proofVerifier(t, 0, time.Now).VerifyProof(ctx, input("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

func TestProofIsGoodForOneUse(t *testing.T) {
	key, other, c := newKey(t, jose.EdDSA, ""), newKey(t, jose.EdDSA, ""), newClock()
	v := proofVerifier(t, 0, c.now)
	proof := proofOf(t, key, c.now(), map[string]any{"jti": "one"}, nil)
	for _, step := range []struct {
		name    string
		forward time.Duration
		proof   string
		want    Code
	}{
		{"first use", 0, proof, ""},
		{"at once again", 0, proof, CodeProofReplayed},
		{"at the end of its window", proofWindow, proof, CodeProofReplayed},
		{"after its window", 1, proof, CodeProofStale},
		{"the clock goes back to where it was good", -proofWindow, proof, CodeProofReplayed},
		{"later", 10 * time.Minute, proof, CodeProofStale},
		{"memory is empty now and the clock goes back", -10 * time.Minute, proof, CodeProofStale},
	} {
		c.advance(step.forward)
		if step.name == "later" { // some proof must be used for the old ones to be forgotten
			_, err := v.VerifyProof(t.Context(), input(proofOf(t, key, c.now(), nil, nil)))
			wantCode(t, err, "")
		}
		_, err := v.VerifyProof(t.Context(), input(step.proof))
		if got := new(Error); !errors.As(err, &got) && step.want != "" || got.Code != step.want {
			t.Errorf("%s: error = %v, want code %q", step.name, err, step.want)
		}
	}
	c.advance(10 * time.Minute)
	for _, k := range []signingKey{key, other} { // an id belongs to its key
		_, err := v.VerifyProof(t.Context(), input(proofOf(t, k, c.now(), map[string]any{"jti": "shared"}, nil)))
		wantCode(t, err, "")
	}
}

func TestRefusedProofIsNotUsedUp(t *testing.T) {
	key, c := newKey(t, jose.EdDSA, ""), newClock()
	v := proofVerifier(t, 0, c.now)
	in := input(proofOf(t, key, c.now(), nil, nil))
	wrong := in
	wrong.Method = "GET"
	_, err := v.VerifyProof(t.Context(), wrong)
	wantCode(t, err, CodeProofMismatch)
	_, err = v.VerifyProof(t.Context(), in)
	wantCode(t, err, "")
}

func TestFullReplayMemoryRefuses(t *testing.T) {
	key, c := newKey(t, jose.EdDSA, ""), newClock()
	v := proofVerifier(t, 3, c.now)
	use := func(id string, want Code) {
		t.Helper()
		_, err := v.VerifyProof(t.Context(), input(proofOf(t, key, c.now(), map[string]any{"jti": id}, nil)))
		wantCode(t, err, want)
	}
	for n := range 3 {
		use(fmt.Sprint(n), "")
	}
	use("four", CodeProofUnavailable)
	use("0", CodeProofReplayed)
	c.advance(proofWindow)
	use("four", CodeProofUnavailable)
	c.advance(time.Second)
	use("four", "")
	if n, m := len(v.proofs.seen), len(v.proofs.expiry); n != 1 || m != 1 {
		t.Errorf("%d proofs of %d seconds remembered, want 1 of 1", n, m)
	}
}

func TestConcurrentUseOfOneProof(t *testing.T) {
	key, c := newKey(t, jose.EdDSA, ""), newClock()
	v := proofVerifier(t, 0, c.now)
	in := input(proofOf(t, key, c.now(), nil, nil))
	var accepted atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := v.VerifyProof(context.Background(), in); err == nil {
				accepted.Add(1)
			}
		})
	}
	wg.Wait()
	if n := accepted.Load(); n != 1 {
		t.Errorf("accepted %d times, want once", n)
	}
}

func TestSameTarget(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"https://h/p", "https://h/p", true},
		{"https://h", "https://h/", true},
		{"https://h:443/", "https://h/", true},
		{"http://h:80/", "http://h/", true},
		{"https://h:80/", "https://h/", false},
		{"https://h:/", "https://h/", true},
		{"HTTPS://H/p", "https://h/p", true},
		{"https://h/P", "https://h/p", false},
		{"https://h/p?a#b", "https://h/p?c", true},
		{"https://h/%7euser", "https://h/~user", true},
		{"https://h/a%2fb", "https://h/a%2Fb", true},
		{"https://h/a%2Fb", "https://h/a/b", false},
		{"https://h/a/../b", "https://h/b", true},
		{"https://h/a/%2e%2E/b", "https://h/b", true},
		{"https://h/a//b", "https://h/a/b", false},
		{"https://h/p/", "https://h/p", false},
		{"https://[::1]:443/", "https://[::1]/", true},
		{"http://h/", "https://h/", false},
		{"https://u@h/", "https://h/", false},
		{"ftp://h/", "ftp://h/", false},
		{"/p", "/p", false},
		{"https:p", "https:p", false},
		{"https://h/%zz", "https://h/%zz", false},
		{"", "", false},
	} {
		if got := sameTarget(test.a, test.b); got != test.want {
			t.Errorf("sameTarget(%q, %q) = %t", test.a, test.b, got)
		}
		if got := sameTarget(test.b, test.a); got != test.want {
			t.Errorf("sameTarget(%q, %q) = %t", test.b, test.a, got)
		}
	}
}

func FuzzNormalTarget(f *testing.F) {
	for _, seed := range []string{"https://h/a/../b?x#y", "http://[::1]:80/%7e%2F", "https://h:443", "//x", "https://h//x/..//%2e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		once, ok := normalTarget(raw)
		if !ok {
			return
		}
		if twice, ok := normalTarget(once); !ok || twice != once {
			t.Errorf("%q becomes %q, and that %q (%t)", raw, once, twice, ok)
		}
	})
}

func FuzzVerifyProof(f *testing.F) {
	key, c := newKey(f, jose.EdDSA, ""), newClock()
	good := proofOf(f, key, c.now(), nil, nil)
	for _, seed := range []string{good, "", "..", proofOf(f, key, c.now(), map[string]any{"htu": "%"}, nil)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, proof string) {
		_, err := proofVerifier(t, 0, c.now).VerifyProof(t.Context(), input(proof))
		var refusal *Error
		if err != nil && !errors.As(err, &refusal) {
			t.Fatalf("untyped error: %v", err)
		}
	})
}

func FuzzParseKeySet(f *testing.F) {
	raw, err := json.Marshal(map[string]any{"keys": []any{newKey(f, jose.ES256, "k").public(), newKey(f, jose.EdDSA, "").public()}})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(raw), `{"keys":[]}`, `{}`, `[]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		set, err := parseKeySet(raw)
		if err != nil {
			return
		}
		for _, key := range set.keys {
			if !usable(key.public) || !set.has(key.id) {
				t.Fatalf("kept a key that cannot verify: %+v", key.id)
			}
		}
	})
}

func BenchmarkVerifyProof(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256} {
		b.Run(string(alg), func(b *testing.B) {
			key := newKey(b, alg, "")
			v := proofVerifier(b, maxReplaySize, time.Now)
			in := input(proofOf(b, key, time.Now(), nil, nil))
			b.ReportAllocs()
			for b.Loop() {
				v.proofs = newReplay(1)
				if _, err := v.VerifyProof(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Who is refused anyway fills no memory of used proofs, and learns nothing of the key but what it showed.
func TestOnlyWhoIsAdmittedIsRemembered(t *testing.T) {
	key, c := newKey(t, jose.ES256, ""), newClock()
	v := proofVerifier(t, 1, c.now)
	stranger, asked := errors.New("nobody of ours"), ""
	in := input(proofOf(t, key, c.now(), nil, nil))
	in.Admit = func(thumbprint string) error { asked = thumbprint; return stranger }
	for range 3 {
		if _, err := v.VerifyProof(t.Context(), in); !errors.Is(err, stranger) {
			t.Fatal(err)
		}
	}
	in.Admit = nil
	if got, err := v.VerifyProof(t.Context(), in); err != nil || got != asked {
		t.Errorf("%s, asked about %s: %v", got, asked, err)
	}
	bad := input(proofOf(t, key, c.now(), map[string]any{"htm": "GET"}, nil))
	bad.Admit = func(string) error { t.Error("a bad proof was let ask"); return nil }
	if _, err := v.VerifyProof(t.Context(), bad); err == nil {
		t.Error("a bad proof is good")
	}
}
