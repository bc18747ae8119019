package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/devidp"
)

const (
	spireLimit = 2 * time.Minute // for SPIRE to start, and to carry a change to everybody
	spirePoll  = 100 * time.Millisecond
	writID     = "spiffe://shop.example/writ"
	botID      = "spiffe://shop.example/support-bot"
)

// spire is a SPIRE server and an agent of the trust domain shop.example, with keys in memory.
type spire struct {
	folder string
	server string // path of spire-server
}

func (s *spire) serverSocket() string { return filepath.Join(s.folder, "server.sock") }
func (s *spire) agentSocket() string  { return filepath.Join(s.folder, "agent.sock") }

// startSPIRE starts both, with entries for Writ, which is this process, and for a workload, which is another program.
func startSPIRE(t *testing.T, server, agent, workload string) *spire {
	t.Helper()
	folder, err := os.MkdirTemp("", "s") // the path of a socket must be short
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	s := &spire{folder: folder, server: server}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	check(t, err)
	check(t, listener.Close())
	s.daemon(t, "server", server, "run", "-config", s.config(t, "server.conf", `
		server {
			bind_address = "127.0.0.1"
			bind_port = "`+port+`"
			socket_path = "`+s.serverSocket()+`"
			trust_domain = "shop.example"
			data_dir = "`+folder+`"
			experimental { cache_reload_interval = "1s" }
		}
		plugins {
			DataStore "sql" { plugin_data { database_type = "sqlite3", connection_string = "`+folder+`/db" } }
			NodeAttestor "join_token" { plugin_data {} }
			KeyManager "memory" { plugin_data {} }
		}`))
	s.await(t, "the server's health", func() error { _, err := s.try(t, server, "healthcheck", "-socketPath", s.serverSocket()); return err })

	bundle := filepath.Join(folder, "bundle.pem")
	check(t, os.WriteFile(bundle, []byte(s.do(t, "bundle", "show")), 0o600))
	self, err := os.Executable()
	check(t, err)
	for id, path := range map[string]string{writID: self, botID: workload} {
		s.do(t, "entry", "create", "-parentID", "spiffe://shop.example/node", "-spiffeID", id,
			"-selector", "unix:uid:"+strconv.Itoa(os.Getuid()), "-selector", "unix:path:"+path)
	}
	token := strings.TrimSpace(strings.TrimPrefix(s.do(t, "token", "generate", "-spiffeID", "spiffe://shop.example/node"), "Token:"))
	s.daemon(t, "agent", agent, "run", "-joinToken", token, "-config", s.config(t, "agent.conf", `
		agent {
			data_dir = "`+folder+`"
			server_address = "127.0.0.1"
			server_port = "`+port+`"
			socket_path = "`+s.agentSocket()+`"
			trust_domain = "shop.example"
			trust_bundle_path = "`+bundle+`"
			experimental { sync_interval = "1s" }
		}
		plugins {
			NodeAttestor "join_token" { plugin_data {} }
			KeyManager "memory" { plugin_data {} }
			WorkloadAttestor "unix" { plugin_data { discover_workload_path = true } }
		}`))
	s.await(t, "the agent's health", func() error { _, err := s.try(t, agent, "healthcheck", "-socketPath", s.agentSocket()); return err })
	return s
}

func (s *spire) config(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.folder, name)
	check(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// daemon runs a program until the test ends, or this process dies: its shell reads the end of a pipe then.
func (s *spire) daemon(t *testing.T, name string, command ...string) {
	t.Helper()
	shell := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", append([]string{"-c", `"$@" & read -r _; kill "$!"; wait "$!"`, name}, command...)...)
	var log bytes.Buffer
	shell.Dir, shell.Stdout, shell.Stderr = s.folder, &log, &log
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := shell.StdinPipe()
	check(t, err)
	check(t, shell.Start())
	t.Cleanup(func() {
		force := time.AfterFunc(spireLimit, func() { _ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) })
		defer force.Stop()
		_ = pipe.Close()
		_ = shell.Wait()
		if t.Failed() {
			t.Logf("the %s said:\n%s", name, log.String())
		}
	})
}

func (s *spire) try(t *testing.T, command ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), spireLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(command[1:], " "), err, out)
	}
	return string(out), err
}

// do is a command of the operator.
func (s *spire) do(t *testing.T, command ...string) string {
	t.Helper()
	out, err := s.try(t, append(append([]string{s.server}, command...), "-socketPath", s.serverSocket())...)
	check(t, err)
	return out
}

func (s *spire) await(t *testing.T, what string, ready func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), spireLimit)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-time.After(spirePoll):
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// localAuthority is one command of a rotation: it returns the authority that the command was about.
func (s *spire) localAuthority(t *testing.T, kind, verb, id string) string {
	t.Helper()
	command := []string{"localauthority", kind, verb, "-output", "json"}
	if id != "" {
		command = append(command, "-authorityID", id)
	}
	var answer map[string]struct {
		ID string `json:"authority_id"`
	}
	out := s.do(t, command...)
	check(t, json.Unmarshal([]byte(out), &answer))
	for _, name := range []string{"active", "prepared_authority", "activated_authority", "tainted_authority", "revoked_authority"} {
		if got := answer[name].ID; got != "" {
			return got
		}
	}
	t.Fatalf("%s %s: %s", kind, verb, out)
	return ""
}

// called is how a call of the workload went; testdata/workload tells what each is.
type called struct {
	Error       string   `json:"error"`
	Reason      string   `json:"reason"`
	ID          string   `json:"id"`
	Certificate []byte   `json:"certificate"`
	SignedBy    string   `json:"signed_by"`
	Authorities []string `json:"authorities"`
	Identity    string   `json:"identity"`
	BoundTo     string   `json:"bound_to"`
	Token       string   `json:"token"`
}

// workload is the program of testdata/workload, running.
type workload struct {
	process *exec.Cmd
	stdin   io.Writer
	stdout  *bufio.Scanner
	calls   int
}

func buildWorkload(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "workload")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "./testdata/workload").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func startWorkload(t *testing.T, path, socket, url string) *workload {
	t.Helper()
	process := exec.CommandContext(t.Context(), path, "unix://"+socket, url, writID)
	process.Stderr = t.Output()
	stdin, err := process.StdinPipe()
	check(t, err)
	stdout, err := process.StdoutPipe()
	check(t, err)
	check(t, process.Start())
	t.Cleanup(func() { _ = stdin.Close(); _ = process.Wait() })
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	return &workload{process: process, stdin: stdin, stdout: lines}
}

func (w *workload) call(t *testing.T, kind string) (c called) {
	t.Helper()
	limit := time.AfterFunc(spireLimit, func() { _ = w.process.Process.Kill() })
	defer limit.Stop()
	_, err := io.WriteString(w.stdin, kind+"\n")
	check(t, err)
	if !w.stdout.Scan() {
		t.Fatalf("the workload has ended: %v", w.stdout.Err())
	}
	check(t, json.Unmarshal(w.stdout.Bytes(), &c))
	return c
}

// works makes a call with each kind of SVID, and both must succeed.
func (w *workload) works(t *testing.T, when string) (x509, jwt called) {
	t.Helper()
	x509, jwt = w.call(t, "x509"), w.call(t, "jwt")
	for kind, c := range map[string]called{"x509": x509, "jwt": jwt} {
		if c.Error != "" || c.Identity != `Agent::"support-bot"` || c.ID != botID {
			t.Fatalf("%s: with %s: %+v", when, kind, c)
		}
	}
	w.calls += 2
	return x509, jwt
}

// until calls on until something is so.
func (w *workload) until(t *testing.T, s *spire, what string, so func(x509, jwt called) bool) {
	t.Helper()
	begun := w.calls
	s.await(t, what, func() error {
		x509, jwt := w.works(t, what)
		if !so(x509, jwt) {
			return fmt.Errorf("not so after %d calls: %+v, %+v", w.calls-begun, x509, jwt)
		}
		return nil
	})
	t.Logf("%s: %d calls", what, w.calls-begun)
}

// TestWorkloadsOfARealSPIRE needs spire-server and spire-agent (1.15 or later) on the PATH. Everybody has their SVIDs from there, also Writ.
// Then SPIRE's keys are rotated as its documentation says, and calls go on; what the old keys signed is refused once they are revoked.
func TestWorkloadsOfARealSPIRE(t *testing.T) {
	program := buildWorkload(t)
	server, serverErr := exec.LookPath("spire-server")
	agent, agentErr := exec.LookPath("spire-agent")
	if serverErr != nil || agentErr != nil {
		t.Skip("NOT RUN: spire-server and spire-agent are not on the PATH, so nothing was tried against a real SPIRE")
	}
	s := startSPIRE(t, server, agent, program)
	w := startWorkload(t, program, s.agentSocket(), serveWithSVID(t, s))
	for _, kind := range []string{"x509", "jwt"} { // Writ's two streams open each in its own time
		s.await(t, "the first call with "+kind, func() error {
			if c := w.call(t, kind); c.Error != "" {
				return fmt.Errorf("%+v", c)
			}
			return nil
		})
	}
	x509, jwt := w.works(t, "before")
	sum := sha256.Sum256(x509.Certificate)
	hash := base64.RawURLEncoding.EncodeToString(sum[:])
	if cnf := confirmationOf(t, x509.Token); x509.BoundTo != control.ByCertificate+hash || cnf["x5t#S256"] != hash || len(cnf) != 1 {
		t.Errorf("bound to %s (%v), and the certificate is %s", x509.BoundTo, cnf, hash)
	}
	if cnf := confirmationOf(t, jwt.Token); jwt.BoundTo != "" || cnf != nil {
		t.Errorf("a bearer token's credential is bound to %s (%v)", jwt.BoundTo, cnf)
	}

	oldX509, oldJWT := s.localAuthority(t, "x509", "show", ""), s.localAuthority(t, "jwt", "show", "")
	if x509.SignedBy != oldX509 || jwt.SignedBy != oldJWT {
		t.Fatalf("signed by %s and %s, and SPIRE has %s and %s", x509.SignedBy, jwt.SignedBy, oldX509, oldJWT)
	}
	newX509, newJWT := s.localAuthority(t, "x509", "prepare", ""), s.localAuthority(t, "jwt", "prepare", "")
	w.until(t, s, "new authorities are prepared", func(x509, jwt called) bool {
		return slices.Contains(x509.Authorities, newX509) && slices.Contains(jwt.Authorities, newJWT)
	})
	s.localAuthority(t, "x509", "activate", newX509)
	s.localAuthority(t, "jwt", "activate", newJWT)
	w.works(t, "the new ones sign")
	s.localAuthority(t, "x509", "taint", oldX509)
	s.localAuthority(t, "jwt", "taint", oldJWT)
	w.until(t, s, "the old ones are tainted", func(x509, jwt called) bool { return x509.SignedBy == newX509 && jwt.SignedBy == newJWT })
	for _, kind := range []string{"x509-first", "jwt-first"} {
		if c := w.call(t, kind); c.Error != "" {
			t.Errorf("%s, whose authority is not revoked yet: %+v", kind, c)
		}
	}
	s.localAuthority(t, "x509", "revoke", oldX509)
	s.localAuthority(t, "jwt", "revoke", oldJWT)
	w.until(t, s, "the old ones are revoked", func(x509, jwt called) bool {
		return w.call(t, "x509-first").Reason == "svid_untrusted" && w.call(t, "jwt-first").Reason == "token_unknown_key"
	})
	w.works(t, "at the end")
	t.Logf("%d calls, none refused", w.calls)
}

// serveWithSVID is Writ with nothing but the Workload API: its own certificate and the bundle come from there.
func serveWithSVID(t *testing.T, s *spire) (url string) {
	t.Helper()
	idp, err := devidp.Start(time.Now)
	check(t, err)
	t.Cleanup(func() { check(t, idp.Close()) })
	config := initialized(t, idp.URL())
	known := []byte("match: [{issuer: " + idp.URL() + ", subject: support-bot}]")
	path := filepath.Join(config.Site, "catalog", "agents.yaml")
	text, err := os.ReadFile(path)
	check(t, err)
	if !bytes.Contains(text, known) {
		t.Fatalf("the starter's agents are\n%s", text)
	}
	check(t, os.WriteFile(path, bytes.Replace(text, known, []byte("match: [{issuer: spiffe://shop.example, subject: "+botID+"}]"), 1), 0o600))
	config.TLS = TLS{SVID: true}
	config.SPIFFE = SPIFFE{Audience: "writ", WorkloadAPI: "unix://" + s.agentSocket()}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	config.URL = "https://" + listener.Addr().String()
	check(t, config.Check())
	a, err := New(t.Context(), config, Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	check(t, err)
	_, err = a.Control.PushFacts(t.Context(), control.Caller{Identity: access.MustRef(`Workload::"order-system"`)}, time.Time{}, []control.Told{
		{Entity: access.Entity{ID: access.MustRef(`Order::"o-1"`), Attributes: []byte(`{"status":"delivered","total":120}`)}},
	})
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, listener) }()
	t.Cleanup(func() { stop(); check(t, <-done); check(t, a.Close()) })
	return config.URL
}

// confirmationOf is what a token says that it is bound to (RFC 7800).
func confirmationOf(t *testing.T, token string) map[string]string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	check(t, err)
	var claims struct {
		Confirmation map[string]string `json:"cnf"`
	}
	check(t, json.Unmarshal(raw, &claims))
	return claims.Confirmation
}
