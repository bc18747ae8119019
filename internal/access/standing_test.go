package access

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fault is one thing that stands against a request.
type fault struct {
	name string
	edit func(*Input)
	want Code
}

// faults are at least one for every refusal that needs no policy.
func faults() []fault {
	subject := func(status Status) func(*Input) { return func(in *Input) { in.Standing.Subject = status } }
	principal := func(status Status) func(*Input) { return func(in *Input) { in.Standing.Principal = status } }
	task := func(edit func(*Task)) func(*Input) { return func(in *Input) { edit(in.Standing.Task) } }
	parent := func(edit func(*Grant)) func(*Input) { return func(in *Input) { edit(&in.Standing.Chain[0]) } }
	return []fault{
		{"an unknown subject", subject(""), CodeIdentityUnknown},
		{"a suspended subject", subject(Suspended), CodeIdentitySuspended},
		{"a retired subject", subject(Retired), CodeIdentitySuspended},
		{"a subject of an unknown status", subject("ACTIVE"), CodeIdentitySuspended},
		{"nobody who answers for the subject", func(in *Input) { in.Standing.Owned = false }, CodeOwnerMissing},
		{"an unknown principal", principal(""), CodeIdentitySuspended},
		{"a suspended principal", principal(Suspended), CodeIdentitySuspended},
		{"a retired principal", principal(Retired), CodeIdentitySuspended},
		{"a paused task", task(func(t *Task) { t.Status = TaskPaused }), CodeTaskEnded},
		{"an ended task", task(func(t *Task) { t.Status = TaskEnded }), CodeTaskEnded},
		{"a sealed task", task(func(t *Task) { t.Status = TaskSealed }), CodeTaskEnded},
		{"a task of no status", task(func(t *Task) { t.Status = "" }), CodeTaskEnded},
		{"an expired task", task(func(t *Task) { t.ExpiresAt = noon() }), CodeTaskEnded},
		{"a silent task", task(func(t *Task) { t.Heartbeat, t.HeartbeatAt = 60, before(time.Minute) }), CodeTaskEnded},
		{"a missing task", func(in *Input) { in.Standing.Task = nil }, CodeTaskEnded},
		{"an action without a task", func(in *Input) { in.Request.Task, in.Standing.Task = "", nil }, CodeTaskEnded},
		{"an ended parent", parent(func(g *Grant) { g.Status = GrantEnded }), CodeParentRevoked},
		{"a parent of no status", parent(func(g *Grant) { g.Status = "" }), CodeParentRevoked},
		{"an expired parent", parent(func(g *Grant) { g.ExpiresAt = noon() }), CodeParentRevoked},
		{"a used-up parent", parent(func(g *Grant) { g.MaxUses, g.Uses = 1, 1 }), CodeParentRevoked},
		{"another parent than was asked under", parent(func(g *Grant) { g.ID = "other" }), CodeParentRevoked},
		{"a root that is missing", parent(func(g *Grant) { g.Parent = "root" }), CodeParentRevoked},
		{"a suspended subject above", func(in *Input) { in.Standing.Above[0] = Suspended }, CodeParentRevoked},
		{"an unknown subject above", func(in *Input) { in.Standing.Above[0] = "" }, CodeParentRevoked},
		{"a parent of another task", parent(func(g *Grant) { g.Task = "other" }), CodeParentRevoked},
		{"a parent whose subject was suspended since", parent(func(g *Grant) { g.Cut = true }), CodeParentRevoked},
		{"another human than the subject runs for", func(in *Input) { in.Standing.FixedPrincipal = human("paul") }, CodePrincipalMismatch},
		{"no human, where the subject runs for one", func(in *Input) { in.Request.Principal, in.Standing.FixedPrincipal = Ref{}, human("pat") }, CodePrincipalMismatch},
		{"no statuses above", func(in *Input) { in.Standing.Above = nil }, CodeParentRevoked},
		{"more statuses than grants above", func(in *Input) { in.Standing.Above = append(in.Standing.Above, Active) }, CodeParentRevoked},
		{"a chain that was not asked under", func(in *Input) { in.Request.Parent = "" }, CodeParentRevoked},
		{"a chain without a name", func(in *Input) { in.Request.Parent, in.Standing.Chain[0].ID = "", "" }, CodeParentRevoked},
		{"a missing chain", func(in *Input) { in.Standing.Chain, in.Standing.Above = nil, nil }, CodeParentRevoked},
	}
}

func TestI7_EveryFaultIsRefused(t *testing.T) {
	for _, f := range faults() {
		in := soundInput()
		f.edit(in)
		if got := in.Standing.Dead(in); got != f.want {
			t.Errorf("%s: %q, want %q", f.name, got, f.want)
		}
		asked := 0
		if got := Decide(in, always{Decided{Outcome: Allow}, &asked}); got.Outcome != Deny || got.Code != f.want || asked != 0 {
			t.Errorf("%s: policy was asked %d times, and the decision is %+v", f.name, asked, got)
		}
	}
}

// TestOrderOfRefusals: whatever else stands against a request, the earlier fault is named, so an agent sees the same code every time.
func TestOrderOfRefusals(t *testing.T) {
	order := []string{"a suspended subject", "nobody who answers for the subject", "a suspended principal", "an ended task", "an ended parent"}
	named := map[string]fault{}
	for _, f := range faults() {
		named[f.name] = f
	}
	for _, first := range []string{"an unknown subject", "a suspended subject"} {
		order[0] = first
		for i := range order {
			in := soundInput()
			for _, later := range order[i:] {
				named[later].edit(in)
			}
			in.Request.Action = act("write") // exceeds the parent, too
			if got, want := Decide(in, always{}).Code, named[order[i]].want; got != want {
				t.Errorf("%s and all later faults: %q, want %q", order[i], got, want)
			}
		}
	}
}

func TestNothingStandsAgainst(t *testing.T) {
	for name, edit := range map[string]func(*Input){
		"a request under a grant":        func(*Input) {},
		"one that is nobody's errand":    func(in *Input) { in.Request.Principal, in.Standing.Principal = Ref{}, "" },
		"one for whom the subject runs":  func(in *Input) { in.Standing.FixedPrincipal = human("pat") },
		"one under no grant":             func(in *Input) { *in = *rootInput() },
		"an administrative act, no task": func(in *Input) { *in = *rootInput(); in.Request.Action, in.Request.Task = Act(ActRevoke), "" },
		"a task with a living heart":     func(in *Input) { in.Standing.Task.Heartbeat = 1 },
		"a chain of two": func(in *Input) {
			root := rootGrant()
			root.ID, in.Standing.Chain[0].Parent = "root", "root"
			in.Standing.Chain = append(in.Standing.Chain, root)
			in.Standing.Above = append(in.Standing.Above, Active)
		},
	} {
		in := soundInput()
		edit(in)
		if got := in.Standing.Dead(in); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestDecide(t *testing.T) {
	open := func(in *Input) {
		*in = *rootInput()
		in.Request.Action, in.Request.Task, in.Request.Resource = Act(ActOpenTask), "", Ref{TypeTaskType, "support"}
	}
	for name, c := range map[string]struct {
		edit  func(*Input)
		want  Decided
		asked int
	}{
		"policy says":                   {func(*Input) {}, Decided{Outcome: Allow, Risk: Risk{Score: 3}}, 1},
		"a fault comes before the rest": {func(in *Input) { in.Standing.Subject, in.Request.Action = "", act("write") }, Decided{Outcome: Deny, Code: CodeIdentityUnknown}, 0},
		"more than the parent holds":    {func(in *Input) { in.Request.Action = act("write") }, Decided{Outcome: Deny, Code: CodeExceedsParent}, 0},
		"more than the parent holds, if not the root": {func(in *Input) {
			root := rootGrant()
			root.ID, in.Standing.Chain[0].Parent, in.Standing.Chain[0].Mode = "root", "root", Use
			in.Standing.Chain, in.Standing.Above = append(in.Standing.Chain, root), append(in.Standing.Above, Active)
		}, Decided{Outcome: Deny, Code: CodeExceedsParent}, 0},
		"passed on by its holder":    {func(in *Input) { in.Request.Lender = agent("lead") }, Decided{Outcome: Allow, Risk: Risk{Score: 3}}, 1},
		"passed on by somebody else": {func(in *Input) { in.Request.Lender = agent("thief") }, Decided{Outcome: Deny, Code: CodeNotPermitted}, 0},
		"more uses than are left above the parent": {func(in *Input) {
			root := rootGrant()
			root.ID, root.MaxUses, root.Uses, in.Standing.Chain[0].Parent, in.Standing.Chain[0].MaxUses = "root", 10, 8, "root", 10
			in.Standing.Chain, in.Standing.Above = append(in.Standing.Chain, root), append(in.Standing.Above, Active)
			in.Request.MaxUses = 3
		}, Decided{Outcome: Deny, Code: CodeExceedsParent}, 0},
		"passed on to oneself": {func(in *Input) { in.Request.Lender, in.Request.Subject = agent("lead"), agent("lead") }, Decided{Outcome: Deny, Code: CodeDelegationCycle}, 0},
		"passed back to who lent it": {func(in *Input) {
			root := rootGrant()
			root.ID, root.Subject, in.Standing.Chain[0].Parent = "root", agent("bot"), "root"
			in.Standing.Chain, in.Standing.Above = append(in.Standing.Chain, root), append(in.Standing.Above, Active)
			in.Request.Lender = agent("lead")
		}, Decided{Outcome: Deny, Code: CodeDelegationCycle}, 0},
		"used with open arguments": {func(in *Input) {
			in.Request.Args, in.Request.Constraints = nil, Constraints{"rows": {Kind: ConstraintWildcard}}
		}, Decided{Outcome: Deny, Code: CodeNotPermitted}, 0},
		"arguments both open and not": {func(in *Input) {
			in.Request.Mode, in.Request.Constraints = Delegate, Constraints{"rows": {Kind: ConstraintWildcard}}
		}, Decided{Outcome: Deny, Code: CodeNotPermitted}, 0},
		"too deep":                    {func(in *Input) { in.Standing.Chain[0].Depth = MaxDepth }, Decided{Outcome: Deny, Code: CodeDepthExceeded}, 0},
		"a task that it may open":     {func(in *Input) { open(in); in.Standing.MayOpen = true }, Decided{Outcome: Allow, Risk: Risk{Score: 3}}, 1},
		"a task that it may not open": {open, Decided{Outcome: Deny, Code: CodeNotPermitted}, 0},
	} {
		in := soundInput()
		c.edit(in)
		asked := 0
		got := Decide(in, always{Decided{Outcome: Allow, Risk: Risk{Score: 3}}, &asked})
		if diff := cmp.Diff(c.want, got); diff != "" || asked != c.asked {
			t.Errorf("%s: policy was asked %d times (-want +got):\n%s", name, asked, diff)
		}
	}
}
