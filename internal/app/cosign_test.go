package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/pgtest"
	"github.com/writ-project/writ/internal/store"
	"github.com/writ-project/writ/internal/witness"
)

// witnessed adds a real witness to the configuration, and returns its verifier key.
func witnessed(t *testing.T, config *Config) string {
	t.Helper()
	public, err := os.ReadFile(config.Log.VerifierKey)
	check(t, err)
	folder := t.TempDir()
	_, err = witness.Init(folder, "witness.example/w", []string{strings.TrimSpace(string(public))}, rand.Reader)
	check(t, err)
	loaded, cosigner, err := witness.Load(folder)
	check(t, err)
	w, err := witness.Open(witness.Options{Folder: folder, Cosigner: cosigner, LogKeys: loaded.Logs, Now: time.Now})
	check(t, err)
	server := httptest.NewServer(w)
	t.Cleanup(func() { server.Close(); check(t, w.Close()) })
	config.Witnesses = Witnesses{Ask: []Witness{{URL: server.URL, Key: cosigner.VerifierKey()}}}
	return cosigner.VerifierKey()
}

func openTask(t *testing.T, a *App, purpose string) {
	t.Helper()
	agent := control.Caller{Identity: access.MustRef(`Agent::"support-bot"`)}
	_, err := a.Control.OpenTask(t.Context(), agent, control.Opening{Type: "support", Purpose: purpose})
	check(t, err)
}

// A thief who has the server's database and key, and rewrites all of history so that it verifies by itself, is betrayed
// by one checkpoint that a witness has cosigned, and is refused by the host and by the witness.
func TestI1_AThiefWithDatabaseAndKeyCannotRewriteWhatAWitnessSaw(t *testing.T) {
	config := initialized(t, "http://127.0.0.1:1")
	witnessKey := witnessed(t, &config)
	a, err := New(t.Context(), config, Options{})
	check(t, err)
	openTask(t, a, "what really happened")
	cosigned, err := newCosigned(config.Witnesses, a.store, keyOf(t, config), a.log)
	check(t, err)
	check(t, cosigned.ask(t.Context()))
	signed := cosigned.Checkpoint()
	check(t, a.Close())
	policy, err := evidence.NewCosignaturePolicy(1, witnessKey)
	check(t, err)
	kept, by, err := policy.Check(signed, keyOf(t, config))
	check(t, err)
	if len(by) != 1 || kept.Size < 3 {
		t.Fatalf("cosigned by %v: %+v", by, kept)
	}
	verify := func(kept ...evidence.Checkpoint) *store.Verified {
		t.Helper()
		got, err := store.Verify(t.Context(), config.database(), keyOf(t, config), store.VerifyOptions{Scratch: t.TempDir(), Kept: kept})
		check(t, err)
		return got
	}
	if got := verify(kept); !got.OK() {
		t.Fatal("before the theft:", got.Findings)
	}

	// The thief makes another history under the same key, in the place of the first.
	stolen := config
	stolen.Data, stolen.Witnesses = t.TempDir(), Witnesses{}
	thief, err := New(t.Context(), stolen, Options{})
	check(t, err)
	for range 2 {
		openTask(t, thief, "what the thief would like to have happened")
	}
	check(t, thief.Close())
	check(t, os.Rename(stolen.database(), config.database()))
	_ = os.Remove(config.database() + "-wal")
	_ = os.Remove(config.database() + "-shm")

	if got := verify(); !got.OK() {
		t.Error("the thief's history does not even verify by itself, so this test shows nothing:", got.Findings)
	}
	got := verify(kept)
	if got.OK() || !strings.Contains(got.Findings[len(got.Findings)-1].Detail, "a checkpoint was signed for") {
		t.Error("with the cosigned checkpoint:", got.Findings)
	}
	if _, err := New(t.Context(), config, Options{}); !errors.Is(err, store.ErrRolledBack) {
		t.Error("the host that acknowledged the first history:", err)
	}
	check(t, os.Remove(filepath.Join(config.Data, AcknowledgedFile)))
	if _, err := New(t.Context(), config, Options{}); !errors.Is(err, witness.ErrInconsistent) && !errors.Is(err, witness.ErrSawNewer) {
		t.Error("the witness:", err)
	}
}

// A witness that claims to have seen more, and does not show it, stops nothing; the log says so, and its cosignature is missing.
func TestAWitnessIsNotTakenAtItsWord(t *testing.T) {
	config := initialized(t, "http://127.0.0.1:1")
	witnessed(t, &config)
	liar := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(rw, "1000000\n")
	}))
	defer liar.Close()
	config.Witnesses.Ask[0].URL = liar.URL
	var said bytes.Buffer
	a, err := New(t.Context(), config, Options{Log: slog.New(slog.NewJSONHandler(&said, nil))})
	check(t, err)
	check(t, a.Close()) // which ends what logs
	if !strings.Contains(said.String(), notCosigned) || !strings.Contains(said.String(), "does not prove it") {
		t.Errorf("the log says %s", &said)
	}
	cosigned, err := newCosigned(config.Witnesses, a.store, keyOf(t, config), a.log)
	check(t, err)
	if err := cosigned.ask(t.Context()); !errors.Is(err, witness.ErrUnproven) || !errors.Is(err, evidence.ErrUnwitnessed) || alarming(err) {
		t.Error(err)
	}
}

// A process that starts while another one has later entries cosigned has not lost anything.
func TestAProcessThatStartsIsNotBehindForLong(t *testing.T) {
	server, err := pgtest.Start(t.Context())
	check(t, err)
	defer func() { check(t, server.Stop()) }()
	config := initialized(t, "http://127.0.0.1:1")
	config.Database, err = server.Database(t.Context())
	check(t, err)
	unwitnessed := config
	witnessed(t, &config)
	first, err := New(t.Context(), unwitnessed, Options{})
	check(t, err)
	defer func() { check(t, first.Close()) }()
	ahead, err := newCosigned(config.Witnesses, first.store, keyOf(t, config), first.log)
	check(t, err)
	between := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if between++; between == 1 {
			openTask(t, first, "what the other process has recorded meanwhile")
			check(t, ahead.ask(t.Context()))
		}
		at, err := url.Parse(config.Witnesses.Ask[0].URL)
		check(t, err)
		httputil.NewSingleHostReverseProxy(at).ServeHTTP(rw, r)
	}))
	defer proxy.Close()
	second := config
	second.Data = t.TempDir()
	second.Witnesses.Ask = []Witness{{URL: proxy.URL, Key: config.Witnesses.Ask[0].Key}}
	a, err := New(t.Context(), second, Options{})
	check(t, err)
	check(t, a.Close())
	if between < 2 { // refused, proven
		t.Errorf("the witness was asked %d times", between)
	}
}

func keyOf(t *testing.T, config Config) string {
	t.Helper()
	public, err := os.ReadFile(config.Log.VerifierKey)
	check(t, err)
	return strings.TrimSpace(string(public))
}

// What is published is what enough witnesses have cosigned, and proofs stand under it; a new process begins with it.
func TestThePublishedCheckpointIsCosigned(t *testing.T) {
	config := initialized(t, "http://127.0.0.1:1")
	witnessKey := witnessed(t, &config)
	a, err := New(t.Context(), config, Options{})
	check(t, err)
	defer func() { check(t, a.Close()) }()
	key := keyOf(t, config)
	log, err := newCosigned(config.Witnesses, a.store, key, a.log)
	check(t, err)
	check(t, log.ask(t.Context()))
	openTask(t, a, "not cosigned yet")
	policy, err := evidence.NewCosignaturePolicy(1, witnessKey)
	check(t, err)
	published, _, err := policy.Check(log.Checkpoint(), key)
	check(t, err)
	if published.Size >= a.store.Size() {
		t.Errorf("size %d is published, the log has %d", published.Size, a.store.Size())
	}
	for index := range a.store.Size() {
		proof, err := log.Proof(t.Context(), index)
		check(t, err)
		raw, err := log.Entry(t.Context(), index)
		check(t, err)
		if _, err := evidence.VerifyInclusion(proof, raw, key); err != nil {
			t.Error(index, err)
		}
		if _, _, err := policy.Check(proof.Checkpoint, key); err == nil != (index < published.Size) {
			t.Errorf("entry %d of %d is proven under a cosigned checkpoint: %v", index, published.Size, err)
		}
	}
	again, err := newCosigned(config.Witnesses, a.store, key, a.log)
	check(t, err)
	check(t, again.recall(context.Background()))
	if now, _, err := policy.Check(again.Checkpoint(), key); err != nil || now.Size < published.Size {
		t.Error("another process publishes", now, err)
	}
}

// What is kept as cosigned has no authority over a log that does not hold it.
func TestACosignedCheckpointThatTheLogDoesNotHoldIsNotPublished(t *testing.T) {
	config := initialized(t, "http://127.0.0.1:1")
	unwitnessed := config
	witnessed(t, &config)
	older := filepath.Join(t.TempDir(), "older.db")
	a, err := New(t.Context(), unwitnessed, Options{})
	check(t, err)
	_, err = store.Backup(t.Context(), config.Place(), keyOf(t, config), older, nil)
	check(t, err)
	openTask(t, a, "after the backup")
	log, err := newCosigned(config.Witnesses, a.store, keyOf(t, config), a.log)
	check(t, err)
	check(t, log.ask(t.Context()))
	lost := log.Checkpoint()
	check(t, a.Close())

	unwitnessed.Data = t.TempDir()
	_, err = store.Restore(t.Context(), older, keyOf(t, config), unwitnessed.Place(), nil)
	check(t, err)
	b, err := New(t.Context(), unwitnessed, Options{})
	check(t, err)
	defer func() { check(t, b.Close()) }()
	openTask(t, b, "another history of the same length")
	check(t, b.store.KeepCosigned(t.Context(), lost))
	log, err = newCosigned(config.Witnesses, b.store, keyOf(t, config), b.log)
	check(t, err)
	check(t, log.recall(t.Context()))
	if log.latest.Load() != nil {
		t.Errorf("published is\n%s", log.Checkpoint())
	}
}
