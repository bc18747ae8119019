package control_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// tangle is who owns whom, who is in which team, and who asks for whom, as drawn. People are numbers.
type tangle struct {
	owners    []int // of support-bot, h0, h1, h2
	principal int   // that support-bot runs for; -1: nobody
	orders    int   // who owns the orders
	members   [2][]int
	nested    bool // the second team is in the first
	gateway   [2]int
	asks      int      // how: 0 support-bot itself, 1 a gateway for it, 2 to 4 a chain of that many agents
	forms     []string // of the policies that want approval
	away      []int
	instead   []int // who stands in for whom; -1: nobody
}

const manyPeople = 6

func person(i int) control.Caller {
	return control.Caller{Identity: access.Ref{Type: access.TypeHuman, ID: fmt.Sprint("p", i)}}
}

func drawTangle(t *rapid.T) tangle {
	who := rapid.IntRange(0, manyPeople-1)
	some := func(name string) []int {
		return rapid.SliceOfNDistinct(who, 0, manyPeople, func(i int) int { return i }).Draw(t, name)
	}
	return tangle{
		owners: rapid.SliceOfN(who, 4, 4).Draw(t, "owners"), principal: rapid.IntRange(-1, manyPeople-1).Draw(t, "principal"),
		orders: who.Draw(t, "owner of orders"), members: [2][]int{some("first team"), some("second team")}, nested: rapid.Bool().Draw(t, "nested"),
		gateway: [2]int{who.Draw(t, "owner of the gateway"), who.Draw(t, "owner of the enforcement point")}, asks: rapid.IntRange(0, 4).Draw(t, "asks"),
		forms: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{
			"team:x0", "2 of team:x0", "team:x1", "2 of team:x1", "resource-owner", "identity-owner", "confirm",
		}), 1, 3, rapid.ID[string]).Draw(t, "forms"),
		away:    rapid.SliceOfNDistinct(who, 0, 2, rapid.ID[int]).Draw(t, "away"),
		instead: rapid.SliceOfN(rapid.IntRange(-1, manyPeople-1), manyPeople, manyPeople).Draw(t, "substitutes"),
	}
}

// acts is who acts for a person now; -1: nobody.
func (g *tangle) acts(i int) int {
	if i < 0 || !slices.Contains(g.away, i) {
		return i
	}
	if other := g.instead[i]; other >= 0 && other != i && !slices.Contains(g.away, other) {
		return other
	}
	return -1
}

func (g *tangle) site(t testing.TB) control.Configuration {
	files := lendingSite(t, 1)
	delete(files, "catalog/helpers.yaml")
	var out strings.Builder
	fmt.Fprint(&out, "identities:\n")
	for i := range manyPeople {
		substitute := ""
		if other := g.instead[i]; other >= 0 && other != i {
			substitute = fmt.Sprintf(", substitute: 'Human::\"p%d\"'", other)
		}
		fmt.Fprintf(&out, "  - {id: 'Human::\"p%d\"'%s}\n", i, substitute)
	}
	for i := range 3 {
		fmt.Fprintf(&out, "  - {id: 'Agent::\"h%d\"', owner: 'Human::\"p%d\"', purpose: helps, review_by: 2027-12-31}\n", i, g.owners[i+1])
	}
	fmt.Fprintf(&out, "  - {id: 'Workload::\"gateway\"', owner: 'Human::\"p%d\"', purpose: passes on, review_by: 2027-12-31}\n", g.gateway[0])
	fmt.Fprintf(&out, "enforcement_points:\n  - {identity: 'Workload::\"gateway\"', owner: 'Human::\"p%d\"', subjects: ['Agent::\"support-bot\"']}\nteams:\n", g.gateway[1])
	for team, members := range g.members {
		var names []string
		for _, i := range members {
			names = append(names, fmt.Sprintf("'Human::\"p%d\"'", i))
		}
		if team == 0 && g.nested {
			names = append(names, `'Team::"x1"'`)
		}
		names = append(names, `'Agent::"report-bot"'`) // who is never asked, and a team is never empty
		fmt.Fprintf(&out, "  - {name: x%d, owner: 'Human::\"sam\"', members: [%s]}\n", team, strings.Join(names, ", "))
	}
	files["catalog/tangle.yaml"] = []byte(out.String())
	principal := ""
	if g.principal >= 0 {
		principal = fmt.Sprintf("\n    principal: Human::\"p%d\"", g.principal)
	}
	edit(t, files, "catalog/agents.yaml", "- id: Agent::\"support-bot\"\n    owner: Human::\"dana\"", fmt.Sprintf("- id: Agent::\"support-bot\"\n    owner: Human::\"p%d\"%s", g.owners[0], principal))
	edit(t, files, "catalog/resources.yaml", "has told exists\n    owner: Human::\"alice\"", fmt.Sprintf("has told exists\n    owner: Human::\"p%d\"", g.orders))
	files["policy/access/tangle.cedar"] = wanting(g.forms)
	return files
}

// wanting are policies that want approval for a payment of 7, in these forms.
func wanting(forms []string) []byte {
	var out strings.Builder
	for _, form := range forms {
		id := strings.NewReplacer(" ", "-", ":", "-").Replace(form)
		fmt.Fprintf(&out, "@id(%q)\n@owner(\"Human::\\\"sam\\\"\")\n@because(\"drawn\")\n@approval(%q)\nforbid (principal, action == Action::\"pay\", resource) when { context.args has amount && context.args.amount == 7 };\n", id, form)
	}
	return []byte(out.String())
}

// near are the people in or behind the asking.
func (g *tangle) near() []int {
	near := []int{g.owners[0], g.principal}
	switch {
	case g.asks == 1:
		near = append(near, g.gateway[:]...)
	case g.asks > 1:
		near = append(near, g.owners[1:g.asks]...)
	}
	for _, i := range slices.Clone(near) {
		near = append(near, g.acts(i))
	}
	return near
}

// able lists who may fill a place of a form, worked out from the drawing alone.
func (g *tangle) able(form string) []int {
	var candidates []int
	independent := true
	switch {
	case strings.HasSuffix(form, "team:x0"):
		candidates = slices.Clone(g.members[0])
		if g.nested {
			candidates = append(candidates, g.members[1]...)
		}
	case strings.HasSuffix(form, "team:x1"):
		candidates = g.members[1]
	case form == "resource-owner":
		candidates = []int{g.orders}
	case form == "identity-owner":
		candidates, independent = []int{g.owners[max(0, g.asks-1)]}, false // of who would have the right
		if g.asks == 1 {
			candidates = []int{g.owners[0]}
		}
	case form == "confirm":
		candidates, independent = []int{g.principal}, false
	}
	var able []int
	for _, holder := range candidates {
		human := holder
		if form != "confirm" {
			human = g.acts(holder)
		}
		near := slices.Contains(g.near(), human) || slices.Contains(g.near(), holder)
		if human >= 0 && (!near || !independent) {
			able = append(able, human)
		}
	}
	return able
}

// enough tries every seating of people in the places of the forms.
func (g *tangle) enough(people []int) bool {
	places := map[string]int{}
	for _, form := range g.forms {
		name, count := form, 1
		if rest, ok := strings.CutPrefix(form, "2 of "); ok {
			name, count = rest, 2
		}
		places[name] = max(places[name], count)
	}
	var list []string
	for form, count := range places {
		for range count {
			list = append(list, form)
		}
	}
	var seat func(place int, taken []int) bool
	seat = func(place int, taken []int) bool {
		if place == len(list) {
			return true
		}
		for _, i := range people {
			if !slices.Contains(taken, i) && slices.Contains(g.able(list[place]), i) && seat(place+1, append(slices.Clone(taken), i)) {
				return true
			}
		}
		return false
	}
	return seat(0, nil)
}

// ask asks for a payment of 7 in the drawn way, and returns who redeems an approval of it.
func (g *tangle) ask(w *world) (control.Caller, *control.Answer) {
	task := w.open(support, "support")
	if g.asks < 2 {
		caller := []control.Caller{support, {Identity: access.MustRef(`Workload::"gateway"`)}}[g.asks]
		return caller, must[*control.Answer](w.t)(w.Request(w.t.Context(), caller, control.Ask{Subject: support.Identity, Task: task, Action: pay, Resource: order1, Args: amount(7)}))
	}
	holder, grant := support, w.lendable(task, 0)
	for i := range g.asks - 2 {
		grant = w.lend(holder, grant.ID, control.Delegation{To: helper(i).Identity, Mode: access.Delegate})
		holder = helper(i)
	}
	answer := must[*control.Answer](w.t)(w.Delegate(w.t.Context(), holder, grant.ID, control.Delegation{To: helper(g.asks - 2).Identity, Args: amount(7)}))
	return holder, answer
}

// TestI6_NobodyIneligibleIsEverHeard draws who owns whom, who is in which team and who asks through whom, and has everybody answer:
// exactly those count who may by a reckoning of the test's own, and exactly when they are enough the question is approved. Then
// policies change, and the yes is good for exactly the ones that were on the card.
func TestI6_NobodyIneligibleIsEverHeard(t *testing.T) {
	heard, asked, approved, again := 0, 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		g := drawTangle(rt)
		w := worldOf(t, g.site(t))
		w.tell("o-1", "delivered", 120)
		for _, i := range g.away {
			check(t, fails(w.SetAway(t.Context(), person(i), w.now.Add(time.Hour))))
		}
		asker, question := g.ask(w)
		everybody := []int{0, 1, 2, 3, 4, 5}
		if !g.enough(everybody) {
			if question.Decided.Code != access.CodeNoEligibleApprover || question.Approval != nil {
				rt.Fatalf("nobody can approve this, and it was asked: %+v", question.Decided)
			}
			return
		}
		asked++
		var yes []int
		status := access.ApprovalPending
		for _, i := range rapid.Permutation(everybody).Draw(rt, "order") {
			may := slices.ContainsFunc(g.forms, func(form string) bool { return slices.Contains(g.able(strings.TrimPrefix(form, "2 of ")), i) })
			said, err := w.answer(person(i), question.ID, control.Reply{Approve: true})
			switch {
			case status != access.ApprovalPending:
				if kind(t, err) != control.WrongState {
					rt.Fatalf("p%d answered what is answered: %v", i, err)
				}
				continue
			case !may:
				if kind(t, err) != control.NotEligible {
					rt.Fatalf("p%d may not answer, and did: %v", i, err)
				}
				continue
			case err != nil:
				rt.Fatalf("p%d may answer: %v", i, err)
			}
			heard++
			yes = append(yes, i)
			if status = said.Approval.Status; (status == access.ApprovalApproved) != g.enough(yes) {
				rt.Fatalf("%v said yes, and it is %s", yes, status)
			}
		}
		if status != access.ApprovalApproved {
			rt.Fatalf("everybody said yes, and it is %s", status)
		}
		approved++
		for _, agent := range []control.Caller{support, helper(0), helper(1), helper(2)} {
			if kind(t, answerOf(w, agent, question.ID, control.Reply{Approve: true})) == "" {
				rt.Fatalf("%s was heard", agent.Identity)
			}
		}
		again += g.redeemUnderOthers(rt, w, asker, question)
		w.sound()
	})
	t.Logf("%d questions, %d answers heard, %d approved, %d redeemed under other policies", asked, heard, approved, again)
}

// redeemUnderOthers changes the policies, and redeems.
func (g *tangle) redeemUnderOthers(t *rapid.T, w *world, asker control.Caller, question *control.Answer) int {
	now := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"team:x0", "2 of team:x0", "team:x1", "resource-owner", "confirm"}), 0, 3, rapid.ID[string]).Draw(t, "forms now")
	files := g.site(w.t)
	files["policy/access/tangle.cedar"] = wanting(now)
	check(w.t, fails(w.Apply(w.t.Context(), nil, files, nil, false)))
	redeemed, err := w.Redeem(w.t.Context(), asker, question.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	covered := !slices.ContainsFunc(now, func(form string) bool { return !slices.Contains(g.forms, form) })
	if (redeemed.Decided.Outcome == access.Allow) != covered {
		t.Fatalf("a yes to %v under %v: %s %s", g.forms, now, redeemed.Decided.Outcome, redeemed.Decided.Code)
	}
	return 1
}
