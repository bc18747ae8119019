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

func TestI1_I2_WhatCannotBeRecordedGivesNothing(t *testing.T) {
	w := newWorld(t)
	h := w.meddled()
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	grant := w.ask(task, 40)
	question := w.ask(task, 900)
	w.approve(bob, question.ID, control.Reply{})
	second := w.ask(task, 800)
	card := must[*control.Card](t)(w.ReadApproval(t.Context(), bob, second.ID, 0)).Receipt
	size := w.store.Size()
	h.fail = true
	small := control.Ask{Task: task, Action: refund, Resource: order1, Args: json.RawMessage(`{"amount":5,"reason":"late"}`)}
	calls := map[string]func(ctx context.Context) (any, error){
		"open": func(ctx context.Context) (any, error) {
			return some(w.OpenTask(ctx, support, control.Opening{Type: "support", Purpose: "x"}))
		},
		"request":  func(ctx context.Context) (any, error) { return some(w.Request(ctx, support, small)) },
		"redeem":   func(ctx context.Context) (any, error) { return some(w.Redeem(ctx, support, question.ID, nil)) },
		"renew":    func(ctx context.Context) (any, error) { return some(w.Renew(ctx, support, grant.ID, 0, nil)) },
		"complete": func(ctx context.Context) (any, error) { return some(w.CompleteTask(ctx, support, task)) },
		"pause":    func(ctx context.Context) (any, error) { return some(w.PauseTask(ctx, support, task)) },
		"answer": func(ctx context.Context) (any, error) {
			return some(w.AnswerApproval(ctx, bob, second.ID, control.Reply{Approve: true, Card: card}))
		},
		"revoke own": func(ctx context.Context) (any, error) {
			return some(w.RevokeGrant(ctx, support, grant.ID, control.Grounds{}))
		},
		"revoke task": func(ctx context.Context) (any, error) { return some(w.RevokeTask(ctx, dana, task, control.Grounds{})) },
		"suspend": func(ctx context.Context) (any, error) {
			return some(w.SetStatus(ctx, dana, support.Identity, access.Suspended, control.Grounds{}))
		},
		"resume identity": func(ctx context.Context) (any, error) {
			return some(w.SetStatus(ctx, sam, support.Identity, access.Active, control.Grounds{}))
		},
		"report": func(ctx context.Context) (any, error) {
			return some(w.ReportAction(ctx, support, grant.ID, control.Done{Status: "failed"}))
		},
		"facts": func(ctx context.Context) (any, error) {
			return some(w.PushFacts(ctx, orders, w.now, []control.Told{{Entity: access.Entity{ID: order1}, Gone: true}}))
		},
		"erase": func(ctx context.Context) (any, error) {
			return some(w.Erase(ctx, sam, grant.Evidence, []string{event.SlotInput}, control.Grounds{}))
		},
		"apply": func(ctx context.Context) (any, error) {
			files := site(t)
			edit(t, files, "catalog/people.yaml", "leads payments", "led payments")
			edit(t, files, "policy/access/reports.cedar", `@max_ttl("10m")`, `@max_ttl("9m")`)
			return some(w.Apply(ctx, &sam, files, nil, false))
		},
		"read of others": func(ctx context.Context) (any, error) { return some(w.ReadGrant(ctx, sam, grant.ID)) },
		"why": func(ctx context.Context) (any, error) {
			return nil, fails(w.Why(ctx, sam, support.Identity, time.Time{}))
		},
	}
	for name, call := range calls {
		if got, err := call(t.Context()); got != nil || !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	if w.store.Size() != size {
		t.Error("something was recorded")
	}
	h.fail = false
	if !w.live(support, grant.ID) {
		t.Error("what was not recorded had an effect")
	}
	w.sound()
}

// fails is the error alone.
func fails[T any](_ T, err error) error { return err }

// some is nil for a nil pointer, so that it compares with nil.
func some[T any](v *T, err error) (any, error) {
	if v == nil {
		return nil, err
	}
	return v, err
}

func TestI2_WhatIsDecidedTwiceIsAnsweredAndCountedOnce(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	h := w.meddled()
	h.twice = true
	w.with(h, control.Limits{RequestsPerSecond: 0.001, Burst: 5})
	task := w.open(support, "support")
	answer := w.ask(task, 40)
	if answer.Grant.ID != answer.ID || answer.Credential.Token != "secret of "+answer.ID || !w.live(support, answer.ID) {
		t.Errorf("the answer is put together from two decisions: %+v", answer)
	}
	question := w.ask(task, 900)
	if question.Approval.ID != question.ID {
		t.Errorf("the question has another id: %+v", question)
	}
	card := must[*control.Card](t)(w.ReadApproval(t.Context(), support, question.ID, 0))
	if card.Approval.Status != access.ApprovalPending {
		t.Errorf("%+v", card.Approval)
	}
	w.ask(task, 1)
	w.ask(task, 1) // the fifth call of support-bot: opening, four asks
	_, err := w.Request(t.Context(), support, control.Ask{Task: task, Action: read, Resource: order1})
	if code(t, err) != access.CodeLimitExceeded {
		t.Error("the limit did not count")
	}
	w.sound()
}

func TestI1_LimitsOfOneIdentityStopNeitherOthersNorRevoking(t *testing.T) {
	for name, limits := range map[string]control.Limits{
		"requests": {RequestsPerSecond: 0.001, Burst: 3},
		"evidence": {EvidencePerHour: 12_000},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.tell("o-1", "delivered", 1200)
			w.with(ledger{w.store}, limits)
			task := w.open(support, "support")
			ask := control.Ask{Task: task, Action: read, Resource: order1}
			var err error
			for range 20 {
				if _, err = w.Request(t.Context(), support, ask); err != nil {
					break
				}
			}
			if code(t, err) != access.CodeLimitExceeded {
				t.Fatal(err)
			}
			size := w.store.Size()
			calls := map[string]error{
				"open":     fails(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x"})),
				"request":  fails(w.Request(t.Context(), support, ask)),
				"denied":   fails(w.SetStatus(t.Context(), support, dana.Identity, access.Suspended, control.Grounds{})),
				"read":     fails(w.ReadTask(t.Context(), support, task)),
				"facts":    fails(w.PushFacts(t.Context(), support, w.now, []control.Told{{Entity: access.Entity{ID: order1}}})),
				"complete": fails(w.CompleteTask(t.Context(), report, task)),
			}
			for _, name := range []string{"open", "request"} {
				if code(t, calls[name]) != access.CodeLimitExceeded {
					t.Errorf("%s: %v", name, calls[name])
				}
			}
			if w.store.Size() != size {
				t.Error("a refused call left evidence")
			}
			w.open(report, "report")
			if _, err := w.CompleteTask(t.Context(), support, task); err != nil {
				t.Errorf("an identity at its limit cannot end its task: %v", err)
			}
			w.now = w.now.Add(time.Hour)
			w.open(support, "support")
			w.sound()
		})
	}
}

func TestI1_ARepeatedCallIsLimitedToo(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	w.with(ledger{w.store}, control.Limits{RequestsPerSecond: 0.001, Burst: 5})
	task := w.open(support, "support")
	ask := control.Ask{Task: task, Action: read, Resource: order1, Idempotency: &control.Idempotency{Key: "k"}}
	var err error
	for range 5 {
		_, err = w.Request(t.Context(), support, ask)
	}
	if code(t, err) != access.CodeLimitExceeded {
		t.Error("each repetition writes evidence, without end")
	}
	w.sound()
}

func TestI1_PausingAndResumingIsLimitedToo(t *testing.T) {
	w := newWorld(t)
	w.with(ledger{w.store}, control.Limits{RequestsPerSecond: 0.001, Burst: 3})
	task := w.open(support, "support")
	var err error
	for range 3 {
		_, _ = w.PauseTask(t.Context(), support, task)
		_, err = w.ResumeTask(t.Context(), support, task)
	}
	if code(t, err) != access.CodeLimitExceeded {
		t.Error("pausing and resuming writes evidence without end")
	}
	w.sound()
}

// revokes counts what asks for the reserved space.
type revokes struct {
	control.Ledger
	drafts int
}

func (r *revokes) Revoke(ctx context.Context, decide decide) (event.Receipt, error) {
	return r.Ledger.Revoke(ctx, func(v control.View) (event.Change, error) {
		change, err := decide(v)
		if err == nil {
			r.drafts += len(change.Drafts)
		}
		return change, err
	})
}

func TestI7_ARefusedRevocationHasNoClaimToTheReserve(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ask(task, 1)
	r := &revokes{Ledger: ledger{w.store}}
	w.with(r, control.Limits{})
	size := w.store.Size()
	for name, refused := range map[string]func() (*control.Answer, error){
		"suspend": func() (*control.Answer, error) {
			return w.SetStatus(t.Context(), bob, support.Identity, access.Suspended, control.Grounds{})
		},
		"grant": func() (*control.Answer, error) { return w.RevokeGrant(t.Context(), bob, grant.ID, control.Grounds{}) },
		"task":  func() (*control.Answer, error) { return w.RevokeTask(t.Context(), bob, task, control.Grounds{}) },
	} {
		answer, err := refused()
		check(t, err)
		if answer.Refusal() == nil || r.drafts != 0 {
			t.Errorf("%s: %+v, %d drafts on the reserve", name, answer.Decided, r.drafts)
		}
	}
	if w.store.Size() != size+3 {
		t.Error("the refusals are not recorded")
	}
	check(t, fails(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{})))
	if r.drafts != 2 {
		t.Error("an allowed suspension is not on the reserve")
	}
	w.sound()
}

func TestWhatComesFromOutsideIsBounded(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ask(task, 1)
	question := w.ask(task, 110)
	size := w.store.Size()
	long := string(make([]byte, 5000))
	ask := func(a control.Ask) error {
		a.Task, a.Resource = task, order1
		return fails(w.Request(t.Context(), support, a))
	}
	open := func(o control.Opening) error { return fails(w.OpenTask(t.Context(), support, o)) }
	facts := make([]control.Told, 257)
	for name, err := range map[string]error{
		"no purpose":         open(control.Opening{Type: "support", Purpose: " "}),
		"long purpose":       open(control.Opening{Type: "support", Purpose: long}),
		"purpose not text":   open(control.Opening{Type: "support", Purpose: "\xff"}),
		"long reference":     open(control.Opening{Type: "support", Purpose: "x", Reference: long}),
		"negative duration":  open(control.Opening{Type: "support", Purpose: "x", Duration: -1}),
		"empty key":          open(control.Opening{Type: "support", Purpose: "x", Idempotency: &control.Idempotency{}}),
		"long key":           ask(control.Ask{Action: read, Idempotency: &control.Idempotency{Key: long}}),
		"negative ttl":       ask(control.Ask{Action: read, TTL: -1}),
		"large args":         ask(control.Ask{Action: refund, Args: json.RawMessage(`{"amount":1,"reason":"` + string(make([]byte, 65<<10)) + `"}`)}),
		"two of a name":      ask(control.Ask{Action: refund, Args: json.RawMessage(`{"amount":1,"amount":2,"reason":""}`)}),
		"no task":            fails(w.Request(t.Context(), support, control.Ask{Action: read, Resource: order1})),
		"negative renewal":   fails(w.Renew(t.Context(), support, grant.ID, -1, nil)),
		"reason of revoke":   fails(w.RevokeGrant(t.Context(), dana, grant.ID, control.Grounds{Reason: long})),
		"reason of suspend":  fails(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{Reason: long})),
		"reason of erase":    fails(w.Erase(t.Context(), sam, 1, []string{"document"}, control.Grounds{Reason: "\xff"})),
		"no such status":     fails(w.SetStatus(t.Context(), sam, support.Identity, "asleep", control.Grounds{})),
		"no slots":           fails(w.Erase(t.Context(), sam, 1, nil, control.Grounds{})),
		"many slots":         fails(w.Erase(t.Context(), sam, 1, make([]string, 257), control.Grounds{})),
		"status of report":   fails(w.ReportAction(t.Context(), support, grant.ID, control.Done{Status: "maybe"})),
		"detail not JSON":    fails(w.ReportAction(t.Context(), support, grant.ID, control.Done{Status: "failed", Detail: json.RawMessage(`{`)})),
		"large detail":       fails(w.ReportAction(t.Context(), support, grant.ID, control.Done{Status: "failed", Detail: json.RawMessage(`"` + string(make([]byte, 65<<10)) + `"`)})),
		"no facts":           fails(w.PushFacts(t.Context(), orders, w.now, nil)),
		"many facts":         fails(w.PushFacts(t.Context(), orders, w.now, facts)),
		"reason of answer":   answerOf(w, bob, question.ID, control.Reply{Reason: long}),
		"ttl of answer":      answerOf(w, bob, question.ID, control.Reply{Approve: true, TTL: 1 << 40}),
		"negative answer":    answerOf(w, bob, question.ID, control.Reply{Approve: true, TTL: -1}),
		"unknown mode":       ask(control.Ask{Action: read, Mode: "borrow"}),
		"act as a request":   ask(control.Ask{Action: access.Act(access.ActErase)}),
		"unknown action":     ask(control.Ask{Action: access.MustRef(`Action::"fly"`)}),
		"unknown task type":  open(control.Opening{Type: "holidays", Purpose: "x"}),
		"undeclared args":    ask(control.Ask{Action: read, Args: json.RawMessage(`{"x":1}`)}),
		"resource of a type": fails(w.Request(t.Context(), support, control.Ask{Task: task, Action: read, Resource: access.MustRef(`Table::"support.tickets"`)})),
		"unknown resource":   fails(w.Request(t.Context(), support, control.Ask{Task: task, Action: read, Resource: access.MustRef(`Order::"none"`)})),
		"unknown identity":   fails(w.SetStatus(t.Context(), sam, access.MustRef(`Agent::"none"`), access.Suspended, control.Grounds{})),
	} {
		var bad *control.Invalid
		if !errors.As(err, &bad) || bad.Error() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.store.Size() != size {
		t.Error("an ask that makes no sense was recorded")
	}
	w.sound()
}

func answerOf(w *world, caller control.Caller, id string, reply control.Reply) error {
	w.t.Helper()
	_, err := w.answer(caller, id, reply)
	return err
}

func TestI1_AnEntryHoldsAsManyFactsAsOneCallMayTell(t *testing.T) {
	w := newWorld(t)
	told := make([]control.Told, 256)
	for i := range told {
		told[i] = control.Told{Entity: access.Entity{ID: access.Ref{Type: "Order", ID: w.newID()}, Attributes: json.RawMessage(`{"status":"new","total":1}`)}}
	}
	check(t, fails(w.PushFacts(t.Context(), orders, w.now, told)))
	w.sound()
}

func TestI9_WhoeverDecidedIsInTheEvent(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ask(task, 1)
	revoked := must[*control.Answer](t)(w.RevokeGrant(t.Context(), dana, grant.ID, control.Grounds{}))
	message := control.Ask{Task: task, Action: access.MustRef(`Action::"send_message"`), Resource: access.MustRef(`Channel::"customers"`), Args: json.RawMessage(`{"text":"hello"}`)}
	second := w.open(support, "support")
	message.Task = second
	sent := must[*control.Answer](t)(w.Request(t.Context(), support, message))
	looked := must[*control.Answer](t)(w.Request(t.Context(), support, control.Ask{Task: second, Action: read, Resource: order1}))
	check(t, fails(w.PauseTask(t.Context(), support, task)))
	suspended := must[*control.Answer](t)(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{}))
	w.now = w.now.Add(3 * time.Hour)
	check(t, fails(w.Sweep(t.Context())))
	self := event.By{Kind: event.BySelf, Identity: w.store.Pseudonym(support.Identity)}
	want := map[string]event.By{
		"ended " + grant.ID:          {Kind: event.ByDecision, Decision: revoked.ID},
		"ended " + sent.ID:           {Kind: event.ByDecision, Decision: looked.ID},
		"paused " + task:             self,
		"status suspended":           {Kind: event.ByDecision, Decision: suspended.ID},
		"ended " + task + " revoked": {Kind: event.ByClock}, // the sweep writes down what the suspension did
	}
	check(t, w.store.Entries(t.Context(), 0, 1000, func(_ int64, body []byte) error {
		var entry struct {
			Type string
			Data struct {
				ID, Status, Reason string
				By                 event.By
			}
		}
		_ = json.Unmarshal(body, &entry) // of facts, by is a pseudonym
		for _, key := range []string{"ended " + entry.Data.ID, "paused " + entry.Data.ID, "status " + entry.Data.Status, "ended " + entry.Data.ID + " " + entry.Data.Reason} {
			if by, ok := want[key]; ok && by == entry.Data.By {
				delete(want, key)
			}
		}
		if entry.Type == "writ.catalog.changed" && entry.Data.By.Kind != event.ByStartup {
			t.Errorf("a change of the catalog by %+v", entry.Data.By)
		}
		return nil
	}))
	for key, by := range want {
		t.Errorf("no entry says %s by %+v", key, by)
	}
	w.sound()
}
