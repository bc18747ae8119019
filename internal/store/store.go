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
	"os"
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
	// synchronous is for tests: SQLite's setting; empty means FULL.
	synchronous string
}

// Store is the database of one installation. It is safe for concurrent use. One process serves a SQLite database.
type Store struct {
	opts    Options
	origin  string // name of the log
	lock    *fileLock
	db      *sql.DB // one connection: the writer's
	conn    *sql.Conn
	readers *sql.DB
	writes  *session // prepared on conn
	reads   *session // prepared on readers
	names   *names
	reserve *reserve

	queue    chan *operation
	stopped  chan struct{}
	closing  chan struct{}
	once     sync.Once
	released sync.Once
	closed   error // of the release
	files    placed
	rmu      sync.Mutex // held while the reserve is given up or taken back

	latest    atomic.Int64 // the latest time that was told, in microseconds
	unsettled atomic.Int64 // numbers that stand for catalog versions which are not committed yet
	// beforeCommit is for tests: it sees every transaction with the number of its operations, and can make it fail.
	beforeCommit func(operations int) error

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
		opts: opts, origin: opts.Signer.Origin(), lock: lock,
		queue: make(chan *operation, maxWaiting), stopped: make(chan struct{}), closing: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open %s: %w", opts.Path, err), s.release())
		}
	}()
	if err := s.connect(ctx); err != nil {
		return nil, unavailable(err)
	}
	if err := migrate(ctx, s.conn); err != nil {
		return nil, err
	}
	s.reserve = keepReserve(opts.Path+".reserve", opts.Reserve)
	if s.files, err = place(opts.Path, opts.Path+"-wal"); err != nil {
		return nil, unavailable(err)
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	go s.run()
	return s, nil
}

// placed are the files of the database by what they were when it was opened.
type placed map[string]os.FileInfo

func place(paths ...string) (placed, error) {
	files := placed{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		files[path] = info
	}
	return files, nil
}

// check makes sure that the files are still there: writing to one that was deleted or replaced would seem to work, and
// everything acknowledged would be lost.
func (p placed) check() error {
	for path, info := range p {
		if now, err := os.Stat(path); err != nil || !os.SameFile(now, info) {
			return fmt.Errorf("%s was moved, deleted or replaced under the running server: put it back, or restore and restart", path)
		}
	}
	return nil
}

// load reads the pseudonym key and the head, rebuilds the right edge of the tree, and writes the first entry of a new log.
func (s *Store) load(ctx context.Context) error {
	key, err := s.pseudonymKey(ctx)
	if err != nil {
		return err
	}
	s.names = newNames(event.NewPseudonymizer(key))
	if err := s.loadHead(ctx, s.writes, s.opts.VerifierKey); err != nil {
		return err
	}
	if err := s.checkEnd(ctx, s.head.Load().size); err != nil {
		return err
	}
	if s.head.Load().size > 0 {
		return nil
	}
	first := &operation{ctx: ctx, done: make(chan result, 1), urgent: true, change: event.Change{Drafts: []event.Draft{{
		Event: &event.Installed{Origin: s.opts.Signer.Origin(), Engine: s.opts.Engine, Pseudonyms: s.names.fingerprint()},
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
func (s *Store) loadHead(ctx context.Context, on *session, verifierKey string) error {
	now := head{}
	var at int64
	err := on.row(ctx, `SELECT size, time, checkpoint FROM head WHERE one = 1`, nil, &now.size, &at, &now.checkpoint)
	if errors.Is(err, sql.ErrNoRows) {
		s.tree = evidence.NewTree()
		s.head.Store(&now)
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	now.time = fromMicros(at)
	checkpoint, err := evidence.OpenCheckpoint(now.checkpoint, verifierKey)
	if err != nil {
		return fmt.Errorf("the head of the log does not verify under this key: %w", err)
	}
	tree, err := evidence.LoadTree(now.size, tileReader{ctx, on}, func(from, to int64) ([]evidence.Hash, error) {
		return leafHashes(ctx, on, from, to)
	})
	if errors.Is(err, evidence.ErrTile) || errors.Is(err, evidence.ErrRange) {
		err = fmt.Errorf("%w (%w)", ErrForked, err)
	}
	if err != nil {
		return unavailable(err)
	}
	if s.origin == "" {
		s.origin = checkpoint.Origin
	}
	if checkpoint.Origin != s.origin || checkpoint.Size != now.size || checkpoint.Root != tree.Root() {
		return fmt.Errorf("%w (the entries are not those that the checkpoint of size %d signs)", ErrForked, checkpoint.Size)
	}
	s.tree = tree
	s.head.Store(&now)
	return nil
}

// checkEnd makes sure that the entries end where the head says.
func (s *Store) checkEnd(ctx context.Context, size int64) error {
	last := int64(-1)
	err := s.writes.row(ctx, `SELECT idx FROM entries ORDER BY idx DESC LIMIT 1`, nil, &last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return unavailable(err)
	}
	if last != size-1 {
		return fmt.Errorf("%w (the head is of size %d, the last entry is %d)", ErrForked, size, last)
	}
	return nil
}

// Close waits for what is being committed and closes the database. It may be called more than once.
func (s *Store) Close() error {
	s.once.Do(func() { close(s.closing) })
	<-s.stopped
	return s.release()
}

func (s *Store) release() error {
	s.released.Do(func() {
		errs := []error{s.reads.close(), s.writes.close()}
		if s.conn != nil {
			errs = append(errs, s.conn.Close())
		}
		for _, db := range []*sql.DB{s.readers, s.db} {
			if db != nil {
				errs = append(errs, db.Close())
			}
		}
		if s.lock != nil {
			errs = append(errs, s.lock.unlock())
		}
		s.closed = errors.Join(errs...)
	})
	return s.closed
}

// Now is the time that a decision made now must use: never before the head of the log, nor before a time that it
// told already, so that no entry is older than the decision in it (I4).
func (s *Store) Now() time.Time {
	now := micros(s.opts.Now())
	if last := s.head.Load(); last != nil {
		now = max(now, micros(last.time))
	}
	for {
		latest := s.latest.Load()
		if now <= latest {
			return fromMicros(latest)
		}
		if s.latest.CompareAndSwap(latest, now) {
			return fromMicros(now)
		}
	}
}

// maxClockBehind is how far the clock may be behind the log before nothing is granted: what expires by the log's time
// would be valid for so much longer by everybody else's.
const maxClockBehind = 5 * time.Second

// clockBehind is how far the clock is behind the head of the log.
func (s *Store) clockBehind() time.Duration {
	return s.head.Load().time.Sub(s.opts.Now())
}

// Pseudonym is the name under which an entity appears in evidence.
func (s *Store) Pseudonym(ref access.Ref) event.Pseudonym { return s.names.of(ref) }

// Origin is the name of the log.
func (s *Store) Origin() string { return s.origin }

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
