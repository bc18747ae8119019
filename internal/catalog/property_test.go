package catalog_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/catalog"
)

// drawCatalog draws any catalog with unique names, in order; it need not be sound as a whole.
func drawCatalog(t *rapid.T) access.Catalog {
	text := rapid.StringN(1, 12, -1)
	refOf := func(types ...string) *rapid.Generator[access.Ref] {
		return rapid.Custom(func(t *rapid.T) access.Ref {
			return access.Ref{Type: rapid.SampledFrom(types).Draw(t, "type"), ID: rapid.OneOf(rapid.SampledFrom([]string{"a", "b", `"\`, "<&>"}), text).Draw(t, "id")}
		})
	}
	party := refOf("Agent", "Human", "Team")
	optional := func(g *rapid.Generator[string]) string { return rapid.OneOf(rapid.Just(""), g).Draw(t, "text") }
	refs := func() []access.Ref {
		list := rapid.SliceOfNDistinct(party, 0, 3, rapid.ID).Draw(t, "refs")
		return emptyIsNil(list)
	}
	texts := func() []string {
		return emptyIsNil(rapid.SliceOfNDistinct(text, 0, 3, rapid.ID).Draw(t, "texts"))
	}
	attributes := func() json.RawMessage {
		return rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage(`{"a":"<&>"}`), json.RawMessage(`{"a":[1,{"b":true}]}`)}).Draw(t, "attributes")
	}
	seconds := func() access.Seconds { return access.Seconds(rapid.Int64Range(0, 100).Draw(t, "seconds")) }
	distinctRefs := func(types ...string) []access.Ref {
		list := rapid.SliceOfNDistinct(refOf(types...), 0, 4, rapid.ID).Draw(t, "ids")
		slices.SortFunc(list, access.Ref.Compare)
		return list
	}
	distinct := func() []string {
		list := rapid.SliceOfNDistinct(text, 0, 4, rapid.ID).Draw(t, "names")
		slices.Sort(list)
		return list
	}
	owner := func() access.Ref { return refOf("Human").Draw(t, "owner") }

	var c access.Catalog
	for _, id := range distinctRefs("Agent", "Human", "Workload") {
		v := access.Identity{ID: id, Owner: owner(), Purpose: optional(text), Attributes: attributes()}
		if rapid.Bool().Draw(t, "matched") {
			v.Match = []access.Match{{Issuer: "https://id.example", Claims: map[string]access.Claim{text.Draw(t, "claim"): access.Exactly(text.Draw(t, "value"))}}}
		}
		c.Identities = append(c.Identities, v)
	}
	for _, name := range distinct() {
		c.Teams = append(c.Teams, access.Team{Name: name, Owner: owner(), Members: refs()})
	}
	for _, id := range distinctRefs("Order", "Shop::Order", "Shop", "Shop1") {
		c.Resources = append(c.Resources, access.Resource{ID: id, Owner: owner(), Labels: texts(), Target: optional(text), Attributes: attributes()})
	}
	for _, name := range distinct() {
		c.Collections = append(c.Collections, access.Collection{Type: name, Owner: owner(), Source: text.Draw(t, "source"), Labels: texts()})
		c.TaskTypes = append(c.TaskTypes, access.TaskType{Name: name, Owner: owner(), Openers: refs(), MaxDuration: seconds(), Heartbeat: seconds()})
		c.FactSources = append(c.FactSources, access.FactSource{Name: name, Owner: owner(), Provides: texts(), Freshness: seconds()})
	}
	for _, id := range distinctRefs("Agent", "Workload") {
		c.EnforcementPoints = append(c.EnforcementPoints, access.EnforcementPoint{Identity: id, Owner: owner(), Subjects: refs()})
	}
	return c
}

func emptyIsNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// A catalog taken apart and put together again is exactly the same, whatever the order of its objects.
func TestObjectsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCatalog(t)
		list := catalog.Objects(c)
		back, err := catalog.FromObjects(rapid.Permutation(list).Draw(t, "shuffled"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, back); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(list, catalog.Objects(back)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// What Diff says, done to the old catalog's objects, makes the new one's; nothing else is said.
func TestDiffApplied(t *testing.T) {
	type key struct{ kind, name string }
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawCatalog(t), drawCatalog(t)
		have := map[key]string{}
		for _, o := range catalog.Objects(before) {
			have[key{o.Kind, o.Name}] = string(o.Doc)
		}
		changes := catalog.Diff(before, after)
		for _, c := range changes {
			k := key{c.Kind, c.Name}
			old, known := have[k]
			switch c.Op {
			case catalog.Added:
				if known || c.Old != nil || c.Fields != nil {
					t.Fatalf("not new: %v", c)
				}
				have[k] = string(c.New)
			case catalog.Removed:
				if old != string(c.Old) || c.New != nil || c.Fields != nil {
					t.Fatalf("not what was there: %v", c)
				}
				delete(have, k)
			case catalog.Changed:
				if old != string(c.Old) || old == string(c.New) || len(c.Fields) == 0 {
					t.Fatalf("not a change: %v", c)
				}
				have[k] = string(c.New)
			}
		}
		want := map[key]string{}
		for _, o := range catalog.Objects(after) {
			want[key{o.Kind, o.Name}] = string(o.Doc)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatal(diff)
		}
		if back := catalog.Diff(after, before); len(back) != len(changes) {
			t.Fatalf("%d changes there, %d back", len(changes), len(back))
		}
	})
}

// However the objects are spread over files and ordered, the catalog is the same.
func TestParseDoesNotDependOnFiles(t *testing.T) {
	sections := map[string]string{
		catalog.KindIdentity: "identities", catalog.KindTeam: "teams", catalog.KindResource: "resources", catalog.KindCollection: "collections",
		catalog.KindFactSource: "fact_sources", catalog.KindEnforcementPoint: "enforcement_points",
	}
	var list []catalog.Object
	for _, o := range catalog.Objects(sample()) {
		if o.Kind == catalog.KindFactSource {
			o.Doc = json.RawMessage(strings.Replace(string(o.Doc), `"freshness":300`, `"freshness":"5m"`, 1))
		}
		if o.Kind != catalog.KindTaskType {
			list = append(list, o)
		}
	}
	want := sample()
	want.TaskTypes = nil
	rapid.Check(t, func(t *rapid.T) {
		parts := map[string]map[string]string{}
		for _, o := range rapid.Permutation(list).Draw(t, "order") {
			file := rapid.SampledFrom([]string{"a.yaml", "b.yaml", "c.yaml"}).Draw(t, "file")
			if parts[file] == nil {
				parts[file] = map[string]string{}
			}
			parts[file][sections[o.Kind]] += "  - " + string(o.Doc) + "\n" // JSON is YAML
		}
		files := map[string][]byte{}
		for name, part := range parts {
			for section, text := range part {
				files[name] = append(files[name], section+":\n"+text...)
			}
		}
		got, err := catalog.Parse(files)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// token is one of all tokens of a small world.
type token struct {
	subject string
	claims  map[string]any
}

func allTokens() []token {
	values := []string{"", "1", "12", "2"}
	var out []token
	for _, subject := range []string{"s", "t", "u"} {
		for i := range 64 {
			claims := map[string]any{}
			for _, name := range []string{"a", "b", "c"} {
				if v := values[i%4]; v != "" {
					claims[name] = v
				}
				i /= 4
			}
			out = append(out, token{subject, claims})
		}
	}
	return out
}

// Parse refuses matches exactly if there is a token that two identities match.
func TestNoTokenFindsTwoIdentities(t *testing.T) {
	drawMatch := rapid.Custom(func(t *rapid.T) access.Match {
		form := func(values ...string) *rapid.Generator[access.Claim] {
			return rapid.OneOf(
				rapid.Map(rapid.SampledFrom(values), access.Exactly), rapid.Map(rapid.SampledFrom(values), access.Exactly),
				rapid.Just(access.Claim{In: values}), rapid.Map(rapid.SampledFrom(values), func(v string) access.Claim { return access.Claim{Prefix: v[:1]} }),
			)
		}
		m := access.Match{Issuer: "https://id.example", Subject: rapid.OneOf(rapid.Just(access.Claim{}), form("s", "t")).Draw(t, "subject")}
		m.Claims = rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), form("1", "12", "2"), 0, 3).Draw(t, "claims")
		if m.Subject.IsZero() && len(m.Claims) == 0 {
			m.Subject = access.Exactly("t")
		}
		return m
	})
	tokens := allTokens()
	rapid.Check(t, func(t *rapid.T) {
		var alone []*access.Index
		var text strings.Builder
		text.WriteString("identities:\n")
		for i := range rapid.IntRange(1, 4).Draw(t, "identities") {
			id := access.Ref{Type: access.TypeHuman, ID: fmt.Sprint(i)}
			v := access.Identity{ID: id, Match: rapid.SliceOfN(drawMatch, 1, 3).Draw(t, "matches")}
			alone = append(alone, access.NewIndex(access.Catalog{Identities: []access.Identity{v}}))
			fmt.Fprintf(&text, "  - id: %s\n    match:\n", id)
			for _, m := range v.Match {
				doc, err := json.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&text, "      - %s\n", doc)
			}
		}
		twice := false
		for _, token := range tokens {
			found := 0
			for _, x := range alone {
				if _, ok := x.Identify("https://id.example", token.subject, token.claims); ok {
					found++
				}
			}
			twice = twice || found > 1
		}
		_, err := catalog.Parse(map[string][]byte{"a.yaml": []byte(text.String())})
		if refused := err != nil; refused != twice {
			t.Fatalf("a token finds two: %v, but Parse says %v of\n%s", twice, err, &text)
		}
	})
}

// Parse refuses teams exactly if some team is in itself, directly or through others.
func TestNoTeamIsInItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "teams")
		in := map[int]map[int]bool{}
		text := "identities:\n  - id: Human::\"ada\"\nteams:\n"
		for i := range n {
			members := rapid.MapOfN(rapid.IntRange(0, n-1), rapid.Just(true), 0, 2).Draw(t, "members")
			in[i] = maps.Clone(members)
			text += fmt.Sprintf("  - name: t%d\n    owner: Human::\"ada\"\n    members: [Human::\"ada\"", i)
			for _, m := range slices.Sorted(maps.Keys(members)) {
				text += fmt.Sprintf(", Team::\"t%d\"", m)
			}
			text += "]\n"
		}
		for k := range n { // Warshall's closure
			for i := range n {
				for j := range n {
					in[i][j] = in[i][j] || in[i][k] && in[k][j]
				}
			}
		}
		round := false
		for i := range n {
			round = round || in[i][i]
		}
		_, err := catalog.Parse(map[string][]byte{"a.yaml": []byte(text)})
		if refused := err != nil; refused != round {
			t.Fatalf("round: %v, but Parse says %v of\n%s", round, err, text)
		}
	})
}
