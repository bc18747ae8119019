package control_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// set changes a status, as security does, and wants it allowed.
func (w *world) set(identity access.Ref, status access.Status) {
	w.t.Helper()
	answer, err := w.SetStatus(w.t.Context(), sam, identity, status, control.Grounds{Reason: "for the test"})
	check(w.t, err)
	if refusal := answer.Refusal(); refusal != nil {
		w.t.Fatal(refusal)
	}
}

func TestI5_RetiringEndsEverythingForGood(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	granted := w.ask(task, 40)
	if answer, err := w.SetStatus(t.Context(), dana, support.Identity, access.Retired, control.Grounds{}); code(t, refusal(answer, err)) != access.CodeNotPermitted {
		t.Error("retired without a policy that permits it")
	}
	w.set(support.Identity, access.Suspended)
	w.set(support.Identity, access.Retired)
	if w.live(sam, granted.Grant.ID) {
		t.Error("the grant outlived its identity")
	}
	if refused := w.ask(task, 1); refused.Decided.Code != access.CodeIdentitySuspended {
		t.Errorf("a retired identity was answered %s", refused.Decided.Code)
	}
	size := w.store.Size()
	for _, status := range []access.Status{access.Active, access.Suspended} {
		if _, err := w.SetStatus(t.Context(), sam, support.Identity, status, control.Grounds{}); kind(t, err) != control.WrongState {
			t.Errorf("a retired identity became %s: %v", status, err)
		}
	}
	if w.store.Size() != size {
		t.Error("what is impossible was recorded")
	}
	// Whoever may not ask does not learn where it stands.
	if answer, err := w.SetStatus(t.Context(), bob, support.Identity, access.Active, control.Grounds{}); code(t, refusal(answer, err)) != access.CodeNotPermitted {
		t.Errorf("%v", err)
	}
	again := must[*control.Answer](t)(w.SetStatus(t.Context(), sam, support.Identity, access.Retired, control.Grounds{}))
	if again.Refusal() != nil {
		t.Error("retiring twice is no error")
	}
	w.sound()
}

// graced is the starter's site with a grace for what those who left owned.
func graced(t *testing.T, grace string) control.Configuration {
	t.Helper()
	files := site(t)
	if grace != "" {
		files["policy/standing.yaml"] = []byte("owner_grace: " + grace + "\n")
	}
	return files
}

const suspendedFirst access.Status = "suspended, then retired"

// What an owner who left owned goes on for the grace that policy sets, to the second; then it is denied, and nothing of it lives.
func TestI9_AnOwnerWhoLeft(t *testing.T) {
	for name, c := range map[string]struct {
		grace  string
		status access.Status
		after  time.Duration
		want   access.Code
	}{
		"no grace is set":                {"", access.Retired, 0, access.CodeOwnerMissing},
		"a grace of nothing":             {"0s", access.Retired, 0, access.CodeOwnerMissing},
		"the grace is not over":          {"1h", access.Retired, time.Hour - time.Microsecond, ""},
		"the grace is over":              {"1h", access.Retired, time.Hour, access.CodeOwnerMissing},
		"a suspended owner has no grace": {"1h", access.Suspended, 0, access.CodeOwnerMissing},
		"nor has one who then left":      {"1h", suspendedFirst, 0, access.CodeOwnerMissing},
	} {
		t.Run(name, func(t *testing.T) {
			files := graced(t, c.grace)
			files["policy/access/support.cedar"] = bytes.ReplaceAll(files["policy/access/support.cedar"], []byte(`@max_ttl("5m")`), []byte(`@max_ttl("2h")`))
			w := worldOf(t, files)
			w.tell("o-1", "delivered", 120)
			task := w.open(support, "support")
			granted := must[*control.Answer](t)(w.Request(t.Context(), support, control.Ask{
				Task: task, Action: refund, Resource: order1, Args: []byte(`{"amount":4,"reason":"late"}`), TTL: 7200,
			}))
			if c.status == suspendedFirst {
				w.set(dana.Identity, access.Suspended)
				c.status = access.Retired
			}
			w.set(dana.Identity, c.status)
			w.now = w.now.Add(c.after)
			w.tell("o-1", "delivered", 120)
			if live := w.live(sam, granted.Grant.ID); live != (c.want == "") {
				t.Errorf("the grant from before is live: %v", live)
			}
			if answer := w.ask(task, 1); answer.Decided.Code != c.want {
				t.Errorf("asked, it was %q, want %q", answer.Decided.Code, c.want)
			}
			answer := must[*control.Answer](t)(w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "another"}))
			if answer.Decided.Code != c.want {
				t.Errorf("opening a task, it was %q, want %q", answer.Decided.Code, c.want)
			}
			w.sound()
		})
	}
}

// The grace is that of the bundle that is active when somebody asks, and counts from the entry that retired the owner: neither
// another change of the catalog nor the same act again begins it anew.
func TestI9_TheGraceCountsFromTheEntry(t *testing.T) {
	w := worldOf(t, graced(t, "1h"))
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	w.set(dana.Identity, access.Retired)
	left := w.now
	w.now = w.now.Add(50 * time.Minute)
	w.set(dana.Identity, access.Retired)
	files := graced(t, "1h")
	edit(t, files, "catalog/people.yaml", "members: [Human::\"sam\"]", "members: [Human::\"sam\", Human::\"bob\"]")
	must[*control.Applied](t)(w.Apply(t.Context(), nil, files, nil, false))
	w.tell("o-1", "delivered", 120)
	if answer := w.ask(task, 1); answer.Decided.Outcome != access.Allow {
		t.Fatalf("within the grace: %+v", answer.Decided)
	}
	w.now = left.Add(time.Hour)
	if answer := w.ask(task, 1); answer.Decided.Code != access.CodeOwnerMissing {
		t.Errorf("after the grace: %+v", answer.Decided)
	}
	files["policy/standing.yaml"] = []byte("owner_grace: 2h\n")
	must[*control.Applied](t)(w.Apply(t.Context(), nil, files, nil, false))
	if answer := w.ask(task, 1); answer.Decided.Outcome != access.Allow {
		t.Errorf("a longer grace was set: %+v", answer.Decided)
	}
	// Somebody takes it over.
	delete(files, "policy/standing.yaml")
	edit(t, files, "catalog/agents.yaml", "  - id: Agent::\"support-bot\"\n    owner: Human::\"dana\"", "  - id: Agent::\"support-bot\"\n    owner: Human::\"alice\"")
	must[*control.Applied](t)(w.Apply(t.Context(), nil, files, nil, false))
	if answer := w.ask(task, 1); answer.Decided.Outcome != access.Allow {
		t.Errorf("it has an owner again: %+v", answer.Decided)
	}
	w.sound()
}

// A right that was lent ends with the grace of its lender's owner.
func TestI9_AGrantAboveWhoseOwnerLeft(t *testing.T) {
	files := graced(t, "10m")
	files["policy/access/support.cedar"] = bytes.ReplaceAll(files["policy/access/support.cedar"], []byte(`@max_ttl("5m")`), []byte(`@max_ttl("1h")`))
	edit(t, files, "catalog/agents.yaml", "  - id: Agent::\"report-bot\"\n    owner: Human::\"dana\"", "  - id: Agent::\"report-bot\"\n    owner: Human::\"alice\"")
	edit(t, files, "catalog/people.yaml", `members: [Agent::"support-bot"]`, `members: [Agent::"support-bot", Agent::"report-bot"]`)
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 120)
	parent := must[*control.Answer](t)(w.Request(t.Context(), support, control.Ask{
		Task: w.open(support, "support"), Action: refund, Resource: order1, Args: []byte(`{"amount":4,"reason":"late"}`), TTL: 3600, Mode: access.Delegate,
	}))
	child := w.lend(support, parent.ID, control.Delegation{To: report.Identity, TTL: 1800}).ID
	w.set(dana.Identity, access.Retired)
	for _, step := range []struct {
		after time.Duration
		live  bool
	}{{10*time.Minute - time.Microsecond, true}, {time.Microsecond, false}} {
		w.now = w.now.Add(step.after)
		view := must[*control.GrantView](t)(w.ReadGrant(t.Context(), sam, child))
		if view.Live != step.live || !step.live && view.Why != access.CodeParentRevoked {
			t.Errorf("at %s: live %v, %s", w.now, view.Live, view.Why)
		}
	}
	w.sound()
}

func TestWhoSeesWhichIdentities(t *testing.T) {
	w := newWorld(t)
	list := func(caller control.Caller, q control.IdentityQuery) string {
		t.Helper()
		if q.Limit == 0 {
			q.Limit = 100
		}
		found, more, err := w.Identities(t.Context(), caller, q)
		check(t, err)
		var out []string
		for i := range found {
			out = append(out, found[i].Identity.ID.ID)
		}
		if more {
			out = append(out, "…")
		}
		return strings.Join(out, " ")
	}
	size := w.store.Size()
	for _, c := range []struct {
		caller control.Caller
		query  control.IdentityQuery
		want   string
	}{
		{support, control.IdentityQuery{}, "support-bot"},
		{dana, control.IdentityQuery{}, "lookup-bot report-bot support-bot triage-bot dana"},
		{dana, control.IdentityQuery{Limit: 2}, "lookup-bot report-bot …"},
		{dana, control.IdentityQuery{After: support.Identity}, "triage-bot dana"},
		{dana, control.IdentityQuery{Owner: dana.Identity}, "lookup-bot report-bot support-bot triage-bot"},
		{dana, control.IdentityQuery{Owner: alice.Identity}, ""},
	} {
		if got := list(c.caller, c.query); got != c.want {
			t.Errorf("%s, %+v: %q, want %q", c.caller.Identity, c.query, got, c.want)
		}
	}
	if w.store.Size() != size {
		t.Error("seeing what is one's own was recorded")
	}
	if got := list(sam, control.IdentityQuery{}); got != "lookup-bot report-bot support-bot triage-bot alice bob dana sam order-system" {
		t.Errorf("an auditor sees %q", got)
	}
	if w.store.Size() != size+1 {
		t.Error("that an auditor may read was not recorded once")
	}
	if got := list(sam, control.IdentityQuery{Limit: 1, After: access.MustRef(`Agent::"s"`)}); got != "support-bot …" {
		t.Errorf("after one that is not there: %q", got)
	}
	w.set(dana.Identity, access.Suspended)
	if _, _, err := w.Identities(t.Context(), dana, control.IdentityQuery{Limit: 1}); code(t, err) != access.CodeIdentitySuspended {
		t.Errorf("a suspended human: %v", err)
	}
	if got := list(support, control.IdentityQuery{}); got != "support-bot" {
		t.Errorf("whose owner is suspended sees %q", got)
	}
	w.sound()
}

// Where the schema does not know the act of reading evidence, nobody sees more than what is theirs.
func TestWithoutAuditorsEverybodySeesWhatIsTheirs(t *testing.T) {
	files := site(t)
	edit(t, files, "policy/schema.cedarschema", "  action read_evidence appliesTo { principal: [Human], resource: [Installation] };\n", "")
	edit(t, files, "policy/access/governance.cedar", `Writ::Action::"read_evidence", `, "")
	w := worldOf(t, files)
	found, _, err := w.Identities(t.Context(), sam, control.IdentityQuery{Limit: 10})
	check(t, err)
	if len(found) != 1 || found[0].Identity.ID != sam.Identity {
		t.Errorf("%+v", found)
	}
	w.sound()
}

func TestReviewsAreOverdueWhenTheDayIsOver(t *testing.T) {
	w := newWorld(t)
	w.now = time.Date(2027, 12, 31, 23, 59, 59, 999999999, time.UTC)
	overdue := func() (n int) {
		t.Helper()
		found, _, err := w.Identities(t.Context(), dana, control.IdentityQuery{Overdue: true, Limit: 10})
		check(t, err)
		return len(found)
	}
	if n := overdue(); n != 0 {
		t.Errorf("on the day itself %d are overdue", n)
	}
	w.set(report.Identity, access.Retired)
	w.now = w.now.Add(time.Nanosecond)
	if n := overdue(); n != 3 {
		t.Errorf("the day is over, and %d are overdue; who is retired needs no look", n)
	}
}

// What is being decided at the instant in which the owner leaves, or the agent is retired, is decided on what is so then.
func TestI5_RetiredWhileDeciding(t *testing.T) {
	for name, c := range map[string]struct {
		identity access.Ref
		want     access.Code
	}{"the agent": {support.Identity, access.CodeIdentitySuspended}, "its owner": {dana.Identity, access.CodeOwnerMissing}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h := w.meddled()
			w.tell("o-1", "delivered", 120)
			task := w.open(support, "support")
			h.between = func() { w.set(c.identity, access.Retired) }
			if answer := w.ask(task, 1); answer.Decided.Code != c.want || answer.Credential != nil {
				t.Errorf("%+v", answer.Decided)
			}
			w.sound()
		})
	}
}

// Dropping an identity from the catalog and declaring it anew gives back neither what suspending took, nor what retiring did.
func TestI5_ACatalogDoesNotBringBack(t *testing.T) {
	batch := access.MustRef(`Workload::"batch"`)
	for _, stood := range []access.Status{access.Active, access.Suspended, access.Retired} {
		t.Run(string(stood), func(t *testing.T) {
			without, with := site(t), site(t)
			with["catalog/batch.yaml"] = []byte("identities:\n  - {id: Workload::\"batch\", owner: Human::\"dana\", purpose: p, review_by: 2027-06-30}\n")
			w := worldOf(t, with)
			if stood != access.Active {
				w.set(batch, stood)
			}
			for range 2 {
				must[*control.Applied](t)(w.Apply(t.Context(), nil, without, nil, false))
				must[*control.Applied](t)(w.Apply(t.Context(), nil, with, nil, false))
				view := must[*control.IdentityView](t)(w.ReadIdentity(t.Context(), sam, batch))
				if view.Status != stood {
					t.Errorf("it was %s, and is %s", stood, view.Status)
				}
			}
			if stood != access.Retired {
				w.set(batch, access.Active)
			}
			w.sound()
		})
	}
}
