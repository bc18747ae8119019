package authn

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// unavailable is an error whose body would be a valid key set.
func unavailable(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusBadGateway)
	_, _ = w.Write([]byte(`{"keys":[]}`))
}

func TestKeysAreFetchedOnceAndLazily(t *testing.T) {
	key, c := newKey(t, jose.EdDSA, "k"), newClock()
	p := newIDP(t, key)
	v := newVerifier(t, p, c.now)
	if p.fetches.Load()+p.discovery.Load() != 0 {
		t.Error("keys were fetched before they were needed")
	}
	for n := range 5 {
		_, err := v.Verify(t.Context(), p.token(t, key, c.now(), map[string]any{"n": n}))
		wantCode(t, err, "")
	}
	if f, d := p.fetches.Load(), p.discovery.Load(); f != 1 || d != 1 {
		t.Errorf("%d fetches and %d discoveries, want 1 and 1", f, d)
	}
}

func TestConfiguredKeySetNeedsNoDiscovery(t *testing.T) {
	key, c := newKey(t, jose.EdDSA, "k"), newClock()
	p := newIDP(t, key)
	v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience, JWKSURL: p.url + "/elsewhere"}}}, &http.Client{}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(t.Context(), p.token(t, key, c.now(), nil))
	wantCode(t, err, "")
	if p.discovery.Load() != 0 {
		t.Error("discovery was done although the key set is configured")
	}
}

func TestRotationIsSeenAtOnce(t *testing.T) {
	old, fresh, c := newKey(t, jose.ES256, "old"), newKey(t, jose.ES256, "fresh"), newClock()
	p := newIDP(t, old)
	v := newVerifier(t, p, c.now)
	oldToken := p.token(t, old, c.now(), nil)
	_, err := v.Verify(t.Context(), oldToken)
	wantCode(t, err, "")

	p.publish(old, fresh)
	_, err = v.Verify(t.Context(), p.token(t, fresh, c.now(), nil))
	wantCode(t, err, "")
	_, err = v.Verify(t.Context(), oldToken)
	wantCode(t, err, "")
	if n := p.fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
}

func TestRemovedKeyEndsCachedTokensAtTheNextRefresh(t *testing.T) {
	gone, kept, c := newKey(t, jose.ES256, "gone"), newKey(t, jose.ES256, "kept"), newClock()
	p := newIDP(t, gone, kept)
	v := newVerifier(t, p, c.now)
	goneToken, keptToken := p.token(t, gone, c.now(), nil), p.token(t, kept, c.now(), nil)
	for _, token := range []string{goneToken, keptToken} {
		_, err := v.Verify(t.Context(), token)
		wantCode(t, err, "")
	}
	p.publish(kept)
	_, err := v.Verify(t.Context(), goneToken)
	wantCode(t, err, "") // not refreshed yet

	c.advance(defaultRefreshInterval)
	_, err = v.Verify(t.Context(), goneToken)
	wantCode(t, err, CodeTokenUnknownKey)
	_, err = v.Verify(t.Context(), keptToken)
	wantCode(t, err, "")
}

func TestKidReusedForAnotherKeyEndsCachedTokens(t *testing.T) {
	first, second, c := newKey(t, jose.ES256, "k"), newKey(t, jose.ES256, "k"), newClock()
	p := newIDP(t, first)
	v := newVerifier(t, p, c.now)
	token := p.token(t, first, c.now(), nil)
	_, err := v.Verify(t.Context(), token)
	wantCode(t, err, "")
	p.publish(second)
	c.advance(defaultRefreshInterval)
	_, err = v.Verify(t.Context(), token)
	wantCode(t, err, CodeTokenBadSignature)
}

func TestEmptyKeySetWithdrawsAllKeys(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	p := newIDP(t, key)
	v := newVerifier(t, p, c.now)
	token := p.token(t, key, c.now(), nil)
	_, err := v.Verify(t.Context(), token)
	wantCode(t, err, "")
	p.publish()
	c.advance(defaultRefreshInterval)
	_, err = v.Verify(t.Context(), token)
	wantCode(t, err, CodeTokenUnknownKey)
}

func TestCachedTokenExpiresToTheInstant(t *testing.T) {
	key, c := newKey(t, jose.EdDSA, "k"), newClock()
	p := newIDP(t, key)
	v := newVerifier(t, p, c.now)
	token := p.token(t, key, c.now(), map[string]any{"exp": c.now().Add(time.Minute).Unix()})
	for _, step := range []struct {
		forward time.Duration
		want    Code
	}{{0, ""}, {time.Minute - 1, ""}, {1, CodeTokenExpired}, {time.Hour, CodeTokenExpired}, {-time.Hour - 2*time.Minute, CodeTokenNotYetValid}} {
		c.advance(step.forward)
		_, err := v.Verify(t.Context(), token)
		wantCode(t, err, step.want)
	}
}

func TestFailureIsNotRemembered(t *testing.T) {
	key, c := newKey(t, jose.EdDSA, "k"), newClock()
	p := newIDP(t, key)
	v := newVerifier(t, p, c.now)
	token := p.token(t, key, c.now(), map[string]any{"nbf": c.now().Add(time.Minute).Unix()})
	_, err := v.Verify(t.Context(), token)
	wantCode(t, err, CodeTokenNotYetValid)
	c.advance(time.Minute)
	_, err = v.Verify(t.Context(), token)
	wantCode(t, err, "")
}

func TestFloodOfUnknownKidsDoesNotReachTheIssuer(t *testing.T) {
	key, c := newKey(t, jose.EdDSA, "k"), newClock()
	p := newIDP(t, key)
	v := newVerifier(t, p, c.now)
	flood := func() {
		var wg sync.WaitGroup
		for n := range 200 {
			stranger := key
			stranger.kid = "invented-" + strconv.Itoa(n)
			token := p.token(t, stranger, c.now(), nil)
			wg.Go(func() {
				_, err := v.Verify(context.Background(), token)
				if !errors.Is(err, &Error{Code: CodeTokenUnknownKey}) {
					t.Errorf("error = %v", err)
				}
			})
		}
		wg.Wait()
	}
	flood()
	if n := p.fetches.Load(); n > 2 {
		t.Errorf("%d fetches, want the first and one more", n)
	}
	before := p.fetches.Load()
	c.advance(retryAfter - 1)
	flood()
	if n := p.fetches.Load() - before; n != 0 {
		t.Errorf("%d fetches within %s, want none", n, retryAfter)
	}
	c.advance(1)
	flood()
	if n := p.fetches.Load() - before; n != 1 {
		t.Errorf("%d fetches after %s, want 1", n, retryAfter)
	}
	_, err := v.Verify(t.Context(), p.token(t, key, c.now(), nil))
	wantCode(t, err, "") // the flood does not hurt anybody else
}

func TestIssuerDownKeepsTheLastKeysForAnHour(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	p := newIDP(t, key)
	v := newVerifier(t, p, c.now)
	cached := p.token(t, key, c.now(), nil)
	_, err := v.Verify(t.Context(), cached)
	wantCode(t, err, "")

	p.answer(unavailable)
	c.advance(maxKeyAge)
	for _, token := range []string{cached, p.token(t, key, c.now(), nil)} {
		_, err = v.Verify(t.Context(), token)
		wantCode(t, err, "")
	}
	unknown := key
	unknown.kid = "new"
	_, err = v.Verify(t.Context(), p.token(t, unknown, c.now(), nil))
	wantCode(t, err, CodeIssuerUnavailable) // its key may be new: the token is not to blame

	c.advance(1)
	for _, token := range []string{cached, p.token(t, key, c.now(), map[string]any{"n": 2})} {
		_, err = v.Verify(t.Context(), token)
		wantCode(t, err, CodeIssuerUnavailable)
	}
	p.answer(nil)
	_, err = v.Verify(t.Context(), cached)
	wantCode(t, err, CodeIssuerUnavailable) // not asked again so soon
	c.advance(retryAfter)
	_, err = v.Verify(t.Context(), cached)
	wantCode(t, err, "")
}

func TestOutageThatIsLongOverIsNotAnExcuse(t *testing.T) {
	gone, c := newKey(t, jose.ES256, "gone"), newClock()
	p := newIDP(t, gone)
	v := newVerifier(t, p, c.now)
	token := p.token(t, gone, c.now(), nil)
	_, err := v.Verify(t.Context(), token)
	wantCode(t, err, "")
	p.answer(unavailable)
	c.advance(defaultRefreshInterval)
	_, err = v.Verify(t.Context(), token)
	wantCode(t, err, "")

	p.answer(nil)
	p.publish()
	c.advance(20 * time.Minute) // nobody called meanwhile
	_, err = v.Verify(t.Context(), token)
	wantCode(t, err, CodeTokenUnknownKey)
}

func TestUnknownKidDuringAnOutageDoesNotAskAgain(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	p := newIDP(t, key)
	v := newVerifier(t, p, c.now)
	token := p.token(t, key, c.now(), nil)
	_, err := v.Verify(t.Context(), token)
	wantCode(t, err, "")
	p.answer(unavailable)
	c.advance(defaultRefreshInterval)
	_, err = v.Verify(t.Context(), token) // the refresh fails
	wantCode(t, err, "")
	before := p.fetches.Load()
	unknown := key
	unknown.kid = "new"
	_, err = v.Verify(t.Context(), p.token(t, unknown, c.now(), nil))
	wantCode(t, err, CodeIssuerUnavailable)
	if n := p.fetches.Load() - before; n != 0 {
		t.Errorf("%d fetches, want none", n)
	}
}

func TestMovedKeySetIsFoundAgain(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	p := &idp{url: "https://idp.example"}
	p.publish(key)
	path := "/old"
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			writeJSON(w, map[string]string{"issuer": p.url, "jwks_uri": p.url + path})
		case path:
			p.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
		return w.Result(), nil
	})
	v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience}}}, &http.Client{Transport: transport}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	token := p.token(t, key, c.now(), nil)
	_, err = v.Verify(t.Context(), token)
	wantCode(t, err, "")
	path = "/new"
	c.advance(maxKeyAge + 1)
	_, err = v.Verify(t.Context(), token)
	wantCode(t, err, CodeIssuerUnavailable)
	c.advance(retryAfter)
	_, err = v.Verify(t.Context(), token)
	wantCode(t, err, "")
}

func TestIssuerDownFromTheStartIsAskedOnceInTenSeconds(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	p := newIDP(t, key)
	p.answer(unavailable)
	v := newVerifier(t, p, c.now)
	for range 20 {
		_, err := v.Verify(t.Context(), p.token(t, key, c.now(), nil))
		wantCode(t, err, CodeIssuerUnavailable)
		c.advance(time.Second)
	}
	if n := p.fetches.Load(); n != 2 {
		t.Errorf("%d fetches in 20 s, want 2", n)
	}
}

func TestUnusableAnswersKeepNothing(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	for name, answer := range map[string]http.HandlerFunc{
		"an error": unavailable,
		"not JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"no keys":  func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]int{"x": 1}) },
		"too many": func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, map[string]any{"keys": make([]int, maxKeys+1)})
		},
		"too large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[]}` + strings.Repeat(" ", maxResponse)))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.com/", http.StatusFound)
		},
		"in a circle": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newIDP(t, key)
			p.answer(answer)
			v := newVerifier(t, p, c.now)
			_, err := v.Verify(t.Context(), p.token(t, key, c.now(), nil))
			wantCode(t, err, CodeIssuerUnavailable)
			if errors.Unwrap(err) == nil {
				t.Error("the operator is not told the cause")
			}
			if n := p.fetches.Load(); n > maxRedirects+1 {
				t.Errorf("%d requests for one fetch", n)
			}
		})
	}
}

func TestAnswerOfTheLargestSizeIsRead(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	p := newIDP(t, key)
	document, err := json.Marshal(map[string]any{"keys": []any{key.public()}})
	if err != nil {
		t.Fatal(err)
	}
	document = append(document, strings.Repeat(" ", maxResponse-len(document))...)
	p.answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(document) })
	_, err = newVerifier(t, p, c.now).Verify(t.Context(), p.token(t, key, c.now(), nil))
	wantCode(t, err, "")
}

func TestDiscoveryFaults(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	for name, document := range map[string]map[string]any{
		"another issuer":    {"issuer": "https://other.example", "jwks_uri": "https://idp.example/keys"},
		"no jwks_uri":       {"issuer": "https://idp.example"},
		"jwks_uri in http":  {"issuer": "https://idp.example", "jwks_uri": "http://idp.example/keys"},
		"jwks_uri to us":    {"issuer": "https://idp.example", "jwks_uri": "https://127.0.0.1/keys"},
		"jwks_uri a number": {"issuer": "https://idp.example", "jwks_uri": 7},
	} {
		t.Run(name, func(t *testing.T) {
			transport := roundTripper(func(r *http.Request) (*http.Response, error) {
				if !strings.HasSuffix(r.URL.Path, "/openid-configuration") {
					t.Errorf("asked for %s", r.URL)
				}
				w := httptest.NewRecorder()
				writeJSON(w, document)
				return w.Result(), nil
			})
			p := &idp{url: "https://idp.example"}
			v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience}}}, &http.Client{Transport: transport}, c.now)
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.Verify(t.Context(), p.token(t, key, c.now(), nil))
			wantCode(t, err, CodeIssuerUnavailable)
		})
	}
}

func TestRedirectFromOutsideToThisHostIsRefused(t *testing.T) {
	key, c := newKey(t, jose.ES256, "k"), newClock()
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Hostname() != "idp.example" {
			t.Errorf("followed to %s", r.URL)
		}
		w := httptest.NewRecorder()
		http.Redirect(w, r, "https://localhost/keys", http.StatusFound)
		return w.Result(), nil
	})
	p := &idp{url: "https://idp.example"}
	v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience, JWKSURL: p.url + "/keys"}}}, &http.Client{Transport: transport}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(t.Context(), p.token(t, key, c.now(), nil))
	wantCode(t, err, CodeIssuerUnavailable)
}

func TestKeySetIgnoresWhatMayNotVerify(t *testing.T) {
	c := newClock()
	good := newKey(t, jose.ES256, "good")
	private := newKey(t, jose.ES256, "private")
	encryption := newKey(t, jose.ES256, "encryption")
	asJSON := func(v any) json.RawMessage {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	leaked := private.public()
	leaked.Key = private.private
	forEncryption := encryption.public()
	forEncryption.Use = "enc"
	small := json.RawMessage(`{"kty":"RSA","kid":"small","n":"` + b64(append([]byte{0x80}, make([]byte, 127)...)) + `","e":"AQAB"}`)
	p := newIDP(t)
	p.answer(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"keys": []json.RawMessage{
			json.RawMessage(`{"kty":"oct","kid":"secret","k":"c2VjcmV0"}`), json.RawMessage(`{"kty":"NEW"}`), json.RawMessage(`7`),
			small, asJSON(leaked), asJSON(forEncryption), asJSON(good.public()), asJSON(good.public()),
		}})
	})
	v := newVerifier(t, p, c.now)
	_, err := v.Verify(t.Context(), p.token(t, good, c.now(), nil))
	wantCode(t, err, "")
	for _, key := range []signingKey{private, encryption} {
		_, err := v.Verify(t.Context(), p.token(t, key, c.now(), nil))
		wantCode(t, err, CodeTokenUnknownKey)
	}
	if n := len(v.issuers[p.url].current.Load().keys); n != 1 {
		t.Errorf("%d keys kept, want 1", n)
	}
}

// slowIDP answers without a network, after a delay of the bubble's clock.
func slowIDP(p *idp, delay func() time.Duration) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(delay()):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w.Result(), nil
	})
}

func TestHangingIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(fetchTimeout) // a bubble ends when its fetches have
		key := newKey(t, jose.EdDSA, "k")
		p := &idp{url: "https://idp.example"}
		p.publish(key)
		delay := time.Second
		v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience}}}, &http.Client{Transport: slowIDP(p, func() time.Duration { return delay })}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		token := p.token(t, key, time.Now(), nil)
		verify := func(ctx context.Context, wait time.Duration, want Code) {
			t.Helper()
			begun := time.Now()
			_, err := v.Verify(ctx, token)
			wantCode(t, err, want)
			if took := time.Since(begun); took != wait {
				t.Errorf("took %s, want %s", took, wait)
			}
		}

		delay = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		verify(ctx, time.Second, CodeIssuerUnavailable)                      // a caller waits no longer than it wants to,
		verify(t.Context(), fetchTimeout-time.Second, CodeIssuerUnavailable) // and nobody longer than the fetch,
		verify(t.Context(), 0, CodeIssuerUnavailable)                        // and not again at once
		time.Sleep(retryAfter)
		delay = time.Second
		verify(t.Context(), 2*time.Second, "") // discovery and keys

		time.Sleep(defaultRefreshInterval * 9 / 10)
		delay = time.Hour
		verify(t.Context(), 0, "") // the refresh ahead of time makes nobody wait,
		time.Sleep(fetchTimeout)
		synctest.Wait()
		verify(t.Context(), 0, "")
		time.Sleep(defaultRefreshInterval/10 - fetchTimeout)
		verify(t.Context(), 0, "") // nor does an outage while the keys may still serve,
		time.Sleep(maxKeyAge)
		verify(t.Context(), fetchTimeout, CodeIssuerUnavailable) // but then it does
	})
}

func TestFetchesNeverRunSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(fetchTimeout)
		key := newKey(t, jose.EdDSA, "k")
		p := &idp{url: "https://idp.example"}
		p.publish(key)
		var running, most atomic.Int64
		slow := slowIDP(p, func() time.Duration { return time.Second })
		transport := roundTripper(func(r *http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			return slow.RoundTrip(r)
		})
		v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience}}}, &http.Client{Transport: transport}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		token, unknown := p.token(t, key, time.Now(), nil), key
		unknown.kid = "unknown"
		_, err = v.Verify(t.Context(), token)
		wantCode(t, err, "")
		time.Sleep(defaultRefreshInterval * 9 / 10)
		_, err = v.Verify(t.Context(), token) // starts a refresh, and joins none
		wantCode(t, err, "")
		_, err = v.Verify(t.Context(), p.token(t, unknown, time.Now(), nil)) // joins it
		wantCode(t, err, CodeTokenUnknownKey)
		if n := most.Load(); n != 1 {
			t.Errorf("%d requests at the same time, want 1", n)
		}
	})
}

func TestRefreshAheadOfTimeKeepsKeysFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(fetchTimeout) // a bubble ends when its fetches have
		key := newKey(t, jose.EdDSA, "k")
		p := &idp{url: "https://idp.example"}
		p.publish(key)
		v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience}}}, &http.Client{Transport: slowIDP(p, func() time.Duration { return time.Second })}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		token := p.token(t, key, time.Now(), map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()})
		_, err = v.Verify(t.Context(), token)
		wantCode(t, err, "")
		for range 600 { // 100 minutes of steady traffic
			time.Sleep(10 * time.Second)
			begun := time.Now()
			_, err := v.Verify(t.Context(), token)
			wantCode(t, err, "")
			if took := time.Since(begun); took != 0 {
				t.Fatalf("a caller waited %s for a refresh", took)
			}
			if age := time.Since(v.issuers[p.url].current.Load().fetched); age > defaultRefreshInterval {
				t.Fatalf("verified with keys fetched %s ago", age)
			}
		}
	})
}

func TestConcurrentVerifyDuringRotation(t *testing.T) {
	a, b, c := newKey(t, jose.EdDSA, "a"), newKey(t, jose.EdDSA, "b"), newClock()
	p := newIDP(t, a, b)
	v := newVerifier(t, p, c.now)
	var tokens []string
	for n := range 40 {
		tokens = append(tokens, p.token(t, []signingKey{a, b}[n%2], c.now(), map[string]any{"n": n}))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n, token := range tokens {
				_, err := v.Verify(context.Background(), token)
				// a stays published all the time, b comes and goes
				if err != nil && (n%2 == 0 || !errors.Is(err, &Error{Code: CodeTokenUnknownKey})) {
					t.Errorf("token %d: %v", n, err)
				}
			}
		})
	}
	wg.Go(func() {
		for n := range 20 {
			p.publish([][]signingKey{{a}, {a, b}}[n%2]...)
			c.advance(time.Minute)
		}
	})
	wg.Wait()
	p.publish(a)
	c.advance(defaultRefreshInterval)
	for n, token := range tokens {
		_, err := v.Verify(t.Context(), token)
		wantCode(t, err, []Code{"", CodeTokenUnknownKey}[n%2])
	}
}
