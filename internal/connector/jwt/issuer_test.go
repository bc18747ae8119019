package jwt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func issuedAt() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 999, time.UTC) }

const thumb = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"

func fullToken(t testing.TB) Token {
	t.Helper()
	details, err := Details{Action: "read", Resource: `PgTable::"billing.invoices"`, ArgsDigest: "sha256:ab", Task: "task-1"}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return Token{
		GrantID: "grant-1", Subject: "spiffe://example.org/agent", ClientID: "agent",
		Audience: []string{"https://db.example", "https://api.example"}, Scope: "read write",
		AuthorizationDetails: details,
		Actor:                &Actor{Subject: "worker", Issuer: "https://idp.example", Actor: &Actor{Subject: "coordinator"}},
		IssuedAt:             issuedAt(), Expiry: issuedAt().Add(90 * time.Second), Confirmation: thumb,
	}
}

func leastToken() Token {
	return Token{GrantID: "g", Subject: "s", ClientID: "c", Audience: []string{"a"}, IssuedAt: issuedAt()}
}

func newIssuer(t testing.TB, keys ...Key) *Issuer {
	t.Helper()
	i, err := New(Config{Issuer: "https://writ.example", Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// judged is a token as go-jose reads it with the published keys alone.
func judged(t testing.TB, i *Issuer, token string) (jose.Header, map[string]any) {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(i.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	parsed, err := josejwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := parsed.Claims(set, &claims); err != nil {
		t.Fatal(err)
	}
	return parsed.Headers[0], claims
}

func TestIssuedTokenHoldsForOutsiders(t *testing.T) {
	for _, alg := range algorithms() {
		t.Run(string(alg), func(t *testing.T) {
			key := newTestKey(t, alg)
			i := newIssuer(t, key, newTestKey(t, EdDSA))
			token, err := i.Issue(fullToken(t))
			if err != nil {
				t.Fatal(err)
			}
			header, claims := judged(t, i, token)
			if header.Algorithm != string(alg) || header.KeyID != key.ID() || header.ExtraHeaders["typ"] != "at+jwt" {
				t.Errorf("header = %+v", header)
			}
			want := map[string]any{
				"iss": "https://writ.example", "sub": "spiffe://example.org/agent", "client_id": "agent",
				"aud": []any{"https://db.example", "https://api.example"},
				"iat": 1795435200.0, "exp": 1795435290.0, "jti": "grant-1", "scope": "read write",
				"cnf": map[string]any{"jkt": thumb},
				"act": map[string]any{"sub": "worker", "iss": "https://idp.example", "act": map[string]any{"sub": "coordinator"}},
				"authorization_details": []any{map[string]any{
					"type": "writ_grant", "action": "read", "resource": `PgTable::"billing.invoices"`, "args_digest": "sha256:ab", "task": "task-1",
				}},
			}
			if diff := cmp.Diff(want, claims); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLeastTokenHasOnlyWhatIsRequired(t *testing.T) {
	i := newIssuer(t, newTestKey(t, EdDSA))
	token, err := i.Issue(leastToken())
	if err != nil {
		t.Fatal(err)
	}
	_, claims := judged(t, i, token)
	names := slices.Sorted(maps.Keys(claims))
	if diff := cmp.Diff([]string{"aud", "client_id", "exp", "iat", "iss", "jti", "sub"}, names); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if claims["aud"] != "a" || claims["exp"] != claims["iat"].(float64)+300 {
		t.Errorf("claims = %v", claims)
	}
}

func TestIssueIsIdempotent(t *testing.T) {
	for _, alg := range algorithms() {
		i := newIssuer(t, newTestKey(t, alg))
		first, err := i.Issue(fullToken(t))
		if err != nil {
			t.Fatal(err)
		}
		second, err := i.Issue(fullToken(t))
		if err != nil {
			t.Fatal(err)
		}
		if first != second {
			t.Errorf("%s: the same grant gave two tokens", alg)
		}
	}
}

// TestEverySignatureHasItsFullLength: one in 128 has a half with a leading zero.
func TestEverySignatureHasItsFullLength(t *testing.T) {
	i := newIssuer(t, newTestKey(t, ES256))
	for n := range 1000 {
		token := leastToken()
		token.GrantID = fmt.Sprint("grant-", n)
		signed, err := i.Issue(token)
		if err != nil {
			t.Fatal(err)
		}
		judged(t, i, signed)
	}
}

// TestI4TokenNeverOutlivesItsGrant: whatever the fractions of a second.
func TestI4TokenNeverOutlivesItsGrant(t *testing.T) {
	i := newIssuer(t, newTestKey(t, EdDSA))
	rapid.Check(t, func(r *rapid.T) {
		token := leastToken()
		token.IssuedAt = time.Unix(rapid.Int64Range(1, 1<<33).Draw(r, "iat"), rapid.Int64Range(0, 999_999_999).Draw(r, "ns"))
		token.Expiry = token.IssuedAt.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(25*time.Hour)).Draw(r, "life")))
		signed, err := i.Issue(token)
		life := token.Expiry.Sub(token.IssuedAt)
		if err != nil {
			if life >= time.Second && life <= maxTTL {
				r.Fatalf("refused: %v", err)
			}
			return
		}
		_, claims := judged(t, i, signed)
		exp := time.Unix(int64(claims["exp"].(float64)), 0)
		if exp.After(token.Expiry) || token.Expiry.Sub(exp) >= time.Second || life > maxTTL {
			r.Fatalf("exp %s for a grant that ends %s", exp, token.Expiry)
		}
	})
}

func TestIssueRefusals(t *testing.T) {
	i := newIssuer(t, newTestKey(t, EdDSA))
	deep := &Actor{Subject: "a"}
	for range maxActorDepth {
		deep = &Actor{Subject: "a", Actor: deep}
	}
	for _, test := range []struct {
		name   string
		change func(*Token)
		want   string
	}{
		{"no grant", func(x *Token) { x.GrantID = "" }, "grant id: needs 1 to 2048 bytes of UTF-8"},
		{"no subject", func(x *Token) { x.Subject = "" }, "subject:"},
		{"a long subject", func(x *Token) { x.Subject = strings.Repeat("s", maxText+1) }, "subject:"},
		{"a subject that JSON would change", func(x *Token) { x.Subject = "a\xff" }, "subject:"},
		{"no client", func(x *Token) { x.ClientID = "" }, "client id:"},
		{"no audience", func(x *Token) { x.Audience = nil }, "audience: 0 given"},
		{"an empty audience", func(x *Token) { x.Audience = []string{"a", ""} }, "audience:"},
		{"too many audiences", func(x *Token) { x.Audience = make([]string, maxAudiences+1) }, "audience: 17 given"},
		{"no time", func(x *Token) { x.IssuedAt = time.Time{} }, "issued at: required"},
		{"expiry before", func(x *Token) { x.Expiry = x.IssuedAt.Add(-time.Minute) }, "expiry: not a second after"},
		{"less than a second", func(x *Token) { x.Expiry = x.IssuedAt.Add(time.Millisecond) }, "expiry: not a second after"},
		{"more than a day", func(x *Token) { x.Expiry = x.IssuedAt.Add(maxTTL + 1) }, "expiry: more than 24h"},
		{"two spaces in scope", func(x *Token) { x.Scope = "a  b" }, "scope:"},
		{"a quote in scope", func(x *Token) { x.Scope = `a"b` }, "scope:"},
		{"a long scope", func(x *Token) { x.Scope = strings.Repeat("s", maxScope+1) }, "scope:"},
		{"details are no JSON", func(x *Token) { x.AuthorizationDetails = json.RawMessage(`[`) }, "authorization details: not a JSON array"},
		{"details are an object", func(x *Token) { x.AuthorizationDetails = json.RawMessage(`{}`) }, "authorization details: not a JSON array"},
		{"details are empty", func(x *Token) { x.AuthorizationDetails = json.RawMessage(`[]`) }, "authorization details: not a JSON array"},
		{"details without type", func(x *Token) { x.AuthorizationDetails = json.RawMessage(`[{"type":"a"},{}]`) }, "an entry has no type"},
		{"details in bad UTF-8", func(x *Token) { x.AuthorizationDetails = json.RawMessage("[{\"type\":\"\xff\"}]") }, "bytes of UTF-8"},
		{"details too large", func(x *Token) { x.AuthorizationDetails = json.RawMessage(strings.Repeat(" ", maxDetails+1)) }, "at most 4096 bytes"},
		{"an actor without name", func(x *Token) { x.Actor = &Actor{Subject: "a", Actor: &Actor{}} }, "actor:"},
		{"an actor's issuer in bad UTF-8", func(x *Token) { x.Actor = &Actor{Subject: "a", Issuer: "\xff"} }, "actor's issuer:"},
		{"too long a chain", func(x *Token) { x.Actor = deep }, "actor: a chain of more than 16"},
		{"a certificate by half", func(x *Token) { x.Confirmation, x.Certificate = "", "abc" }, "certificate:"},
		{"bound to a key and to a certificate", func(x *Token) { x.Certificate = thumb }, "one of them"},
		{"a short thumbprint", func(x *Token) { x.Confirmation = "abc" }, "confirmation:"},
		{"a thumbprint in hex", func(x *Token) { x.Confirmation = strings.Repeat("ab", 32) }, "confirmation:"},
		{"another spelling of a thumbprint", func(x *Token) { x.Confirmation = thumb[:42] + "J" }, "confirmation:"},
		{"a thumbprint with a line break", func(x *Token) { x.Confirmation = thumb + "\n" }, "confirmation:"},
	} {
		token := fullToken(t)
		test.change(&token)
		if _, err := i.Issue(token); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error = %v, want %q", test.name, err, test.want)
		}
	}
	_, err := i.Issue(Token{Scope: " ", Confirmation: "x"})
	for _, want := range []string{"audience", "issued at", "scope", "confirmation"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the faults do not come together: %v lacks %q", err, want)
		}
	}
}

func TestDetailsInBadUTF8AreRefused(t *testing.T) {
	if _, err := (Details{Action: "read", Resource: "\xff"}).JSON(); err == nil || !strings.Contains(err.Error(), "resource is not UTF-8") {
		t.Errorf("error = %v", err)
	}
}

func TestNewReportsAllFaultsAtOnce(t *testing.T) {
	key := newTestKey(t, EdDSA)
	_, err := New(Config{Issuer: "http://writ.example", Keys: []Key{key, {}, key}, DefaultTTL: time.Millisecond})
	for _, want := range []string{"must be https", "keys[1]: empty", "keys[2]: " + key.ID() + " is given twice", "default_ttl: 1ms"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want %q", err, want)
		}
	}
	for _, issuer := range []string{"", "writ.example", "https://u@h", "https://h?x", "https://h#x", "https://h/", "https://%"} {
		if _, err := New(Config{Issuer: issuer, Keys: []Key{key}}); err == nil || !strings.Contains(err.Error(), "issuer:") {
			t.Errorf("issuer %q: error = %v", issuer, err)
		}
	}
	if _, err := New(Config{Issuer: "http://127.0.0.1:8080/t"}); err == nil || err.Error() != "token issuer: keys: at least one is required" {
		t.Errorf("error = %v", err)
	}
}

func TestPublishedKeysHoldNothingPrivate(t *testing.T) {
	keys := []Key{newTestKey(t, ES256), newTestKey(t, EdDSA)}
	i := newIssuer(t, keys...)
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(i.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	for n, want := range [][]string{{"alg", "crv", "kid", "kty", "use", "x", "y"}, {"alg", "crv", "kid", "kty", "use", "x"}} {
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(set.Keys[n]))); diff != "" {
			t.Errorf("key %d (-want +got):\n%s", n, diff)
		}
		if set.Keys[n]["kid"] != keys[n].ID() {
			t.Errorf("key %d: kid %s", n, set.Keys[n]["kid"])
		}
	}
	i.JWKS()[0] = 'x'
	if !json.Valid(i.JWKS()) {
		t.Error("a caller can change what is published")
	}
}

func TestMetadata(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal(newIssuer(t, newTestKey(t, EdDSA)).Metadata(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"issuer": "https://writ.example", "jwks_uri": "https://writ.example/.well-known/jwks.json",
		"response_types_supported": []any{}, "authorization_details_types_supported": []any{"writ_grant"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
}

func TestRotationKeepsOldTokensVerifiable(t *testing.T) {
	old, fresh := newTestKey(t, ES256), newTestKey(t, EdDSA)
	token, err := newIssuer(t, old).Issue(leastToken())
	if err != nil {
		t.Fatal(err)
	}
	header, _ := judged(t, newIssuer(t, fresh, old), token)
	if header.KeyID != old.ID() {
		t.Errorf("kid = %s", header.KeyID)
	}
}

func TestFingerprint(t *testing.T) {
	sum := sha256.Sum256([]byte("token"))
	if got, want := Fingerprint("token"), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("Fingerprint = %s, want %s", got, want)
	}
}

func FuzzIssue(f *testing.F) {
	i := newIssuer(f, newTestKey(f, EdDSA))
	f.Add("g", "s", "a", "x y", []byte(`[{"type":"t"}]`), thumb)
	f.Add("<>&\u2028", `"`, "\\", "!", []byte(`[{"type":"\ud800"}]`), "")
	f.Fuzz(func(t *testing.T, grant, subject, aud, scope string, details []byte, jkt string) {
		token := leastToken()
		token.GrantID, token.Subject, token.Audience, token.Scope, token.Confirmation = grant, subject, []string{aud}, scope, jkt
		token.AuthorizationDetails = details
		signed, err := i.Issue(token)
		if err != nil {
			return
		}
		_, claims := judged(t, i, signed)
		if claims["jti"] != grant || claims["sub"] != subject || claims["aud"] != aud || (scope != "" && claims["scope"] != scope) {
			t.Fatalf("the token says something else: %v", claims)
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	for _, alg := range algorithms() {
		i, token := newIssuer(b, newTestKey(b, alg)), fullToken(b)
		b.Run(fmt.Sprint(alg), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := i.Issue(token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
