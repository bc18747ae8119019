package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test be its own servers, as the program is.
func TestMain(m *testing.M) {
	if ran, err := child(); ran {
		exit(err)
	}
	os.Exit(m.Run())
}

func small(t *testing.T, args ...string) settings {
	t.Helper()
	args = append([]string{"-duration", "300ms", "-repeats", "1", "-connections", "1,4", "-identities", "50", "-out", filepath.Join(t.TempDir(), "bench.json")}, args...)
	s, err := read(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestARunHasEveryFigure measures a little of everything on real servers.
func TestARunHasEveryFigure(t *testing.T) {
	s := small(t, "-entries", "2000")
	s.largeConnections = s.largeConnections[1:]
	var printed bytes.Buffer
	if err := bench(t.Context(), s, &printed, io.Discard); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(s.out)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	var result report
	if err := json.Unmarshal(content, &tree); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &result); err != nil {
		t.Fatal(err)
	}
	missing(t, "", tree)
	if len(result.Cells) != 4 || len(result.Flushes) != 4 || len(result.Large) != 2 || !result.Valid {
		t.Fatalf("cells %d, flushes %d, large %d", len(result.Cells), len(result.Flushes), len(result.Large))
	}
	for _, l := range result.Large {
		if l.Entries != 2000 || len(l.Cells) != 1 {
			t.Errorf("the large log of %s had %d entries and %d cells", l.Database, l.Entries, len(l.Cells))
		}
	}
	for _, c := range result.Cells {
		got := c.Repeats[0]
		if got.Cold.Requests != 50 || got.Cold.Outcomes["allow"] != 48 || got.Cold.Outcomes["needs_approval"] != 1 || got.Cold.Outcomes["deny"] != 1 {
			t.Errorf("the cold pass of %s had %d requests: %v", c.Database, got.Cold.Requests, got.Cold.Outcomes)
		}
		if (got.Warm.Postgres > 0) != (c.Database == postgres) {
			t.Errorf("PostgreSQL used %v µs of %s's request", got.Warm.Postgres, c.Database)
		}
	}
	for _, f := range result.Flushes {
		if alone := f.Connections == 1; alone && (f.PerRequest < 0.9 || f.PerRequest > 1.5) {
			t.Errorf("alone a request of %s had %.2f flushes", f.Database, f.PerRequest)
		}
	}
	for _, want := range []string{"warm", "bare", "Flushes", "evidence.Verifier alone", "Goals"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("the table does not show %q:\n%s", want, &printed)
		}
	}
}

// TestCallersStandBesideEachOther measures a little of every kind of callers on real servers, which take each proof once and no
// certificate but their trust domain's.
func TestCallersStandBesideEachOther(t *testing.T) {
	s := small(t, "-databases", "sqlite", "-connections", "4", "-flushes=false", "-callers", "plain,dpop,tls,mtls")
	var printed bytes.Buffer
	if err := bench(t.Context(), s, &printed, io.Discard); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(s.out)
	if err != nil {
		t.Fatal(err)
	}
	var result report
	if err := json.Unmarshal(content, &result); err != nil {
		t.Fatal(err)
	}
	if len(result.Cells) != 4 || len(result.Callers) != 3 || len(result.Goals) != 0 {
		t.Fatalf("cells %d, compared %d, goals %v", len(result.Cells), len(result.Callers), result.Goals)
	}
	handshakes := map[callers]int64{dpop: 0, byToken: 4, mtls: 50} // one for each connection, and with SVIDs one for each identity
	for _, c := range result.Callers {
		if c.Rate.Median <= 0 || c.BareRate.Median <= 0 || c.Handshakes != handshakes[c.Callers] || (c.Proving.Median > 0) != (c.Callers == dpop) {
			t.Errorf("%+v", c)
		}
		if !strings.Contains(printed.String(), string(c.Callers)) {
			t.Errorf("the table does not show %s:\n%s", c.Callers, &printed)
		}
	}
	for _, c := range result.Cells {
		if got := c.Repeats[0].Cold; got.Requests != 50 || got.LateProofs != 0 {
			t.Errorf("the cold pass of %s callers had %d requests, and made %d proofs", c.Callers, got.Requests, got.LateProofs)
		}
	}
}

// TestProofsThatAreUsedUpAreMadeAnew has more requests than proofs.
func TestProofsThatAreUsedUpAreMadeAnew(t *testing.T) {
	i := &installation{tokens: []string{"token"}, proof: &proof{}}
	if err := i.proof.addKey(); err != nil {
		t.Fatal(err)
	}
	var r prepared
	shown, err := i.shown(0, dpop, http.MethodPost, "http://x/v1/requests", &r)
	if err != nil {
		t.Fatal(err)
	}
	r.raw, _ = request("x", shown, []byte(`{}`), false)
	r.proofs.place(r.raw)
	if _, err := makeProofs([]prepared{r}, 1); err != nil {
		t.Fatal(err)
	}
	seen, late := map[string]bool{string(r.raw): true}, int64(0)
	for range 4 {
		one, err := r.proofs.put(r.raw)
		if err != nil {
			t.Fatal(err)
		}
		late += one
		if seen[string(r.raw)] {
			t.Error("a proof is sent twice")
		}
		seen[string(r.raw)] = true
		read, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.raw)))
		if err != nil || strings.Count(read.Header.Get("DPoP"), ".") != 2 || read.ContentLength != 2 {
			t.Errorf("%v: %s", err, r.raw)
		}
	}
	if want := int64(4 - len(r.proofs.made)); late != want {
		t.Errorf("%d were made late, want %d", late, want)
	}
}

// TestCredentialsThatAreNotBoundFailARun has a server that does not look at proofs.
func TestCredentialsThatAreNotBoundFailARun(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"identity":"a"}`) }))
	defer server.Close()
	i := &installation{tokens: []string{"token"}, proof: &proof{}}
	if err := i.proof.addKey(); err != nil {
		t.Fatal(err)
	}
	at := &process{target: target{address: server.Listener.Addr().String()}}
	if err := i.checkBound(t.Context(), at, dpop); err == nil || !strings.Contains(err.Error(), "bound to \""+i.proof.ids[0]) {
		t.Errorf("got %v", err)
	}
	if err := i.checkBound(t.Context(), at, plain); err != nil {
		t.Error(err)
	}
}

// missing names every figure that is not there.
func missing(t *testing.T, path string, value any) {
	t.Helper()
	mayBeZero := []string{"postgres_cpu_us", "metrics", "notes", "met", "idempotency_keys", "cold/cpu_us"}
	if slices.ContainsFunc(mayBeZero, func(name string) bool { return strings.Contains(path, name) }) {
		return
	}
	switch value := value.(type) {
	case map[string]any:
		if len(value) == 0 {
			t.Errorf("%s is empty", path)
		}
		for _, key := range slices.Sorted(maps.Keys(value)) {
			missing(t, path+"/"+key, value[key])
		}
	case []any:
		if len(value) == 0 {
			t.Errorf("%s is empty", path)
		}
		for i, item := range value {
			missing(t, fmt.Sprintf("%s/%d", path, i), item)
		}
	case float64:
		if value <= 0 {
			t.Errorf("%s is %v", path, value)
		}
	case nil, bool, string:
		if value == nil || value == "" || value == false {
			t.Errorf("%s is %v", path, value)
		}
	}
}

// TestLimitsThatBindFailARun has a server that answers too much with a refusal.
func TestLimitsThatBindFailARun(t *testing.T) {
	s := small(t, "-databases", "sqlite", "-flushes=false", "-duration", "2s")
	s.perIdentity = 5 // enough for setting up
	err := bench(t.Context(), s, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "not as expected") || !strings.Contains(err.Error(), "limit_exceeded") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(s.out); err == nil {
		t.Error("a run that is not valid has a result")
	}
}

func TestAWrongAnswerEndsAPass(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"right":           {"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"outcome\":\"allow\"}", ""},
		"another outcome": {"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"outcome\":\"deny\"}", "not as expected"},
		"another status":  {"HTTP/1.1 500 No\r\nContent-Length: 19\r\n\r\n{\"outcome\":\"allow\"}", "not as expected"},
		"cut short":       {"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"outcome\":\"allow\"}", "too early"},
		"too long":        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"outcome\":\"allow\"}", "longer"},
		"without length":  {"HTTP/1.1 200 OK\r\n\r\n{\"outcome\":\"allow\"}", "with a length"},
		"no HTTP":         {"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			address := answering(t, c.answer)
			raw, _ := request(address, "", []byte(`{}`), false)
			got, err := drive(t.Context(), target{address: address}, []prepared{{raw: raw, status: 200, must: []byte(`"outcome":"allow"`), outcome: "allow"}}, pass{connections: 2})
			switch {
			case c.want == "" && (err != nil || got.requests != 1 || got.outcomes["allow"] != 1 || got.latency.total != 1):
				t.Errorf("got %+v, %v", got, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// answering is the address of a server that gives one answer on each connection and closes it.
func answering(t *testing.T, answer string) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				if _, err := conn.Read(make([]byte, 4096)); err == nil {
					_, _ = conn.Write([]byte(answer))
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// TestALogThatDidNotGrowFailsARun has a server that acknowledges what it does not record.
func TestALogThatDidNotGrowFailsARun(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /log/checkpoint", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "origin\n7\nroot\n") })
	mux.HandleFunc("POST /v1/requests", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"outcome":"allow"}`) })
	server := httptest.NewServer(mux)
	defer server.Close()
	own, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	address := server.Listener.Addr().String()
	raw, _ := request(address, "", []byte(`{}`), false)
	r := &run{installation: &installation{}}
	requests := []prepared{{raw: raw, status: 200, must: []byte("allow"), outcome: "allow"}}
	_, err = r.pass(t.Context(), &process{cmd: &exec.Cmd{Process: own}, target: target{address: address}}, sqlite, requests, pass{connections: 1})
	if err == nil || !strings.Contains(err.Error(), "1 decisions were acknowledged, but the log grew by 0 entries") {
		t.Errorf("got %v", err)
	}
}

func TestQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h, other histogram
	var all []time.Duration
	for i := range 10_000 {
		d := time.Duration(random.Int64N(1 << random.IntN(36)))
		all = append(all, d)
		[]*histogram{&h, &other}[i%2].record(d)
	}
	h.add(&other)
	slices.Sort(all)
	for _, q := range []float64{0.001, 0.5, 0.99, 1} {
		want := all[int(q*float64(len(all))+0.5)-1]
		if got := h.quantile(q); got < want || float64(got) > float64(want)*1.016+1 {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if h.max != all[len(all)-1] || h.total != int64(len(all)) {
		t.Errorf("max %d of %d", h.max, h.total)
	}
}

func TestFlushesAreCountedOnceAndInTime(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	lines := `10 99.9 fsync(7) = 0
10 100.1 fsync(7) = 0
11 100.2 fdatasync(8 <unfinished ...>
12 100.3 fdatasync(9) = 0
11 100.4 <... fdatasync resumed>) = 0
10 100.5 +++ exited with 0 +++
12 200.1 fsync(7) = 0
`
	if err := os.WriteFile(trace, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := flushesIn(trace, time.Unix(100, 0), time.Unix(200, 0))
	if err != nil || !maps.Equal(got, map[string]int{"fsync": 1, "fdatasync": 2}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := flushesIn(trace, time.Unix(300, 0), time.Unix(400, 0)); err == nil {
		t.Error("a trace without flushes is believed")
	}
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	for _, args := range []string{
		"-databases mysql", "-databases sqlite,", "-connections 0", "-connections 1,x", "-duration 0s", "-repeats 0", "-identities 49", "-entries -1", "-unknown",
		"-soak -1s", "-soak 7h", "-rate 0", "-restarts -1", "-restarts 31", "-soak 1m -identities 79",
		"-callers plain,basic", "-callers plain,plain", "-callers dpop -duration 21s", "-callers mtls -connections 64 -identities 50",
	} {
		if _, err := read(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
}
