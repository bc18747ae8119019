package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/store"
)

// CheckDatabase refuses a URL of a PostgreSQL database that is not safe to use: one with a secret in it, or without TLS.
func CheckDatabase(url string) error { return checkDatabase(url) }

// AcceptLoss records that what this host has acknowledged beyond the log is lost, and why; then a server starts on the database
// again. It needs the log's key, and no other process that serves the same SQLite database.
func AcceptLoss(ctx context.Context, config Config, reason string) (event.Receipt, error) {
	opened, _, err := openStore(ctx, config, Options{Now: time.Now}, mustExist, func(o *store.Options) { o.AcceptLoss = true })
	if err != nil {
		return event.Receipt{}, err
	}
	receipt, err := opened.AcceptLoss(ctx, reason)
	return receipt, errors.Join(err, opened.Close())
}

// mustExist keeps a mistyped path from becoming a new, empty log under the same key.
func mustExist(o *store.Options) { o.MustExist = true }

// Pruning says up to where entries are pruned: an index, or else an age.
type Pruning struct {
	Before    int64 // 0: by age
	OlderThan time.Duration
	Archive   string // folder that Export has written
	Progress  store.Progress
}

// Prune deletes old entries that the archive holds and nothing needs. It needs the log's key. On SQLite no server may run; on
// PostgreSQL it is one more process that commits.
func Prune(ctx context.Context, config Config, p Pruning) (_ store.Pruned, err error) {
	opened, key, err := openStore(ctx, config, Options{Now: time.Now}, mustExist)
	if err != nil {
		return store.Pruned{}, err
	}
	defer func() { err = errors.Join(err, opened.KeepHead(), opened.Close()) }()
	archive, err := store.OpenArchive(p.Archive, key)
	if err != nil {
		return store.Pruned{}, err
	}
	before := p.Before
	if before == 0 {
		if before, err = opened.IndexAt(ctx, opened.Now().Add(-p.OlderThan)); err != nil {
			return store.Pruned{}, fmt.Errorf("find the entries of that age: %w", err)
		}
	}
	return opened.Prune(ctx, archive, before, p.Progress)
}
