package control_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

func TestSmallRefundNeedsNobody(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	answer := w.ask(task, 40)
	if answer.Decided.Outcome != access.Allow || answer.Credential == nil || answer.Grant.ExpiresAt.Sub(w.now) != 5*time.Minute {
		t.Fatalf("got %+v", answer)
	}
	if !w.live(support, answer.Grant.ID) {
		t.Error("the grant is not live")
	}
	_, err := w.CompleteTask(t.Context(), support, task)
	check(t, err)
	if w.live(support, answer.Grant.ID) {
		t.Error("the grant outlived its task")
	}
	w.sound()
}

func TestLargeRefundIsApproved(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	answer := w.ask(task, 900)
	if answer.Decided.Outcome != access.NeedsApproval || answer.Approval == nil {
		t.Fatalf("got %+v", answer.Decided)
	}
	id := answer.Approval.ID
	_, err := w.Redeem(t.Context(), support, id, nil)
	if got := code(t, err); got != access.CodeApprovalRequired {
		t.Errorf("redeemed before the answer: %s", got)
	}
	for name, caller := range map[string]control.Caller{"the owner of the agent": dana, "the agent itself": support, "somebody of another team": sam} {
		if err := answerOf(w, caller, id, control.Reply{Approve: true}); kind(t, err) != control.NotEligible {
			t.Errorf("%s: %v", name, err)
		}
	}
	cards := must[*control.Inbox](t)(w.Inbox(t.Context(), bob, false)).Cards
	if len(cards) != 1 || cards[0].Purpose.Words != "a customer complains" || cards[0].Decided.Requires[0].Because == "" {
		t.Fatalf("bob's inbox: %+v", cards)
	}
	if approval := w.approve(bob, id, control.Reply{TTL: 60, Reason: "seen the photos"}); approval.Status != access.ApprovalApproved {
		t.Fatalf("status %s", approval.Status)
	}
	w.now = w.now.Add(10 * time.Minute)
	redeemed, err := w.Redeem(t.Context(), support, id, nil)
	check(t, err)
	if redeemed.Decided.Outcome != access.Allow || redeemed.Grant.ExpiresAt.Sub(w.now) != time.Minute {
		t.Fatalf("redeemed: %+v", redeemed)
	}
	if _, err := w.Redeem(t.Context(), support, id, nil); code(t, err) != access.CodeApprovalExpired {
		t.Error("an approval was used twice")
	}
	w.sound()
}

func TestReadingThenWritingOutside(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	message := control.Ask{Task: task, Action: access.MustRef(`Action::"send_message"`), Resource: access.MustRef(`Channel::"customers"`), Args: json.RawMessage(`{"text":"hello"}`)}
	before, err := w.Request(t.Context(), support, message)
	check(t, err)
	if before.Decided.Outcome != access.Allow {
		t.Fatalf("before: %+v", before.Decided)
	}
	_, err = w.Request(t.Context(), support, control.Ask{Task: task, Action: access.MustRef(`Action::"read_order"`), Resource: order1})
	check(t, err)
	if w.live(support, before.Grant.ID) {
		t.Error("the grant to write outside outlived the label that speaks against it")
	}
	after, err := w.Request(t.Context(), support, message)
	check(t, err)
	if after.Decided.Outcome != access.NeedsApproval {
		t.Errorf("after: %+v", after.Decided)
	}
	w.sound()
}

func TestNothingEndsByItselfButTheSweepSeesToIt(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	answer := w.ask(task, 900)
	w.now = w.now.Add(access.QuestionLife)
	if _, err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	card, err := w.ReadApproval(t.Context(), support, answer.Approval.ID, 0)
	check(t, err)
	if card.Approval.Status != access.ApprovalExpired {
		t.Errorf("question: %s", card.Approval.Status)
	}
	w.now = w.now.Add(2 * time.Hour)
	for range 3 {
		_, err = w.Sweep(t.Context())
		check(t, err)
		w.now = w.now.Add(2 * time.Minute)
	}
	view, err := w.ReadTask(t.Context(), support, task)
	check(t, err)
	if view.Task.Status != access.TaskSealed || view.Task.Reason != access.EndExpired {
		t.Errorf("task: %s, %s", view.Task.Status, view.Task.Reason)
	}
	w.sound()
}

func TestSuspendingEndsEverything(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	answer := w.ask(task, 40)
	if _, err := w.SetStatus(t.Context(), support, dana.Identity, access.Suspended, control.Grounds{}); code(t, err) != access.CodeNotPermitted {
		t.Error("an agent suspended a human")
	}
	done, err := w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{Reason: "acts strangely"})
	check(t, err)
	if refusal := done.Refusal(); refusal != nil {
		t.Fatal(refusal)
	}
	if w.live(dana, answer.Grant.ID) {
		t.Error("the grant outlived its identity")
	}
	refused := w.ask(task, 1)
	if refused.Decided.Code != access.CodeIdentitySuspended {
		t.Errorf("a suspended identity was answered %s", refused.Decided.Code)
	}
	back, err := w.SetStatus(t.Context(), sam, support.Identity, access.Active, control.Grounds{Reason: "it was the customer"})
	check(t, err)
	if refusal := back.Refusal(); refusal != nil {
		t.Fatal(refusal)
	}
	if w.live(dana, answer.Grant.ID) || w.ask(task, 1).Decided.Code != access.CodeTaskEnded {
		t.Error("what the identity had before it was suspended came back with it")
	}
	if again := w.open(support, "support"); w.ask(again, 1).Decided.Outcome != access.Allow {
		t.Error("an identity that is active again can do nothing")
	}
	_, err = w.Sweep(t.Context())
	check(t, err)
	if view, err := w.ReadTask(t.Context(), support, task); err != nil || view.Task.Reason != access.EndRevoked {
		t.Errorf("the task of before: %+v, %v", view, err)
	}
	w.sound()
}

func TestIdempotentRequestRetiresTheFormerCredential(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	ask := control.Ask{
		Task: task, Action: refund, Resource: order1, Args: json.RawMessage(`{"amount":5,"reason":"late"}`), Idempotency: &control.Idempotency{Key: "k"},
	}
	first, err := w.Request(t.Context(), support, ask)
	check(t, err)
	second, err := w.Request(t.Context(), support, ask)
	check(t, err)
	if first.ID != second.ID || first.Grant.ID == second.Grant.ID || second.Credential == nil {
		t.Fatalf("first %+v second %+v", first, second)
	}
	if w.live(support, first.Grant.ID) || !w.live(support, second.Grant.ID) {
		t.Error("the former credential is not retired")
	}
	third, err := w.Request(t.Context(), support, ask)
	check(t, err)
	if w.live(support, second.Grant.ID) || !w.live(support, third.Grant.ID) {
		t.Error("the second retry did not retire the first")
	}
	ask.Idempotency.Digest[0] = 1
	if _, err := w.Request(t.Context(), support, ask); kind(t, err) != control.IdempotencyKeyReused {
		t.Error("the key stood for two calls")
	}
	w.sound()
}

func TestABrokenConfigurationChangesNothing(t *testing.T) {
	w := newWorld(t)
	files := site(t)
	files["policy/access/support.cedar"] = []byte(strings.Replace(string(files["policy/access/support.cedar"]), "@because", "@becuase", 1))
	files["catalog/people.yaml"] = []byte(strings.Replace(string(files["catalog/people.yaml"]), `Human::"alice"`, `Human::"alcie"`, 1))
	if _, err := w.Apply(t.Context(), nil, files, nil, false); kind(t, err) != control.InvalidConfiguration {
		t.Fatal(err)
	}
	if w.open(support, "support") == "" {
		t.Error("the former policy is gone")
	}
	w.sound()
}

func TestWhyShowsTheDecisionBehindEachAccess(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	answer := w.ask(task, 40)
	granted := w.now
	now, err := w.Why(t.Context(), dana, support.Identity, time.Time{})
	check(t, err)
	if len(now) != 1 || now[0].Grant.Grant.ID != answer.Grant.ID || now[0].By.Full.Policies[0].ID != "support-refunds" {
		t.Fatalf("now: %+v", now)
	}
	w.now = w.now.Add(time.Minute)
	_, err = w.RevokeGrant(t.Context(), dana, answer.Grant.ID, control.Grounds{Reason: "enough"})
	check(t, err)
	w.now = w.now.Add(time.Minute)
	if now, err = w.Why(t.Context(), dana, support.Identity, time.Time{}); err != nil || len(now) != 0 {
		t.Errorf("after revoking: %+v, %v", now, err)
	}
	if then, err := w.Why(t.Context(), sam, support.Identity, granted.Add(time.Second)); err != nil || len(then) != 1 {
		t.Errorf("at that time: %+v, %v", then, err)
	}
	if _, err := w.Why(t.Context(), report, support.Identity, time.Time{}); code(t, err) != access.CodeNotPermitted {
		t.Error("another agent may look")
	}
	w.sound()
}

func TestErasedValuesLeaveTheLogWhole(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	answer := w.ask(task, 40)
	refused, err := w.Erase(t.Context(), dana, answer.Evidence, []string{"input"}, control.Grounds{})
	check(t, err)
	if refused.Refusal() == nil {
		t.Error("erased without the right")
	}
	done, err := w.Erase(t.Context(), sam, answer.Evidence, []string{"input"}, control.Grounds{Reason: "asked for by the customer"})
	check(t, err)
	if refusal := done.Refusal(); refusal != nil {
		t.Fatal(refusal)
	}
	if _, err := w.ReadGrant(t.Context(), support, answer.Grant.ID); err == nil {
		t.Error("a grant that nobody knows the purpose of can still be read as one's own")
	}
	w.sound()
}

func TestNobodyFloodsApprovers(t *testing.T) {
	w := newWorld(t)
	w.Control = control.New(control.Options{Ledger: ledger{w.store}, Issuer: tokens{}, Engine: "test", NewID: w.newID, Limits: control.Limits{OpenQuestions: 5}})
	w.tell("o-1", "delivered", 5000)
	task := w.open(support, "support")
	for i := range 5 {
		if got := w.ask(task, 900+i).Decided.Outcome; got != access.NeedsApproval {
			t.Fatalf("question %d: %s", i, got)
		}
	}
	_, err := w.Request(t.Context(), support, control.Ask{Task: task, Action: refund, Resource: order1, Args: json.RawMessage(`{"amount":999,"reason":"again"}`)})
	if code(t, err) != access.CodeLimitExceeded {
		t.Error("the approvers' inbox can be filled")
	}
	if w.ask(task, 1).Decided.Outcome != access.Allow {
		t.Error("what needs nobody must not wait for those who wait")
	}
	w.sound()
}
