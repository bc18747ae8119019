package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// OpenReadOnly opens a database to look at its log, also beside a process that serves it: what it shows is the state at
// the head of this moment. Every change is refused.
func OpenReadOnly(ctx context.Context, path, verifierKey string) (_ *Store, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: name the data folder with --data", err)
	}
	s := &Store{stopped: make(chan struct{}), closing: make(chan struct{}), opts: Options{Path: path, Now: time.Now, Log: slog.New(slog.DiscardHandler)}}
	close(s.stopped)
	close(s.closing)
	s.once.Do(func() {})
	if s.readers, err = openSQLite(path, "rw", []string{"query_only(1)", "busy_timeout(2000)"}); err != nil {
		return nil, err
	}
	s.readers.SetMaxOpenConns(readerConnections)
	s.reads = newSession(s.readers)
	if err := s.loadReadOnly(ctx, verifierKey); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), s.release())
	}
	return s, nil
}

func (s *Store) loadReadOnly(ctx context.Context, verifierKey string) error {
	var key []byte
	if err := s.reads.row(ctx, `SELECT value FROM settings WHERE name = $1`, []any{settingPseudonymKey}, &key); err != nil {
		return fmt.Errorf("this is not a database of writ: %w", err)
	}
	s.names = newNames(event.NewPseudonymizer(key))
	now := head{}
	var at int64
	if err := s.reads.row(ctx, `SELECT size, time, checkpoint FROM head`, nil, &now.size, &at, &now.checkpoint); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: the log has no head", access.ErrNotFound)
		}
		return err
	}
	now.time = fromMicros(at)
	if _, err := evidence.OpenCheckpoint(now.checkpoint, verifierKey); err != nil {
		return fmt.Errorf("the head of the log does not verify under this key: %w", err)
	}
	tree, err := evidence.LoadTree(now.size, tileReader{ctx, s.reads}, func(from, to int64) ([]evidence.Hash, error) {
		return leafHashes(ctx, s.reads, from, to)
	})
	if err != nil {
		return err
	}
	s.tree = tree
	s.head.Store(&now)
	return nil
}
