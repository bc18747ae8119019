package access

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// awayTown is smallTown with bob's place taken by dee while he is away, ada's by olga, who owns the bot, and cy's by nobody.
func awayTown(away ...Ref) town {
	c := smallTown().Catalog()
	for i := range c.Identities {
		switch c.Identities[i].ID {
		case human("bob"):
			c.Identities[i].Substitute = human("dee")
		case human("ada"):
			c.Identities[i].Substitute = human("olga")
		case human("olga"):
			c.Identities[i].Substitute = human("cy")
		}
	}
	c.Identities = append(c.Identities, Identity{ID: human("dee")})
	return town{Index: NewIndex(c), away: away}
}

func TestWhoIsAwayIsNotAskedAndTheirSubstituteIs(t *testing.T) {
	in := soundInput()
	for name, c := range map[string]struct {
		form string
		away []Ref
		want []Ref
	}{
		"nobody is away":                            {"team:ops", nil, people("ada", "bob", "cy")},
		"one has a substitute":                      {"team:ops", people("bob"), people("ada", "cy", "dee")},
		"one has none":                              {"team:ops", people("cy"), people("ada", "bob")},
		"the substitute is away too":                {"team:ops", people("bob", "dee"), people("ada", "cy")},
		"the substitute is near to the request":     {"team:ops", people("ada"), people("bob", "cy")},
		"the owner of the resource":                 {"resource-owner", people("ada"), nil},
		"who stands in for the bot's owner is near": {"team:ops", people("olga"), people("ada", "bob")},
		"the owner of the bot, who confirms":        {"identity-owner", people("olga"), people("cy")},
		"only the principal confirms":               {"confirm", people("pat"), people("pat")},
	} {
		got := Eligible(requires(c.form)[0].Form, in, awayTown(c.away...))
		if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAQuestionIsPutToAFewFirst(t *testing.T) {
	c := smallTown().Catalog()
	var all []Ref
	for i := range 9 {
		id := human(fmt.Sprint("n", i))
		c.Identities, all = append(c.Identities, Identity{ID: id}), append(all, id)
	}
	c.Teams = append(c.Teams, Team{Name: "night", Members: all, AskFirst: 2, NextAfter: 600}, Team{Name: "once", Members: all, AskFirst: 3})
	x := town{Index: NewIndex(c)}
	for name, want := range map[string]struct {
		forms []string
		after time.Duration
		many  int
	}{
		"at first":                      {[]string{"team:night"}, 0, 2},
		"just before the next":          {[]string{"team:night"}, 10*time.Minute - 1, 2},
		"then one more":                 {[]string{"team:night"}, 10 * time.Minute, 3},
		"and one more":                  {[]string{"team:night"}, 25 * time.Minute, 4},
		"until all are asked":           {[]string{"team:night"}, 24 * time.Hour, 9},
		"as many as it takes":           {[]string{"4 of team:night"}, 0, 4},
		"nobody more":                   {[]string{"team:once"}, 24 * time.Hour, 3},
		"a team that says nothing: all": {[]string{"team:ops"}, 0, 3},
		"of two forms both":             {[]string{"team:ops", "resource-owner"}, 0, 3}, // the owner is in ops
	} {
		a := pending(want.forms...)
		if got := a.Asked(soundInput(), x, a.AskedAt.Add(want.after)); len(got) != want.many {
			t.Errorf("%s: %v", name, got)
		}
	}
	first := map[Ref]int{}
	for i := range 300 {
		a := pending("team:night")
		a.ID = fmt.Sprint("q", i)
		now := a.Asked(soundInput(), x, a.AskedAt)
		later := a.Asked(soundInput(), x, a.AskedAt.Add(20*time.Minute))
		for _, id := range now {
			first[id]++
			if !slices.Contains(later, id) {
				t.Fatal("who was asked is asked no more")
			}
		}
	}
	for _, id := range all {
		if first[id] < 30 { // of 67
			t.Errorf("%s is hardly ever asked first: %d of 600", id, first[id])
		}
	}
}
