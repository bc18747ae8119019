package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

func (w *world) approve(caller control.Caller, id string, reply control.Reply) *access.Approval {
	w.t.Helper()
	reply.Approve = true
	answered, err := w.answer(caller, id, reply)
	check(w.t, err)
	return &answered.Approval
}

// answer says something by the card as it is now; without one nothing is said.
func (w *world) answer(caller control.Caller, id string, reply control.Reply) (*control.Answered, error) {
	w.t.Helper()
	var bad *control.Invalid
	if _, err := w.AnswerApproval(w.t.Context(), caller, id, reply); !errors.As(err, &bad) || bad.Kind != control.CardChanged {
		if err == nil {
			w.t.Error("an answer to no card is heard")
		}
		return nil, err
	}
	card, err := w.ReadApproval(w.t.Context(), caller, id, 0)
	if err != nil {
		return nil, err
	}
	reply.Card = card.Receipt
	return w.AnswerApproval(w.t.Context(), caller, id, reply)
}

// withForm has large refunds approved in another form.
func withForm(t *testing.T, files control.Configuration, form string) control.Configuration {
	t.Helper()
	edit(t, files, "policy/access/support.cedar", "looks at it.\")\n@approval(\"team:payments\")", "looks at it.\")\n@approval(\""+form+"\")")
	return files
}

func TestI6_NobodyApprovesTheirOwnRequest(t *testing.T) {
	w := worldOf(t, withForm(t, func() control.Configuration {
		files := gatewaySite(t)
		edit(t, files, "catalog/agents.yaml", "purpose: answers customers", "principal: Human::\"alice\"\n    purpose: answers customers")
		edit(t, files, "catalog/people.yaml", `[Human::"alice", Human::"bob", Human::"eve"]`, `[Human::"alice", Human::"bob", Human::"eve", Human::"dana", Human::"sam"]`)
		return files
	}(), "team:payments"))
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	large := control.Ask{Subject: support.Identity, Task: task, Action: refund, Resource: order1, Args: json.RawMessage(`{"amount":900,"reason":"late"}`)}
	for name, c := range map[string]struct {
		asks   control.Caller
		answer control.Caller
		want   control.InvalidKind
	}{
		"the owner of the agent":                 {support, dana, control.NotEligible},
		"the person it runs for":                 {support, alice, control.NotEligible},
		"the agent":                              {support, support, control.NotEligible},
		"another agent":                          {support, report, control.NotEligible},
		"somebody independent":                   {support, sam, ""},
		"the owner of the gateway, asked direct": {support, bob, ""},
		"the owner of the gateway that asked":    {gateway, bob, control.NotEligible},
		"the gateway":                            {gateway, gateway, control.NotEligible},
		"somebody else, of the gateway":          {gateway, eve, ""},
		"the person who asked for the agent":     {eve, eve, control.NotEligible},
		"the owner of the gateway, asked by eve": {eve, bob, control.NotEligible},
		"somebody else, of eve":                  {eve, sam, ""},
	} {
		t.Run(name, func(t *testing.T) {
			question := must[*control.Answer](t)(w.Request(t.Context(), c.asks, large))
			mine := false
			for _, card := range must[*control.Inbox](t)(w.Inbox(t.Context(), c.answer, false)).Cards {
				mine = mine || card.Approval.ID == question.ID
			}
			if mine != (c.want == "") {
				t.Errorf("in the inbox: %v", mine)
			}
			err := answerOf(w, c.answer, question.ID, control.Reply{Approve: true})
			if c.want == "" {
				check(t, err)
			} else if kind(t, err) != c.want {
				t.Error(err)
			}
			if c.want != "" {
				check(t, answerOf(w, sam, question.ID, control.Reply{}))
			}
		})
	}
	w.sound()
}

func TestI6_OnePersonCountsOnce(t *testing.T) {
	w := worldOf(t, withForm(t, site(t), "2 of team:payments"))
	w.tell("o-1", "delivered", 1200)
	question := w.ask(w.open(support, "support"), 900)
	if got := w.approve(bob, question.ID, control.Reply{TTL: 120}); got.Status != access.ApprovalPending {
		t.Fatalf("one of two: %s", got.Status)
	}
	if kind(t, answerOf(w, bob, question.ID, control.Reply{Approve: true})) != control.AlreadyAnswered {
		t.Error("bob counts twice")
	}
	if got := w.approve(alice, question.ID, control.Reply{TTL: 90}); got.Status != access.ApprovalApproved {
		t.Errorf("two of two: %s", got.Status)
	}
	grant := must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, nil))
	if grant.Grant.ExpiresAt.Sub(w.now) != 90*time.Second {
		t.Error("the grant is not the intersection of the answers")
	}
	w.sound()
}

func TestI6_APersonInTwoRolesIsOnePerson(t *testing.T) {
	files := withForm(t, site(t), "resource-owner") // alice, also one of two in payments
	edit(t, files, "policy/access/support.cedar", "@id(\"refund-within-order\")", `@id("huge-refund")
@owner("Human::\"alice\"")
@because("More than 500.")
@approval("2 of team:payments")
forbid (principal, action == Action::"refund", resource)
when { context.args.amount > 500 };

@id("refund-within-order")`)
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	question := w.ask(task, 900)
	if question.Decided.Code != access.CodeNoEligibleApprover {
		t.Errorf("two people cannot fill three places: %+v", question.Decided)
	}
	one := w.ask(task, 200)
	if got := w.approve(alice, one.ID, control.Reply{}); got.Status != access.ApprovalApproved {
		t.Errorf("%+v", got)
	}
	w.sound()
}

// catalogOf applies the starter's catalog with the payments team changed.
func (w *world) payments(members string) {
	w.t.Helper()
	files := site(w.t)
	edit(w.t, files, "catalog/people.yaml", `members: [Human::"alice", Human::"bob"]`, "members: ["+members+"]")
	for path := range files {
		if strings.HasPrefix(path, "policy/") {
			delete(files, path)
		}
	}
	check(w.t, fails(w.Apply(w.t.Context(), nil, files, nil, false)))
}

func TestI6_WhoMayAnswerIsWhoMayAtThatMoment(t *testing.T) {
	for name, c := range map[string]struct {
		between func(w *world)
		who     control.Caller
		want    control.InvalidKind
	}{
		"suspended": {func(w *world) {
			check(t, fails(w.SetStatus(t.Context(), sam, bob.Identity, access.Suspended, control.Grounds{})))
		}, bob, control.NotEligible},
		"suspended and back": {func(w *world) {
			check(t, fails(w.SetStatus(t.Context(), sam, bob.Identity, access.Suspended, control.Grounds{})))
			check(t, fails(w.SetStatus(t.Context(), sam, bob.Identity, access.Active, control.Grounds{})))
		}, bob, ""},
		"left the team":   {func(w *world) { w.payments(`Human::"alice"`) }, bob, control.NotEligible},
		"joined the team": {func(w *world) { w.payments(`Human::"alice", Human::"sam"`) }, sam, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.tell("o-1", "delivered", 1200)
			question := w.ask(w.open(support, "support"), 900)
			h := w.meddled()
			if c.want == "" {
				c.between(w)
				check(t, answerOf(w, c.who, question.ID, control.Reply{Approve: true}))
			} else {
				seen := w.card(c.who, question.ID).Receipt
				h.between = func() { c.between(w) } // while the answer is being recorded
				if _, err := w.AnswerApproval(t.Context(), c.who, question.ID, control.Reply{Approve: true, Card: seen}); kind(t, err) != c.want {
					t.Error(err)
				}
			}
			w.sound()
		})
	}
}

func TestI6_AYesOfSomebodyWhoLeftDoesNotCountTowardsTwo(t *testing.T) {
	files := withForm(t, site(t), "2 of team:payments")
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 1200)
	question := w.ask(w.open(support, "support"), 900)
	w.approve(bob, question.ID, control.Reply{})
	w.payments(`Human::"alice", Human::"sam"`)
	if got := w.approve(alice, question.ID, control.Reply{}); got.Status != access.ApprovalPending {
		t.Errorf("bob has left, and alice is one: %s", got.Status)
	}
	if got := w.approve(sam, question.ID, control.Reply{}); got.Status != access.ApprovalApproved {
		t.Errorf("alice and sam are two: %s", got.Status)
	}
	w.sound()
}

func TestI6_DenialsAndTimeoutsAreToldApart(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	denied, silent, late, used := w.ask(task, 900), w.ask(task, 901), w.ask(task, 902), w.ask(task, 903)
	redeem := func(id string) access.Code {
		t.Helper()
		return code(t, fails(w.Redeem(t.Context(), support, id, nil)))
	}
	check(t, answerOf(w, bob, denied.ID, control.Reply{Reason: "not like this"}))
	if got := redeem(denied.ID); got != access.CodeApprovalDenied {
		t.Errorf("denied: %s", got)
	}
	if kind(t, answerOf(w, alice, denied.ID, control.Reply{Approve: true})) != control.WrongState {
		t.Error("a denial was overruled")
	}
	w.approve(bob, used.ID, control.Reply{})
	if got := must[*control.Answer](t)(w.Redeem(t.Context(), support, used.ID, nil)); got.Grant == nil {
		t.Fatalf("%+v", got.Decided)
	}
	if got := redeem(used.ID); got != access.CodeApprovalExpired {
		t.Errorf("used: %s", got)
	}
	w.now = w.now.Add(access.QuestionLife - time.Second)
	if got := redeem(silent.ID); got != access.CodeApprovalRequired {
		t.Errorf("not answered yet: %s", got)
	}
	w.approve(bob, late.ID, control.Reply{})
	w.now = w.now.Add(time.Second)
	if got := redeem(silent.ID); got != access.CodeApprovalExpired {
		t.Errorf("not answered in time: %s", got)
	}
	if kind(t, answerOf(w, bob, silent.ID, control.Reply{Approve: true})) != control.WrongState {
		t.Error("answered after the end")
	}
	if card := must[*control.Card](t)(w.ReadApproval(t.Context(), bob, silent.ID, time.Hour)); card.Approval.Status != access.ApprovalExpired {
		t.Errorf("nobody has swept yet, and it reads %s", card.Approval.Status)
	}
	w.now = w.now.Add(access.ApprovalLife - time.Second)
	if got := redeem(late.ID); got != access.CodeApprovalExpired {
		t.Errorf("the yes ran out: %s", got)
	}
	if cards := must[*control.Inbox](t)(w.Inbox(t.Context(), bob, false)).Cards; len(cards) != 0 {
		t.Errorf("the inbox holds %d old questions", len(cards))
	}
	w.sound()
}

func TestI6_OnlyWhoeverAskedRedeems(t *testing.T) {
	w := worldOf(t, gatewaySite(t))
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	question := w.ask(task, 900)
	w.approve(alice, question.ID, control.Reply{})
	var texts []string
	for name, id := range map[string]string{"of somebody else": question.ID, "not there": "00000999"} {
		for _, caller := range []control.Caller{report, gateway, bob} {
			_, err := w.Redeem(t.Context(), caller, id, nil)
			if kind(t, err) != control.NotYours {
				t.Errorf("%s: %v", name, err)
			}
			texts = append(texts, strings.ReplaceAll(err.Error(), id, "ID"))
		}
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("the words tell what is there: %q, %q", text, texts[0])
		}
	}
	passed := must[*control.Answer](t)(w.Request(t.Context(), gateway, control.Ask{
		Subject: support.Identity, Task: task, Action: refund, Resource: order1, Args: json.RawMessage(`{"amount":200,"reason":"late"}`),
	}))
	card := must[*control.Card](t)(w.ReadApproval(t.Context(), gateway, passed.ID, 0))
	if card.Approval.Status != access.ApprovalPending || len(card.Decided.Requires) != 0 {
		t.Errorf("what the gateway that asked sees: %+v", card)
	}
	w.approve(alice, passed.ID, control.Reply{})
	if _, err := w.Redeem(t.Context(), support, passed.ID, nil); kind(t, err) != control.NotYours {
		t.Error("the subject redeemed what the gateway asked for")
	}
	if got := must[*control.Answer](t)(w.Redeem(t.Context(), gateway, passed.ID, nil)); got.Grant == nil {
		t.Errorf("%+v", got.Decided)
	}
	if _, err := w.Request(t.Context(), gateway, control.Ask{Subject: report.Identity, Task: task, Action: refund, Resource: order1}); kind(t, err) != control.NotEnforcementPoint {
		t.Error("the gateway asks for anybody")
	}
	w.sound()
}

func TestI6_AYesCoversOnlyWhatWasOnTheCard(t *testing.T) {
	policy := func(from, to string) func(w *world) {
		return func(w *world) {
			files := site(w.t)
			edit(w.t, files, "policy/access/support.cedar", from, to)
			check(w.t, fails(w.Apply(w.t.Context(), nil, files, nil, false)))
		}
	}
	for name, c := range map[string]struct {
		change  func(w *world)
		outcome access.Outcome
		code    access.Code
	}{
		"nothing changed":           {func(*world) {}, access.Allow, ""},
		"the policy's text changed": {policy("somebody in payments looks", "a person in payments looks"), access.NeedsApproval, access.CodeApprovalRequired},
		"another policy changed":    {policy("The order has been refunded already.", "It was refunded."), access.Allow, ""},
		"the policy is gone":        {policy("context.args.amount > 100 }", "context.args.amount > 1000 }"), access.Allow, ""},
		"a new forbid":              {policy("context.args.amount > resource.total }", "context.args.amount > 500 }"), access.Deny, access.CodeForbidden},
		"no permit any more":        {policy("context.args.amount > 0 }", "context.args.amount < 0 }"), access.Deny, access.CodeNotPermitted},
		"the facts changed":         {func(w *world) { w.tell("o-1", "refunded", 1200) }, access.Deny, access.CodeForbidden},
		"the risk is higher":        {func(w *world) { w.tell("o-1", "delivered", 901) }, access.NeedsApproval, access.CodeApprovalRequired},
		"the facts are stale":       {func(w *world) { w.now = w.now.Add(16 * time.Minute) }, access.Deny, access.CodePolicyError},
		"the task is over":          {func(w *world) { check(t, fails(w.RevokeTask(t.Context(), sam, "00000001", control.Grounds{}))) }, access.Deny, access.CodeTaskEnded},
		"the requester is suspended": {func(w *world) {
			check(t, fails(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{})))
		}, access.Deny, access.CodeIdentitySuspended},
		"two more refunds, risk below": {func(w *world) { w.ask("00000001", 1); w.ask("00000001", 1) }, access.Allow, ""},
		"risky by velocity":            {func(w *world) { w.ask("00000001", 1); w.ask("00000001", 1); w.ask("00000001", 1) }, access.NeedsApproval, access.CodeApprovalRequired},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.tell("o-1", "delivered", 1200)
			question := w.ask(w.open(support, "support"), 900)
			w.approve(bob, question.ID, control.Reply{})
			c.change(w)
			got := must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, nil))
			if got.Decided.Outcome != c.outcome || got.Decided.Code != c.code {
				t.Errorf("%s %s, want %s %s", got.Decided.Outcome, got.Decided.Code, c.outcome, c.code)
			}
			if (got.Credential != nil) != (c.outcome == access.Allow) {
				t.Error("a credential without a grant, or the reverse")
			}
			w.sound()
		})
	}
}

func TestI6_ARequestThatNowRunsForSomebodyElseIsAskedAnew(t *testing.T) {
	w := worldOf(t, principalSite(t))
	w.tell("o-1", "delivered", 1200)
	question := w.ask(w.open(support, "support"), 900)
	w.approve(bob, question.ID, control.Reply{})
	files := principalSite(t)
	edit(t, files, "catalog/agents.yaml", `principal: Human::"alice"`, `principal: Human::"bob"`)
	check(t, fails(w.Apply(t.Context(), nil, files, nil, false)))
	if got := must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, nil)); got.Decided.Code != access.CodePrincipalMismatch || got.Credential != nil {
		t.Errorf("bob approved what now runs for bob: %+v", got.Decided)
	}
	w.sound()
}

func TestI6_ARedemptionIsOneThoughTwoAskAtOnce(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	question := w.ask(w.open(support, "support"), 900)
	w.approve(bob, question.ID, control.Reply{})
	h := w.meddled()
	h.between = func() { check(t, fails(w.Redeem(t.Context(), support, question.ID, nil))) }
	if _, err := w.Redeem(t.Context(), support, question.ID, nil); code(t, err) != access.CodeApprovalExpired {
		t.Error("one approval made two grants")
	}
	w.sound()
}

func approvedTasks(t *testing.T) control.Configuration {
	t.Helper()
	files := site(t)
	files["policy/access/tasks.cedar"] = []byte(`
@id("support-is-agreed")
@owner("Human::\"sam\"")
@because("Somebody in payments knows of every support task.")
@approval("team:payments")
forbid (principal, action == Writ::Action::"open_task", resource == Writ::TaskType::"support");
`)
	return files
}

func TestI6_ATaskIsOpenedByAnApproval(t *testing.T) {
	w := worldOf(t, approvedTasks(t))
	opening := control.Opening{Type: "support", Purpose: "a customer complains", Reference: "T-7", Idempotency: &control.Idempotency{Key: "k"}}
	question := must[*control.Answer](t)(w.OpenTask(t.Context(), support, opening))
	if again := must[*control.Answer](t)(w.OpenTask(t.Context(), support, opening)); again.ID != question.ID || !again.Repeated || again.Refusal().Approval != question.ID {
		t.Errorf("%+v", again)
	}
	cards := must[*control.Inbox](t)(w.Inbox(t.Context(), bob, false)).Cards
	if len(cards) != 1 || cards[0].Purpose.Reference != "T-7" {
		t.Fatalf("%+v", cards)
	}
	w.approve(bob, question.ID, control.Reply{TTL: 600})
	if _, err := w.Redeem(t.Context(), report, question.ID, nil); kind(t, err) != control.NotYours {
		t.Error("somebody else opened the task")
	}
	opened := must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, nil))
	if opened.Task == nil || opened.Task.ExpiresAt.Sub(w.now) != 10*time.Minute {
		t.Fatalf("the answer narrowed the task to ten minutes: %+v", opened.Task)
	}
	if view := must[*control.TaskView](t)(w.ReadTask(t.Context(), support, opened.Task.ID)); view.Purpose.Reference != "T-7" {
		t.Errorf("%+v", view)
	}
	if _, err := w.Redeem(t.Context(), support, question.ID, nil); code(t, err) != access.CodeApprovalExpired {
		t.Error("opened twice")
	}
	w.sound()
}

func TestI6_ResumingAnApprovedTask(t *testing.T) {
	w := worldOf(t, approvedTasks(t))
	question := must[*control.Answer](t)(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x"}))
	w.approve(bob, question.ID, control.Reply{})
	task := must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, nil)).Task
	if task.ExpiresAt.Sub(w.now) != access.ApprovalLife {
		t.Errorf("the task lives for %s, longer than the approval", task.ExpiresAt.Sub(w.now))
	}
	check(t, fails(w.PauseTask(t.Context(), support, task.ID)))
	resumed := must[*control.Answer](t)(w.ResumeTask(t.Context(), support, task.ID))
	if resumed.Task == nil || resumed.Decided.Outcome != access.Allow {
		t.Fatalf("under an approval that is alive: %+v", resumed.Decided)
	}
	w.sound()
}

func TestI6_AResumptionThatPeopleMustAgreeToIsRedeemed(t *testing.T) {
	w := worldOf(t, heartbeatSite(t))
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ok(support, under(task, "", read, access.Use, 0))
	check(t, fails(w.PauseTask(t.Context(), support, task)))
	check(t, fails(w.Apply(t.Context(), nil, approvedTasks(t), nil, false)))
	asked := must[*control.Answer](t)(w.ResumeTask(t.Context(), support, task))
	if asked.Decided.Outcome != access.NeedsApproval || asked.Approval == nil || w.live(support, grant.ID) {
		t.Fatalf("%+v", asked.Decided)
	}
	w.now = w.now.Add(4 * time.Minute)
	w.approve(bob, asked.ID, control.Reply{})
	if _, err := w.Redeem(t.Context(), report, asked.ID, nil); kind(t, err) != control.NotYours {
		t.Error("somebody else resumed the task")
	}
	resumed := must[*control.Answer](t)(w.Redeem(t.Context(), support, asked.ID, nil))
	if resumed.Decided.Outcome != access.Allow || resumed.Task == nil || !w.live(support, grant.ID) {
		t.Fatalf("%+v", resumed.Decided)
	}
	if _, err := w.Redeem(t.Context(), support, asked.ID, nil); err == nil {
		t.Error("resumed twice")
	}
	w.sound()
}

func TestI6_AnActIsApprovedForExactlyItsContent(t *testing.T) {
	governed := func(ttl string) control.Configuration {
		files := site(t)
		files["policy/access/policies.cedar"] = []byte(`
@id("two-for-policies")
@owner("Human::\"sam\"")
@because("What decides is decided by two.")
@approval("2 of team:payments")
forbid (principal, action == Writ::Action::"activate_policy", resource);
`)
		edit(t, files, "policy/access/reports.cedar", `@max_ttl("10m")`, `@max_ttl("`+ttl+`")`)
		return files
	}
	w := worldOf(t, governed("10m"))
	apply := func(files control.Configuration, approval string) (*control.Applied, error) {
		return w.Apply(t.Context(), &sam, files, map[string]string{access.ActActivatePolicy: approval}, false)
	}
	asked := must[*control.Applied](t)(apply(governed("9m"), ""))
	before := asked.Bundle
	if len(asked.Answers) != 1 || asked.Answers[0].Decided.Outcome != access.NeedsApproval || asked.Former != "" {
		t.Fatalf("%+v", asked)
	}
	id := asked.Answers[0].ID
	if _, err := apply(governed("9m"), id); code(t, err) != access.CodeApprovalRequired {
		t.Error("applied before the answers")
	}
	w.approve(bob, id, control.Reply{})
	w.approve(alice, id, control.Reply{})
	if _, err := apply(governed("24h"), id); kind(t, err) != control.NotYours {
		t.Error("another bundle under the same approval")
	}
	if _, err := w.Apply(t.Context(), &sam, governed("9m"), map[string]string{access.ActActivatePolicy: "none"}, false); kind(t, err) != control.NotYours {
		t.Error("an approval that is not there")
	}
	if _, err := w.Redeem(t.Context(), sam, id, nil); kind(t, err) != control.WrongState {
		t.Error("an act was redeemed like a request")
	}
	done := must[*control.Applied](t)(apply(governed("9m"), id))
	if done.Bundle == before || done.Former != before || done.Answers[0].Evidence == 0 {
		t.Errorf("%+v", done)
	}
	if _, err := apply(governed("10m"), id); kind(t, err) != control.NotYours {
		t.Error("the approval brought the former bundle back")
	}
	w.sound()
}

func TestI6_TheDigestMustBeInTheSchemaForAnActToBeApproved(t *testing.T) {
	files := site(t)
	edit(t, files, "policy/schema.cedarschema", `principal: [Human], resource: [Installation], context: { args: { digest: String } }
`, "principal: [Human], resource: [Installation]\n")
	files["policy/access/policies.cedar"] = []byte(`
@id("one-for-policies")
@owner("Human::\"sam\"")
@because("What decides is decided by two.")
@approval("team:payments")
forbid (principal, action == Writ::Action::"activate_policy", resource);
`)
	w := worldOf(t, files)
	edit(t, files, "policy/access/reports.cedar", `@max_ttl("10m")`, `@max_ttl("9m")`)
	asked := must[*control.Applied](t)(w.Apply(t.Context(), &sam, files, nil, false))
	id := asked.Answers[0].ID
	w.approve(bob, id, control.Reply{})
	_, err := w.Apply(t.Context(), &sam, files, map[string]string{access.ActActivatePolicy: id}, false)
	if kind(t, err) != control.WrongState {
		t.Errorf("an approval without content covers any bundle: %v", err)
	}
	w.sound()
}

func TestReadingAQuestionWaitsForItsAnswer(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	question := w.ask(task, 900)
	waiting := make(chan *control.Card, 3)
	for range 3 {
		go func() {
			card, err := w.ReadApproval(t.Context(), support, question.ID, time.Hour)
			if err != nil {
				t.Error(err)
			}
			waiting <- card
		}()
	}
	w.approve(bob, question.ID, control.Reply{})
	for range 3 {
		if card := <-waiting; card.Approval.Status != access.ApprovalApproved {
			t.Errorf("woken for %s", card.Approval.Status)
		}
	}
	second := w.ask(task, 901)
	if card := must[*control.Card](t)(w.ReadApproval(t.Context(), support, second.ID, time.Nanosecond)); card.Approval.Status != access.ApprovalPending {
		t.Errorf("after the wait: %s", card.Approval.Status)
	}
	h := w.meddled()
	ctx, cancel := context.WithCancel(t.Context())
	h.read = func(nth int) {
		if nth == 2 { // it looked again, and waits from here
			cancel()
		}
	}
	if card, err := w.ReadApproval(ctx, support, second.ID, time.Hour); err != nil || card.Approval.Status != access.ApprovalPending {
		t.Errorf("when the caller goes away: %+v, %v", card, err)
	}
	looked := make(chan struct{})
	h.reads = 0
	h.read = func(nth int) {
		if nth == 2 {
			close(looked)
		}
	}
	go func() {
		card, err := w.ReadApproval(t.Context(), support, second.ID, time.Hour)
		if err != nil {
			t.Error(err)
		}
		waiting <- card
	}()
	<-looked
	w.now = w.now.Add(access.QuestionLife)
	check(t, fails(w.Sweep(t.Context())))
	if card := <-waiting; card.Approval.Status != access.ApprovalExpired {
		t.Errorf("woken for %s", card.Approval.Status)
	}
	w.sound()
}

func TestI6_TheOwnerOfAResourceDoesNotApproveWhatTheirOwnGatewayAskedFor(t *testing.T) {
	files := withForm(t, gatewaySite(t), "resource-owner")
	edit(t, files, "catalog/gateway.yaml", "  - identity: Workload::\"gateway\"\n    owner: Human::\"bob\"", "  - identity: Workload::\"gateway\"\n    owner: Human::\"alice\"")
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 1200)
	large := control.Ask{Subject: support.Identity, Task: w.open(support, "support"), Action: refund, Resource: order1, Args: json.RawMessage(`{"amount":900,"reason":"late"}`)}
	w.refused(gateway, large, access.CodeNoEligibleApprover)
	direct := must[*control.Answer](t)(w.Request(t.Context(), support, large))
	if got := w.approve(alice, direct.ID, control.Reply{}); got.Status != access.ApprovalApproved {
		t.Errorf("asked by the agent itself: %+v", got)
	}
	w.sound()
}

func TestI6_RevokingUnderAnApprovalEndsExactlyThat(t *testing.T) {
	files := site(t)
	files["policy/access/revoking.cedar"] = []byte(`
@id("one-for-revoking")
@owner("Human::\"sam\"")
@because("Stopping an agent stops its customers' cases.")
@approval("team:payments")
forbid (principal, action in [Writ::Action::"revoke", Writ::Action::"suspend"], resource);
`)
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	one, other := w.ask(task, 1), w.ask(task, 2)
	asked := must[*control.Answer](t)(w.RevokeGrant(t.Context(), dana, one.Grant.ID, control.Grounds{}))
	if asked.Decided.Outcome != access.NeedsApproval || !w.live(support, one.Grant.ID) {
		t.Fatalf("%+v", asked.Decided)
	}
	w.approve(bob, asked.ID, control.Reply{})
	if _, err := w.RevokeGrant(t.Context(), dana, other.Grant.ID, control.Grounds{Approval: asked.ID}); kind(t, err) != control.NotYours {
		t.Error("one yes ended another grant")
	}
	done := must[*control.Answer](t)(w.RevokeGrant(t.Context(), dana, one.Grant.ID, control.Grounds{Approval: asked.ID}))
	if done.Decided.Outcome != access.Allow || w.live(support, one.Grant.ID) || !w.live(support, other.Grant.ID) {
		t.Errorf("%+v", done.Decided)
	}
	question := must[*control.Answer](t)(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{}))
	w.approve(alice, question.ID, control.Reply{})
	suspended := must[*control.Answer](t)(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{Approval: question.ID}))
	if suspended.Decided.Outcome != access.Allow || w.live(dana, other.Grant.ID) {
		t.Errorf("%+v", suspended.Decided)
	}
	w.sound()
}
