package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// script is a transport that answers as it is told, and remembers what it was asked.
type script struct {
	answers []answer // the last one goes on for ever
	asked   []*http.Request
	bodies  []string
}

type answer struct {
	status int
	body   string
	header map[string]string
	err    error
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.asked, s.bodies = append(s.asked, r), append(s.bodies, string(body))
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	if a.err != nil {
		return nil, a.err
	}
	out := &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}
	for name, value := range a.header {
		out.Header.Set(name, value)
	}
	return out, nil
}

func of(t *testing.T, s *script, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{Token: func(context.Context) (string, error) { return "secret-token", nil }, HTTPClient: &http.Client{Transport: s}}
	for _, c := range change {
		c(&o)
	}
	c, err := New("https://writ.example/base/", o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func refusal(status int, code string) answer {
	return answer{status: status, body: `{"code":"` + code + `","next":"n","request_id":"r"}`, header: map[string]string{"Content-Type": "application/problem+json"}}
}

var unavailable = refusal(503, "evidence_unavailable")

func TestNewRefusesWhatIsUnsafe(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "writ.example", "ftp://writ.example", "http://writ.example", "https://user:pass@writ.example", "https://writ.example?x=1", "https://writ.example#x", "https://"} {
		if _, err := New(bad, Options{}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	for _, good := range []string{"https://writ.example", "https://writ.example/base", "http://127.0.0.1:8420", "http://localhost:1", "http://[::1]:1"} {
		if _, err := New(good, Options{}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if _, err := New("http://writ.internal", Options{AllowPlaintext: true}); err != nil {
		t.Error(err)
	}
	if _, err := New("https://writ.example", Options{TokenFile: "f", Token: func(context.Context) (string, error) { return "", nil }}); err == nil {
		t.Error("two sources of tokens were accepted")
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New("https://writ.example", Options{Key: key}); err == nil {
		t.Error("a key on P-384 was accepted")
	}
}

func TestFailuresOfTheWayAreRetriedUnderOneKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := unavailable
		asked.header = map[string]string{"Content-Type": "application/problem+json", "Retry-After": "7"}
		s := &script{answers: []answer{
			{err: errors.New("connection reset")}, {status: 502, body: "<html>"}, asked,
			{status: 200, body: `{"decision":{"id":"d","outcome":"allow"}}`},
		}}
		start := time.Now()
		outcome, err := of(t, s).Request(t.Context(), AccessRequest{Task: "t", Action: "refund", Resource: `Order::"o"`})
		if err != nil || outcome.Decision.ID != "d" {
			t.Fatalf("%+v, %v", outcome, err)
		}
		key := s.asked[0].Header.Get("Idempotency-Key")
		for i, r := range s.asked {
			if r.Header.Get("Idempotency-Key") != key || key == "" || s.bodies[i] != s.bodies[0] {
				t.Errorf("attempt %d differs: key %q, body %s", i, r.Header.Get("Idempotency-Key"), s.bodies[i])
			}
		}
		if len(s.asked) != 4 || time.Since(start) < 7*time.Second {
			t.Errorf("%d attempts in %s", len(s.asked), time.Since(start))
		}
	})
}

func TestTheCallersKeyIsUsed(t *testing.T) {
	t.Parallel()
	s := &script{answers: []answer{{status: 201, body: `{}`}}}
	if _, err := of(t, s).OpenTask(t.Context(), OpenTask{Type: "x", Purpose: "y", IdempotencyKey: "mine"}); err != nil {
		t.Fatal(err)
	}
	if s.asked[0].Header.Get("Idempotency-Key") != "mine" || strings.Contains(s.bodies[0], "mine") {
		t.Errorf("key %q, body %s", s.asked[0].Header.Get("Idempotency-Key"), s.bodies[0])
	}
}

func TestWhichCallsAreRetried(t *testing.T) {
	t.Parallel()
	calls := map[string]struct {
		call     func(*Client, context.Context) error
		attempts int
	}{
		"OpenTask":        {func(c *Client, x context.Context) error { _, err := c.OpenTask(x, OpenTask{}); return err }, attempts},
		"Task":            {func(c *Client, x context.Context) error { _, err := c.Task(x, "t"); return err }, attempts},
		"Heartbeat":       {func(c *Client, x context.Context) error { _, err := c.Heartbeat(x, "t"); return err }, attempts},
		"CompleteTask":    {func(c *Client, x context.Context) error { _, err := c.CompleteTask(x, "t"); return err }, attempts},
		"PauseTask":       {func(c *Client, x context.Context) error { _, err := c.PauseTask(x, "t"); return err }, attempts},
		"RevokeTask":      {func(c *Client, x context.Context) error { _, err := c.RevokeTask(x, "t", Revocation{}); return err }, attempts},
		"RevokeGrant":     {func(c *Client, x context.Context) error { _, err := c.RevokeGrant(x, "g", Revocation{}); return err }, attempts},
		"RenewGrant":      {func(c *Client, x context.Context) error { _, err := c.RenewGrant(x, "g", 0); return err }, attempts},
		"RedeemApproval":  {func(c *Client, x context.Context) error { _, err := c.RedeemApproval(x, "a"); return err }, attempts},
		"SuspendIdentity": {func(c *Client, x context.Context) error { _, err := c.SuspendIdentity(x, StatusChange{}); return err }, attempts},
		"Approvals":       {func(c *Client, x context.Context) error { _, err := c.Approvals(x); return err }, attempts},
		"Checkpoint":      {func(c *Client, x context.Context) error { _, err := c.Checkpoint(x); return err }, attempts},
		"ResumeTask":      {func(c *Client, x context.Context) error { _, err := c.ResumeTask(x, "t"); return err }, 1},
		"ReportAction":    {func(c *Client, x context.Context) error { _, err := c.ReportAction(x, "g", Action{}); return err }, 1},
		"AnswerApproval":  {func(c *Client, x context.Context) error { _, err := c.AnswerApproval(x, "a", Reply{}); return err }, 1},
		"ResumeIdentity":  {func(c *Client, x context.Context) error { _, err := c.ResumeIdentity(x, StatusChange{}); return err }, 1},
		"EraseValues":     {func(c *Client, x context.Context) error { _, err := c.EraseValues(x, 0, Erasure{}); return err }, 1},
		"PushFacts":       {func(c *Client, x context.Context) error { _, err := c.PushFacts(x, Facts{}); return err }, 1},
		"Apply":           {func(c *Client, x context.Context) error { _, err := c.Apply(x, Configuration{}); return err }, 1},
		"Ready":           {func(c *Client, x context.Context) error { return c.Ready(x) }, 1},
	}
	for name, want := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: []answer{unavailable}}
				if err := want.call(of(t, s), t.Context()); !errors.Is(err, &Problem{Code: "evidence_unavailable"}) {
					t.Errorf("the error is %v", err)
				}
				if len(s.asked) != want.attempts {
					t.Errorf("%d attempts, want %d", len(s.asked), want.attempts)
				}
			})
		})
	}
}

func TestANoIsNotRetried(t *testing.T) {
	t.Parallel()
	for _, a := range []answer{refusal(403, "forbidden"), refusal(409, "task_ended"), refusal(429, "limit_exceeded"), refusal(500, "internal"), refusal(401, "unauthenticated")} {
		s := &script{answers: []answer{a}}
		_, err := of(t, s).Task(t.Context(), "t")
		var p *Problem
		if !errors.As(err, &p) || p.Status != a.status || len(s.asked) != 1 {
			t.Errorf("%d: %v after %d attempts", a.status, err, len(s.asked))
		}
	}
}

func TestTheEndOfTheContextEndsWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := unavailable
		a.header = map[string]string{"Content-Type": "application/problem+json", "Retry-After": "3600"}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := &script{answers: []answer{a}}
		if _, err := of(t, s).Task(ctx, "t"); !errors.Is(err, context.DeadlineExceeded) || len(s.asked) != 1 {
			t.Errorf("%v after %d attempts", err, len(s.asked))
		}
	})
}

func TestWaitApprovalAsksUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pending, denied := answer{status: 200, body: `{"id":"a","status":"pending"}`}, answer{status: 200, body: `{"id":"a","status":"denied"}`}
		s := &script{answers: []answer{pending, unavailable, pending, denied}}
		start := time.Now()
		approval, err := of(t, s).WaitApproval(t.Context(), "a")
		if err != nil || approval.Status != ApprovalDenied || len(s.asked) != 4 {
			t.Fatalf("%+v, %v after %d polls", approval, err, len(s.asked))
		}
		if time.Since(start) < 2*pollPause {
			t.Errorf("a server that does not wait was asked without a pause: %s", time.Since(start))
		}
		if got := s.asked[0].URL.RequestURI(); got != "/base/v1/approvals/a?wait=50" {
			t.Errorf("asked %s", got)
		}
	})
}

func TestWaitingFitsTheTimeoutOfTheHTTPClient(t *testing.T) {
	t.Parallel()
	s := &script{answers: []answer{{status: 200, body: `{"status":"approved"}`}}}
	c := of(t, s, func(o *Options) { o.HTTPClient.Timeout = 30 * time.Second })
	if _, err := c.WaitApproval(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := s.asked[0].URL.RawQuery; got != "wait=20" {
		t.Errorf("asked %s", got)
	}
}

func TestAnAnswerFromSomethingElseIsToldApart(t *testing.T) {
	t.Parallel()
	for _, a := range []answer{
		{status: 404, body: "<html>", header: map[string]string{"Content-Type": "text/html"}},
		{status: 404, body: `{"message":"no"}`, header: map[string]string{"Content-Type": "application/json"}},
		{status: 404, body: `{`, header: map[string]string{"Content-Type": "application/problem+json"}},
	} {
		var p *Problem
		if _, err := of(t, &script{answers: []answer{a}}).Task(t.Context(), "t"); !errors.As(err, &p) || p.Code != "http_404" || p.Status != 404 {
			t.Errorf("%s: %v", a.body, err)
		}
	}
	if _, err := of(t, &script{answers: []answer{{status: 200, body: "hello"}}}).Task(t.Context(), "t"); err == nil {
		t.Error("an answer that is not JSON was taken")
	}
}

func TestATokenDoesNotTravelOn(t *testing.T) {
	t.Parallel()
	s := &script{answers: []answer{{status: 307, header: map[string]string{"Location": "https://elsewhere.example/"}}}}
	_, err := of(t, s).Task(t.Context(), "t")
	if len(s.asked) != 1 || err == nil {
		t.Errorf("followed: %d requests, %v", len(s.asked), err)
	}
	s = &script{answers: []answer{{status: 200}}}
	if _, err := of(t, s).Checkpoint(t.Context()); err != nil || s.asked[0].Header.Get("Authorization") != "" {
		t.Errorf("a public route was sent a token (%v)", err)
	}
	s = &script{answers: []answer{{err: errors.New("refused")}}}
	if _, err := of(t, s).PushFacts(t.Context(), Facts{}); err == nil || strings.Contains(err.Error(), "secret-token") {
		t.Errorf("the error is %v", err)
	}
}

func TestIDsCannotLeaveTheirPlaceInThePath(t *testing.T) {
	t.Parallel()
	s := &script{answers: []answer{{status: 200, body: `{}`}}}
	if _, err := of(t, s).Grant(t.Context(), "../tasks/x?y#z"); err != nil {
		t.Fatal(err)
	}
	if got := s.asked[0].URL.RequestURI(); got != "/base/v1/grants/..%2Ftasks%2Fx%3Fy%23z" {
		t.Errorf("asked %s", got)
	}
}

func TestTheTokenFileIsReadForEveryCall(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	s := &script{answers: []answer{{status: 200, body: `{}`}}}
	c := of(t, s, func(o *Options) { o.Token, o.TokenFile = nil, path })
	for _, token := range []string{"first", "second"} {
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.WhoAmI(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.asked[len(s.asked)-1].Header.Get("Authorization"); got != "Bearer "+token {
			t.Errorf("sent %q", got)
		}
	}
	for name, content := range map[string][]byte{"empty": nil, "huge": bytes.Repeat([]byte("x"), maxTokenFile+1)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.WhoAmI(t.Context()); err == nil {
			t.Errorf("an %s file was taken", name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WhoAmI(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

func TestEveryAttemptHasAProofOfItsOwn(t *testing.T) {
	t.Parallel()
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	nist, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"EdDSA": edwards, "ES256": nist} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []answer{unavailable, {status: 200, body: `{}`}}}
			if _, err := of(t, s, func(o *Options) { o.Key = key }).Approval(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			seen := map[any]bool{}
			for _, r := range s.asked {
				header, claims := openProof(t, key, r.Header.Get("DPoP"))
				sum := sha256.Sum256([]byte("secret-token"))
				if header["alg"] != name || header["typ"] != "dpop+jwt" || claims["htm"] != "GET" || claims["ath"] != base64.RawURLEncoding.EncodeToString(sum[:]) ||
					claims["htu"] != "https://writ.example/base/v1/approvals/a" {
					t.Errorf("%s: %v %v", name, header, claims)
				}
				seen[claims["jti"]] = true
			}
			if len(seen) != 2 {
				t.Errorf("%s: %d different proofs", name, len(seen))
			}
		})
	}
}

func openProof(t *testing.T, key crypto.Signer, proof string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(proof, ".")
	if len(parts) != 3 {
		t.Fatalf("no proof: %q", proof)
	}
	var raw [3][]byte
	for i := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(parts[i]); err != nil {
			t.Fatal(err)
		}
	}
	signed := []byte(parts[0] + "." + parts[1])
	switch public := key.Public().(type) {
	case ed25519.PublicKey:
		if !ed25519.Verify(public, signed, raw[2]) {
			t.Error("the signature does not verify")
		}
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(signed)
		if len(raw[2]) != 64 || !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])) {
			t.Error("the signature does not verify")
		}
	}
	if json.Unmarshal(raw[0], &header) != nil || json.Unmarshal(raw[1], &claims) != nil {
		t.Fatal("not JSON")
	}
	return header, claims
}

func TestProblemsReadLikeSentences(t *testing.T) {
	t.Parallel()
	p := &Problem{Code: "forbidden", Detail: "no", Next: "Do not retry.", RequestID: "r1"}
	if got, want := p.Error(), "forbidden: no (Do not retry.) [request r1]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A server of its own, so that one thing is not only pretended: the real transport.
func TestOverTheWire(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" || r.Header.Get("User-Agent") != "writ-client" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		_, _ = io.WriteString(w, `{"identity":"Agent::\"a\""}`)
	}))
	defer server.Close()
	c, err := New(server.URL, Options{Token: func(context.Context) (string, error) { return "t", nil }})
	if err != nil {
		t.Fatal(err)
	}
	if me, err := c.WhoAmI(t.Context()); err != nil || me.Identity != `Agent::"a"` {
		t.Errorf("%+v, %v", me, err)
	}
}
