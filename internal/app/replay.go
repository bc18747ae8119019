package app

import (
	"context"

	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/store"
)

// Replay computes every decision in a database again (I8). It only reads.
func Replay(ctx context.Context, s *store.Store, progress func(read int64)) (*control.Replayed, error) {
	return control.New(control.Options{Ledger: ledger{s}}).Replay(ctx, s.Size(), progress)
}
