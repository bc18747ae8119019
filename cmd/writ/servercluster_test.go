package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/devidp"
	"github.com/writ-project/writ/internal/pgtest"
	"github.com/writ-project/writ/internal/sandbox"
)

// gateway sees the uses of the agents' grants.
const gateway = `identities:
  - id: Workload::"gateway"
    owner: Human::"dana"
    purpose: sees what the agents do
    review_by: 2027-12-31
    match: [{issuer: ISSUER, subject: gateway}]
enforcement_points:
  - {identity: Workload::"gateway", owner: Human::"dana", subjects: [Team::"support-agents"]}
`

// cluster is one PostgreSQL database and the servers on it.
type cluster struct {
	ctx      context.Context // the test's, with a limit
	giveUp   context.CancelCauseFunc
	idp      *devidp.Server
	folder   string
	database string
	servers  []*served
}

// served is one `writ serve` after the other at one address.
type served struct {
	name, address, config string

	up   atomic.Bool
	left atomic.Int64 // answers until it is killed

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
	failed  []string // answers that no healthy server gives
}

func newCluster(t *testing.T, size int) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, giveUp := context.WithCancelCause(ctx)
	c := &cluster{ctx: ctx, giveUp: giveUp, folder: t.TempDir()}
	server, err := pgtest.Start(ctx)
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	c.database, err = server.Database(ctx)
	must(t, err)
	c.idp, err = devidp.Start(time.Now)
	must(t, err)
	t.Cleanup(func() { must(t, c.idp.Close()) })
	site, err := starter.Site(c.idp.URL())
	must(t, err)
	site["catalog/gateway.yaml"] = []byte(strings.ReplaceAll(gateway, "ISSUER", c.idp.URL()))
	maps.DeleteFunc(site, func(path string, _ []byte) bool { // what depends on how many refunds there were
		return strings.HasPrefix(path, "policy/risk/") || strings.HasPrefix(path, "policy/tests/")
	})
	must(t, app.Init(c.folder, "servers.writ.example/log", site))
	for n := range size {
		c.servers = append(c.servers, c.configure(t, fmt.Sprintf("s%d", n)))
	}
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// configure makes the folder of a server, at an address that nobody listens on.
func (c *cluster) configure(t *testing.T, name string) *served {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(c.ctx, "tcp", "127.0.0.1:0")
	must(t, err)
	s := &served{name: name, address: listener.Addr().String(), config: filepath.Join(c.folder, name, "writ.yaml")}
	must(t, listener.Close())
	must(t, os.Mkdir(filepath.Dir(s.config), 0o700))
	text := fmt.Sprintf(`listen: %[1]s
url: http://%[1]s
data: .
database: %[2]q
site: ..
log: {key: ../data/log.key, verifier_key: ../data/log.pub}
tokens: {keys: [../data/token.key]}
issuers: [{url: %[3]q, audience: %[4]s}]
limits: {requests_per_second: 1000000, burst: 1000000, evidence_per_hour: 1000000000000, open_questions: 1000000}
`, s.address, c.database, c.idp.URL(), sandbox.Audience)
	must(t, os.WriteFile(s.config, []byte(text), 0o600))
	return s
}

// start starts a server and waits until it is ready.
func (c *cluster) start(s *served) error {
	output, err := os.OpenFile(s.output(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	cmd, ended := exec.CommandContext(c.ctx, "writ", "serve", "--config", s.config), make(chan struct{})
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait(); close(ended) }()
	s.mu.Lock()
	s.process, s.ended = cmd, ended
	s.mu.Unlock()
	const between = 5 * time.Millisecond
	for !ready(c.ctx, s.address) {
		select {
		case <-ended:
			return fmt.Errorf("%s ended before it was ready: %v\n%s", s.name, cmd.ProcessState, s.tail())
		case <-time.After(between):
		}
	}
	s.up.Store(true)
	return nil
}

func ready(ctx context.Context, address string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// killed has a server killed after each of so many random counts of answers, and starts it again.
func (c *cluster) killed(s *served, times, mostAnswers int) error {
	for range times {
		s.left.Store(1 + rand.Int64N(int64(mostAnswers)))
		select {
		case <-s.ended:
		case <-c.ctx.Done():
			return fmt.Errorf("%s was to be killed, but the load has ended: %w", s.name, context.Cause(c.ctx))
		}
		if status, ok := s.process.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
			return fmt.Errorf("%s ended by itself: %v\n%s", s.name, s.process.ProcessState, s.tail())
		}
		if err := c.start(s); err != nil {
			return err
		}
	}
	return nil
}

// stop ends a server as an operator does.
func (s *served) stop() error {
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-s.ended
	if !s.process.ProcessState.Success() {
		return fmt.Errorf("%s does not end well: %v\n%s", s.name, s.process.ProcessState, s.tail())
	}
	said, err := os.ReadFile(s.output())
	if err != nil {
		return err
	}
	if at := strings.Index(string(said), "DATA RACE"); at >= 0 {
		return fmt.Errorf("%s: %.4000s", s.name, said[at:])
	}
	if len(s.failed) > 0 {
		return fmt.Errorf("%s failed, though nothing was wrong: %q\n%s", s.name, s.failed, s.tail())
	}
	return nil
}

// RoundTrip counts a server's answers, and kills it when it has given those that were left to it.
func (s *served) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if response.StatusCode >= http.StatusInternalServerError {
		s.failed = append(s.failed, fmt.Sprintf("%s %s: %s", r.Method, r.URL.Path, response.Status))
	}
	if s.left.Add(-1) == 0 {
		s.up.Store(false)
		err = s.process.Process.Kill()
	}
	return response, err
}

// as is a client of a server.
func (c *cluster) as(s *served, subject string) (*client.Client, error) {
	token := func(context.Context) (string, error) { return c.idp.Token(subject, sandbox.Audience, time.Hour, nil) }
	return client.New("http://"+s.address, client.Options{Token: token, HTTPClient: &http.Client{Timeout: time.Minute, Transport: s}})
}

// anyUp waits until a server is up.
func (c *cluster) anyUp() ([]*served, error) {
	for {
		var up []*served
		for _, s := range c.servers {
			if s.up.Load() {
				up = append(up, s)
			}
		}
		if len(up) > 0 {
			return up, nil
		}
		const between = 5 * time.Millisecond
		select {
		case <-time.After(between):
		case <-c.ctx.Done():
			return nil, fmt.Errorf("no server comes up again: %w", context.Cause(c.ctx))
		}
	}
}

func (s *served) output() string { return filepath.Join(filepath.Dir(s.config), "serve.log") }

// tail is the end of what a server said.
func (s *served) tail() string {
	const most = 2 << 10
	said, _ := os.ReadFile(s.output()) // without it the error stands alone
	return string(said[max(0, len(said)-most):])
}
