package witness_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/witness"
)

const origin = "writ.example/log"

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// must unwraps a result that cannot fail in an honest test.
func must[T any](value T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return value
	}
}

// testLog is a log that can lie: two of one name with other words have the same key and another history.
type testLog struct {
	tb     testing.TB
	signer *evidence.Signer
	vkey   string
	words  string
	mu     sync.Mutex
	tree   *evidence.Tree
	tiles  tiles
	roots  []evidence.Hash // by size
}

type tiles map[string][]byte

func (t tiles) ReadTile(level int, index int64) ([]byte, error) {
	data, found := t[evidence.TilePath(level, index, evidence.TileWidth)]
	if !found {
		return nil, errors.New("no such tile")
	}
	return data, nil
}

func newLog(tb testing.TB, name, words string) *testLog {
	tb.Helper()
	seed := sha256.Sum256([]byte(name))
	skey, vkey, err := evidence.GenerateKey(name, bytes.NewReader(seed[:]))
	if err != nil {
		tb.Fatal(err)
	}
	l := &testLog{tb: tb, signer: must(evidence.NewSigner(skey))(tb), vkey: vkey, words: words, tree: evidence.NewTree(), tiles: tiles{}}
	l.roots = append(l.roots, l.tree.Root())
	return l
}

// grow makes the log at least so large.
func (l *testLog) grow(size int64) *testLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.tree.Size() < size {
		for _, tile := range l.tree.Append(evidence.LeafHash(fmt.Appendf(nil, "%s %d", l.words, l.tree.Size()))) {
			l.tiles[evidence.TilePath(tile.Level, tile.Index, evidence.TileWidth)] = tile.Data
		}
		l.roots = append(l.roots, l.tree.Root())
	}
	return l
}

// head is the signed checkpoint at a size.
func (l *testLog) head(size int64) []byte {
	l.tb.Helper()
	l.grow(size)
	return must(l.checkpoint(size).Sign(l.signer))(l.tb)
}

func (l *testLog) checkpoint(size int64) evidence.Checkpoint {
	l.grow(size)
	return evidence.Checkpoint{Origin: l.signer.Origin(), Size: size, Root: l.roots[size]}
}

func (l *testLog) prove(_ context.Context, older, newer int64) ([]evidence.Hash, error) {
	l.grow(newer)
	l.mu.Lock()
	defer l.mu.Unlock()
	return evidence.ProveConsistency(l.tree, l.tiles, older, newer)
}

// body is an honest request.
func (l *testLog) body(older, newer int64) string {
	l.tb.Helper()
	return body(older, must(l.prove(l.tb.Context(), older, newer))(l.tb), l.head(newer))
}

func body(old int64, proof []evidence.Hash, signed []byte) string {
	text := fmt.Sprintf("old %d\n", old)
	for _, h := range proof {
		text += h.String() + "\n"
	}
	return text + "\n" + string(signed)
}

// testWitness is a witness that is served, with its folder.
type testWitness struct {
	*witness.Witness

	tb     testing.TB
	folder string
	key    string
	url    string
	now    time.Time
}

// newFolder makes the folder of a witness.
func newFolder(tb testing.TB, name string, logKeys ...string) (folder, key string) {
	tb.Helper()
	folder = filepath.Join(tb.TempDir(), "witness")
	return folder, must(witness.Init(folder, name, logKeys, rand.Reader))(tb)
}

func newWitness(tb testing.TB, logKeys ...string) *testWitness {
	tb.Helper()
	return newNamedWitness(tb, "w.example/1", logKeys...)
}

func newNamedWitness(tb testing.TB, name string, logKeys ...string) *testWitness {
	tb.Helper()
	folder, key := newFolder(tb, name, logKeys...)
	w := &testWitness{tb: tb, folder: folder, key: key, now: noon()}
	w.open()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.ServeHTTP(rw, r) }))
	tb.Cleanup(func() { server.Close(); _ = w.Close() })
	w.url = server.URL
	return w
}

func (w *testWitness) open() {
	w.tb.Helper()
	config, cosigner, err := witness.Load(w.folder)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.Witness = must(witness.Open(witness.Options{
		Folder: w.folder, Cosigner: cosigner, LogKeys: config.Logs, Now: func() time.Time { return w.now },
	}))(w.tb)
}

// restart is a crash and a start: what is in memory is gone.
func (w *testWitness) restart() {
	w.tb.Helper()
	if err := w.Close(); err != nil {
		w.tb.Fatal(err)
	}
	w.open()
}

type response struct {
	status  int
	content string
	body    string
}

func send(tb testing.TB, method, url, body string) response {
	tb.Helper()
	req := must(http.NewRequestWithContext(tb.Context(), method, url, strings.NewReader(body)))(tb)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	return response{resp.StatusCode, resp.Header.Get("Content-Type"), string(must(io.ReadAll(resp.Body))(tb))}
}

func (w *testWitness) add(body string) response {
	w.tb.Helper()
	return send(w.tb, http.MethodPost, w.url+"/add-checkpoint", body)
}

// mustAdd gets a checkpoint cosigned.
func (w *testWitness) mustAdd(l *testLog, older, newer int64) {
	w.tb.Helper()
	r := w.add(l.body(older, newer))
	if r.status != http.StatusOK {
		w.tb.Fatalf("from %d to %d: %d %s", older, newer, r.status, r.body)
	}
	merged := must(evidence.MergeCosignatures(l.head(newer), []byte(r.body), w.key))(w.tb)
	if _, _, err := must(evidence.NewCosignaturePolicy(1, w.key))(w.tb).Check(merged, l.vkey); err != nil {
		w.tb.Fatal(err)
	}
}

// monitor reads the monitoring interface.
func (w *testWitness) monitor(name string) response {
	w.tb.Helper()
	return send(w.tb, http.MethodGet, fmt.Sprintf("%s/%x/checkpoint", w.url, sha256.Sum256([]byte(name))), "")
}

func (w *testWitness) state() string {
	w.tb.Helper()
	return string(must(os.ReadFile(filepath.Join(w.folder, "witness.state")))(w.tb))
}
