package app

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/devidp"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// initialized is a fresh folder of the starter site, and its configuration.
func initialized(t *testing.T, issuer string) Config {
	t.Helper()
	folder := t.TempDir()
	files, err := starter.Site(issuer)
	check(t, err)
	check(t, Init(folder, "app.writ.example/log", files))
	config := DefaultConfig()
	config.resolve(folder)
	config.Site = folder
	config.URL = "http://127.0.0.1:8420"
	config.Issuers = []Issuer{{URL: issuer, Audience: "writ"}}
	check(t, config.Check())
	return config
}

// TestTheLoopEndsWhatHasRunOut has a task run out in invented time, with nobody asking.
func TestTheLoopEndsWhatHasRunOut(t *testing.T) {
	config := initialized(t, "http://127.0.0.1:1")
	synctest.Test(t, func(t *testing.T) {
		a, err := New(t.Context(), config, Options{Now: time.Now})
		check(t, err)
		agent := control.Caller{Identity: access.MustRef(`Agent::"support-bot"`)}
		answer, err := a.Control.OpenTask(t.Context(), agent, control.Opening{Type: "support", Purpose: "a customer complains", Duration: 60})
		check(t, err)
		if answer.Task == nil {
			t.Fatalf("no task: %+v", answer)
		}
		_, err = a.Control.PushFacts(t.Context(), control.Caller{Identity: access.MustRef(`Workload::"order-system"`)}, time.Time{}, []control.Told{
			{Entity: access.Entity{ID: access.MustRef(`Order::"o-1"`), Attributes: []byte(`{"status":"delivered","total":120}`)}},
		})
		check(t, err)
		granted, err := a.Control.Request(t.Context(), agent, control.Ask{
			Task: answer.Task.ID, Action: access.MustRef(`Action::"read_order"`), Resource: access.MustRef(`Order::"o-1"`),
		})
		check(t, err)
		if granted.Grant == nil {
			t.Fatalf("no grant: %+v", granted)
		}
		entries := func() int64 { // of the task; reading leaves none
			seen, err := a.Control.ReadTask(t.Context(), agent, answer.Task.ID)
			check(t, err)
			return seen.Entries
		}
		opened := entries()
		for _, step := range []struct {
			name  string
			after time.Duration
			more  int64
		}{
			{"before its end", 58 * time.Second, 0},
			{"past its end", 4 * time.Second, 1},
			{"still within the skew of verifiers' clocks", 50 * time.Second, 1},
			{"when nothing of it is left anywhere", 12 * time.Second, 2},
			{"long after", time.Hour, 2},
		} {
			time.Sleep(step.after) // of the bubble
			synctest.Wait()
			if got := entries() - opened; got != step.more {
				t.Errorf("%s: %d entries by the loop, want %d", step.name, got, step.more)
			}
		}
		seen, err := a.Control.ReadTask(t.Context(), agent, answer.Task.ID)
		check(t, err)
		if seen.Task.Status != access.TaskSealed || seen.Task.Reason != access.EndExpired {
			t.Errorf("the task: %+v", seen.Task)
		}
		check(t, a.Close())
	})
}

// TestReadyAgainWhenWhatIsDueIsRecorded has the loop fail to end a task, once.
func TestReadyAgainWhenWhatIsDueIsRecorded(t *testing.T) {
	config := initialized(t, "http://127.0.0.1:1")
	synctest.Test(t, func(t *testing.T) {
		a, err := New(t.Context(), config, Options{Now: time.Now})
		check(t, err)
		agent := control.Caller{Identity: access.MustRef(`Agent::"support-bot"`)}
		_, err = a.Control.OpenTask(t.Context(), agent, control.Opening{Type: "support", Purpose: "a customer complains", Duration: 60})
		check(t, err)
		check(t, a.health(t.Context()))
		check(t, os.Rename(a.Database(), a.Database()+".old"))
		time.Sleep(62 * time.Second) // of the bubble
		synctest.Wait()
		check(t, os.Rename(a.Database()+".old", a.Database()))
		if err := a.health(t.Context()); !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("the last commit failed, and health says %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		check(t, a.health(t.Context()))
		check(t, a.Close())
	})
}

// serving is an installation that serves, with an identity provider.
type serving struct {
	*App

	url  string
	idp  *devidp.Server
	stop context.CancelFunc
	done chan error // of Serve
	seen atomic.Int64
}

func serve(t *testing.T) *serving {
	t.Helper()
	idp, err := devidp.Start(time.Now)
	check(t, err)
	t.Cleanup(func() { check(t, idp.Close()) })
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	config := initialized(t, idp.URL())
	config.URL = "http://" + listener.Addr().String()
	a, err := New(t.Context(), config, Options{})
	check(t, err)
	t.Cleanup(func() { check(t, a.Close()) })
	s := &serving{App: a, url: config.URL, idp: idp, done: make(chan error, 1)}
	next := a.handler
	a.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.seen.Add(1)
		next.ServeHTTP(w, r)
	})
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	go func() { s.done <- a.Serve(ctx, listener) }()
	return s
}

func (s *serving) client(t *testing.T, subject string, extra map[string]any, change func(*client.Options)) *client.Client {
	t.Helper()
	options := client.Options{Token: func(context.Context) (string, error) { return s.idp.Token(subject, "writ", time.Hour, extra) }}
	if change != nil {
		change(&options)
	}
	c, err := client.New(s.url, options)
	check(t, err)
	return c
}

// TestAKeyThatOthersMayReadIsRefused is for the keys that this package reads; those of tokens are read, and refused, by their connector.
func TestAKeyThatOthersMayReadIsRefused(t *testing.T) {
	for name, key := range map[string]func(*Config) string{
		"tls.key": func(c *Config) string { return c.TLS.Key },
		"log.key": func(c *Config) string { return c.Log.Key },
	} {
		config := initialized(t, "http://127.0.0.1:1")
		config.TLS = TLS{Certificate: filepath.Join(config.Data, "tls.crt"), Key: filepath.Join(config.Data, "tls.key")}
		check(t, os.WriteFile(config.TLS.Key, nil, 0o600))
		check(t, os.Chmod(key(&config), 0o640))
		if a, err := New(t.Context(), config, Options{}); err == nil || !strings.Contains(err.Error(), name+":") || !strings.Contains(err.Error(), "may be read by others") {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				check(t, a.Close())
			}
		}
	}
	config := initialized(t, "http://127.0.0.1:1")
	config.TLS = TLS{Certificate: "tls.crt", Key: filepath.Join(config.Data, "tls.key")}
	if _, err := New(t.Context(), config, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is not there: %v", err)
	}
}

// TestReadyUntilTheDatabaseIsReplaced has the file exchanged for its own copy: reading still works, committing would not last.
func TestReadyUntilTheDatabaseIsReplaced(t *testing.T) {
	s := serve(t)
	anybody := s.client(t, "support-bot", nil, nil)
	check(t, anybody.Ready(t.Context()))
	content, err := os.ReadFile(s.Database())
	check(t, err)
	check(t, os.Rename(s.Database(), s.Database()+".old"))
	if err := s.health(t.Context()); err == nil {
		t.Error("ready without a database")
	}
	check(t, os.WriteFile(s.Database(), content, 0o600))
	if err := s.health(t.Context()); err == nil {
		t.Error("ready on another file than was opened")
	}
	if err := anybody.Ready(t.Context()); err == nil {
		t.Error("the probe says ready")
	}
	check(t, os.Rename(s.Database()+".old", s.Database()))
	check(t, anybody.Ready(t.Context()))
	s.stop()
	check(t, <-s.done)
}

// TestShutdownDoesNotWaitForWhoWaits: a wait lasts longer than the grace of the shutdown, which without an end to waiting
// would return that its time ran out.
func TestShutdownDoesNotWaitForWhoWaits(t *testing.T) {
	s := serve(t)
	_, err := s.client(t, "order-system", nil, nil).PushFacts(t.Context(), client.Facts{Facts: []client.Fact{
		{ID: `Order::"o-1"`, Attributes: []byte(`{"status":"delivered","total":500}`)},
	}})
	check(t, err)
	agent := s.client(t, "support-bot", nil, nil)
	task, err := agent.OpenTask(t.Context(), client.OpenTask{Type: "support", Purpose: "a parcel never came"})
	check(t, err)
	asked, err := agent.Request(t.Context(), client.AccessRequest{
		Task: task.Task.ID, Action: "refund", Resource: `Order::"o-1"`, Args: []byte(`{"amount":300,"reason":"lost"}`),
	})
	check(t, err)
	token, err := s.idp.Token("support-bot", "writ", time.Hour, nil)
	check(t, err)
	type result struct {
		status int
		err    error
	}
	waited := make(chan result, 1)
	before := s.seen.Load()
	go func() {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/approvals/"+asked.Approval.ID+"?wait=60s", nil)
		if err != nil {
			waited <- result{err: err}
			return
		}
		request.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			waited <- result{err: err}
			return
		}
		waited <- result{answer.StatusCode, answer.Body.Close()}
	}()
	for s.seen.Load() == before { // it has arrived; from here on it is served
		runtime.Gosched()
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if got := <-waited; got.err != nil || got.status != http.StatusOK {
		t.Errorf("who waited: %+v", got)
	}
}

// boundTo is a key and the claim that binds a token to it.
func boundTo(t *testing.T, s *serving) (ed25519.PrivateKey, map[string]any) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	me, err := s.client(t, "support-bot", nil, func(o *client.Options) { o.Key = key }).WhoAmI(t.Context())
	check(t, err)
	if me.BoundTo == "" {
		t.Fatal("the proof was not seen")
	}
	return key, map[string]any{"cnf": map[string]any{"jkt": me.BoundTo}}
}

// underScheme sends the token under another scheme.
type underScheme string

func (u underScheme) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	r.Header.Set("Authorization", string(u)+" "+token)
	return http.DefaultTransport.RoundTrip(r)
}

// TestABoundTokenNeedsItsKey is RFC 9449 section 7: what is bound to a key is no use to who does not hold it.
func TestABoundTokenNeedsItsKey(t *testing.T) {
	s := serve(t)
	own, bound := boundTo(t, s)
	other, _ := boundTo(t, s)
	for _, test := range []struct {
		name   string
		claims map[string]any
		key    ed25519.PrivateKey
		scheme string
		want   string // reason of the refusal
	}{
		{"not bound, no proof", nil, nil, "Bearer", ""},
		{"not bound, a proof", nil, other, "Bearer", ""},
		{"not bound, a proof, under DPoP", nil, other, "DPoP", ""},
		{"DPoP promises a proof", nil, nil, "DPoP", "proof_missing"},
		{"in any letters", nil, nil, "dpop", "proof_missing"},
		{"bound, its proof", bound, own, "DPoP", ""},
		{"bound, its proof, under Bearer", bound, own, "Bearer", ""},
		{"bound, stolen without the key", bound, nil, "Bearer", "proof_missing"},
		{"bound, stolen without the key, under DPoP", bound, nil, "DPoP", "proof_missing"},
		{"bound, the thief's own key", bound, other, "DPoP", "proof_mismatch"},
		{"bound, the thief's own key, under Bearer", bound, other, "Bearer", "proof_mismatch"},
		{"bound to a certificate that nobody checks", map[string]any{"cnf": map[string]any{"x5t#S256": "x"}}, own, "Bearer", "token_confirmation"},
		{"no such scheme", nil, nil, "Basic", "token_missing"},
	} {
		c := s.client(t, "support-bot", test.claims, func(o *client.Options) {
			o.HTTPClient = &http.Client{Transport: underScheme(test.scheme)}
			if test.key != nil {
				o.Key = test.key
			}
		})
		_, err := c.WhoAmI(t.Context())
		var p *client.Problem
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (!errors.As(err, &p) || p.Reason != test.want || p.Status != http.StatusUnauthorized):
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	s.stop()
	check(t, <-s.done)
}
