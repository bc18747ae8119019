package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"

	_ "modernc.org/sqlite" // the driver
)

const readerConnections = 4

// connect opens the writer's one connection and the pool of the readers. Every commit is flushed before it returns (I2).
func (s *Store) connect(ctx context.Context) (err error) {
	pragmas := []string{"journal_mode(WAL)", "synchronous(" + cmp.Or(s.opts.synchronous, "FULL") + ")", "busy_timeout(2000)", "wal_autocheckpoint(4000)"}
	if s.opts.MaxPages > 0 {
		pragmas = append(pragmas, "max_page_count("+strconv.FormatInt(s.opts.MaxPages, 10)+")")
	}
	// SQLite gives its other files the mode of this one; it holds purposes and arguments.
	file, err := os.OpenFile(s.opts.Path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return unavailable(err)
	}
	if s.db, err = openSQLite(s.opts.Path, "rwc", pragmas); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(1)
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return fmt.Errorf("open %s: %w", s.opts.Path, err)
	}
	s.writes = newSession(s.conn)
	if s.readers, err = openSQLite(s.opts.Path, "rw", []string{"query_only(1)", "busy_timeout(2000)"}); err != nil {
		return err
	}
	s.readers.SetMaxOpenConns(readerConnections)
	s.readers.SetMaxIdleConns(readerConnections)
	s.reads = newSession(s.readers)
	return nil
}

func openSQLite(path, mode string, pragmas []string) (*sql.DB, error) {
	query := url.Values{"mode": {mode}, "_pragma": pragmas}
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: query.Encode()}).String())
}

// What verification asks of SQLite besides rows: the structure, and whether indexes and tables agree.
const (
	sqliteSchema    = `SELECT type || ' ' || name, COALESCE(sql, '') FROM sqlite_master`
	sqliteIntegrity = `PRAGMA integrity_check(10)`
)

// preparer is a connection or a pool.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// session runs statements, each prepared once.
type session struct {
	on preparer

	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

func newSession(on preparer) *session {
	return &session{on: on, prepared: map[string]*sql.Stmt{}}
}

func (s *session) stmt(ctx context.Context, text string) (*sql.Stmt, error) {
	s.mu.Lock()
	stmt := s.prepared[text]
	s.mu.Unlock()
	if stmt != nil {
		return stmt, nil
	}
	stmt, err := s.on.PrepareContext(ctx, text) // not under the lock: it may wait for a connection
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.prepared[text]; first != nil {
		return first, stmt.Close() //nolint:sqlclosecheck // somebody else prepared it meanwhile
	}
	s.prepared[text] = stmt
	return stmt, nil
}

func (s *session) exec(ctx context.Context, text string, args ...any) error {
	stmt, err := s.stmt(ctx, text) //nolint:sqlclosecheck // kept prepared until the session closes
	if err != nil {
		return err
	}
	_, err = stmt.ExecContext(ctx, args...)
	return err
}

// row reads one row; it returns sql.ErrNoRows if there is none.
func (s *session) row(ctx context.Context, text string, args []any, into ...any) error {
	stmt, err := s.stmt(ctx, text) //nolint:sqlclosecheck // kept prepared until the session closes
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(ctx, args...).Scan(into...)
}

// each calls scan for every row.
func (s *session) each(ctx context.Context, text string, args []any, scan func(row func(...any) error) error) error {
	stmt, err := s.stmt(ctx, text) //nolint:sqlclosecheck // kept prepared until the session closes
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

func (s *session) close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var first error
	for _, stmt := range s.prepared {
		if err := stmt.Close(); err != nil && first == nil {
			first = err
		}
	}
	clear(s.prepared)
	return first
}
