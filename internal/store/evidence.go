package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
)

// Read runs a function on the present state, outside any change.
func (s *Store) Read(ctx context.Context, read func(*View) error) error {
	return read(&View{ctx: ctx, store: s, on: s.reads})
}

// Checkpoint is the signed head of the log.
func (s *Store) Checkpoint() []byte { return s.head.Load().checkpoint }

// Size is the number of entries.
func (s *Store) Size() int64 { return s.head.Load().size }

// Commits counts the commits that this process has made, or seen others make.
func (s *Store) Commits() int64 { return s.changes.now() }

// Entry reads the exact bytes of an entry; access.ErrNotFound beyond the head, access.ErrPruned where only the hash is left.
func (s *Store) Entry(ctx context.Context, index int64) ([]byte, error) {
	var body []byte
	size := s.Size()
	err := s.reads.row(ctx, `SELECT body FROM entries WHERE idx = $1`, []any{index}, &body)
	switch {
	case index < 0 || index >= size:
		return nil, access.ErrNotFound
	case errors.Is(err, sql.ErrNoRows):
		return nil, access.ErrPruned
	}
	return body, unavailable(err)
}

// Entries reads at most limit entries from an index on, each with its index; those that were pruned are not among them. visit must not
// read the store, and its
// error is returned as it is.
func (s *Store) Entries(ctx context.Context, from int64, limit int, visit func(index int64, body []byte) error) error {
	var stopped error
	err := s.reads.each(ctx, `SELECT idx, body FROM entries WHERE idx >= $1 ORDER BY idx LIMIT $2`, []any{from, limit}, func(row func(...any) error) error {
		var index int64
		var body []byte
		if err := row(&index, &body); err != nil {
			return err
		}
		stopped = visit(index, body)
		return stopped
	})
	if stopped != nil {
		return stopped
	}
	return unavailable(err)
}

// Disclosures reads the values that lie beside an entry, by slot.
func (s *Store) Disclosures(ctx context.Context, index int64) (map[string]evidence.Disclosure, error) {
	out := map[string]evidence.Disclosure{}
	err := s.reads.each(ctx, `SELECT slot, salt, value FROM disclosures WHERE idx = $1`, []any{index}, func(row func(...any) error) error {
		var slot string
		var d evidence.Disclosure
		err := row(&slot, &d.Salt, (*[]byte)(&d.Value))
		out[slot] = d
		return err
	})
	return out, unavailable(err)
}

// Proof proves that an entry is in the log, under the present checkpoint (c2sp.org/tlog-proof).
func (s *Store) Proof(ctx context.Context, index int64) (evidence.Proof, error) {
	tree, checkpoint := s.snapshot()
	if index < 0 || index >= tree.Size() {
		return evidence.Proof{}, access.ErrNotFound
	}
	hashes, err := evidence.ProveInclusion(tree, tileReader{ctx, s.reads}, index, tree.Size())
	if err != nil {
		return evidence.Proof{}, unavailable(err)
	}
	return evidence.Proof{Index: index, Hashes: hashes, Checkpoint: checkpoint}, nil
}

// ProofAt proves that an entry is in the log under an earlier checkpoint of it, such as one that witnesses have cosigned.
func (s *Store) ProofAt(ctx context.Context, index int64, at evidence.Checkpoint, signed []byte) (evidence.Proof, error) {
	tree, _ := s.snapshot()
	hashes, err := evidence.ProveInclusion(tree, tileReader{ctx, s.reads}, index, at.Size)
	if errors.Is(err, evidence.ErrRange) {
		return evidence.Proof{}, access.ErrNotFound
	}
	return evidence.Proof{Index: index, Hashes: hashes, Checkpoint: signed}, unavailable(err)
}

// Consistency proves that the log at size newer begins with the log at size older.
func (s *Store) Consistency(ctx context.Context, older, newer int64) ([]evidence.Hash, error) {
	tree, _ := s.snapshot()
	hashes, err := evidence.ProveConsistency(tree, tileReader{ctx, s.reads}, older, newer)
	if errors.Is(err, evidence.ErrRange) {
		return nil, fmt.Errorf("%w: %w", access.ErrNotFound, err)
	}
	return hashes, unavailable(err)
}

// Tile reads a tile of hashes, full or partial (c2sp.org/tlog-tiles).
func (s *Store) Tile(ctx context.Context, level int, index int64, width int) ([]byte, error) {
	tree, _ := s.snapshot()
	data, err := evidence.TileData(tree, tileReader{ctx, s.reads}, level, index, width)
	if errors.Is(err, evidence.ErrRange) {
		return nil, fmt.Errorf("%w: %w", access.ErrNotFound, err)
	}
	return data, unavailable(err)
}

// EntryBundle reads the entries of a level-0 tile (c2sp.org/tlog-tiles); access.ErrPruned if they are not all there any more.
func (s *Store) EntryBundle(ctx context.Context, index int64, width int) ([]byte, error) {
	if width < 1 || width > evidence.TileWidth || index < 0 || index > evidence.MaxSize/evidence.TileWidth {
		return nil, access.ErrNotFound
	}
	first := index * evidence.TileWidth
	if first+int64(width) > s.Size() {
		return nil, access.ErrNotFound
	}
	entries := make([][]byte, 0, width)
	err := s.Entries(ctx, first, width, func(index int64, body []byte) error {
		if index != first+int64(len(entries)) {
			return access.ErrPruned
		}
		entries = append(entries, body)
		return nil
	})
	if err == nil && len(entries) < width {
		err = access.ErrPruned
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return evidence.EncodeBundle(entries)
}

// snapshot is the tree and the checkpoint of one moment.
func (s *Store) snapshot() (*evidence.Tree, []byte) {
	s.tmu.RLock()
	defer s.tmu.RUnlock()
	return s.tree, s.head.Load().checkpoint // a committed tree is never changed: the next batch works on a clone
}
