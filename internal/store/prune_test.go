package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// export writes the log, with all that lies beside it, into a folder.
func (f *fixture) export(folder string) Exported {
	f.t.Helper()
	done, err := f.Export(context.Background(), folder, f.key, ExportOptions{Entries: true, Values: true})
	if err != nil {
		f.t.Fatal(err)
	}
	return done
}

func (f *fixture) archive(folder string) *Archive {
	f.t.Helper()
	archive, err := OpenArchive(folder, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return archive
}

func (f *fixture) prune(folder string, before int64) Pruned {
	f.t.Helper()
	done, err := f.Prune(context.Background(), f.archive(folder), before, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return done
}

func (f *fixture) verifyWith(folder string) *Verified {
	f.t.Helper()
	options := VerifyOptions{Scratch: f.t.TempDir()}
	if folder != "" {
		options.Archive = f.archive(folder)
	}
	got, err := Verify(context.Background(), f.opts.Database, f.key, options)
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

// old is a history whose sealed tasks make room for several steps of pruning: 4 entries and a value for each task.
func (f *fixture) old(tasks int) {
	f.t.Helper()
	f.shortHistory()
	var drafts []event.Draft
	for i := range tasks {
		id := "old" + string(rune('a'+i/26/26%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i%26))
		drafts = append(drafts, f.taskOpened(id, bot), f.decided("d"+id, id, bot, counts("c", 60, 1)),
			taskChanged(id, access.TaskEnded, access.EndCompleted), event.Draft{Task: id, Event: &event.TaskSealed{ID: id, Count: 4}})
		if len(drafts) > 400 {
			f.record(drafts...)
			drafts = nil
		}
	}
	f.record(drafts...)
	f.record(reported("tickets", f.now, f.Pseudonym(doc))) // what was told at first is not needed any more
	var padding []event.Draft
	for range 2 * evidence.TileWidth {
		padding = append(padding, event.Draft{Event: &event.ActionReported{Grant: "none", Source: event.Reported}})
	}
	f.record(padding...)
}

// What is pruned is gone, what is needed stays, the proofs of everything hold, and with the archive all is verified as before.
func TestPrunedEntriesStayProven(t *testing.T) { onEach(t, prunedEntriesStayProven) }

func prunedEntriesStayProven(t *testing.T, open opener) {
	f := open(t)
	kept := f.checkpoint()
	f.old(400)
	folder := t.TempDir()
	f.export(folder)
	rows := f.verify().Rows
	raws := map[int64][]byte{}
	if err := f.Entries(t.Context(), 0, int(f.Size()), func(index int64, body []byte) error { raws[index] = body; return nil }); err != nil {
		t.Fatal(err)
	}
	done := f.prune(folder, f.Size())
	if done.Entries < 4*300 || done.Values < 2*300 || done.Kept < 10 || done.Before%evidence.TileWidth != 0 || done.Before >= f.Size()/evidence.TileWidth*evidence.TileWidth {
		t.Errorf("%+v of %d", done, f.Size())
	}
	if got := f.number(`SELECT COUNT(*) FROM entries`); got != f.Size()-done.Entries {
		t.Errorf("%d entries are left of %d, %d were pruned", got, f.Size(), done.Entries)
	}
	for _, rests := range []string{ // what a row without a sealed task rests on is there
		`SELECT COUNT(*) FROM answers WHERE NOT EXISTS (SELECT 1 FROM entries WHERE idx = answers.version)`,
		`SELECT COUNT(*) FROM facts WHERE NOT EXISTS (SELECT 1 FROM entries WHERE idx = facts.version)`,
		`SELECT COUNT(*) FROM grants WHERE task = 't1' AND NOT EXISTS (SELECT 1 FROM entries WHERE idx = grants.decided)`,
		`SELECT COUNT(*) FROM tasks WHERE status <> 'sealed' AND NOT EXISTS (SELECT 1 FROM entries WHERE idx = tasks.opened)`,
	} {
		if n := f.number(rests); n != 0 {
			t.Errorf("%d: %s", n, rests)
		}
	}
	pruned := 0
	for index, raw := range raws {
		proof, err := f.Proof(t.Context(), index)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := evidence.VerifyInclusion(proof, raw, f.key); err != nil {
			t.Errorf("entry %d: %v", index, err)
		}
		if _, err := f.Entry(t.Context(), index); errors.Is(err, access.ErrPruned) {
			pruned++
		}
	}
	if int64(pruned) != done.Entries {
		t.Errorf("%d entries say that they were pruned", pruned)
	}
	if _, err := f.EntryBundle(t.Context(), 0, evidence.TileWidth); !errors.Is(err, access.ErrPruned) {
		t.Error("a bundle with gaps is served:", err)
	}
	tree, _ := f.snapshot()
	for older := int64(1); older < tree.Size(); older += 97 {
		hashes, err := evidence.ProveConsistency(tree, tileReader{t.Context(), f.reads}, older, tree.Size())
		root, err2 := evidence.RootAt(tree, tileReader{t.Context(), f.reads}, older)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if err := evidence.VerifyConsistency(evidence.Checkpoint{Origin: kept.Origin, Size: older, Root: root}, f.checkpoint(), hashes); err != nil {
			t.Error(err)
		}
	}

	alone := f.verifyWith("")
	if !alone.OK() || alone.Complete() || alone.Pruned != done.Entries || alone.Log.Unread != done.Entries {
		t.Errorf("without the archive: %+v", alone)
	}
	whole := f.verifyWith(folder)
	if !whole.OK() || !whole.Complete() || whole.Pruned != done.Entries || whole.Rows != rows || whole.Log.TasksSealed < 400 {
		t.Errorf("with the archive: %+v, %d rows before", whole, rows)
	}
	hashes, err := leafHashes(t.Context(), f.reads, 1, done.Before+5) // as a process that follows another asks
	if err != nil {
		t.Fatal(err)
	}
	for i, hash := range hashes {
		if hash != evidence.LeafHash(raws[int64(i)+1]) {
			t.Fatal("the hash of entry", i+1)
		}
	}
	f.stillServes(folder, kept)
}

// stillServes makes sure that a pruned database can be read, written, opened again, backed up, and pruned again.
func (f *fixture) stillServes(folder string, kept evidence.Checkpoint) {
	t := f.t
	t.Helper()
	if again := f.prune(folder, f.Size()); again.Entries != 0 {
		t.Errorf("pruned again: %+v", again)
	}
	if fact, err := f.view().Fact(doc); err != nil || fact.Source != "tickets" {
		t.Error("the present fact:", fact, err)
	}
	if grant, err := f.view().Grant("d3"); err != nil || grant.Action != read1 {
		t.Error("a grant of an open task:", grant, err)
	}
	if catalog, err := f.view().Catalog(); err != nil || len(catalog.Objects) != 3 {
		t.Error("the catalog:", catalog, err)
	}
	index, err := f.view().DecisionIndex("doldaaa")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.view().DecisionEvent(index); !errors.Is(err, access.ErrPruned) || !errors.Is(err, access.ErrNotFound) {
		t.Error("a pruned decision:", err)
	}
	f.reopen()
	f.record(f.decided("after", "t2", other))
	file := f.backup()
	restored, err := Verify(context.Background(), file, f.key, VerifyOptions{Archive: f.archive(folder), Kept: []evidence.Checkpoint{kept}})
	if err != nil || !restored.OK() || !restored.Complete() {
		t.Errorf("the backup: %+v, %v", restored, err)
	}
	f.old2()
	f.export(folder)
	if more := f.prune(folder, f.Size()); more.Entries == 0 {
		t.Errorf("nothing more was pruned: %+v", more)
	}
	if got := f.verifyWith(folder); !got.OK() || !got.Complete() {
		t.Errorf("after pruning twice: %v", got.Findings[:min(3, len(got.Findings))])
	}
}

// old2 seals one more task, and more tiles are filled.
func (f *fixture) old2() {
	f.t.Helper()
	f.record(f.taskOpened("later", bot), taskChanged("later", access.TaskEnded, ""), event.Draft{Task: "later", Event: &event.TaskSealed{ID: "later", Count: 3}})
	var padding []event.Draft
	for range 3 * evidence.TileWidth {
		padding = append(padding, event.Draft{Event: &event.ActionReported{Grant: "none", Source: event.Reported}})
	}
	f.record(padding...)
}

// After pruning, every tampering is still found; but for the tables, that needs the archive.
func TestTamperingAfterPruningIsFound(t *testing.T) { onEach(t, tamperingAfterPruningIsFound) }

func tamperingAfterPruningIsFound(t *testing.T, open opener) {
	var folder string
	tp := newTampering(t, open, func(f *fixture) {
		f.old(50)
		folder = t.TempDir()
		f.export(folder)
		if done := f.prune(folder, f.Size()); done.Entries < 200 {
			t.Fatalf("%+v", done)
		}
	})
	left := func(order string) (index int64) {
		if err := tp.conn.QueryRowContext(t.Context(), `SELECT idx FROM entries WHERE idx > 0 AND idx < 200 ORDER BY idx `+order+` LIMIT 1`).Scan(&index); err != nil {
			t.Fatal(err)
		}
		return index
	}
	first, last := left("ASC"), left("DESC")
	var gone int64
	if err := tp.conn.QueryRowContext(t.Context(), `SELECT MIN(a.idx) + 1 FROM entries a WHERE NOT EXISTS (SELECT 1 FROM entries b WHERE b.idx = a.idx + 1)`).Scan(&gone); err != nil {
		t.Fatal(err)
	}
	archive, err := OpenArchive(folder, tp.f.key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := archive.Entry(gone)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text  string
		args  []any
		table string
		alone bool // found without the archive
	}{
		"one entry more is deleted":        {`DELETE FROM entries WHERE idx = $1`, []any{first}, "entries", true},
		"entries are deleted to the end":   {`DELETE FROM entries WHERE idx >= $1`, []any{last}, "entries", true},
		"a kept entry is changed":          {`UPDATE entries SET body = $2 WHERE idx = $1`, []any{first, body}, "entries", true},
		"a pruned entry is put back":       {`INSERT INTO entries (idx, body) VALUES ($1, $2)`, []any{gone, body}, "entries", true},
		"another is put there":             {`INSERT INTO entries (idx, body) VALUES ($1, $2)`, []any{gone, body[1:]}, "entries", true},
		"a value beside a kept one":        {`UPDATE disclosures SET value = $2 WHERE idx = $1`, []any{first, []byte("1")}, "disclosures", true},
		"a value beside a kept one goes":   {`DELETE FROM disclosures WHERE idx = $1`, []any{first}, "disclosures", true},
		"a value comes back":               {`INSERT INTO disclosures VALUES ($1, 'input', $2, $2)`, []any{gone, []byte("1234567890123456")}, "disclosures", true},
		"the tile of pruned entries goes":  {`DELETE FROM tiles WHERE level = 0 AND n = 0`, nil, "entries", true},
		"a grant gets more uses":           {`UPDATE grants SET max_uses = 99 WHERE id = 'd1'`, nil, "grants", false},
		"a task of the archive is forged":  {`UPDATE tasks SET status = 'open' WHERE id = 'oldaaa'`, nil, "tasks", false},
		"a decision of the archive is cut": {`DELETE FROM decisions WHERE id = 'doldaaa'`, nil, "decisions", false},
	} {
		for _, with := range []*Archive{nil, archive} {
			tp.archive = with
			findings, refused := tp.try(func() error {
				_, err := tp.conn.ExecContext(t.Context(), c.text, c.args...)
				return err
			})
			found := slices.ContainsFunc(findings, func(f Finding) bool { return f.Table == c.table })
			if want := c.alone || with != nil; refused || found != want {
				t.Errorf("%s, archive %t: found %v", name, with != nil, findings[:min(3, len(findings))])
			}
		}
	}
	tp.archive = nil
	if findings, _ := tp.try(func() error { return nil }); len(findings) > 0 {
		t.Error("when nothing was changed:", findings)
	}
}

// flip changes one byte of a file.
func flip(t testing.TB, path string, at int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[at] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Nothing goes that the archive does not hold exactly.
func TestADamagedArchivePrunesNothing(t *testing.T) { onEach(t, aDamagedArchivePrunesNothing) }

func aDamagedArchivePrunesNothing(t *testing.T, open opener) {
	f := open(t)
	f.old(50)
	bundle, values := filepath.Join("tile", "entries", "000"), filepath.Join("values", "000")
	fresh := func(t *testing.T) string {
		folder := t.TempDir()
		f.export(folder)
		return folder
	}
	all := f.number(`SELECT COUNT(*) FROM entries`)
	for name, damage := range map[string]func(t *testing.T, folder string){
		"a byte of an entry": func(t *testing.T, folder string) {
			content, _ := os.ReadFile(filepath.Join(folder, bundle))
			flip(t, filepath.Join(folder, bundle), len(content)/2)
		},
		"the last byte of the bundle":  func(t *testing.T, folder string) { flip(t, filepath.Join(folder, bundle), 300) },
		"the length of an entry":       func(t *testing.T, folder string) { flip(t, filepath.Join(folder, bundle), 1) },
		"a bundle that is not there":   func(t *testing.T, folder string) { _ = os.Remove(filepath.Join(folder, bundle)) },
		"values that are not there":    func(t *testing.T, folder string) { _ = os.Remove(filepath.Join(folder, values)) },
		"values that are no JSON":      func(t *testing.T, folder string) { flip(t, filepath.Join(folder, values), 0) },
		"a checkpoint of another key":  func(t *testing.T, folder string) { flip(t, filepath.Join(folder, "checkpoint"), 3) },
		"a checkpoint that is missing": func(t *testing.T, folder string) { _ = os.Remove(filepath.Join(folder, "checkpoint")) },
		"a value": func(t *testing.T, folder string) {
			path := filepath.Join(folder, values)
			content, _ := os.ReadFile(path)
			changed := strings.Replace(string(content), `"help`, `"kelp`, 1)
			changed = strings.ReplaceAll(changed, `\"help`, `\"kelp`)
			if changed == string(content) {
				t.Fatal("nothing to change")
			}
			_ = os.WriteFile(path, []byte(changed), 0o600)
		},
		"a value that is missing": func(t *testing.T, folder string) {
			path := filepath.Join(folder, values)
			content, _ := os.ReadFile(path)
			lines := strings.SplitAfter(string(content), "\n")
			i := slices.IndexFunc(lines, func(l string) bool {
				return strings.Contains(l, "oldaaa") || strings.Contains(l, `"purpose"`) && strings.Contains(l, `:30`)
			})
			if i < 0 {
				i = len(lines) - 2
			}
			_ = os.WriteFile(path, []byte(strings.Join(slices.Delete(lines, i, i+1), "")), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := fresh(t)
			damage(t, folder)
			archive, err := OpenArchive(folder, f.key)
			if err == nil {
				_, err = f.Prune(t.Context(), archive, f.Size(), nil)
			}
			if !errors.Is(err, ErrArchive) {
				t.Error(err)
			}
			if left := f.number(`SELECT COUNT(*) FROM entries`); left != all {
				t.Errorf("%d entries are left of %d", left, all)
			}
		})
	}
	if t.Failed() {
		return
	}
	f.prunesNothingOfAnother(fresh(t))
}

// What an archive holds is not believed.
func TestADamagedArchiveIsFound(t *testing.T) {
	f := open(t)
	f.old(50)
	folder := t.TempDir()
	f.export(folder)
	if done := f.prune(folder, f.Size()); done.Entries == 0 {
		t.Fatal("nothing was pruned")
	}
	pruned := f.indexOf("doldaab")
	bundle, values := filepath.Join(folder, "tile", "entries", "000"), filepath.Join(folder, "values", "000")
	change := func(path, from, to string) func() {
		content, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(content), from) {
			t.Fatal("there is nothing to change", err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(content), from, to)), 0o600); err != nil {
			t.Fatal(err)
		}
		return func() { _ = os.WriteFile(path, content, 0o600) }
	}
	for _, c := range []struct{ path, from, to, table, code string }{
		{bundle, `"id":"doldaab"`, `"id":"doldaac"`, inArchive, "changed"},
		{bundle, `{"specversion"`, `{"specversioN"`, inArchive, "changed"},
		{values, `\"help`, `\"kelp`, "disclosures", string(evidence.CodeValueAltered)},
		{values, `"slot":"purpose"`, `"slot":"nothing"`, "disclosures", string(evidence.CodeValueMissing)},
		{values, `"slot":"purpose"`, `"slot":"nothing"`, inArchive, "inserted"},
		{values, `{"index":`, `{"index":9`, "disclosures", string(evidence.CodeValueUnreadable)},
	} {
		undo := change(c.path, c.from, c.to)
		options := VerifyOptions{Archive: f.archive(folder), Scratch: t.TempDir()}
		got, err := Verify(t.Context(), f.opts.Database, f.key, options)
		if err == nil && !slices.ContainsFunc(got.Findings, func(f Finding) bool { return f.Table == c.table && f.Code == c.code }) {
			t.Errorf("%s for %s: %v", c.to, c.from, got.Findings[:min(3, len(got.Findings))])
		}
		if _, _, recalled := f.Recall(t.Context(), options.Archive, pruned); c.path == bundle && !errors.Is(recalled, ErrArchive) {
			t.Errorf("%s for %s was recalled: %v", c.to, c.from, recalled)
		}
		undo()
	}
	if got := f.verifyWith(folder); !got.OK() {
		t.Error(got.Findings[:min(3, len(got.Findings))])
	}
	if entry, recalled, err := f.Recall(t.Context(), f.archive(folder), pruned); err != nil || entry.Task != "oldaab" || len(recalled) != 1 {
		t.Error(entry, recalled, err)
	}
}

// prunesNothingOfAnother tries the archive of another log, and one from before an erasure.
func (f *fixture) prunesNothingOfAnother(folder string) {
	t := f.t
	another := open(t, func(o *Options) { o.Signer, o.VerifierKey = f.opts.Signer, f.opts.VerifierKey })
	another.key = f.key
	another.old(10)
	elsewhere := filepath.Join(folder, "another")
	another.export(elsewhere)
	if _, err := f.Prune(context.Background(), f.archive(elsewhere), f.Size(), nil); !errors.Is(err, ErrArchive) {
		t.Error("the archive of another log:", err)
	}
	f.record(event.Draft{Event: &event.ValueErased{Index: f.indexOf("doldaab"), Slots: []string{event.SlotInput}}})
	if _, err := f.Prune(context.Background(), f.archive(folder), f.Size(), nil); !errors.Is(err, ErrArchive) {
		t.Error("an archive that still holds what was erased:", err)
	}
	f.export(folder)
	if done := f.prune(folder, f.Size()); done.Entries == 0 {
		t.Errorf("%+v", done)
	}
	if got := f.verifyWith(folder); !got.OK() || got.Log.ValuesErased < 2 {
		t.Errorf("%+v", got)
	}
}

// Somebody who changed the database must not have the true entries thrown away.
func TestATamperedDatabaseIsNotPruned(t *testing.T) { onEach(t, aTamperedDatabaseIsNotPruned) }

func aTamperedDatabaseIsNotPruned(t *testing.T, open opener) {
	for _, text := range []string{
		`UPDATE entries SET body = (SELECT body FROM entries WHERE idx = 60) WHERE idx = 61`,
		`UPDATE entries SET body = (SELECT salt FROM disclosures LIMIT 1) WHERE idx = 61`,
		`UPDATE disclosures SET value = salt WHERE idx >= 60`,
		`UPDATE tiles SET data = (SELECT data FROM tiles WHERE level = 0 AND n = 1) WHERE level = 0 AND n = 0`,
	} {
		f := open(t)
		f.old(50)
		folder := t.TempDir()
		f.export(folder)
		f.sql(text)
		all := f.number(`SELECT COUNT(*) FROM entries`)
		_, err := f.Prune(t.Context(), f.archive(folder), f.Size(), nil)
		if !errors.Is(err, ErrForked) && !errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v", text, err)
		}
		if left := f.number(`SELECT COUNT(*) FROM entries`); left != all {
			t.Errorf("%s: %d entries are left of %d", text, left, all)
		}
	}
}

// An entry that was changed with its tile, and exported so, is not under the signed head.
func TestAForgedTileIsNotPruned(t *testing.T) { onEach(t, aForgedTileIsNotPruned) }

func aForgedTileIsNotPruned(t *testing.T, open opener) {
	f := open(t)
	f.old(50)
	index := f.indexOf("doldaab")
	raw, err := f.Entry(t.Context(), index)
	if err != nil {
		t.Fatal(err)
	}
	forged := []byte(strings.Replace(string(raw), `"id":"doldaab"`, `"id":"doldaax"`, 1))
	tile, err := f.Tile(t.Context(), 0, 0, evidence.TileWidth)
	if err != nil {
		t.Fatal(err)
	}
	leaf := evidence.LeafHash(forged)
	tile = slices.Clone(tile)
	copy(tile[int(index)*len(leaf):], leaf[:])
	f.sql(`UPDATE entries SET body = $2 WHERE idx = $1`, index, forged)
	f.sql(`UPDATE tiles SET data = $1 WHERE level = 0 AND n = 0`, tile)
	folder := t.TempDir()
	f.export(folder)
	if done, err := f.Prune(t.Context(), f.archive(folder), f.Size(), nil); !errors.Is(err, ErrForked) || done.Entries > 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

// An erasure between the comparison and the deletion stops the deletion.
func TestAnErasureStopsAPruningUnderWay(t *testing.T) {
	f := open(t)
	f.old(50)
	index := f.indexOf("doldaab")
	made := &event.LogPruned{Before: 256, Entries: []span{{index, index}}, Values: 1}
	f.record(event.Draft{Event: &event.ValueErased{Index: index, Slots: []string{event.SlotInput}}})
	if _, err := f.try(change(event.Draft{Event: made})); !errors.Is(err, access.ErrUnavailable) {
		t.Error(err)
	}
	made.Values, made.Entries = 0, []span{{index, f.Size() + 9}}
	if _, err := f.try(change(event.Draft{Event: made})); !errors.Is(err, access.ErrUnavailable) {
		t.Error("entries that are not there:", err)
	}
	f.verifyClean()
}

// Broken off at any transaction, a pruned database verifies, and the pruning goes on.
func TestABrokenPruningVerifiesAndGoesOn(t *testing.T) { onEach(t, aBrokenPruningVerifiesAndGoesOn) }

func aBrokenPruningVerifiesAndGoesOn(t *testing.T, open opener) {
	f := open(t)
	f.old(700)
	folder := t.TempDir()
	f.export(folder)
	var total int64
	for n := 0; ; n++ {
		left := 1
		broken := errors.New("the process is killed")
		f.beforeCommit = func(int) error {
			if left--; left < 0 {
				return broken
			}
			return nil
		}
		done, err := f.Prune(t.Context(), f.archive(folder), f.Size(), nil)
		total += done.Entries
		f.beforeCommit = nil
		if got := f.verifyWith(folder); !got.OK() || !got.Complete() || got.Pruned != total {
			t.Fatalf("after %d: %+v", n, got.Findings)
		}
		if got := f.verifyWith(""); !got.OK() || got.Log.Unread != total {
			t.Fatalf("after %d, without the archive: %+v", n, got.Findings)
		}
		if err == nil {
			if n < 2 {
				t.Error("there were too few steps")
			}
			return
		}
		f.reopen()
	}
}

func TestIndexAt(t *testing.T) {
	f := open(t)
	start := f.now
	for range 20 {
		f.now = f.now.Add(time.Minute)
		f.record(statusOf("p_x", access.Active), statusOf("p_x", access.Active))
	}
	f.sql(`DELETE FROM entries WHERE idx IN (5, 6, 7, 20)`)
	for _, c := range []struct {
		after time.Duration
		want  int64
	}{{-time.Hour, 0}, {0, 0}, {time.Second, 1}, {time.Minute, 1}, {61 * time.Second, 3}, {3*time.Minute + 1, 5}, {4*time.Minute + 1, 9}, {10*time.Minute + 1, 20}, {time.Hour, 41}} {
		got, err := f.IndexAt(t.Context(), start.Add(c.after))
		if want := c.want; err != nil || got != want {
			t.Errorf("after %s: %d, %v, want %d", c.after, got, err, want)
		}
	}
}

func TestSpans(t *testing.T) {
	a := []span{{0, 3}, {5, 5}, {7, 20}}
	for _, c := range []struct{ b, want []span }{
		{nil, a},
		{[]span{{0, 100}}, nil},
		{[]span{{1, 1}, {3, 8}, {10, 11}, {20, 20}}, []span{{0, 0}, {2, 2}, {9, 9}, {12, 19}}},
		{[]span{{4, 4}, {6, 6}, {21, 22}}, a},
		{[]span{{3, 7}}, []span{{0, 2}, {8, 20}}},
	} {
		if diff := cmp.Diff(c.want, without(a, c.b)); diff != "" {
			t.Errorf("without %v\n%s", c.b, diff)
		}
	}
	for index := int64(-1); index < 25; index++ {
		want := index >= 0 && index <= 3 || index == 5 || index >= 7 && index <= 20
		if contains(a, index) != want {
			t.Errorf("contains %d: %t", index, !want)
		}
	}
	if got := extend(extend(extend(nil, 4), 5), 7); !cmp.Equal(got, []span{{4, 5}, {7, 7}}) || count(got) != 3 {
		t.Error(got)
	}
}

// An independent client reads the exported folder through a plain file server and verifies every entry.
func TestIndependentClientReadsTheExport(t *testing.T) { onEach(t, independentClientReadsTheExport) }

func independentClientReadsTheExport(t *testing.T, open opener) {
	f := open(t)
	f.history()
	folder := t.TempDir()
	f.export(folder)
	server := httptest.NewServer(http.FileServer(http.Dir(folder)))
	defer server.Close()
	key, err := note.NewVerifier(f.key)
	if err != nil {
		t.Fatal(err)
	}
	policy := torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(f.Origin()), torchwood.SingleVerifierPolicy(key))
	read := func() {
		t.Helper()
		fetcher, err := torchwood.NewTileFetcher(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		client, err := torchwood.NewClient(fetcher)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := fetcher.ReadEndpoint(t.Context(), "checkpoint")
		if err != nil {
			t.Fatal(err)
		}
		checkpoint, _, err := torchwood.VerifyCheckpoint(signed, policy)
		if err != nil || checkpoint.N != f.Size() {
			t.Fatal(checkpoint, err)
		}
		verifier, entries := evidence.NewVerifier(f.Origin()), int64(0)
		for _, entry := range client.AllEntries(t.Context(), checkpoint.Tree, 0) {
			verifier.Add(entry)
			entries++
		}
		if report := verifier.Finish(f.checkpoint()); client.Err() != nil || entries != f.Size() || !report.OK() {
			t.Errorf("%d of %d entries, %v, %v", entries, f.Size(), client.Err(), report.Problems)
		}
	}
	read()
	if again := f.export(folder); again.Written != 0 {
		t.Errorf("an unchanged log was written again: %+v", again)
	}
	f.record(statusOf("p_x", access.Active))
	more := f.export(folder)
	if more.Written != 4 { // hashes, entries, values, checkpoint
		t.Errorf("%d files for one entry more", more.Written)
	}
	read()
	f.exportIsTidy(folder)
}

// exportIsTidy makes sure that only what the present checkpoint needs is there, and that an older or another log is refused.
func (f *fixture) exportIsTidy(folder string) {
	t := f.t
	t.Helper()
	partial := 0
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if strings.HasSuffix(filepath.Dir(path), ".p") {
			partial++
		}
		if strings.Contains(entry.Name(), "part-") {
			t.Error("left behind:", path)
		}
		return err
	})
	if err != nil || partial != 4 {
		t.Errorf("%d partial tiles, %v", partial, err)
	}
	older := open(t, func(o *Options) { o.Signer, o.VerifierKey = f.opts.Signer, f.opts.VerifierKey })
	if _, err := older.Export(context.Background(), folder, f.key, ExportOptions{}); !errors.Is(err, ErrArchive) {
		t.Error("another log was exported over it:", err)
	}
	flip(t, filepath.Join(folder, "checkpoint"), 1)
	if _, err := f.Export(context.Background(), folder, f.key, ExportOptions{}); !errors.Is(err, ErrArchive) {
		t.Error("the checkpoint does not verify, and it was exported:", err)
	}
}

// What was erased goes from the folder at the next export; what was pruned stays in it.
func TestAnExportFollowsErasures(t *testing.T) {
	f := open(t)
	f.old(50)
	folder := t.TempDir()
	f.export(folder)
	index := f.indexOf("doldaab")
	if values, err := f.archive(folder).Values(index); err != nil || len(values) != 1 {
		t.Fatal(values, err)
	}
	f.record(event.Draft{Event: &event.ValueErased{Index: index, Slots: []string{event.SlotInput}}})
	f.export(folder)
	if values, err := f.archive(folder).Values(index); err != nil || len(values) != 0 {
		t.Error("erased, and still exported:", values, err)
	}
	f.prune(folder, f.Size())
	before := f.archive(folder)
	f.export(folder)
	after := f.archive(folder)
	for i := range before.Checkpoint.Size / evidence.TileWidth * evidence.TileWidth {
		was, err := before.Values(i)
		is, err2 := after.Values(i)
		if errors.Join(err, err2) != nil || !cmp.Equal(was, is) {
			t.Fatal(i, was, is, err, err2)
		}
	}
	if _, err := f.Export(t.Context(), t.TempDir(), f.key, ExportOptions{Entries: true}); !errors.Is(err, access.ErrPruned) {
		t.Error("a new folder got a log with gaps:", err)
	}
	if _, err := f.Export(t.Context(), t.TempDir(), f.key, ExportOptions{}); err != nil {
		t.Error("hashes alone:", err)
	}
}

// A log that lacks what was acknowledged is refused until somebody says so, on record.
func TestLosingWhatWasAcknowledgedIsNoticed(t *testing.T) {
	onEach(t, losingWhatWasAcknowledgedIsNoticed)
}

func losingWhatWasAcknowledgedIsNoticed(t *testing.T, open opener) {
	f := open(t)
	f.shortHistory()
	file := f.backup()
	f.record(statusOf("p_x", access.Suspended))
	acknowledged := filepath.Join(t.TempDir(), "acknowledged")
	lost := f.checkpoint()
	if err := os.WriteFile(acknowledged, f.Checkpoint(), 0o600); err != nil {
		t.Fatal(err)
	}
	f.reopen(func(o *Options) { o.Acknowledged = acknowledged }) // it is still all there
	if _, err := f.AcceptLoss(t.Context(), "none"); !errors.Is(err, ErrNothingLost) {
		t.Error("nothing was lost:", err)
	}
	into := filepath.Join(t.TempDir(), "writ.db")
	if isPostgres(f.opts.Database) {
		into = emptyPostgres(t)
	}
	if _, err := Restore(t.Context(), file, f.key, into, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f.path, f.opts.Database = into, into
	if _, err := Open(t.Context(), f.opts); !errors.Is(err, ErrRolledBack) {
		t.Fatal("an old backup is served:", err)
	}
	empty := f.opts
	if empty.Database = filepath.Join(t.TempDir(), "empty.db"); isPostgres(into) {
		empty.Database = emptyPostgres(t)
	}
	if _, err := Open(t.Context(), empty); !errors.Is(err, ErrRolledBack) {
		t.Fatal("an empty database is served:", err)
	}
	f.opts.AcceptLoss = true
	var err error
	if f.Store, err = Open(t.Context(), f.opts); err != nil {
		t.Fatal(err)
	}
	receipt, err := f.AcceptLoss(t.Context(), "the disk broke")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := f.Entry(t.Context(), receipt.Indexes[0])
	if err != nil {
		t.Fatal(err)
	}
	entry, err := evidence.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	var told event.LogRestored
	if err := json.Unmarshal(entry.Data, &told); err != nil || told.Lost.Size != lost.Size || told.Lost.Root != lost.Root.String() || told.From.Size != lost.Size-1 {
		t.Errorf("%s, %v", entry.Data, err)
	}
	if reason, err := f.view().Value(receipt.Indexes[0], event.SlotReason); err != nil || string(reason) != `"the disk broke"` {
		t.Errorf("%s, %v", reason, err)
	}
	f.verifyClean()
	f.reopen(func(o *Options) { o.AcceptLoss = false })
	f.record(statusOf("p_y", access.Active))
}

// prune is the process that is killed: it says how far it is before and after each transaction.
func prune(o orders) {
	s, err := Open(context.Background(), o.options())
	if err != nil {
		panic(err)
	}
	archive, err := OpenArchive(o.Copy, o.Public)
	if err != nil {
		panic(err)
	}
	fmt.Println("open")
	s.beforeCommit = func(int) error { fmt.Println("commit"); return nil }
	if _, err := s.Prune(context.Background(), archive, s.Size(), nil); err != nil {
		panic(err)
	}
	fmt.Println("done")
	select {}
}

// Killed in the middle of a pruning, the database verifies, and the next pruning goes on.
func TestAKilledPruningVerifiesAndGoesOn(t *testing.T) {
	o := newOrders(t, "prune", "")
	f := open(t, func(of *Options) { of.Signer, of.VerifierKey = o.options().Signer, o.Public })
	f.key, o.Database = o.Public, f.path
	f.old(1500)
	folder := t.TempDir()
	f.export(folder)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for kills := 0; ; kills++ {
		o.Copy = folder
		done := killAPruning(t, o, 2+kills)
		if got := f.verifyWith(folder); !got.OK() || !got.Complete() {
			t.Fatal(got.Findings[:min(3, len(got.Findings))])
		}
		if got := f.verifyWith(""); !got.OK() {
			t.Fatal(got.Findings[:min(3, len(got.Findings))])
		}
		if done {
			if kills < 3 {
				t.Error("it was killed only", kills, "times")
			}
			return
		}
	}
}

// killAPruning kills the process when it has said so many lines, and reports whether it was done.
func killAPruning(t *testing.T, o orders, lines int) (done bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), o.text())
	child.Stderr = t.Output()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	for range lines {
		if !said.Scan() {
			break
		}
		if said.Text() == "done" {
			done = true
			break
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	return done
}
