package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access/event"
)

// Pruned is what a pruning has done.
type Pruned struct {
	Before  int64 // no entry from this index on was looked at
	Entries int64 // deleted
	Values  int64 // deleted with them
	Kept    int64 // older entries that are still needed
}

// pruneStep is how many entries are looked at for one transaction: few enough that nobody waits long for it.
const pruneStep = 4 * evidence.TileWidth

// Prune deletes old entries, and what lies beside them, that the archive holds and that nothing needs any more: of sealed tasks,
// and those without a task that no row rests on. Their hashes stay, so every proof stays valid. Each step is an entry of its own
// (writ.log.pruned), in one transaction with what it deletes; so it may be broken off at any time, and repeated. before is the
// index to prune up to; it is cut to full tiles, to what the archive holds, and never reaches the newest full tile.
//
// Right before they are deleted, the archived entries are compared with the signed tree, and each value with its commitment and
// with what is in the database. What differs ends the pruning with an error that wraps ErrArchive, or ErrForked if it is the database that is wrong.
func (s *Store) Prune(ctx context.Context, archive *Archive, before int64, progress Progress) (Pruned, error) {
	tree, _ := s.snapshot()
	root, err := evidence.RootAt(tree, tileReader{ctx, s.reads}, archive.Checkpoint.Size)
	if err != nil || root != archive.Checkpoint.Root {
		return Pruned{}, errors.Join(fmt.Errorf("%w: its checkpoint of size %d is not of this log's past", ErrArchive, archive.Checkpoint.Size), err)
	}
	p := &pruning{ctx: ctx, store: s, archive: archive, sealed: map[string]bool{}, tile: -1}
	last := (tree.Size()/evidence.TileWidth - 1) * evidence.TileWidth
	p.out.Before = max(0, min(before, archive.Checkpoint.Size, last)/evidence.TileWidth*evidence.TileWidth)
	if err := p.findNeeded(); err != nil {
		return p.out, unavailable(err)
	}
	for from := int64(0); from < p.out.Before; from += pruneStep {
		to := min(from+pruneStep, p.out.Before)
		if err := p.step(from, to); err != nil {
			return p.out, err
		}
		progress.tell("pruning entries", to, p.out.Before)
	}
	return p.out, nil
}

type pruning struct {
	ctx     context.Context
	store   *Store
	archive *Archive
	out     Pruned
	needed  indexes         // by the catalog, facts, and tasks that are not sealed
	rested  indexes         // on by any row
	sealed  map[string]bool // tasks that were looked up
	tile    int64           // whose hashes are at hand; -1 is none
	hashes  []byte
}

// indexes is a set of indexes below a limit.
type indexes []uint64

func (s indexes) add(index int64) {
	if index >= 0 && index/64 < int64(len(s)) {
		s[index/64] |= 1 << (index % 64)
	}
}

func (s indexes) has(index int64) bool { return s[index/64]>>(index%64)&1 == 1 }

// What rows rest on. A row never comes to rest on an entry that is older than it and that none rested on before, so what is free
// once stays free, whatever is committed meanwhile.
const (
	neededEntries = `SELECT version FROM catalog UNION ALL SELECT version FROM catalog_version UNION ALL SELECT version FROM identities
		UNION ALL SELECT version FROM facts
		UNION ALL SELECT opened FROM tasks WHERE status <> 'sealed' UNION ALL SELECT version FROM tasks WHERE status <> 'sealed'
		UNION ALL SELECT decided FROM grants WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = grants.task AND tasks.status = 'sealed')
		UNION ALL SELECT version FROM grants WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = grants.task AND tasks.status = 'sealed')
		UNION ALL SELECT decided FROM approvals WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = approvals.task AND tasks.status = 'sealed')
		UNION ALL SELECT version FROM approvals WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = approvals.task AND tasks.status = 'sealed')`
	restedEntries = `SELECT version FROM tasks UNION ALL SELECT opened FROM tasks UNION ALL SELECT last FROM task_log
		UNION ALL SELECT version FROM task_labels UNION ALL SELECT version FROM decisions UNION ALL SELECT version FROM grants
		UNION ALL SELECT decided FROM grants UNION ALL SELECT version FROM approvals UNION ALL SELECT decided FROM approvals
		UNION ALL SELECT version FROM answers UNION ALL SELECT version FROM comments UNION ALL SELECT version FROM usage UNION ALL SELECT version FROM touched
		UNION ALL SELECT version FROM precedents`
)

func (p *pruning) findNeeded() error {
	size := p.out.Before/64 + 1
	p.needed, p.rested = make(indexes, size), make(indexes, size)
	for text, set := range map[string]indexes{neededEntries: p.needed, restedEntries: p.rested} {
		err := p.store.reads.each(p.ctx, text, nil, func(row func(...any) error) error {
			var index int64
			err := row(&index)
			set.add(index)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// free reports whether an entry may go. What explains the log itself stays, and what this version does not know.
func (p *pruning) free(index int64, entry evidence.Entry) (bool, error) {
	e, known, err := event.Decode(entry.Type, entry.Data)
	if err != nil || !known || p.needed.has(index) {
		return false, nil //nolint:nilerr // verification names what cannot be read
	}
	switch e.(type) {
	case *event.Installed, *event.PolicyActivated, *event.ValueErased, *event.LogPruned, *event.LogRestored:
		return false, nil
	}
	if entry.Task == "" {
		return !p.rested.has(index), nil
	}
	sealed, known := p.sealed[entry.Task]
	if known {
		return sealed, nil
	}
	var one int64
	err = p.store.reads.row(p.ctx, `SELECT 1 FROM tasks WHERE id = $1 AND status = 'sealed'`, []any{entry.Task}, &one)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	if len(p.sealed) > keptTasks {
		clear(p.sealed)
	}
	p.sealed[entry.Task] = err == nil
	return err == nil, nil
}

// step prunes among the entries from (included) to (excluded).
func (p *pruning) step(from, to int64) error {
	found, err := p.find(from, to)
	if err != nil || len(found) == 0 {
		return err
	}
	values, err := p.values(from, to)
	if err != nil {
		return err
	}
	made := &event.LogPruned{
		Before: p.out.Before, By: event.By{Kind: event.ByOperator},
		Archive: event.LogHead{Size: p.archive.Checkpoint.Size, Root: p.archive.Checkpoint.Root.String()},
	}
	for _, e := range found {
		if err := p.check(e.index, e.body, values[e.index]); err != nil {
			return err
		}
		made.Entries = extend(made.Entries, e.index)
		made.Values += int64(len(values[e.index]))
	}
	// It makes room, so it must work on a full disk.
	_, err = p.store.Revoke(p.ctx, func(*View) (event.Change, error) {
		return event.Change{Drafts: []event.Draft{{Event: made}}}, nil
	})
	if err != nil {
		return err
	}
	p.out.Entries += count(made.Entries)
	p.out.Values += made.Values
	return nil
}

// find reads the entries that may go.
func (p *pruning) find(from, to int64) (free []entryRow, err error) {
	var all []entryRow
	err = p.store.Entries(p.ctx, from, int(to-from), func(index int64, body []byte) error {
		if index < to {
			all = append(all, entryRow{index, body})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		entry, err := evidence.Parse(e.body)
		if err != nil {
			return nil, fmt.Errorf("%w (entry %d: %w)", ErrForked, e.index, err)
		}
		free1, err := p.free(e.index, entry)
		if err != nil {
			return nil, unavailable(err)
		}
		if !free1 {
			p.out.Kept++
			continue
		}
		free = append(free, e)
	}
	return free, nil
}

func (p *pruning) values(from, to int64) (map[int64]map[string]evidence.Disclosure, error) {
	values := map[int64]map[string]evidence.Disclosure{}
	err := p.store.reads.each(p.ctx, `SELECT idx, slot, salt, value FROM disclosures WHERE idx >= $1 AND idx < $2`, []any{from, to},
		func(row func(...any) error) error {
			var index int64
			var slot string
			var d evidence.Disclosure
			err := row(&index, &slot, &d.Salt, (*[]byte)(&d.Value))
			if values[index] == nil {
				values[index] = map[string]evidence.Disclosure{}
			}
			values[index][slot] = d
			return err
		})
	return values, unavailable(err)
}

// check makes sure that the archive holds an entry and all that lies beside it.
func (p *pruning) check(index int64, body []byte, values map[string]evidence.Disclosure) error {
	archived, err := p.archive.Entry(index)
	if err != nil {
		return err
	}
	if err := p.inTree(index, archived); err != nil {
		return err
	}
	if string(body) != string(archived) {
		return fmt.Errorf("%w (entry %d in the database is not the one in the tree)", ErrForked, index)
	}
	entry, err := evidence.Parse(archived)
	if err != nil {
		return fmt.Errorf("%w: entry %d: %w", ErrArchive, index, err)
	}
	commitments, err := entry.Commitments()
	if err != nil {
		return fmt.Errorf("%w: entry %d: %w", ErrArchive, index, err)
	}
	if len(commitments) == 0 && len(values) == 0 {
		return nil
	}
	kept, err := p.archive.Values(index)
	if err != nil {
		return err
	}
	if !slices.Equal(slices.Sorted(maps.Keys(kept)), slices.Sorted(maps.Keys(values))) {
		return fmt.Errorf("%w: beside entry %d other values lie than in the database, such as one erased since: export again with --values", ErrArchive, index)
	}
	for slot, d := range kept {
		if commitment, ok := commitments[slot]; !ok || !commitment.Opens(d) {
			return fmt.Errorf("%w: the value %q beside entry %d is not the one that the entry commits to: export again with --values", ErrArchive, slot, index)
		}
		if commitments[slot] != values[slot].Commit() {
			return fmt.Errorf("%w (the value %q beside entry %d in the database was changed)", ErrForked, slot, index)
		}
	}
	return nil
}

// inTree makes sure that archived bytes are the entry at an index. The first of each tile is proven under the present signed head:
// the proof is made of the tile's other hashes, so it holds only if they all are the right ones, too.
func (p *pruning) inTree(index int64, archived []byte) error {
	tile := index / evidence.TileWidth
	if tile != p.tile {
		if err := p.proveTile(tile); err != nil {
			return err
		}
		p.tile = tile
	}
	return p.compareLeaf(index, archived)
}

func (p *pruning) proveTile(tile int64) (err error) {
	first := tile * evidence.TileWidth
	if p.hashes, err = p.store.Tile(p.ctx, 0, tile, evidence.TileWidth); err != nil {
		return err
	}
	proof, err := p.store.Proof(p.ctx, first)
	if err != nil {
		return err
	}
	for index := first; index < first+evidence.TileWidth; index++ {
		archived, err := p.archive.Entry(index)
		if err != nil {
			return err
		}
		if err := p.compareLeaf(index, archived); err != nil {
			return err
		}
	}
	archived, err := p.archive.Entry(first)
	if err == nil {
		if _, err = evidence.VerifyInclusion(proof, archived, p.store.opts.VerifierKey); err != nil {
			err = fmt.Errorf("%w (the hashes of entries %d to %d are not in the tree: %w)", ErrForked, first, first+evidence.TileWidth-1, err)
		}
	}
	return err
}

func (p *pruning) compareLeaf(index int64, archived []byte) error {
	leaf := evidence.LeafHash(archived)
	at := int(index%evidence.TileWidth) * len(leaf)
	if string(p.hashes[at:at+len(leaf)]) == string(leaf[:]) {
		return nil
	}
	path := evidence.TilePath(evidence.EntriesLevel, index/evidence.TileWidth, evidence.TileWidth)
	return fmt.Errorf("%w: entry %d is not the one in the tree: delete %s below %s and export again", ErrArchive, index, path, p.archive.folder)
}

// IndexAt is an index that splits the log at a time: the entries before it are older, those from it on are not. Where entries
// around that time were pruned, it is one of theirs.
func (s *Store) IndexAt(ctx context.Context, at time.Time) (int64, error) {
	low, high := int64(0), s.Size()
	for low < high {
		middle := low + (high-low)/2
		found, next := int64(-1), time.Time{}
		err := s.Entries(ctx, middle, 1, func(index int64, body []byte) error {
			entry, err := evidence.Parse(body)
			found, next = index, entry.Time
			return err
		})
		if err != nil {
			return 0, unavailable(err)
		}
		switch {
		case found < 0 || !next.Before(at):
			high = middle
		default:
			low = found + 1
		}
	}
	return low, nil
}
