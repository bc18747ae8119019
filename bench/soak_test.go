package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestASoakKeepsEveryPromise soaks both databases for some seconds, with a graceful restart and others by kill -9.
func TestASoakKeepsEveryPromise(t *testing.T) {
	out := filepath.Join(t.TempDir(), "soak.json")
	s, err := read([]string{"-soak", "4s", "-restarts", "3", "-identities", "80", "-out", out}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if err := bench(t.Context(), s, &printed, io.Discard); err != nil {
		t.Fatalf("%v\n%s", err, &printed)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var result soakReport
	if err := json.Unmarshal(content, &result); err != nil {
		t.Fatal(err)
	}
	if !result.Kept || len(result.Databases) != 2 {
		t.Fatalf("kept %v, %d databases", result.Kept, len(result.Databases))
	}
	for _, d := range result.Databases {
		if d.Graceful != 1 || d.Killed != 1 || len(d.Samples) != soakSamples || d.Checkpoints < soakSamples || d.Looked == 0 || d.Verified < 300 {
			t.Errorf("%s: %d graceful, %d killed, %d samples, %d checkpoints, %d looked for, %d entries",
				d.Database, d.Graceful, d.Killed, len(d.Samples), d.Checkpoints, d.Looked, d.Verified)
		}
		for _, kind := range []string{"request", "open", "complete", "revoke", "heartbeat", "facts", "read proof"} {
			if d.Calls[kind] == 0 {
				t.Errorf("%s: no %s", d.Database, kind)
			}
		}
		if d.Dead["expired"] == 0 || d.Dead["revoked"] == 0 || d.Dead["completed"] == 0 {
			t.Errorf("%s: seen dead %v", d.Database, d.Dead)
		}
		last := d.Samples[soakSamples-1]
		if last.RSS <= 0 || last.Database <= 0 || last.WAL <= 0 || last.Files <= 0 || last.Entries <= d.Samples[0].Entries {
			t.Errorf("%s: the last sample is %+v", d.Database, last)
		}
	}
	for _, want := range []string{"memory MiB", "p99 ms", "█", "WAL, highest"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("the table does not show %q:\n%s", want, &printed)
		}
	}
}

// TestASoakNamesABrokenPromise has servers that forget, or let live what is dead.
func TestASoakNamesABrokenPromise(t *testing.T) {
	const lost, elsewhere = "lost", "elsewhere"
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/decisions/"+lost, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"code":"not_found","status":404}`)
	})
	mux.HandleFunc("GET /v1/decisions/"+elsewhere, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":"elsewhere","evidence":{"index":8}}`)
	})
	mux.HandleFunc("GET /v1/evidence/7", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"elsewhere"}`) })
	mux.HandleFunc("GET /v1/evidence/7/proof", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "no proof") })
	mux.HandleFunc("GET /v1/grants/g", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"live":true}`) })
	server := httptest.NewServer(mux)
	defer server.Close()
	s := &soaker{address: server.Listener.Addr().String(), latency: &histogram{}, counts: map[string]int64{}}
	w, err := s.newWorker(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		got  error
		want string
	}{
		{w.found(t.Context(), acked{lost, 7}), "acknowledged decision lost at 7: not_found"},
		{w.found(t.Context(), acked{elsewhere, 7}), "is not at 7"},
		{w.alive(t.Context(), "g", false, "revoked"), "grant g (revoked): alive must be false"},
	} {
		if c.got == nil || !strings.Contains(c.got.Error(), c.want) {
			t.Errorf("got %v, want %q", c.got, c.want)
		}
	}
	server.Close()
	if err := w.alive(t.Context(), "g", false, "revoked"); err == nil || errors.Is(err, errInterrupted) {
		t.Errorf("a server that is gone, while none is restarted: %v", err)
	}
	s.epoch.Store(1)
	if err := w.alive(t.Context(), "g", false, "revoked"); !errors.Is(err, errInterrupted) {
		t.Errorf("a server that is gone, while it is restarted: %v", err)
	}
}

// TestASoakTellsWhatGrows has one figure after the other grow.
func TestASoakTellsWhatGrows(t *testing.T) {
	const times = 3 // from the second quarter to the last
	for name, grow := range map[string]func(*sample){
		"":                   func(*sample) {},
		"memory":             func(s *sample) { s.RSS *= times },
		"WAL":                func(s *sample) { s.WAL *= times },
		"database bytes":     func(s *sample) { s.Database *= times },
		"database bytes an ": func(s *sample) { s.Database /= times },
		"p50":                func(s *sample) { s.P50 *= times },
		"p99":                func(s *sample) { s.P99 *= times },
	} {
		var r soakResult
		for i := range soakSamples {
			s := sample{Seconds: time.Duration(i).Seconds(), RSS: 40, Database: 2000 * float64(i+1), WAL: 4e6, Entries: float64(i + 1), P50: 1, P99: 4, Lives: 1 + i/30}
			if i >= 3*soakSamples/4 {
				grow(&s)
			}
			r.Samples = append(r.Samples, s)
		}
		r.judge()
		if len(r.Goals) != 5 || len(r.Growth) != 2 {
			t.Fatalf("%d goals, %d lives", len(r.Goals), len(r.Growth))
		}
		for _, g := range r.Goals {
			if want := name == "" || !strings.HasPrefix(g.What, name); g.Met != want {
				t.Errorf("%q grew: %s is %v (%.2f)", name, g.What, g.Met, g.Got)
			}
		}
	}
	if got := sparkline([]float64{0, 50, 100}); got != "▁▅█" {
		t.Errorf("got %s", got)
	}
	if got := sparkline([]float64{100, 100.1}); got != "▁▁" {
		t.Errorf("noise is drawn as %s", got)
	}
}
