package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Errors of copying whole databases.
var (
	// ErrExists says that a file is there already, which is not overwritten.
	ErrExists = errors.New("it is there already: name another file, or move it away")
	// ErrNotEmpty says that the database to restore into holds something.
	ErrNotEmpty = errors.New("there is a database of writ already: move it away, or name an empty one")
	// ErrNotCopied says that what was copied does not verify, so that nothing was kept of it.
	ErrNotCopied = errors.New("the copy does not verify")
)

// Progress is told now and then what long work is at, and how far; of is 0 where the end is not known. It must be quick.
type Progress func(what string, done, of int64)

func (p Progress) tell(what string, done, of int64) {
	const every = 1 << 12
	if p != nil && (done == 1 || done%every == 0 || done == of) {
		p(what, done, of)
	}
}

// Backup copies one moment of a database, which may be in use, into a new file: a SQLite database of its own, whichever
// the source is. Before the file gets its name, what was copied is verified as by Verify; if it does not hold, the error wraps
// ErrNotCopied, the result says what was found, and there is no file. database is as in Options. The file is readable by
// its owner only, and is never overwritten (ErrExists). It holds the key that pseudonyms are made with, but not that of the log.
func Backup(ctx context.Context, database, verifierKey, file string, progress Progress) (*Verified, error) {
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, ErrExists), err)
	}
	source, err := existing(ctx, database)
	if err != nil {
		return nil, err
	}
	defer source.close()
	temporary, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".part-") // of mode 0600
	if err != nil {
		return nil, err
	}
	path := temporary.Name()
	defer func() { _ = errors.Join(os.Remove(path), os.Remove(path+"-journal")) }() // usually it has its name by now
	if err := temporary.Close(); err != nil {
		return nil, err
	}
	into, err := copyToSQLite(ctx, path)
	if err != nil {
		return nil, err
	}
	verified, err := into.copy(ctx, source, verifierKey, filepath.Dir(file), progress)
	if err := errors.Join(err, into.close()); err != nil {
		return verified, fmt.Errorf("back up %s: %w", placeOf(database), err)
	}
	return verified, nameFile(path, file)
}

// nameFile gives a complete file its name, unless that is taken. What it says when it returns lasts.
func nameFile(path, name string) error {
	err := os.Link(path, name) // unlike a renaming it overwrites nothing
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", name, ErrExists)
	}
	if err != nil { // not every file system has links
		err = os.Rename(path, name)
	}
	return errors.Join(err, syncFolder(filepath.Dir(name)))
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// existing is one moment of a database that must be there.
func existing(ctx context.Context, database string) (*moment, error) {
	if !isPostgres(database) {
		if _, err := os.Stat(database); err != nil {
			return nil, err
		}
	}
	source, err := momentOf(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", placeOf(database), err)
	}
	if _, err := pairs(ctx, source, `SELECT name, checksum FROM migrations`); err != nil { // before anything is begun elsewhere
		source.close()
		return nil, fmt.Errorf("%s is not a database of writ: %w", placeOf(database), err)
	}
	return source, nil
}

// Restore copies a backup into an empty database: the path of a file that is not there yet, or the URL of a PostgreSQL
// database in which Writ has nothing (ErrNotEmpty). All of it is copied and verified in one transaction. Until that has ended well,
// no server starts on the database (ErrUnfinished), and the restore can be repeated. If what was copied does not verify, the
// error wraps ErrNotCopied, and the result says what was found.
//
// It does not touch what a host has acknowledged: a server refuses to start on an older log until the loss is accepted.
func Restore(ctx context.Context, file, verifierKey, database string, progress Progress) (*Verified, error) {
	source, err := existing(ctx, file)
	if err != nil {
		return nil, err
	}
	defer source.close()
	into, scratch, err := copyTo(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("restore into %s: %w", placeOf(database), err)
	}
	verified, err := into.copy(ctx, source, verifierKey, scratch, progress)
	if err := errors.Join(err, into.close()); err != nil {
		return verified, fmt.Errorf("restore into %s: %w", placeOf(database), err)
	}
	if !isPostgres(database) {
		err = syncFolder(filepath.Dir(database))
	}
	return verified, err
}

// copyTo opens a database to restore into, and says where there is room for verifying.
func copyTo(ctx context.Context, database string) (into *copying, scratch string, err error) {
	if isPostgres(database) {
		into, err = copyToPostgres(ctx, database)
		return into, "", err
	}
	lock, err := lockFile(database + ".lock")
	if err != nil {
		return nil, "", err
	}
	for _, left := range []string{"-wal", "-journal"} { // of another database: it would be read into this one
		_, noDatabase := os.Stat(database)
		if _, err := os.Stat(database + left); err == nil && errors.Is(noDatabase, fs.ErrNotExist) {
			return nil, "", errors.Join(fmt.Errorf("%s belongs to a database that is gone: move it away, too", database+left), lock.unlock())
		}
	}
	empty, err := os.OpenFile(database, os.O_CREATE|os.O_RDONLY, 0o600)
	if err == nil {
		err = empty.Close()
	}
	if err == nil {
		into, err = copyToSQLite(ctx, database)
	}
	if err != nil {
		return nil, "", errors.Join(err, lock.unlock())
	}
	closeAll := into.close
	into.close = func() error { return errors.Join(closeAll(), lock.unlock()) }
	return into, filepath.Dir(database), nil
}

// copying is a database that another is being copied into, in one transaction.
type copying struct {
	moment // of the transaction

	// fill adds rows to an empty table.
	fill  func(ctx context.Context, table string, columns []string, rows *cursor) error
	close func() error
}

// copyToSQLite opens a file that is empty, or in which a copy has not finished.
func copyToSQLite(ctx context.Context, path string) (*copying, error) {
	db, err := openSQLite(path, "rw", []string{"journal_mode(DELETE)", "synchronous(FULL)", "busy_timeout(2000)"})
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	on := newPrepared(conn)
	c := &copying{moment: moment{session: on, structure: sqliteStructure, faults: sqliteFaults}}
	c.close = func() error { return errors.Join(on.close(), conn.Close(), db.Close()) }
	c.fill = func(ctx context.Context, table string, columns []string, rows *cursor) error {
		marks := make([]string, len(columns))
		for i := range marks {
			marks[i] = "$" + strconv.Itoa(i+1)
		}
		text := `INSERT INTO ` + table + ` (` + strings.Join(columns, ", ") + `) VALUES (` + strings.Join(marks, ", ") + `)`
		for rows.next() {
			if err := on.exec(ctx, text, rows.values...); err != nil {
				return err
			}
			rows.taken = true
		}
		return rows.err
	}
	return c, c.begin(ctx, on, sqliteDialect())
}

func copyToPostgres(ctx context.Context, database string) (*copying, error) {
	config, err := pgx.ParseConfig(database)
	if err != nil {
		return nil, fmt.Errorf("the URL of the PostgreSQL database: %w", err)
	}
	if err := prepareConnection(config); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	closing := context.WithoutCancel(ctx)
	on := &pgWriter{pgSession: pgSession{conn}, conn: conn}
	c := &copying{moment: moment{session: on, structure: postgresStructureOf, faults: noFaults}}
	c.close = func() error { return conn.Close(closing) } // which also gives the lock back
	c.fill = func(ctx context.Context, table string, columns []string, rows *cursor) error {
		_, err := conn.CopyFrom(ctx, pgx.Identifier{table}, columns, &copied{rows})
		return err
	}
	if err = (&postgres{options: &Options{}}).safe(ctx, conn); err == nil {
		// Servers that start meanwhile wait for the schema, and then see that the copy has not finished.
		err = on.exec(ctx, `SELECT pg_advisory_lock($1)`, int64(lockSchema))
	}
	if err == nil {
		err = c.begin(ctx, on, postgresDialect())
	}
	if err == nil {
		err = on.exec(ctx, `SELECT pg_advisory_unlock($1)`, int64(lockSchema))
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// copied gives the rows of a cursor to PostgreSQL.
type copied struct{ rows *cursor }

func (c *copied) Next() bool             { return c.rows.next() }
func (c *copied) Values() ([]any, error) { c.rows.taken = true; return c.rows.values, nil }
func (c *copied) Err() error             { return c.rows.err }

// begin makes the schema, makes sure that nothing is in it, and marks the database as unfinished before it begins.
func (c *copying) begin(ctx context.Context, on scripted, dialect []string) error {
	if err := bringUp(ctx, on, dialect, true); err != nil {
		return err
	}
	for _, table := range tableNames() {
		var rows int64
		if err := on.row(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM `+table+` LIMIT 1) AS first`, nil, &rows); err != nil {
			return err
		}
		if rows > 0 {
			return ErrNotEmpty
		}
	}
	if err := markUnfinished(ctx, on); err != nil {
		return err
	}
	return on.exec(ctx, `BEGIN`)
}

// tableNames are all tables that hold something of an installation; the migrations are the schema's own.
func tableNames() []string { return slices.Sorted(maps.Keys(newForms().keys)) }

// copy fills the database from a moment of another, verifies what it has got, and only then commits.
func (c *copying) copy(ctx context.Context, from *moment, verifierKey, scratch string, progress Progress) (*Verified, error) {
	rebuilt, closeRebuilt, err := newScratch(ctx, scratch)
	if err != nil {
		return nil, err
	}
	defer closeRebuilt()
	if err := sameMigrations(ctx, from, rebuilt); err != nil {
		return nil, err
	}
	for _, table := range tableNames() {
		if err := c.copyTable(ctx, from, rebuilt, table, progress); err != nil {
			return nil, fmt.Errorf("copy %s: %w", table, err)
		}
	}
	if err := markFinished(ctx, c.session); err != nil {
		return nil, err
	}
	verified, err := newVerification(ctx, &c.moment, rebuilt, VerifyOptions{Progress: progress}).run(verifierKey)
	if err != nil {
		return nil, err
	}
	if !verified.OK() {
		return verified, fmt.Errorf("%w: %d findings", ErrNotCopied, len(verified.Findings))
	}
	return verified, c.exec(ctx, `COMMIT`)
}

// sameMigrations makes sure that the source has the schema of this version.
func sameMigrations(ctx context.Context, from, rebuilt session) error {
	have, err := pairs(ctx, from, `SELECT name, checksum FROM migrations`)
	if err != nil {
		return err
	}
	want, err := pairs(ctx, rebuilt, `SELECT name, checksum FROM migrations`)
	if err != nil {
		return err
	}
	if _, marked := have[unfinished]; marked {
		return ErrUnfinished
	}
	for name, checksum := range have {
		switch got, known := want[name]; {
		case !known:
			return fmt.Errorf("%w (it has migration %s)", ErrNewerDatabase, name)
		case got != checksum:
			return fmt.Errorf("%w: %s", ErrMigrationChanged, name)
		}
	}
	if len(have) < len(want) {
		return errors.New("it was written by an older version of writ: use that version, or start this one on the database once")
	}
	return nil
}

func (c *copying) copyTable(ctx context.Context, from, rebuilt session, table string, progress Progress) error {
	var columns, order []string
	err := rebuilt.each(ctx, `SELECT name, pk FROM pragma_table_info($1) ORDER BY cid`, []any{table}, func(row func(...any) error) error {
		var name string
		var pk int64
		err := row(&name, &pk)
		columns = append(columns, name)
		if pk > 0 {
			order = append(order, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	// In the order of the key, so that a tree is filled from one end.
	text := `SELECT ` + strings.Join(columns, ", ") + ` FROM ` + table + ` ORDER BY ` + strings.Join(order, ", ")
	rows := newCursor(ctx, from, text, len(columns))
	defer rows.stop()
	done := int64(0)
	rows.moved = func() { done++; progress.tell("copying "+table, done, 0) }
	return c.fill(ctx, table, columns, rows)
}
