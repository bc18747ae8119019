package access

import (
	"encoding/json"
	"slices"
	"time"
)

func agent(id string) Ref { return Ref{TypeAgent, id} }
func human(id string) Ref { return Ref{TypeHuman, id} }
func team(id string) Ref  { return Ref{TypeTeam, id} }
func table(id string) Ref { return Ref{"Table", id} }
func act(id string) Ref   { return Ref{TypeAction, id} }

func noon() time.Time                  { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }
func after(d time.Duration) time.Time  { return noon().Add(d) }
func before(d time.Duration) time.Time { return noon().Add(-d) }

func openTask() *Task {
	return &Task{ID: "t", Type: "support", Subject: agent("lead"), Status: TaskOpen, OpenedAt: before(time.Hour), ExpiresAt: after(time.Hour), HeartbeatAt: noon()}
}

// rootGrant is what the lead bot holds and may lend, under a task of its own.
func rootGrant() Grant {
	return Grant{
		ID: "g", Task: "t", Subject: agent("lead"), Action: act("read"), Resource: table("orders"), Args: json.RawMessage(`{"rows":10}`),
		Mode: Delegate, Status: GrantActive, GrantedAt: before(time.Minute), ExpiresAt: after(time.Minute),
	}
}

// soundInput is a request against which nothing stands: the bot reads, within the task of the lead bot, what that lent it.
func soundInput() *Input {
	root := rootGrant()
	return &Input{
		Request: Request{
			Subject: agent("bot"), Principal: human("pat"), Action: root.Action, Resource: root.Resource, Args: root.Args,
			Mode: Use, Task: "t", Parent: root.ID,
		},
		Standing: Standing{
			Subject: Active, Principal: Active, Owned: true, Task: openTask(),
			Chain: []Grant{root}, Above: []Status{Active},
		},
		Now: noon(), Bundle: "b",
	}
}

// rootInput is a sound request that stands under no grant.
func rootInput() *Input {
	in := soundInput()
	in.Request.Parent, in.Standing.Chain, in.Standing.Above = "", nil, nil
	return in
}

// always says the same to every question, and notes that it was asked.
type always struct {
	decided Decided
	asked   *int
}

func (a always) Decide(*Input) Decided {
	if a.asked != nil {
		*a.asked++
	}
	return a.decided
}

// town is People made of a catalog; everybody is active but those named.
type town struct {
	*Index
	gone []Ref
	away []Ref
}

func (p town) Behind() []Ref { return nil }

func (p town) IsAway(id Ref) bool { return slices.Contains(p.away, id) }

func (p town) IsActive(id Ref) bool {
	_, ok := p.Identity(id)
	return ok && !slices.Contains(p.gone, id)
}

func (p town) OwnerOf(resource Ref) (Ref, bool) {
	r, ok := p.Resource(resource)
	if !ok {
		return Ref{}, false
	}
	return r.Owner, true
}

// smallTown: olga owns the bot, pat is whom it runs for, ada owns the table; lee owns the lead bot, which runs for paul.
func smallTown(gone ...Ref) town {
	c := Catalog{
		Identities: []Identity{
			{ID: agent("bot"), Owner: human("olga"), Principal: human("pat")},
			{ID: agent("lead"), Owner: human("lee"), Principal: human("paul")},
			{ID: agent("spare"), Owner: human("olga")},
		},
		Teams: []Team{
			{Name: "ops", Members: []Ref{human("ada"), human("bob"), human("cy")}},
			{Name: "everyone", Members: []Ref{
				team("ops"), human("olga"), human("pat"), human("lee"), human("paul"), agent("bot"), agent("lead"), agent("spare"), human("stranger"),
			}},
		},
		Resources: []Resource{{ID: table("orders"), Owner: human("ada")}, {ID: table("mine"), Owner: human("olga")}, {ID: table("odd"), Owner: agent("spare")}},
	}
	for _, name := range []string{"ada", "bob", "cy", "olga", "pat", "lee", "paul"} {
		c.Identities = append(c.Identities, Identity{ID: human(name)})
	}
	return town{Index: NewIndex(c), gone: gone}
}

func requires(forms ...string) []Requirement {
	var out []Requirement
	for _, text := range forms {
		form, err := ParseApprovalForm(text)
		if err != nil {
			panic(err)
		}
		out = append(out, Requirement{Policy: "p-" + text, Hash: "h-" + text, Form: form})
	}
	return out
}
