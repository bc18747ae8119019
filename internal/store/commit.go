package store

import (
	"github.com/writ-project/writ/internal/access"

	"context"
	"errors"
	"fmt"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access/event"
)

const (
	maxWaiting = 4096 // operations that may wait for a commit; more are refused
	maxBatch   = 256  // operations that share one flush
)

// operation is one use case on its way into the log.
type operation struct {
	ctx    context.Context
	beat   *beat
	decide func(*View) (event.Change, error)
	change event.Change
	reads  []read
	urgent bool // may use the reserve: it takes access away
	done   chan result
}

type result struct {
	receipt event.Receipt
	err     error
}

// Update runs decide on the present state and records the change it returns, all or nothing. When it returns without
// an error the change is durable. decide must be a pure function of what it reads through the View; if something it
// read was changed by somebody else before the commit, it runs again, inside the transaction, so it may run twice and
// what it does outside the View must not matter. An error of decide is returned as it is, and nothing is recorded.
func (s *Store) Update(ctx context.Context, decide func(*View) (event.Change, error)) (event.Receipt, error) {
	return s.update(ctx, decide, false)
}

// Revoke is Update for changes that only take access away: they may use the reserved space when the disk is full.
func (s *Store) Revoke(ctx context.Context, decide func(*View) (event.Change, error)) (event.Receipt, error) {
	return s.update(ctx, decide, true)
}

func (s *Store) update(ctx context.Context, decide func(*View) (event.Change, error), urgent bool) (event.Receipt, error) {
	view := &View{ctx: ctx, store: s, on: s.reads}
	change, err := decide(view)
	if err != nil {
		return event.Receipt{}, err
	}
	if len(change.Drafts) == 0 && change.Remember == nil {
		return event.Receipt{Time: s.Now()}, nil
	}
	return s.enqueue(&operation{ctx: ctx, decide: decide, change: change, reads: view.seen, urgent: urgent, done: make(chan result, 1)})
}

// enqueue hands an operation to the committing goroutine and waits for it.
func (s *Store) enqueue(op *operation) (event.Receipt, error) {
	select {
	case <-s.closing:
		return event.Receipt{}, fmt.Errorf("%w: shutting down", access.ErrUnavailable)
	default:
	}
	select {
	case s.queue <- op:
	default:
		return event.Receipt{}, fmt.Errorf("%w: too many requests wait for a commit", access.ErrUnavailable)
	}
	select {
	case got := <-op.done:
		return got.receipt, got.err
	case <-s.stopped:
		return event.Receipt{}, fmt.Errorf("%w: shutting down", access.ErrUnavailable)
	}
}

// run is the committing goroutine: the only one that writes.
func (s *Store) run() {
	defer close(s.stopped)
	last := 1
	for {
		select {
		case op := <-s.queue:
			batch := s.gather(op, last)
			last = len(batch)
			s.commit(batch)
		case <-s.closing:
			return
		}
	}
}

// gather collects who else waits. Under load (the last batch had company) it waits until as many have come again,
// at most opts.Gather; alone it does not wait at all.
func (s *Store) gather(first *operation, last int) []*operation {
	batch := append(make([]*operation, 0, max(last, 16)), first)
	var late <-chan time.Time
	if last > 1 {
		timer := time.NewTimer(s.opts.Gather)
		defer timer.Stop()
		late = timer.C
	}
	for len(batch) < maxBatch {
		if len(batch) >= last || late == nil {
			select {
			case op := <-s.queue:
				batch = append(batch, op)
				continue
			default:
				return batch
			}
		}
		select {
		case op := <-s.queue:
			batch = append(batch, op)
		case <-late:
			late = nil
		}
	}
	return batch
}

// commit records a batch under one flush. If the batch cannot be written, each operation is tried by itself, so that
// none fails for another's sake; a revocation that finds the disk full is tried again on the reserve.
func (s *Store) commit(batch []*operation) {
	results, err := s.write(batch)
	switch {
	case err == nil:
		for i, op := range batch {
			op.done <- results[i]
		}
	case len(batch) > 1:
		for _, op := range batch {
			s.commit([]*operation{op})
		}
	case batch[0].urgent && isFull(err) && s.useReserve():
		s.commit(batch)
	default:
		s.opts.Log.Error("commit failed", "error", err)
		batch[0].done <- result{err: fmt.Errorf("%w: %w", access.ErrUnavailable, err)}
	}
}

// write is one transaction: check what was read, append, project, move the head, flush. On an error nothing has
// happened, neither in the database nor in memory.
func (s *Store) write(batch []*operation) (results []result, err error) {
	ctx := context.Background() // a caller that goes away must not tear a batch that others share
	if _, err := s.conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return nil, err
	}
	tx := &transaction{store: s, ctx: ctx, on: s.writes, tree: s.tree.Clone(), now: s.Now()}
	defer func() {
		if err != nil {
			_, rollback := s.conn.ExecContext(ctx, `ROLLBACK`)
			err = errors.Join(err, rollback)
		}
	}()
	if err := s.checkHead(ctx); err != nil {
		return nil, err
	}
	for _, op := range batch {
		got, err := tx.record(op)
		if err != nil {
			return nil, err
		}
		results = append(results, got)
	}
	next, err := tx.moveHead()
	if err != nil {
		return nil, err
	}
	if _, err := s.conn.ExecContext(ctx, `COMMIT`); err != nil {
		return nil, err
	}
	s.tmu.Lock()
	s.tree = tx.tree
	s.head.Store(next)
	s.tmu.Unlock()
	return results, nil
}

// checkHead makes sure that nobody else has moved the log since this process last did.
func (s *Store) checkHead(ctx context.Context) error {
	known := s.head.Load()
	if known.size == 0 {
		return nil
	}
	var size int64
	if err := s.writes.row(ctx, `SELECT size FROM head WHERE one = 1`, nil, &size); err != nil {
		return err
	}
	if size != known.size {
		return fmt.Errorf("%w (size %d is acknowledged, the database has %d)", ErrForked, known.size, size)
	}
	return nil
}

// useReserve gives up the reserved space, once.
func (s *Store) useReserve() bool {
	if !s.reserve.kept.Load() {
		return false
	}
	s.opts.Log.Error("no space left: giving up the reserve so that revoking still works")
	if err := s.reserve.release(); err != nil {
		s.opts.Log.Error("the reserve could not be given up", "error", err)
		return false
	}
	if s.opts.MaxPages > 0 {
		const pageSize = 4096
		raised := fmt.Sprintf("PRAGMA max_page_count = %d", s.opts.MaxPages+s.reserve.size/pageSize)
		if _, err := s.conn.ExecContext(context.Background(), raised); err != nil {
			return false
		}
	}
	return true
}

// transaction is the state of one batch while it is being written.
type transaction struct {
	store *Store
	ctx   context.Context
	on    *session
	tree  *evidence.Tree
	now   time.Time
}

// record appends one operation's change. A returned error ends the whole batch; a refusal of the operation itself is
// in the result and leaves nothing behind.
func (tx *transaction) record(op *operation) (result, error) {
	if err := op.ctx.Err(); err != nil {
		return result{err: err}, nil
	}
	if op.beat != nil {
		return result{}, tx.note(op.beat)
	}
	if !op.urgent && !tx.store.reserve.kept.Load() {
		return result{err: fmt.Errorf("%w: the disk is full, only revoking works", access.ErrUnavailable)}, nil
	}
	stale, err := tx.stale(op.reads)
	if err != nil {
		return result{}, err
	}
	if stale {
		op.change, err = op.decide(&View{ctx: tx.ctx, store: tx.store, on: tx.on, inside: true})
		if err != nil {
			return result{err: err}, nil
		}
	}
	receipt, err := tx.apply(op.change)
	return result{receipt: receipt}, err
}

// beat is a sign of life of a task.
type beat struct {
	task string
	at   time.Time
}

// Beat notes a sign of life of a task. It has no authority and leaves no evidence: it can only keep a task from
// ending before its time.
func (s *Store) Beat(ctx context.Context, task string, at time.Time) error {
	_, err := s.enqueue(&operation{ctx: ctx, beat: &beat{task, at}, done: make(chan result, 1)})
	return err
}

func (tx *transaction) note(b *beat) error {
	return tx.on.exec(tx.ctx, `INSERT INTO heartbeats (task, at) VALUES ($1, $2)
		ON CONFLICT (task) DO UPDATE SET at = excluded.at WHERE excluded.at > heartbeats.at`, b.task, micros(b.at))
}

// stale reports whether something that the operation read is no longer so.
func (tx *transaction) stale(reads []read) (bool, error) {
	for _, r := range reads {
		now, err := r.value(tx.ctx, tx.on)
		if err != nil {
			return false, err
		}
		if now != r.saw {
			return true, nil
		}
	}
	return false, nil
}
