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
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Errors that callers tell apart, beside those that stand where they arise. Everything else wraps access.ErrUnavailable or access.ErrNotFound.
var (
	// ErrForked says that the database holds another history than the one that was acknowledged.
	ErrForked = errors.New("the database does not hold the log that was signed: see `writ evidence verify`, then restore a backup")
)

// Options configure a store.
type Options struct {
	// Database is the file of a SQLite database, whose folder must exist, or the URL of a PostgreSQL one (postgres://…).
	Database string
	Signer   *evidence.Signer // signs checkpoints; its name is the log's origin
	// VerifierKey is the public half of Signer.
	VerifierKey string
	// Acknowledged is a file on this host that keeps the last acknowledged head. A database that is older, or another, is
	// refused. Empty: none is kept.
	Acknowledged string
	AcceptLoss   bool   // it is not refused, so that AcceptLoss can be called
	Engine       string // version that the first entry names
	Now          func() time.Time
	Log          *slog.Logger
	// MustExist refuses a database without a log instead of beginning one.
	MustExist bool
	// Reserve is the space kept free so that revoking still works on a full disk, in bytes; 0 means 8 MiB. SQLite only.
	Reserve int64
	// MaxPages bounds the database in pages of 4 KiB; 0 means unbounded. SQLite only.
	MaxPages int64

	// For tests, which show what the safe settings prevent, and live in a time of their own.
	synchronous string        // SQLite's; empty means FULL
	unchecked   bool          // an unsafe PostgreSQL is accepted
	clockSkew   time.Duration // how far this clock may be from PostgreSQL's; 0 means maxClockSkew
}

// Store is the database of one installation. It is safe for concurrent use. One process serves a SQLite database; many
// may serve a PostgreSQL one.
type Store struct {
	opts    Options
	origin  string // name of the log
	db      backend
	writes  writer
	reads   session
	names   *names
	forms   *forms
	changes *changes
	cache   *cache // nil where other processes commit, too

	queue    chan *operation
	stopped  chan struct{}
	closing  chan struct{}
	once     sync.Once
	released sync.Once
	closed   error // of the release

	latest    atomic.Int64 // the latest time that was told, in microseconds
	unsettled atomic.Int64 // numbers that stand for catalog versions which are not committed yet
	// beforeCommit is for tests: it sees every transaction with the number of its operations, and can make it fail.
	beforeCommit func(operations int) error
	follower     atomic.Pointer[func()] // told when another process has committed

	keptSize int64 // of the head in the file of acknowledged ones

	head  atomic.Pointer[head] // as last committed
	tree  *evidence.Tree       // as last committed; only the committing goroutine changes it
	tmu   sync.RWMutex         // guards tree against readers
	tasks map[string]taskEnd   // where tasks stand in the log, as last committed; only the committing goroutine uses it
}

// head is the end of the log.
type head struct {
	size       int64
	time       time.Time
	checkpoint []byte
}

const (
	settingPseudonymKey = "pseudonym_key"
	settingCosigned     = "cosigned"
	selectSetting       = `SELECT value FROM settings WHERE name = $1`
)

// Open opens the database, creating it if it is not there, and brings its schema up to date.
// It refuses a database that another process serves, one of a newer version, and one whose head does not
// verify under the signer's key.
func Open(ctx context.Context, opts Options) (_ *Store, err error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := newStore(opts)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open %s: %w", opts.place(), err), s.release())
		}
	}()
	if s.db, err = connect(ctx, &s.opts); err != nil {
		return nil, err
	}
	s.writes, s.reads = s.db.writer(), s.db.readers()
	if !s.db.shared() {
		s.cache = newCache()
		s.changes.cache = s.cache
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	go s.run()
	return s, nil
}

func newStore(opts Options) *Store {
	f := newForms()
	s := &Store{
		opts: opts, forms: f, changes: newChanges(f), tasks: map[string]taskEnd{},
		queue: make(chan *operation, maxWaiting), stopped: make(chan struct{}), closing: make(chan struct{}),
	}
	if opts.Signer != nil {
		s.origin = opts.Signer.Origin()
	}
	return s
}

// place is where the database lies, without what its URL may hold of secrets.
func (o *Options) place() string { return placeOf(o.Database) }

func placeOf(database string) string {
	if !isPostgres(database) {
		return database
	}
	u, err := url.Parse(database)
	if err != nil {
		return "the PostgreSQL database"
	}
	if host := u.Query().Get("host"); host != "" {
		return "postgres://" + host + u.Path
	}
	return "postgres://" + u.Host + u.Path
}

// load reads the pseudonym key and the head, rebuilds the right edge of the tree, and writes the first entry of a new log.
func (s *Store) load(ctx context.Context) error {
	key, err := s.pseudonymKey(ctx)
	if err != nil {
		return err
	}
	s.names = newNames(event.NewPseudonymizer(key))
	if err := s.loadHead(ctx, s.reads, s.opts.VerifierKey); err != nil {
		return err
	}
	if err := s.checkEnd(ctx); err != nil {
		return err
	}
	if err := s.checkAcknowledged(ctx); err != nil {
		return err
	}
	if s.head.Load().size > 0 {
		return nil
	}
	if s.opts.MustExist {
		return fmt.Errorf("%w: there is no log in this database", access.ErrNotFound)
	}
	return s.install(ctx)
}

// install writes the first entry. Where another process was faster, its entry is the first.
func (s *Store) install(ctx context.Context) error {
	drafts, err := seal([]event.Draft{{
		Event: &event.Installed{Origin: s.opts.Signer.Origin(), Engine: s.opts.Engine, Pseudonyms: s.names.fingerprint()},
	}})
	if err != nil {
		return err
	}
	first := &operation{ctx: ctx, done: make(chan result, 1), urgent: true, first: true, drafts: drafts}
	s.commit([]*operation{first})
	got := <-first.done
	if got.err == nil || !s.db.shared() {
		return got.err
	}
	if err := s.loadHead(ctx, s.reads, s.opts.VerifierKey); err != nil || s.Size() == 0 {
		return errors.Join(got.err, err)
	}
	return nil
}

func (s *Store) pseudonymKey(ctx context.Context) ([]byte, error) {
	var key []byte
	err := s.writes.row(ctx, selectSetting, []any{settingPseudonymKey}, &key)
	if !errors.Is(err, sql.ErrNoRows) {
		return key, unavailable(err)
	}
	key = make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	// Another process may be the first.
	if err := s.writes.exec(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, settingPseudonymKey, key); err != nil {
		return nil, unavailable(err)
	}
	return key, unavailable(s.writes.row(ctx, selectSetting, []any{settingPseudonymKey}, &key))
}

// ReadCosigned is what KeepCosigned kept in a database, whatever else is wrong with that; nil if there is none.
func ReadCosigned(ctx context.Context, database string) (_ []byte, err error) {
	s := newStore(Options{Database: database})
	if s.db, err = connectReadOnly(ctx, database); err != nil {
		return nil, err
	}
	s.reads = s.db.readers()
	signed, err := s.Cosigned(ctx)
	return signed, errors.Join(err, s.release())
}

// KeepCosigned keeps the newest checkpoint that witnesses have cosigned, for all who open this database. It has no
// authority: whoever reads it verifies it.
func (s *Store) KeepCosigned(ctx context.Context, signed []byte) error {
	return s.note(ctx, func(tx *transaction) error {
		return tx.on.exec(tx.ctx, `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
			settingCosigned, signed)
	})
}

// Cosigned is the newest checkpoint that KeepCosigned was given; nil if there is none.
func (s *Store) Cosigned(ctx context.Context) ([]byte, error) {
	var signed []byte
	err := s.reads.row(ctx, selectSetting, []any{settingCosigned}, &signed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return signed, unavailable(err)
}

// loadHead takes the head from the database and rebuilds the tree's edge; the two must agree.
func (s *Store) loadHead(ctx context.Context, on session, verifierKey string) error {
	now := head{}
	var at int64
	err := on.row(ctx, selectHead, nil, &now.size, &at, &now.checkpoint)
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
func (s *Store) checkEnd(ctx context.Context) error {
	var size, last int64
	err := s.reads.row(ctx, `SELECT COALESCE((SELECT size FROM head WHERE one = 1), 0), COALESCE((SELECT MAX(idx) FROM entries), -1)`, nil, &size, &last)
	if err != nil {
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
		if s.db != nil {
			s.closed = s.db.close()
		}
	})
	return s.closed
}

// Recover puts right what it can of what keeps the store from granting, such as the reserve that was given up. Call it from time
// to time; an error, which wraps access.ErrUnavailable, says what is still wrong.
func (s *Store) Recover(ctx context.Context) error { return s.db.recover(ctx) }

// Check makes sure that what is written now will last and be seen; an error wraps access.ErrUnavailable.
func (s *Store) Check(ctx context.Context) error { return unavailable(s.db.check(ctx)) }

// Leads reports whether this process is the one of those that share the database that does what only one should.
func (s *Store) Leads(ctx context.Context) (bool, error) { return s.db.leads(ctx) }

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
