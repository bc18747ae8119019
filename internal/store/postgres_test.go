package store

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/pgtest"
)

var update = flag.Bool("update", false, "write postgres_structure.txt anew")

// What verification takes for the structure of a PostgreSQL database is what the migrations make.
func TestPostgresStructure(t *testing.T) {
	f := openPostgres(t)
	made, err := pairs(context.Background(), f.reads, postgresParts)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(made)) {
		fmt.Fprintf(&text, "%s\t%s\n", name, made[name])
	}
	if *update {
		if err := os.WriteFile("postgres_structure.txt", []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(postgresStructure, text.String()); diff != "" {
		t.Errorf("the migrations make another structure (-expected +made), run with -update if that is meant:\n%s", diff)
	}
}

// A server that may lose what it acknowledged is refused, with the setting that must be changed.
func TestAnUnsafePostgresIsRefused(t *testing.T) {
	for _, c := range []struct{ setting, says string }{
		{"synchronous_commit=off", "synchronous_commit"},
		{"fsync=off", "fsync"},
		{"full_page_writes=off", "full_page_writes"},
	} {
		t.Run(c.setting, func(t *testing.T) {
			server, err := pgtest.Start(t.Context(), c.setting)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := server.Stop(); err != nil {
					t.Error(err)
				}
			}()
			database, err := server.Database(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), openPostgres(t, func(o *Options) { o.unchecked = true }).optionsFor(database))
			wantErr(t, "opening", err, ErrUnsafePostgres)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Error("it does not say what to change:", err)
			}
		})
	}
}

// optionsFor are the safe options of the fixture for another database.
func (f *fixture) optionsFor(database string) Options {
	opts := f.opts
	opts.Database, opts.unchecked = database, false
	return opts
}

// I4: a process whose clock is more than a second from the database's grants nothing; it still revokes.
func TestI4_AClockThatIsNotTheDatabasesGrantsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		off time.Duration
		ok  bool
	}{"right": {0, true}, "half a second ahead": {500 * time.Millisecond, true}, "two seconds ahead": {2 * time.Second, false}, "two seconds behind": {-2 * time.Second, false}} {
		t.Run(name, func(t *testing.T) {
			off := time.Duration(0) // the first entry is written by a right clock
			f := openPostgres(t, func(o *Options) {
				o.clockSkew = 0
				o.Now = func() time.Time { return time.Now().Add(off) }
			})
			off = c.off
			_, err := f.try(change(statusOf("p", access.Active)))
			if c.ok != (err == nil) {
				t.Error(err)
			}
			if !c.ok {
				wantErr(t, "a change", err, access.ErrUnavailable)
			}
			if _, err := f.Revoke(t.Context(), only(statusOf("p", access.Suspended))); err != nil {
				t.Error("revoking:", err)
			}
		})
	}
}

// Of those who serve one database, one does what only one should; when it ends, another.
func TestOneOfSeveralLeads(t *testing.T) {
	first := openPostgres(t)
	second, err := Open(t.Context(), first.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	leads := func(s *Store) bool {
		t.Helper()
		yes, err := s.Leads(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	if !leads(first.Store) || leads(second) || !leads(first.Store) {
		t.Error("not exactly the first leads")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for try := 0; !leads(second); try++ { // the server ends the other's connection in its own time
		if try == 500 {
			t.Fatal("nobody leads")
		}
	}
}
