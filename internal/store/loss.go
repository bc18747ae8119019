package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access/event"
)

// ErrNothingLost says that the log holds all that was acknowledged.
var ErrNothingLost = errors.New("nothing was lost: the log holds all that was acknowledged")

// Holds reports whether the log is at or after a checkpoint, and began with it.
func (s *Store) Holds(ctx context.Context, c evidence.Checkpoint) (bool, error) {
	tree, _ := s.snapshot()
	if c.Size > tree.Size() {
		return false, nil
	}
	root, err := evidence.RootAt(tree, tileReader{ctx, s.reads}, c.Size)
	return err == nil && root == c.Root, unavailable(err)
}

// AcceptLoss records that what this host has acknowledged beyond the log is lost, and makes the present log what is acknowledged.
// The store must have been opened with AcceptLoss. It is ErrNothingLost if the log holds everything.
func (s *Store) AcceptLoss(ctx context.Context, reason string) (event.Receipt, error) {
	last, found, err := Acknowledged(s.opts.Acknowledged, s.opts.VerifierKey)
	if err != nil {
		return event.Receipt{}, err
	}
	if !found {
		return event.Receipt{}, fmt.Errorf("%w: this host has acknowledged nothing", ErrNothingLost)
	}
	receipt, err := s.RecordLoss(ctx, last, reason)
	if err != nil {
		return receipt, err
	}
	return receipt, s.KeepHead()
}

// RecordLoss writes the entry that says that the log goes on without what a checkpoint covers (writ.log.restored), and why. It is
// ErrNothingLost if the log holds it all.
func (s *Store) RecordLoss(ctx context.Context, lost evidence.Checkpoint, reason string) (event.Receipt, error) {
	if whole, err := s.Holds(ctx, lost); err != nil || whole {
		if whole {
			err = ErrNothingLost
		}
		return event.Receipt{}, err
	}
	why, err := json.Marshal(reason)
	if err != nil {
		return event.Receipt{}, err
	}
	tree, _ := s.snapshot()
	return s.Update(ctx, func(*View) (event.Change, error) {
		return event.Change{Drafts: []event.Draft{{Values: map[string]json.RawMessage{event.SlotReason: why}, Event: &event.LogRestored{
			Lost: event.LogHead{Size: lost.Size, Root: lost.Root.String()},
			From: event.LogHead{Size: tree.Size(), Root: tree.Root().String()},
			By:   event.By{Kind: event.ByOperator},
		}}}}, nil
	})
}
