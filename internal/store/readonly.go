package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

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
	if err := s.loadHead(ctx, s.reads, verifierKey); err != nil {
		return err
	}
	if s.Size() == 0 {
		return fmt.Errorf("%w: the log has no head", access.ErrNotFound)
	}
	return nil
}
