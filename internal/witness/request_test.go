package witness

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
)

// After a flush of the folder has failed, nobody knows what is on the disk, and nothing is cosigned.
func TestABrokenMemoryCosignsNothing(t *testing.T) {
	folder := t.TempDir() + "/w"
	if _, err := Init(folder, "w.example/1", nil, bytes.NewReader(make([]byte, 32))); err != nil {
		t.Fatal(err)
	}
	cosigner, err := loadKey(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Folder: folder, Cosigner: cosigner, LogKeys: []string{"x"}}); !errors.Is(err, evidence.ErrKey) {
		t.Errorf("a log without a key: %v", err)
	}
	w, err := Open(Options{Folder: folder, Cosigner: cosigner})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	w.memory.broken = ErrMemory
	called := false
	err = w.memory.advance("writ.example/log", func(known record) (record, error) { called = true; return known, nil })
	if !errors.Is(err, ErrMemory) || called {
		t.Errorf("it goes on: %v", err)
	}
	health := httptest.NewRecorder()
	w.ServeHTTP(health, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", nil))
	if health.Code != http.StatusServiceUnavailable {
		t.Errorf("it says that it is well: %d", health.Code)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("old 0\n\nwrit.example/log\n1\nAAAA\n\n— x AAAA\n"))
	f.Add(request{old: 7, proof: make([]evidence.Hash, 3), signed: []byte("x\n")}.body())
	f.Add([]byte("old 07\n\n\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRequest(body)
		if err == nil && !bytes.Equal(r.body(), body) {
			t.Errorf("%q is read, but would be written as %q", body, r.body())
		}
		if err == nil && (r.old < 0 || len(r.proof) > maxProof || len(r.signed) == 0) {
			t.Errorf("%q is read as %+v", body, r)
		}
	})
}

// FuzzMemory: whatever stands in the state file, what is taken from it was cosigned by this witness.
func FuzzMemory(f *testing.F) {
	secret, key, err := evidence.GenerateWitnessKey("w.example/1", bytes.NewReader(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	cosigner, err := evidence.NewCosigner(secret)
	if err != nil {
		f.Fatal(err)
	}
	c := evidence.Checkpoint{Origin: "writ.example/log", Size: 3}
	line, err := cosigner.Cosign(c, time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	folder := f.TempDir()
	m := &memory{folder: folder, key: key}
	note := []byte("writ.example/log\n3\n" + c.Root.String() + "\n\n" + string(line))
	for _, records := range []map[string]record{nil, {c.Origin: {checkpoint: c, note: note}}} {
		if err := m.save(records); err != nil {
			f.Fatal(err)
		}
		state, err := os.ReadFile(filepath.Join(folder, stateFile))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(state)
	}
	f.Fuzz(func(t *testing.T, state []byte) {
		read := &memory{folder: t.TempDir(), key: key}
		if err := os.WriteFile(filepath.Join(read.folder, stateFile), state, 0o600); err != nil {
			t.Fatal(err)
		}
		if read.load() != nil {
			return
		}
		for origin, r := range read.records {
			if origin != c.Origin || r.checkpoint != c {
				t.Errorf("%q is taken for %+v", state, r)
			}
		}
	})
}
