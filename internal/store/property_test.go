package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// anyDraft is one event on few names, so that sequences meet the same rows again; what makes no sense must be refused or
// be projected, never be both.
func anyDraft(t *rapid.T, f *fixture) event.Draft {
	of := func(names ...string) string { return rapid.SampledFrom(names).Draw(t, "name") }
	id := func() string { return fmt.Sprint("d", rapid.IntRange(0, 30).Draw(t, "id")) }
	task := func() string { return of("t1", "t2", "t3") }
	who := rapid.SampledFrom([]access.Ref{bot, other, alice}).Draw(t, "who")
	switch rapid.IntRange(0, 14).Draw(t, "event") {
	case 0:
		return f.object(of(event.KindIdentity, "resource"), who, of(event.OpAdded, event.OpChanged, event.OpRemoved))
	case 1:
		return f.taskOpened(task(), who)
	case 2:
		return taskChanged(task(), access.TaskStatus(of("open", "paused", "ended")), access.EndReason(of("", "completed")))
	case 3, 4, 5:
		return f.decided(id(), of("t1", "t2", "t3", ""), who, counts(of("c", "s"), rapid.Int64Range(0, 20000).Draw(t, "bucket"), 1), touches(of("a", "b")),
			func(d *event.DecisionMade) { d.Consumed, d.Replaces = of("", id()), of("", id()) })
	case 6:
		return f.decided(id(), task(), who, f.asks)
	case 7:
		return f.answered(id(), who, rapid.Bool().Draw(t, "yes"), access.ApprovalStatus(of("pending", "approved", "denied")))
	case 8:
		return event.Draft{Event: &event.ApprovalLapsed{Approval: id()}}
	case 9:
		return event.Draft{Task: task(), Event: &event.GrantReissued{ID: id(), Replaces: id()}}
	case 10:
		return event.Draft{Task: task(), Event: &event.UseDecided{Grant: id(), Counted: rapid.SliceOfN(rapid.Custom(func(*rapid.T) string { return id() }), 0, 3).Draw(t, "counted")}}
	case 11:
		return event.Draft{Task: task(), Event: &event.GrantEnded{ID: id(), Reason: access.EndRevoked}}
	case 13:
		return f.commented(id(), who, `"said"`)
	case 12:
		d := reported("s", f.now, f.Pseudonym(who), "p_1")
		d.Event.(*event.FactsReported).Gone = []event.Pseudonym{event.Pseudonym(of("p_1", "p_2"))}
		return d
	default:
		return event.Draft{Event: &event.ValueErased{Index: rapid.Int64Range(0, f.Size()+1).Draw(t, "index"), Slots: []string{of(event.SlotInput, event.SlotDocument, "0")}}}
	}
}

// Whatever is recorded, the log explains the state; and whatever value is then changed, it no longer does.
func TestRandomHistoriesVerifyUntilTheyAreChanged(t *testing.T) { onEach(t, randomHistories) }

func randomHistories(t *testing.T, open opener) {
	rapid.Check(t, func(rt *rapid.T) {
		f := open(t)
		defer f.Close()
		for range rapid.IntRange(1, 12).Draw(rt, "changes") {
			drafts := make([]event.Draft, rapid.IntRange(1, 4).Draw(rt, "drafts"))
			for i := range drafts {
				drafts[i] = anyDraft(rt, f)
			}
			f.now = f.now.Add(time.Duration(rapid.IntRange(-2, 9).Draw(rt, "step")) * time.Second)
			size := f.Size()
			receipt, err := f.try(change(drafts...))
			switch {
			case err == nil && int64(len(receipt.Indexes)) == f.Size()-size:
			case err != nil && f.Size() == size && (errors.Is(err, access.ErrUnavailable) || errors.Is(err, access.ErrNotFound)):
			default:
				rt.Fatalf("the log went from %d to %d: %v, %v", size, f.Size(), receipt, err)
			}
		}
		kept := f.checkpoint()
		if got := f.verify(kept); !got.OK() {
			rt.Fatal(got.Findings)
		}
		tp := tampering{t: t, f: f, scratch: t.TempDir(), kept: []evidence.Checkpoint{kept}}
		if err := f.Close(); err != nil {
			rt.Fatal(err)
		}
		defer tp.connect()()
		tables := append(authoritative()[:len(authoritative())-1:len(authoritative())-1], table{"entries", 1}, table{"disclosures", 2}, table{"head", 1})
		tb := rapid.SampledFrom(tables).Draw(rt, "table")
		columns, rows := tp.rows(tb.name, tb.keys)
		if len(rows) == 0 {
			return
		}
		row := rapid.SampledFrom(rows).Draw(rt, "row")
		column := rapid.IntRange(0, len(columns)-1).Draw(rt, "column")
		findings, refused := tp.try(func() error {
			return tp.set(tb.name, columns, tb.keys, row, column, flipped(rt, row[column]))
		})
		if !refused && !namesRow(findings, tb.name, keyOf(row, tb.keys)) {
			rt.Fatalf("%s of %v in %s was changed: %v", columns[column], row, tb.name, findings)
		}
	})
}

// flipped is the value with one bit changed.
func flipped(t *rapid.T, value any) any {
	flip := func(b []byte) []byte {
		if len(b) == 0 {
			return []byte{'x'}
		}
		b = slices.Clone(b)
		b[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= 1
		return b
	}
	switch value := value.(type) {
	case string:
		return string(flip([]byte(value)))
	case []byte:
		return flip(value)
	default:
		return different(value)
	}
}

// A byte of the file that is changed is found, stops the verification, or changes nothing that anybody can read.
func TestAChangedByteOfTheFileIsFoundOrMeansNothing(t *testing.T) {
	tp := newTampering(t, open, (*fixture).shortHistory)
	if _, err := tp.conn.ExecContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		t.Fatal(err)
	}
	before := tp.dump()
	whole, err := os.ReadFile(tp.f.path)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range max(15/sample, 3) {
		at := random.IntN(len(whole))
		path := filepath.Join(t.TempDir(), "changed.db")
		changed := slices.Clone(whole)
		changed[at] ^= byte(1 << random.IntN(8))
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Verify(t.Context(), path, tp.f.key, VerifyOptions{Scratch: t.TempDir(), Kept: tp.kept})
		if err != nil || !got.OK() {
			continue
		}
		if diff := cmp.Diff(before, dumpOf(t, path)); diff != "" {
			t.Fatalf("byte %d was changed, and nothing found: %s", at, diff)
		}
	}
}

func dumpOf(t *testing.T, path string) map[string][][]any {
	t.Helper()
	db, err := openSQLite(path, "rw", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return (&tampering{t: t, conn: conn}).dump()
}

// dump is all that verification answers for.
func (tp *tampering) dump() map[string][][]any {
	out := map[string][][]any{}
	for _, tb := range append(authoritative(), table{"entries", 1}, table{"disclosures", 2}, table{"tiles", 2}, table{"head", 1}, table{"bundles", 1}) {
		_, out[tb.name] = tp.rows(tb.name, tb.keys)
	}
	return out
}
