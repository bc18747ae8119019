package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNewerDatabase says that a later version of Writ has written the database.
var ErrNewerDatabase = errors.New("the database was written by a newer version of writ: use that version")

// migrate brings the schema up to date, forward only. Each file runs in one transaction and is remembered by checksum:
// a file that changed after it ran, or one this version does not know, stops the start.
func migrate(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, checksum TEXT NOT NULL)`); err != nil {
		return err
	}
	done, err := appliedMigrations(ctx, conn)
	if err != nil {
		return err
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	for _, path := range names {
		text, err := migrations.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, "migrations/")
		checksum := sha256.Sum256(text)
		want := hex.EncodeToString(checksum[:])
		have, ran := done[name]
		delete(done, name)
		switch {
		case ran && have != want:
			return fmt.Errorf("migration %s changed after it was applied to this database: restore the file", name)
		case ran:
			continue
		}
		if err := applyMigration(ctx, conn, name, want, dialect(string(text))); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	for name := range done {
		return fmt.Errorf("%w (it has migration %s)", ErrNewerDatabase, name)
	}
	return nil
}

func appliedMigrations(ctx context.Context, conn *sql.Conn) (map[string]string, error) {
	rows, err := conn.QueryContext(ctx, `SELECT name, checksum FROM migrations`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	done := map[string]string{}
	for rows.Next() {
		var name, checksum string
		if err := rows.Scan(&name, &checksum); err != nil {
			return nil, err
		}
		done[name] = checksum
	}
	return done, rows.Err()
}

func applyMigration(ctx context.Context, conn *sql.Conn, name, checksum, text string) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, text); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO migrations (name, checksum) VALUES ($1, $2)`, name, checksum); err != nil {
		return err
	}
	return tx.Commit()
}

// dialect fills in the two words of the schema that SQLite has its own way for.
func dialect(text string) string {
	return strings.NewReplacer("{{rowid}}", "INTEGER PRIMARY KEY", "{{clustered}}", " WITHOUT ROWID").Replace(text)
}
