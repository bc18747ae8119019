package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// What every database must hold: the same SQL text has to mean the same everywhere.
func TestConform(t *testing.T) { onEach(t, conform) }

func conform(t *testing.T, open opener) {
	for name, test := range map[string]func(t *testing.T, f *fixture){
		"a new log has one entry":         conformEmpty,
		"nothing is there":                conformAbsent,
		"a task":                          conformTask,
		"tasks that are overdue or ended": conformTaskLists,
		"a grant":                         conformGrant,
		"an approval":                     conformApproval,
		"the catalog":                     conformCatalog,
		"facts":                           conformFacts,
		"usage, labels, precedent":        conformTraces,
		"an idempotency key":              conformIdempotency,
		"keys are exact":                  conformKeys,
		"times keep microseconds":         conformTimes,
		"large values":                    conformLarge,
		"what cannot be recorded":         conformRefused,
		"an erased value is unknown, its commitment stays":  conformErasure,
		"the log, its tiles and proofs":                     conformLog,
		"state is projected from what was written, exactly": conformRoundTrip,
		"what was recorded is there after opening again":    conformReopen,
		"an unchanged head is not written":                  conformUnchangedHead,
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			test(t, f)
			if !t.Failed() {
				f.verifyClean()
			}
		})
	}
}

func must[T any](t *testing.T) func(got T, err error) T {
	return func(got T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func wantErr(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%s: error %v, want %v", what, err, w)
		}
	}
}

// learn makes the view know who pseudonyms stand for.
func (f *fixture) learn(refs ...access.Ref) {
	f.t.Helper()
	for _, ref := range refs {
		f.record(f.object(event.KindIdentity, ref, event.OpAdded))
	}
	if _, err := f.view().Catalog(); err != nil {
		f.t.Fatal(err)
	}
}

func conformEmpty(t *testing.T, f *fixture) {
	same(t, "size", f.Size(), int64(1))
	body := must[[]byte](t)(f.Entry(t.Context(), 0))
	entry, err := evidence.Parse(body)
	if err != nil || entry.Type != (event.Installed{}).EventType() {
		t.Errorf("the first entry is %s, %v", body, err)
	}
	version := must[int64](t)(f.view().CatalogVersion())
	same(t, "catalog version", version, int64(absent))
	state := must[event.CatalogState](t)(f.view().Catalog())
	same(t, "catalog", state, event.CatalogState{Statuses: map[event.Pseudonym]event.IdentityStatus{}})
}

func conformAbsent(t *testing.T, f *fixture) {
	for name, look := range map[string]func(v *View) error{
		"Task":           func(v *View) error { _, err := v.Task("x"); return err },
		"Grant":          func(v *View) error { _, err := v.Grant("x"); return err },
		"Approval":       func(v *View) error { _, err := v.Approval("x"); return err },
		"Fact":           func(v *View) error { _, err := v.Fact(doc); return err },
		"BundleContent":  func(v *View) error { _, err := v.BundleContent("sha256:x"); return err },
		"DecisionIndex":  func(v *View) error { _, err := v.DecisionIndex("x"); return err },
		"DecisionEvent":  func(v *View) error { _, err := v.DecisionEvent(99); return err },
		"no decision":    func(v *View) error { _, err := v.DecisionEvent(0); return err },
		"Value":          func(v *View) error { _, err := v.Value(0, "x"); return err },
		"Input":          func(v *View) error { _, err := v.Input(0); return err },
		"Entry":          func(*View) error { _, err := f.Entry(t.Context(), 1); return err },
		"Entry before 0": func(*View) error { _, err := f.Entry(t.Context(), -1); return err },
		"Proof":          func(*View) error { _, err := f.Proof(t.Context(), 1); return err },
		"Tile":           func(*View) error { _, err := f.Tile(t.Context(), 0, 0, 2); return err },
		"EntryBundle":    func(*View) error { _, err := f.EntryBundle(t.Context(), 0, 2); return err },
		"empty bundle":   func(*View) error { _, err := f.EntryBundle(t.Context(), 0, 0); return err },
		"bundle before":  func(*View) error { _, err := f.EntryBundle(t.Context(), -1, 1); return err },
		"bundle far off": func(*View) error { _, err := f.EntryBundle(t.Context(), 1<<62, 1); return err },
	} {
		wantErr(t, name, look(f.view()), access.ErrNotFound)
	}
	v := f.view()
	same(t, "open tasks", must[int64](t)(v.OpenTasks(bot, "support")), int64(0))
	same(t, "task entries", must[int64](t)(v.TaskEntries("x")), int64(absent))
	same(t, "usage", must[int64](t)(v.Usage(bot, "c", 0)), int64(0))
	same(t, "touched", must[[]string](t)(v.Touched(bot, time.Time{})), []string(nil))
	same(t, "precedent", must[access.Precedent](t)(v.Precedent(bot, read1, "Doc", "support")), access.Precedent{})
	same(t, "grants", must[[]access.Grant](t)(v.GrantsOfTask("x")), []access.Grant(nil))
	if _, ok, err := v.Remembered(bot, "x"); ok || err != nil {
		t.Error("a free key is remembered:", err)
	}
}

func conformTask(t *testing.T, f *fixture) {
	f.learn(bot)
	opened := f.record(f.taskOpened("t1", bot))
	left := access.Ref{Type: access.TypeHuman, ID: string(f.Pseudonym(alice))} // nobody knows who it was; that there was one is known
	want := access.Task{
		ID: "t1", Type: "support", Subject: bot, Principal: left, Trace: "4bf92f3577b34da6a3ce929d0e0e4736", Status: access.TaskOpen, OpenedAt: opened.Time, HeartbeatAt: opened.Time,
		ExpiresAt: f.now.Add(time.Hour), Heartbeat: 60, Opened: opened.Indexes[0],
	}
	same(t, "opened", must[access.Task](t)(f.view().Task("t1")), want)
	same(t, "open tasks", must[int64](t)(f.view().OpenTasks(bot, "support")), int64(1))
	same(t, "open tasks of another type", must[int64](t)(f.view().OpenTasks(bot, "Support")), int64(0))

	beat := f.now.Add(30*time.Second + 1234*time.Microsecond)
	for _, at := range []time.Time{beat, beat.Add(-time.Second)} { // an older one changes nothing
		if err := f.Beat(t.Context(), "t1", at); err != nil {
			t.Fatal(err)
		}
	}
	want.HeartbeatAt = beat
	same(t, "after a heartbeat", must[access.Task](t)(f.view().Task("t1")), want)

	f.record(f.decided("d1", "t1", bot, touches("pii")), f.decided("d2", "t1", bot, touches("money", "pii")))
	want.Labels = []string{"money", "pii"}
	f.record(taskChanged("t1", access.TaskPaused, ""))
	want.Status = access.TaskPaused
	same(t, "paused", must[access.Task](t)(f.view().Task("t1")), want)
	same(t, "open tasks, one paused", must[int64](t)(f.view().OpenTasks(bot, "support")), int64(1))

	f.now = f.now.Add(time.Minute)
	ended := f.record(taskChanged("t1", access.TaskEnded, access.EndCompleted))
	want.Status, want.Reason, want.EndedAt = access.TaskEnded, access.EndCompleted, ended.Time
	same(t, "ended", must[access.Task](t)(f.view().Task("t1")), want)
	same(t, "open tasks, none", must[int64](t)(f.view().OpenTasks(bot, "support")), int64(0))
	same(t, "entries", must[int64](t)(f.view().TaskEntries("t1")), int64(5))

	f.record(event.Draft{Task: "t1", Event: &event.TaskSealed{ID: "t1", Count: 6}})
	want.Status = access.TaskSealed
	same(t, "sealed", must[access.Task](t)(f.view().Task("t1")), want)
}

func ids[T any](list []T, id func(T) string) string {
	var out []string
	for _, v := range list {
		out = append(out, id(v))
	}
	return strings.Join(out, " ")
}

func taskIDs(list []access.Task) string { return ids(list, func(v access.Task) string { return v.ID }) }
func grantIDs(list []access.Grant) string {
	return ids(list, func(v access.Grant) string { return v.ID })
}
func approvalIDs(list []access.Approval) string {
	return ids(list, func(v access.Approval) string { return v.ID })
}

func conformTaskLists(t *testing.T, f *fixture) {
	f.learn(bot)
	f.record(f.taskOpened("t1", bot), f.taskOpened("t2", bot), f.taskOpened("t3", bot), f.decided("d1", "t3", bot))
	f.record(taskChanged("t2", access.TaskPaused, ""), taskChanged("t3", access.TaskEnded, access.EndCompleted))
	list := func(got []access.Task, err error) string {
		t.Helper()
		return taskIDs(must[[]access.Task](t)(got, err))
	}
	v := f.view()
	same(t, "of the subject, newest first", list(v.Tasks(bot, 2)), "t3 t2")
	same(t, "overdue before the heartbeat is due", list(v.OverdueTasks(f.now.Add(time.Minute-time.Microsecond), 9)), "")
	same(t, "overdue at the microsecond it is due", list(v.OverdueTasks(f.now.Add(time.Minute), 9)), "t1")
	if err := f.Beat(t.Context(), "t1", f.now.Add(30*time.Second)); err != nil {
		t.Fatal(err)
	}
	same(t, "after a heartbeat", list(v.OverdueTasks(f.now.Add(time.Minute), 9)), "")
	same(t, "a paused task runs out too", list(v.OverdueTasks(f.now.Add(time.Hour), 9)), "t1 t2")
	same(t, "at most", len(must[[]access.Task](t)(v.OverdueTasks(f.now.Add(time.Hour), 1))), 1)
	same(t, "ended, with a grant that lives", list(v.EndedTasks(f.now.Add(time.Minute-time.Microsecond), 9)), "")
	same(t, "ended, its grant run out", list(v.EndedTasks(f.now.Add(time.Minute), 9)), "t3")
	f.record(f.decided("q1", "t3", bot, f.asks))
	same(t, "ended, with a question that waits", list(v.EndedTasks(f.now.Add(time.Minute), 9)), "")
}

func conformGrant(t *testing.T, f *fixture) {
	f.record(f.taskOpened("t1", bot))
	made := f.record(f.decided("d1", "t1", bot, uses(3), func(d *event.DecisionMade) { d.Grant.Parent, d.Grant.Depth, d.Grant.Mode = "above", 2, access.Delegate }))
	want := access.Grant{
		ID: "d1", Parent: "above", Task: "t1", Subject: bot, Action: read1, Resource: doc, Args: json.RawMessage(`{"n":1}`), Mode: access.Delegate,
		Depth: 2, MaxUses: 3, Status: access.GrantActive, GrantedAt: made.Time, ExpiresAt: f.now.Add(time.Minute), Decided: made.Indexes[0],
	}
	same(t, "made", must[access.Grant](t)(f.view().Grant("d1")), want)
	same(t, "decision's index", f.indexOf("d1"), made.Indexes[0])
	decided := must[event.DecisionMade](t)(f.view().DecisionEvent(made.Indexes[0]))
	same(t, "decision's id", decided.ID, "d1")

	f.record(event.Draft{Task: "t1", Event: &event.UseDecided{Grant: "d1", Counted: []string{"d1", "d1"}}}, event.Draft{Task: "t1", Event: &event.ActionReported{Grant: "d1"}})
	want.Uses = 2
	same(t, "used", must[access.Grant](t)(f.view().Grant("d1")), want)

	f.record(event.Draft{Event: &event.IdentityChanged{Identity: f.Pseudonym(bot), Status: access.Suspended}}, event.Draft{Event: &event.IdentityChanged{Identity: f.Pseudonym(bot), Status: access.Active}})
	want.Cut = true
	same(t, "its subject was suspended and is back", must[access.Grant](t)(f.view().Grant("d1")), want)

	f.now = f.now.Add(time.Second)
	again := f.record(event.Draft{Task: "t1", Event: &event.GrantReissued{ID: "d2", Replaces: "d1"}})
	next := want
	next.ID, next.GrantedAt = "d2", again.Time
	want.Status, want.Reason, want.EndedAt = access.GrantEnded, access.EndReissued, again.Time
	same(t, "replaced", must[access.Grant](t)(f.view().Grant("d1")), want)
	same(t, "reissued", must[access.Grant](t)(f.view().Grant("d2")), next)

	f.record(f.decided("d3", "t1", bot, func(d *event.DecisionMade) { d.Replaces = "d2" }), f.decided("d4", "t1", bot))
	f.record(event.Draft{Task: "t1", Event: &event.GrantEnded{ID: "d4", Reason: access.EndRevoked}})
	list := func(got []access.Grant, err error) string {
		t.Helper()
		return grantIDs(must[[]access.Grant](t)(got, err))
	}
	same(t, "all", list(f.view().GrantsOfTask("t1")), "d1 d2 d3 d4")
	same(t, "active", list(f.view().ActiveGrants("t1", f.now)), "d3")
	same(t, "active when it has run out", list(f.view().ActiveGrants("t1", f.now.Add(time.Minute))), "")
}

func conformApproval(t *testing.T, f *fixture) {
	f.learn(bot, alice)
	f.record(f.taskOpened("t1", bot))
	asked := f.record(f.decided("q1", "t1", bot, f.asks), f.decided("q2", "t1", bot, f.asks))
	want := access.Approval{
		ID: "q1", Task: "t1", Subject: bot, Status: access.ApprovalPending, Risk: 20, AskedAt: asked.Time, ExpiresAt: f.now.Add(30 * time.Minute), Decided: asked.Indexes[0],
		Requires: []access.Requirement{{Policy: "p", Hash: "h", Form: access.ApprovalForm{Kind: access.FormConfirm, Count: 1}}},
	}
	same(t, "asked", must[access.Approval](t)(f.view().Approval("q1")), want)
	list := func(got []access.Approval, err error) string {
		t.Helper()
		return approvalIDs(must[[]access.Approval](t)(got, err))
	}
	same(t, "pending", list(f.view().PendingApprovals(9)), "q1 q2")
	same(t, "pending, at most", list(f.view().PendingApprovals(1)), "q1")
	same(t, "lapsed, not yet", list(f.view().LapsedApprovals(f.now.Add(30*time.Minute-time.Microsecond), 9)), "")
	same(t, "lapsed", list(f.view().LapsedApprovals(f.now.Add(30*time.Minute), 9)), "q1 q2")

	answered := f.record(f.answered("q1", alice, true, access.ApprovalApproved))
	want.Status, want.ApprovedUntil = access.ApprovalApproved, f.now.Add(time.Hour)
	want.Answers = []access.Answer{{By: alice, Approve: true, TTL: 30, MaxUses: 2, At: answered.Time, Entry: answered.Indexes[0]}}
	same(t, "answered", must[access.Approval](t)(f.view().Approval("q1")), want)
	_, err := f.try(event.Change{Drafts: []event.Draft{f.answered("q1", alice, false, access.ApprovalDenied)}})
	wantErr(t, "a second answer of one person", err, access.ErrUnavailable)

	f.record(f.decided("d1", "t1", bot, func(d *event.DecisionMade) { d.Consumed = "q1" }))
	want.Status = access.ApprovalConsumed
	same(t, "consumed", must[access.Approval](t)(f.view().Approval("q1")), want)
	same(t, "no comments", must[[]access.Comment](t)(f.view().Comments("q2")), []access.Comment(nil))
	asks, replies := f.record(f.commented("q2", alice, `"why?"`)), f.record(f.commented("q2", bot, `"because"`))
	said := []access.Comment{{By: alice, Text: "why?", At: asks.Time}, {By: bot, Text: "because", At: replies.Time}}
	same(t, "comments", must[[]access.Comment](t)(f.view().Comments("q2")), said)
	f.record(event.Draft{Event: &event.ValueErased{Index: asks.Indexes[0], Slots: []string{event.SlotComment}}})
	said[0].Text = ""
	same(t, "comments, one erased", must[[]access.Comment](t)(f.view().Comments("q2")), said)

	f.record(event.Draft{Event: &event.ApprovalLapsed{Approval: "q2"}})
	same(t, "expired", must[access.Approval](t)(f.view().Approval("q2")).Status, access.ApprovalExpired)
	same(t, "pending, none", list(f.view().PendingApprovals(9)), "")
}

func conformCatalog(t *testing.T, f *fixture) {
	version := func() int64 { t.Helper(); return must[int64](t)(f.view().CatalogVersion()) }
	f.record(f.object(event.KindIdentity, bot, event.OpAdded), f.object("resource", doc, event.OpAdded))
	before := version()
	state := must[event.CatalogState](t)(f.view().Catalog())
	same(t, "objects", len(state.Objects), 2)
	same(t, "status", state.Statuses[f.Pseudonym(bot)], event.IdentityStatus{Status: access.Active, Since: f.now})
	same(t, "bundle before the first", state.Bundle, event.Bundle{})

	f.now = f.now.Add(time.Microsecond)
	f.record(f.object("resource", doc, event.OpChanged))
	f.record(statusOf(f.Pseudonym(bot), access.Suspended))
	f.activate("policies")
	if after := version(); after <= before {
		t.Errorf("the version stays %d", after)
	}
	f.record(f.object("resource", doc, event.OpRemoved), f.object(event.KindIdentity, bot, event.OpChanged))
	state = must[event.CatalogState](t)(f.view().Catalog())
	same(t, "objects, one removed", state.Objects, []event.CatalogObject{{Kind: event.KindIdentity, Name: bot.String(), Doc: json.RawMessage(`{"id":"Agent::\"bot\""}`)}})
	suspended := event.IdentityStatus{Status: access.Suspended, Was: access.Active, Since: f.now}
	same(t, "a change keeps the status", state.Statuses[f.Pseudonym(bot)], suspended)
	same(t, "bundle", state.Bundle, *bundle("policies"))
	same(t, "content", string(must[[]byte](t)(f.view().BundleContent(bundle("policies").Hash))), "policies")
	before = version()
	f.record(f.object(event.KindIdentity, bot, event.OpRemoved))
	state = must[event.CatalogState](t)(f.view().Catalog())
	same(t, "a removed identity", state.Statuses[f.Pseudonym(bot)].Status, access.Retired)
	if version() <= before {
		t.Error("removing changes no version")
	}
	f.now = f.now.Add(time.Microsecond)
	f.record(f.object(event.KindIdentity, bot, event.OpAdded))
	suspended.Was, suspended.Since = access.Retired, f.now
	state = must[event.CatalogState](t)(f.view().Catalog())
	same(t, "added again, it is as it was", state.Statuses[f.Pseudonym(bot)], suspended)
}

func conformFacts(t *testing.T, f *fixture) {
	at := f.now.Add(-time.Minute - time.Microsecond)
	f.record(reported("tickets", at, f.Pseudonym(alice), f.Pseudonym(doc)))
	want := access.Fact{Source: "tickets", ObservedAt: at, Entity: access.Entity{ID: doc, Attributes: json.RawMessage(`{"n":1}`)}}
	same(t, "told", must[access.Fact](t)(f.view().Fact(doc)), want)
	f.record(reported("crm", f.now, f.Pseudonym(doc)))
	want.Source, want.ObservedAt, want.Attributes = "crm", f.now, json.RawMessage(`{"n":0}`)
	same(t, "told anew", must[access.Fact](t)(f.view().Fact(doc)), want)
	f.record(event.Draft{Event: &event.FactsReported{Source: "crm", Gone: []event.Pseudonym{f.Pseudonym(doc)}}})
	_, err := f.view().Fact(doc)
	wantErr(t, "gone", err, access.ErrNotFound)
}

func conformTraces(t *testing.T, f *fixture) {
	f.record(f.taskOpened("t1", bot), f.decided("d1", "t1", bot, counts("c", 60, 2), counts("sum", 60, 500), touches("pii")))
	f.now = f.now.Add(time.Microsecond)
	f.record(f.decided("d2", "t1", bot, counts("c", 60, 1), counts("c", 120, 4), touches("money")))
	v := f.view()
	for from, want := range map[int64]int64{0: 7, 60: 7, 61: 4, 121: 0} {
		same(t, fmt.Sprint("usage from ", from), must[int64](t)(v.Usage(bot, "c", from)), want)
	}
	same(t, "another counter", must[int64](t)(v.Usage(bot, "sum", 0)), int64(500))
	same(t, "another's", must[int64](t)(v.Usage(other, "c", 0)), int64(0))
	f.record(f.decided("d3", "t1", bot, counts("c", 60+2*3600+1, 1))) // the first bucket is out of every window
	same(t, "old buckets are dropped", must[int64](t)(v.Usage(bot, "c", 0)), int64(5))
	same(t, "touched", must[[]string](t)(v.Touched(bot, f.now.Add(-time.Microsecond))), []string{"money", "pii"})
	same(t, "touched since", must[[]string](t)(v.Touched(bot, f.now)), []string{"money"})

	f.record(f.decided("q1", "t1", bot, f.asks), f.decided("q2", "t1", bot, f.asks))
	f.record(f.answered("q1", alice, true, access.ApprovalPending), f.answered("q1", other, false, access.ApprovalDenied), f.answered("q2", alice, true, access.ApprovalApproved))
	same(t, "precedent", must[access.Precedent](t)(v.Precedent(bot, read1, "Docq1", "support")), access.Precedent{Approvals: 1, Denials: 1})
	same(t, "precedent of another type", must[access.Precedent](t)(v.Precedent(bot, read1, "Docq2", "support")), access.Precedent{Approvals: 1})
}

func conformIdempotency(t *testing.T, f *fixture) {
	key := &event.Remember{Subject: f.Pseudonym(bot), Key: "k", Digest: []byte{0, 1, 0xff}, Result: "d1", Expires: f.now.Add(time.Hour)}
	if _, err := f.try(event.Change{Remember: key, Drafts: []event.Draft{statusOf("p_x", access.Active)}}); err != nil {
		t.Fatal(err)
	}
	got, ok, err := f.view().Remembered(bot, "k")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	same(t, "remembered", got, *key)
	for name, look := range map[string]func() (event.Remember, bool, error){
		"another key":     func() (event.Remember, bool, error) { return f.view().Remembered(bot, "K") },
		"another subject": func() (event.Remember, bool, error) { return f.view().Remembered(other, "k") },
	} {
		if _, ok, err := look(); ok || err != nil {
			t.Errorf("%s is remembered, %v", name, err)
		}
	}
	f.now = f.now.Add(time.Hour)
	if _, ok, err := f.view().Remembered(bot, "k"); ok || err != nil {
		t.Error("it is remembered after its end:", err)
	}
	second := *key
	second.Key, second.Expires = "k2", f.now.Add(time.Hour)
	if _, err := f.try(event.Change{Remember: &second}); err != nil { // without any draft
		t.Fatal(err)
	}
	if rows := f.number(`SELECT COUNT(*) FROM idempotency`); rows != 1 {
		t.Errorf("%d keys are kept, %v: those that ran out must go", rows, err)
	}
}

// conformKeys: names are bytes. A database that folds case or accents, trims spaces or orders by language would confuse them.
func conformKeys(t *testing.T, f *fixture) {
	names := []string{"a", "A", "á", "a\u0301", "a ", "ａ", "ß", "ss", "Z", "_", "é", "e", "İ", "i", "%", "a_b", "aXb"}
	for i, name := range names {
		ref := access.Ref{Type: "Agent", ID: name}
		f.record(f.taskOpened(name, ref), f.decided("g"+name, name, ref, counts(name, 0, int64(i+1)), touches(name)), reported(name, f.now, f.Pseudonym(ref)))
	}
	v := f.view()
	for i, name := range names {
		ref := access.Ref{Type: "Agent", ID: name}
		same(t, name+": task", must[access.Task](t)(v.Task(name)).ID, name)
		same(t, name+": grant", must[access.Grant](t)(v.Grant("g"+name)).Subject, ref)
		same(t, name+": usage", must[int64](t)(v.Usage(ref, name, 0)), int64(i+1))
		same(t, name+": fact", must[access.Fact](t)(v.Fact(ref)).Source, name)
		same(t, name+": touched", must[[]string](t)(v.Touched(ref, time.Time{})), []string{name})
	}
	f.record(f.decided("all", "a", bot, touches(names...)))
	labels := must[[]string](t)(v.Touched(bot, time.Time{}))
	for i := 1; i < len(labels); i++ {
		if labels[i-1] >= labels[i] {
			t.Errorf("%q comes before %q: the order is not that of bytes", labels[i-1], labels[i])
		}
	}
}

func conformTimes(t *testing.T, f *fixture) {
	for i, at := range []time.Time{
		time.Date(2026, 3, 29, 1, 59, 59, 999999000, time.UTC),
		time.Date(2026, 3, 29, 3, 0, 0, 1000, time.FixedZone("summer", 7200)),
		time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC),
		time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC),
	} {
		ref := access.Ref{Type: "Doc", ID: fmt.Sprint(i)}
		f.record(reported("s", at.Add(999*time.Nanosecond), f.Pseudonym(ref)))
		got := must[access.Fact](t)(f.view().Fact(ref)).ObservedAt
		if !got.Equal(at) || got.Location() != time.UTC {
			t.Errorf("%s came back as %s", at, got)
		}
	}
	f.now = f.now.Add(-2 * time.Second) // a clock that is set back
	before := must[[]byte](t)(f.Entry(t.Context(), f.Size()-1))
	f.record(statusOf("p_x", access.Active))
	after := must[[]byte](t)(f.Entry(t.Context(), f.Size()-1))
	x, _ := evidence.Parse(before)
	y, _ := evidence.Parse(after)
	if y.Time.Before(x.Time) || f.Now().Before(y.Time) {
		t.Errorf("time went back from %s to %s, now %s", x.Time, y.Time, f.Now())
	}
}

func conformLarge(t *testing.T, f *fixture) {
	value := `"` + strings.Repeat("é", 32<<10) + `"`
	receipt := f.record(event.Draft{Event: statusOf("p_x", access.Active).Event, Values: values(event.SlotReason, value)})
	same(t, "64 KiB", string(must[json.RawMessage](t)(f.view().Value(receipt.Indexes[0], event.SlotReason))), value)
	id := strings.Repeat("x", evidence.MaxEntrySize-1000)
	f.record(event.Draft{Event: &event.GrantEnded{ID: id, Reason: access.EndRevoked}})
	size := f.Size()
	_, err := f.try(event.Change{Drafts: []event.Draft{statusOf("p_y", access.Active), {Event: &event.GrantEnded{ID: id + id[:1000]}}}})
	wantErr(t, "an entry over the limit", err, evidence.ErrTooLarge, access.ErrUnavailable)
	_, err = f.try(event.Change{Drafts: []event.Draft{{Event: &event.Installed{}, Values: values("x", `"`+strings.Repeat("x", evidence.MaxValueSize)+`"`)}}})
	wantErr(t, "a value over the limit", err, evidence.ErrTooLarge, access.ErrUnavailable)
	many := map[string]json.RawMessage{}
	for i := range evidence.MaxCommitments + 1 {
		many[fmt.Sprint(i)] = json.RawMessage(`1`)
	}
	_, err = f.try(event.Change{Drafts: []event.Draft{{Event: &event.Installed{}, Values: many}}})
	wantErr(t, "too many values", err, evidence.ErrTooLarge, access.ErrUnavailable)
	same(t, "size after refusals", f.Size(), size)
}

func conformRefused(t *testing.T, f *fixture) {
	f.record(f.taskOpened("t1", bot), f.decided("d1", "t1", bot))
	size := f.Size()
	erase := func(index int64, slots ...string) event.Draft {
		return event.Draft{Event: &event.ValueErased{Index: index, Slots: slots}}
	}
	for name, change := range map[string]event.Change{
		"a decision twice":                   {Drafts: []event.Draft{f.decided("d2", "t1", bot), f.decided("d1", "t1", bot)}},
		"a task twice":                       {Drafts: []event.Draft{f.taskOpened("t1", bot)}},
		"a name with control characters":     {Drafts: []event.Draft{{Task: "t\n", Event: &event.Installed{}}}},
		"a value that is no JSON":            {Drafts: []event.Draft{{Event: &event.Installed{}, Values: values("x", `{`)}}},
		"a slot that is no name":             {Drafts: []event.Draft{{Event: &event.Installed{}, Values: values("\x00", `1`)}}},
		"a slot with an endless name":        {Drafts: []event.Draft{{Event: &event.Installed{}, Values: values(strings.Repeat("x", 200), `1`)}}},
		"a bundle that is not its hash":      {Bundle: &event.Bundle{Hash: "sha256:00", Content: []byte("x")}, Drafts: []event.Draft{statusOf("p", access.Active)}},
		"a bundle that nobody stored":        {Drafts: []event.Draft{{Event: &event.PolicyActivated{Bundle: "sha256:00"}}}},
		"erasing what is not there":          {Drafts: []event.Draft{erase(1, "nothing")}},
		"erasing a value twice":              {Drafts: []event.Draft{erase(1, event.SlotPurpose, event.SlotPurpose)}},
		"erasing beside an entry to come":    {Drafts: []event.Draft{erase(99, event.SlotPurpose)}},
		"a time that JSON cannot hold":       {Drafts: []event.Draft{reported("s", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "p")}},
		"an event that no table knows":       {Drafts: []event.Draft{{Event: unknownEvent{}}}},
		"something good, and something not":  {Drafts: []event.Draft{statusOf("p_new", access.Active), f.decided("d1", "t1", bot)}, Remember: &event.Remember{Subject: "p", Key: "k"}},
		"a bundle before something that not": {Bundle: bundle("kept?"), Drafts: []event.Draft{f.decided("d1", "t1", bot)}},
	} {
		if _, err := f.try(change); !errors.Is(err, access.ErrUnavailable) && !errors.Is(err, access.ErrNotFound) {
			t.Errorf("%s: error %v", name, err)
		}
		if f.Size() != size {
			t.Fatalf("%s: the log has grown from %d to %d", name, size, f.Size())
		}
	}
	if _, err := f.view().BundleContent(bundle("kept?").Hash); !errors.Is(err, access.ErrNotFound) {
		t.Error("a bundle stayed behind:", err)
	}
	mine := errors.New("mine")
	_, err := f.Update(t.Context(), func(*View) (event.Change, error) {
		return event.Change{Drafts: []event.Draft{statusOf("p", access.Active)}}, mine
	})
	if err != mine { //nolint:errorlint // exactly as it is
		t.Error("decide's error came back as", err)
	}
	f.record(f.decided("d2", "t1", bot)) // and everything still works
}

type unknownEvent struct{}

func (unknownEvent) EventType() string { return "writ.unknown" }

func conformErasure(t *testing.T, f *fixture) {
	catalog := f.record(f.object(event.KindIdentity, bot, event.OpAdded)).Indexes[0]
	f.record(f.taskOpened("t1", bot), f.decided("d1", "t1", bot))
	facts := f.record(reported("s", f.now, f.Pseudonym(doc))).Indexes[0]
	version := must[int64](t)(f.view().CatalogVersion())
	before := must[[]byte](t)(f.Entry(t.Context(), facts))
	f.record(
		event.Draft{Event: &event.ValueErased{Index: facts, Slots: []string{"0"}}},
		event.Draft{Event: &event.ValueErased{Index: f.indexOf("d1"), Slots: []string{event.SlotInput}}},
		event.Draft{Event: &event.ValueErased{Index: catalog, Slots: []string{event.SlotDocument}}},
	)
	v := f.view()
	_, err := v.Fact(doc)
	wantErr(t, "fact", err, access.ErrNotFound)
	_, err = v.Value(facts, "0")
	wantErr(t, "value", err, access.ErrNotFound)
	_, err = v.Input(f.indexOf("d1"))
	wantErr(t, "input", err, access.ErrNotFound)
	grant := must[access.Grant](t)(v.Grant("d1"))
	if !grant.Subject.IsZero() || !grant.Action.IsZero() || grant.Args != nil {
		t.Error("the erased grant still says what it was for:", grant)
	}
	if state := must[event.CatalogState](t)(v.Catalog()); len(state.Objects) != 0 {
		t.Error("the erased object is still declared:", state.Objects)
	}
	if must[int64](t)(v.CatalogVersion()) <= version {
		t.Error("nobody is told that the catalog lost an object")
	}
	same(t, "the entry with its commitment", string(must[[]byte](t)(f.Entry(t.Context(), facts))), string(before))
	same(t, "disclosures", len(must[map[string]evidence.Disclosure](t)(f.Disclosures(t.Context(), facts))), 0)
}

func conformLog(t *testing.T, f *fixture) {
	f.history()
	head := f.checkpoint()
	for _, index := range []int64{0, 255, 256, f.Size() - 1} {
		proof := must[evidence.Proof](t)(f.Proof(t.Context(), index))
		body := must[[]byte](t)(f.Entry(t.Context(), index))
		if proof.Index != index || len(proof.Hashes) == 0 {
			t.Errorf("the proof of %d is %+v", index, proof)
		}
		list := 0
		err := f.Entries(t.Context(), index, 3, func(at int64, other []byte) error {
			if at == index && string(other) != string(body) {
				t.Error("another entry", at)
			}
			list++
			return nil
		})
		same(t, "listed", list, int(min(3, f.Size()-index)))
		if err != nil {
			t.Error(err)
		}
	}
	if got := must[[]byte](t)(f.Tile(t.Context(), 0, 0, evidence.TileWidth)); len(got) != 8192 {
		t.Error("the full tile has", len(got))
	}
	if got := must[[]byte](t)(f.Tile(t.Context(), 1, 0, 2)); len(got) != 64 {
		t.Error("the partial tile has", len(got))
	}
	entries, err := evidence.DecodeBundle(must[[]byte](t)(f.EntryBundle(t.Context(), 1, evidence.TileWidth)))
	if err != nil || len(entries) != evidence.TileWidth {
		t.Error(len(entries), err)
	}
	same(t, "head", head.Size, f.Size())
	stop := errors.New("stop")
	if err := f.Entries(t.Context(), 0, 9, func(int64, []byte) error { return stop }); err != stop { //nolint:errorlint // exactly
		t.Error("visit's error came back as", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.Tile(gone, 0, 0, evidence.TileWidth)
	wantErr(t, "a read that was cancelled", err, access.ErrUnavailable)
	if errors.Is(err, access.ErrNotFound) {
		t.Error("a failure is told as if the tile were not there")
	}
}

// conformRoundTrip: what JSON cannot carry exactly must not make the tables differ from the log.
func conformRoundTrip(t *testing.T, f *fixture) {
	bad := "b\xffd"
	f.record(f.taskOpened("t1", bot))
	f.record(reported(bad, f.now.Add(time.Nanosecond), "p"), f.decided("d"+bad, "t1", bot, counts(bad, 1, 1), touches(bad, "<&>\u2028")))
	f.record(event.Draft{Event: &event.TaskOpened{ID: "t2", Type: bad, ExpiresAt: f.now.In(time.FixedZone("x", 3600)).Add(time.Nanosecond)}})
}

func conformReopen(t *testing.T, f *fixture) {
	f.history()
	size, checkpoint, name := f.Size(), string(f.Checkpoint()), f.Pseudonym(bot)
	task := must[access.Task](t)(f.view().Task("t2"))
	f.now = f.now.Add(-2 * time.Second)
	last := must[[]byte](t)(f.Entry(t.Context(), size-1))
	f.reopen()
	same(t, "size", f.Size(), size)
	same(t, "checkpoint", string(f.Checkpoint()), checkpoint)
	same(t, "pseudonym", f.Pseudonym(bot), name)
	same(t, "last entry", string(must[[]byte](t)(f.Entry(t.Context(), size-1))), string(last))
	again := must[access.Task](t)(f.view().Task("t2"))
	task.Subject, again.Subject = access.Ref{}, access.Ref{} // nobody has read the catalog yet
	same(t, "task", again, task)
	f.record(statusOf("p_x", access.Active))
	same(t, "size after one more", f.Size(), size+1)
	if entry, err := evidence.Parse(last); err != nil || f.Now().Before(entry.Time) {
		t.Errorf("now is %s, the last entry of %s, %v", f.Now(), entry.Time, err)
	}
}

func conformUnchangedHead(t *testing.T, f *fixture) {
	before := string(f.Checkpoint())
	f.now = f.now.Add(time.Minute)
	if err := f.Beat(t.Context(), "t", f.now); err != nil {
		t.Fatal(err)
	}
	receipt, err := f.try(event.Change{})
	if err != nil || len(receipt.Indexes) != 0 || receipt.Time.IsZero() {
		t.Error("an empty change:", receipt, err)
	}
	same(t, "head", string(f.Checkpoint()), before)
}
