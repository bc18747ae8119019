package store

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// openAgain tries to open the database of a closed fixture.
func (f *fixture) openAgain(change ...func(*Options)) error {
	f.t.Helper()
	if err := f.Close(); err != nil {
		f.t.Fatal(err)
	}
	opts := f.opts
	for _, c := range change {
		c(&opts)
	}
	s, err := Open(context.Background(), opts)
	if err == nil {
		err = s.Close()
	}
	return err
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		sql    string
		change func(*Options)
		want   error
	}{
		"a database of a newer version":  {sql: `INSERT INTO migrations VALUES ('9999_later.sql', 'x')`, want: ErrNewerDatabase},
		"a migration that changed":       {sql: `UPDATE migrations SET checksum = 'x'`, want: ErrMigrationChanged},
		"a head larger than the entries": {sql: `DELETE FROM entries WHERE idx = (SELECT MAX(idx) FROM entries)`, want: ErrForked},
		"entries after the head":         {sql: `INSERT INTO entries SELECT idx + 1, body FROM entries ORDER BY idx DESC LIMIT 1`, want: ErrForked},
		"entries without a head":         {sql: `DELETE FROM head`, want: ErrForked},
		"a gap in the entries":           {sql: `DELETE FROM entries WHERE idx = 513`, want: ErrForked},
		"an entry that was changed":      {sql: `UPDATE entries SET body = body || 'x' WHERE idx = 513`, want: ErrForked},
		"a head of another size":         {sql: `UPDATE head SET size = size - 1; DELETE FROM entries WHERE idx = (SELECT MAX(idx) FROM entries)`, want: ErrForked},
		"a tile that is missing":         {sql: `DELETE FROM tiles`, want: ErrForked},
		"a tile that is torn":            {sql: `UPDATE tiles SET data = substr(data, 1, 100)`, want: ErrForked},
		"a tile that was changed":        {sql: `UPDATE tiles SET data = zeroblob(8192)`, want: ErrForked},
		"a head that nobody signed":      {sql: `UPDATE head SET checkpoint = substr(checkpoint, 1, length(checkpoint) - 20)`, want: evidence.ErrCheckpoint},
		"a head that does not verify":    {change: otherKey(t), want: evidence.ErrUnverified},
		"a folder that is not there":     {change: func(o *Options) { o.Database = filepath.Join(o.Database, "no", "writ.db") }, want: access.ErrUnavailable},
		"a file that is no database":     {change: noDatabase(t), want: access.ErrUnavailable},
		"a folder in the place of the file": {change: func(o *Options) {
			o.Database = filepath.Join(filepath.Dir(o.Database), "folder")
			_ = os.Mkdir(o.Database, 0o700)
		}, want: access.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			f.history()
			if c.sql != "" {
				f.sql(c.sql)
			}
			changes := []func(*Options){}
			if c.change != nil {
				changes = append(changes, c.change)
			}
			wantErr(t, name, f.openAgain(changes...), c.want)
		})
	}
}

func otherKey(t *testing.T) func(*Options) {
	_, public, err := evidence.GenerateKey("test.example/log", strings.NewReader(strings.Repeat("another key ", 9)))
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.VerifierKey = public }
}

func noDatabase(t *testing.T) func(*Options) {
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.Database = path }
}

// A database that becomes read-only under the server: nothing is granted, and it works again when it can be written again.
func TestAReadOnlyDatabaseGrantsNothing(t *testing.T) {
	f := open(t)
	f.record(f.taskOpened("t1", bot))
	if _, err := f.file().conn.ExecContext(t.Context(), `PRAGMA query_only = 1`); err != nil {
		t.Fatal(err)
	}
	size := f.Size()
	_, err := f.try(change(f.decided("d1", "t1", bot)))
	wantErr(t, "a request", err, access.ErrUnavailable)
	same(t, "size", f.Size(), size)
	if _, err := f.file().conn.ExecContext(t.Context(), `PRAGMA query_only = 0`); err != nil {
		t.Fatal(err)
	}
	f.record(f.decided("d1", "t1", bot))
	f.verifyClean()
}

func TestASecondProcessIsRefused(t *testing.T) {
	f := open(t)
	_, err := Open(t.Context(), f.opts)
	wantErr(t, "a second store", err, ErrInUse)
	f.record(statusOf("p", access.Active))
}

// A foreign writer that holds the database for longer than we wait: all that wait are told at once, and nothing is recorded.
func TestAForeignWriterMakesItUnavailable(t *testing.T) {
	f := open(t)
	if _, err := f.file().conn.ExecContext(t.Context(), `PRAGMA busy_timeout = 10`); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+f.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(`BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	size := f.Size()
	together(20, func(i int) {
		_, err := f.try(change(f.decided(fmt.Sprint("d", i), "t1", bot)))
		wantErr(t, "while it is held", err, access.ErrUnavailable)
	})
	if _, err := db.Exec(`ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	same(t, "size", f.Size(), size)
	f.record(f.decided("d0", "t1", bot))
	f.verifyClean()
}

// Somebody else who moves the log makes this process stop granting.
func TestAMovedHeadStopsTheServer(t *testing.T) {
	f := open(t)
	f.record(statusOf("p", access.Active))
	f.sql(`UPDATE head SET size = size + 1`)
	_, err := f.try(change(statusOf("p", access.Suspended)))
	wantErr(t, "another size", err, access.ErrUnavailable, ErrForked)
	f.sql(`UPDATE head SET size = size - 1`)
	f.sql(`UPDATE head SET checkpoint = x'00'`)
	_, err = f.try(change(statusOf("p", access.Suspended)))
	wantErr(t, "another checkpoint of the same size", err, access.ErrUnavailable, ErrForked)
}

// Writing on to a file that was deleted or replaced would lose all that was acknowledged.
func TestAReplacedFileStopsTheServer(t *testing.T) {
	for _, suffix := range []string{"", "-wal"} {
		f := open(t)
		file := f.path + suffix
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		_, err := f.try(change(statusOf("p", access.Active)))
		wantErr(t, "moved away: "+suffix, err, access.ErrUnavailable)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = f.try(change(statusOf("p", access.Active)))
		wantErr(t, "replaced: "+suffix, err, access.ErrUnavailable)
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
		f.record(statusOf("p", access.Active))
		f.verifyClean()
	}
}

// A full disk: requests are refused, revoking goes on in the reserve, and when there is room again everything works.
func TestI7_AFullDiskStillRevokes(t *testing.T) {
	f := open(t, func(o *Options) { o.MaxPages = 120 })
	f.record(f.taskOpened("t1", bot))
	full := false
	last := ""
	for i := 0; !full && i < 1000; i++ {
		last = fmt.Sprint("d", i)
		d := f.decided(last, "t1", bot)
		d.Values["more"] = []byte(`"` + strings.Repeat("x", 4000) + `"`)
		_, err := f.try(change(d))
		if full = err != nil; full {
			wantErr(t, "full", err, access.ErrUnavailable)
		}
	}
	if !full {
		t.Fatal("the disk never was full")
	}
	if _, err := f.view().Grant(last); !errors.Is(err, access.ErrNotFound) {
		t.Error("something was granted without space for its evidence:", err)
	}
	revoke := func() error {
		_, err := f.Revoke(t.Context(), func(*View) (event.Change, error) {
			return change(event.Draft{Task: "t1", Event: &event.GrantEnded{ID: "d0", Reason: access.EndRevoked}}, event.Draft{Event: &event.Installed{}, Values: values("x", `"`+strings.Repeat("x", 30000)+`"`)}), nil
		})
		return err
	}
	for f.file().space.kept.Load() {
		if err := revoke(); err != nil {
			t.Fatal("revoking on a full disk:", err)
		}
	}
	if _, err := os.Stat(f.path + ".reserve"); !errors.Is(err, os.ErrNotExist) {
		t.Error("the reserve is still there:", err)
	}
	if grant, err := f.view().Grant("d0"); err != nil || grant.Status != access.GrantEnded {
		t.Error(grant.Status, err)
	}
	_, err := f.try(change(statusOf("p", access.Active)))
	wantErr(t, "a request in the reserve", err, access.ErrUnavailable)
	wantErr(t, "a heartbeat in the reserve", f.Beat(t.Context(), "t1", f.now), access.ErrUnavailable)
	if err := revoke(); err != nil {
		t.Error("revoking in the reserve:", err)
	}
	wantErr(t, "recovering without room", f.Recover(t.Context()), access.ErrUnavailable)
	f.file().maxPages = 400 // as if pages had become free
	if err := f.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Recover(t.Context()); err != nil { // it is held
		t.Error(err)
	}
	f.record(statusOf("p", access.Active))
	f.verifyClean()
}

// Without room for the reserve Writ starts, but only revokes; Recover takes the reserve when there is room.
func TestTheReserveIsTakenBack(t *testing.T) {
	f := open(t)
	if err := os.Remove(f.path + ".reserve"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(f.path+".reserve", 0o700); err != nil { // so that the file cannot be made
		t.Fatal(err)
	}
	f.reopen()
	_, err := f.try(change(statusOf("p", access.Active)))
	wantErr(t, "a request", err, access.ErrUnavailable)
	if _, err := f.Revoke(t.Context(), func(*View) (event.Change, error) { return change(statusOf("p", access.Suspended)), nil }); err != nil {
		t.Error("revoking:", err)
	}
	if err := os.WriteFile(f.path+".reserve/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "without room", f.Recover(t.Context()), access.ErrUnavailable)
	if err := os.RemoveAll(f.path + ".reserve"); err != nil {
		t.Fatal(err)
	}
	if err := f.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.record(statusOf("p", access.Active))
	if info, err := os.Stat(f.path + ".reserve"); err != nil || info.Size() != f.opts.Reserve {
		t.Error(info, err)
	}
}

func TestReadOnly(t *testing.T) {
	f := open(t)
	f.history()
	r, err := OpenReadOnly(t.Context(), f.path, f.key)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "origin", r.Origin(), f.Origin())
	same(t, "size", r.Size(), f.Size())
	_, err = r.Update(t.Context(), func(*View) (event.Change, error) { return change(statusOf("p", access.Active)), nil })
	wantErr(t, "a change", err, access.ErrUnavailable)
	wantErr(t, "a heartbeat", r.Beat(t.Context(), "t1", f.now), access.ErrUnavailable)
	if err := r.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := r.Proof(t.Context(), 3); err != nil {
		t.Error(err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	f.sql(`UPDATE entries SET body = body || 'x' WHERE idx = 513`)
	if _, err = OpenReadOnly(t.Context(), f.path, f.key); !errors.Is(err, ErrForked) {
		t.Error("an entry that was changed:", err)
	}
	if _, err = OpenReadOnly(t.Context(), f.path+".none", f.key); !errors.Is(err, os.ErrNotExist) {
		t.Error("no file:", err)
	}
}

func TestAfterCloseEverythingIsUnavailable(t *testing.T) {
	f := open(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := f.try(change(statusOf("p", access.Active)))
	wantErr(t, "Update", err, access.ErrUnavailable)
	_, err = f.Update(t.Context(), func(v *View) (event.Change, error) { _, err := v.Task("t"); return event.Change{}, err })
	wantErr(t, "a read in Update", err, access.ErrUnavailable)
	_, err = f.Entry(t.Context(), 0)
	wantErr(t, "Entry", err, access.ErrUnavailable)
	wantErr(t, "Entries", f.Entries(t.Context(), 0, 1, nil), access.ErrUnavailable)
	wantErr(t, "Beat", f.Beat(t.Context(), "t", f.now), access.ErrUnavailable)
}

const childVariable = "WRIT_STORE_TEST_CHILD"

// TestMain lets the test binary be the server that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		if folder := os.Getenv(childVariable + "_ARCHIVE"); folder != "" {
			pruneUntilKilled(path, folder, os.Getenv(childVariable+"_KEY"), os.Getenv(childVariable+"_SECRET"))
		}
		writeUntilKilled(path, os.Getenv(childVariable+"_KEY"), os.Getenv(childVariable+"_SECRET"))
	}
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(max(25/sample, 8))) // each opens a database; ask for more with -rapid.checks
	}
	code := m.Run()
	if server := startedServer.Load(); server != nil {
		_ = server.Stop() // the tests have passed or failed by now
	}
	os.Exit(code)
}

// writeUntilKilled prints the id and index of each decision after it was acknowledged.
func writeUntilKilled(path, public, secret string) {
	signer, err := evidence.NewSigner(secret)
	if err != nil {
		panic(err)
	}
	s, err := Open(context.Background(), Options{Database: path, Signer: signer, VerifierKey: public, Now: time.Now, Reserve: 1 << 16})
	if err != nil {
		panic(err)
	}
	f := &fixture{Store: s, now: time.Now()}
	fmt.Println("open")
	start := s.Size()
	together(8, func(i int) {
		for n := 0; ; n++ {
			id := fmt.Sprintf("d%d.%d.%d", start, i, n)
			receipt, err := f.try(change(f.decided(id, "t1", bot, counts("c", 60, 1), touches("pii")), f.decided(id+"b", "t1", bot)))
			if err != nil {
				panic(err)
			}
			_, _ = fmt.Fprintln(os.Stdout, id, receipt.Indexes[0]) // in one write
		}
	})
}

// Killed in the middle of commits: all that was acknowledged is there, nothing is there by half, and the log is clean.
func TestI2_KilledServersLoseNothingThatTheyAcknowledged(t *testing.T) {
	secret, public, err := evidence.GenerateKey("test.example/log", strings.NewReader(strings.Repeat("0123456789abcdef", 4)))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := evidence.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "writ.db")
	acknowledged := map[string]int64{}
	var kept []evidence.Checkpoint
	for range 5 {
		killAChild(t, path, public, secret, acknowledged)
		s, err := Open(t.Context(), Options{Database: path, Signer: signer, VerifierKey: public, Now: time.Now, Reserve: 1 << 16})
		if err != nil {
			t.Fatal(err)
		}
		f := &fixture{Store: s, t: t, path: path, key: public, opts: Options{Database: path}}
		for id, index := range acknowledged {
			if got := f.indexOf(id); got != index {
				t.Errorf("%s was acknowledged at %d and is at %d", id, index, got)
			}
			f.indexOf(id + "b")
		}
		if s.Size()%2 != 1 {
			t.Error("half a change is in the log of", s.Size())
		}
		kept = append(kept, f.checkpoint())
		f.verifyClean(kept...)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d changes were acknowledged", len(acknowledged))
}

func killAChild(t *testing.T, path, public, secret string, acknowledged map[string]int64) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), childVariable+"="+path, childVariable+"_KEY="+public, childVariable+"_SECRET="+secret)
	child.Stderr = t.Output()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	killAfter := 1 + rand.IntN(150)
	for n := 0; ; n++ {
		if n == killAfter {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break // a line that was cut off was not acknowledged in full
		}
		if err != nil {
			t.Fatal(err)
		}
		var id string
		var index int64
		if _, err := fmt.Sscan(line, &id, &index); err == nil {
			acknowledged[id] = index
		} else if line != "open\n" {
			t.Errorf("the child said %q", line)
		}
	}
	if err := child.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
}

// What expires by the log's time would be valid for so much longer by everybody else's clock.
func TestI4_AClockFarBehindTheLogGrantsNothing(t *testing.T) {
	f := open(t)
	f.history()
	f.now = f.now.Add(-time.Hour)
	if _, err := f.Update(t.Context(), only(statusOf("p_x", access.Active))); !errors.Is(err, access.ErrUnavailable) {
		t.Errorf("a change was recorded: %v", err)
	}
	if _, err := f.Revoke(t.Context(), only(statusOf("p_x", access.Suspended))); err != nil {
		t.Errorf("revoking does not work: %v", err)
	}
	f.now = f.now.Add(time.Hour)
	if _, err := f.Update(t.Context(), only(statusOf("p_x", access.Active))); err != nil {
		t.Errorf("the clock is right again: %v", err)
	}
}

func only(drafts ...event.Draft) func(*View) (event.Change, error) {
	return func(*View) (event.Change, error) { return event.Change{Drafts: drafts}, nil }
}

func TestVerifyFindsAnotherPseudonymKey(t *testing.T) {
	f := open(t)
	f.history()
	if _, err := f.file().conn.ExecContext(t.Context(), `UPDATE settings SET value = $1 WHERE name = $2`, make([]byte, 32), settingPseudonymKey); err != nil {
		t.Fatal(err)
	}
	if got := f.verify(); len(got.Findings) != 1 || got.Findings[0].Table != "settings" {
		t.Errorf("found %v", got.Findings)
	}
}

func TestTheDatabaseIsForItsOwnerOnly(t *testing.T) {
	f := open(t)
	for _, path := range []string{f.path, f.path + "-wal"} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}
