package store

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/writ-project/writ/internal/access"
)

// A database that was put back from a backup, emptied or exchanged is refused by the host that has acknowledged more.
func TestAnOlderDatabaseIsRefused(t *testing.T) { onEach(t, anOlderDatabaseIsRefused) }

func anOlderDatabaseIsRefused(t *testing.T, open opener) {
	kept := filepath.Join(t.TempDir(), "acknowledged")
	acknowledged := func(o *Options) { o.Acknowledged = kept }
	f := open(t, acknowledged)
	f.history()
	if err := f.KeepHead(); err != nil {
		t.Fatal(err)
	}
	f.record(statusOf("p", access.Active)) // newer than what was kept
	f.reopen()
	if err := f.KeepHead(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	newest, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}

	again := f.opts
	again.Database = open(t, func(o *Options) { o.Signer, o.VerifierKey = f.opts.Signer, f.key }).closed()
	f.opts = again
	wantErr(t, "another log of the same key", f.openAgain(), ErrRolledBack)

	if err := os.WriteFile(kept, newest[:len(newest)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a file that was cut", f.openAgain(), access.ErrUnavailable)
}

// closed closes the store and returns where its database is.
func (f *fixture) closed() string {
	f.t.Helper()
	if err := f.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.opts.Database
}

// A path that was mistyped must not become a new log where one must be there.
func TestWhereALogMustBeNoneIsBegun(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "typo.db")
	f := open(t)
	opts := f.opts
	opts.Database, opts.MustExist = missing, true
	_, err := Open(t.Context(), opts)
	wantErr(t, "no file", err, access.ErrUnavailable)
	if _, err := os.Stat(missing); err == nil {
		t.Error("a file was made")
	}
	empty := openPostgres(t)
	database, err := must[string](t)(startedServer.Load().Database(t.Context())), error(nil)
	opts = empty.opts
	opts.Database, opts.MustExist = database, true
	_, err = Open(t.Context(), opts)
	wantErr(t, "an empty database", err, access.ErrNotFound)
}
