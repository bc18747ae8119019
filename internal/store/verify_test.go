package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access/event"
)

func TestVerifyClean(t *testing.T) {
	f := open(t)
	first := f.checkpoint()
	f.history()
	f.verifyClean(first, f.checkpoint())
	if rows := f.verify().Rows; rows < 2*int64(len(authoritative()))-2 {
		t.Errorf("the history has only %d rows", rows)
	}
}

// tampering is a closed database on which changes can be tried, each undone again.
type tampering struct {
	t       *testing.T
	f       *fixture
	conn    *sql.Conn
	moment  moment
	scratch string
	kept    []evidence.Checkpoint
	archive *Archive
	count   int
}

func newTampering(t *testing.T, open opener, history func(*fixture)) *tampering {
	t.Helper()
	f := open(t)
	kept := f.checkpoint()
	history(f)
	tp := &tampering{t: t, f: f, scratch: t.TempDir(), kept: []evidence.Checkpoint{kept, f.checkpoint()}}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tp.connect())
	return tp
}

// connect opens the database beside the store.
func (tp *tampering) connect() (closeAll func()) {
	tp.t.Helper()
	tp.moment = moment{structure: sqliteStructure, faults: sqliteFaults}
	db, err := openSQLite(tp.f.path, "rw", nil)
	if isPostgres(tp.f.opts.Database) {
		tp.moment = moment{structure: postgresStructureOf, faults: noFaults}
		db, err = sql.Open("pgx", tp.f.opts.Database)
	}
	if err != nil {
		tp.t.Fatal(err)
	}
	if tp.conn, err = db.Conn(context.Background()); err != nil {
		tp.t.Fatal(err)
	}
	stored := newPrepared(tp.conn)
	tp.moment.session = stored
	return func() { _ = errors.Join(stored.close(), tp.conn.Close(), db.Close()) }
}

// errNothing says that a swap gave the same rows: each became the other.
var errNothing = errors.New("nothing was changed")

// try makes a change, verifies, and undoes the change. A change that the schema refuses is none.
func (tp *tampering) try(change func() error) (findings []Finding, refused bool) {
	tp.t.Helper()
	ctx := context.Background()
	tp.exec(`BEGIN`)
	defer tp.exec(`ROLLBACK`)
	if err := change(); err != nil {
		if errors.Is(err, errNothing) || strings.Contains(err.Error(), "constraint") {
			return nil, true
		}
		tp.t.Fatal(err)
	}
	tp.count++
	rebuilt, done, err := newScratch(ctx, tp.scratch)
	if err != nil {
		tp.t.Fatal(err)
	}
	defer done()
	got, err := newVerification(ctx, &tp.moment, rebuilt, VerifyOptions{Kept: tp.kept, Archive: tp.archive}).run(tp.f.key)
	if err != nil {
		tp.t.Fatal(err)
	}
	return got.Findings, false
}

func (tp *tampering) exec(text string, args ...any) {
	tp.t.Helper()
	if _, err := tp.conn.ExecContext(context.Background(), text, args...); err != nil {
		tp.t.Fatal(err)
	}
}

// rows reads a whole table: its columns, and its rows in the order of the key.
func (tp *tampering) rows(table string, keys int) (columns []string, out [][]any) {
	tp.t.Helper()
	order := make([]string, keys)
	for i := range order {
		order[i] = fmt.Sprint(i + 1)
	}
	rows, err := tp.conn.QueryContext(context.Background(), `SELECT * FROM `+table+` ORDER BY `+strings.Join(order, ", "))
	if err != nil {
		tp.t.Fatal(err)
	}
	defer rows.Close()
	if columns, err = rows.Columns(); err != nil {
		tp.t.Fatal(err)
	}
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			tp.t.Fatal(err)
		}
		out = append(out, row)
	}
	if rows.Err() != nil {
		tp.t.Fatal(rows.Err())
	}
	return columns, out
}

// set changes one column of one row.
func (tp *tampering) set(table string, columns []string, keys int, row []any, column int, value any) error {
	where := make([]string, keys)
	args := []any{value}
	for i := range keys {
		where[i] = fmt.Sprintf("%s = $%d", columns[i], i+2)
		args = append(args, row[i])
	}
	res, err := tp.conn.ExecContext(context.Background(), `UPDATE `+table+` SET `+columns[column]+` = $1 WHERE `+strings.Join(where, " AND "), args...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		tp.t.Fatalf("%d rows of %s were changed, %v", n, table, err)
	}
	return nil
}

func different(value any) any {
	switch value := value.(type) {
	case int64:
		return value + 1_000_003
	case string:
		return value + "x"
	case []byte:
		changed := slices.Clone(value)
		changed[len(changed)/2] ^= 1
		return changed
	default:
		panic(fmt.Sprintf("no column holds %T", value))
	}
}

func withKey(row []any, column int, value any) []any {
	row = slices.Clone(row)
	row[column] = value
	return row
}

func keyOf(row []any, keys int) string { return (&cursor{values: row}).key(keys) }

// namesRow reports whether a finding names the row, as closely as can be asked.
func namesRow(findings []Finding, table, row string) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool {
		if f.Table != table {
			return false
		}
		switch table {
		case "entries", "disclosures": // found by the evidence package, which knows the entry, or the log as a whole
			index, _, _ := strings.Cut(row, ",")
			return f.Row == row || f.Row == index || f.Row == "the log as a whole" || inRange(f.Row, index)
		default:
			return f.Row == row
		}
	})
}

func inRange(row, index string) bool {
	var from, to, at int64
	if _, err := fmt.Sscanf(row, "%d to %d,", &from, &to); err != nil {
		return false
	}
	_, err := fmt.Sscan(index, &at)
	return err == nil && from <= at && at <= to
}

// Every change, deletion, insertion and swap of rows in every table of state and log is found, and named.
func TestI1_EveryTamperedRowIsNamed(t *testing.T) { onEach(t, everyTamperedRow) }

func everyTamperedRow(t *testing.T, open opener) {
	t.Run("state", func(t *testing.T) {
		everyTampering(t, open, (*fixture).shortHistory, append(authoritative(), table{"disclosures", 2}, table{"bundles", 1}))
	})
	t.Run("log", func(t *testing.T) {
		everyTampering(t, open, (*fixture).history, []table{{"entries", 1}, {"tiles", 2}, {"head", 1}})
	})
}

func everyTampering(t *testing.T, open opener, history func(*fixture), tables []table) {
	tp := newTampering(t, open, history)
	if findings, _ := tp.try(func() error { return nil }); len(findings) > 0 {
		t.Fatal("before anything was changed:", findings)
	}
	checks := 0
	for _, tb := range tables {
		columns, rows := tp.rows(tb.name, tb.keys)
		if least := 2; len(rows) < least && !slices.Contains([]string{"catalog_version", "head", "migrations"}, tb.name) {
			t.Errorf("the history has only %d rows in %s", len(rows), tb.name)
		}
		first, last := rows[0], rows[len(rows)-1]
		check := func(what, row string, change func() error) {
			t.Helper()
			if checks++; checks%sample != 0 {
				return
			}
			findings, refused := tp.try(change)
			if !refused && !namesRow(findings, tb.name, row) {
				t.Errorf("%s: %s of row %q was not named: %v", tb.name, what, row, findings[:min(len(findings), 5)])
			}
		}
		for i, column := range columns {
			for _, row := range [][]any{first, last} {
				if tb.name == "migrations" && i == 0 {
					continue // refused as a database of a newer version
				}
				named := keyOf(row, tb.keys)
				check("change of "+column, named, func() error { return tp.set(tb.name, columns, tb.keys, row, i, different(row[i])) })
				if text, ok := row[i].(string); ok && !isPostgres(tp.f.opts.Database) { // which has types
					check("change of the type of "+column, named, func() error { return tp.set(tb.name, columns, tb.keys, row, i, []byte(text)) })
				}
			}
			at := slices.IndexFunc(rows, func(row []any) bool { return compareValues(row[i], first[i]) != 0 })
			if at < 0 {
				continue // all rows hold the same
			}
			second := rows[at]
			spare := different(different(first[i]))
			check("swap of "+column, keyOf(first, tb.keys), func() (err error) {
				defer func() {
					if err != nil {
						return
					}
					if _, now := tp.rows(tb.name, tb.keys); cmp.Equal(now, rows) {
						err = errNothing
					}
				}()
				if i >= tb.keys {
					return errors.Join(tp.set(tb.name, columns, tb.keys, first, i, second[i]), tp.set(tb.name, columns, tb.keys, second, i, first[i]))
				}
				return errors.Join(
					tp.set(tb.name, columns, tb.keys, first, i, spare),
					tp.set(tb.name, columns, tb.keys, second, i, first[i]),
					tp.set(tb.name, columns, tb.keys, withKey(first, i, spare), i, second[i]),
				)
			})
		}
		for _, row := range [][]any{first, last} {
			if tb.name == "migrations" {
				continue // a newer version's, or none at all
			}
			where, args := make([]string, tb.keys), row[:tb.keys]
			for i := range where {
				where[i] = fmt.Sprintf("%s = $%d", columns[i], i+1)
			}
			check("deletion", keyOf(row, tb.keys), func() error {
				_, err := tp.conn.ExecContext(context.Background(), `DELETE FROM `+tb.name+` WHERE `+strings.Join(where, " AND "), args...)
				return err
			})
			added := withKey(row, tb.keys-1, different(row[tb.keys-1]))
			check("insertion", keyOf(added, tb.keys), func() error {
				numbers := make([]string, len(added))
				for i := range numbers {
					numbers[i] = fmt.Sprintf("$%d", i+1)
				}
				marks := strings.Join(numbers, ", ")
				_, err := tp.conn.ExecContext(context.Background(), `INSERT INTO `+tb.name+` VALUES (`+marks+`)`, added...)
				return err
			})
		}
		if tb.name != "migrations" {
			check("truncation", keyOf(last, tb.keys), func() error {
				_, err := tp.conn.ExecContext(context.Background(), `DELETE FROM `+tb.name)
				return err
			})
		}
	}
	t.Logf("%d changes tried", tp.count)
}

// What hides rows without changing any is found too.
func TestVerifyFindsAChangedStructure(t *testing.T) {
	tp := newTampering(t, open, (*fixture).shortHistory)
	for _, change := range []string{
		`DROP INDEX grants_by_task`,
		`CREATE TRIGGER helpful AFTER INSERT ON grants BEGIN UPDATE grants SET max_uses = 0; END`,
		`CREATE VIEW spare AS SELECT * FROM grants`,
		`CREATE INDEX more ON grants (id)`,
		`INSERT INTO tiles (level, n, data) VALUES (-1, 0, x'00')`,
		`INSERT INTO tiles (level, n, data) VALUES (-3, 0, x'00')`,
		`INSERT INTO tiles (level, n, data) VALUES (9, 0, x'00')`,
	} {
		findings, refused := tp.try(func() error {
			_, err := tp.conn.ExecContext(context.Background(), change)
			return err
		})
		if len(findings) != 1 || refused {
			t.Errorf("%s: found %v", change, findings)
		}
	}
}

// An entry that was changed together with its tile no longer fits the head; the row then is known only to the log as a whole.
func TestVerifyFindsEntriesChangedWithTheirTiles(t *testing.T) {
	tp := newTampering(t, open, (*fixture).history)
	findings, _ := tp.try(func() error {
		_, rows := tp.rows("entries", 1)
		body := different(rows[7][1]).([]byte)
		hash := evidence.LeafHash(body)
		_, err := tp.conn.ExecContext(context.Background(), `UPDATE entries SET body = ? WHERE idx = 7`, body)
		_, err2 := tp.conn.ExecContext(context.Background(),
			`UPDATE tiles SET data = CAST(substr(data, 1, 7 * 32) || ? || substr(data, 8 * 32 + 1) AS BLOB) WHERE level = 0 AND n = 0`, hash[:])
		return errors.Join(err, err2)
	})
	if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Table == "entries" && f.Code == string(evidence.CodeRoot) }) {
		t.Error(findings)
	}
}

// An older state of the database is consistent in itself: only a checkpoint that somebody kept shows that it is old.
func TestVerifyFindsAnOldBackupOnlyByAKeptCheckpoint(t *testing.T) {
	f := open(t)
	f.history()
	backup := filepath.Join(t.TempDir(), "backup.db")
	f.sql(`VACUUM INTO ?`, backup)
	f.record(statusOf("p_thief", "suspended"))
	kept := f.checkpoint()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{f.path + "-wal", f.path + "-shm"} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.Rename(backup, f.path); err != nil {
		t.Fatal(err)
	}
	if got := f.verify(); !got.OK() {
		t.Error("without a kept checkpoint nothing can be found:", got.Findings)
	}
	if got := f.verify(kept); len(got.Findings) != 1 || got.Findings[0].Code != string(evidence.CodeTruncated) {
		t.Error("with a kept checkpoint:", got.Findings)
	}
}

func TestVerifyRefusesWhatIsNoDatabaseOfItsVersion(t *testing.T) {
	f := open(t)
	f.sql(`INSERT INTO migrations VALUES ('9999_later.sql', 'x')`)
	if _, err := Verify(t.Context(), f.path, f.key, VerifyOptions{Scratch: t.TempDir()}); !errors.Is(err, ErrNewerDatabase) {
		t.Error("newer:", err)
	}
	if _, err := Verify(t.Context(), f.path, "no key", VerifyOptions{Scratch: t.TempDir()}); err == nil {
		t.Error("verified with no key")
	}
	if _, err := Verify(t.Context(), filepath.Join(t.TempDir(), "absent.db"), f.key, VerifyOptions{Scratch: t.TempDir()}); err == nil {
		t.Error("verified a database that is not there")
	}
}

func TestVerifyRunsBesideAWriter(t *testing.T) {
	f := open(t)
	f.history()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := f.try(event.Change{Drafts: []event.Draft{f.decided(fmt.Sprint("w", i), "t2", bot, counts("c", 60, 1))}}); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 3 {
		f.verifyClean()
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// An entry that the log's key has signed can still be one that this version cannot follow.
func TestEntriesThatCannotFollowAreNamed(t *testing.T) {
	rebuilt, closeRebuilt, err := newScratch(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer closeRebuilt()
	v := newVerification(t.Context(), nil, rebuilt, VerifyOptions{})
	entry := func(index int64, e event.Event) decodedEntry {
		return decodedEntry{projection{ctx: t.Context(), on: rebuilt, index: index}, e}
	}
	for name, x := range map[string]struct {
		batch []decodedEntry
		row   string
	}{
		"one that no projection knows": {[]decodedEntry{entry(7, nil)}, "7"},
		"an id that was there before":  {[]decodedEntry{entry(8, &event.DecisionMade{ID: "d"}), entry(9, &event.DecisionMade{ID: "d"})}, "8 to 9"},
	} {
		findings := v.rebuild(x.batch)
		if len(findings) != 1 || findings[0].Row != x.row || findings[0].Code != "inconsistent" {
			t.Errorf("%s: %v", name, findings)
		}
	}
}
