package evidence_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/evidence"
)

// boundaries are the sizes around which tiles of level 0 and 1 become full.
func boundaries() []int { return []int{0, 1, 2, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537} }

// bigTree has grown over every boundary.
func bigTree() (*evidence.Tree, *tileStore) { return grow(65537 + 300) }

func TestRootIsThatOfRFC6962(t *testing.T) {
	tree := evidence.NewTree()
	next := 0
	for _, size := range boundaries() {
		for ; next < size; next++ {
			tree.Append(cheapLeaf(next))
		}
		if got, want := tree.Root(), rfcRoot(cheapLeaves(size)); got != want || tree.Size() != int64(size) {
			t.Errorf("size %d: size %d, root %s, want %s", size, tree.Size(), got, want)
		}
	}
}

func TestRootVectors(t *testing.T) {
	// The roots that certificate transparency's reference implementation lists for these eight leaves.
	leaves := []string{"", "\x00", "\x10", "\x20\x21", "\x30\x31", "\x40\x41\x42\x43", "\x50\x51\x52\x53\x54\x55\x56\x57", "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"}
	want := map[int64]string{
		0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	tree := evidence.NewTree()
	for i := 0; ; i++ {
		if w, found := want[tree.Size()]; found && fmt.Sprintf("%x", [32]byte(tree.Root())) != w {
			t.Errorf("size %d: root %x, want %s", tree.Size(), [32]byte(tree.Root()), w)
		}
		if i == len(leaves) {
			return
		}
		tree.Append(evidence.LeafHash([]byte(leaves[i])))
	}
}

func TestAppendReturnsFullTiles(t *testing.T) {
	tree := evidence.NewTree()
	var got []string
	for i := range 65536 {
		for _, tile := range tree.Append(cheapLeaf(i)) {
			if len(tile.Data) != 8192 {
				t.Fatalf("tile of %d bytes", len(tile.Data))
			}
			if tile.Level > 0 || tile.Index%100 == 0 {
				got = append(got, fmt.Sprintf("%d: %d/%d", i, tile.Level, tile.Index))
			}
		}
	}
	want := []string{"255: 0/0", "25855: 0/100", "51455: 0/200", "65535: 1/0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tiles (-want +got):\n%s", diff)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	tree, _ := grow(300)
	before := tree.Root()
	clone := tree.Clone()
	other := tree.Clone()
	other.Append(cheapLeaf(1))
	clone.Append(cheapLeaf(0))
	if last := must(evidence.TileData(other, nil, 0, 1, 45))(t)[44*32:]; last[0] != 1 {
		t.Error("two clones write to the same row")
	}
	clone = tree.Clone()
	for i := range 300 {
		clone.Append(cheapLeaf(i))
	}
	if tree.Root() != before || tree.Size() != 300 || clone.Size() != 600 {
		t.Error("appending to a clone changed the original")
	}
	tree.Append(cheapLeaf(300))
	if clone2, _ := grow(301); tree.Root() != clone2.Root() {
		t.Error("the original is damaged")
	}
}

func leavesOf(all []evidence.Hash) func(from, to int64) ([]evidence.Hash, error) {
	return func(from, to int64) ([]evidence.Hash, error) { return all[from:to], nil }
}

func TestLoadTreeGoesOnAsIfNeverStopped(t *testing.T) {
	for _, size := range boundaries() {
		live, store := grow(size)
		loaded, err := evidence.LoadTree(int64(size), store, leavesOf(cheapLeaves(size)))
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		for i := size; i < size+260; i++ {
			if loaded.Root() != live.Root() {
				t.Fatalf("loaded at %d: root differs at %d", size, i)
			}
			if diff := cmp.Diff(live.Append(cheapLeaf(i)), loaded.Append(cheapLeaf(i))); diff != "" {
				t.Fatalf("loaded at %d: tiles differ at %d", size, i)
			}
		}
	}
}

func TestLoadTreeRefuses(t *testing.T) {
	_, store := grow(600)
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		size   int64
		tiles  evidence.TileReader
		leaves func(from, to int64) ([]evidence.Hash, error)
		is     error
		says   string
	}{
		"negative size":   {-1, store, nil, evidence.ErrRange, "size -1"},
		"size over limit": {evidence.MaxSize + 1, store, nil, evidence.ErrRange, "0 to 281474976710656"},
		"leaves fail":     {261, store, func(_, _ int64) ([]evidence.Hash, error) { return nil, broken }, broken, "leaf hashes 256 to 260"},
		"leaves short": {261, store, func(_, _ int64) ([]evidence.Hash, error) { return cheapLeaves(4), nil }, evidence.ErrRange,
			"4 leaf hashes from index 256 on, 5 are needed"},
		"tile missing": {512, newTileStore(), nil, errNoTile, "tile/0/000"},
		"tile short":   {512, shortTiles{}, nil, evidence.ErrTile, "8191 bytes, not 8192"},
	} {
		if _, err := evidence.LoadTree(c.size, c.tiles, c.leaves); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v that says %q", name, err, c.is, c.says)
		}
	}
}

// A tree of the largest size is one hash at its highest level; no leaf is asked for.
func TestLoadTreeOfTheLargestSize(t *testing.T) {
	tree, err := evidence.LoadTree(evidence.MaxSize, fullTiles{}, nil)
	if err != nil || tree.Size() != evidence.MaxSize {
		t.Errorf("%v, %v", tree, err)
	}
}

type fullTiles struct{}

func (fullTiles) ReadTile(int, int64) ([]byte, error) { return make([]byte, 8192), nil }

type shortTiles struct{}

func (shortTiles) ReadTile(int, int64) ([]byte, error) { return make([]byte, 8191), nil }

func TestTileData(t *testing.T) {
	tree, store := bigTree()
	leaves := cheapLeaves(int(tree.Size()))
	for _, c := range []struct {
		level int
		index int64
		width int
	}{{0, 0, 256}, {0, 0, 1}, {0, 255, 17}, {0, 257, 45}, {0, 257, 1}, {1, 0, 256}, {1, 0, 3}, {1, 1, 1}, {2, 0, 1}} {
		got, err := evidence.TileData(tree, store, c.level, c.index, c.width)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		span := int64(1) << (8 * c.level)
		var want []byte
		for i := range int64(c.width) {
			from := (c.index*256 + i) * span
			h := rfcRoot(leaves[from : from+span])
			want = append(want, h[:]...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v: tile differs", c)
		}
	}
	for _, c := range []struct {
		level int
		index int64
		width int
	}{{0, 257, 46}, {0, 258, 1}, {1, 1, 2}, {2, 0, 2}, {3, 0, 1}, {63, 0, 1}, {64, 0, 1}, {-1, 0, 1}, {0, -1, 1}, {0, 0, 0}, {0, 0, 257}, {0, evidence.MaxSize + 1, 1}} {
		if _, err := evidence.TileData(tree, store, c.level, c.index, c.width); !errors.Is(err, evidence.ErrRange) {
			t.Errorf("%v: %v, want ErrRange", c, err)
		}
	}
	if _, err := evidence.TileData(tree, newTileStore(), 0, 0, 5); !errors.Is(err, errNoTile) {
		t.Errorf("lost tile: %v", err)
	}
}

func TestProofsAtBoundariesAreThoseOfRFC6962(t *testing.T) {
	tree, store := bigTree()
	for _, size := range boundaries()[1:] {
		leaves := cheapLeaves(size)
		if root, err := evidence.RootAt(tree, store, int64(size)); err != nil || root != rfcRoot(leaves) {
			t.Errorf("root at size %d: %v, %v", size, root, err)
		}
		for _, index := range []int{0, size / 2, size - 1} {
			got, err := evidence.ProveInclusion(tree, store, int64(index), int64(size))
			if diff := cmp.Diff(rfcPath(index, leaves), got, sameWhenEmpty()); diff != "" || err != nil {
				t.Errorf("inclusion of %d in %d: %v\n%s", index, size, err, diff)
			}
			got, err = evidence.ProveConsistency(tree, store, int64(index+1), int64(size))
			if diff := cmp.Diff(rfcConsistency(index+1, leaves), got, sameWhenEmpty()); diff != "" || err != nil {
				t.Errorf("consistency of %d with %d: %v\n%s", index+1, size, err, diff)
			}
		}
	}
}

func sameWhenEmpty() cmp.Option {
	empty := func(a, b []evidence.Hash) bool { return len(a) == 0 && len(b) == 0 }
	return cmp.FilterValues(empty, cmp.Ignore())
}

func TestAnyProofIsThatOfRFC6962(t *testing.T) {
	tree, store := grow(1500)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 1500).Draw(t, "size")
		index := rapid.IntRange(0, size-1).Draw(t, "index")
		older := rapid.IntRange(1, size).Draw(t, "older")
		leaves := cheapLeaves(size)
		got, err := evidence.ProveInclusion(tree, store, int64(index), int64(size))
		if diff := cmp.Diff(rfcPath(index, leaves), got, sameWhenEmpty()); diff != "" || err != nil {
			t.Fatalf("inclusion: %v\n%s", err, diff)
		}
		got, err = evidence.ProveConsistency(tree, store, int64(older), int64(size))
		if diff := cmp.Diff(rfcConsistency(older, leaves), got, sameWhenEmpty()); diff != "" || err != nil {
			t.Fatalf("consistency: %v\n%s", err, diff)
		}
		if root, err := evidence.RootAt(tree, store, int64(size)); err != nil || root != rfcRoot(leaves) {
			t.Fatalf("root: %v", err)
		}
	})
}

func TestProvingRefusesWhatIsOutside(t *testing.T) {
	tree, store := grow(300)
	for _, c := range [][2]int64{{-1, 5}, {5, 5}, {0, 0}, {0, 301}} {
		if _, err := evidence.ProveInclusion(tree, store, c[0], c[1]); !errors.Is(err, evidence.ErrRange) {
			t.Errorf("inclusion of %v: %v", c, err)
		}
	}
	for _, c := range [][2]int64{{-1, 5}, {6, 5}, {1, 301}} {
		if _, err := evidence.ProveConsistency(tree, store, c[0], c[1]); !errors.Is(err, evidence.ErrRange) {
			t.Errorf("consistency of %v: %v", c, err)
		}
	}
	for _, size := range []int64{-1, 301} {
		if _, err := evidence.RootAt(tree, store, size); !errors.Is(err, evidence.ErrRange) {
			t.Errorf("root at %d: %v", size, err)
		}
	}
	if _, err := evidence.ProveInclusion(tree, newTileStore(), 5, 300); !errors.Is(err, errNoTile) {
		t.Errorf("lost tile: %v", err)
	}
	if proof, err := evidence.ProveConsistency(tree, store, 0, 300); err != nil || len(proof) != 0 {
		t.Errorf("from the empty tree: %v, %v", proof, err)
	}
	if root, err := evidence.RootAt(tree, store, 0); err != nil || root != evidence.NewTree().Root() {
		t.Errorf("root at 0: %v, %v", root, err)
	}
}

func TestProofReadsEachTileOnce(t *testing.T) {
	tree, store := bigTree()
	before := store.reads
	if _, err := evidence.ProveInclusion(tree, store, 1000, tree.Size()); err != nil {
		t.Fatal(err)
	}
	if reads := store.reads - before; reads > 2 {
		t.Errorf("%d tiles read, one on each of two levels is enough", reads)
	}
}
