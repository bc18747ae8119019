package store

import (
	"context"
	"crypto/sha256"
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
	// ErrUnfinished says that a restore into the database has not come to its end.
	ErrUnfinished = errors.New("a restore into this database has not finished: let it end, or run `writ restore` again")
)

// unfinished stands among the migrations while a database is being copied into: nobody serves it meanwhile, nor when the
// copying has stopped half way.
const unfinished = "a copy that has not finished"

func markUnfinished(ctx context.Context, on session) error {
	return on.exec(ctx, `INSERT INTO migrations (name, checksum) VALUES ($1, '') ON CONFLICT DO NOTHING`, unfinished)
}

func markFinished(ctx context.Context, on session) error {
	return on.exec(ctx, `DELETE FROM migrations WHERE name = $1`, unfinished)
}

// migrate brings the schema up to date, forward only. Each file runs in one transaction and is remembered by checksum:
// a file that changed after it ran, or one this version does not know, stops the start.
func migrate(ctx context.Context, on scripted, dialect []string) error {
	return bringUp(ctx, on, dialect, false)
}

// bringUp is migrate, with the choice to go on with a copy that has not finished.
func bringUp(ctx context.Context, on scripted, dialect []string, copying bool) error {
	words := strings.NewReplacer(dialect...)
	if err := on.script(ctx, words.Replace(`CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, checksum TEXT NOT NULL)`)); err != nil {
		return unavailable(err)
	}
	done, err := appliedMigrations(ctx, on)
	if err != nil {
		return err
	}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	for name := range done {
		if name == unfinished {
			if !copying {
				return ErrUnfinished
			}
			continue
		}
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
		if err := applyMigration(ctx, on, name, want, words.Replace(string(text))); err != nil {
			return fmt.Errorf("migration %s: %w", name, unavailable(err))
		}
	}
	return nil
}

// scripted is a session that also runs texts of several statements, as the schema's are.
type scripted interface {
	session
	script(ctx context.Context, text string) error
}

func appliedMigrations(ctx context.Context, on session) (map[string]string, error) {
	done := map[string]string{}
	err := on.each(ctx, `SELECT name, checksum FROM migrations`, nil, func(row func(...any) error) error {
		var name, checksum string
		err := row(&name, &checksum)
		done[name] = checksum
		return err
	})
	return done, unavailable(err)
}

func applyMigration(ctx context.Context, on scripted, name, checksum, text string) (err error) {
	if err := on.exec(ctx, `BEGIN`); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, on.exec(ctx, `ROLLBACK`))
		}
	}()
	if err := on.script(ctx, text); err != nil {
		return err
	}
	if err := on.exec(ctx, `INSERT INTO migrations (name, checksum) VALUES ($1, $2)`, name, checksum); err != nil {
		return err
	}
	return on.exec(ctx, `COMMIT`)
}
