package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/control"
)

// flaky is a ledger of which one reading fails: the one after left others.
type flaky struct {
	control.Ledger
	left   int
	failed bool
}

func (f *flaky) fault() error {
	if f.left--; f.left == -1 {
		f.failed = true
		return access.ErrUnavailable
	}
	return nil
}

func (f *flaky) view(decide decide) decide {
	return func(v control.View) (event.Change, error) { return decide(&flakyView{v, f}) }
}

func (f *flaky) Update(ctx context.Context, decide decide) (event.Receipt, error) {
	return f.Ledger.Update(ctx, f.view(decide))
}

func (f *flaky) Revoke(ctx context.Context, decide decide) (event.Receipt, error) {
	return f.Ledger.Revoke(ctx, f.view(decide))
}

func (f *flaky) Read(ctx context.Context, read func(control.View) error) error {
	return f.Ledger.Read(ctx, func(v control.View) error { return read(&flakyView{v, f}) })
}

func (f *flaky) Beat(ctx context.Context, task string, at time.Time) error {
	return errors.Join(f.fault(), f.Ledger.Beat(ctx, task, at))
}

type flakyView struct {
	control.View
	f *flaky
}

// or reads, unless it is this reading that fails.
func or[T any](v *flakyView, read func() (T, error)) (T, error) {
	if err := v.f.fault(); err != nil {
		var none T
		return none, err
	}
	return read()
}

func (v *flakyView) CatalogVersion() (int64, error)       { return or(v, v.View.CatalogVersion) }
func (v *flakyView) Catalog() (event.CatalogState, error) { return or(v, v.View.Catalog) }
func (v *flakyView) Task(id string) (access.Task, error) {
	return or(v, func() (access.Task, error) { return v.View.Task(id) })
}
func (v *flakyView) BundleContent(hash string) ([]byte, error) {
	return or(v, func() ([]byte, error) { return v.View.BundleContent(hash) })
}
func (v *flakyView) Tasks(subject access.Ref, limit int) ([]access.Task, error) {
	return or(v, func() ([]access.Task, error) { return v.View.Tasks(subject, limit) })
}
func (v *flakyView) OpenTasks(subject access.Ref, taskType string) (int64, error) {
	return or(v, func() (int64, error) { return v.View.OpenTasks(subject, taskType) })
}
func (v *flakyView) OverdueTasks(now time.Time, limit int) ([]access.Task, error) {
	return or(v, func() ([]access.Task, error) { return v.View.OverdueTasks(now, limit) })
}
func (v *flakyView) EndedTasks(goneBy time.Time, limit int) ([]access.Task, error) {
	return or(v, func() ([]access.Task, error) { return v.View.EndedTasks(goneBy, limit) })
}
func (v *flakyView) TaskEntries(task string) (int64, error) {
	return or(v, func() (int64, error) { return v.View.TaskEntries(task) })
}
func (v *flakyView) Grant(id string) (access.Grant, error) {
	return or(v, func() (access.Grant, error) { return v.View.Grant(id) })
}
func (v *flakyView) ActiveGrants(task string, now time.Time) ([]access.Grant, error) {
	return or(v, func() ([]access.Grant, error) { return v.View.ActiveGrants(task, now) })
}
func (v *flakyView) GrantsOfTask(task string) ([]access.Grant, error) {
	return or(v, func() ([]access.Grant, error) { return v.View.GrantsOfTask(task) })
}
func (v *flakyView) Approval(id string) (access.Approval, error) {
	return or(v, func() (access.Approval, error) { return v.View.Approval(id) })
}
func (v *flakyView) PendingApprovals(limit int) ([]access.Approval, error) {
	return or(v, func() ([]access.Approval, error) { return v.View.PendingApprovals(limit) })
}
func (v *flakyView) LapsedApprovals(now time.Time, limit int) ([]access.Approval, error) {
	return or(v, func() ([]access.Approval, error) { return v.View.LapsedApprovals(now, limit) })
}
func (v *flakyView) Fact(ref access.Ref) (access.Fact, error) {
	return or(v, func() (access.Fact, error) { return v.View.Fact(ref) })
}
func (v *flakyView) Usage(subject access.Ref, counter string, from int64) (int64, error) {
	return or(v, func() (int64, error) { return v.View.Usage(subject, counter, from) })
}
func (v *flakyView) Touched(subject access.Ref, since time.Time) ([]string, error) {
	return or(v, func() ([]string, error) { return v.View.Touched(subject, since) })
}
func (v *flakyView) Precedent(subject, action access.Ref, resourceType, taskType string) (access.Precedent, error) {
	return or(v, func() (access.Precedent, error) { return v.View.Precedent(subject, action, resourceType, taskType) })
}
func (v *flakyView) Remembered(subject access.Ref, key string) (event.Remember, bool, error) {
	if err := v.f.fault(); err != nil {
		return event.Remember{}, false, err
	}
	return v.View.Remembered(subject, key)
}
func (v *flakyView) DecisionIndex(id string) (int64, error) {
	return or(v, func() (int64, error) { return v.View.DecisionIndex(id) })
}
func (v *flakyView) DecisionEvent(index int64) (event.DecisionMade, error) {
	return or(v, func() (event.DecisionMade, error) { return v.View.DecisionEvent(index) })
}
func (v *flakyView) Input(index int64) (*access.Input, error) {
	return or(v, func() (*access.Input, error) { return v.View.Input(index) })
}
func (v *flakyView) Value(index int64, slot string) (json.RawMessage, error) {
	return or(v, func() (json.RawMessage, error) { return v.View.Value(index, slot) })
}

func TestI7_AReadingThatFailsIsNeverPassedOver(t *testing.T) {
	files := approvedTasks(t)
	edit(t, files, "policy/access/support.cedar", `context.labels.task.contains("customer-data")`, `context.labels.identity.contains("customer-data")`)
	edit(t, files, "policy/schema.cedarschema", "counts: { refunds_per_hour: Long },\n    risk", "counts: { refunds_per_hour: Long },\n    precedent: { denials: Long },\n    risk")
	files["policy/risk/denied.cedar"] = []byte(`
@id("denied-before")
@owner("Human::\"sam\"")
@points("5")
@because("People said no to the like before.")
forbid (principal, action == Action::"refund", resource)
when { context.precedent.denials > 0 };
`)
	w := worldOf(t, files)
	w.with(ledger{w.store}, control.Limits{Burst: 100_000})
	w.tell("o-1", "delivered", 1200)
	opened := func() string {
		question := must[*control.Answer](t)(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x"}))
		w.approve(bob, question.ID, control.Reply{})
		return must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, nil)).Task.ID
	}
	task, other, paused := opened(), opened(), opened()
	w.ok(support, control.Ask{Task: other, Action: access.MustRef(`Action::"send_message"`), Resource: access.MustRef(`Channel::"customers"`), Args: json.RawMessage(`{"text":"hello"}`)})
	parent := w.ask(other, 1) // brings the label
	check(t, fails(w.PauseTask(t.Context(), support, paused)))
	answered, asked := w.ask(task, 900), w.ask(task, 901)
	w.approve(bob, answered.ID, control.Reply{})
	key := &control.Idempotency{Key: "k"}
	repeated := control.Ask{Task: task, Action: read, Resource: order1, Idempotency: key}
	w.ok(support, repeated)
	w.ok(support, control.Ask{Task: other, Parent: w.ok(support, control.Ask{Task: other, Action: read, Resource: order1}).ID, Action: read, Resource: order1})
	next := changed(t)
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"request", func() error { return fails(w.Request(t.Context(), support, under(other, parent.ID, refund, "", 0))) }},
		{"read", func() error {
			return fails(w.Request(t.Context(), support, control.Ask{Task: task, Action: read, Resource: order1}))
		}},
		{"repeat", func() error { return fails(w.Request(t.Context(), support, repeated)) }},
		{"ask", func() error {
			return fails(w.Request(t.Context(), support, control.Ask{Task: task, Action: refund, Resource: order1, Args: json.RawMessage(`{"amount":902,"reason":""}`)}))
		}},
		{"renew", func() error {
			return fails(w.Renew(t.Context(), support, parent.ID, 0, &control.Idempotency{Key: "r"}))
		}},
		{"open", func() error {
			return fails(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x"}))
		}},
		{"question", func() error { return fails(w.ReadApproval(t.Context(), bob, asked.ID, 0)) }},
		{"question for its subject", func() error { return fails(w.ReadApproval(t.Context(), support, asked.ID, time.Nanosecond)) }},
		{"inbox", func() error { return fails(w.Inbox(t.Context(), bob, false)) }},
		{"answer", func() error { return answerOf(w, bob, asked.ID, control.Reply{Approve: true}) }},
		{"redeem", func() error {
			return fails(w.Redeem(t.Context(), support, answered.ID, &control.Idempotency{Key: "a"}))
		}},
		{"decision", func() error { return fails(w.ReadDecision(t.Context(), sam, answered.ID)) }},
		{"task", func() error { return fails(w.ReadTask(t.Context(), sam, task)) }},
		{"why", func() error { return fails(w.Why(t.Context(), dana, support.Identity, time.Time{})) }},
		{"report", func() error {
			return fails(w.ReportAction(t.Context(), support, parent.ID, control.Done{Status: "failed"}))
		}},
		{"heartbeat", func() error { return fails(w.Heartbeat(t.Context(), support, task)) }},
		{"resume", func() error { return fails(w.ResumeTask(t.Context(), support, paused)) }},
		{"facts", func() error {
			return fails(w.PushFacts(t.Context(), orders, w.now, []control.Told{order("o-1", `{"status":"delivered","total":1200}`)}))
		}},
		{"revoke grant", func() error { return fails(w.RevokeGrant(t.Context(), dana, parent.ID, control.Grounds{})) }},
		{"revoke task", func() error { return fails(w.RevokeTask(t.Context(), dana, other, control.Grounds{})) }},
		{"erase", func() error {
			return fails(w.Erase(t.Context(), sam, parent.Evidence, []string{event.SlotInput}, control.Grounds{}))
		}},
		{"complete", func() error { return fails(w.CompleteTask(t.Context(), support, task)) }},
		{"replay", func() error { return fails(w.Replay(t.Context(), w.store.Size(), nil)) }},
		{"apply", func() error { return fails(w.Apply(t.Context(), &sam, next, nil, false)) }},
		{"explain an old decision", func() error { return fails(w.ReadDecision(t.Context(), sam, answered.ID)) }},
		{"suspend", func() error {
			return fails(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{}))
		}},
		{"sweep", func() error { w.now = w.now.Add(time.Second); return fails(w.Sweep(t.Context())) }},
		{"identify", func() error { return fails(w.Identify(t.Context(), "https://idp.example.com", "sam", nil)) }},
	} {
		n := 0
		for ; n < 5000; n++ {
			f := &flaky{Ledger: ledger{w.store}, left: n}
			w.with(f, control.Limits{})
			size := w.store.Size()
			err := c.call()
			if !f.failed {
				if err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				break
			}
			// A right to read is recorded by itself, before what it is for.
			if !errors.Is(err, access.ErrUnavailable) || w.store.Size() > size+1 || w.store.Size() > size && c.name != "decision" && c.name != "task" && c.name != "explain an old decision" {
				t.Errorf("%s: reading %d failed, and the answer is %v, with %d entries", c.name, n, err, w.store.Size()-size)
			}
		}
		if n == 0 {
			t.Errorf("%s reads nothing", c.name)
		}
	}
	w.with(ledger{w.store}, control.Limits{})
	w.sound()
}
