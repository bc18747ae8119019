package evidence

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// TileWidth is the number of hashes in a full tile, and of entries in a full bundle (c2sp.org/tlog-tiles).
	TileWidth = 256
	// MaxSize is the largest size of a tree. It keeps all arithmetic far from overflow.
	MaxSize = 1 << 48

	tileHeight = 8
	hashSize   = sha256.Size
	tileBytes  = TileWidth * hashSize
)

// Hash is a SHA-256 hash of a leaf, a node or a root (RFC 6962, section 2.1).
type Hash [hashSize]byte

// String returns the hash in base64, as checkpoints and proofs write it.
func (h Hash) String() string { return base64.StdEncoding.EncodeToString(h[:]) }

// Tile is a full tile: the TileWidth hashes at height 8*Level of the tree, from number Index*TileWidth on.
type Tile struct {
	Level int
	Index int64
	Data  []byte // 8,192 bytes
}

// TileReader reads tiles that [Tree.Append] has returned and that were stored.
type TileReader interface {
	// ReadTile returns the 8,192 bytes of a full tile. It is never asked for one that is not full.
	// The caller does not change what it gets.
	ReadTile(level int, index int64) ([]byte, error)
}

// Tree is the right edge of a Merkle tree (RFC 6962): all that is needed to append and to state the root.
// With a [TileReader] for what lies left of the edge it can prove and serve everything.
// It is for one goroutine at a time; [Tree.Clone] hands a snapshot to another.
type Tree struct {
	size  int64
	rows  [][]Hash // per tile level, the hashes of the tile that is not full yet
	peaks []Hash   // at i, where bit i of size is set: the root of the perfect subtree of 2^i leaves
}

// NewTree returns the empty tree.
func NewTree() *Tree { return &Tree{} }

// Size returns the number of leaves.
func (t *Tree) Size() int64 { return t.size }

// Clone returns a copy that shares nothing with t.
func (t *Tree) Clone() *Tree {
	c := &Tree{size: t.size, rows: make([][]Hash, len(t.rows)), peaks: slices.Clone(t.peaks)}
	for i, row := range t.rows {
		c.rows[i] = slices.Clone(row)
	}
	return c
}

// Append adds a leaf and returns the tiles that are full now, lowest level first: usually none.
// Store them before the leaf counts as appended.
func (t *Tree) Append(leaf Hash) []Tile {
	full := t.push(nil, 0, leaf)
	height := 0
	for h := leaf; ; height++ {
		if t.size>>height&1 == 0 {
			t.setPeak(height, h)
			break
		}
		h = nodeHash(t.peaks[height], h)
		if (height+1)%tileHeight == 0 {
			full = t.push(full, (height+1)/tileHeight, h)
		}
	}
	t.size++
	return full
}

func (t *Tree) setPeak(height int, h Hash) {
	if height == len(t.peaks) {
		t.peaks = append(t.peaks, Hash{})
	}
	t.peaks[height] = h
}

func (t *Tree) push(full []Tile, level int, h Hash) []Tile {
	if level == len(t.rows) {
		t.rows = append(t.rows, make([]Hash, 0, TileWidth))
	}
	row := append(t.rows[level], h)
	if len(row) == TileWidth {
		index := t.size >> (tileHeight * (level + 1))
		full = append(full, Tile{Level: level, Index: index, Data: joinHashes(row)})
		row = row[:0]
	}
	t.rows[level] = row
	return full
}

// Root returns the root hash. It costs one hash for each set bit of the size.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	height := bits.TrailingZeros64(uint64(t.size))
	root := t.peaks[height]
	for height++; height < len(t.peaks); height++ {
		if t.size>>height&1 == 1 {
			root = nodeHash(t.peaks[height], root)
		}
	}
	return root
}

// LoadTree rebuilds the edge of a tree of the given size from its full tiles and from the hashes of the leaves
// after the last full tile of level 0: leaves is asked for the indexes from ≤ i < to, unless there are none.
// It trusts what it reads: compare [Tree.Root] with a verified checkpoint.
func LoadTree(size int64, tiles TileReader, leaves func(from, to int64) ([]Hash, error)) (*Tree, error) {
	if size < 0 || size > MaxSize {
		return nil, fmt.Errorf("%w: size %d is not from 0 to %d", ErrRange, size, int64(MaxSize))
	}
	t := &Tree{size: size}
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		row, err := loadRow(size, level, tiles, leaves)
		if err != nil {
			return nil, err
		}
		t.rows = append(t.rows, row)
	}
	for height := range bits.Len64(uint64(size)) {
		t.peaks = append(t.peaks, t.peak(height))
	}
	return t, nil
}

func loadRow(size int64, level int, tiles TileReader, leaves func(from, to int64) ([]Hash, error)) ([]Hash, error) {
	to := size >> (tileHeight * level)
	from := to / TileWidth * TileWidth
	row := make([]Hash, 0, TileWidth)
	if from == to {
		return row, nil
	}
	if level == 0 {
		hashes, err := leaves(from, to)
		if err != nil {
			return nil, fmt.Errorf("leaf hashes %d to %d: %w", from, to-1, err)
		}
		if int64(len(hashes)) != to-from {
			return nil, fmt.Errorf("%w: %d leaf hashes from index %d on, %d are needed", ErrRange, len(hashes), from, to-from)
		}
		return append(row, hashes...), nil
	}
	for index := from; index < to; index++ {
		below, err := readFullTile(tiles, level-1, index)
		if err != nil {
			return nil, err
		}
		row = append(row, perfectRoot(below))
	}
	return row, nil
}

// peak computes what Append would have left at this height.
func (t *Tree) peak(height int) Hash {
	if t.size>>height&1 == 0 {
		return Hash{}
	}
	level, inner := height/tileHeight, height%tileHeight
	row := t.rows[level]
	start := len(row) &^ (1<<(inner+1) - 1) // the larger subtrees of the row come first
	return perfectRoot(row[start : start+1<<inner])
}

// TileData returns the first width hashes of a tile, full or partial, as c2sp.org/tlog-tiles serves it.
// What is beyond the tree gives [ErrRange].
func TileData(tree *Tree, tiles TileReader, level int, index int64, width int) ([]byte, error) {
	if level < 0 || level > maxLevel || index < 0 || index > MaxSize || width < 1 || width > TileWidth {
		return nil, fmt.Errorf("%w: no tile has level %d, index %d and width %d", ErrRange, level, index, width)
	}
	if have := tree.size>>(tileHeight*level) - index*TileWidth; have < int64(width) {
		return nil, fmt.Errorf("%w: tile %s is not in a tree of size %d; ask for one that its checkpoint covers", ErrRange, TilePath(level, index, width), tree.size)
	}
	hashes, err := tree.tile(tiles, level, index)
	if err != nil {
		return nil, err
	}
	return joinHashes(hashes[:width]), nil
}

// tile returns the hashes of a tile that the tree has, all that there are.
func (t *Tree) tile(tiles TileReader, level int, index int64) ([]Hash, error) {
	if index == t.size>>(tileHeight*(level+1)) {
		return t.rows[level], nil
	}
	return readFullTile(tiles, level, index)
}

func readFullTile(tiles TileReader, level int, index int64) ([]Hash, error) {
	data, err := tiles.ReadTile(level, index)
	if err != nil {
		return nil, fmt.Errorf("tile %s: %w", TilePath(level, index, TileWidth), err)
	}
	if len(data) != tileBytes {
		return nil, fmt.Errorf("%w: tile %s has %d bytes, not %d; restore it from a copy of the log", ErrTile, TilePath(level, index, TileWidth), len(data), tileBytes)
	}
	return splitHashes(data), nil
}

// RootAt returns the root that the tree had at an earlier size (or has, at its own).
func RootAt(tree *Tree, tiles TileReader, size int64) (Hash, error) {
	if size < 0 || size > tree.size {
		return Hash{}, fmt.Errorf("%w: a tree of size %d has no root for size %d", ErrRange, tree.size, size)
	}
	root, err := tlog.TreeHash(size, newEdgeReader(tree, tiles))
	return Hash(root), err
}

// ProveInclusion proves that the leaf at index is in the tree as it was at size (RFC 6962, section 2.1.1).
func ProveInclusion(tree *Tree, tiles TileReader, index, size int64) ([]Hash, error) {
	if index < 0 || index >= size || size > tree.size {
		return nil, fmt.Errorf("%w: index %d has no proof at size %d in a tree of size %d", ErrRange, index, size, tree.size)
	}
	proof, err := tlog.ProveRecord(size, index, newEdgeReader(tree, tiles))
	return fromTlog(proof), err
}

// ProveConsistency proves that the tree at size newer begins with the tree at size older (RFC 6962, section 2.1.2).
// The proof from size 0 is empty: every tree begins with the empty one.
func ProveConsistency(tree *Tree, tiles TileReader, older, newer int64) ([]Hash, error) {
	if older < 0 || older > newer || newer > tree.size {
		return nil, fmt.Errorf("%w: no proof from size %d to %d in a tree of size %d", ErrRange, older, newer, tree.size)
	}
	if older == 0 {
		return nil, nil
	}
	proof, err := tlog.ProveTree(newer, older, newEdgeReader(tree, tiles))
	return fromTlog(proof), err
}

// edgeReader gives tlog the nodes of a tree, from its tiles and its edge. It keeps the tiles that it has read.
type edgeReader struct {
	tree  *Tree
	tiles TileReader
	read  map[tileAt][]Hash
}

type tileAt struct {
	level int
	index int64
}

func newEdgeReader(tree *Tree, tiles TileReader) *edgeReader {
	return &edgeReader{tree: tree, tiles: tiles, read: make(map[tileAt][]Hash)}
}

// ReadHashes implements tlog.HashReader.
func (r *edgeReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		h, err := r.node(tlog.SplitStoredHashIndex(index))
		if err != nil {
			return nil, err
		}
		hashes[i] = tlog.Hash(h)
	}
	return hashes, nil
}

// node returns the n-th node at this height: the root of the 2^inner hashes of a tile that it covers.
func (r *edgeReader) node(height int, n int64) (Hash, error) {
	level, inner := height/tileHeight, height%tileHeight
	first := n << inner
	at := tileAt{level, first / TileWidth}
	hashes, found := r.read[at]
	if !found {
		var err error
		if hashes, err = r.tree.tile(r.tiles, at.level, at.index); err != nil {
			return Hash{}, err
		}
		r.read[at] = hashes
	}
	start := first % TileWidth
	return perfectRoot(hashes[start : start+1<<inner]), nil
}

func nodeHash(left, right Hash) Hash {
	return Hash(tlog.NodeHash(tlog.Hash(left), tlog.Hash(right)))
}

// perfectRoot is the root above a number of hashes that is a power of two.
func perfectRoot(hashes []Hash) Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return nodeHash(perfectRoot(hashes[:half]), perfectRoot(hashes[half:]))
}

func joinHashes(hashes []Hash) []byte {
	data := make([]byte, 0, len(hashes)*hashSize)
	for i := range hashes {
		data = append(data, hashes[i][:]...)
	}
	return data
}

func splitHashes(data []byte) []Hash {
	hashes := make([]Hash, 0, len(data)/hashSize)
	for part := range slices.Chunk(data, hashSize) {
		hashes = append(hashes, Hash(part))
	}
	return hashes
}

func fromTlog(hashes []tlog.Hash) []Hash {
	own := make([]Hash, len(hashes))
	for i, h := range hashes {
		own[i] = Hash(h)
	}
	return own
}

func toTlog(hashes []Hash) []tlog.Hash {
	theirs := make([]tlog.Hash, len(hashes))
	for i, h := range hashes {
		theirs[i] = tlog.Hash(h)
	}
	return theirs
}
