package app

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/store"
)

// Replay computes every decision in a database again (I8). It only reads; decisions that were pruned from the archive, if there is
// one.
func Replay(ctx context.Context, s *store.Store, archive *store.Archive, progress func(read int64)) (*control.Replayed, error) {
	return control.New(control.Options{Ledger: recalling{ledger{s}, archive}}).Replay(ctx, s.Size(), progress)
}

// recalling is a ledger whose views also read what was pruned.
type recalling struct {
	ledger

	archive *store.Archive
}

func (r recalling) Read(ctx context.Context, read func(control.View) error) error {
	return r.ledger.Read(ctx, func(v control.View) error {
		if r.archive == nil {
			return read(v)
		}
		return read(&recallingView{View: v, ctx: ctx, store: r.Store, archive: r.archive})
	})
}

type recallingView struct {
	control.View

	ctx     context.Context
	store   *store.Store
	archive *store.Archive
}

func (v *recallingView) DecisionEvent(index int64) (event.DecisionMade, error) {
	made, err := v.View.DecisionEvent(index)
	if !errors.Is(err, access.ErrPruned) {
		return made, err
	}
	entry, _, err := v.store.Recall(v.ctx, v.archive, index)
	if err != nil {
		return made, err
	}
	if entry.Type != made.EventType() {
		return made, access.ErrNotFound
	}
	e, _, err := event.Decode(entry.Type, entry.Data)
	if err != nil {
		return made, err
	}
	return *e.(*event.DecisionMade), nil //nolint:forcetypeassert // of this type
}

func (v *recallingView) Input(index int64) (*access.Input, error) {
	in, err := v.View.Input(index)
	if !errors.Is(err, access.ErrNotFound) {
		return in, err
	}
	if _, pruned := v.store.Entry(v.ctx, index); !errors.Is(pruned, access.ErrPruned) {
		return nil, err
	}
	_, values, err := v.store.Recall(v.ctx, v.archive, index)
	if err != nil {
		return nil, err
	}
	value, ok := values[event.SlotInput]
	if !ok {
		return nil, access.ErrNotFound
	}
	in = new(access.Input)
	return in, json.Unmarshal(value.Value, in)
}
