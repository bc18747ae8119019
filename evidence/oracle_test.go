package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
)

const origin = "writ.example/log"

// noon is when every test log begins.
func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// The functions rfc… are RFC 6962, section 2.1, word for word: slow, and sharing nothing with the package.

func rfcRoot(leaves []evidence.Hash) evidence.Hash {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := rfcSplit(len(leaves))
	return rfcNode(rfcRoot(leaves[:k]), rfcRoot(leaves[k:]))
}

func rfcNode(left, right evidence.Hash) evidence.Hash {
	return sha256.Sum256(bytes.Join([][]byte{{1}, left[:], right[:]}, nil))
}

// rfcSplit is the largest power of two smaller than n.
func rfcSplit(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

func rfcPath(m int, leaves []evidence.Hash) []evidence.Hash {
	if len(leaves) == 1 {
		return nil
	}
	k := rfcSplit(len(leaves))
	if m < k {
		return append(rfcPath(m, leaves[:k]), rfcRoot(leaves[k:]))
	}
	return append(rfcPath(m-k, leaves[k:]), rfcRoot(leaves[:k]))
}

func rfcConsistency(m int, leaves []evidence.Hash) []evidence.Hash {
	return rfcSubproof(m, leaves, true)
}

func rfcSubproof(m int, leaves []evidence.Hash, whole bool) []evidence.Hash {
	if m == len(leaves) {
		if whole {
			return nil
		}
		return []evidence.Hash{rfcRoot(leaves)}
	}
	k := rfcSplit(len(leaves))
	if m <= k {
		return append(rfcSubproof(m, leaves[:k], whole), rfcRoot(leaves[k:]))
	}
	return append(rfcSubproof(m-k, leaves[k:], false), rfcRoot(leaves[:k]))
}

// cheapLeaf stands for the hash of an entry.
func cheapLeaf(i int) evidence.Hash {
	return evidence.Hash{byte(i), byte(i >> 8), byte(i >> 16), 0xee}
}

func cheapLeaves(n int) []evidence.Hash {
	leaves := make([]evidence.Hash, n)
	for i := range leaves {
		leaves[i] = cheapLeaf(i)
	}
	return leaves
}

// tileStore keeps the full tiles, as a database would.
type tileStore struct {
	tiles map[string][]byte
	reads int
}

var errNoTile = errors.New("no such tile")

func newTileStore() *tileStore { return &tileStore{tiles: make(map[string][]byte)} }

func (s *tileStore) save(tiles []evidence.Tile) {
	for _, tile := range tiles {
		s.tiles[evidence.TilePath(tile.Level, tile.Index, evidence.TileWidth)] = tile.Data
	}
}

func (s *tileStore) ReadTile(level int, index int64) ([]byte, error) {
	s.reads++
	data, found := s.tiles[evidence.TilePath(level, index, evidence.TileWidth)]
	if !found {
		return nil, errNoTile
	}
	return data, nil
}

// grow appends n cheap leaves.
func grow(n int) (*evidence.Tree, *tileStore) {
	tree, store := evidence.NewTree(), newTileStore()
	for i := range n {
		store.save(tree.Append(cheapLeaf(i)))
	}
	return tree, store
}

// testKeys is a key pair that is the same in every run.
func testKeys(tb testing.TB, name string) (signer *evidence.Signer, verifierKey string) {
	tb.Helper()
	seed := sha256.Sum256([]byte(name))
	skey, vkey, err := evidence.GenerateKey(name, bytes.NewReader(seed[:]))
	if err != nil {
		tb.Fatal(err)
	}
	signer, err = evidence.NewSigner(skey)
	if err != nil {
		tb.Fatal(err)
	}
	return signer, vkey
}

// testLog is a small server's side of a log: entries, tree, tiles, values beside it.
type testLog struct {
	tb      testing.TB
	raws    [][]byte
	tree    *evidence.Tree
	store   *tileStore
	values  map[string]evidence.Disclosure
	seqs    map[string]int
	prevs   map[string]string
	signer  *evidence.Signer
	vkey    string
	started time.Time
}

func newTestLog(tb testing.TB) *testLog {
	l := &testLog{
		tb: tb, tree: evidence.NewTree(), store: newTileStore(), started: noon(),
		values: make(map[string]evidence.Disclosure), seqs: make(map[string]int), prevs: make(map[string]string),
	}
	l.signer, l.vkey = testKeys(tb, origin)
	return l
}

func (l *testLog) next(kind, task, data string) evidence.Entry {
	index := len(l.raws)
	e := evidence.Entry{
		ID: strconv.Itoa(index), Source: origin, Type: kind, Subject: "agent/7",
		Time: l.started.Add(time.Duration(index) * time.Millisecond), Data: json.RawMessage(data),
	}
	if task != "" {
		e.Task, e.TaskSeq, e.TaskPrev = task, l.seqs[task]+1, l.prevs[task]
		l.seqs[task], l.prevs[task] = e.TaskSeq, e.ID
	}
	return e
}

// add writes an honest entry; data may be empty.
func (l *testLog) add(kind, task, data string) { l.put(l.next(kind, task, data)) }

// seal ends a task.
func (l *testLog) seal(task string) {
	l.add(evidence.TypeTaskSealed, task, fmt.Sprintf(`{"count":%d}`, l.seqs[task]+1))
}

// put writes any entry, honest or not.
func (l *testLog) put(e evidence.Entry) {
	l.tb.Helper()
	raw, err := e.Marshal()
	if err != nil {
		l.tb.Fatal(err)
	}
	l.putRaw(raw)
}

func (l *testLog) putRaw(raw []byte) {
	l.raws = append(l.raws, raw)
	l.store.save(l.tree.Append(evidence.LeafHash(raw)))
}

// commit writes an entry that commits to one value per slot and keeps the values.
func (l *testLog) commit(task string, slots ...string) {
	l.tb.Helper()
	index := int64(len(l.raws))
	commitments := make(map[string]evidence.Commitment)
	for _, slot := range slots {
		salt := sha256.Sum256(fmt.Append(nil, index, slot))
		d, err := evidence.NewDisclosure(salt[:evidence.SaltSize], fmt.Appendf(nil, `{"secret of":%q}`, slot))
		if err != nil {
			l.tb.Fatal(err)
		}
		l.values[valueKey(index, slot)] = d
		commitments[slot] = d.Commit()
	}
	data, err := json.Marshal(map[string]any{"commitments": commitments})
	if err != nil {
		l.tb.Fatal(err)
	}
	l.add("writ.decision.made", task, string(data))
}

func (l *testLog) erase(index int64, slots ...string) {
	l.tb.Helper()
	for _, slot := range slots {
		delete(l.values, valueKey(index, slot))
	}
	l.sayErased(index, slots...)
}

func (l *testLog) sayErased(index int64, slots ...string) {
	l.tb.Helper()
	data, err := json.Marshal(evidence.ErasedData{Index: index, Slots: slots})
	if err != nil {
		l.tb.Fatal(err)
	}
	l.add(evidence.TypeValueErased, "", string(data))
}

func valueKey(index int64, slot string) string { return fmt.Sprintf("%d/%s", index, slot) }

func (l *testLog) lookup(index int64, slot string) (evidence.Disclosure, bool, error) {
	d, found := l.values[valueKey(index, slot)]
	return d, found, nil
}

func (l *testLog) head() evidence.Checkpoint {
	return evidence.Checkpoint{Origin: origin, Size: l.tree.Size(), Root: l.tree.Root()}
}

func (l *testLog) signedHead() []byte {
	l.tb.Helper()
	signed, err := l.head().Sign(l.signer)
	if err != nil {
		l.tb.Fatal(err)
	}
	return signed
}

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
