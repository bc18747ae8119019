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
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// everything is the content of all tables of a database, whatever it is.
func everything(t *testing.T, database string) map[string][][]any {
	t.Helper()
	m, err := momentOf(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	rebuilt, done, err := newScratch(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	v := newVerification(t.Context(), m, rebuilt, VerifyOptions{})
	out := map[string][][]any{}
	for _, name := range append(tableNames(), "migrations") {
		columns, err := v.columns(name)
		if err != nil {
			t.Fatal(err)
		}
		rows := newCursor(t.Context(), m, `SELECT `+joinedBy(columns)+` FROM `+name+` ORDER BY `+joinedBy(columns), len(columns))
		for rows.next() {
			out[name] = append(out[name], slices.Clone(rows.values))
			rows.taken = true
		}
		rows.stop()
		if rows.err != nil {
			t.Fatal(rows.err)
		}
	}
	return out
}

func joinedBy(columns []string) (text string) {
	for i, c := range columns {
		if i > 0 {
			text += ", "
		}
		text += c
	}
	return text
}

// What is copied is what the schema has.
func TestEveryTableIsBackedUp(t *testing.T) {
	f := open(t)
	have, err := pairs(t.Context(), f.reads, `SELECT name, type FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(have)), slices.Sorted(slices.Values(append(tableNames(), "migrations")))); diff != "" {
		t.Errorf("(-in the database +copied)\n%s", diff)
	}
}

// everyRow is a history with something in the tables without authority, too.
func (f *fixture) everyRow() {
	f.history()
	if err := f.Beat(context.Background(), "t2", f.now); err != nil {
		f.t.Fatal(err)
	}
	f.note(access.Stranger{Issuer: "https://idp.example", Subject: "x", First: f.now, Last: f.now, Times: 1})
	_, err := f.try(event.Change{Remember: &event.Remember{Subject: f.Pseudonym(bot), Key: "k", Digest: []byte{0, 1}, Result: "d1", Expires: f.now.Add(1 << 40)}})
	if err != nil {
		f.t.Fatal(err)
	}
}

// emptyPostgres is the URL of a database in which nothing is.
func emptyPostgres(t *testing.T) string {
	t.Helper()
	server, err := postgresServer()
	if err != nil {
		t.Fatal(err)
	}
	database, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return database
}

func (f *fixture) backup() string {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), "backup.db")
	verified, err := Backup(context.Background(), f.opts.Database, f.key, file, nil)
	if err != nil || !verified.OK() || verified.Rows == 0 {
		f.t.Fatal(verified, err)
	}
	return file
}

// From one database to the other and back, nothing is lost, added or changed, and what comes out goes on.
func TestBackupsMoveBetweenDatabases(t *testing.T) {
	f := open(t)
	f.everyRow()
	head := f.checkpoint()
	want := everything(t, f.opts.Database)
	for _, name := range tableNames() {
		if len(want[name]) == 0 {
			t.Errorf("the history has nothing in %s", name)
		}
	}
	first := f.backup()
	database := emptyPostgres(t)
	if _, err := Restore(t.Context(), first, f.key, database, nil); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(t.TempDir(), "second.db")
	if _, err := Backup(t.Context(), database, f.key, second, nil); err != nil {
		t.Fatal(err)
	}
	last := filepath.Join(t.TempDir(), "writ.db")
	if _, err := Restore(t.Context(), second, f.key, last, nil); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{first, database, second, last} {
		if diff := cmp.Diff(want, everything(t, place)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", placeOf(place), diff)
		}
		options := f.opts
		options.Database = place
		again, err := Open(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		g := &fixture{Store: again, t: t, path: place, key: f.key, opts: options, now: f.now}
		if got := g.checkpoint(); got != head {
			t.Errorf("%s has the head %v, want %v", placeOf(place), got, head)
		}
		g.record(statusOf("p_x", access.Active))
		g.verifyClean(head)
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A backup made while many write is one moment, and holds all that was acknowledged before it began.
func TestBackupUnderLoad(t *testing.T) { onEach(t, backupUnderLoad) }

func backupUnderLoad(t *testing.T, open opener) {
	f := open(t)
	f.everyRow()
	stop, failed := make(chan struct{}), make(chan error, 4)
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				if _, err := f.try(change(f.decided(fmt.Sprint("w", w, ".", i), "t2", bot, counts("c", 60, 1)))); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for range 2 {
		before := f.checkpoint()
		file := f.backup()
		got, err := Verify(t.Context(), file, f.key, VerifyOptions{Scratch: t.TempDir(), Kept: []evidence.Checkpoint{before}})
		if err != nil || !got.OK() || got.Checkpoint.Size < before.Size {
			t.Errorf("%v, %v", got, err)
		}
	}
	close(stop)
	for range 4 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

func TestABackupIsForItsOwnerAndOverwritesNothing(t *testing.T) {
	f := open(t)
	f.shortHistory()
	file := f.backup()
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	before, _ := os.ReadFile(file)
	if _, err := Backup(t.Context(), f.opts.Database, f.key, file, nil); !errors.Is(err, ErrExists) {
		t.Error("overwriting:", err)
	}
	if err := nameFile(filepath.Join(filepath.Dir(file), "no such file"), file); !errors.Is(err, ErrExists) && err == nil {
		t.Error("naming:", err)
	}
	if after, _ := os.ReadFile(file); string(before) != string(after) {
		t.Error("the file was changed")
	}
	files, _ := os.ReadDir(filepath.Dir(file))
	if len(files) != 1 {
		t.Error("left behind:", files)
	}
	absent := filepath.Join(t.TempDir(), "absent.db")
	if _, err := Backup(t.Context(), absent, f.key, filepath.Join(t.TempDir(), "b.db"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error("of nothing:", err)
	}
}

// What does not verify is not kept, wherever it was changed.
func TestADamagedDatabaseIsNeitherBackedUpNorRestored(t *testing.T) {
	onEach(t, aDamagedDatabaseIsNeitherBackedUpNorRestored)
}

func aDamagedDatabaseIsNeitherBackedUpNorRestored(t *testing.T, open opener) {
	f := open(t)
	f.shortHistory()
	good := f.backup()
	f.sql(`UPDATE grants SET max_uses = max_uses + 1 WHERE id = 'd1'`)
	file := filepath.Join(t.TempDir(), "backup.db")
	got, err := Backup(t.Context(), f.opts.Database, f.key, file, nil)
	if !errors.Is(err, ErrNotCopied) || got == nil || len(got.Findings) != 1 || got.Findings[0].Table != "grants" {
		t.Errorf("backed up: %v, %v", got, err)
	}
	if files, _ := os.ReadDir(filepath.Dir(file)); len(files) > 0 {
		t.Error("left behind:", files)
	}
	if err := (&fixture{t: t, path: good, opts: Options{Database: good}}).beside(`DELETE FROM answers`); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(t.TempDir(), "writ.db")
	if isPostgres(f.opts.Database) {
		into = emptyPostgres(t)
	}
	got, err = Restore(t.Context(), good, f.key, into, nil)
	if !errors.Is(err, ErrNotCopied) || got == nil || len(got.Findings) != 2 || got.Findings[0].Table != "answers" {
		t.Errorf("restored: %v, %v", got, err)
	}
	f.refusesToServe(into)
}

// refusesToServe makes sure that nobody takes the database for an installation.
func (f *fixture) refusesToServe(database string) {
	f.t.Helper()
	options := f.opts
	options.Database = database
	if s, err := Open(context.Background(), options); !errors.Is(err, ErrUnfinished) {
		f.t.Error("it is served:", err)
		if err == nil {
			_ = s.Close()
		}
	}
	if _, err := OpenReadOnly(context.Background(), database, f.key); err == nil {
		f.t.Error("its log is shown")
	}
	if _, err := Verify(context.Background(), database, f.key, VerifyOptions{Scratch: f.t.TempDir()}); !errors.Is(err, ErrUnfinished) {
		f.t.Error("it is verified:", err)
	}
	if _, err := Backup(context.Background(), database, f.key, filepath.Join(f.t.TempDir(), "b.db"), nil); !errors.Is(err, ErrUnfinished) {
		f.t.Error("it is backed up:", err)
	}
}

func TestRestoreNeedsAnEmptyDatabase(t *testing.T) { onEach(t, restoreNeedsAnEmptyDatabase) }

func restoreNeedsAnEmptyDatabase(t *testing.T, open opener) {
	f := open(t)
	f.shortHistory()
	file := f.backup()
	if !isPostgres(f.opts.Database) {
		if _, err := Restore(t.Context(), file, f.key, f.path, nil); err == nil {
			t.Error("restored under a running server")
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	before := everything(t, f.opts.Database)
	if _, err := Restore(t.Context(), file, f.key, f.opts.Database, nil); !errors.Is(err, ErrNotEmpty) {
		t.Error("restored over another:", err)
	}
	if diff := cmp.Diff(before, everything(t, f.opts.Database)); diff != "" {
		t.Errorf("it was changed\n%s", diff)
	}
}

func TestRestoreRefusesWhatIsLeftOfAnother(t *testing.T) {
	f := open(t)
	f.shortHistory()
	file := f.backup()
	into := filepath.Join(t.TempDir(), "writ.db")
	if err := os.WriteFile(into+"-wal", []byte("of another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), file, f.key, into, nil); err == nil {
		t.Error("restored beside the journal of another database")
	}
	if _, err := Restore(t.Context(), filepath.Join(t.TempDir(), "absent"), f.key, into, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error("restored nothing:", err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), text, f.key, filepath.Join(t.TempDir(), "writ.db"), nil); err == nil {
		t.Error("restored a text")
	}
}

// A restore that is broken off anywhere leaves what nobody serves, and can be repeated.
func TestABrokenRestoreIsNotServedAndCanBeRepeated(t *testing.T) {
	onEach(t, aBrokenRestoreIsNotServedAndCanBeRepeated)
}

func aBrokenRestoreIsNotServedAndCanBeRepeated(t *testing.T, open opener) {
	f := open(t)
	f.everyRow()
	want := everything(t, f.opts.Database)
	file := f.backup()
	into := filepath.Join(t.TempDir(), "writ.db")
	if isPostgres(f.opts.Database) {
		into = emptyPostgres(t)
	}
	for steps := 1; ; steps *= 3 {
		ctx, stop := context.WithCancel(t.Context())
		left := steps
		_, err := Restore(ctx, file, f.key, into, func(string, int64, int64) {
			if left--; left == 0 {
				stop()
			}
		})
		broken := ctx.Err() != nil
		stop()
		if err == nil {
			if steps == 1 {
				t.Error("it was never broken off")
			}
			break
		}
		if f.refusesToServe(into); t.Failed() || !broken {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, everything(t, into)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The files as a crash would leave them, at many moments of a restore.
func TestACrashDuringARestoreIsNotServed(t *testing.T) {
	f := open(t)
	f.history()
	file := f.backup()
	into := filepath.Join(t.TempDir(), "writ.db")
	var images []string
	_, err := Restore(t.Context(), file, f.key, into, func(string, int64, int64) {
		image := filepath.Join(t.TempDir(), "writ.db")
		for _, suffix := range []string{"", "-journal"} {
			content, err := os.ReadFile(into + suffix)
			if err != nil && !errors.Is(err, os.ErrNotExist) || os.WriteFile(image+suffix, content, 0o600) != nil {
				t.Error(err)
			}
		}
		images = append(images, image)
	})
	if err != nil || len(images) < 10 {
		t.Fatal(len(images), err)
	}
	for _, image := range images {
		f.refusesToServe(image)
	}
	if _, err := Restore(t.Context(), file, f.key, images[len(images)-1], nil); err != nil {
		t.Error(err)
	}
}

func TestRestoreOfWhatIsNoBackupLeavesTheTargetAlone(t *testing.T) {
	folder := t.TempDir()
	file, into := filepath.Join(folder, "notes.txt"), filepath.Join(folder, "writ.db")
	if err := os.WriteFile(file, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Restore(t.Context(), file, "", into, nil)
	if err == nil || !strings.Contains(err.Error(), file+" is not a database of writ") {
		t.Errorf("the error does not name the file: %v", err)
	}
	if _, err := os.Stat(into); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a database was begun: %v", err)
	}
}
