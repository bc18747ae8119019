package control_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// gateway is an enforcement point for the support agent; bob answers for it. It may also ask by a human, eve.
var (
	gateway = control.Caller{Identity: access.MustRef(`Workload::"gateway"`)}
	eve     = control.Caller{Identity: access.MustRef(`Human::"eve"`)}
)

func gatewaySite(t *testing.T) control.Configuration {
	t.Helper()
	files := site(t)
	files["catalog/gateway.yaml"] = []byte(`
identities:
  - id: Workload::"gateway"
    owner: Human::"bob"
    purpose: passes requests on
    review_by: 2027-12-31
  - id: Human::"eve"
enforcement_points:
  - identity: Workload::"gateway"
    owner: Human::"bob"
    subjects: [Agent::"support-bot"]
  - identity: Human::"eve"
    owner: Human::"bob"
    subjects: [Agent::"support-bot"]
`)
	edit(t, files, "catalog/people.yaml", `members: [Human::"alice", Human::"bob"]`, `members: [Human::"alice", Human::"bob", Human::"eve"]`)
	return files
}

func under(task, parent string, action access.Ref, mode access.Mode, ttl access.Seconds) control.Ask {
	ask := control.Ask{Task: task, Parent: parent, Action: action, Resource: order1, Mode: mode, TTL: ttl}
	if action == refund {
		ask.Args = json.RawMessage(`{"amount":5,"reason":"late"}`)
	}
	return ask
}

func (w *world) ok(caller control.Caller, ask control.Ask) *control.Answer {
	w.t.Helper()
	answer, err := w.Request(w.t.Context(), caller, ask)
	check(w.t, err)
	if answer.Decided.Outcome != access.Allow {
		w.t.Fatalf("not allowed: %+v", answer.Decided)
	}
	return answer
}

func TestI3_AChildIsNoMoreThanItsParent(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	parent := w.ok(support, under(task, "", read, access.Use, 60))
	child := w.ok(support, under(task, parent.ID, read, access.Use, 0))
	if child.Grant.ExpiresAt.After(parent.Grant.ExpiresAt) || child.Grant.Depth != 1 {
		t.Errorf("the child is more than its parent: %+v", child.Grant)
	}
	w.refused(support, under(task, parent.ID, refund, access.Use, 0), access.CodeExceedsParent)
	w.refused(support, under(task, parent.ID, read, access.Delegate, 0), access.CodeExceedsParent)

	ceiling := w.ok(support, under(task, "", read, access.Delegate, 0))
	if ceiling.Credential != nil {
		t.Error("the right to lend came with a credential to use")
	}
	w.refused(support, under(task, ceiling.ID, read, access.Use, 0), access.CodeExceedsParent)

	reports := w.open(report, "report")
	_, err := w.Request(t.Context(), report, under(reports, parent.ID, read, access.Use, 0))
	other := kind(t, err)
	_, err = w.Request(t.Context(), report, under(reports, "none", read, access.Use, 0))
	if none := kind(t, err); other != control.NotYours || none != other {
		t.Errorf("somebody else's grant is told from none: %s, %s", other, none)
	}

	check(t, fails(w.RevokeGrant(t.Context(), support, parent.ID, control.Grounds{})))
	if w.live(support, child.ID) {
		t.Error("the child outlived its parent")
	}
	w.refused(support, under(task, child.ID, read, access.Use, 0), access.CodeParentRevoked)
	w.sound()
}

func TestI3_ChainsHaveAnEnd(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	parent := ""
	for range access.MaxDepth + 1 {
		parent = w.ok(support, under(task, parent, read, access.Use, 0)).ID
	}
	w.refused(support, under(task, parent, read, access.Use, 0), access.CodeDepthExceeded)
	w.sound()
}

func TestI3_UsesOfAChildCountAtItsParent(t *testing.T) {
	files := gatewaySite(t)
	edit(t, files, "policy/schema.cedarschema", "action read_order appliesTo", "@uses(\"counted\")\naction read_order appliesTo")
	edit(t, files, "policy/access/support.cedar", "@id(\"support-reads-orders\")", "@id(\"support-reads-orders\")\n@max_uses(\"2\")")
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	parent := w.ok(support, under(task, "", read, access.Use, 0))
	left := w.ok(support, under(task, parent.ID, read, access.Use, 0))
	right := w.ok(support, under(task, parent.ID, read, access.Use, 0))
	if parent.Grant.MaxUses != 2 || left.Grant.MaxUses != 2 {
		t.Fatalf("%+v", left.Grant)
	}
	done := control.Done{Status: "succeeded", Detail: json.RawMessage(`{"bytes":12}`)}
	check(t, fails(w.ReportAction(t.Context(), support, left.ID, done))) // what was done is a record, and counts nothing
	check(t, fails(w.ReportAction(t.Context(), gateway, left.ID, done)))
	for _, id := range []string{left.ID, right.ID} {
		if !w.live(support, right.ID) || !w.live(support, parent.ID) {
			t.Errorf("before %s: a use was counted that nobody asked for", id)
		}
		check(t, fails(w.CountUse(t.Context(), gateway, id)))
	}
	var refused *control.Refusal
	if _, err := w.CountUse(t.Context(), gateway, left.ID); !errors.As(err, &refused) || refused.Code != access.CodeParentRevoked || refused.Evidence == 0 {
		t.Errorf("a use more than the parent has: %v", err)
	}
	for _, who := range []control.Caller{support, report} {
		if _, err := w.CountUse(t.Context(), who, left.ID); kind(t, err) != control.NotYours {
			t.Errorf("%s counted a use", who.Identity)
		}
	}
	for name, id := range map[string]string{"parent": parent.ID, "left": left.ID, "right": right.ID} {
		if w.live(support, id) {
			t.Errorf("%s is alive: two children multiplied two uses", name)
		}
	}
	if _, err := w.ReportAction(t.Context(), report, left.ID, done); kind(t, err) != control.NotYours {
		t.Error("a stranger reported")
	}
	w.sound()
}

func TestI4_NothingOutlivesWhatItDependsOn(t *testing.T) {
	files := site(t)
	edit(t, files, "policy/access/support.cedar", "@max_ttl(\"15m\")\n@until(\"2027-12-31\")", "@max_ttl(\"15m\")\n@until(\"2026-03-01\")")
	w := worldOf(t, files)
	w.now = time.Date(2026, 3, 1, 23, 50, 0, 0, time.UTC)
	w.tell("o-1", "delivered", 120)
	opened := must[*control.Answer](t)(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x", Duration: 600}))
	task := opened.Task.ID
	midnight := w.now.Add(10 * time.Minute)
	for name, c := range map[string]struct {
		ask  control.Ask
		want time.Duration
	}{
		"default":              {under(task, "", read, access.Use, 0), access.DefaultTTL.Duration()},
		"less is wanted":       {under(task, "", read, access.Use, 7), 7 * time.Second},
		"more than the policy": {under(task, "", refund, access.Use, 86400), 5 * time.Minute},
		"the most":             {under(task, "", refund, access.Use, 366*86400), 5 * time.Minute},
		"the end of a policy":  {under(task, "", read, access.Use, 900), 10 * time.Minute},
	} {
		if got := w.ok(support, c.ask); got.Grant.ExpiresAt.Sub(w.now) != c.want || !got.Credential.ExpiresAt.Equal(got.Grant.ExpiresAt) {
			t.Errorf("%s: for %s", name, got.Grant.ExpiresAt.Sub(w.now))
		}
	}
	for _, overflow := range []access.Seconds{-1, 366*86400 + 1, 1 << 62} {
		if _, err := w.Request(t.Context(), support, under(task, "", refund, access.Use, overflow)); kind(t, err) != control.InvalidArgument {
			t.Errorf("for %d seconds: %v", overflow, err)
		}
	}
	w.now = midnight.Add(-time.Minute)
	w.tell("o-1", "delivered", 120)
	if last := w.ok(support, under(task, "", refund, access.Use, 0)); !last.Grant.ExpiresAt.Equal(opened.Task.ExpiresAt) {
		t.Error("a grant outlives its task")
	}
	w.now = midnight
	w.refused(support, under(task, "", read, access.Use, 0), access.CodeTaskEnded)
	later := w.open(support, "support")
	w.refused(support, under(later, "", read, access.Use, 0), access.CodeNotPermitted)
	w.sound()
}

func TestI4_RenewingIsDecidedAnewAndReplaces(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	opened := must[*control.Answer](t)(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x", Duration: 420}))
	grant := w.ok(support, under(opened.Task.ID, "", refund, access.Use, 0))
	w.now = w.now.Add(4 * time.Minute)
	renewed := must[*control.Answer](t)(w.Renew(t.Context(), support, grant.ID, 0, &control.Idempotency{Key: "k"}))
	if renewed.ID == grant.ID || w.live(support, grant.ID) || !w.live(support, renewed.ID) || !renewed.Grant.ExpiresAt.Equal(opened.Task.ExpiresAt) {
		t.Errorf("%+v", renewed.Grant)
	}
	again := must[*control.Answer](t)(w.Renew(t.Context(), support, grant.ID, 0, &control.Idempotency{Key: "k"}))
	if again.ID != renewed.ID || !again.Repeated {
		t.Error("a repeated renewal is another one")
	}
	if _, err := w.Renew(t.Context(), support, grant.ID, 0, nil); kind(t, err) != control.WrongState {
		t.Error("an ended grant was renewed")
	}
	if _, err := w.Renew(t.Context(), report, again.Grant.ID, 0, nil); kind(t, err) != control.NotYours {
		t.Error("somebody else renewed")
	}
	if _, err := w.Renew(t.Context(), support, "none", 0, nil); kind(t, err) != control.NotYours {
		t.Error("a grant that is not there was renewed")
	}
	w.tell("o-1", "refunded", 120)
	denied := must[*control.Answer](t)(w.Renew(t.Context(), support, again.Grant.ID, 0, nil))
	if denied.Decided.Code != access.CodeForbidden || !w.live(support, again.Grant.ID) {
		t.Errorf("a refused renewal: %+v", denied.Decided)
	}
	w.sound()
}

func TestI4_RenewingWhatPeopleApprovedAsksThemAgain(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	question := w.ask(task, 900)
	check(t, answerOf(w, bob, question.ID, control.Reply{Approve: true}))
	grant := must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, nil))
	renewed := must[*control.Answer](t)(w.Renew(t.Context(), support, grant.ID, 0, nil))
	if renewed.Decided.Outcome != access.NeedsApproval || !w.live(support, grant.ID) {
		t.Errorf("%+v", renewed.Decided)
	}
	w.sound()
}

func TestI4_PausingStopsNoClock(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ok(support, under(task, "", read, access.Use, 300))
	check(t, fails(w.PauseTask(t.Context(), support, task)))
	if again := must[*control.Answer](t)(w.PauseTask(t.Context(), support, task)); !again.Repeated {
		t.Error("pausing twice is two steps")
	}
	if w.live(support, grant.ID) {
		t.Error("a paused task carries a live grant")
	}
	w.refused(support, under(task, "", read, access.Use, 0), access.CodeTaskEnded)
	w.now = w.now.Add(299 * time.Second)
	check(t, fails(w.ResumeTask(t.Context(), support, task)))
	if !w.live(support, grant.ID) {
		t.Error("a grant did not come back with its task")
	}
	if _, err := w.ResumeTask(t.Context(), support, task); code(t, err) != access.CodeTaskEnded {
		t.Error("an open task was resumed")
	}
	w.now = w.now.Add(time.Second)
	if w.live(support, grant.ID) {
		t.Error("the pause stopped the clock")
	}
	check(t, fails(w.PauseTask(t.Context(), support, task)))
	w.now = w.now.Add(2 * time.Hour)
	if _, err := w.ResumeTask(t.Context(), support, task); code(t, err) != access.CodeTaskEnded {
		t.Error("an expired task was resumed")
	}
	w.sound()
}

func heartbeatSite(t *testing.T) control.Configuration {
	t.Helper()
	files := site(t)
	edit(t, files, "catalog/agents.yaml", "max_duration: 2h", "max_duration: 2h\n    heartbeat: 5m")
	return files
}

func TestI5_SilenceEndsATask(t *testing.T) {
	w := worldOf(t, heartbeatSite(t))
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ok(support, under(task, "", read, access.Use, 900))
	w.now = w.now.Add(4 * time.Minute)
	check(t, fails(w.Heartbeat(t.Context(), support, task)))
	w.now = w.now.Add(5*time.Minute - time.Second)
	if !w.live(support, grant.ID) {
		t.Error("the heartbeat kept nothing alive")
	}
	w.now = w.now.Add(time.Second)
	if w.live(support, grant.ID) {
		t.Error("silence did not end the task")
	}
	if _, err := w.Heartbeat(t.Context(), support, task); code(t, err) != access.CodeTaskEnded {
		t.Error("a late heartbeat brought the task back")
	}
	if _, err := w.PauseTask(t.Context(), support, task); code(t, err) != access.CodeTaskEnded {
		t.Error("pausing hides that the heartbeat was lost")
	}
	if _, err := w.ResumeTask(t.Context(), support, task); code(t, err) != access.CodeTaskEnded {
		t.Error("resuming brought the task back")
	}
	view := must[*control.TaskView](t)(w.ReadTask(t.Context(), support, task))
	if view.Task.Status != access.TaskEnded || view.Task.Reason != access.EndHeartbeatLost {
		t.Errorf("%+v", view.Task)
	}
	check(t, fails(w.Sweep(t.Context())))
	if _, err := w.Heartbeat(t.Context(), report, task); kind(t, err) != control.NotYours {
		t.Error("somebody else's heartbeat")
	}
	w.sound()
}

func TestI5_AResumedTaskIsNotEndedForItsSilenceWhilePaused(t *testing.T) {
	w := worldOf(t, heartbeatSite(t))
	task := w.open(support, "support")
	check(t, fails(w.PauseTask(t.Context(), support, task)))
	w.now = w.now.Add(time.Hour)
	check(t, fails(w.ResumeTask(t.Context(), support, task)))
	check(t, fails(w.Sweep(t.Context())))
	if _, err := w.Heartbeat(t.Context(), support, task); err != nil {
		t.Errorf("the task is over: %v", err)
	}
	w.sound()
}

// endings are the ways in which everything below is dead at once.
func endings() map[string]struct {
	end  func(w *world, task, grant string) error
	code access.Code // what the next request of the identity is told
} {
	type ending = struct {
		end  func(w *world, task, grant string) error
		code access.Code
	}
	status := func(caller control.Caller, who access.Ref) func(w *world, task, grant string) error {
		return func(w *world, _, _ string) error {
			return fails(w.SetStatus(w.t.Context(), caller, who, access.Suspended, control.Grounds{Reason: "now"}))
		}
	}
	return map[string]ending{
		"task completed": {func(w *world, task, _ string) error { return fails(w.CompleteTask(w.t.Context(), support, task)) }, access.CodeTaskEnded},
		"task revoked": {func(w *world, task, _ string) error {
			return fails(w.RevokeTask(w.t.Context(), sam, task, control.Grounds{}))
		}, access.CodeTaskEnded},
		"task paused": {func(w *world, task, _ string) error { return fails(w.PauseTask(w.t.Context(), support, task)) }, access.CodeTaskEnded},
		"grant revoked": {func(w *world, _, grant string) error {
			return fails(w.RevokeGrant(w.t.Context(), dana, grant, control.Grounds{}))
		}, access.CodeParentRevoked},
		"agent suspended": {status(dana, support.Identity), access.CodeIdentitySuspended},
		"owner suspended": {status(sam, dana.Identity), access.CodeOwnerMissing},
		"human suspended": {status(sam, alice.Identity), access.CodeIdentitySuspended},
	}
}

// principalSite has the support agent run for alice.
func principalSite(t testing.TB) control.Configuration {
	t.Helper()
	files := site(t)
	edit(t, files, "catalog/agents.yaml", "purpose: answers customers", "principal: Human::\"alice\"\n    purpose: answers customers")
	edit(t, files, "catalog/people.yaml", `  - id: Human::"sam" `, "  - id: Human::\"carol\"\n  - id: Human::\"sam\" ")
	return files
}

func TestI5_EndingEndsEverythingAlsoWhatIsBeingDecided(t *testing.T) {
	for name, e := range endings() {
		t.Run(name, func(t *testing.T) {
			w := worldOf(t, principalSite(t))
			w.tell("o-1", "delivered", 120)
			task := w.open(support, "support")
			parent := w.ok(support, under(task, "", read, access.Use, 0))
			child := w.ok(support, under(task, parent.ID, read, access.Use, 0))
			h := w.meddled()
			h.between = func() { check(t, e.end(w, task, parent.ID)) }
			caught := must[*control.Answer](t)(w.Request(t.Context(), support, under(task, parent.ID, read, access.Use, 0)))
			if caught.Decided.Code != e.code || caught.Credential != nil || caught.Grant != nil {
				t.Errorf("what was being decided got %s %s", caught.Decided.Outcome, caught.Decided.Code)
			}
			for _, id := range []string{parent.ID, child.ID} {
				if w.live(sam, id) {
					t.Errorf("%s outlived it", id)
				}
			}
			w.refused(support, under(task, parent.ID, read, access.Use, 0), e.code)
			w.sound()
		})
	}
}

func TestI5_AnIdentityThatLeavesTheCatalogIsDead(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ok(support, under(task, "", read, access.Use, 0))
	without := site(t)
	text := string(without["catalog/agents.yaml"])
	from, to := strings.Index(text, "  - id: Agent::\"support-bot\""), strings.Index(text, "  - id: Agent::\"triage-bot\"")
	without["catalog/agents.yaml"] = []byte(text[:from] + text[to:])
	edit(t, without, "catalog/people.yaml", `members: [Agent::"support-bot"]`, `members: [Agent::"report-bot"]`)
	h := w.meddled()
	h.between = func() { check(t, fails(w.Apply(t.Context(), nil, without, nil, false))) }
	if answer, err := w.Request(t.Context(), support, under(task, "", read, access.Use, 0)); err == nil && answer.Decided.Outcome == access.Allow {
		t.Error("what was being decided is allowed")
	}
	view := must[*control.GrantView](t)(w.ReadGrant(t.Context(), sam, grant.ID))
	if view.Live || view.Why != access.CodeIdentityUnknown {
		t.Errorf("%+v", view)
	}
	if had := must[[]control.Access](t)(w.Why(t.Context(), sam, support.Identity, w.now)); len(had) != 1 {
		t.Errorf("an auditor sees %d rights of an identity that is gone", len(had))
	}
	for name, err := range map[string]error{
		"a former owner":    fails(w.ReadGrant(t.Context(), dana, grant.ID)),
		"another agent":     fails(w.ReadGrant(t.Context(), report, grant.ID)),
		"the one that left": fails(w.ReadGrant(t.Context(), support, grant.ID)),
	} {
		if got := code(t, err); got != access.CodeNotPermitted && got != access.CodeIdentityUnknown {
			t.Errorf("%s: %s", name, got)
		}
	}
	opened := must[*control.Answer](t)(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x"}))
	if opened.Decided.Code != access.CodeIdentityUnknown {
		t.Errorf("opening a task: %+v", opened.Decided)
	}
	w.sound()
}

func TestI5_WhatAnIdentityHadBeforeItWasSuspendedStaysOver(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ok(support, under(task, "", read, access.Use, 0))
	check(t, fails(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{})))
	refused := must[*control.Answer](t)(w.SetStatus(t.Context(), dana, support.Identity, access.Active, control.Grounds{}))
	if refused.Decided.Code != access.CodeNotPermitted {
		t.Errorf("an owner may stop and not start again: %+v", refused.Decided)
	}
	check(t, fails(w.SetStatus(t.Context(), sam, support.Identity, access.Active, control.Grounds{Reason: "looked at"})))
	if w.live(support, grant.ID) {
		t.Error("a grant came back to life")
	}
	w.refused(support, under(task, "", read, access.Use, 0), access.CodeTaskEnded)
	w.ok(support, under(w.open(support, "support"), "", read, access.Use, 0))
	w.sound()
}
