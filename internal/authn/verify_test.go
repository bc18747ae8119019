package authn

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func TestVerifyAcceptsEveryAsymmetricAlgorithm(t *testing.T) {
	rsaKey := newKey(t, jose.RS256, "").private
	for _, alg := range supportedAlgorithms() {
		t.Run(string(alg), func(t *testing.T) {
			key := signingKey{alg: alg, kid: "k", private: rsaKey}
			if alg[0] == 'E' {
				key = newKey(t, alg, "k")
			}
			p, c := newIDP(t, key), newClock()
			got, err := newVerifier(t, p, c.now).Verify(t.Context(), p.token(t, key, c.now(), map[string]any{"n": 9007199254740993}))
			if err != nil {
				t.Fatal(err)
			}
			all := map[string]any{
				"iss": p.url, "sub": "agent-1", "aud": audience, "iat": json.Number("1795435200"),
				"exp": json.Number("1795442400"), "n": json.Number("9007199254740993"),
			}
			want := Claims{Issuer: p.url, Subject: "agent-1", KeyID: "k", Expiry: epoch().Add(2 * time.Hour), All: all}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

// TestVerifyRefusals has one genuine key; each case bends one thing.
func TestVerifyRefusals(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	p := newIDP(t, key)
	claims := func(change map[string]any) string { return p.token(t, key, c.now(), change) }
	header := func(extra map[jose.HeaderKey]any) string {
		raw, err := json.Marshal(p.claimsAt(c.now(), nil))
		if err != nil {
			t.Fatal(err)
		}
		return key.sign(t, raw, extra)
	}
	at := func(d time.Duration) int64 { return c.now().Add(d).Unix() }
	good := claims(nil)
	parts := strings.Split(good, ".")
	many := make([]string, maxAudiences+1)
	for i := range many {
		many[i] = audience
	}
	stranger := newKey(t, jose.ES256, "k")
	payload := []byte(`{"iss":"` + p.url + `","sub":"a","aud":"` + audience + `","exp":1795442400`)

	for _, test := range []struct {
		name  string
		token string
		want  Code
	}{
		{"a good token", good, ""},
		{"nothing", "", CodeTokenMissing},

		{"not a JWS", "hello", CodeTokenMalformed},
		{"the scheme was left on", "Bearer " + good, CodeTokenMalformed},
		{"two parts", parts[0] + "." + parts[1], CodeTokenMalformed},
		{"five parts, encrypted", good + ".x.y", CodeTokenMalformed},
		{"an empty signature", parts[0] + "." + parts[1] + ".", CodeTokenMalformed},
		{"padding", good + "=", CodeTokenMalformed},
		{"a line break inside", parts[0] + "\n." + parts[1] + "." + parts[2], CodeTokenMalformed},
		{"another spelling of the same signature", respell(good), CodeTokenMalformed},
		{"longer than 16 kB", claims(map[string]any{"x": strings.Repeat("x", maxTokenLength)}), CodeTokenMalformed},
		{"larger than usual", claims(map[string]any{"x": strings.Repeat("x", 4*usualTokenLength)}), ""},
		{"header is a list", key.signRaw(t, []byte(`[]`), payload), CodeTokenMalformed},
		{"header with alg twice", key.signRaw(t, []byte(`{"alg":"ES256","alg":"none","kid":"k"}`), payload), CodeTokenMalformed},
		{"header with kid as a number", header(map[jose.HeaderKey]any{"kid": 1}), CodeTokenMalformed},
		{"header with crit", header(map[jose.HeaderKey]any{"crit": []string{"exp"}}), CodeTokenMalformed},
		{"header with an empty crit", header(map[jose.HeaderKey]any{"crit": []string{}}), CodeTokenMalformed},
		{"header with b64", header(map[jose.HeaderKey]any{"b64": false}), CodeTokenMalformed},
		{"header with a broken jwk", header(map[jose.HeaderKey]any{"jwk": "x"}), CodeTokenMalformed},
		{"claims are a string", key.signRaw(t, []byte(`{"alg":"ES256","kid":"k"}`), []byte(`"x"`)), CodeTokenMalformed},
		{"claims with sub twice", key.signRaw(t, []byte(`{"alg":"ES256","kid":"k"}`), append(payload, `,"sub":"b"}`...)), CodeTokenMalformed},
		{"claims with broken UTF-8", key.signRaw(t, []byte(`{"alg":"ES256","kid":"k"}`), append(payload, ",\"x\":\"\xff\"}"...)), CodeTokenMalformed},
		{"claims with half a surrogate pair", key.signRaw(t, []byte(`{"alg":"ES256","kid":"k"}`), append(payload, `,"x":"\ud800"}`...)), CodeTokenMalformed},

		{"typ of a DPoP proof", header(map[jose.HeaderKey]any{"typ": "dpop+jwt"}), CodeTokenMalformed},
		{"typ of a security event", header(map[jose.HeaderKey]any{"typ": "secevent+jwt"}), CodeTokenMalformed},
		{"typ of an access token", header(map[jose.HeaderKey]any{"typ": "application/at+JWT"}), ""},
		{"no typ", header(map[jose.HeaderKey]any{"typ": nil}), ""},

		{"alg none", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + "." + parts[2], CodeTokenAlgorithm},
		{"alg HS256", b64([]byte(`{"alg":"HS256","kid":"k"}`)) + "." + parts[1] + "." + parts[2], CodeTokenAlgorithm},
		{"alg none without a signature", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", CodeTokenAlgorithm},
		{"alg HS256 without a signature", b64([]byte(`{"alg":"HS256"}`)) + "." + parts[1] + ".", CodeTokenAlgorithm},
		{"alg none with a broken signature", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".=", CodeTokenAlgorithm},
		{"no alg", b64([]byte(`{"kid":"k"}`)) + "." + parts[1] + "." + parts[2], CodeTokenAlgorithm},
		{"an algorithm that the key is not for", b64([]byte(`{"alg":"RS256","kid":"k"}`)) + "." + parts[1] + "." + parts[2], CodeTokenAlgorithm},

		{"bound to a key", claims(map[string]any{"cnf": map[string]any{"jkt": b64(make([]byte, 32))}}), ""},
		{"bound to a certificate", claims(map[string]any{"cnf": map[string]any{"x5t#S256": b64(make([]byte, 32))}}), CodeTokenConfirmation},
		{"bound to a key and a certificate", claims(map[string]any{"cnf": map[string]any{"jkt": b64(make([]byte, 32)), "x5t#S256": "x"}}), CodeTokenConfirmation},
		{"bound to a whole key", claims(map[string]any{"cnf": map[string]any{"jwk": map[string]any{"kty": "OKP"}}}), CodeTokenConfirmation},
		{"bound to nothing", claims(map[string]any{"cnf": map[string]any{}}), CodeTokenConfirmation},
		{"cnf as a string", claims(map[string]any{"cnf": "jkt"}), CodeTokenMalformed},
		{"cnf as a list", claims(map[string]any{"cnf": []any{}}), CodeTokenMalformed},
		{"an empty jkt", claims(map[string]any{"cnf": map[string]any{"jkt": ""}}), CodeTokenMalformed},
		{"jkt as a number", claims(map[string]any{"cnf": map[string]any{"jkt": 1}}), CodeTokenMalformed},
		{"jkt of another length", claims(map[string]any{"cnf": map[string]any{"jkt": b64(make([]byte, 31))}}), CodeTokenMalformed},

		{"no iss", claims(map[string]any{"iss": nil}), CodeTokenMalformed},
		{"iss as a list", claims(map[string]any{"iss": []string{p.url}}), CodeTokenMalformed},
		{"another iss", claims(map[string]any{"iss": "https://elsewhere.example"}), CodeTokenUnknownIssuer},
		{"iss with a slash at the end", claims(map[string]any{"iss": p.url + "/"}), CodeTokenUnknownIssuer},

		{"signed by a stranger under our kid", p.token(t, stranger, c.now(), nil), CodeTokenBadSignature},
		{"claims of another token", parts[0] + "." + b64(append(payload, '}')) + "." + parts[2], CodeTokenBadSignature},
		{"a kid that is not published", header(map[jose.HeaderKey]any{"kid": "other"}), CodeTokenUnknownKey},
		{"no kid where one key is published", header(map[jose.HeaderKey]any{"kid": nil}), ""},

		{"no sub", claims(map[string]any{"sub": nil}), CodeTokenMalformed},
		{"an empty sub", claims(map[string]any{"sub": ""}), CodeTokenMalformed},
		{"a sub of 2049 bytes", claims(map[string]any{"sub": strings.Repeat("s", maxSubjectLength+1)}), CodeTokenMalformed},

		{"no aud", claims(map[string]any{"aud": nil}), CodeTokenMalformed},
		{"aud as an object", claims(map[string]any{"aud": map[string]any{"a": audience}}), CodeTokenMalformed},
		{"an empty aud", claims(map[string]any{"aud": ""}), CodeTokenMalformed},
		{"an empty list as aud", claims(map[string]any{"aud": []string{}}), CodeTokenMalformed},
		{"aud with a list inside", claims(map[string]any{"aud": []any{audience, []string{"x"}}}), CodeTokenMalformed},
		{"aud with a number inside", claims(map[string]any{"aud": []any{audience, 1}}), CodeTokenMalformed},
		{"too many aud", claims(map[string]any{"aud": many}), CodeTokenMalformed},
		{"another aud", claims(map[string]any{"aud": "https://else.example"}), CodeTokenWrongAudience},
		{"aud in other letters", claims(map[string]any{"aud": strings.ToUpper(audience)}), CodeTokenWrongAudience},
		{"our aud among others", claims(map[string]any{"aud": []string{"x", audience}}), ""},

		{"no exp", claims(map[string]any{"exp": nil}), CodeTokenMalformed},
		{"exp as a string", claims(map[string]any{"exp": "1795442400"}), CodeTokenMalformed},
		{"exp before 1970", claims(map[string]any{"exp": -1}), CodeTokenMalformed},
		{"exp after year 9999", claims(map[string]any{"exp": 1e12}), CodeTokenMalformed},
		{"exp beyond all numbers", key.signRaw(t, []byte(`{"alg":"ES256","kid":"k"}`), []byte(strings.Replace(string(payload), "1795442400", "1e999}", 1))), CodeTokenMalformed},
		{"exp is now", claims(map[string]any{"exp": at(0)}), CodeTokenExpired},
		{"exp a second ago: no skew", claims(map[string]any{"exp": at(-time.Second)}), CodeTokenExpired},
		{"exp half a second ahead", claims(map[string]any{"exp": float64(at(0)) + 0.5}), ""},

		{"nbf within the skew", claims(map[string]any{"nbf": at(30 * time.Second)}), ""},
		{"nbf beyond the skew", claims(map[string]any{"nbf": at(31 * time.Second)}), CodeTokenNotYetValid},
		{"iat beyond the skew", claims(map[string]any{"iat": at(31 * time.Second)}), CodeTokenNotYetValid},
		{"no iat", claims(map[string]any{"iat": nil}), ""},
		{"nbf as a string", claims(map[string]any{"nbf": "soon"}), CodeTokenMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVerifier(t, p, c.now)
			for range 2 { // the second time the answer may come from memory, and is the same
				_, err := v.Verify(t.Context(), test.token)
				wantCode(t, err, test.want)
				if err != nil && len(test.token) > 20 && strings.Contains(err.Error(), test.token[:20]) {
					t.Errorf("the error repeats the token: %v", err)
				}
			}
		})
	}
}

// respell changes the unused bits of the last base64url character.
func respell(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}

func TestVerifyNarrowedAlgorithms(t *testing.T) {
	es, ed, c := newKey(t, jose.ES256, "es"), newKey(t, jose.EdDSA, "ed"), newClock()
	p := newIDP(t, es, ed)
	v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience, Algorithms: []string{"EdDSA"}}}}, &http.Client{}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(t.Context(), p.token(t, ed, c.now(), nil))
	wantCode(t, err, "")
	_, err = v.Verify(t.Context(), p.token(t, es, c.now(), nil))
	wantCode(t, err, CodeTokenAlgorithm)
}

func TestVerifyTellsIssuersApart(t *testing.T) {
	a, b, c := newKey(t, jose.EdDSA, "k"), newKey(t, jose.EdDSA, "k"), newClock()
	pa, pb := newIDP(t, a), newIDP(t, b)
	v, err := New(Config{Issuers: []Issuer{{URL: pa.url, Audience: audience}, {URL: pb.url, Audience: "other"}}}, &http.Client{}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(t.Context(), pa.token(t, a, c.now(), nil))
	wantCode(t, err, "")
	_, err = v.Verify(t.Context(), pa.token(t, b, c.now(), nil)) // b signs in the name of a
	wantCode(t, err, CodeTokenBadSignature)
	_, err = v.Verify(t.Context(), pb.token(t, b, c.now(), nil)) // a's audience is not b's
	wantCode(t, err, CodeTokenWrongAudience)
}

func TestVerifyChoosesAmongKeys(t *testing.T) {
	one, two, c := newKey(t, jose.ES256, "same"), newKey(t, jose.ES256, "same"), newClock()
	p := newIDP(t, one, two)
	v := newVerifier(t, p, c.now)
	for _, key := range []signingKey{one, two} { // two keys under one kid are both tried
		_, err := v.Verify(t.Context(), p.token(t, key, c.now(), nil))
		wantCode(t, err, "")
	}
	nameless := two
	nameless.kid = ""
	_, err := v.Verify(t.Context(), p.token(t, nameless, c.now(), nil))
	wantCode(t, err, CodeTokenUnknownKey)
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("a token without kid led to %d fetches, want 1", n)
	}
}

func TestKeyServesOnlyTheAlgorithmItIsPublishedFor(t *testing.T) {
	key, c := newKey(t, jose.RS256, "k"), newClock()
	p := newIDP(t, key)
	v := newVerifier(t, p, c.now)
	pss := key
	pss.alg = jose.PS256
	_, err := v.Verify(t.Context(), p.token(t, pss, c.now(), nil))
	wantCode(t, err, CodeTokenAlgorithm)
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches for a key that is known, want 1", n)
	}
}

func TestErrorMatchesByCodeAndHidesItsCause(t *testing.T) {
	err := error(&Error{Code: CodeIssuerUnavailable, Detail: "try again", cause: http.ErrServerClosed})
	if !errors.Is(err, &Error{Code: CodeIssuerUnavailable}) || errors.Is(err, &Error{Code: CodeTokenExpired}) {
		t.Error("errors.Is does not go by the code")
	}
	if !errors.Is(err, http.ErrServerClosed) {
		t.Error("the cause is lost")
	}
	if got, want := err.Error(), "authn: issuer_unavailable: try again"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func FuzzVerify(f *testing.F) {
	key, c := newKey(f, jose.EdDSA, "k"), newClock()
	p := newIDP(f, key)
	v := newVerifier(f, p, c.now)
	good := p.token(f, key, c.now(), nil)
	for _, seed := range []string{good, "", "..", "a.b.c", good + ".", strings.ToUpper(good), b64([]byte(`{"alg":"none"}`)) + ".e30."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := v.Verify(t.Context(), token)
		if err == nil {
			if token != good {
				t.Fatalf("accepted a token that the issuer did not make: %+v", claims)
			}
			return
		}
		var refusal *Error
		if !errors.As(err, &refusal) || refusal.Detail == "" {
			t.Fatalf("untyped or silent error: %v", err)
		}
		if payload, ok := middle(token); ok && len(payload) > 12 && strings.Contains(err.Error(), payload) {
			t.Fatalf("the error repeats the claims: %v", err)
		}
	})
}

func middle(token string) (string, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	return string(raw), err == nil
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256} {
		key := newKey(b, alg, "k")
		p := newIDP(b, key)
		token := p.token(b, key, time.Now(), map[string]any{"email": "agent@example.com", "groups": strings.Repeat("g", 300)})
		v := newVerifier(b, p, time.Now)
		b.Run("miss/"+string(alg), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.verify(b.Context(), token, time.Now(), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("hit/"+string(alg), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("hit-parallel/"+string(alg), func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := v.Verify(b.Context(), token); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
