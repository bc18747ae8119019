package app

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/nodetest"
)

// What authn promises of an issuer's keys; its own tests hold the same numbers.
const (
	refreshInterval = 5 * time.Minute  // how old a key set gets
	unknownKeyPause = 10 * time.Second // between two fetches for keys that are not known
)

// provider is oidc-provider of npm. It and Writ share an invented clock.
type provider struct {
	script *nodetest.Script
	url    string
	clock  atomic.Int64 // nanoseconds since 1970
}

func (p *provider) now() time.Time { return time.Unix(0, p.clock.Load()).UTC() }

// advance moves Writ's clock first, so that no token is made in its future.
func (p *provider) advance(d time.Duration) error {
	p.clock.Add(int64(d))
	return p.script.Ask("time", map[string]any{"now": p.now().UnixMilli()}, nil)
}

// publish makes these the provider's keys; the first signs.
func (p *provider) publish(keys ...string) error {
	return p.script.Ask("publish", map[string]any{"keys": keys}, nil)
}

// keyFetches is how often the key set was asked for.
func (p *provider) keyFetches(t *testing.T) int {
	t.Helper()
	var served map[string]int
	check(t, p.script.Ask("served", nil, &served))
	return served["/jwks"]
}

const clientSecret = "a secret of the test, long enough for the provider"

// token is what a client gets for its secret (RFC 6749 section 4.4, RFC 8707, RFC 9068).
func (p *provider) token(ctx context.Context, id string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {"https://writ.example"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(clientSecret))
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer got.Body.Close()
	var answer struct {
		Token       string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(got.Body).Decode(&answer); err != nil {
		return "", err
	}
	if answer.Token == "" {
		return "", fmt.Errorf("the provider answers %d %s: %s", got.StatusCode, answer.Error, answer.Description)
	}
	return answer.Token, nil
}

// headerOf is a token's header (RFC 7515 section 4).
func headerOf(t *testing.T, token string) (header map[string]string) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	check(t, err)
	check(t, json.Unmarshal(raw, &header))
	return header
}

// withProvider is an installation whose one issuer is oidc-provider, and the provider with its keys.
func withProvider(t *testing.T, keys ...string) (*provider, string) {
	t.Helper()
	p := &provider{script: nodetest.Start(t, "testdata/provider.mjs")}
	p.clock.Store(time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	var clients []map[string]string
	for _, id := range []string{"support-bot", "order-system"} {
		clients = append(clients, map[string]string{"id": id, "secret": clientSecret})
	}
	check(t, p.script.Ask("start", map[string]any{"now": p.now().UnixMilli(), "clients": clients, "keys": keys}, &p.url))
	config := initialized(t, p.url)
	config.Limits.RequestsPerSecond, config.Limits.Burst = 1e6, 1e6 // they refill by the clock, which stands
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	config.URL = "http://" + listener.Addr().String()
	a, err := New(t.Context(), config, Options{Now: p.now})
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, listener) }()
	t.Cleanup(func() { stop(); check(t, <-done); check(t, a.Close()) })
	return p, config.URL
}

// refusals keeps what the client would try again.
type refusals struct {
	mu    sync.Mutex
	found []string
}

func (f *refusals) RoundTrip(r *http.Request) (*http.Response, error) {
	got, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || got.StatusCode >= http.StatusBadRequest {
		f.mu.Lock()
		defer f.mu.Unlock()
		if err == nil {
			f.found = append(f.found, r.Method+" "+r.URL.Path+": "+got.Status)
		} else {
			f.found = append(f.found, err.Error())
		}
	}
	return got, err
}

// agents work on, each with a fresh token for every call, until the test stops them.
type agents struct {
	called  chan int // which agent has made a call; it waits until the test knows
	refused refusals
	number  int
	calls   int
}

func startAgents(t *testing.T, p *provider, server string, number int) *agents {
	t.Helper()
	a := &agents{called: make(chan int), number: number}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for n := range number {
		c, err := client.New(server, client.Options{
			Token:      func(ctx context.Context) (string, error) { return p.token(ctx, "support-bot") },
			HTTPClient: &http.Client{Transport: &a.refused},
		})
		check(t, err)
		task, err := c.OpenTask(ctx, client.OpenTask{Type: "support", Purpose: "a customer complains"})
		check(t, err)
		running.Go(func() {
			for {
				got, err := c.Request(ctx, client.AccessRequest{Task: task.Task.ID, Action: "read_order", Resource: `Order::"o-1"`})
				if ctx.Err() != nil {
					return
				}
				if err != nil || got.Credential == nil {
					t.Errorf("agent %d: %+v, %v", n, got, err)
					return
				}
				select {
				case a.called <- n:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	t.Cleanup(func() { stop(); running.Wait() })
	return a
}

// while lets the agents call while something happens, and each of them ten times more after it.
func (a *agents) while(t *testing.T, what string, happens func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- happens() }()
	after, enough := make([]int, a.number), 0
	for happened := false; enough < a.number; {
		select {
		case err := <-done:
			check(t, err)
			happened = true
		case n := <-a.called:
			a.calls++
			if !happened {
				continue
			}
			if after[n]++; after[n] == 10 {
				enough++
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: the agents stopped calling", what)
		}
	}
	a.refused.mu.Lock()
	defer a.refused.mu.Unlock()
	if len(a.refused.found) > 0 {
		t.Fatalf("%s: good tokens were refused: %v", what, a.refused.found)
	}
}

// refusalOf is what a call with this very token is refused with; nil: with nothing.
func refusalOf(t *testing.T, server, token string) *client.Problem {
	t.Helper()
	c, err := client.New(server, client.Options{Token: func(context.Context) (string, error) { return token, nil }})
	check(t, err)
	_, err = c.WhoAmI(t.Context())
	var p *client.Problem
	if err != nil && !errors.As(err, &p) {
		t.Fatal(err)
	}
	return p
}

func wantReason(t *testing.T, when, server, token, want string) {
	t.Helper()
	p := refusalOf(t, server, token)
	switch {
	case want == "" && p != nil:
		t.Errorf("%s: %v", when, p)
	case want != "" && (p == nil || p.Reason != want || p.Status != http.StatusUnauthorized):
		t.Errorf("%s: %v, want %s", when, p, want)
	}
}

func tellOrder(t *testing.T, p *provider, server string) {
	t.Helper()
	c, err := client.New(server, client.Options{Token: func(ctx context.Context) (string, error) { return p.token(ctx, "order-system") }})
	check(t, err)
	_, err = c.PushFacts(t.Context(), deliveredOrder())
	check(t, err)
}

// TestAgentsCallOnWhileAProviderRotatesItsKeys is a rotation as oidc-provider documents it, under calls: no good token is refused,
// and the key that was dropped is no good from the next refresh on.
func TestAgentsCallOnWhileAProviderRotatesItsKeys(t *testing.T) {
	p, server := withProvider(t, "old")
	tellOrder(t, p, server)
	kept, err := p.token(t.Context(), "support-bot")
	check(t, err)
	if h := headerOf(t, kept); h["kid"] != "old" || h["typ"] != "at+jwt" || h["alg"] != "ES256" {
		t.Fatalf("the provider signs otherwise than this test supposes: %v", h)
	}
	a := startAgents(t, p, server, 3)
	wantReason(t, "before", server, kept, "")
	a.while(t, "the new key is announced", func() error { return p.publish("old", "new") })
	if n := p.keyFetches(t); n != 1 {
		t.Errorf("%d fetches of keys before anything new was signed, want 1", n)
	}
	a.while(t, "the new key signs", func() error { return p.publish("new", "old") })
	fresh, err := p.token(t.Context(), "support-bot")
	check(t, err)
	if h := headerOf(t, fresh); h["kid"] != "new" {
		t.Fatalf("it still signs with %v", h)
	}
	if n := p.keyFetches(t); n != 2 {
		t.Errorf("%d fetches of keys, want 2", n)
	}
	a.while(t, "the old key is dropped", func() error { return p.publish("new") })
	wantReason(t, "dropped, and nothing was fetched since", server, kept, "")
	a.while(t, "almost a refresh later", func() error { return p.advance(refreshInterval*4/5 - 1) })
	wantReason(t, "just before the refresh", server, kept, "")
	a.while(t, "the refresh", func() error { return p.advance(refreshInterval/5 + 1) })
	wantReason(t, "after the refresh", server, kept, "token_unknown_key")
	wantReason(t, "the new key after it", server, fresh, "")
	a.while(t, "later", func() error { return nil })
	t.Logf("%d calls, %d fetches of keys", a.calls, p.keyFetches(t))
}

// withKID is the token under another key id: nobody's key, whose fetch a stranger can cause.
func withKID(t *testing.T, token, kid string) string {
	t.Helper()
	header := headerOf(t, token)
	header["kid"] = kid
	raw, err := json.Marshal(header)
	check(t, err)
	_, rest, _ := strings.Cut(token, ".")
	return base64.RawURLEncoding.EncodeToString(raw) + "." + rest
}

// TestAKeyThatNobodyAnnounced is the worst rotation: the new key signs at once and the old one is gone. Good tokens are refused for
// at most ten seconds, if somebody else has just used up the fetch for unknown keys, and the refusal says so.
func TestAKeyThatNobodyAnnounced(t *testing.T) {
	p, server := withProvider(t, "first")
	first, err := p.token(t.Context(), "support-bot")
	check(t, err)
	wantReason(t, "before", server, first, "")
	check(t, p.publish("second"))
	second, err := p.token(t.Context(), "support-bot")
	check(t, err)
	wantReason(t, "of the old key, before anything new was seen", server, first, "")
	wantReason(t, "of the new key", server, second, "")
	wantReason(t, "of the old key, which is not published", server, first, "token_unknown_key")

	check(t, p.advance(unknownKeyPause))
	wantReason(t, "a stranger's", server, withKID(t, second, "nobody's"), "token_unknown_key")
	check(t, p.publish("third"))
	third, err := p.token(t.Context(), "support-bot")
	check(t, err)
	before := p.keyFetches(t)
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{0, "token_unknown_key"}, {unknownKeyPause - 1, "token_unknown_key"}, {1, ""}} {
		check(t, p.advance(step.after))
		wantReason(t, fmt.Sprintf("another %s after the stranger's", step.after), server, third, step.want)
		if refused := refusalOf(t, server, third); refused != nil && !strings.Contains(refused.Detail, "try again in "+unknownKeyPause.String()) {
			t.Errorf("the refusal does not say what to do: %s", refused.Detail)
		}
	}
	if n := p.keyFetches(t) - before; n != 1 {
		t.Errorf("%d fetches of keys, want 1", n)
	}
	wantReason(t, "of the second key", server, second, "token_unknown_key")

	check(t, p.publish("fourth"))
	wantReason(t, "of the third key, before anybody has seen that it is gone", server, third, "")
	check(t, p.advance(refreshInterval))
	wantReason(t, "of the third key, which nothing else makes Writ look for", server, third, "token_unknown_key")
}
