package access

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func declared() Catalog {
	return Catalog{
		Identities: []Identity{
			{ID: agent("bot"), Match: []Match{{Issuer: "https://idp", Subject: Exactly("bot-1")}, {Issuer: "https://idp", Claims: map[string]Claim{"repo": Exactly("shop"), "env": Exactly("prod")}}}},
			{ID: agent("twin"), Match: []Match{{Issuer: "https://idp", Claims: map[string]Claim{"env": Exactly("prod")}}, {Issuer: "https://other", Subject: Exactly("bot-1")}}},
			{ID: agent("guarded"), Match: []Match{{Issuer: "https://idp", Subject: Exactly("guarded"), Claims: map[string]Claim{"env": Exactly("prod")}}}},
			{ID: agent("anything"), Match: []Match{{Issuer: "https://open"}}},
			{ID: agent("same-1"), Match: []Match{{Issuer: "https://twins", Subject: Exactly("s")}}},
			{ID: agent("same-2"), Match: []Match{{Issuer: "https://twins", Subject: Exactly("s")}}},
			{ID: agent("twice"), Match: []Match{{Issuer: "https://twice", Subject: Exactly("s")}, {Issuer: "https://twice", Subject: Exactly("s")}, {Issuer: "https://twice", Claims: map[string]Claim{"sub": Exactly("s")}}}},
			{ID: agent("silent")},
			{ID: agent("both"), Match: []Match{{Issuer: "https://left", Claims: map[string]Claim{"l": Exactly("1")}}, {Issuer: "https://right", Claims: map[string]Claim{"r": Exactly("1")}}}},
			{ID: human("zoe")}, {ID: human("ada")}, {ID: human("bob")},
		},
		Teams: []Team{
			{Name: "all", Members: []Ref{team("ops"), human("zoe")}},
			{Name: "ops", Members: []Ref{human("bob"), human("ada"), agent("bot")}},
			{Name: "round", Members: []Ref{team("about"), human("ada")}},
			{Name: "about", Members: []Ref{team("round"), human("ada")}},
			{Name: "self", Members: []Ref{team("self")}},
			{Name: "empty"},
		},
		Resources:   []Resource{{ID: table("orders")}},
		Collections: []Collection{{Type: "Order"}},
		TaskTypes:   []TaskType{{Name: "support"}},
		FactSources: []FactSource{
			{Name: "shop", Identity: agent("bot"), Provides: []string{"Order", "Cart"}},
			{Name: "desk", Identity: agent("bot"), Provides: []string{"Ticket"}},
		},
		EnforcementPoints: []EnforcementPoint{{Identity: agent("bot"), Subjects: []Ref{human("zoe"), team("round")}}},
	}
}

func TestIdentify(t *testing.T) {
	x := NewIndex(declared())
	type claims = map[string]any
	for name, c := range map[string]struct {
		issuer, subject string
		claims          claims
		want            Ref
	}{
		"by subject":                              {"https://idp", "bot-1", nil, agent("bot")},
		"the same subject of another issuer":      {"https://other", "bot-1", nil, agent("twin")},
		"an unknown issuer":                       {"https://evil", "bot-1", nil, Ref{}},
		"an unknown subject":                      {"https://idp", "bot-2", nil, Ref{}},
		"the letters matter":                      {"https://idp", "BOT-1", nil, Ref{}},
		"by claims":                               {"https://idp", "x", claims{"env": "prod", "repo": "mill"}, agent("twin")},
		"by claims, without a subject":            {"https://idp", "", claims{"env": "prod"}, agent("twin")},
		"a claim of another value":                {"https://idp", "x", claims{"env": "test"}, Ref{}},
		"a claim that is no string":               {"https://idp", "x", claims{"env": []string{"prod"}}, Ref{}},
		"two that match by claims are none":       {"https://idp", "x", claims{"env": "prod", "repo": "shop"}, Ref{}},
		"one by subject, one by claims are none":  {"https://idp", "bot-1", claims{"env": "prod"}, Ref{}},
		"one by both is one":                      {"https://twice", "s", claims{"sub": "s"}, agent("twice")},
		"two of the same subject are none":        {"https://twins", "s", nil, Ref{}},
		"subject and claims must both hold":       {"https://idp", "guarded", nil, Ref{}},
		"by either issuer":                        {"https://left", "", claims{"l": "1"}, agent("both")},
		"not by what the other issuer's must say": {"https://left", "", claims{"r": "1"}, Ref{}},
		"a match of nothing matches nobody":       {"https://open", "", nil, Ref{}},
		"nor any subject":                         {"https://open", "x", claims{"env": "prod"}, Ref{}},
	} {
		got, ok := x.Identify(c.issuer, c.subject, c.claims)
		if ok != !c.want.IsZero() || ok && got.ID != c.want {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	if _, ok := x.Identify("https://idp", "guarded", claims{"env": "prod"}); ok {
		t.Error("guarded and twin both match: an ambiguous caller must not be guessed")
	}
}

func TestTeams(t *testing.T) {
	x := NewIndex(declared())
	for name, c := range map[string]struct {
		member Ref
		team   string
		want   bool
	}{
		"directly":                   {human("ada"), "ops", true},
		"through another":            {human("ada"), "all", true},
		"a team in a team":           {team("ops"), "all", true},
		"not downwards":              {team("all"), "ops", false},
		"a stranger":                 {human("zoe"), "ops", false},
		"nobody is in an empty team": {human("ada"), "empty", false},
		"an unknown team":            {human("ada"), "none", false},
		"a cycle, inside":            {human("ada"), "round", true},
		"a cycle, outside":           {human("zoe"), "round", false},
		"a cycle, looking elsewhere": {human("ada"), "self", false},
		"a team in itself":           {team("self"), "self", true},
		"a type is part of the name": {agent("ada"), "ops", false},
	} {
		if got := x.InTeam(c.member, c.team); got != c.want {
			t.Errorf("%s: InTeam(%v, %q) = %v", name, c.member, c.team, got)
		}
	}
	for name, want := range map[string][]Ref{
		"ops": people("ada", "bob"), "all": people("ada", "bob", "zoe"), "round": people("ada"), "about": people("ada"), "self": nil, "empty": nil, "none": nil,
	} {
		if diff := cmp.Diff(want, x.Humans(name)); diff != "" {
			t.Errorf("Humans(%q): %s", name, diff)
		}
	}
	if diff := cmp.Diff([]string{"ops", "round", "about"}, x.TeamsOf(human("ada"))); diff != "" {
		t.Error(diff)
	}
}

func TestCovers(t *testing.T) {
	x := NewIndex(declared())
	list := x.Catalog().EnforcementPoints[0].Subjects
	for id, want := range map[Ref]bool{human("zoe"): true, human("ada"): true, human("bob"): false, agent("zoe"): false, team("round"): true, {}: false} {
		if got := x.Covers(list, id); got != want {
			t.Errorf("Covers %v: %v", id, got)
		}
	}
	if x.Covers(nil, human("zoe")) || x.Covers([]Ref{{TypeAgent, "round"}}, human("ada")) {
		t.Error("an empty list covers nobody, and only a Team is a team")
	}
}

func TestLookUps(t *testing.T) {
	x := NewIndex(declared())
	found := func(name string, ok, want bool) {
		t.Helper()
		if ok != want {
			t.Errorf("%s: %v", name, ok)
		}
	}
	identity, ok := x.Identity(agent("bot"))
	found("identity", ok && identity.ID == agent("bot"), true)
	_, ok = x.Identity(human("bot"))
	found("identity of another type", ok, false)
	ops, ok := x.Team("ops")
	found("team", ok && ops.Name == "ops", true)
	orders, ok := x.Resource(table("orders"))
	found("resource", ok && orders.ID == table("orders"), true)
	collection, ok := x.Collection("Order")
	found("collection", ok && collection.Type == "Order", true)
	support, ok := x.TaskType("support")
	found("task type", ok && support.Name == "support", true)
	shop, ok := x.FactSource("shop")
	found("fact source", ok && shop.Name == "shop", true)
	point, ok := x.EnforcementPoint(agent("bot"))
	found("enforcement point", ok && len(point.Subjects) == 2, true)
	_, ok = x.EnforcementPoint(agent("twin"))
	found("no enforcement point", ok, false)

	source, ok := x.SourceOf(agent("bot"), "Ticket")
	found("source of a type", ok && source.Name == "desk", true)
	_, ok = x.SourceOf(agent("twin"), "Ticket")
	found("source of another identity", ok, false)
	_, ok = x.SourceOf(agent("bot"), "Table")
	found("source of another type", ok, false)
	provider, ok := x.Provider("Cart")
	found("provider", ok && provider.Name == "shop", true)
	found("external", x.External("Order"), true)
	found("not external", x.External("Table"), false)

	for ref, want := range map[Ref]bool{
		agent("bot"): true, human("ada"): true, table("orders"): true, team("ops"): true, {TypeTaskType, "support"}: true, Installation(): true,
		agent("ada"): false, table("users"): false, team("none"): false, {TypeTaskType, "none"}: false, {TypeInstallation, "other"}: false,
		{"Order", "7"}: false, {}: false,
	} {
		found("Has "+ref.String(), x.Has(ref), want)
	}
}
