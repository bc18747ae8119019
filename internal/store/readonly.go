package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// OpenReadOnly opens a database to look at its log, also beside processes that serve it: what it shows is the state at
// the head of this moment. Every change is refused. database is as in Options.
func OpenReadOnly(ctx context.Context, database, verifierKey string) (_ *Store, err error) {
	s := newStore(Options{Database: database, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	close(s.stopped)
	close(s.closing)
	s.once.Do(func() {})
	if s.db, err = connectReadOnly(ctx, database); err != nil {
		return nil, err
	}
	s.reads = s.db.readers()
	if err := s.loadReadOnly(ctx, verifierKey); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", placeOf(database), err), s.release())
	}
	return s, nil
}

func (s *Store) loadReadOnly(ctx context.Context, verifierKey string) error {
	var key []byte
	if err := s.reads.row(ctx, selectSetting, []any{settingPseudonymKey}, &key); err != nil {
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
