package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/control"
)

func halves(files control.Configuration, prefix string) control.Configuration {
	out := control.Configuration{}
	for path, content := range files {
		if strings.HasPrefix(path, prefix) {
			out[path] = content
		}
	}
	return out
}

func changed(t *testing.T) control.Configuration {
	t.Helper()
	files := site(t)
	edit(t, files, "catalog/agents.yaml", "answers customers and settles small complaints", "answers customers")
	edit(t, files, "policy/access/reports.cedar", `@max_ttl("10m")`, `@max_ttl("9m")`)
	return files
}

func TestADryRunChangesNothing(t *testing.T) {
	w := newWorld(t)
	size := w.store.Size()
	for name, caller := range map[string]*control.Caller{"the operator": nil, "security": &sam} {
		dry := must[*control.Applied](t)(w.Apply(t.Context(), caller, changed(t), nil, true))
		if len(dry.Changes) != 1 || dry.Former == "" || dry.Former == dry.Bundle || !dry.Dry || len(dry.Answers) != 0 {
			t.Errorf("%s: %+v", name, dry)
		}
	}
	if w.store.Size() != size {
		t.Error("a dry run left something")
	}
	done := must[*control.Applied](t)(w.Apply(t.Context(), &sam, changed(t), nil, false))
	if len(done.Answers) != 2 || done.Answers[0].Evidence == 0 || done.Answers[1].Evidence != done.Answers[0].Evidence+1 {
		t.Errorf("%+v", done)
	}
	size = w.store.Size()
	again := must[*control.Applied](t)(w.Apply(t.Context(), &sam, changed(t), nil, false))
	if len(again.Changes)+len(again.Answers) != 0 || again.Former != "" || w.store.Size() != size {
		t.Errorf("applying the same again: %+v", again)
	}
	w.sound()
}

func TestWhoMayNotApplyLearnsNothing(t *testing.T) {
	broken := site(t)
	edit(t, broken, "policy/access/support.cedar", `resource == Channel::"customers"
);`, `resource == Channel::"nosuch"
);`)
	broken = halves(broken, "policy/")
	for name, c := range map[string]struct {
		by  control.Caller
		by2 access.Code
	}{
		"an agent": {support, access.CodeNotPermitted}, "another human": {dana, access.CodeNotPermitted},
	} {
		for what, files := range map[string]control.Configuration{"a good folder": changed(t), "a broken one": broken} {
			for _, dry := range []bool{true, false} {
				w := newWorld(t)
				applied, err := w.Apply(t.Context(), &c.by, files, nil, dry)
				if err == nil {
					if len(applied.Changes) > 0 || len(applied.Answers) == 0 {
						t.Errorf("%s, %s: %+v", name, what, applied)
						continue
					}
					err = refusal(applied.Answers[0], nil)
				}
				if got := code(t, err); got != c.by2 || strings.Contains(err.Error(), "nosuch") {
					t.Errorf("%s, %s: %v", name, what, err)
				}
				w.sound()
			}
		}
	}
	w := newWorld(t)
	if _, err := w.Apply(t.Context(), &sam, broken, nil, true); kind(t, err) != control.InvalidConfiguration || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("whoever may apply learns the faults: %v", err)
	}
	w.sound()
}

func TestAHalfFolderLeavesTheOtherHalf(t *testing.T) {
	w := newWorld(t)
	catalog := must[*control.Applied](t)(w.Apply(t.Context(), &sam, halves(changed(t), "catalog/"), nil, false))
	if len(catalog.Changes) != 1 || catalog.Former != "" || len(catalog.Answers) != 1 {
		t.Errorf("%+v", catalog)
	}
	policy := must[*control.Applied](t)(w.Apply(t.Context(), &sam, halves(changed(t), "policy/"), nil, false))
	if len(policy.Changes) != 0 || policy.Former != catalog.Bundle || len(policy.Answers) != 1 {
		t.Errorf("%+v", policy)
	}
	w.sound()
}

func TestI9_AConfigurationThatDoesNotHoldChangesNothing(t *testing.T) {
	for name, spoil := range map[string]func(files control.Configuration){
		"an agent without an owner": func(f control.Configuration) {
			edit(t, f, "catalog/agents.yaml", "  - id: Agent::\"report-bot\"\n    owner: Human::\"dana\"\n", "  - id: Agent::\"report-bot\"\n")
		},
		"a policy without an owner": func(f control.Configuration) {
			edit(t, f, "policy/access/reports.cedar", "@id(\"reports-read-tables\")\n@owner(\"Human::\\\"dana\\\"\")", "@id(\"reports-read-tables\")")
		},
		"a source without an owner": func(f control.Configuration) {
			edit(t, f, "catalog/agents.yaml", "    identity: Workload::\"order-system\"\n    owner: Human::\"alice\"\n", "    identity: Workload::\"order-system\"\n")
		},
		"an owner who is not there": func(f control.Configuration) {
			edit(t, f, "policy/access/reports.cedar", "@id(\"reports-read-tables\")\n@owner(\"Human::\\\"dana\\\"\")", "@id(\"reports-read-tables\")\n@owner(\"Human::\\\"nobody\\\"\")")
		},
		"a catalog that the policy does not fit": func(f control.Configuration) {
			edit(t, f, "catalog/people.yaml", "  - name: support-agents", "  - name: helpers")
			edit(t, f, "catalog/agents.yaml", "Team::\"support-agents\"", "Team::\"helpers\"")
			for path := range halves(f, "policy/") {
				delete(f, path)
			}
		},
		"attributes that the schema does not have": func(f control.Configuration) {
			edit(t, f, "catalog/agents.yaml", "    purpose: writes the weekly support report\n", "    purpose: writes the weekly support report\n    attributes: {clearance: 3}\n")
		},
		"a schema that lacks what the catalog gives": func(f control.Configuration) {
			edit(t, f, "policy/schema.cedarschema", "entity Table { owner: Human, sensitivity: String };", "entity Table { owner: Human, sensitivity: String, region: String };")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			size := w.store.Size()
			files := site(t)
			spoil(files)
			if _, err := w.Apply(t.Context(), &sam, files, nil, false); kind(t, err) != control.InvalidConfiguration {
				t.Error(err)
			}
			if w.store.Size() != size {
				t.Error("something was recorded")
			}
			w.sound()
		})
	}
}

func TestOfTwoConfigurationsAtOnceTheSecondSeesTheFirst(t *testing.T) {
	w := newWorld(t)
	h := w.meddled()
	first := changed(t)
	second := site(t)
	edit(t, second, "policy/access/reports.cedar", `@max_ttl("10m")`, `@max_ttl("8m")`)
	var inner *control.Applied
	h.between = func() { inner = must[*control.Applied](t)(w.Apply(t.Context(), &sam, first, nil, false)) }
	outer := must[*control.Applied](t)(w.Apply(t.Context(), &sam, second, nil, false))
	if outer.Former != inner.Bundle || len(outer.Changes) != 1 {
		t.Errorf("the second was compared with what was before the first: %+v", outer)
	}
	var all sync.WaitGroup
	for _, files := range []control.Configuration{first, second, site(t)} {
		all.Go(func() {
			if _, err := w.Apply(t.Context(), nil, files, nil, false); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.sound()
}

func TestAnApprovalIsNotUsedUpByAnActThatDoesNotComeToBe(t *testing.T) {
	governed := func(purpose, ttl string) control.Configuration {
		files := site(t)
		edit(t, files, "catalog/agents.yaml", "answers customers and settles small complaints", purpose)
		edit(t, files, "policy/access/reports.cedar", `@max_ttl("10m")`, `@max_ttl("`+ttl+`")`)
		files["policy/access/changes.cedar"] = []byte(`
@id("one-for-changes")
@owner("Human::\"sam\"")
@because("Somebody else looks.")
@approval("team:payments")
forbid (principal, action in [Writ::Action::"activate_policy", Writ::Action::"apply_catalog"], resource);
`)
		return files
	}
	w := worldOf(t, governed("old", "10m"))
	next := governed("new", "9m")
	asked := must[*control.Applied](t)(w.Apply(t.Context(), &sam, next, nil, false))
	catalog := asked.Answers[0].ID
	w.approve(bob, catalog, control.Reply{})
	half := must[*control.Applied](t)(w.Apply(t.Context(), &sam, next, map[string]string{access.ActApplyCatalog: catalog}, false))
	if len(half.Answers) != 2 || half.Answers[1].Decided.Outcome != access.NeedsApproval {
		t.Fatalf("%+v", half)
	}
	policy := half.Answers[1].ID
	w.approve(bob, policy, control.Reply{})
	both := must[*control.Applied](t)(w.Apply(t.Context(), &sam, next, map[string]string{access.ActApplyCatalog: catalog, access.ActActivatePolicy: policy}, false))
	if both.Former == "" || len(both.Changes) != 1 || both.Answers[0].Decided.Outcome != access.Allow {
		t.Errorf("%+v", both)
	}
	w.sound()
}

func TestI8_DecisionsReplayUnderLaterPoliciesAndCatalogs(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	w.ask(task, 40)
	question := w.ask(task, 900)
	w.approve(bob, question.ID, control.Reply{TTL: 30})
	grant := must[*control.Answer](t)(w.Redeem(t.Context(), support, question.ID, nil))
	w.refused(support, under(task, grant.ID, read, access.Use, 0), access.CodeExceedsParent)
	check(t, fails(w.Apply(t.Context(), &sam, changed(t), nil, false)))
	files := changed(t)
	edit(t, files, "catalog/people.yaml", `members: [Human::"alice", Human::"bob"]`, `members: [Human::"alice"]`)
	edit(t, files, "policy/access/support.cedar", "context.args.amount > 100 }", "context.args.amount > 1 }")
	check(t, fails(w.Apply(t.Context(), &sam, files, nil, false)))
	check(t, fails(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{})))
	check(t, fails(w.Erase(t.Context(), sam, grant.Evidence, []string{event.SlotInput, event.SlotInput}, control.Grounds{})))
	var steps int
	replayed := must[*control.Replayed](t)(w.Replay(t.Context(), w.store.Size(), func(int64) { steps++ }))
	if replayed.Erased != 1 || replayed.Decisions != 10 || len(replayed.Mismatches) != 0 || steps == 0 {
		t.Errorf("%+v, %d steps", replayed, steps)
	}
	if view := must[*control.DecisionView](t)(w.ReadDecision(t.Context(), sam, question.ID)); view.Full == nil || view.Full.Requires[0].Because == "" {
		t.Errorf("under a bundle that is no longer active: %+v", view)
	}
	if _, err := w.ReadDecision(t.Context(), sam, grant.ID); kind(t, err) != control.NotYours {
		t.Error("an erased decision was read")
	}
	w.sound()
}

// lies is a ledger whose entries and inputs were tampered with.
type lies struct {
	control.Ledger
	event func(*event.DecisionMade)
	input func(*access.Input)
}

type lyingView struct {
	control.View
	lies *lies
}

func (l *lies) Read(ctx context.Context, read func(control.View) error) error {
	return l.Ledger.Read(ctx, func(v control.View) error { return read(lyingView{v, l}) })
}

func (v lyingView) DecisionEvent(index int64) (event.DecisionMade, error) {
	made, err := v.View.DecisionEvent(index)
	if err == nil && v.lies.event != nil {
		v.lies.event(&made)
	}
	return made, err
}

func (v lyingView) Input(index int64) (*access.Input, error) {
	in, err := v.View.Input(index)
	if err == nil && v.lies.input != nil {
		v.lies.input(in)
	}
	return in, err
}

func TestI8_ATamperedInputOrEntryDoesNotReplay(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 950)
	task := w.open(support, "support")
	w.ask(task, 40)
	w.ask(task, 900)
	granted := func(change func(*event.DecisionMade)) func(*event.DecisionMade) {
		return func(e *event.DecisionMade) {
			if e.Grant != nil {
				change(e)
			}
		}
	}
	asked := func(change func(*event.DecisionMade)) func(*event.DecisionMade) {
		return func(e *event.DecisionMade) {
			if e.Asked != nil {
				change(e)
			}
		}
	}
	later := w.now.Add(time.Hour)
	for name, l := range map[string]*lies{
		"outcome":         {event: asked(func(e *event.DecisionMade) { e.Outcome, e.Code = access.Allow, "" })},
		"code":            {event: asked(func(e *event.DecisionMade) { e.Code = access.CodeForbidden })},
		"policies":        {event: granted(func(e *event.DecisionMade) { e.Policies[0].Hash = "sha256:0" })},
		"risk":            {event: asked(func(e *event.DecisionMade) { e.Risk++ })},
		"factors":         {event: asked(func(e *event.DecisionMade) { e.Factors = nil })},
		"bounds":          {event: granted(func(e *event.DecisionMade) { e.Bounds.MaxTTL++ })},
		"expiry":          {event: granted(func(e *event.DecisionMade) { e.Grant.ExpiresAt = later })},
		"uses":            {event: granted(func(e *event.DecisionMade) { e.Grant.MaxUses = 9 })},
		"mode":            {event: granted(func(e *event.DecisionMade) { e.Grant.Mode = access.Delegate })},
		"parent":          {event: granted(func(e *event.DecisionMade) { e.Grant.Parent = "none" })},
		"requirements":    {event: asked(func(e *event.DecisionMade) { e.Asked.Requires = nil })},
		"bundle of entry": {event: granted(func(e *event.DecisionMade) { e.Bundle = "sha256:0" })},
		"no bundle":       {event: granted(func(e *event.DecisionMade) { e.Bundle = "" })},
		"action of entry": {event: granted(func(e *event.DecisionMade) { e.Action = read })},
		"subject":         {event: granted(func(e *event.DecisionMade) { e.Subject = "p_other" })},
		"bundle of input": {input: func(in *access.Input) { in.Bundle = "sha256:0" }},
		"who asked":       {input: func(in *access.Input) { in.Request.Subject = report.Identity }},
		"for whom":        {input: func(in *access.Input) { in.Request.Principal = sam.Identity }},
		"what":            {input: func(in *access.Input) { in.Request.Resource.ID += "x" }},
		"arguments":       {input: func(in *access.Input) { in.Request.Args = json.RawMessage(`{"amount":101,"reason":""}`) }},
		"standing":        {input: func(in *access.Input) { in.Standing.Subject = access.Suspended }},
		"facts":           {input: func(in *access.Input) { in.Facts.Entities = nil }},
		"approvers":       {input: func(in *access.Input) { in.Approvers = nil }},
		"moment":          {input: func(in *access.Input) { in.Now = in.Now.Add(time.Second) }},
	} {
		l.Ledger = ledger{w.store}
		replayed, err := control.New(control.Options{Ledger: l}).Replay(t.Context(), w.store.Size(), nil)
		if err != nil || len(replayed.Mismatches) == 0 || replayed.Mismatches[0].Detail == "" {
			t.Errorf("%s: %+v, %v", name, replayed, err)
		}
	}
	w.sound()
}

func TestWhoMayReadWhat(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 1200)
	task := w.open(support, "support")
	grant := w.ask(task, 40)
	question := w.ask(task, 900)
	reads := map[string]func(c control.Caller) (any, error){
		"task":     func(c control.Caller) (any, error) { return some(w.ReadTask(t.Context(), c, task)) },
		"grant":    func(c control.Caller) (any, error) { return some(w.ReadGrant(t.Context(), c, grant.ID)) },
		"decision": func(c control.Caller) (any, error) { return some(w.ReadDecision(t.Context(), c, grant.ID)) },
		"question": func(c control.Caller) (any, error) { return some(w.ReadApproval(t.Context(), c, question.ID, 0)) },
		"why": func(c control.Caller) (any, error) {
			got, err := w.Why(t.Context(), c, support.Identity, time.Time{})
			if got == nil {
				return nil, err
			}
			return got, err
		},
	}
	for what, read := range reads {
		for name, c := range map[string]struct {
			caller control.Caller
			may    bool
		}{
			"its subject": {support, true}, "its owner": {dana, true}, "security": {sam, true}, "another agent": {report, false},
			"another human": {alice, what == "question"}, "an approver": {bob, what == "question"}, "nobody": {control.Caller{Identity: access.MustRef(`Agent::"none"`)}, false},
		} {
			got, err := read(c.caller)
			switch {
			case c.may && (err != nil || got == nil):
				t.Errorf("%s, %s: %v", what, name, err)
			case !c.may && (err == nil || got != nil):
				t.Errorf("%s, %s may read", what, name)
			}
		}
	}
	for name, read := range map[string]func() error{
		"task":     func() error { return fails(w.ReadTask(t.Context(), sam, "none")) },
		"grant":    func() error { return fails(w.ReadGrant(t.Context(), sam, "none")) },
		"decision": func() error { return fails(w.ReadDecision(t.Context(), sam, "none")) },
		"question": func() error { return fails(w.ReadApproval(t.Context(), sam, "none", 0)) },
	} {
		if kind(t, read()) != control.NotYours {
			t.Errorf("%s that is not there: %v", name, read())
		}
	}
	if err := w.MayReadEvidence(t.Context(), sam); err != nil {
		t.Errorf("security reads evidence: %v", err)
	}
	for _, caller := range []control.Caller{support, dana, bob} {
		if code(t, w.MayReadEvidence(t.Context(), caller)) != access.CodeNotPermitted {
			t.Errorf("%s reads evidence", caller.Identity)
		}
	}
	w.sound()
}

func TestTheSubjectNeverSeesWhatItCouldProbeWith(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 950)
	question := w.ask(w.open(support, "support"), 900)
	check(t, answerOf(w, bob, question.ID, control.Reply{Reason: "no"}))
	for name, read := range map[string]func(c control.Caller) (any, error){
		"question": func(c control.Caller) (any, error) { return some(w.ReadApproval(t.Context(), c, question.ID, 0)) },
		"decision": func(c control.Caller) (any, error) { return some(w.ReadDecision(t.Context(), c, question.ID)) },
	} {
		text := func(c control.Caller) string {
			view, err := read(c)
			check(t, err)
			out, err := json.Marshal(view)
			check(t, err)
			return string(out)
		}
		for _, secret := range []string{"large-refund", "nearly-everything", "team:payments", "support-refunds"} {
			if strings.Contains(text(support), secret) {
				t.Errorf("%s: its subject sees %s", name, secret)
			}
			if !strings.Contains(text(sam), secret) && secret != "support-refunds" {
				t.Errorf("%s: an auditor does not see %s", name, secret)
			}
		}
		if strings.Contains(text(support), "bob") {
			t.Errorf("%s: its subject sees who answered", name)
		}
	}
	check(t, fails(w.SetStatus(t.Context(), dana, support.Identity, access.Suspended, control.Grounds{})))
	if _, err := w.ReadDecision(t.Context(), support, question.ID); code(t, err) != access.CodeIdentitySuspended {
		t.Error("a suspended identity reads")
	}
	w.sound()
}

func TestARightToReadIsDecidedOnceUntilSomethingChanges(t *testing.T) {
	files := site(t)
	edit(t, files, "policy/access/governance.cedar", "@id(\"security-runs-writ\")\n@owner(\"Human::\\\"sam\\\"\")\n@max_ttl(\"1h\")\n@until(\"2027-12-31\")",
		"@id(\"security-runs-writ\")\n@owner(\"Human::\\\"sam\\\"\")\n@max_ttl(\"1h\")\n@until(\"2026-03-01\")")
	w := worldOf(t, files)
	task := w.open(support, "support")
	entries := func() int64 {
		t.Helper()
		before := w.store.Size()
		check(t, fails(w.ReadTask(t.Context(), sam, task)))
		return w.store.Size() - before
	}
	for _, c := range []struct {
		what   string
		change func()
		want   int64
	}{
		{"the first time", func() {}, 1},
		{"again", func() {}, 0},
		{"just within its bound", func() { w.now = w.now.Add(time.Hour - time.Second) }, 0},
		{"after its bound", func() { w.now = w.now.Add(time.Second) }, 1},
		{"after a change of somebody's status", func() {
			check(t, fails(w.SetStatus(t.Context(), dana, report.Identity, access.Suspended, control.Grounds{})))
		}, 1},
		{"near the policy's end", func() { w.now = time.Date(2026, 3, 1, 23, 30, 0, 0, time.UTC) }, 1},
	} {
		c.change()
		if got := entries(); got != c.want {
			t.Errorf("%s: %d entries, want %d", c.what, got, c.want)
		}
	}
	w.now = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	if _, err := w.ReadTask(t.Context(), sam, task); code(t, err) != access.CodeNotPermitted {
		t.Error("the right outlived the policy that gave it")
	}
	w.sound()
}

func TestErasingIsForWhoMayAndOfWhatIsThere(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	answer := w.ask(w.open(support, "support"), 1)
	for _, index := range []int64{answer.Evidence, 99999, -1} {
		refused := must[*control.Answer](t)(w.Erase(t.Context(), dana, index, []string{event.SlotInput}, control.Grounds{}))
		if refused.Refusal() == nil {
			t.Error("erased without the right")
		}
	}
	for name, err := range map[string]error{
		"another slot": fails(w.Erase(t.Context(), sam, answer.Evidence, []string{event.SlotPurpose}, control.Grounds{})),
		"no entry":     fails(w.Erase(t.Context(), sam, 99999, []string{event.SlotInput}, control.Grounds{})),
	} {
		if kind(t, err) != control.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.sound()
}

func TestIdentify(t *testing.T) {
	w := newWorld(t)
	const issuer = "https://idp.example.com"
	if got := must[access.Ref](t)(w.Identify(t.Context(), issuer, "support-bot", nil)); got != support.Identity {
		t.Errorf("got %s", got)
	}
	for _, c := range [][2]string{{issuer, "nobody"}, {"https://other.example.com", "sam"}, {issuer, ""}} {
		if _, err := w.Identify(t.Context(), c[0], c[1], nil); code(t, err) != access.CodeIdentityUnknown {
			t.Errorf("%v: %v", c, err)
		}
	}
	w.sound()
}

// broken makes no credential.
type broken struct{}

func (broken) Issue(control.Credential) (control.Token, error) {
	return control.Token{}, errors.New("the key is locked")
}

func (broken) Recognize(string, time.Time) (control.Recognized, bool) {
	return control.Recognized{}, false
}

func TestI7_WithoutASignerNothingIsGranted(t *testing.T) {
	w := newWorld(t)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	size := w.store.Size()
	var outcomes []access.Outcome
	w.Control = control.New(control.Options{
		Ledger: ledger{w.store}, Issuer: broken{}, Engine: "test", NewID: w.newID,
		Decided: func(outcome access.Outcome, _ access.Code) { outcomes = append(outcomes, outcome) },
	})
	if answer, err := w.Request(t.Context(), support, under(task, "", read, access.Use, 0)); answer != nil || !errors.Is(err, access.ErrUnavailable) {
		t.Errorf("%+v, %v", answer, err)
	}
	if w.store.Size() != size {
		t.Error("something was recorded")
	}
	w.ok(support, under(task, "", read, access.Delegate, 0)) // which needs no credential
	if len(outcomes) != 1 || outcomes[0] != access.Allow {
		t.Errorf("metrics were told %v", outcomes)
	}
	w.sound()
}

func TestNobodyLocksThemselvesOut(t *testing.T) {
	for name, change := range map[string]string{
		"by another issuer":  "match: [{issuer: https://elsewhere.example.com, subject: sam}]",
		"by another subject": "match: [{issuer: https://idp.example.com, subject: samuel}]",
	} {
		w := newWorld(t)
		files := site(t)
		edit(t, files, "catalog/people.yaml", "match: [{issuer: https://idp.example.com, subject: sam}]", change)
		if _, err := w.Apply(t.Context(), &sam, files, nil, false); kind(t, err) != control.InvalidConfiguration {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.Apply(t.Context(), nil, files, nil, false); err != nil {
			t.Errorf("%s, by whoever starts the process: %v", name, err)
		}
		w.sound()
	}
}
