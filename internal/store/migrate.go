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
	"slices"
	"strings"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Errors of a database that this version must not touch.
var (
	// ErrNewerDatabase says that a later version of Writ has written the database.
	ErrNewerDatabase = errors.New("the database was written by a newer version of writ: use that version")
	// ErrMigrationChanged says that the schema is not the one that this version would have made.
	ErrMigrationChanged = errors.New("a migration changed after it was applied to this database: use the version that wrote it")
)

// migrate brings the schema up to date, forward only. Each file runs in one transaction and is remembered by checksum:
// a file that changed after it ran, or one this version does not know, stops the start.
func migrate(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, checksum TEXT NOT NULL)`); err != nil {
		return unavailable(err)
	}
	done, err := appliedMigrations(ctx, conn)
	if err != nil {
		return err
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	for name := range done {
		if !slices.Contains(names, "migrations/"+name) {
			return fmt.Errorf("%w (it has migration %s)", ErrNewerDatabase, name)
		}
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
		switch {
		case ran && have != want:
			return fmt.Errorf("%w: %s", ErrMigrationChanged, name)
		case ran:
			continue
		}
		if err := applyMigration(ctx, conn, name, want, dialect(string(text))); err != nil {
			return fmt.Errorf("migration %s: %w", name, unavailable(err))
		}
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
