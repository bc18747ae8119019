package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/writ-project/writ/evidence"
)

// follow adds to the tree what other processes have committed since this one last looked. What they signed must continue
// what this process acknowledged, entry by entry; else the log has been forked or cut.
func (s *Store) follow(ctx context.Context, on session, stored storedHead) error {
	known := s.head.Load()
	if stored.size == known.size && bytes.Equal(stored.checkpoint, known.checkpoint) {
		return nil
	}
	if known.size > 0 && !s.db.shared() || stored.size <= known.size {
		return fmt.Errorf("%w (size %d is acknowledged, the database has %d)", ErrForked, known.size, stored.size)
	}
	checkpoint, err := evidence.OpenCheckpoint(stored.checkpoint, s.opts.VerifierKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForked, err)
	}
	tree := s.tree.Clone()
	for from := known.size; from < stored.size; from += followStep {
		hashes, err := leafHashes(ctx, on, from, min(from+followStep, stored.size))
		if err != nil {
			return err
		}
		for _, hash := range hashes {
			tree.Append(hash) // whoever committed them has stored the tiles
		}
	}
	if checkpoint.Origin != s.origin || checkpoint.Size != stored.size || checkpoint.Root != tree.Root() {
		return fmt.Errorf("%w (what follows on size %d is not what the head of size %d signs)", ErrForked, known.size, stored.size)
	}
	clear(s.tasks)
	s.changes.add(commit{foreign: true})
	s.tmu.Lock()
	s.tree = tree
	s.head.Store(&head{size: stored.size, time: fromMicros(stored.time), checkpoint: stored.checkpoint})
	s.tmu.Unlock()
	return nil
}

const (
	followStep = 4096 // entries that are read at once
	keptTasks  = 20_000
	settleFor  = 10 * time.Second
)

// catchUp follows what others have committed when they tell of it, and wakes those who wait for news.
func (s *Store) catchUp() {
	ctx, cancel := context.WithTimeout(context.Background(), settleFor)
	defer cancel()
	var stored storedHead
	err := s.reads.row(ctx, selectHead, nil, &stored.size, &stored.time, &stored.checkpoint)
	if err == nil && stored.size >= s.Size() { // a transaction of our own may have come between
		err = s.follow(ctx, s.reads, stored)
	}
	if err != nil {
		s.opts.Log.ErrorContext(ctx, "what other processes have committed cannot be followed", slog.Any("error", err))
	}
	if wake := s.follower.Load(); wake != nil {
		(*wake)()
	}
}

// OnMoved sets what is called when another process has committed, so that those who wait can look again.
func (s *Store) OnMoved(wake func()) { s.follower.Store(&wake) }

// settle finds out whether a commit whose answer was lost has happened: the head tells. Taking it waits for what the server
// may still be doing for the lost connection.
func (tx *transaction) settle(next *head, lost error) error {
	if next.size == tx.head.size {
		return lost // nothing of it can be told from what was there before
	}
	s := tx.store
	ctx, cancel := context.WithTimeout(tx.ctx, settleFor)
	defer cancel()
	for ctx.Err() == nil {
		stored, err := s.writes.begin(ctx)
		if err == nil {
			err = tx.compare(next, stored, lost)
			s.writes.rollback(tx.ctx)
			return err
		}
		if !errors.Is(err, errLost) {
			s.writes.rollback(tx.ctx)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-s.closing:
			return lost
		}
	}
	return lost
}

// compare is nil if the entry that the commit ended with stands where it put it.
func (tx *transaction) compare(next *head, stored storedHead, lost error) error {
	if bytes.Equal(stored.checkpoint, next.checkpoint) {
		return nil
	}
	if stored.size < next.size {
		return fmt.Errorf("%w, and it did not happen", lost)
	}
	var body []byte
	err := tx.store.writes.row(tx.ctx, `SELECT body FROM entries WHERE idx = $1`, []any{next.size - 1}, &body)
	if err == nil && !bytes.Equal(body, tx.last) {
		err = fmt.Errorf("%w, and it did not happen", lost)
	}
	return err
}
