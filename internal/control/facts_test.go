package control_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

func order(id, attributes string) control.Told {
	return control.Told{Entity: access.Entity{ID: access.Ref{Type: "Order", ID: id}, Attributes: json.RawMessage(attributes)}}
}

func TestI7_FactsComeFromTheirSourceFreshAndWhole(t *testing.T) {
	good := `{"status":"delivered","total":120}`
	for name, c := range map[string]struct {
		by   control.Caller
		age  time.Duration
		told []control.Told
		want control.InvalidKind
	}{
		"as it should be":          {orders, 0, []control.Told{order("o-2", good)}, ""},
		"without a time":           {orders, -1, []control.Told{order("o-2", good)}, ""},
		"a little in the future":   {orders, -time.Second, []control.Told{order("o-2", good)}, ""},
		"the same again":           {orders, 5 * time.Minute, []control.Told{order("o-1", good)}, ""},
		"at the edge":              {orders, 15 * time.Minute, []control.Told{order("o-2", good)}, ""},
		"stale":                    {orders, 15*time.Minute + time.Second, []control.Told{order("o-2", good)}, control.StaleFact},
		"in the future":            {orders, -2 * time.Second, []control.Told{order("o-2", good)}, control.StaleFact},
		"older than what is known": {orders, 5*time.Minute + time.Second, []control.Told{order("o-1", good)}, control.StaleFact},
		"an older end":             {orders, 6 * time.Minute, []control.Told{{Entity: access.Entity{ID: order1}, Gone: true}}, control.StaleFact},
		"by the agent":             {support, 0, []control.Told{order("o-2", good)}, control.NotFactSource},
		"by the owner":             {alice, 0, []control.Told{order("o-2", good)}, control.NotFactSource},
		"of another type":          {orders, 0, []control.Told{{Entity: access.Entity{ID: access.MustRef(`Table::"x"`)}}}, control.NotFactSource},
		"of an agent":              {orders, 0, []control.Told{{Entity: access.Entity{ID: support.Identity}}}, control.NotFactSource},
		"twice in a call":          {orders, 0, []control.Told{order("o-2", good), order("o-2", good)}, control.InvalidArgument},
		"wrong type":               {orders, 0, []control.Told{order("o-2", `{"status":"new","total":"120"}`)}, control.InvalidArgument},
		"missing attribute":        {orders, 0, []control.Told{order("o-2", `{"status":"new"}`)}, control.InvalidArgument},
		"undeclared attribute":     {orders, 0, []control.Told{order("o-2", `{"status":"new","total":1,"vip":true}`)}, control.InvalidArgument},
		"not an object":            {orders, 0, []control.Told{order("o-2", `[]`)}, control.InvalidArgument},
		"oversized":                {orders, 0, []control.Told{order("o-2", `{"status":"`+strings.Repeat("x", 65<<10)+`","total":1}`)}, control.InvalidArgument},
		"one bad among good":       {orders, 0, []control.Told{order("o-2", good), order("o-3", `{}`)}, control.InvalidArgument},
		"with parents":             {orders, 0, []control.Told{{Entity: access.Entity{ID: access.MustRef(`Order::"o-2"`), Parents: []access.Ref{order1}, Attributes: json.RawMessage(good)}}}, control.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.tell("o-1", "delivered", 120)
			w.now = w.now.Add(5 * time.Minute)
			at := w.now.Add(-c.age)
			if c.age == -1 {
				at = time.Time{}
			}
			size := w.store.Size()
			_, err := w.PushFacts(t.Context(), c.by, at, c.told)
			if c.want == "" {
				check(t, err)
			} else if kind(t, err) != c.want || w.store.Size() != size {
				t.Errorf("%v, %d entries", err, w.store.Size()-size)
			}
			w.sound()
		})
	}
}

func TestI7_WhoOwnsAResourceIsNotForTheFactSourceToSay(t *testing.T) {
	w := newWorld(t)
	for _, attribute := range []string{`"owner":"bob"`, `"sensitivity":"low"`, `"environment":"test"`, `"labels":[]`} {
		_, err := w.PushFacts(t.Context(), orders, w.now, []control.Told{order("o-1", `{"status":"delivered","total":120,`+attribute+`}`)})
		if kind(t, err) != control.InvalidArgument {
			t.Errorf("%s: %v", attribute, err)
		}
	}
	w.tell("o-1", "delivered", 120)
	answer := w.ask(w.open(support, "support"), 1)
	view := must[*control.DecisionView](t)(w.ReadDecision(t.Context(), sam, answer.ID))
	if view.Full == nil || view.Request == nil {
		t.Fatalf("%+v", view)
	}
	in := w.input(answer.Evidence)
	for _, e := range in.Facts.Entities {
		if e.ID == order1 && (!strings.Contains(string(e.Attributes), `"owner":"alice"`) || !strings.Contains(string(e.Attributes), `"sensitivity":"high"`)) {
			t.Errorf("the decision was made on %s", e.Attributes)
		}
	}
	w.sound()
}

// input reads what a decision was made on.
func (w *world) input(index int64) *access.Input {
	w.t.Helper()
	var in *access.Input
	check(w.t, ledger{w.store}.Read(w.t.Context(), func(v control.View) (err error) {
		in, err = v.Input(index)
		return err
	}))
	return in
}

func TestI7_WithoutFactsNothingIsAllowed(t *testing.T) {
	w := newWorld(t)
	task := w.open(support, "support")
	ask := control.Ask{Task: task, Action: read, Resource: order1}
	if _, err := w.Request(t.Context(), support, ask); kind(t, err) != control.UnknownResource {
		t.Errorf("an order that nobody told of: %v", err)
	}
	w.tell("o-1", "delivered", 120)
	w.ok(support, ask)
	w.now = w.now.Add(15*time.Minute + time.Second)
	w.refused(support, ask, access.CodePolicyError)
	w.tell("o-1", "delivered", 120)
	h := w.meddled()
	h.between = func() {
		check(t, fails(w.PushFacts(t.Context(), orders, w.now, []control.Told{{Entity: access.Entity{ID: order1}, Gone: true}})))
	}
	if answer, err := w.Request(t.Context(), support, ask); err == nil && answer.Decided.Outcome == access.Allow {
		t.Error("allowed on what was gone at the commit")
	}
	if _, err := w.Request(t.Context(), support, ask); kind(t, err) != control.UnknownResource {
		t.Errorf("an order that is gone: %v", err)
	}
	w.sound()
}

func TestI7_WithoutAPolicyNothingIsAllowed(t *testing.T) {
	w := worldWithoutPolicy(t)
	applied := must[*control.Applied](t)(w.Apply(t.Context(), &sam, site(t), nil, false))
	for name, err := range map[string]error{
		"apply":         refusal(applied.Answers[0], nil),
		"read":          fails(w.Why(t.Context(), sam, support.Identity, time.Time{})),
		"read evidence": w.MayReadEvidence(t.Context(), sam),
		"identify":      fails(w.Identify(t.Context(), "https://idp.example.com", "sam", nil)),
	} {
		if got := code(t, err); got != access.CodeIdentityUnknown {
			t.Errorf("%s: %s", name, got)
		}
	}
	if len(applied.Changes) != 0 || applied.Bundle != "" {
		t.Errorf("%+v", applied)
	}
	if _, err := w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x"}); kind(t, err) != control.UnknownTaskType {
		t.Error(err)
	}
	if _, err := w.PushFacts(t.Context(), orders, w.now, []control.Told{order("o-1", `{}`)}); kind(t, err) != control.NotFactSource {
		t.Error("facts that nothing can check were taken")
	}
	if _, err := w.Apply(t.Context(), nil, control.Configuration{"catalog/people.yaml": site(t)["catalog/people.yaml"]}, nil, true); kind(t, err) != control.InvalidConfiguration {
		t.Errorf("a catalog without a policy: %v", err)
	}
	w.sound()
}

// refusal is that of an answer, as an error.
func refusal(answer *control.Answer, err error) error {
	if err == nil && answer.Refusal() != nil {
		return answer.Refusal()
	}
	return err
}

func TestReadingAndSendingAreJudgedTogetherAcrossTasks(t *testing.T) {
	files := site(t)
	edit(t, files, "policy/access/support.cedar", `context.labels.task.contains("customer-data")`, `context.labels.identity.contains("customer-data")`)
	message := func(task string) control.Ask {
		return control.Ask{Task: task, Action: access.MustRef(`Action::"send_message"`), Resource: access.MustRef(`Channel::"customers"`), Args: json.RawMessage(`{"text":"hello"}`)}
	}
	look := func(task string) control.Ask { return control.Ask{Task: task, Action: read, Resource: order1} }
	t.Run("read in one task, then send in another, within a day", func(t *testing.T) {
		w := worldOf(t, files)
		start := w.now
		sends := func(after time.Duration) access.Outcome {
			w.now = start.Add(after)
			return must[*control.Answer](t)(w.Request(t.Context(), support, message(w.open(support, "support")))).Decided.Outcome
		}
		w.tell("o-1", "delivered", 120)
		reads := w.open(support, "support")
		w.ok(support, look(reads))
		w.now = start.Add(90 * time.Minute) // the same task looks again: that is when the day begins
		w.tell("o-1", "delivered", 120)
		w.ok(support, look(reads))
		if got := sends(2 * time.Hour); got != access.NeedsApproval {
			t.Errorf("soon after: %s", got)
		}
		if got := sends(25*time.Hour + 29*time.Minute); got != access.NeedsApproval {
			t.Errorf("less than a day after the second look: %s", got)
		}
		if got := sends(27 * time.Hour); got != access.Allow {
			t.Errorf("a day and an hour later: %s", got)
		}
		w.sound()
	})
}

func TestALiveGrantToSendEndsWhenAnotherTaskReads(t *testing.T) {
	files := site(t)
	edit(t, files, "policy/access/support.cedar", `context.labels.task.contains("customer-data")`, `context.labels.identity.contains("customer-data")`)
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 120)
	w.tell("o-2", "delivered", 120)
	sends, reads := w.open(support, "support"), w.open(support, "support")
	message := control.Ask{Task: sends, Action: access.MustRef(`Action::"send_message"`), Resource: access.MustRef(`Channel::"customers"`), Args: json.RawMessage(`{"text":"hello"}`)}
	sent := w.ok(support, message)
	h := w.meddled()
	var caught *control.Answer
	h.between = func() { caught = w.ok(support, message) } // between the decision to let it read and the commit
	w.ok(support, control.Ask{Task: reads, Action: read, Resource: order1})
	for name, id := range map[string]string{"sent before": sent.ID, "sent meanwhile": caught.ID} {
		if w.live(support, id) {
			t.Errorf("%s: the grant outlived the label that speaks against it", name)
		}
	}
	w.sound()
}

func TestAResourceThatIsGoneEndsItsGrantAndNotTheNextRequest(t *testing.T) {
	files := site(t)
	edit(t, files, "policy/schema.cedarschema", `    task: { type: String, age: Long, heartbeat: Long, expected: Bool },
    counts`, `    task: { type: String, age: Long, heartbeat: Long, expected: Bool },
    labels: { task: Set<String>, chain: Set<String>, identity: Set<String> },
    counts`)
	edit(t, files, "policy/access/support.cedar", "context.args.amount > 100 }", `context.args.amount > 100 || context.labels.task.contains("secret") }`)
	edit(t, files, "catalog/agents.yaml", `Action::"send_message"]`, `Action::"send_message", Action::"read_table"]`)
	edit(t, files, "policy/access/reports.cedar", `principal == Agent::"report-bot",
  action == Action::"read_table"`, `principal is Agent,
  action == Action::"read_table"`)
	for path, text := range files {
		if strings.HasPrefix(path, "catalog/") && strings.Contains(string(text), `Table::"support.tickets"`) {
			edit(t, files, path, "  - id: Table::\"support.tickets\"\n", "  - id: Table::\"support.tickets\"\n    labels: [other]\n")
		}
	}
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ask(task, 1)
	check(t, fails(w.PushFacts(t.Context(), orders, w.now, []control.Told{{Entity: access.Entity{ID: order1}, Gone: true}})))
	w.ok(support, control.Ask{Task: task, Action: access.MustRef(`Action::"read_table"`), Resource: access.MustRef(`Table::"support.tickets"`)})
	if w.live(support, grant.ID) {
		t.Error("a grant outlived its resource when it was decided again")
	}
	w.sound()
}

func TestOfManyLiveGrantsSomeAreEndedUnheard(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	w.with(ledger{w.store}, control.Limits{Burst: 10_000})
	task := w.open(support, "support")
	message := control.Ask{Task: task, Action: access.MustRef(`Action::"send_message"`), Resource: access.MustRef(`Channel::"customers"`), Args: json.RawMessage(`{"text":"hello"}`)}
	for range 105 {
		w.ok(support, message)
	}
	w.ok(support, control.Ask{Task: task, Action: read, Resource: order1})
	for _, id := range must[*control.TaskView](t)(w.ReadTask(t.Context(), support, task)).Grants[:105] {
		if w.live(support, id) {
			t.Errorf("%s outlived the label", id)
		}
	}
	w.sound()
}

func TestVelocityAtTheEdgeOfItsWindow(t *testing.T) {
	w := newWorld(t)
	start := w.now.Add(30 * time.Second)
	task := w.open(support, "support")
	at := func(after time.Duration) access.Outcome {
		w.now = start.Add(after)
		w.tell("o-1", "delivered", 1200)
		return w.ask(task, 1).Decided.Outcome
	}
	for range 3 {
		if got := at(0); got != access.Allow {
			t.Fatal(got)
		}
	}
	for _, c := range []struct {
		after time.Duration
		want  access.Outcome
	}{
		{0, access.NeedsApproval}, {time.Hour, access.NeedsApproval}, {time.Hour + 29*time.Second, access.NeedsApproval},
		{time.Hour + 30*time.Second, access.Allow}, // the minute in which they were counted has left the window
	} {
		if got := at(c.after); got != c.want {
			t.Errorf("after %s: %s, want %s", c.after, got, c.want)
		}
	}
	w.sound()
}

func TestParallelRequestsNeverExceedACount(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	var all sync.WaitGroup
	outcomes := make(chan access.Outcome, 50)
	for range 50 {
		all.Go(func() {
			answer, err := w.Request(t.Context(), support, control.Ask{Task: task, Action: refund, Resource: order1, Args: json.RawMessage(`{"amount":1,"reason":""}`)})
			if err != nil {
				t.Error(err)
				return
			}
			outcomes <- answer.Decided.Outcome
		})
	}
	all.Wait()
	close(outcomes)
	count := map[access.Outcome]int{}
	for outcome := range outcomes {
		count[outcome]++
	}
	if count[access.Allow] != 3 || count[access.NeedsApproval] != 47 {
		t.Errorf("three an hour are allowed: %v", count)
	}
	w.sound()
}

func TestParallelOpeningsNeverExceedMaxOpen(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	opened := make(chan string, 50)
	for range 50 {
		all.Go(func() {
			answer, err := w.OpenTask(t.Context(), report, control.Opening{Type: "report", Purpose: "x"})
			if err == nil {
				opened <- answer.Task.ID
			} else if code(t, err) != access.CodeLimitExceeded {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(opened) != 2 {
		t.Errorf("%d tasks are open, two may be", len(opened))
	}
	check(t, fails(w.CompleteTask(t.Context(), report, <-opened)))
	w.open(report, "report")
	w.sound()
}

func TestOneIdempotencyKeyIsOneDecision(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	reports := w.open(report, "report")
	ask := func(key string) control.Ask {
		return control.Ask{Task: task, Action: read, Resource: order1, Idempotency: &control.Idempotency{Key: key}}
	}
	var all sync.WaitGroup
	answers := make(chan *control.Answer, 10)
	for range 10 {
		all.Go(func() {
			answer, err := w.Request(t.Context(), support, ask("k"))
			if err != nil {
				t.Error(err)
				return
			}
			answers <- answer
		})
	}
	all.Wait()
	close(answers)
	ids, live := map[string]bool{}, 0
	for answer := range answers {
		ids[answer.ID] = true
		if w.live(support, answer.Grant.ID) {
			live++
		}
	}
	if len(ids) != 1 || live != 1 {
		t.Errorf("%d decisions, %d live grants", len(ids), live)
	}
	other := must[*control.Answer](t)(w.Request(t.Context(), report, control.Ask{
		Task: reports, Action: access.MustRef(`Action::"read_table"`), Resource: access.MustRef(`Table::"support.tickets"`), Idempotency: &control.Idempotency{Key: "k"},
	}))
	if other.Repeated {
		t.Error("the keys of two identities collide")
	}
	if _, err := w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x", Idempotency: &control.Idempotency{Key: "k", Digest: [32]byte{1}}}); kind(t, err) != control.IdempotencyKeyReused {
		t.Error("the key stood for another call")
	}
	w.now = w.now.Add(time.Hour)
	dead := must[*control.Answer](t)(w.Request(t.Context(), support, ask("k")))
	if !dead.Repeated || dead.Credential != nil {
		t.Errorf("a grant that ran out was issued again: %+v", dead)
	}
	w.now = w.now.Add(23 * time.Hour)
	w.tell("o-1", "delivered", 120)
	task = w.open(support, "support")
	if fresh := w.ok(support, ask("k")); fresh.Repeated {
		t.Error("a key is remembered for more than a day")
	}
	w.sound()
}

func TestI6_ARepeatedRedemptionIsNotASecondOne(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	question := w.ask(w.open(support, "support"), 900)
	w.approve(bob, question.ID, control.Reply{})
	key := &control.Idempotency{Key: "k"}
	first := must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, key))
	second := must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, key))
	if first.ID != second.ID || !second.Repeated || w.live(support, first.Grant.ID) || !w.live(support, second.Grant.ID) {
		t.Errorf("%+v", second)
	}
	w.sound()
}

func TestTheSweepOfAThousandTasks(t *testing.T) {
	files := site(t)
	edit(t, files, "catalog/agents.yaml", "    max_open: 20\n", "")
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 1200)
	w.with(ledger{w.store}, control.Limits{Burst: 10_000})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 20 {
				if _, err := w.OpenTask(t.Context(), support, control.Opening{Type: "support", Purpose: "x"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	task := w.open(support, "support")
	grant := w.ok(support, under(task, "", read, access.Use, 900))
	w.refused(support, control.Ask{Task: task, Action: read, Resource: order1, Parent: grant.ID, Mode: access.Delegate}, access.CodeExceedsParent)
	question := w.ask(task, 900)
	w.now = w.now.Add(2 * time.Hour)
	sweep := func() (total int) {
		for {
			done := must[int](t)(w.Sweep(t.Context()))
			total += done
			if done == 0 {
				return total
			}
		}
	}
	if got := sweep(); got != 1001+1000+1+1 { // every task ends, every one is sealed, and its question lapses
		t.Errorf("the sweep did %d things", got)
	}
	size := w.store.Size()
	if sweep() != 0 || w.store.Size() != size {
		t.Error("a repeated sweep does something")
	}
	view := must[*control.TaskView](t)(w.ReadTask(t.Context(), support, task))
	if view.Task.Status != access.TaskSealed || view.Entries != 8 {
		t.Errorf("%+v", view)
	}
	// Nothing comes after a seal.
	if _, err := w.ReportAction(t.Context(), support, grant.ID, control.Done{Status: "succeeded"}); code(t, err) != access.CodeTaskEnded {
		t.Error("a report after the seal")
	}
	if _, err := w.RevokeGrant(t.Context(), sam, grant.ID, control.Grounds{}); code(t, err) != access.CodeTaskEnded {
		t.Error("a revocation after the seal")
	}
	if again := must[*control.Answer](t)(w.CompleteTask(t.Context(), support, task)); !again.Repeated {
		t.Error("completed after the seal")
	}
	if _, err := w.PauseTask(t.Context(), support, task); code(t, err) != access.CodeTaskEnded {
		t.Error("paused after the seal")
	}
	w.refused(support, under(task, "", read, access.Use, 0), access.CodeTaskEnded)
	if _, err := w.Redeem(t.Context(), support, question.ID, nil); code(t, err) != access.CodeApprovalExpired {
		t.Error("redeemed after the seal")
	}
	if after := must[*control.TaskView](t)(w.ReadTask(t.Context(), support, task)); after.Entries != view.Entries {
		t.Errorf("%d entries came after the seal", after.Entries-view.Entries)
	}
	w.sound()
}

func TestATaskIsSealedOnlyWhenItsLastCredentialIsGoneEverywhere(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	w.ok(support, under(task, "", read, access.Use, 300))
	check(t, fails(w.CompleteTask(t.Context(), support, task)))
	status := func() access.TaskStatus {
		t.Helper()
		check(t, fails(w.Sweep(t.Context())))
		return must[*control.TaskView](t)(w.ReadTask(t.Context(), support, task)).Task.Status
	}
	w.now = w.now.Add(300*time.Second + 59*time.Second)
	if got := status(); got != access.TaskEnded {
		t.Errorf("a verifier whose clock is a minute behind still takes the token: %s", got)
	}
	w.now = w.now.Add(time.Second)
	if got := status(); got != access.TaskSealed {
		t.Errorf("the token is gone everywhere: %s", got)
	}
	w.sound()
}

func TestAnEntryAddedWhileATaskIsSealedCountsOrComesTooLate(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	grant := w.ok(support, under(task, "", read, access.Use, 1))
	check(t, fails(w.CompleteTask(t.Context(), support, task)))
	w.now = w.now.Add(2 * time.Minute)
	h := w.meddled()
	h.between = func() {
		check(t, fails(w.ReportAction(t.Context(), support, grant.ID, control.Done{Status: "succeeded"})))
	}
	check(t, fails(w.Sweep(t.Context())))
	if view := must[*control.TaskView](t)(w.ReadTask(t.Context(), support, task)); view.Task.Status != access.TaskSealed || view.Entries != 6 {
		t.Errorf("%+v", view)
	}
	w.sound()
}

func ExampleRefusal() {
	fmt.Println(&control.Refusal{Code: access.CodeApprovalRequired, Detail: "large"})
	// Output: approval_required: large. A person must approve. Wait for the answer on the approval, then redeem it.
}

func TestEveryRefusalSaysWhatToDoNext(t *testing.T) {
	seen := map[string]access.Code{}
	for _, c := range []access.Code{
		access.CodeNotPermitted, access.CodeForbidden, access.CodeApprovalRequired, access.CodeApprovalDenied, access.CodeApprovalExpired,
		access.CodeNoEligibleApprover, access.CodeTaskEnded, access.CodeParentRevoked, access.CodeExceedsParent, access.CodeDepthExceeded,
		access.CodeBoundsExceeded, access.CodeIdentityUnknown, access.CodeIdentitySuspended, access.CodeOwnerMissing, access.CodePolicyError,
		access.CodeEvidenceUnavailable, access.CodeLimitExceeded, "unheard of",
	} {
		next := (&control.Refusal{Code: c}).Next()
		if other, ok := seen[next]; ok || next == "" {
			t.Errorf("%s says the same as %s", c, other)
		}
		seen[next] = c
	}
}

func TestI7_NothingOlderBringsBackWhatIsGone(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	check(t, fails(w.PushFacts(t.Context(), orders, w.now.Add(time.Second), []control.Told{{Entity: access.Entity{ID: order1}, Gone: true}})))
	w.now = w.now.Add(2 * time.Second)
	_, err := w.PushFacts(t.Context(), orders, w.now.Add(-2*time.Second), []control.Told{order("o-1", `{"status":"delivered","total":120}`)})
	if kind(t, err) != control.StaleFact {
		t.Errorf("an older fact brought it back: %v", err)
	}
	task := w.open(support, "support")
	_, err = w.Request(t.Context(), support, control.Ask{Task: task, Action: access.MustRef(`Action::"read_order"`), Resource: order1})
	if kind(t, err) != control.UnknownResource {
		t.Errorf("what is gone can be asked for: %v", err)
	}
	w.tell("o-1", "delivered", 120)
	w.ask(task, 1)
	w.sound()
}
