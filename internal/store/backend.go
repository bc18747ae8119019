package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// session runs statements of the one SQL text, each prepared once. All but a writer's may be used by many at once.
type session interface {
	exec(ctx context.Context, text string, args ...any) error
	// row reads one row; it returns sql.ErrNoRows if there is none.
	row(ctx context.Context, text string, args []any, into ...any) error
	// each calls scan for every row. scan must not use the session.
	each(ctx context.Context, text string, args []any, scan func(row func(...any) error) error) error
	// numbers reads many numbers at about the price of one.
	numbers(ctx context.Context, reads []read) ([]int64, error)
}

// writer is the one connection of a process that commits.
type writer interface {
	session
	// begin starts a transaction and holds the head of the log: nobody else commits until it ends.
	begin(ctx context.Context) (storedHead, error)
	// run executes statements in their order, at about the price of one.
	run(ctx context.Context, statements []statement) error
	// commit returns when the transaction is durable. An error that wraps errUnknown says that nobody knows whether it is.
	commit(ctx context.Context) error
	// rollback undoes what was begun; without a transaction it does nothing.
	rollback(ctx context.Context)
}

// storedHead is the end of the log as the database has it.
type storedHead struct {
	size, time int64 // zero: there is none yet
	checkpoint []byte
	clock      time.Time // the database's; zero where that is this process's own
}

// backend is the database under a store: all that SQLite and PostgreSQL do each in its own way.
type backend interface {
	writer() writer
	readers() session
	// shared says that other processes may commit, too.
	shared() bool
	// check makes sure that what is written will last and be seen.
	check(ctx context.Context) error
	// leads reports whether this process does what only one should.
	leads(ctx context.Context) (bool, error)
	// moved receives when another process has committed; nil where there is none.
	moved() <-chan struct{}
	// full reports whether an error is for want of space.
	full(err error) bool
	// granting is false while the space runs out, so that only revoking is allowed.
	granting() bool
	// useReserve gives up the space that is kept for revoking, once; false where there is none.
	useReserve() bool
	// recover puts right what can be: the reserve is taken back. An error says what still is wrong.
	recover(ctx context.Context) error
	close() error
}

var (
	// errUnknown says that the connection was lost while a commit was under way.
	errUnknown = errors.New("the connection was lost during the commit")
	// errLost says that the database does not answer, so that trying the next statement is no use.
	errLost = errors.New("the connection to the database was lost")
)

// isPostgres tells a database's URL from the path of a file.
func isPostgres(database string) bool {
	return strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://")
}

func connect(ctx context.Context, o *Options) (backend, error) {
	if isPostgres(o.Database) {
		return connectPostgres(ctx, o)
	}
	return connectSQLite(ctx, o)
}

// connectReadOnly opens a database that is not changed.
func connectReadOnly(ctx context.Context, database string) (backend, error) {
	if isPostgres(database) {
		return readPostgres(ctx, database)
	}
	return readSQLite(database)
}

const selectHead = `SELECT size, time, checkpoint FROM head WHERE one = 1`

// errFlush marks an error of writes that were gathered: it is not known whose they were.
var errFlush = errors.New("what was written before could not be")

// buffered gathers the writes of a transaction until something is read in it, and then runs them together.
type buffered struct {
	writer

	forms   *forms
	pending []statement
	wrote   func(statement) // sees every write
	broken  bool            // a statement has failed: nothing more can be done in this transaction
}

func (b *buffered) exec(_ context.Context, text string, args ...any) error {
	s := statement{text, args}
	b.pending = append(b.pending, s)
	if b.wrote != nil {
		b.wrote(s)
	}
	return nil
}

func (b *buffered) row(ctx context.Context, text string, args []any, into ...any) error {
	err := b.flush(ctx)
	if err == nil {
		err = b.writer.row(ctx, text, args, into...)
		b.broken = b.broken || err != nil && !errors.Is(err, sql.ErrNoRows)
	}
	return err
}

func (b *buffered) each(ctx context.Context, text string, args []any, scan func(row func(...any) error) error) error {
	err := b.flush(ctx)
	if err == nil {
		err = b.writer.each(ctx, text, args, scan)
		b.broken = b.broken || err != nil
	}
	return err
}

func (b *buffered) numbers(ctx context.Context, reads []read) ([]int64, error) {
	err := b.flush(ctx)
	if err != nil {
		return nil, err
	}
	values, err := b.writer.numbers(ctx, reads)
	b.broken = b.broken || err != nil
	return values, err
}

func (b *buffered) flush(ctx context.Context) error {
	if len(b.pending) == 0 {
		return nil
	}
	statements := b.forms.group(b.pending)
	b.pending = b.pending[:0]
	if err := b.run(ctx, statements); err != nil {
		b.broken = true
		return fmt.Errorf("%w: %w", errFlush, err)
	}
	return nil
}
