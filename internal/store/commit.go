package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

const (
	// How long a commit waits for company under load: about as long as the one before took, whose callers are not back sooner.
	minGather = time.Millisecond
	maxGather = 10 * time.Millisecond

	maxWaiting = 4096 // operations that may wait for a commit; more are refused
	maxBatch   = 256  // operations that share one flush
)

// operation is one use case on its way into the log.
type operation struct {
	ctx    context.Context
	aside  func(*transaction) error // writes what has no authority and leaves no evidence; then there is nothing to decide
	decide func(*View) (event.Change, error)
	change event.Change
	drafts []sealed // of change
	reads  []read
	since  int64 // where the changes stood when it began to read
	first  bool  // it begins the log, if nobody else has
	again  bool  // decided inside a transaction that was undone: what it saw there may never come to be
	urgent bool  // may use the reserve: it takes access away
	done   chan result
}

// fail tells the caller that the operation was not recorded, as far as can be known.
func (op *operation) fail(err error) {
	op.done <- result{err: unavailable(err)}
}

type result struct {
	receipt event.Receipt
	err     error
}

// Update runs decide on the present state and records the change it returns, all or nothing. When it returns without
// an error the change is durable. decide must be a pure function of what it reads through the View; if something it
// read was changed by somebody else before the commit, it runs again, inside the transaction, so it may run twice and
// what it does outside the View must not matter. An error of decide is returned as it is, and nothing is recorded.
// A context that ends while the change waits keeps it from being recorded if it is not too late; the answer always says
// what happened, so Update may return a little after the context's end.
func (s *Store) Update(ctx context.Context, decide func(*View) (event.Change, error)) (event.Receipt, error) {
	return s.update(ctx, decide, false)
}

// Revoke is Update for changes that only take access away: they may use the reserved space when the disk is full.
func (s *Store) Revoke(ctx context.Context, decide func(*View) (event.Change, error)) (event.Receipt, error) {
	return s.update(ctx, decide, true)
}

func (s *Store) update(ctx context.Context, decide func(*View) (event.Change, error), urgent bool) (event.Receipt, error) {
	since := s.changes.now()
	view := &View{ctx: ctx, store: s, on: s.reads, seen: make([]read, 0, 16)}
	change, err := decide(view)
	if err != nil {
		return event.Receipt{}, err
	}
	if len(change.Drafts) == 0 && change.Remember == nil {
		return event.Receipt{Time: s.Now()}, nil
	}
	drafts, err := seal(change.Drafts)
	if err != nil {
		return event.Receipt{}, err
	}
	return s.enqueue(&operation{ctx: ctx, decide: decide, change: change, drafts: drafts, reads: view.seen, since: since, urgent: urgent, done: make(chan result, 1)})
}

// enqueue hands an operation to the committing goroutine and waits for it.
func (s *Store) enqueue(op *operation) (event.Receipt, error) {
	select {
	case <-s.closing:
		return event.Receipt{}, fmt.Errorf("%w: shutting down", access.ErrUnavailable)
	default:
	}
	if err := s.offer(op); err != nil {
		return event.Receipt{}, err
	}
	select {
	case got := <-op.done:
		return got.receipt, got.err
	case <-s.stopped:
	}
	select {
	case got := <-op.done: // the last batch has told its callers before it stopped
		return got.receipt, got.err
	default:
		return event.Receipt{}, fmt.Errorf("%w: shutting down", access.ErrUnavailable)
	}
}

// offer puts an operation into the queue. When that is full, requests are refused at once, and what takes access away waits.
func (s *Store) offer(op *operation) error {
	select {
	case s.queue <- op:
		return nil
	default:
	}
	if !op.urgent {
		return fmt.Errorf("%w: too many requests wait for a commit", access.ErrUnavailable)
	}
	select {
	case s.queue <- op:
		return nil
	case <-op.ctx.Done():
		return unavailable(op.ctx.Err())
	case <-s.closing:
		return fmt.Errorf("%w: shutting down", access.ErrUnavailable)
	}
}

// run is the committing goroutine: the only one that writes.
func (s *Store) run() {
	defer close(s.stopped)
	last, took := 1, time.Duration(0)
	for {
		select {
		case op := <-s.queue:
			batch := s.gather(op, last, min(max(took, minGather), maxGather))
			last = len(batch)
			began := time.Now()
			s.commit(batch)
			took = time.Since(began)
		case <-s.db.moved():
			s.catchUp()
		case <-s.closing:
			return
		}
	}
}

// gather collects who else waits. Under load (the last batch had company) it waits until as many have come again,
// at most as long as said; alone, and with what takes access away, it does not wait at all.
func (s *Store) gather(first *operation, last int, most time.Duration) []*operation {
	batch := append(make([]*operation, 0, max(last, 16)), first)
	var late <-chan time.Time
	if last > 1 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		late = timer.C
	}
	for len(batch) < maxBatch {
		if len(batch) >= last || late == nil || batch[len(batch)-1].urgent {
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
		case <-s.closing:
			late = nil
		}
	}
	return batch
}

// failure is the error of one operation in a batch.
type failure struct {
	op  int
	err error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// commit records a batch under one flush. An operation that cannot be recorded is answered, and the others are tried
// without it, so that none fails for another's sake. When the space runs out each is tried by itself, and what takes
// access away once more on the reserve. What fails for all, such as a database that does not answer, is answered to all at once.
func (s *Store) commit(batch []*operation) {
	results, err := s.write(batch, false)
	if errors.Is(err, errFlush) && !errors.Is(err, errLost) && !s.db.full(err) {
		results, err = s.write(batch, true) // to find out whose fault it was
	}
	var failed *failure
	switch {
	case err == nil:
		for i, op := range batch {
			op.done <- results[i]
		}
	case s.db.full(err):
		s.commitFull(batch, err)
	case errors.As(err, &failed):
		s.opts.Log.ErrorContext(context.Background(), "an operation cannot be recorded", slog.Any("error", err))
		batch[failed.op].fail(failed.err)
		if rest := slices.Delete(batch, failed.op, failed.op+1); len(rest) > 0 {
			s.commit(rest)
		}
	default:
		s.opts.Log.ErrorContext(context.Background(), "commit failed", slog.Any("error", err))
		for _, op := range batch {
			op.fail(err)
		}
	}
}

func (s *Store) commitFull(batch []*operation, err error) {
	switch {
	case len(batch) > 1:
		for _, op := range batch {
			s.commit([]*operation{op})
		}
	case batch[0].urgent && s.db.useReserve():
		s.commit(batch)
	default:
		s.opts.Log.ErrorContext(context.Background(), "commit failed: no space left", slog.Any("error", err))
		batch[0].fail(err)
	}
}

// write is one transaction: hold the head, check what was read, append, project, move the head, flush. On an error nothing
// is acknowledged, and nothing has happened in memory; in the database neither, but for a crash in the middle of a COMMIT, or a
// connection lost there: then it may be found recorded later, wholly. What is written
// is gathered, and runs together; with singly what each operation writes runs by itself.
func (s *Store) write(batch []*operation, singly bool) (results []result, err error) {
	ctx := context.Background() // a caller that goes away must not tear a batch that others share
	defer func() {
		if err != nil {
			s.writes.rollback(ctx)
		}
	}()
	tx, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	if !singly {
		if err := tx.prepare(batch); err != nil {
			return nil, fmt.Errorf("%w: %w", errFlush, err) // it may be one operation's
		}
	}
	for i, op := range batch {
		if singly {
			err := tx.prepare(batch[i : i+1])
			if errors.Is(err, errLost) {
				return nil, err
			}
			if err != nil {
				return nil, &failure{op: i, err: err}
			}
		}
		got, err := tx.record(op)
		if err == nil && singly {
			err = tx.on.flush(ctx)
		}
		switch {
		case err == nil:
		case errors.Is(err, errLost):
			return nil, err
		case tx.on.broken && !singly:
			return nil, fmt.Errorf("%w: %w", errFlush, err) // it may be another's fault
		default:
			return nil, &failure{op: i, err: err}
		}
		results = append(results, got)
	}
	next, err := tx.moveHead()
	if err != nil {
		return nil, err
	}
	if err := tx.on.flush(ctx); err != nil {
		return nil, err
	}
	if err := s.db.check(ctx); err != nil {
		return nil, err
	}
	if s.beforeCommit != nil {
		if err := s.beforeCommit(len(batch)); err != nil {
			return nil, err
		}
	}
	s.cache.committing(true)
	err = s.writes.commit(ctx)
	if errors.Is(err, errUnknown) {
		err = tx.settle(next, err)
	}
	if err != nil {
		s.cache.committing(false)
		return nil, err
	}
	s.committed(tx, next)
	return results, nil
}

// committed makes what was committed the state of this process.
func (s *Store) committed(tx *transaction, next *head) {
	s.changes.add(tx.done)
	s.tmu.Lock()
	s.tree = tx.tree
	s.head.Store(next)
	s.tmu.Unlock()
	if len(s.tasks) > keptTasks {
		clear(s.tasks)
	}
	for task, end := range tx.tasks {
		s.tasks[task] = end
	}
}

// transaction is the state of one batch while it is being written.
type transaction struct {
	store *Store
	ctx   context.Context
	on    *buffered
	tree  *evidence.Tree
	head  *head // that it began with
	now   time.Time
	clock error              // what is wrong with this process's
	done  commit             // what it has written so far
	tasks map[string]taskEnd // where the tasks that it has written to stand in the log
	last  []byte             // the newest entry
	// checked is what the reads of the batch are worth now, where that had to be looked up; by text and arguments.
	checked map[string]int64
}

// begin starts a transaction that holds the head of the log, on all that other processes have committed.
func (s *Store) begin(ctx context.Context) (*transaction, error) {
	stored, err := s.writes.begin(ctx)
	if err != nil {
		return nil, err
	}
	clock := s.checkClock(stored.clock) // at once: to follow others can take its time, and tells nothing of clocks
	if err := s.follow(ctx, s.writes, stored); err != nil {
		return nil, err
	}
	tx := &transaction{store: s, ctx: ctx, tree: s.tree.Clone(), head: s.head.Load(), now: s.Now(), tasks: map[string]taskEnd{}, clock: clock}
	tx.on = &buffered{writer: s.writes, forms: s.forms, wrote: func(w statement) { s.changes.note(&tx.done, w) }}
	return tx, nil
}

// maxClockSkew is how far a process's clock may be from that of the database that it shares with others (I4).
const maxClockSkew = time.Second

func (s *Store) checkClock(database time.Time) error {
	most := maxClockSkew
	if s.opts.clockSkew != 0 {
		most = s.opts.clockSkew
	}
	if skew := s.opts.Now().Sub(database).Abs(); !database.IsZero() && skew > most {
		return fmt.Errorf("%w: this clock and the database's are %s apart: correct it", access.ErrUnavailable, skew.Round(time.Millisecond))
	}
	return nil
}

// record appends one operation's change. A refusal that leaves nothing behind is in the result; a returned error
// has left part of the operation in the transaction, which must be undone.
func (tx *transaction) record(op *operation) (result, error) {
	if err := op.ctx.Err(); err != nil {
		return result{err: unavailable(err)}, nil
	}
	if !op.urgent && !tx.store.db.granting() {
		return result{err: fmt.Errorf("%w: the database has no space left, or is not safe: only revoking works", access.ErrUnavailable)}, nil
	}
	if behind := tx.store.clockBehind(); !op.urgent && behind > maxClockBehind {
		return result{err: fmt.Errorf("%w: the clock is %s behind the log: correct it", access.ErrUnavailable, behind.Round(time.Second))}, nil
	}
	if tx.clock != nil && !op.urgent {
		return result{err: tx.clock}, nil
	}
	if op.first && tx.tree.Size() > 0 {
		return result{}, nil
	}
	if op.aside != nil {
		return result{receipt: event.Receipt{Time: tx.now}}, op.aside(tx)
	}
	change, drafts := op.change, op.drafts
	stale, err := tx.stale(op)
	if err != nil {
		return result{}, err
	}
	if stale {
		op.again = true
		if change, err = tx.decide(op); err == nil {
			drafts, err = seal(change.Drafts)
		}
		if err != nil && tx.on.broken {
			return result{}, err
		}
		if err != nil {
			return result{err: err}, nil //nolint:nilerr // it is the caller's, not the transaction's
		}
	}
	receipt, err := tx.apply(change, drafts)
	return result{receipt: receipt}, err
}

// decide runs an operation's decide on what is so now. A panic there must not end the process for all.
func (tx *transaction) decide(op *operation) (change event.Change, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			change, err = event.Change{}, fmt.Errorf("%w: the decision panicked: %v", access.ErrUnavailable, cause)
		}
	}()
	return op.decide(&View{ctx: tx.ctx, store: tx.store, on: tx.on, inside: true, now: tx.now})
}

// Beat notes a sign of life of a task. It has no authority and leaves no evidence: it can only keep a task from
// ending before its time.
func (s *Store) Beat(ctx context.Context, task string, at time.Time) error {
	return s.note(ctx, func(tx *transaction) error {
		return tx.on.exec(tx.ctx, `INSERT INTO heartbeats (task, at) VALUES ($1, $2)
			ON CONFLICT (task) DO UPDATE SET at = excluded.at WHERE excluded.at > heartbeats.at`, task, micros(at))
	})
}

// note writes what leaves no evidence.
func (s *Store) note(ctx context.Context, write func(*transaction) error) error {
	_, err := s.enqueue(&operation{ctx: ctx, aside: write, done: make(chan result, 1)})
	return err
}

// stale reports whether something that the operation read is no longer so. It looks only where that may be.
func (tx *transaction) stale(op *operation) (bool, error) {
	if op.again {
		return true, nil
	}
	for i := range op.reads {
		r := &op.reads[i]
		if !tx.suspect(op, r) {
			continue
		}
		now, err := tx.present(r)
		if err != nil {
			return false, err
		}
		if now != r.saw {
			return true, nil
		}
	}
	return false, nil
}

// suspect reports whether what was read may have changed since. What leaves no evidence can be changed by another process
// without a move of the head.
func (tx *transaction) suspect(op *operation, r *read) bool {
	s := tx.store
	return s.db.shared() && s.forms.unlogged(r.text) || s.changes.since(op.since, r, &tx.done)
}

// present is what a read is worth now.
func (tx *transaction) present(r *read) (int64, error) {
	if now, known := tx.checked[r.key()]; known && !tx.store.changes.touches(&tx.done, r) {
		return now, nil
	}
	return r.value(tx.ctx, tx.on)
}

// prepare looks up at once what the batch needs: the reads that another process may have changed, and where the tasks that
// it adds to stand in the log.
func (tx *transaction) prepare(batch []*operation) error {
	var need []read
	if tx.checked == nil {
		tx.checked = map[string]int64{}
	}
	add := func(r read) {
		if _, known := tx.checked[r.key()]; !known {
			tx.checked[r.key()] = 0
			need = append(need, r)
		}
	}
	for _, op := range batch {
		for i := range op.reads {
			if !op.again && tx.suspect(op, &op.reads[i]) {
				add(op.reads[i])
			}
		}
		for i := range op.change.Drafts {
			if task := op.change.Drafts[i].Task; task != "" && tx.store.tasks[task].seq == 0 {
				add(read{text: selectSeq, args: []any{task}})
				add(read{text: selectLast, args: []any{task}})
			}
		}
	}
	values, err := tx.on.numbers(tx.ctx, need)
	for i := range values {
		tx.checked[need[i].key()] = values[i]
	}
	return err
}
