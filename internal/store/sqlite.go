package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"sync"

	_ "modernc.org/sqlite" // the driver

	"github.com/writ-project/writ/internal/access"
)

const readerConnections = 4

// sqlite is a file that one process serves.
type sqlite struct {
	path     string
	maxPages int64
	lock     *fileLock
	db       *sql.DB // one connection: the writer's
	conn     *sql.Conn
	pool     *sql.DB
	writes   *sqliteWriter
	reads    *prepared // on pool
	files    placed
	log      *slog.Logger

	mu    sync.Mutex // held while the reserve is given up or taken back
	space *reserve
}

// connectSQLite opens the writer's one connection and the pool of the readers. Every commit is flushed before it returns (I2).
func connectSQLite(ctx context.Context, o *Options) (_ backend, err error) {
	b := &sqlite{path: o.Database, maxPages: o.MaxPages, log: o.Log}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.lock, err = lockFile(b.path + ".lock"); err != nil {
		return nil, err
	}
	synchronous := "FULL"
	if o.synchronous != "" {
		synchronous = o.synchronous
	}
	pragmas := []string{"journal_mode(WAL)", "synchronous(" + synchronous + ")", "busy_timeout(2000)", "wal_autocheckpoint(2000)", "temp_store(MEMORY)"}
	if b.maxPages > 0 {
		pragmas = append(pragmas, "max_page_count("+strconv.FormatInt(b.maxPages, 10)+")")
	}
	if o.MustExist {
		if _, err := os.Stat(b.path); err != nil {
			return nil, unavailable(err)
		}
	}
	// SQLite gives its other files the mode of this one; it holds purposes and arguments.
	file, err := os.OpenFile(b.path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return nil, unavailable(err)
	}
	if b.db, err = openSQLite(b.path, "rwc", pragmas); err != nil {
		return nil, unavailable(err)
	}
	b.db.SetMaxOpenConns(1)
	if b.conn, err = b.db.Conn(ctx); err != nil {
		return nil, unavailable(err)
	}
	b.writes = newSQLiteWriter(b.conn)
	if err := migrate(ctx, b.writes, sqliteDialect()); err != nil {
		return nil, err
	}
	if err := b.openReaders(); err != nil {
		return nil, unavailable(err)
	}
	b.space = keepReserve(b.path+".reserve", o.Reserve)
	if b.files, err = place(b.path, b.path+"-wal"); err != nil {
		return nil, unavailable(err)
	}
	return b, nil
}

// readSQLite opens a file to look at it, also beside a process that serves it.
func readSQLite(path string) (backend, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: name the data folder with --data", err)
	}
	b := &sqlite{path: path}
	return b, b.openReaders()
}

func (b *sqlite) openReaders() (err error) {
	if b.pool, err = openSQLite(b.path, "rw", []string{"query_only(1)", "busy_timeout(2000)"}); err != nil {
		return err
	}
	b.pool.SetMaxOpenConns(readerConnections)
	b.pool.SetMaxIdleConns(readerConnections)
	b.reads = newPrepared(b.pool)
	return nil
}

func openSQLite(path, mode string, pragmas []string) (*sql.DB, error) {
	query := url.Values{"mode": {mode}, "_pragma": pragmas}
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: query.Encode()}).String())
}

func (b *sqlite) writer() writer                      { return b.writes }
func (b *sqlite) readers() session                    { return b.reads }
func (b *sqlite) shared() bool                        { return false }
func (b *sqlite) check(context.Context) error         { return b.files.check() }
func (b *sqlite) leads(context.Context) (bool, error) { return true, nil }
func (b *sqlite) moved() <-chan struct{}              { return nil }
func (b *sqlite) full(err error) bool                 { return isFull(err) }

func (b *sqlite) close() error {
	errs := []error{b.reads.close()}
	if b.writes != nil {
		errs = append(errs, b.writes.close())
	}
	if b.conn != nil {
		errs = append(errs, b.conn.Close())
	}
	for _, db := range []*sql.DB{b.pool, b.db} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if b.lock != nil {
		errs = append(errs, b.lock.unlock())
	}
	return errors.Join(errs...)
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
			return fmt.Errorf("%w: %s was moved, deleted or replaced under the running server: put it back, or restore and restart", access.ErrUnavailable, path)
		}
	}
	return nil
}

// sqliteWriter is the connection that commits.
type sqliteWriter struct {
	*prepared

	conn  *sql.Conn
	plain map[string]driver.Stmt // what run executes, without what database/sql does around each statement
	args  []driver.NamedValue    // of the statement that is executed; used again
}

func newSQLiteWriter(conn *sql.Conn) *sqliteWriter {
	return &sqliteWriter{prepared: newPrepared(conn), conn: conn, plain: map[string]driver.Stmt{}}
}

func (w *sqliteWriter) close() error {
	errs := []error{w.prepared.close()}
	for _, stmt := range w.plain {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(errs...)
}

func (w *sqliteWriter) begin(ctx context.Context) (storedHead, error) {
	if err := w.exec(ctx, `BEGIN IMMEDIATE`); err != nil {
		return storedHead{}, err
	}
	var head storedHead
	err := w.row(ctx, selectHead, nil, &head.size, &head.time, &head.checkpoint)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return head, err
}

func (w *sqliteWriter) run(ctx context.Context, statements []statement) error {
	return w.conn.Raw(func(conn any) error {
		for _, s := range statements {
			if err := w.runOne(ctx, conn, s); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *sqliteWriter) runOne(ctx context.Context, conn any, s statement) error {
	stmt := w.plain[s.text]
	if stmt == nil {
		preparer, ok := conn.(driver.ConnPrepareContext)
		if !ok {
			return errors.New("the SQLite driver does not prepare statements")
		}
		var err error
		if stmt, err = preparer.PrepareContext(ctx, s.text); err != nil {
			return err
		}
		w.plain[s.text] = stmt
	}
	w.args = w.args[:0]
	for i, arg := range s.args {
		if n, ok := arg.(int); ok {
			arg = int64(n)
		}
		w.args = append(w.args, driver.NamedValue{Ordinal: i + 1, Value: arg})
	}
	execer, ok := stmt.(driver.StmtExecContext)
	if !ok {
		return errors.New("the SQLite driver does not execute prepared statements")
	}
	_, err := execer.ExecContext(ctx, w.args)
	return err
}

func (w *sqliteWriter) commit(ctx context.Context) error { return w.exec(ctx, `COMMIT`) }

func (w *sqliteWriter) rollback(ctx context.Context) {
	// Also after a BEGIN that failed: if an earlier ROLLBACK did, this one mends it. Without a transaction it does nothing.
	_ = w.exec(ctx, `ROLLBACK`)
}

// preparer is a connection or a pool.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// prepared is a session on a connection or a pool of SQLite.
type prepared struct {
	on preparer

	mu    sync.Mutex
	stmts map[string]*sql.Stmt
}

func newPrepared(on preparer) *prepared {
	return &prepared{on: on, stmts: map[string]*sql.Stmt{}}
}

func (p *prepared) stmt(ctx context.Context, text string) (*sql.Stmt, error) {
	p.mu.Lock()
	stmt := p.stmts[text]
	p.mu.Unlock()
	if stmt != nil {
		return stmt, nil
	}
	stmt, err := p.on.PrepareContext(ctx, text) // not under the lock: it may wait for a connection
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if first := p.stmts[text]; first != nil {
		return first, stmt.Close() //nolint:sqlclosecheck // somebody else prepared it meanwhile
	}
	p.stmts[text] = stmt
	return stmt, nil
}

// script runs a text of several statements.
func (p *prepared) script(ctx context.Context, text string) error {
	_, err := p.on.ExecContext(ctx, text)
	return err
}

func (p *prepared) exec(ctx context.Context, text string, args ...any) error {
	stmt, err := p.stmt(ctx, text) //nolint:sqlclosecheck // kept prepared until the session closes
	if err != nil {
		return err
	}
	_, err = stmt.ExecContext(ctx, args...)
	return err
}

func (p *prepared) row(ctx context.Context, text string, args []any, into ...any) error {
	stmt, err := p.stmt(ctx, text) //nolint:sqlclosecheck // kept prepared until the session closes
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(ctx, args...).Scan(into...)
}

func (p *prepared) each(ctx context.Context, text string, args []any, scan func(row func(...any) error) error) error {
	stmt, err := p.stmt(ctx, text) //nolint:sqlclosecheck // kept prepared until the session closes
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
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

func (p *prepared) numbers(ctx context.Context, reads []read) ([]int64, error) {
	out := make([]int64, len(reads))
	for i := range reads {
		var err error
		if out[i], err = reads[i].value(ctx, p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *prepared) close() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var first error
	for _, stmt := range p.stmts {
		if err := stmt.Close(); err != nil && first == nil {
			first = err
		}
	}
	clear(p.stmts)
	return first
}

// sqliteDialect fills in the words of the schema that SQLite has its own way for.
func sqliteDialect() []string {
	return []string{"{{rowid}}", "INTEGER PRIMARY KEY", "{{clustered}}", " WITHOUT ROWID"}
}

// What verification asks of SQLite besides rows: the structure, and whether indexes and tables agree.
const (
	sqliteSchema    = `SELECT type || ' ' || name, COALESCE(sql, '') FROM sqlite_master`
	sqliteIntegrity = `PRAGMA integrity_check(10)`
)
