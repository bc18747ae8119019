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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/writ-project/writ/internal/access"
)

// ErrUnsafePostgres says that the server would acknowledge what it can lose.
var ErrUnsafePostgres = errors.New("this PostgreSQL may lose what it has acknowledged")

const (
	connectTimeout = 3 * time.Second
	// Numbers of advisory locks, arbitrary but fixed: whoever makes the schema, and whoever leads.
	lockSchema = 0x77726974_01
	lockLeader = 0x77726974_02
	// channelMoved is where a process tells the others that it has committed.
	channelMoved = "writ_moved"
)

// postgres is a database that several processes may serve.
type postgres struct {
	options *Options
	pool    *pgxpool.Pool
	writes  *pgWriter
	self    string // tells this process's notifications from others'
	heard   chan struct{}
	unsafe  atomic.Bool // it has been seen that the server may lose what it acknowledges
	stop    context.CancelFunc
	done    sync.WaitGroup

	mu     sync.Mutex
	leader *pgx.Conn
}

func connectPostgres(ctx context.Context, o *Options) (_ backend, err error) {
	config, err := pgxpool.ParseConfig(o.Database)
	if err != nil {
		return nil, fmt.Errorf("the URL of the PostgreSQL database: %w", err)
	}
	config.MaxConns, config.MinIdleConns = 8, 2
	if err := prepareConnection(config.ConnConfig); err != nil {
		return nil, err
	}
	b := &postgres{options: o, self: rand.Text(), heard: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	config.AfterConnect = b.safe // what decisions read must be what is written
	if b.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, unavailable(err)
	}
	writing := config.ConnConfig.Copy()
	// A process that stops in the middle of a commit must not stop all others.
	for name, value := range map[string]string{"lock_timeout": "10s", "idle_in_transaction_session_timeout": "10s", "statement_timeout": "20s", "default_transaction_read_only": "off"} {
		writing.RuntimeParams[name] = value
	}
	b.writes = &pgWriter{config: writing, backend: b}
	if err := b.writes.connect(ctx); err != nil {
		return nil, unavailable(err)
	}
	if err := b.makeSchema(ctx); err != nil {
		return nil, err
	}
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	b.done.Go(func() { b.listen(listening) })
	return b, nil
}

// readPostgres opens a database to look at it.
func readPostgres(ctx context.Context, database string) (backend, error) {
	config, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, fmt.Errorf("the URL of the PostgreSQL database: %w", err)
	}
	if err := prepareConnection(config.ConnConfig); err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, unavailable(err)
	}
	return &postgres{options: &Options{Database: database}, pool: pool}, nil
}

// prepareConnection refuses several hosts: connections to two servers would read one and write another.
func prepareConnection(c *pgx.ConnConfig) error {
	c.ConnectTimeout = connectTimeout
	c.RuntimeParams["application_name"] = "writ"
	for _, other := range c.Fallbacks {
		if other.Host != c.Host || other.Port != c.Port {
			return fmt.Errorf("%w: the URL names several hosts: name the one that is the primary", ErrUnsafePostgres)
		}
	}
	return nil
}

// makeSchema brings the schema up to date, one process at a time.
func (b *postgres) makeSchema(ctx context.Context) error {
	w := b.writes
	if err := w.exec(ctx, `SELECT pg_advisory_lock($1)`, int64(lockSchema)); err != nil {
		return unavailable(err)
	}
	err := migrate(ctx, w, postgresDialect())
	return errors.Join(err, unavailable(w.exec(ctx, `SELECT pg_advisory_unlock($1)`, int64(lockSchema))))
}

// safe refuses a server that acknowledges before it has flushed, or that is a replica, and pins the session's setting: a
// change of the server's configuration must not weaken it later.
func (b *postgres) safe(ctx context.Context, conn *pgx.Conn) error {
	if b.options.unchecked {
		return nil
	}
	var synchronous, fsync, pages string
	var replica bool
	err := conn.QueryRow(ctx, `SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery()`).
		Scan(&synchronous, &fsync, &pages, &replica)
	switch {
	case err != nil:
		return err
	case replica:
		return fmt.Errorf("%w: it is a replica: name the primary", ErrUnsafePostgres)
	case synchronous == "off":
		return fmt.Errorf("%w: synchronous_commit is off: set it to on, for the server, the database and the role", ErrUnsafePostgres)
	case fsync != "on" || pages != "on":
		return fmt.Errorf("%w: fsync is %s and full_page_writes is %s: both must be on", ErrUnsafePostgres, fsync, pages)
	}
	_, err = conn.Exec(ctx, `SELECT set_config('synchronous_commit', $1, false)`, synchronous)
	return err
}

func (b *postgres) writer() writer   { return b.writes }
func (b *postgres) readers() session { return pgSession{b.pool} }
func (b *postgres) shared() bool     { return true }
func (b *postgres) granting() bool   { return !b.unsafe.Load() }
func (b *postgres) useReserve() bool { return false }

func (b *postgres) full(err error) bool {
	const diskFull = "53100"
	var told *pgconn.PgError
	return errors.As(err, &told) && told.Code == diskFull
}

func (b *postgres) moved() <-chan struct{} { return b.heard }

// check is called while the transaction is open: what could be wrong by then ends the transaction by itself.
func (b *postgres) check(context.Context) error { return nil }

// recover looks from time to time whether the server is still safe: fsync can be switched off while it runs.
func (b *postgres) recover(ctx context.Context) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return unavailable(err)
	}
	defer conn.Release()
	err = b.safe(ctx, conn.Conn())
	b.unsafe.Store(errors.Is(err, ErrUnsafePostgres))
	return unavailable(err)
}

// leads reports whether this process holds the lock of the leader, and takes it if nobody does. It is lost with the connection.
func (b *postgres) leads(ctx context.Context) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.leader != nil && !b.leader.IsClosed() {
		if err := b.leader.Ping(ctx); err == nil {
			return true, nil
		}
		_ = b.leader.Close(ctx) // it does not answer
	}
	b.leader = nil
	config := b.writes.config.Copy()
	// Who leads calls every second. One that has stopped, or whose host is gone, must not keep the lock.
	config.RuntimeParams["idle_session_timeout"] = "10s"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, unavailable(err)
	}
	var got bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(lockLeader)).Scan(&got); err != nil || !got {
		return false, errors.Join(unavailable(err), conn.Close(ctx))
	}
	b.leader = conn
	return true, nil
}

// listen hears of other processes' commits until the context ends.
func (b *postgres) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := b.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		b.options.Log.WarnContext(ctx, "no news of other processes' commits until the database answers again", slog.Any("error", err))
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (b *postgres) listenOnce(ctx context.Context) error {
	config := b.writes.config.Copy()
	delete(config.RuntimeParams, "statement_timeout")
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing is lost with it
	if _, err := conn.Exec(ctx, `LISTEN `+channelMoved); err != nil {
		return err
	}
	b.tell() // what was missed before
	for {
		news, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if news.Payload != b.self {
			b.tell()
		}
	}
}

func (b *postgres) tell() {
	select {
	case b.heard <- struct{}{}:
	default: // it will look anyway
	}
}

func (b *postgres) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	if b.stop != nil {
		b.stop()
		b.done.Wait()
	}
	var errs []error
	if b.leader != nil {
		errs = append(errs, b.leader.Close(ctx))
	}
	if b.writes != nil && b.writes.conn != nil {
		errs = append(errs, b.writes.conn.Close(ctx))
	}
	if b.pool != nil {
		b.pool.Close()
	}
	return errors.Join(errs...)
}

// pgQueryer is a connection or a pool.
type pgQueryer interface {
	Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, text string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, text string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// pgSession is a session on PostgreSQL. The driver keeps its statements prepared.
type pgSession struct{ on pgQueryer }

func (s pgSession) exec(ctx context.Context, text string, args ...any) error {
	_, err := s.on.Exec(ctx, text, args...)
	return err
}

func (s pgSession) row(ctx context.Context, text string, args []any, into ...any) error {
	return s.on.QueryRow(ctx, text, args...).Scan(into...) // pgx.ErrNoRows is sql.ErrNoRows
}

func (s pgSession) each(ctx context.Context, text string, args []any, scan func(row func(...any) error) error) error {
	rows, err := s.on.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s pgSession) numbers(ctx context.Context, reads []read) ([]int64, error) {
	if len(reads) == 0 {
		return nil, nil
	}
	var batch pgx.Batch
	for i := range reads {
		batch.Queue(reads[i].text, reads[i].args...)
	}
	results := s.on.SendBatch(ctx, &batch)
	out := make([]int64, len(reads))
	for i := range out {
		var now sql.NullInt64
		err := results.QueryRow().Scan(&now)
		switch {
		case errors.Is(err, pgx.ErrNoRows) || err == nil && !now.Valid:
			out[i] = absent
		case err != nil:
			return nil, errors.Join(err, results.Close())
		default:
			out[i] = now.Int64
		}
	}
	return out, results.Close()
}

// pgWriter is the connection that commits. A lost one is made again at the next transaction.
type pgWriter struct {
	pgSession

	backend *postgres
	config  *pgx.ConnConfig
	conn    *pgx.Conn
}

func (w *pgWriter) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, w.config.Copy())
	if err != nil {
		return err
	}
	if err := w.backend.safe(ctx, conn); err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	if w.conn != nil {
		w.backend.pool.Reset() // what was read elsewhere before may be another server's
	}
	w.conn, w.on = conn, conn
	return nil
}

func (w *pgWriter) script(ctx context.Context, text string) error {
	_, err := w.conn.PgConn().Exec(ctx, text).ReadAll()
	return err
}

// roundTrip bounds every wait for the server's answer. It is longer than the server's own limits, and for networks that swallow.
const roundTrip = 30 * time.Second

func (w *pgWriter) begin(ctx context.Context) (storedHead, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	if w.conn.IsClosed() {
		if err := w.connect(ctx); err != nil {
			return storedHead{}, fmt.Errorf("%w: %w", errLost, err)
		}
	}
	var head storedHead
	var clock int64
	var batch pgx.Batch
	batch.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE`)
	batch.Queue(selectHead + ` FOR UPDATE`)
	batch.Queue(`SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT`)
	results := w.conn.SendBatch(ctx, &batch)
	_, err := results.Exec()
	if err == nil {
		err = results.QueryRow().Scan(&head.size, &head.time, &head.checkpoint)
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
	}
	if err == nil {
		err = results.QueryRow().Scan(&clock)
	}
	head.clock = fromMicros(clock)
	return head, w.lost(errors.Join(err, results.Close()))
}

// lost marks an error that has cost the connection.
func (w *pgWriter) lost(err error) error {
	if err != nil && w.conn.IsClosed() {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}

func (w *pgWriter) row(ctx context.Context, text string, args []any, into ...any) error {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	return w.lost(w.pgSession.row(ctx, text, args, into...))
}

func (w *pgWriter) each(ctx context.Context, text string, args []any, scan func(row func(...any) error) error) error {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	return w.lost(w.pgSession.each(ctx, text, args, scan))
}

func (w *pgWriter) numbers(ctx context.Context, reads []read) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	values, err := w.pgSession.numbers(ctx, reads)
	return values, w.lost(err)
}

func (w *pgWriter) run(ctx context.Context, statements []statement) error {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	var batch pgx.Batch
	for _, s := range statements {
		batch.Queue(s.text, s.args...)
	}
	return w.lost(w.conn.SendBatch(ctx, &batch).Close())
}

func (w *pgWriter) commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	var batch pgx.Batch
	batch.Queue(`SELECT pg_notify($1, $2)`, channelMoved, w.backend.self)
	batch.Queue(`COMMIT`)
	results := w.conn.SendBatch(ctx, &batch)
	_, err := results.Exec()
	if err == nil {
		var tag pgconn.CommandTag
		if tag, err = results.Exec(); err == nil && tag.String() != "COMMIT" {
			err = fmt.Errorf("%w: the transaction was rolled back (%s)", access.ErrUnavailable, tag)
		}
	}
	err = errors.Join(err, results.Close())
	if err != nil && w.conn.IsClosed() {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return err
}

func (w *pgWriter) rollback(ctx context.Context) {
	if w.conn.IsClosed() {
		return // it was undone with the connection
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if w.conn.PgConn().TxStatus() == 'I' {
		return
	}
	if _, err := w.conn.Exec(ctx, `ROLLBACK`); err != nil {
		_ = w.conn.Close(ctx) // the server undoes it
	}
}

// postgresDialect fills in the words of the schema that PostgreSQL has its own way for. Texts are compared by their
// bytes, as SQLite does, whatever the database's collation.
func postgresDialect() []string {
	return []string{"{{rowid}}", "BIGINT PRIMARY KEY", "{{clustered}}", "", " TEXT", ` TEXT COLLATE "C"`}
}
