package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// apply appends the drafts of a change to the log and projects each into the tables.
func (tx *transaction) apply(change event.Change, drafts []sealed) (event.Receipt, error) {
	receipt := event.Receipt{Time: tx.now, Indexes: make([]int64, 0, len(drafts))}
	if err := tx.keepBundle(change.Bundle); err != nil {
		return receipt, err
	}
	for i := range drafts {
		index, err := tx.append(&drafts[i])
		if err != nil {
			return receipt, fmt.Errorf("append %s: %w", drafts[i].typ, err)
		}
		receipt.Indexes = append(receipt.Indexes, index)
	}
	return receipt, tx.remember(change.Remember)
}

// keepBundle stores the content of a bundle under its hash. One that is not its hash would look like tampering later.
func (tx *transaction) keepBundle(b *event.Bundle) error {
	if b == nil {
		return nil
	}
	if want := bundleHash(b.Content); want != b.Hash {
		return fmt.Errorf("the bundle %s has the hash %s", b.Hash, want)
	}
	return tx.on.exec(tx.ctx, `INSERT INTO bundles (hash, content) VALUES ($1, $2) ON CONFLICT DO NOTHING`, b.Hash, b.Content)
}

func bundleHash(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// remember notes what an idempotency key stands for, and forgets those that have run out.
func (tx *transaction) remember(r *event.Remember) error {
	if r == nil {
		return nil
	}
	if err := tx.on.exec(tx.ctx, `DELETE FROM idempotency WHERE expires <= $1`, micros(tx.now)); err != nil {
		return err
	}
	return tx.on.exec(tx.ctx, `INSERT INTO idempotency (subject, key, digest, result, expires, version) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (subject, key) DO UPDATE SET digest = excluded.digest, result = excluded.result, expires = excluded.expires, version = excluded.version`,
		string(r.Subject), r.Key, r.Digest, r.Result, micros(r.Expires), tx.tree.Size())
}

// sealed is a draft with all that does not depend on its place in the log: its data as it will be written, read again, and
// the values that lie beside it.
type sealed struct {
	task   string
	typ    string
	data   json.RawMessage
	event  event.Event
	values []sealedValue
}

type sealedValue struct {
	slot string
	evidence.Disclosure
}

// seal makes the commitments to the values of drafts. It is done before the transaction, where many can do it at once.
func seal(drafts []event.Draft) ([]sealed, error) {
	out := make([]sealed, len(drafts))
	for i := range drafts {
		s := &out[i]
		s.task, s.typ = drafts[i].Task, drafts[i].Event.EventType()
		err := s.commit(&drafts[i])
		if err == nil {
			// What is projected is what was written, as whoever replays the log will read it.
			var known bool
			if s.event, known, err = event.Decode(s.typ, s.data); err == nil && !known {
				err = errors.New("no version of this program could read it")
			}
		}
		if err != nil {
			return nil, unavailable(fmt.Errorf("append %s: %w", s.typ, err))
		}
	}
	return out, nil
}

// append writes one entry, what lies beside it, the tiles it fills, and its effect on the state.
func (tx *transaction) append(s *sealed) (int64, error) {
	index := tx.tree.Size()
	entry := evidence.Entry{ID: strconv.FormatInt(index, 10), Source: tx.store.Origin(), Type: s.typ, Time: tx.now, Task: s.task, Data: s.data}
	var err error
	if entry.TaskSeq, entry.TaskPrev, err = tx.number(s.task); err != nil {
		return 0, err
	}
	raw, err := entry.Marshal()
	if err != nil {
		return 0, err
	}
	for _, v := range s.values {
		err := tx.on.exec(tx.ctx, `INSERT INTO disclosures (idx, slot, salt, value) VALUES ($1, $2, $3, $4)`, index, v.slot, v.Salt, []byte(v.Value))
		if err != nil {
			return 0, err
		}
	}
	if err := tx.on.exec(tx.ctx, `INSERT INTO entries (idx, body) VALUES ($1, $2)`, index, raw); err != nil {
		return 0, err
	}
	for _, tile := range tx.tree.Append(evidence.LeafHash(raw)) {
		if err := tx.on.exec(tx.ctx, `INSERT INTO tiles (level, n, data) VALUES ($1, $2, $3)`, tile.Level, tile.Index, tile.Data); err != nil {
			return 0, err
		}
	}
	if err := tx.beside(s.event); err != nil {
		return 0, err
	}
	tx.last = raw
	if s.task != "" {
		tx.tasks[s.task] = taskEnd{seq: entry.TaskSeq, last: index}
	}
	p := projection{ctx: tx.ctx, on: tx.on, index: index, at: tx.now, task: s.task}
	return index, p.project(s.event)
}

// beside does what an entry says of the values beside the log, and refuses one that could never be verified.
func (tx *transaction) beside(e event.Event) error {
	switch e := e.(type) {
	case *event.ValueErased:
		return tx.erase(e)
	case *event.LogPruned:
		return tx.prune(e)
	case *event.PolicyActivated:
		var found int64
		err := tx.on.row(tx.ctx, `SELECT 1 FROM bundles WHERE hash = $1`, []any{e.Bundle}, &found)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: nobody has stored the bundle %s", access.ErrNotFound, e.Bundle)
		}
		return err
	default:
		return nil
	}
}

// erase removes values that lie beside an entry; the entry that says so is written in the same transaction.
func (tx *transaction) erase(e *event.ValueErased) error {
	for _, slot := range e.Slots {
		var found int64
		err := tx.on.row(tx.ctx, `SELECT 1 FROM disclosures WHERE idx = $1 AND slot = $2`, []any{e.Index, slot}, &found)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: there is no value %q beside entry %d that could be erased", access.ErrNotFound, slot, e.Index)
		}
		if err != nil {
			return err
		}
		if err := tx.on.exec(tx.ctx, `DELETE FROM disclosures WHERE idx = $1 AND slot = $2`, e.Index, slot); err != nil {
			return err
		}
	}
	return nil
}

// prune deletes the entries, and the values beside them, that the entry names. It refuses if there are others than were counted.
func (tx *transaction) prune(e *event.LogPruned) error {
	var entries, values int64
	for _, s := range e.Entries {
		var more, beside int64
		err := tx.on.row(tx.ctx, `SELECT (SELECT COUNT(*) FROM entries WHERE idx >= $1 AND idx <= $2), (SELECT COUNT(*) FROM disclosures WHERE idx >= $1 AND idx <= $2)`,
			[]any{s[0], s[1]}, &more, &beside)
		if err != nil {
			return err
		}
		entries, values = entries+more, values+beside
	}
	if entries != count(e.Entries) || values != e.Values {
		return fmt.Errorf("%w: what is to be pruned has changed meanwhile: export again, and then prune", access.ErrUnavailable)
	}
	for _, s := range e.Entries {
		if err := tx.on.exec(tx.ctx, `DELETE FROM entries WHERE idx >= $1 AND idx <= $2`, s[0], s[1]); err != nil {
			return err
		}
		if err := tx.on.exec(tx.ctx, `DELETE FROM disclosures WHERE idx >= $1 AND idx <= $2`, s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// taskEnd is how many entries a task has, and which is the last.
type taskEnd struct {
	seq  int
	last int64
}

const (
	selectSeq  = `SELECT seq FROM task_log WHERE task = $1`
	selectLast = `SELECT last FROM task_log WHERE task = $1`
)

// number is the place of the next entry among those of its task.
func (tx *transaction) number(task string) (seq int, prev string, err error) {
	if task == "" {
		return 0, "", nil
	}
	end, known := tx.tasks[task]
	if !known {
		end, known = tx.store.tasks[task]
	}
	if !known {
		if end, err = tx.taskEnd(task); err != nil {
			return 0, "", err
		}
	}
	if end.seq == 0 {
		return 1, "", nil
	}
	return end.seq + 1, strconv.FormatInt(end.last, 10), nil
}

func (tx *transaction) taskEnd(task string) (taskEnd, error) {
	var ends [2]int64
	for i, text := range []string{selectSeq, selectLast} {
		r := read{text: text, args: []any{task}}
		now, known := tx.checked[r.key()]
		if !known {
			var err error
			if now, err = r.value(tx.ctx, tx.on); err != nil {
				return taskEnd{}, err
			}
		}
		ends[i] = now
	}
	return taskEnd{seq: int(max(ends[0], 0)), last: ends[1]}, nil
}

// commit writes the event as JSON with the commitments to its values.
func (s *sealed) commit(draft *event.Draft) error {
	data, err := json.Marshal(draft.Event)
	s.data = data
	if err != nil || len(draft.Values) == 0 {
		return err
	}
	if len(draft.Values) > evidence.MaxCommitments {
		return fmt.Errorf("%w: %d values beside one entry, the limit is %d", evidence.ErrTooLarge, len(draft.Values), evidence.MaxCommitments)
	}
	data = append(data[:len(data)-1], `,"commitments":{`...)
	for i, slot := range slices.Sorted(maps.Keys(draft.Values)) {
		if err := evidence.CheckSlot(slot); err != nil {
			return err
		}
		salt := make([]byte, evidence.SaltSize)
		_, _ = rand.Read(salt) // never fails
		disclosure, err := evidence.NewDisclosure(salt, draft.Values[slot])
		if err != nil {
			return err
		}
		s.values = append(s.values, sealedValue{slot, disclosure})
		if i > 0 {
			data = append(data, ',')
		}
		data = strconv.AppendQuote(data, slot)
		data = append(data, `:"`...)
		data = append(data, disclosure.Commit()...)
		data = append(data, '"')
	}
	s.data = append(data, "}}"...)
	return nil
}

// moveHead signs the tree as it is now and writes it as the head, if it has grown.
func (tx *transaction) moveHead() (*head, error) {
	if tx.head.size == tx.tree.Size() {
		return tx.head, nil
	}
	signed, err := evidence.Checkpoint{Origin: tx.store.Origin(), Size: tx.tree.Size(), Root: tx.tree.Root()}.Sign(tx.store.opts.Signer)
	if err != nil {
		return nil, err
	}
	next := &head{size: tx.tree.Size(), time: tx.now, checkpoint: signed}
	return next, tx.on.exec(tx.ctx, `INSERT INTO head (one, size, time, checkpoint) VALUES (1, $1, $2, $3)
		ON CONFLICT (one) DO UPDATE SET size = excluded.size, time = excluded.time, checkpoint = excluded.checkpoint`,
		next.size, micros(next.time), next.checkpoint)
}

// tileReader reads full tiles from the database.
type tileReader struct {
	ctx context.Context
	on  session
}

func (r tileReader) ReadTile(level int, index int64) ([]byte, error) {
	var data []byte
	err := r.on.row(r.ctx, `SELECT data FROM tiles WHERE level = $1 AND n = $2`, []any{level, index}, &data)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w (it is missing)", ErrForked)
	}
	return data, err
}

// leafHashes hashes the entries from (included) to (excluded). For those that were pruned their tiles tell; whoever asks compares
// the root.
func leafHashes(ctx context.Context, on session, from, to int64) ([]evidence.Hash, error) {
	found := make(map[int64]evidence.Hash, to-from)
	err := on.each(ctx, `SELECT idx, body FROM entries WHERE idx >= $1 AND idx < $2`, []any{from, to}, func(row func(...any) error) error {
		var index int64
		var body []byte
		err := row(&index, &body)
		found[index] = evidence.LeafHash(body)
		return err
	})
	if err != nil {
		return nil, err
	}
	hashes := make([]evidence.Hash, 0, to-from)
	var tile []byte
	at := int64(-1) // of tile
	for index := from; index < to; index++ {
		leaf, there := found[index]
		if !there {
			if n := index / evidence.TileWidth; n != at {
				if tile, err = (tileReader{ctx, on}).ReadTile(0, n); err != nil {
					return nil, fmt.Errorf("entry %d: %w", index, err)
				}
				at = n
			}
			start := int(index%evidence.TileWidth) * len(leaf)
			if len(tile) < start+len(leaf) {
				return nil, fmt.Errorf("%w (entry %d is missing)", ErrForked, index)
			}
			leaf = evidence.Hash(tile[start : start+len(leaf)])
		}
		hashes = append(hashes, leaf)
	}
	return hashes, nil
}
