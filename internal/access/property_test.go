package access

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func pick[T any](t *rapid.T, label string, of ...T) T { return rapid.SampledFrom(of).Draw(t, label) }

func drawTime(t *rapid.T, label string, from, to time.Duration) time.Time {
	return after(time.Duration(rapid.Int64Range(int64(from), int64(to)).Draw(t, label)))
}

// above is the chain over a new child of a grant, parent first.
func above(grants []Grant, parent string) []Grant {
	var chain []Grant
	for parent != "" {
		i := slices.IndexFunc(grants, func(g Grant) bool { return g.ID == parent })
		chain = append(chain, grants[i])
		parent = grants[i].Parent
	}
	return chain
}

func TestI3_AuthorityOnlyShrinks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var grants []Grant
		leftAtBirth := map[[2]string]int64{} // what an ancestor had left when a grant was made
		for n := range rapid.IntRange(5, 40).Draw(t, "tries") {
			parent := ""
			if len(grants) > 0 && rapid.IntRange(0, 9).Draw(t, "below") > 0 {
				parent = grants[pick(t, "parent", len(grants)-1, rapid.IntRange(0, len(grants)-1).Draw(t, "any"))].ID // often the newest, so that chains grow
			}
			r := Request{
				Subject: agent(pick(t, "subject", "a", "b", "c")), Action: act(pick(t, "action", "read", "read", "read", "write")), Resource: table(pick(t, "resource", "x", "x", "x", "y")),
				Args: json.RawMessage(pick(t, "args", ``, `{}`, ` {} `, `{"n":1}`)), TTL: Seconds(rapid.IntRange(0, 900).Draw(t, "ttl")), Mode: pick(t, "mode", Delegate, Delegate, Use), Parent: parent,
			}
			in := &Input{Request: r, Standing: Standing{Task: openTask(), Chain: above(grants, parent)}, Now: after(time.Duration(n))}
			if len(in.Standing.Chain) > 0 && (!in.Standing.Chain[0].Live(in.Now) || in.Standing.Chain[0].Exceeds(&r, in.Now) != "") {
				continue
			}
			limit := Bound(in, Bounds{MaxUses: pick[int64](t, "uses", 0, 0, 3, 9)}, nil)
			g := Grant{
				ID: fmt.Sprint("g", n), Parent: parent, Subject: r.Subject, Action: r.Action, Resource: r.Resource, Args: r.Args, Mode: r.Mode,
				Depth: len(in.Standing.Chain), MaxUses: limit.MaxUses, Status: GrantActive, GrantedAt: in.Now, ExpiresAt: limit.ExpiresAt,
			}
			for _, a := range in.Standing.Chain {
				leftAtBirth[[2]string{a.ID, g.ID}] = a.MaxUses - a.Uses
			}
			grants = append(grants, g)
			used := &grants[rapid.IntRange(0, len(grants)-1).Draw(t, "used")]
			if used.MaxUses > 1 && used.Uses < used.MaxUses-1 {
				used.Uses++
			}
		}
		for i := range grants {
			child := &grants[i]
			chain := above(grants, child.Parent)
			if child.Depth > MaxDepth || child.Depth != len(chain) {
				t.Fatalf("%s lies %d deep", child.ID, child.Depth)
			}
			for k, a := range chain {
				switch {
				case child.Action != a.Action, child.Resource != a.Resource, !sameArgs(child.Args, a.Args):
					t.Fatalf("%+v may do what %+v may not", child, a)
				case child.ExpiresAt.After(a.ExpiresAt):
					t.Fatalf("%+v lives longer than %+v", child, a)
				case a.MaxUses > 0 && (child.MaxUses == 0 || child.MaxUses > leftAtBirth[[2]string{a.ID, child.ID}]):
					t.Fatalf("%+v may be used more often than %+v", child, a)
				case a.Mode != Delegate && a.Subject != child.Subject:
					t.Fatalf("%+v was not %v's to lend", child, a.Subject)
				case child.Mode == Delegate && a.Mode != Delegate, k == 0 && child.Subject == a.Subject && child.Mode != a.Mode:
					t.Fatalf("the right of %+v is none that %+v has", child, a)
				}
			}
		}
	})
}

func TestI4_OneClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rootInput()
		task := in.Standing.Task
		task.ExpiresAt = drawTime(t, "task", -time.Minute, 20*time.Minute)
		in.Request.TTL = Seconds(rapid.OneOf(rapid.Int64Range(0, 1200), rapid.Int64()).Draw(t, "ttl"))
		for range rapid.IntRange(0, 3).Draw(t, "above") {
			g := rootGrant()
			g.ExpiresAt = drawTime(t, "grant", -time.Minute, 20*time.Minute)
			in.Standing.Chain = append(in.Standing.Chain, g)
		}
		bounds := Bounds{MaxTTL: Seconds(rapid.OneOf(rapid.Int64Range(0, 1200), rapid.Int64()).Draw(t, "max"))}
		if rapid.Bool().Draw(t, "until?") {
			bounds.Until = drawTime(t, "until", -time.Minute, 20*time.Minute)
		}
		if rapid.Bool().Draw(t, "approved?") {
			in.Approval = &Limit{ExpiresAt: drawTime(t, "approval", -time.Minute, 20*time.Minute), MaxUses: 2}
		}

		// The oracle: the earliest of all ends.
		ends := []time.Time{task.ExpiresAt}
		wanted := in.Request.TTL
		if wanted == 0 {
			wanted = DefaultTTL
		}
		ends = append(ends, noon().Add(wanted.Duration()))
		if bounds.MaxTTL != 0 {
			ends = append(ends, noon().Add(bounds.MaxTTL.Duration()))
		}
		if !bounds.Until.IsZero() {
			ends = append(ends, bounds.Until)
		}
		for _, g := range in.Standing.Chain {
			ends = append(ends, g.ExpiresAt)
		}
		if in.Approval != nil {
			ends = append(ends, in.Approval.ExpiresAt)
		}
		want := slices.MinFunc(ends, time.Time.Compare)
		if got := Bound(in, bounds, in.Approval).ExpiresAt; !got.Equal(want) {
			t.Fatalf("ends %v, want %v of %v", got, want, ends)
		}
		decided, limit := Settle(in, Decided{Outcome: Allow, Bounds: bounds})
		if want.After(in.Now) != (decided.Outcome == Allow) || decided.Outcome == Deny && decided.Code != CodeBoundsExceeded {
			t.Fatalf("a grant that ends %v is settled %+v", want, decided)
		}
		if decided.Outcome == Allow && !limit.ExpiresAt.After(in.Now) {
			t.Fatalf("a grant that is over: %v", limit)
		}

		// Pausing moves no clock: not the task's, and not that of what is granted under it.
		paused := *task
		paused.Status = TaskPaused
		now := drawTime(t, "now", -time.Hour, time.Hour)
		if !paused.Due().Equal(task.ExpiresAt) || (paused.Overdue(now) == EndExpired) != !now.Before(task.ExpiresAt) || paused.Live(now) {
			t.Fatalf("paused: %+v", paused)
		}
		in.Standing.Task = &paused
		if got := Bound(in, bounds, in.Approval).ExpiresAt; !got.Equal(want) {
			t.Fatalf("under a paused task it ends %v, want %v", got, want)
		}
	})
}

// world is a random forest: humans own identities and are their principals, identities hold tasks, tasks hold grants,
// grants lie below grants. Its maps are its rows.
type world struct {
	identities map[Ref]Identity
	status     map[Ref]Status
	tasks      map[string]Task
	grants     map[string]Grant
}

func drawWorld(t *rapid.T) world {
	w := world{map[Ref]Identity{}, map[Ref]Status{}, map[string]Task{}, map[string]Grant{}}
	anyStatus := func() Status { return pick(t, "status", Active, Active, Active, Active, Active, Active, Suspended, "") }
	humans := people("h0", "h1", "h2")
	for _, h := range humans {
		w.identities[h], w.status[h] = Identity{ID: h}, anyStatus()
	}
	var agents []Ref
	for i := range rapid.IntRange(1, 5).Draw(t, "agents") {
		id := agent(fmt.Sprint("a", i))
		w.identities[id] = Identity{ID: id, Owner: pick(t, "owner", humans...)}
		w.status[id] = anyStatus()
		agents = append(agents, id)
	}
	var tasks []string
	for i := range rapid.IntRange(1, 6).Draw(t, "tasks") {
		task := *openTask()
		task.ID, task.Subject = fmt.Sprint("t", i), pick(t, "subject", agents...)
		task.Status = pick(t, "task", TaskOpen, TaskOpen, TaskOpen, TaskOpen, TaskPaused, TaskEnded)
		task.ExpiresAt = pick(t, "expiry", after(time.Hour), after(time.Hour), after(time.Hour), noon())
		task.Principal = pick(t, "principal", append(humans, Ref{})...)
		w.tasks[task.ID] = task
		tasks = append(tasks, task.ID)
	}
	parents := map[string][]string{}
	for i := range rapid.IntRange(1, 12).Draw(t, "grants") {
		task := w.tasks[pick(t, "of", tasks...)]
		g := rootGrant()
		g.ID, g.Task, g.Subject = fmt.Sprint("g", i), task.ID, task.Subject
		if g.Parent = pick(t, "below", append(parents[task.ID], "")...); g.Parent != "" {
			g.Subject = pick(t, "lent to", agents...)
		}
		g.Cut = pick(t, "cut", false, false, false, false, true)
		g.Status = pick(t, "grant", GrantActive, GrantActive, GrantActive, GrantActive, GrantActive, GrantEnded)
		g.MaxUses = pick[int64](t, "uses", 0, 0, 0, 1)
		g.Uses = pick[int64](t, "used", 0, 0, 1)
		w.grants[g.ID] = g
		parents[task.ID] = append(parents[task.ID], g.ID)
	}
	return w
}

func (w world) clone() world {
	out := world{map[Ref]Identity{}, map[Ref]Status{}, map[string]Task{}, map[string]Grant{}}
	for k, v := range w.identities {
		out.identities[k] = v
	}
	for k, v := range w.status {
		out.status[k] = v
	}
	for k, v := range w.tasks {
		out.tasks[k] = v
	}
	for k, v := range w.grants {
		out.grants[k] = v
	}
	return out
}

// stands is what Standing.Above holds: an identity is active if its owner is.
func (w world) stands(id Ref) Status {
	if w.status[w.identities[id].Owner] != Active {
		return Suspended
	}
	return w.status[id]
}

// live is what the use cases do: gather the standing of a grant, and ask.
func (w world) live(id string) bool {
	g := w.grants[id]
	identity, task := w.identities[g.Subject], w.tasks[g.Task]
	in := &Input{
		Request: Request{Subject: g.Subject, Principal: task.Principal, Task: g.Task, Parent: g.Parent, Action: g.Action},
		Now:     noon(),
		Standing: Standing{
			Subject: w.status[g.Subject], Principal: w.status[task.Principal], Owned: w.status[identity.Owner] == Active, Task: &task,
		},
	}
	for at := g.Parent; at != ""; at = w.grants[at].Parent {
		in.Standing.Chain = append(in.Standing.Chain, w.grants[at])
		in.Standing.Above = append(in.Standing.Above, w.stands(w.grants[at].Subject))
	}
	return in.Standing.Dead(in) == "" && g.Live(in.Now)
}

// below reports whether the grant hangs on the node: itself, a grant above, or the task or a person of either.
func (w world) below(id string, node any) bool {
	for at := id; at != ""; at = w.grants[at].Parent {
		g := w.grants[at]
		identity := w.identities[g.Subject]
		switch node {
		case g.ID, taskNode(g.Task), g.Subject, identity.Owner, w.tasks[g.Task].Principal:
			return true
		}
	}
	return false
}

type taskNode string

// walk is liveness by brute force, with no code of the package but its constants.
func (w world) walk(id string) bool {
	g := w.grants[id]
	identity, task := w.identities[g.Subject], w.tasks[g.Task]
	switch {
	case g.Status != GrantActive, g.Cut, !noon().Before(g.ExpiresAt), g.MaxUses > 0 && g.Uses >= g.MaxUses:
		return false
	case task.Status != TaskOpen, !noon().Before(task.ExpiresAt):
		return false
	case w.status[g.Subject] != Active, w.status[identity.Owner] != Active, !task.Principal.IsZero() && w.status[task.Principal] != Active:
		return false
	}
	return g.Parent == "" || w.walk(g.Parent)
}

// end ends one node, and says which.
func (w world) end(t *rapid.T) any {
	switch pick(t, "kind", "grant", "task", "identity") {
	case "grant":
		g := w.grants[pick(t, "node", sorted(w.grants, func(a, b string) bool { return a < b })...)]
		g.Status = GrantEnded
		w.grants[g.ID] = g
		return g.ID
	case "task":
		task := w.tasks[pick(t, "node", sorted(w.tasks, func(a, b string) bool { return a < b })...)]
		task.Status = pick(t, "how", TaskPaused, TaskEnded)
		w.tasks[task.ID] = task
		return taskNode(task.ID)
	default:
		id := pick(t, "node", sorted(w.status, func(a, b Ref) bool { return a.Compare(b) < 0 })...)
		w.status[id] = pick(t, "how", Suspended, Retired)
		return id
	}
}

func sorted[K comparable, V any](rows map[K]V, less func(a, b K) bool) []K {
	var keys []K
	for k := range rows {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int {
		if less(a, b) {
			return -1
		}
		return 1
	})
	return keys
}

func TestI5_LivenessIsDerivedFromAllAncestors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for id := range w.grants {
			if got, want := w.live(id), w.walk(id); got != want {
				t.Fatalf("%s is alive: %v, want %v in %+v", id, got, want, w)
			}
		}
	})
}

func TestI5_EndingANodeEndsExactlyWhatLiesBelow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		was := drawWorld(t)
		now := was.clone()
		node := now.end(t)
		for id := range was.grants {
			if got, want := now.live(id), was.live(id) && !was.below(id, node); got != want {
				t.Fatalf("after the end of %v, %s is alive: %v, want %v in %+v", node, id, got, want, was)
			}
		}
		changed := 0
		for id := range was.grants {
			if !cmp.Equal(was.grants[id], now.grants[id]) {
				changed++
			}
		}
		for id := range was.tasks {
			if !cmp.Equal(was.tasks[id], now.tasks[id]) {
				changed++
			}
		}
		for id := range was.status {
			if was.status[id] != now.status[id] {
				changed++
			}
		}
		if changed > 1 {
			t.Fatalf("%d rows changed for the end of %v", changed, node)
		}
	})
}

func TestI6_WhoeverAnswersIsNotInvolved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		humans := people("h0", "h1", "h2", "h3", "h4", "h5")
		c := Catalog{Teams: []Team{{Name: "all", Members: humans}}, Resources: []Resource{{ID: table("x"), Owner: pick(t, "owns", humans...)}}}
		for _, h := range humans {
			c.Identities = append(c.Identities, Identity{ID: h})
		}
		parties := slices.Clone(humans)
		for i := range 3 {
			id := agent(fmt.Sprint("a", i))
			c.Identities = append(c.Identities, Identity{ID: id, Owner: pick(t, "owner", humans...), Principal: pick(t, "principal", append(slices.Clone(humans), Ref{})...)})
			parties = append(parties, id, id) // mostly agents
		}
		x := NewIndex(c)
		gone := rapid.SliceOfN(rapid.SampledFrom(humans), 0, 2).Draw(t, "gone")
		in := rootInput()
		in.Request.Subject, in.Request.Principal = pick(t, "subject", parties...), pick(t, "for", append(slices.Clone(humans), Ref{})...)
		in.Request.Resource = table("x")
		in.Caller = pick(t, "caller", append(slices.Clone(parties), Ref{})...)
		involved := []Ref{in.Caller, in.Request.Subject, in.Request.Principal}
		for range rapid.IntRange(0, 2).Draw(t, "above") {
			g := rootGrant()
			g.Subject = pick(t, "holder", parties...)
			in.Standing.Chain = append(in.Standing.Chain, g)
			involved = append(involved, g.Subject)
		}
		for _, id := range slices.Clone(involved) {
			if identity, ok := x.Identity(id); ok {
				involved = append(involved, identity.Owner, identity.Principal)
			}
		}

		question := pending(pick(t, "form", "resource-owner", "team:all", "2 of team:all"))
		if rapid.Bool().Draw(t, "also") {
			question.Requires = append(question.Requires, requires("resource-owner")...)
		}
		for _, who := range parties {
			after, err := question.Answered(Answer{By: who, Approve: true, At: noon()}, in, town{Index: x, gone: gone})
			if err == nil && (slices.Contains(involved, who) || slices.Contains(gone, who) || who.Type != TypeHuman) {
				t.Fatalf("%v answered, and is one of %v or of %v", who, involved, gone)
			}
			if err == nil {
				question = after
			}
			if question.Status != ApprovalPending {
				break
			}
		}
		if question.Status == ApprovalApproved && len(question.Answers) < question.Requires[0].Form.Count {
			t.Fatalf("approved by %d", len(question.Answers))
		}
	})
}

func TestI6_SatisfiedIsAMatchingOfDistinctPeople(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		everybody := people("a", "b", "c", "d", "e")
		some := func(label string) []Ref { return rapid.SliceOfN(rapid.SampledFrom(everybody), 0, 5).Draw(t, label) }
		able := map[string][]Ref{}
		var asked []Requirement
		most := map[string]int{}
		for range rapid.IntRange(0, 4).Draw(t, "requirements") {
			form := pick(t, "form", ApprovalForm{FormResourceOwner, "", 1}, ApprovalForm{FormTeam, "x", 1}, ApprovalForm{FormTeam, "x", 2}, ApprovalForm{FormTeam, "y", 1}, ApprovalForm{FormTeam, "y", 3})
			key := form.Kind + form.Team
			if _, ok := able[key]; !ok {
				able[key] = some("able")
			}
			most[key] = max(most[key], form.Count)
			asked = append(asked, Requirement{Form: form})
		}
		who := some("who")

		// The oracle tries every seating of every person.
		var places []string
		for key, n := range most {
			for range n {
				places = append(places, key)
			}
		}
		var seat func(place int, taken []Ref) bool
		seat = func(place int, taken []Ref) bool {
			if place == len(places) {
				return true
			}
			for _, person := range who {
				if slices.Contains(able[places[place]], person) && !slices.Contains(taken, person) && seat(place+1, append(slices.Clone(taken), person)) {
					return true
				}
			}
			return false
		}
		want := len(places) > 0 && seat(0, nil)
		if got := Satisfied(asked, who, func(f ApprovalForm) []Ref { return able[f.Kind+f.Team] }); got != want {
			t.Fatalf("%v of %v for %v: %v, want %v", who, able, asked, got, want)
		}
	})
}

// drawStanding draws any input; most of its parts are sound, so that some inputs are so altogether.
func drawStanding(t *rapid.T) *Input {
	in := soundInput()
	rare := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) == 0 }
	status := func() Status {
		if rare("bad") {
			return pick(t, "status", "", Suspended, Retired, "ACTIVE", " active", "bogus")
		}
		return Active
	}
	s := &in.Standing
	s.Subject, s.Principal, s.Owned = status(), status(), !rare("unowned")
	if rare("no principal") {
		in.Request.Principal = Ref{}
	}
	spoil := func(task *Task) {
		if rare("bad") {
			task.Status = pick(t, "task", "", "bogus", TaskPaused, TaskEnded, TaskSealed)
		}
		if rare("late") {
			task.ExpiresAt = pick(t, "expiry", time.Time{}, noon(), before(time.Hour))
		}
	}
	spoil(s.Task)
	if rare("no task") {
		s.Task = nil
	}
	if rare("no task id") {
		in.Request.Task = ""
	}
	s.Chain, s.Above = nil, nil
	depth := rapid.IntRange(0, 3).Draw(t, "depth")
	name := func(i int) string {
		if i == depth {
			return ""
		}
		return fmt.Sprint("g", i)
	}
	in.Request.Parent = name(0)
	for i := range depth {
		g := rootGrant()
		g.ID, g.Parent = name(i), name(i+1)
		if rare("another task") {
			g.Task = "other"
		}
		if rare("bad grant") {
			g.Status = pick(t, "grant", "", "bogus", GrantEnded)
		}
		s.Chain, s.Above = append(s.Chain, g), append(s.Above, status())
	}
	if depth > 0 {
		switch rapid.IntRange(0, 30).Draw(t, "missing") {
		case 0:
			s.Chain = s.Chain[1:]
		case 1:
			s.Chain = s.Chain[:depth-1]
		case 2:
			s.Above = s.Above[1:]
		case 3:
			in.Request.Parent = pick(t, "parent", "", "other")
		case 4:
			s.Chain[depth-1].Parent = "root"
		case 5:
			s.Chain, s.Above = s.Chain[1:], s.Above[1:]
		}
	}
	return in
}

func TestI7_NothingIsAllowedUnlessEverythingHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawStanding(t)
		s := &in.Standing
		sound := s.Subject == Active && s.Owned && (s.Principal == Active || in.Request.Principal.IsZero())
		running := func(task *Task) bool { return task.Status == TaskOpen && noon().Before(task.ExpiresAt) }
		sound = sound && in.Request.Task != "" && s.Task != nil && running(s.Task)
		sound = sound && len(s.Above) == len(s.Chain)
		next := in.Request.Parent
		for i := 0; sound && i < len(s.Chain); i++ {
			sound = s.Chain[i].ID == next && s.Chain[i].Status == GrantActive && s.Above[i] == Active && s.Chain[i].Task == "t"
			next = s.Chain[i].Parent
		}
		sound = sound && next == ""

		decided := Decide(in, always{decided: Decided{Outcome: Allow}})
		if got := decided.Outcome == Allow; got != sound {
			t.Fatalf("%+v is decided %+v, and sound is %v", in, decided, sound)
		}
		if !sound && (decided.Outcome != Deny || decided.Code == "") {
			t.Fatalf("a refusal says why: %+v", decided)
		}
	})
}

func TestI7_TheZeroStandingIsDead(t *testing.T) {
	in := &Input{}
	if in.Standing.Dead(in) == "" {
		t.Error("nobody is alive")
	}
}

// echo decides by what it is told, and says in its answer all that it saw.
type echo struct{ decided Decided }

func (e echo) Decide(in *Input) Decided {
	text, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(text)
	out := e.decided
	out.Problem = hex.EncodeToString(sum[:])
	return out
}

func TestI8_DecisionsReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawStanding(t)
		text := rapid.String()
		in.Request.Subject.ID, in.Request.Resource.ID = "s"+text.Draw(t, "subject"), "r"+text.Draw(t, "resource")
		for i := range in.Standing.Chain {
			in.Standing.Chain[i].Resource = in.Request.Resource
		}
		args, err := json.Marshal(map[string]any{text.Draw(t, "name"): text.Draw(t, "value"), "n": rapid.Int64().Draw(t, "n")})
		if err != nil {
			t.Fatal(err)
		}
		in.Request.Args = args
		for i := range in.Standing.Chain {
			in.Standing.Chain[i].Args = args
		}
		if rapid.Bool().Draw(t, "open") {
			in.Request.Mode, in.Request.Args = Delegate, nil
			in.Request.Constraints = Constraints{"n": drawConstraint(2).Draw(t, "constraint"), text.Draw(t, "other"): {Kind: ConstraintWildcard}}
			for i := range in.Standing.Chain {
				in.Standing.Chain[i].Args, in.Standing.Chain[i].Constraints = nil, in.Request.Constraints
			}
		}
		in.Request.TTL = Seconds(rapid.Int64Range(0, 600).Draw(t, "ttl"))
		in.Now = noon().Add(time.Duration(rapid.Int64Range(-1e9, 1e9).Draw(t, "now"))).In(pick(t, "zone", time.UTC, time.FixedZone("", 3600*5+1800)))
		in.Facts.Entities = []Entity{{ID: in.Request.Subject, Attributes: args}}
		in.Facts.Labels.Task = rapid.SliceOfN(text, 0, 2).Draw(t, "labels")
		in.Facts.Counts = rapid.MapOfN(text, rapid.Int64(), 0, 2).Draw(t, "counts")
		if rapid.Bool().Draw(t, "approved") {
			in.Discharges, in.Approval = []Discharge{{Policy: "h", Risk: 1, Approval: "a"}}, &Limit{ExpiresAt: drawTime(t, "approval", 0, time.Hour)}
		}
		decided := Decided{Outcome: pick(t, "outcome", Allow, NeedsApproval, Deny, "bogus")}
		decided.Bounds.MaxTTL = Seconds(rapid.IntRange(0, 600).Draw(t, "max"))
		if decided.Outcome == NeedsApproval {
			decided.Requires = requires(pick(t, "form", "team:ops", "2 of team:ops", "team:a of b"), "resource-owner")
			in.Approvers = ApproversFor(decided.Requires, in, smallTown())
			if rapid.Bool().Draw(t, "known") {
				in.Approvers = Approvers{"2 of team:ops": people("bob", "cy"), "team:a of b": people("bob"), "resource-owner": people("ada")}
			}
		}

		entry, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var replayed Input
		if err := json.Unmarshal(entry, &replayed); err != nil {
			t.Fatalf("%v: %s", err, entry)
		}
		settle := func(in *Input) []byte {
			decided, limit := Settle(in, Decide(in, echo{decided}))
			text, err := json.Marshal(struct {
				Decided Decided
				Limit   Limit
			}{decided, limit})
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		first := settle(in)
		if again := settle(in); !bytes.Equal(first, again) {
			t.Fatalf("the same input gave %s, then %s", first, again)
		}
		if again := settle(&replayed); !bytes.Equal(first, again) {
			t.Fatalf("%s replays as %s", first, again)
		}
	})
}
