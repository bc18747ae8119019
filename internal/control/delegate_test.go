package control_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

var pay = access.MustRef(`Action::"pay"`)

// lendingSite has so many helpers, an action whose uses are counted and whose arguments may be left open, and policies that let
// everybody be lent it.
func lendingSite(t testing.TB, helpers int) control.Configuration {
	files := site(t)
	agents := "identities:\n"
	for i := range helpers {
		agents += fmt.Sprintf("  - {id: 'Agent::\"h%d\"', owner: 'Human::\"dana\"', purpose: helps, review_by: 2027-12-31}\n", i)
	}
	files["catalog/helpers.yaml"] = []byte(agents)
	files["policy/schema.cedarschema"] = append(files["policy/schema.cedarschema"], `
@uses("counted")
action pay appliesTo { principal: [Agent], resource: [Order], context: { args: { amount?: Long, currency: String } } };
`...)
	files["policy/access/pay.cedar"] = []byte(`
@id("anybody-pays")
@owner("Human::\"alice\"")
@max_ttl("1h")
@until("2027-12-31")
permit (principal is Agent, action == Action::"pay", resource);
`)
	return files
}

func helper(i int) control.Caller {
	return control.Caller{Identity: access.Ref{Type: access.TypeAgent, ID: fmt.Sprint("h", i)}}
}

// lendingWorld has a task, and in it a right to lend payments up to 100, so often.
func lendingWorld(t testing.TB, helpers int, uses int64) (w *world, root *access.Grant) {
	w = worldOf(t, lendingSite(t, helpers))
	w.with(ledger{w.store}, control.Limits{RequestsPerSecond: 1e9, Burst: 1e9, EvidencePerHour: 1 << 40})
	w.tell("o-1", "delivered", 120)
	return w, w.lendable(w.open(support, "support"), uses)
}

func (w *world) lendable(task string, uses int64) *access.Grant {
	w.t.Helper()
	return w.ok(support, control.Ask{
		Task: task, Action: pay, Resource: order1, Mode: access.Delegate, MaxUses: uses, TTL: 600,
		Constraints: upTo(100),
	}).Grant
}

func upTo(most int64) access.Constraints {
	least := int64(0)
	return access.Constraints{
		"amount": {Kind: access.ConstraintRange, Min: &least, Max: &most}, "currency": {Kind: access.ConstraintExact, Value: []byte(`"EUR"`)},
	}
}

func amount(n int64) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"amount":%d,"currency":"EUR"}`, n))
}

// lend passes part of a right on, which must be allowed.
func (w *world) lend(from control.Caller, grant string, part control.Delegation) *access.Grant {
	w.t.Helper()
	answer, err := w.Delegate(w.t.Context(), from, grant, part)
	check(w.t, err)
	if answer.Decided.Outcome != access.Allow || answer.Credential != nil {
		w.t.Fatalf("%+v", answer)
	}
	return answer.Grant
}

// graph is what the workers of a random delegation graph know together.
type graph struct {
	*world

	mu      sync.Mutex
	grants  []access.Grant
	used    map[string][]int64 // indexes of the acknowledged uses
	ended   map[string]int64   // index of the acknowledged end
	refused map[access.Code]int
}

func (g *graph) note(err error) bool {
	var refused *control.Refusal
	if err == nil {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if errors.As(err, &refused) {
		g.refused[refused.Code]++
		return false
	}
	g.t.Error(err)
	return false
}

func (g *graph) pick(r *rand.Rand) access.Grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.grants); r.IntN(2) == 0 {
		return g.grants[n-1-r.IntN(min(n, 20))] // often a young one, so that chains grow
	}
	return g.grants[r.IntN(len(g.grants))]
}

// step does one thing, anywhere in the graph.
func (g *graph) step(r *rand.Rand, helpers int) {
	ctx, at := g.t.Context(), g.pick(r)
	holder := control.Caller{Identity: at.Subject}
	switch dice := r.IntN(100); {
	case dice < 75:
		part := control.Delegation{
			To: helper(r.IntN(helpers)).Identity, Mode: []access.Mode{access.Delegate, access.Delegate, access.Use}[r.IntN(3)],
			TTL: access.Seconds([]int{0, 0, 0, 0, 0, 60, 300, 700}[r.IntN(8)]), MaxUses: int64([]int{0, 0, 0, 0, 0, 1, 3, 30}[r.IntN(8)]),
		}
		switch {
		case part.Mode == access.Use:
			part.Args = amount(int64(r.IntN(60)))
		case r.IntN(2) == 0:
			part.Constraints, part.Hops = upTo(int64(40+r.IntN(70))), r.IntN(4)
		}
		if r.IntN(20) == 0 {
			holder = helper(r.IntN(helpers)) // somebody whose right it is not
		}
		answer, err := g.Delegate(ctx, holder, at.ID, part)
		if err == nil && answer.Decided.Outcome != access.Allow {
			err = answer.Refusal()
		}
		if g.note(err) {
			g.mu.Lock()
			g.grants = append(g.grants, *answer.Grant)
			g.mu.Unlock()
		}
	case dice < 99:
		if at.Mode != access.Use {
			return
		}
		answer, err := g.CountUse(ctx, orders, at.ID)
		if g.note(err) {
			g.mu.Lock()
			g.used[at.ID] = append(g.used[at.ID], answer.Evidence)
			g.mu.Unlock()
		}
	default:
		if r.IntN(2+at.Depth) == 0 {
			return // what has much below it lives longer
		}
		answer, err := g.RevokeGrant(ctx, holder, at.ID, control.Grounds{})
		if g.note(err) && answer.Evidence > 0 {
			g.mu.Lock()
			g.ended[at.ID] = answer.Evidence
			g.mu.Unlock()
		}
	}
}

// TestI3_NoLeafEverExceedsItsRoot issues, delegates, uses and revokes at random, many at once, and then judges by what was
// acknowledged and by the order of the log alone.
func TestI3_NoLeafEverExceedsItsRoot(t *testing.T) {
	const helpers, workers, steps, roots = 48, 16, 700, 12
	w, first := lendingWorld(t, helpers, 60)
	g := &graph{world: w, grants: []access.Grant{*first}, used: map[string][]int64{}, ended: map[string]int64{}, refused: map[access.Code]int{}}
	for range roots - 1 {
		g.grants = append(g.grants, *w.lendable(first.Task, 60))
	}
	seed := rand.Uint64()
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for range steps {
				g.step(r, helpers)
			}
		})
	}
	group.Wait()
	uses, deepest := g.judge()
	t.Logf("seed %d: %d grants, %d deep at most; %d uses; %d ended; refused: %v", seed, len(g.grants), deepest, uses, len(g.ended), g.refused)
	if len(g.grants) < 600 || uses < 100 || deepest < 4 || len(g.ended) < 10 {
		t.Error("that is too little to tell")
	}
	for _, code := range []access.Code{access.CodeExceedsParent, access.CodeDepthExceeded, access.CodeDelegationCycle, access.CodeParentRevoked, access.CodeBoundsExceeded, access.CodeNotPermitted} {
		if g.refused[code] == 0 {
			t.Errorf("nothing was refused with %s", code)
		}
	}
	w.sound()
}

// judge compares every grant with all above it.
func (g *graph) judge() (uses, deepest int) {
	byID := map[string]*access.Grant{}
	for i := range g.grants {
		byID[g.grants[i].ID] = &g.grants[i]
	}
	spent := map[string]int64{}
	for id, at := range g.used {
		uses += len(at)
		for above := byID[id]; above != nil; above = byID[above.Parent] {
			spent[above.ID] += int64(len(at))
			if end, over := g.ended[above.ID]; over && slices.Max(at) > end {
				g.t.Errorf("%s was used at entry %d, after the end of %s at %d", id, slices.Max(at), above.ID, end)
			}
		}
	}
	for i := range g.grants {
		child := &g.grants[i]
		deepest = max(deepest, child.Depth)
		seen := []access.Ref{child.Subject}
		depth := 0
		for above := byID[child.Parent]; above != nil; above = byID[above.Parent] {
			depth++
			g.within(child, above)
			if slices.Contains(seen, above.Subject) {
				g.t.Errorf("%s holds two rights of one chain", above.Subject)
			}
			seen = append(seen, above.Subject)
		}
		if depth != child.Depth || depth > access.MaxDepth {
			g.t.Errorf("%s is %d deep and says %d", child.ID, depth, child.Depth)
		}
		if child.MaxUses > 0 && spent[child.ID] > child.MaxUses {
			g.t.Errorf("%d uses of %d were made under %s", spent[child.ID], child.MaxUses, child.ID)
		}
		view, err := g.ReadGrant(g.t.Context(), sam, child.ID)
		check(g.t, err)
		if view.Grant.Uses != spent[child.ID] {
			g.t.Errorf("%s counts %d uses; %d were acknowledged", child.ID, view.Grant.Uses, spent[child.ID])
		}
	}
	return uses, deepest
}

// within holds a grant against one above it, in every dimension.
func (g *graph) within(child, above *access.Grant) {
	most := func(x *access.Grant) int64 {
		if x.Mode == access.Use {
			var args struct{ Amount int64 }
			check(g.t, json.Unmarshal(x.Args, &args))
			return args.Amount
		}
		return *x.Constraints["amount"].Max
	}
	switch {
	case child.Action != above.Action, child.Resource != above.Resource, child.Task != above.Task, above.Mode != access.Delegate:
		g.t.Errorf("%+v was not %+v to lend", child, above)
	case most(child) > most(above):
		g.t.Errorf("%s pays %d, %s above it only %d", child.ID, most(child), above.ID, most(above))
	case child.ExpiresAt.After(above.ExpiresAt):
		g.t.Errorf("%s outlives %s", child.ID, above.ID)
	case above.MaxUses > 0 && (child.MaxUses == 0 || child.MaxUses > above.MaxUses):
		g.t.Errorf("%s has %d uses, %s above it only %d", child.ID, child.MaxUses, above.ID, above.MaxUses)
	case above.Deepest > 0 && child.Depth > above.Deepest:
		g.t.Errorf("%s is deeper than %s may be passed on", child.ID, above.ID)
	}
}

func TestI3_TwoNeverTakeTheLastUse(t *testing.T) {
	for range 20 {
		w, root := lendingWorld(t, 2, 1)
		var ids []string
		for i := range 2 {
			ids = append(ids, w.lend(support, root.ID, control.Delegation{To: helper(i).Identity, Args: amount(1)}).ID)
		}
		got := make([]error, 8)
		var group sync.WaitGroup
		for i := range got {
			group.Go(func() { _, got[i] = w.CountUse(t.Context(), orders, ids[i%2]) })
		}
		group.Wait()
		taken := 0
		for _, err := range got {
			var refused *control.Refusal
			if err == nil {
				taken++
			} else if !errors.As(err, &refused) || refused.Code != access.CodeParentRevoked && refused.Code != access.CodeBoundsExceeded {
				t.Error(err)
			}
		}
		if taken != 1 {
			t.Errorf("%d took the last use", taken)
		}
		w.sound()
	}
}

// What is decided while the right above it ends is decided again, and refused: between the decision and its commit, and after it.
func TestI5_ARightThatEndsWhileItIsLentIsNotLent(t *testing.T) {
	w, root := lendingWorld(t, 1, 0)
	h := w.meddled()
	calls := map[string]func(root, leaf string) error{
		"lend": func(root, _ string) error {
			answer, err := w.Delegate(t.Context(), support, root, control.Delegation{To: helper(0).Identity, Args: amount(1)})
			if err == nil && answer.Grant == nil {
				return answer.Refusal()
			}
			return err
		},
		"issue a credential": func(_, leaf string) error { return fails(w.IssueCredential(t.Context(), helper(0), leaf)) },
		"use":                func(_, leaf string) error { return fails(w.CountUse(t.Context(), orders, leaf)) },
	}
	for name, call := range calls {
		root := w.lendable(root.Task, 0)
		leaf := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Args: amount(1)})
		check(t, call(root.ID, leaf.ID))
		h.between = func() { check(t, fails(w.RevokeGrant(t.Context(), support, root.ID, control.Grounds{}))) }
		var refused *control.Refusal
		if err := call(root.ID, leaf.ID); !errors.As(err, &refused) || refused.Code != access.CodeParentRevoked {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.sound()
}

// TestI5_OneEntryEndsTenThousand: ending a root is one entry, whatever hangs below it, and no descendant is active from that commit
// on, not even one whose issue was in flight.
func TestI5_OneEntryEndsTenThousand(t *testing.T) {
	const descendants, helpers, workers = 10_000, 64, 32
	w, root := lendingWorld(t, helpers, 0)
	small := w.lendable(root.Task, 0)
	only := w.lend(support, small.ID, control.Delegation{To: helper(0).Identity, Args: amount(1)})
	var mu sync.Mutex
	grants, lendable, grown := []access.Grant{*root}, []access.Grant{*root}, make(chan struct{})
	grow := func(r *rand.Rand) error {
		mu.Lock()
		at := lendable[r.IntN(len(lendable))]
		mu.Unlock()
		part := control.Delegation{To: helper(r.IntN(helpers)).Identity, Args: amount(1)}
		if r.IntN(16) == 0 {
			part.Mode, part.Args = access.Delegate, nil
		}
		answer, err := w.Delegate(t.Context(), control.Caller{Identity: at.Subject}, at.ID, part)
		if err == nil && answer.Grant == nil {
			return answer.Refusal()
		}
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if answer.Grant.Mode == access.Delegate {
			lendable = append(lendable, *answer.Grant)
		}
		if grants = append(grants, *answer.Grant); len(grants) == descendants+1 {
			close(grown)
		}
		return nil
	}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				var refused *control.Refusal
				if err := grow(r); err != nil && !errors.As(err, &refused) {
					t.Error(err)
					return
				}
			}
		})
	}
	<-grown
	mu.Lock()
	leaf := grants[1].ID
	mu.Unlock()
	times := map[string]time.Duration{}
	for name, c := range map[string]struct{ root, leaf string }{"one": {small.ID, only.ID}, "ten thousand": {root.ID, leaf}} {
		began := time.Now()
		answer, err := w.RevokeGrant(t.Context(), support, c.root, control.Grounds{})
		check(t, err)
		if known, err := w.Introspect(t.Context(), orders, "secret of "+c.leaf); err != nil || known != nil {
			t.Errorf("active after its end: %+v, %v", known, err)
		}
		times[name] = time.Since(began)
		if entry, err := w.store.Entry(t.Context(), answer.Evidence); err != nil || !strings.Contains(string(entry), `"writ.grant.ended"`) || !strings.Contains(string(entry), c.root) {
			t.Errorf("%v: %s", err, entry)
		}
	}
	mu.Lock()
	late := len(grants)
	mu.Unlock()
	close(stop)
	group.Wait()
	if rows := ended(t, w); !slices.Equal(rows, []string{root.ID, small.ID}) {
		t.Errorf("written as ended: %v", rows)
	}
	active := 0
	for i := range grants {
		known, err := w.Introspect(t.Context(), orders, "secret of "+grants[i].ID)
		check(t, err)
		if known != nil {
			active++
		}
	}
	if active > 0 {
		t.Errorf("%d of %d are still active", active, len(grants))
	}
	t.Logf("%d descendants, %d of them acknowledged after the revocation of the root was: one entry and an introspection took %s; of a root with one, %s",
		len(grants)-1, len(grants)-late, times["ten thousand"], times["one"])
}

// ended lists the grants of all tasks of the support bot that are written as ended.
func ended(t *testing.T, w *world) (ids []string) {
	check(t, ledger{w.store}.Read(t.Context(), func(v control.View) error {
		tasks, err := v.Tasks(support.Identity, 10)
		check(t, err)
		for i := range tasks {
			grants, err := v.GrantsOfTask(tasks[i].ID)
			check(t, err)
			for k := range grants {
				if grants[k].Status == access.GrantEnded {
					ids = append(ids, grants[k].ID)
				}
			}
		}
		return nil
	}))
	slices.Sort(ids)
	return ids
}

// Whoever is suspended loses what was lent to them for good: coming back brings nothing back, and it can be lent anew.
func TestI5_WhatWasLentDoesNotComeBackWithWhoHeldIt(t *testing.T) {
	w, root := lendingWorld(t, 2, 0)
	middle := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Mode: access.Delegate})
	leaf := w.lend(helper(0), middle.ID, control.Delegation{To: helper(1).Identity, Args: amount(1)})
	for _, status := range []access.Status{access.Suspended, access.Active} {
		check(t, fails(w.SetStatus(t.Context(), sam, helper(0).Identity, status, control.Grounds{})))
		for _, id := range []string{middle.ID, leaf.ID} {
			if w.live(sam, id) {
				t.Errorf("while its holder is %s, %s is alive", status, id)
			}
		}
	}
	again := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Args: amount(1)})
	if !w.live(sam, root.ID) || !w.live(sam, again.ID) {
		t.Error("what is above, or lent anew, is over too")
	}
	w.sound()
}

func TestIntrospectionIsForWhoHasToDoWithIt(t *testing.T) {
	w, root := lendingWorld(t, 3, 0)
	leaf := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Args: amount(1)})
	for name, c := range map[string]struct {
		caller control.Caller
		token  string
		want   bool
	}{
		"its holder":         {helper(0), "secret of " + leaf.ID, true},
		"who lent it":        {support, "secret of " + leaf.ID, true},
		"who guards it":      {orders, "secret of " + leaf.ID, true},
		"another agent":      {helper(1), "secret of " + leaf.ID, false},
		"a human":            {sam, "secret of " + leaf.ID, false},
		"nobody's token":     {orders, "forged", false},
		"of no grant":        {orders, "secret of 99999999", false},
		"somebody forgotten": {control.Caller{Identity: access.MustRef(`Agent::"gone"`)}, "secret of " + leaf.ID, false},
	} {
		known, err := w.Introspect(t.Context(), c.caller, c.token)
		if err != nil || (known != nil) != c.want {
			t.Errorf("%s: %+v, %v", name, known, err)
		}
	}
	check(t, fails(w.SetStatus(t.Context(), sam, orders.Identity, access.Suspended, control.Grounds{})))
	if known, err := w.Introspect(t.Context(), orders, "secret of "+leaf.ID); err != nil || known != nil {
		t.Errorf("a suspended guard learns %+v, %v", known, err)
	}
	if _, err := w.CountUse(t.Context(), orders, leaf.ID); kind(t, err) != control.NotYours {
		t.Errorf("a suspended guard counts: %v", err)
	}
}

func TestI1_ACredentialOfWhatWasLentIsOnRecord(t *testing.T) {
	w, root := lendingWorld(t, 1, 0)
	leaf := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Args: amount(1)})
	bound := control.Caller{Identity: helper(0).Identity, BoundTo: control.ByCertificate + "thumb"}
	answer := must[*control.Answer](t)(w.IssueCredential(t.Context(), bound, leaf.ID))
	if answer.Credential.BoundTo != bound.BoundTo || answer.Credential.ExpiresAt != leaf.ExpiresAt || answer.Grant.ID != leaf.ID {
		t.Errorf("%+v", answer.Credential)
	}
	entry, err := w.store.Entry(t.Context(), answer.Evidence)
	check(t, err)
	for _, part := range []string{`"writ.credential.issued"`, "fingerprint of " + leaf.ID, "x5t#S256:thumb"} {
		if !strings.Contains(string(entry), part) {
			t.Errorf("%s does not say %s", entry, part)
		}
	}
	if _, err := w.IssueCredential(t.Context(), support, leaf.ID); kind(t, err) != control.NotYours {
		t.Errorf("the lender has a credential of what it lent: %v", err)
	}
	if _, err := w.IssueCredential(t.Context(), helper(0), root.ID); kind(t, err) != control.NotYours {
		t.Errorf("a credential of somebody else's right: %v", err)
	}
	w.sound()
}

// Who lent a right, who receives it, and whoever answers for either judge nothing about it; the lender redeems, and the receiver has it.
func TestI6_NobodyInTheChainApprovesWhatIsLent(t *testing.T) {
	files := lendingSite(t, 1)
	edit(t, files, "catalog/helpers.yaml", `owner: 'Human::"dana"'`, `owner: 'Human::"bob"'`)
	edit(t, files, "catalog/people.yaml", `members: [Human::"alice", Human::"bob"]`, `members: [Human::"alice", Human::"bob", Human::"dana", Human::"sam"]`)
	files["policy/access/lent.cedar"] = []byte(`
@id("lent-payments-are-looked-at")
@owner("Human::\"sam\"")
@because("Somebody looks at payments that are passed on.")
@approval("team:payments")
forbid (principal, action == Action::"pay", resource) when { context.args has amount };
`)
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 120)
	root := w.lendable(w.open(support, "support"), 0)
	asked := must[*control.Answer](t)(w.Delegate(t.Context(), support, root.ID, control.Delegation{To: helper(0).Identity, Args: amount(1)}))
	if asked.Approval == nil || asked.Grant != nil {
		t.Fatalf("%+v", asked)
	}
	for _, near := range []control.Caller{dana, bob, support, helper(0)} { // the owner of the lender, that of the receiver, both themselves
		if err := answerOf(w, near, asked.ID, control.Reply{Approve: true}); kind(t, err) != control.NotEligible {
			t.Errorf("%s approved: %v", near.Identity, err)
		}
	}
	w.approve(sam, asked.ID, control.Reply{})
	if _, err := w.Redeem(t.Context(), helper(0), asked.ID, nil); kind(t, err) != control.NotYours {
		t.Errorf("the receiver redeemed what the lender asked for: %v", err)
	}
	got := must[*control.Answer](t)(w.Redeem(t.Context(), support, asked.ID, nil))
	if got.Grant == nil || got.Grant.Subject != helper(0).Identity || got.Grant.Parent != root.ID || got.Credential != nil {
		t.Errorf("%+v", got.Grant)
	}
	check(t, fails(w.IssueCredential(t.Context(), helper(0), got.Grant.ID)))
	w.sound()
}

// What whoever lent a right has read goes with it: lending it on does not wash the label off, and one gained later speaks against
// what was lent before. Who lent nothing is not concerned.
func TestLabelsGoDownTheChain(t *testing.T) {
	files := lendingSite(t, 3)
	edit(t, files, "catalog/agents.yaml", `openers: [Team::"support-agents"]`, `openers: [Team::"support-agents", Team::"helpers"]`)
	alone := control.Caller{Identity: access.MustRef(`Agent::"triage-bot"`)} // nobody lends it anything
	files["policy/schema.cedarschema"] = append(files["policy/schema.cedarschema"], `
action publish appliesTo { principal: [Agent], resource: [Channel], context: { labels: { chain: Set<String> } } };
`...)
	files["policy/access/publish.cedar"] = []byte(`
@id("anybody-publishes")
@owner("Human::\"dana\"")
@max_ttl("1h")
@until("2027-12-31")
permit (principal, action == Action::"publish", resource);
@id("not-what-is-known-above")
@owner("Human::\"dana\"")
@because("Whoever lent this has seen customer data.")
forbid (principal, action == Action::"publish", resource)
when { context.labels.chain.contains("customer-data") };
`)
	files["catalog/board.yaml"] = []byte("resources: [{id: 'Channel::\"board\"', owner: 'Human::\"dana\"'}]\n")
	w := worldOf(t, files)
	w.tell("o-1", "delivered", 120)
	publish := control.Ask{Action: access.MustRef(`Action::"publish"`), Resource: access.MustRef(`Channel::"board"`), Mode: access.Delegate, TTL: 600}
	sends, reads, apart := w.open(support, "support"), w.open(support, "support"), w.open(alone, "support")
	publish.Task = sends
	root := w.ok(support, publish)
	middle := w.lend(support, root.ID, control.Delegation{To: helper(0).Identity, Mode: access.Delegate, TTL: 300})
	leaf := w.lend(helper(0), middle.ID, control.Delegation{To: helper(1).Identity, TTL: 280})
	publish.Task, publish.Mode = apart, access.Use
	other := w.ok(alone, publish)
	w.now = w.now.Add(time.Minute) // less is left of all than was asked for, and that is no reason to end it
	w.tell("o-1", "delivered", 120)
	publish.Task, publish.Mode, publish.Resource = sends, access.Delegate, access.MustRef(`Channel::"customers"`)
	w.ok(support, publish) // brings the task a label that nothing speaks against
	if !w.live(sam, leaf.ID) {
		t.Fatal("a label that nothing speaks against ended it")
	}

	w.ok(support, control.Ask{Task: reads, Action: read, Resource: order1}) // in another task, by who is at the root
	for name, id := range map[string]string{"middle": middle.ID, "leaf": leaf.ID} {
		if w.live(sam, id) {
			t.Errorf("%s outlived the label", name)
		}
	}
	if !w.live(sam, root.ID) || !w.live(sam, other.ID) {
		t.Error("what nothing speaks against is over")
	}
	answer := must[*control.Answer](t)(w.Delegate(t.Context(), support, root.ID, control.Delegation{To: helper(2).Identity}))
	if answer.Decided.Code != access.CodeForbidden {
		t.Errorf("%+v", answer.Decided)
	}
	w.sound()
}
