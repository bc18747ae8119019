// Package store keeps state and evidence in one SQL database, and changes them only together: the authoritative
// tables are a projection of the evidence entries (project.go), written in the transaction that appends the
// entries (commit.go), so there is no way to change state without evidence (I1).
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Errors that callers tell apart. Everything else that the store returns wraps access.ErrUnavailable or access.ErrNotFound.
var (
	// ErrForked says that the database holds another history than the one this process acknowledged.
	ErrForked = errors.New("the log's head went backwards or forked: restore the newest database, or accept the loss explicitly")
)

// Options configure a store.
type Options struct {
	Path   string           // of the SQLite database; its folder must exist
	Signer *evidence.Signer // signs checkpoints; its name is the log's origin
	// VerifierKey is the public half of Signer.
	VerifierKey string
	Engine      string // version that the first entry names
	Now         func() time.Time
	Log         *slog.Logger
	// Gather is how long a commit waits for company under load; 0 means 1 ms. It never waits when alone.
	Gather time.Duration
	// Reserve is the space kept free so that revoking still works on a full disk, in bytes; 0 means 8 MiB.
	Reserve int64
	// MaxPages bounds the database in pages of 4 KiB; 0 means unbounded.
	MaxPages int64
}

// Store is the database of one installation. It is safe for concurrent use. One process serves a SQLite database.
type Store struct {
	opts    Options
	lock    *fileLock
	db      *sql.DB // one connection: the writer's
	conn    *sql.Conn
	readers *sql.DB
	writes  *session // prepared on conn
	reads   *session // prepared on readers
	names   *names
	reserve *reserve

	queue   chan *operation
	stopped chan struct{}
	closing chan struct{}
	once    sync.Once

	head atomic.Pointer[head] // as last committed
	tree *evidence.Tree       // as last committed; only the committing goroutine changes it
	tmu  sync.RWMutex         // guards tree against readers
}

// head is the end of the log.
type head struct {
	size       int64
	time       time.Time
	checkpoint []byte
}

const settingPseudonymKey = "pseudonym_key"

// Open opens the database, creating it if it is not there, and brings its schema up to date.
// It refuses a database that another process serves, one of a newer version, and one whose head does not
// verify under the signer's key.
func Open(ctx context.Context, opts Options) (_ *Store, err error) {
	if opts.Gather == 0 {
		opts.Gather = time.Millisecond
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	lock, err := lockFile(opts.Path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts: opts, lock: lock,
		queue: make(chan *operation, maxWaiting), stopped: make(chan struct{}), closing: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	if err := migrate(ctx, s.conn); err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Path, err)
	}
	s.reserve = keepReserve(opts.Path+".reserve", opts.Reserve)
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Path, err)
	}
	go s.run()
	return s, nil
}

// load reads the pseudonym key and the head, rebuilds the right edge of the tree, and writes the first entry of a new log.
func (s *Store) load(ctx context.Context) error {
	key, err := s.pseudonymKey(ctx)
	if err != nil {
		return err
	}
	s.names = newNames(event.NewPseudonymizer(key))
	if err := s.loadHead(ctx); err != nil {
		return err
	}
	if s.head.Load().size > 0 {
		return nil
	}
	first := &operation{ctx: ctx, done: make(chan result, 1), urgent: true, change: event.Change{Drafts: []event.Draft{{
		Event: &event.Installed{Origin: s.opts.Signer.Origin(), Engine: s.opts.Engine},
	}}}}
	s.commit([]*operation{first})
	return (<-first.done).err
}

func (s *Store) pseudonymKey(ctx context.Context) ([]byte, error) {
	var key []byte
	err := s.conn.QueryRowContext(ctx, `SELECT value FROM settings WHERE name = $1`, settingPseudonymKey).Scan(&key)
	if !errors.Is(err, sql.ErrNoRows) {
		return key, err
	}
	key = make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	_, err = s.conn.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2)`, settingPseudonymKey, key)
	return key, err
}

// loadHead takes the head from the database and rebuilds the tree's edge; the two must agree.
func (s *Store) loadHead(ctx context.Context) error {
	now := head{}
	var at int64
	err := s.conn.QueryRowContext(ctx, `SELECT size, time, checkpoint FROM head`).Scan(&now.size, &at, &now.checkpoint)
	if errors.Is(err, sql.ErrNoRows) {
		s.tree = evidence.NewTree()
		s.head.Store(&now)
		return nil
	}
	if err != nil {
		return err
	}
	now.time = fromMicros(at)
	checkpoint, err := evidence.OpenCheckpoint(now.checkpoint, s.opts.VerifierKey)
	if err != nil {
		return fmt.Errorf("the head of the log does not verify under this key: %w", err)
	}
	tree, err := evidence.LoadTree(now.size, tileReader{ctx, s.writes}, func(from, to int64) ([]evidence.Hash, error) {
		return leafHashes(ctx, s.writes, from, to)
	})
	if err != nil {
		return err
	}
	if checkpoint.Size != now.size || checkpoint.Root != tree.Root() {
		return fmt.Errorf("%w (the entries are not those that the checkpoint of size %d signs)", ErrForked, checkpoint.Size)
	}
	s.tree = tree
	s.head.Store(&now)
	return nil
}

// Close waits for what is being committed and closes the database. It may be called more than once.
func (s *Store) Close() error {
	s.once.Do(func() { close(s.closing) })
	<-s.stopped
	return s.release()
}

func (s *Store) release() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.writes.close(), s.conn.Close())
		s.conn = nil
	}
	for _, db := range []*sql.DB{s.readers, s.db} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.unlock())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// Now is the time that a decision made now must use: never before the head of the log (I4).
func (s *Store) Now() time.Time {
	now := s.opts.Now().UTC().Truncate(time.Microsecond)
	if last := s.head.Load(); last != nil && now.Before(last.time) {
		return last.time
	}
	return now
}

// Pseudonym is the name under which an entity appears in evidence.
func (s *Store) Pseudonym(ref access.Ref) event.Pseudonym { return s.names.of(ref) }

// Origin is the name of the log.
func (s *Store) Origin() string { return s.opts.Signer.Origin() }

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
