package control_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/control"
)

var triage = control.Caller{Identity: access.MustRef(`Agent::"triage-bot"`)}

// openersSite lets the helpers of the starter open tasks of their own, and has its policies permit them what support may.
func openersSite(t *testing.T) control.Configuration {
	t.Helper()
	files := site(t)
	edit(t, files, "catalog/agents.yaml", `openers: [Team::"support-agents"]`, `openers: [Team::"support-agents", Team::"helpers"]`)
	policies := string(files["policy/access/support.cedar"])
	for _, action := range []string{"send_message", "refund"} {
		policies = strings.Replace(policies, "  principal in Team::\"support-agents\",\n  action == Action::\""+action, "  principal,\n  action == Action::\""+action, 1)
	}
	policies = strings.Replace(policies, `context.labels.task.contains("customer-data")`, `context.labels.identity.contains("customer-data")`, 1)
	files["policy/access/support.cedar"] = []byte(policies)
	return files
}

// A holder whom the catalog now has run for somebody else holds nothing of the task any more, nor does who hangs below it.
func TestI5_APrincipalThatChangesAnywhereEndsWhatHangsBelow(t *testing.T) {
	for where, change := range map[string]func(files control.Configuration){
		"root": func(files control.Configuration) {
			edit(t, files, "catalog/agents.yaml", "purpose: answers customers", "principal: Human::\"alice\"\n    purpose: answers customers")
		},
		"middle": func(files control.Configuration) {
			edit(t, files, "catalog/helpers.yaml", `{id: 'Agent::"h0"',`, `{id: 'Agent::"h0"', principal: 'Human::"alice"',`)
		},
	} {
		files := lendingSite(t, 3)
		w := worldOf(t, files)
		w.tell("o-1", "delivered", 120)
		task := must[*control.Answer](t)(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x", Principal: bob.Identity})).Task
		root := w.lendable(task.ID, 0)
		middle := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Mode: access.Delegate})
		leaf := w.lend(helper(0), middle.ID, control.Delegation{To: helper(1).Identity, Args: amount(1)})
		change(files)
		check(t, fails(w.Apply(t.Context(), nil, files, nil, false)))
		if known := must[*control.Recognized](t)(w.Introspect(t.Context(), orders, "secret of "+leaf.ID)); known != nil || w.live(sam, leaf.ID) {
			t.Errorf("%s: the leaf outlived it", where)
		}
		if _, err := w.CountUse(t.Context(), orders, leaf.ID); code(t, err) != access.CodeParentRevoked {
			t.Errorf("%s: the leaf is used: %v", where, err)
		}
		if got := must[*control.Answer](t)(w.Delegate(t.Context(), helper(0), middle.ID, control.Delegation{To: helper(2).Identity, Args: amount(1)})); got.Grant != nil {
			t.Errorf("%s: a dead right is lent on", where)
		}
		w.sound()
	}
}

// What ran for a human who was suspended stays over when they are back.
func TestI5_WhatRanForWhoWasSuspendedStaysOver(t *testing.T) {
	w := worldOf(t, lendingSite(t, 1))
	w.tell("o-1", "delivered", 120)
	task := must[*control.Answer](t)(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x", Principal: bob.Identity})).Task
	leaf := w.lend(support, w.lendable(task.ID, 0).ID, control.Delegation{To: helper(0).Identity, Args: amount(1)})
	w.set(bob.Identity, access.Suspended)
	w.set(bob.Identity, access.Active)
	if w.live(sam, leaf.ID) {
		t.Error("it came back")
	}
	w.sound()
}

// Erasing what the catalog says of an identity, and declaring it anew, is no way out of a suspension or a retirement.
func TestI9_ErasingAndDeclaringAnewUndoesNothing(t *testing.T) {
	for _, status := range []access.Status{access.Suspended, access.Retired} {
		files := site(t)
		w := worldOf(t, files)
		w.set(support.Identity, status)
		check(t, fails(w.Erase(t.Context(), sam, w.documentOf("support-bot"), []string{event.SlotDocument}, control.Grounds{})))
		check(t, fails(w.Apply(t.Context(), nil, files, nil, false)))
		if view := must[*control.IdentityView](t)(w.ReadIdentity(t.Context(), sam, support.Identity)); view.Status != status {
			t.Errorf("%s became %s", status, view.Status)
		}
		w.sound()
	}
}

// documentOf is the index of the last entry that declares an identity.
func (w *world) documentOf(name string) (found int64) {
	w.t.Helper()
	check(w.t, ledger{w.store}.Read(w.t.Context(), func(v control.View) error {
		for i := range w.store.Size() {
			var o event.CatalogObject
			document, err := v.Value(i, event.SlotDocument)
			if err == nil && json.Unmarshal(document, &o) == nil && o.Kind == event.KindIdentity && strings.Contains(o.Name, name) {
				found = i
			}
		}
		return nil
	}))
	return found
}

// Whom nobody answers for speaks for nobody, guards nothing, and is not believed.
func TestI9_AnEnforcementPointWithoutAnOwnerCanDoNothing(t *testing.T) {
	files := lendingSite(t, 1)
	edit(t, files, "catalog/agents.yaml", "    targets: [https://orders.example.com]\n", "    targets: [https://orders.example.com]\n    subjects: [Agent::\"h0\", Agent::\"support-bot\"]\n")
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	leaf := w.lend(support, w.lendable(task, 0).ID, control.Delegation{To: helper(0).Identity, Args: amount(1)})
	w.set(alice.Identity, access.Suspended) // who owns the order system
	if known := must[*control.Recognized](t)(w.Introspect(t.Context(), orders, "secret of "+leaf.ID)); known != nil {
		t.Error("it learns what a token is good for")
	}
	for name, err := range map[string]error{
		"counts a use":    fails(w.CountUse(t.Context(), orders, leaf.ID)),
		"gets a token":    fails(w.IssueCredential(t.Context(), orders, leaf.ID)),
		"asks for others": fails(w.Request(t.Context(), orders, control.Ask{Subject: support.Identity, Task: task, Action: pay, Resource: order1, Args: amount(1)})),
		"tells facts":     fails(w.PushFacts(t.Context(), orders, w.now, []control.Told{{Entity: access.Entity{ID: order1, Attributes: []byte(`{"status":"lost","total":1}`)}}})),
	} {
		if err == nil {
			t.Error("it " + name)
		}
	}
	w.sound()
}

// Lending is the lender's doing: it leaves nothing on whom it lends to, before that one takes hold of it.
func TestLendingActsNotAgainstTheReceiver(t *testing.T) {
	w := worldOf(t, openersSite(t))
	w.tell("o-1", "delivered", 120)
	send := control.Ask{Task: w.open(triage, "support"), Action: access.MustRef(`Action::"send_message"`), Resource: access.MustRef(`Channel::"customers"`), Args: []byte(`{"text":"hi"}`)}
	own := w.ok(triage, send)
	refunds := control.Ask{Task: w.open(support, "support"), Action: refund, Resource: order1, Args: []byte(`{"amount":4,"reason":"late"}`), Mode: access.Delegate}
	root := w.ok(support, refunds).Grant
	var lent *access.Grant
	for range 3 { // as many in an hour as nobody looks at
		lent = w.lend(support, root.ID, control.Delegation{To: triage.Identity})
	}
	if !w.live(sam, own.ID) {
		t.Error("lending ended what the receiver had")
	}
	w.ok(triage, send)
	refunds.Mode = access.Use
	if got := must[*control.Answer](t)(w.Request(t.Context(), support, refunds)); got.Decided.Outcome != access.NeedsApproval {
		t.Errorf("the lender's own fourth: %s", got.Decided.Outcome)
	}
	if got := must[*control.Answer](t)(w.Delegate(t.Context(), support, root.ID, control.Delegation{To: triage.Identity})); got.Decided.Outcome != access.NeedsApproval {
		t.Errorf("the fourth that is lent: %s", got.Decided.Outcome)
	}
	check(t, fails(w.IssueCredential(t.Context(), triage, lent.ID))) // now it holds customer data
	if w.live(sam, own.ID) {
		t.Error("whoever holds customer data may still send")
	}
	if got := must[*control.Answer](t)(w.Request(t.Context(), triage, send)); got.Decided.Outcome != access.NeedsApproval {
		t.Errorf("after it took hold of customer data: %s", got.Decided.Outcome)
	}
	w.sound()
}

// The questions that wait for people are those of who caused them.
func TestQuestionsAboutWhatIsLentAreTheLenders(t *testing.T) {
	files := lendingSite(t, 3)
	files["policy/access/lent.cedar"] = []byte(`
@id("lent-payments-are-looked-at")
@owner("Human::\"sam\"")
@because("Somebody looks.")
@approval("team:payments")
forbid (principal, action == Action::"pay", resource) when { context.args has amount };
`)
	files["catalog/people.yaml"] = bytes.ReplaceAll(files["catalog/people.yaml"], []byte(`members: [Agent::"support-bot"]`), []byte(`members: [Agent::"support-bot", Agent::"h0"]`))
	w := worldOf(t, files)
	w.with(ledger{w.store}, control.Limits{OpenQuestions: 2})
	w.tell("o-1", "delivered", 120)
	own, root := w.open(helper(0), "support"), w.lendable(w.open(support, "support"), 0)
	for i := range 3 {
		answer, err := w.Delegate(t.Context(), support, root.ID, control.Delegation{To: helper(i).Identity, Args: amount(1)})
		if i < 2 && (err != nil || answer.Approval == nil) || i == 2 && code(t, err) != access.CodeLimitExceeded {
			t.Errorf("question %d: %+v, %v", i, answer, err)
		}
	}
	if got, err := w.Request(t.Context(), helper(0), control.Ask{Task: own, Action: pay, Resource: order1, Args: amount(1)}); err != nil || got.Approval == nil {
		t.Errorf("who was lent something may ask nothing: %v", err)
	}
	w.sound()
}

// Who tries to pass on somebody else's right learns nothing of it: not what it is, nor whether it is alive.
func TestNobodyReadsARightByLendingIt(t *testing.T) {
	w, root := lendingWorld(t, 3, 0)
	leaf := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Args: amount(77)})
	stranger := helper(2)
	for _, alive := range []bool{true, false} {
		got := must[*control.Answer](t)(w.Delegate(t.Context(), stranger, leaf.ID, control.Delegation{To: stranger.Identity, Mode: access.Delegate}))
		if got.Decided.Code != access.CodeNotPermitted {
			t.Errorf("alive %v: %s", alive, got.Decided.Code)
		}
		view := must[*control.DecisionView](t)(w.ReadDecision(t.Context(), stranger, got.ID))
		if r := view.Request; r == nil || r.Action != (access.Ref{}) || r.Resource != (access.Ref{}) || r.Task != "" || r.Args != nil || !r.Principal.IsZero() {
			t.Errorf("alive %v: a stranger reads %+v", alive, view.Request)
		}
		check(t, fails(w.RevokeGrant(t.Context(), support, root.ID, control.Grounds{})))
	}
	w.sound()
}

// A call that is repeated because its answer was lost ends nothing of what was lent meanwhile.
func TestARepeatedCallEndsNothingThatWasLent(t *testing.T) {
	w, _ := lendingWorld(t, 1, 0)
	ask := control.Ask{
		Task: w.open(support, "support"), Action: pay, Resource: order1, Mode: access.Delegate, TTL: 600, Constraints: upTo(100), Idempotency: &control.Idempotency{Key: "k"},
	}
	root := w.ok(support, ask).Grant
	leaf := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Args: amount(1)})
	if again := must[*control.Answer](t)(w.Request(t.Context(), support, ask)); !again.Repeated || again.Grant.ID != root.ID || !w.live(sam, leaf.ID) {
		t.Errorf("%+v, and the leaf is alive: %v", again.Grant, w.live(sam, leaf.ID))
	}
	w.sound()
}

// Every kind of constraint lets exactly what fits it be used.
func TestI3_WhatFitsIsLent(t *testing.T) {
	w, first := lendingWorld(t, 1, 0)
	for _, c := range []struct{ constraint, fits, fitsNot string }{
		{`{"type":"range","min":0,"max":9}`, `9`, `10`}, {`{"type":"one_of","values":[1]}`, `1`, `2`}, {`{"type":"wildcard"}`, `7`, ``}, {`{"type":"exact","value":1}`, `1`, `2`},
		{`{"type":"not_one_of","excluded":[2]}`, `1`, `2`}, {`{"type":"all","constraints":[{"type":"range","min":0,"max":9},{"type":"not_one_of","excluded":[3]}]}`, `4`, `3`},
		{`{"type":"any","constraints":[{"type":"exact","value":1},{"type":"exact","value":5}]}`, `5`, `2`},
	} {
		constraints, err := access.ParseConstraints([]byte(`{"amount":` + c.constraint + `,"currency":{"type":"exact","value":"EUR"}}`))
		check(t, err)
		root := w.ok(support, control.Ask{Task: first.Task, Action: pay, Resource: order1, Mode: access.Delegate, TTL: 600, Constraints: constraints})
		for value, want := range map[string]access.Code{c.fits: "", c.fitsNot: access.CodeExceedsParent} {
			if value == "" {
				continue
			}
			got := must[*control.Answer](t)(w.Delegate(t.Context(), support, root.Grant.ID, control.Delegation{To: helper(0).Identity, Args: []byte(`{"amount":` + value + `,"currency":"EUR"}`)}))
			if got.Decided.Code != want {
				t.Errorf("%s under %s: %q", value, c.constraint, got.Decided.Code)
			}
		}
	}
}

// Where tokens are bound, who proves nothing gets none: nothing is recorded, and an approval is not used up.
func TestWhereTokensAreBoundProofComesFirst(t *testing.T) {
	w, root := lendingWorld(t, 1, 0)
	leaf := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Args: amount(1)})
	question := w.ask(root.Task, 110)
	w.approve(bob, question.ID, control.Reply{})
	w.Control = control.New(control.Options{Ledger: ledger{w.store}, Issuer: tokens{}, Engine: "test", NewID: w.newID, Bound: true})
	before := w.store.Size()
	own := control.Ask{Task: root.Task, Action: read, Resource: order1}
	for name, err := range map[string]error{
		"request": fails(w.Request(t.Context(), support, own)), "credential": fails(w.IssueCredential(t.Context(), helper(0), leaf.ID)), "redeem": fails(w.Redeem(t.Context(), support, question.ID, nil)),
	} {
		if kind(t, err) != control.AuthenticationMissing {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.store.Size() != before {
		t.Error("something was recorded")
	}
	proven := control.Caller{Identity: support.Identity, BoundTo: "thumb"}
	if got := must[*control.Answer](t)(w.Redeem(t.Context(), proven, question.ID, nil)); got.Credential == nil || got.Credential.BoundTo != "thumb" {
		t.Errorf("%+v", got)
	}
	w.ok(support, control.Ask{Task: root.Task, Action: pay, Resource: order1, Mode: access.Delegate, Args: amount(1)}) // a right to lend has no token
	w.sound()
}
