package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
)

// ErrRolledBack says that the database is older than what this host has acknowledged, or holds another history.
var ErrRolledBack = errors.New("the database does not hold what this host has acknowledged: restore a newer backup; if there is none, accept the loss with `writ evidence accept-loss`")

// Acknowledged is the checkpoint that was kept in a file as the last one that was acknowledged; ok is false if there is none.
func Acknowledged(path, verifierKey string) (kept evidence.Checkpoint, ok bool, err error) {
	signed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept, false, nil
	}
	if err == nil {
		kept, err = evidence.OpenCheckpoint(signed, verifierKey)
	}
	if err != nil {
		return kept, false, fmt.Errorf("%w: the head that this host acknowledged cannot be read from %s: %w; put the file back, or, if it is lost, compare the log with a cosigned or kept checkpoint, and then move the file away", access.ErrUnavailable, path, err)
	}
	return kept, true, nil
}

// checkAcknowledged refuses a log that does not begin with what this host has acknowledged.
func (s *Store) checkAcknowledged(ctx context.Context) error {
	if s.opts.Acknowledged == "" || s.opts.AcceptLoss {
		return nil
	}
	kept, ok, err := Acknowledged(s.opts.Acknowledged, s.opts.VerifierKey)
	if err != nil || !ok {
		return err
	}
	if kept.Size > s.Size() {
		return fmt.Errorf("%w (size %d was acknowledged, the database has %d)", ErrRolledBack, kept.Size, s.Size())
	}
	root, err := evidence.RootAt(s.tree, tileReader{ctx, s.reads}, kept.Size)
	if err != nil {
		return unavailable(err)
	}
	if root != kept.Root {
		return fmt.Errorf("%w (its first %d entries are others)", ErrRolledBack, kept.Size)
	}
	return nil
}

// KeepHead writes the head to the file that Options.Acknowledged names, if it has moved since. Call it from time to time, from
// one goroutine, and before Close: a backup that is older than the last call will be noticed at the next start.
func (s *Store) KeepHead() error {
	head := s.head.Load()
	if s.opts.Acknowledged == "" || head.size == s.keptSize {
		return nil
	}
	// Another process of this host may have acknowledged more.
	if kept, ok, err := Acknowledged(s.opts.Acknowledged, s.opts.VerifierKey); !s.opts.AcceptLoss && (err != nil || ok && kept.Size >= head.size) {
		return err
	}
	if err := writeFile(s.opts.Acknowledged, head.checkpoint, 0o600); err != nil {
		return fmt.Errorf("%w: keep the acknowledged head: %w", access.ErrUnavailable, err)
	}
	s.keptSize = head.size
	return nil
}
