package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/internal/access"
)

const deepSchema = `
entity Team in [Team];
entity Human in [Team] = { "boss"?: Human, "score"?: Long };
entity Agent in [Team] = { owner: Human };
entity Kind enum ["a", "b"];
entity Thing = {
  owner: Human, kind: Kind, "next"?: Thing, "parts"?: Set<{ name: String, "n"?: Long }>, size: Long, at: { who: Human, "when"?: datetime },
  "cost"?: decimal, "net"?: ipaddr, "span"?: duration, "on"?: Bool, "fans"?: Set<Human>
};
action look appliesTo { principal: Agent, resource: Thing, context: {
  args: { "to"?: Human, "other"?: Thing, "ids"?: Set<String>, "cost"?: decimal, "net"?: ipaddr, "span"?: duration, "key"?: String, "n"?: Long },
  derived: { %s }, "principal"?: Human
} };
`

func deep(t *testing.T, derived, rules, policies string) *Bundle {
	t.Helper()
	return mustLoad(t, Source{
		schemaFile: []byte(fmt.Sprintf(deepSchema, derived)), deriveFile: []byte("actions:\n  look: {" + rules + "}\n"),
		"access/a.cedar": []byte(permitAll + policies),
	}, AnyCatalog())
}

func deepEntities() []access.Entity {
	return []access.Entity{
		entity(`Agent::"a"`, `{"owner":"h1"}`),
		entity(`Human::"h1"`, `{"boss":"h2"}`, `Team::"t"`),
		entity(`Human::"h2"`, `{"score":7}`, `Team::"u"`),
		entity(`Team::"t"`, ``), entity(`Team::"u"`, ``, `Team::"v"`), entity(`Team::"v"`, ``),
		entity(`Thing::"x"`, `{"owner":"h1","kind":"a","next":"y","size":4,"at":{"who":"h2"},"parts":[{"name":"p","n":3},{"name":"q","n":-1}]}`),
		entity(`Thing::"y"`, `{"owner":"h2","kind":"b","size":9,"at":{"who":"h1"},"cost":"1.50","net":"10.0.0.0/8","span":"1h","on":true}`),
		entity(`Thing::"a/b"`, `{"owner":"h2","kind":"b","size":1,"at":{"who":"h1"}}`),
	}
}

func lookAt(b *Bundle, args string) *access.Input {
	return &access.Input{
		Request: access.Request{
			Subject: access.MustRef(`Agent::"a"`), Action: access.MustRef(`Action::"look"`), Resource: access.MustRef(`Thing::"x"`),
			Mode: access.Use, Args: []byte(args),
		},
		Facts: access.Facts{Entities: deepEntities()}, Now: noon, Bundle: b.Hash(),
	}
}

// load does what a caller does: asks until nothing is needed, and gives what it was asked for.
func load(b *Bundle, in *access.Input) []string {
	all := map[access.Ref]access.Entity{}
	for _, e := range in.Facts.Entities {
		all[e.ID] = e
	}
	in.Facts.Entities = nil
	have := map[access.Ref]*access.Entity{}
	var asked []string
	for wanted := b.Needs(&in.Request, have); len(wanted) > 0; wanted = b.Needs(&in.Request, have) {
		for _, ref := range wanted {
			asked = append(asked, ref.String())
			have[ref] = nil
			if e, ok := all[ref]; ok {
				have[ref] = &e
				in.Facts.Entities = append(in.Facts.Entities, e)
			}
		}
	}
	return asked
}

// Needs follows what policies look at, and nothing else.
func TestNeedsFollowsPolicies(t *testing.T) {
	base := []string{`Agent::"a"`, `Thing::"x"`}
	h1 := append(base, `Human::"h1"`, `Team::"t"`)
	for when, want := range map[string][]string{
		`resource.owner == Human::"h1"`:          base,
		`resource.size > 3`:                      base,
		`resource.owner in Team::"t"`:            h1,
		`resource.owner is Human in Team::"t"`:   h1,
		`resource.owner has boss`:                h1,
		`principal.owner in Team::"t"`:           h1,
		`resource.owner in context.derived.whos`: h1,
		`Action::"look" in Action::"look"`:       base,
		`(if resource.size > 3 then context else context).derived.whos.contains(Human::"h1")`: base,
		`(if resource.size > 3 then context else context) has args`:                           base,
		`resource.owner has boss && resource.owner.boss == Human::"h2"`:                       h1,
		`resource.owner has boss && resource.owner.boss in Team::"v"`:                         append(base, `Human::"h1"`, `Human::"h2"`, `Team::"t"`, `Team::"u"`, `Team::"v"`),
		`resource.at.who in Team::"v"`:                                                        append(base, `Human::"h2"`, `Team::"u"`, `Team::"v"`),
		`resource has next && resource.next.size == 9`:                                        append(base, `Thing::"y"`),
		`(if resource.size > 3 then Human::"h1" else resource.owner) in Team::"t"`:            h1,
		`Human::"h1" in Team::"t"`:                                                            h1,
		`context.args has to && context.args.to in Team::"t"`:                                 h1,
		`context has principal && context.principal in Team::"t"`:                             h1,
		`context.derived.who in Team::"t"`:                                                    h1,
		`context.derived.whos.contains(Human::"h1")`:                                          base,
		`Kind::"a" in Kind::"a" && resource.kind in Kind::"a"`:                                base,
	} {
		b := deep(t, "who: Human, whos: Set<Human>", `who: {get: resource.owner}, whos: {set: resource.owner}`, forbid("f", "principal, action, resource", when))
		in := lookAt(b, `{"to":"h1"}`)
		if strings.Contains(when, "principal in") {
			in.Request.Principal = access.MustRef(`Human::"h1"`)
		}
		full := *in
		wantDecided(t, b, &full, "deny forbidden f")
		asked := load(b, in)
		sorted := func(list []string) map[string]bool {
			out := map[string]bool{}
			for _, item := range list {
				out[item] = true
			}
			return out
		}
		if diff := cmp.Diff(sorted(want), sorted(asked)); diff != "" || len(sorted(asked)) != len(asked) {
			t.Errorf("%s asks for other entities (-want +got):\n%s", when, diff)
		}
		wantDecided(t, b, in, "deny forbidden f")
	}
}

func TestDerivedValues(t *testing.T) {
	tests := []struct {
		typ, rule, args string
		want            string // the value as JSON, or the problem
	}{
		{"Long", `{count: "resource.parts[]"}`, `{}`, `2`},
		{"Long", `{sum: "resource.parts[].n"}`, `{}`, `2`},
		{"Long", `{min: "resource.parts[].n"}`, `{}`, `-1`},
		{"Long", `{max: "resource.parts[].n"}`, `{}`, `3`},
		{"Long", `{min: "args.ids[] -> Thing('{}').size"}`, `{"ids":["x","a/b","y"]}`, `1`},
		{"Long", `{max: "args.ids[] -> Thing('{}').size"}`, `{"ids":["x","y","a/b"]}`, `9`},
		{"Long", `{max: "args.ids[] -> Thing('{}').size"}`, `{}`, `max: the path yields nothing, and the rule has no else`},
		{"Long", `{max: "args.ids[] -> Thing('{}').size", else: 5}`, `{"ids":[]}`, `5`},
		{"Long", `{get: "args.ids[] -> Thing('{}').size"}`, `{"ids":["x","x"]}`, `get: the path yields 2 values, not one`},
		{"Long", `{get: "args.ids[] -> Thing('{}').size"}`, `{"ids":["y"]}`, `9`},
		{"Long", `{get: "args.ids[] -> Thing('{}').size"}`, `{"ids":["z"]}`, `Thing::"z" is not known, and the rule has no missing`},
		{"Set<Long>", `{set: "args.ids[] -> Thing('{}').size", missing: 0}`, `{"ids":["z","y","x","y"]}`, `[0,4,9]`},
		{"Set<String>", `{set: "resource.parts[].name"}`, `{}`, `["p","q"]`},
		{"Bool", `{unique: "args.ids[]"}`, `{"ids":["a","b"]}`, `true`},
		{"Bool", `{unique: "args.ids[]"}`, `{"ids":["a","a"]}`, `false`},
		{"Bool", `{unique: "resource.parts[]"}`, `{}`, `true`},
		{"Long", `{count: "args.ids[]", equals: a}`, `{"ids":["a","b","a"]}`, `2`},
		{"Human", `{get: resource.owner}`, `{}`, `"Human::\"h1\""`},
		{"Set<Human>", `{set: resource.owner}`, `{}`, `["Human::\"h1\""]`},
		{"Human", `{get: subject.owner}`, `{}`, `"Human::\"h1\""`},
		{"Long", `{get: principal.score}`, `{}`, `score is absent, and the rule has no missing`},
		{"Long", `{get: principal.score, missing: 4}`, `{}`, `4`},
		{"Long", `{get: "principal.boss -> Human('{}').score"}`, `{}`, `7`},
		{"Long", `{get: "resource.next -> Thing('{}').owner -> Human('{}').score"}`, `{}`, `7`},
		{"decimal", `{get: "resource.next -> Thing('{}').cost"}`, `{}`, `"1.5"`},
		{"Bool", `{get: "resource.next -> Thing('{}').on"}`, `{}`, `true`},
		{"Bool", `{get: "args.key -> Thing('{}').on", missing: true}`, `{"key":"off"}`, `false`},
		{"Bool", `{get: "args.key -> Thing('{}').on", missing: true}`, `{"key":"odd"}`, `Thing::"odd": attributes.on: want Bool, got a string`},
		{"Bool", `{get: "args.key -> Thing('{}').on", missing: true}`, `{"key":"one"}`, `Thing::"one": attributes.on: want Bool, got a number`},
		{"Long", `{get: "args.key -> Thing('{args.key}').size"}`, `{"key":"y"}`, `9`},
		{"Long", `{get: "resource.size -> Thing('{resource.id}').size"}`, `{}`, `4`},
		{"Long", `{get: "args.key -> Human('{principal.id}').score", missing: 1}`, `{"key":""}`, `1`},
		{"Long", `{get: "args.key -> Agent('{subject.id}').owner -> Human('{}').score", missing: 2}`, `{"key":""}`, `2`},
		{"Long", `{get: "args.key -> Thing('{args.n}').size", missing: 1}`, `{"key":"","n":12}`, `1`},
		{"Long", `{get: "args.key -> Thing('{}/{args.ids}').size"}`, `{}`, `load: an id is made of String, Long or entity values, not of Set<String>`},
		{"Long", `{get: "args.key -> Thing('{args}').size"}`, `{}`, `load: {args} goes on with .key`},
		{"Long", `{get: "args.key -> Thing('{args.ghost}').size"}`, `{}`, `load: args has no key ghost`},
		{"Long", `{get: "args.key -> Thing('{ghost}').size"}`, `{}`, `load: the value at hand has no key ghost`},
		{"Long", `{get: "args.key -> Thing('{args.n}').size"}`, `{"key":""}`, `n is absent, so no id can be made of it`},
		{"Long", `{get: "args.key -> Thing('{}').size"}`, `{"key":"` + strings.Repeat("x", access.MaxIDLength+1) + `"}`, `an id has more than 2048 bytes`},
		{"Long", `{get: "args.key -> Thing('{}').size", missing: 3}`, `{"key":"` + strings.Repeat("x", access.MaxIDLength) + `"}`, `3`},
		{"Long", `{get: "args.key -> Thing('{}').size"}`, `{"key":"a/b"}`, `1`},
		{"Long", `{get: "args.key -> Thing('a/{}').size"}`, `{"key":"b"}`, `1`},
		{"Long", `{get: "args.key -> Thing('a/{}').size", missing: 2}`, `{"key":"a/b"}`, `2`},
		{"Long", `{get: "args.key -> Thing('{}/{args.n}').size"}`, `{"key":"a/b","n":1}`, `holds the text that separates it`},
		{"Long", `{get: args.n}`, `{}`, `n is absent, and the rule has no missing`},
		{"Long", `{sum: args.n, missing: 3}`, `{}`, `3`},
		{"Long", `{get: "args.key -> Kind('{}').size"}`, `{}`, `load: the schema has no entity type Kind with attributes`},
		{"Long", `{get: "args.n", missing: {}}`, `{}`, `load: d: missing wants one value`},
		{"Long", `{get: "args.n", missing: 1.5}`, `{}`, `load: "1.5" is neither text`},
		{"Long", `{get: "args.n", missing: !!bool maybe}`, `{}`, "load: derive.yaml:1:46: d: missing: yaml: cannot decode"},
		{"Long", `{get: "args.n", missing: 9223372036854775808}`, `{}`, `load: "9223372036854775808" is not a whole number within 64 bits`},
		{"Long", `{get: "` + strings.Repeat("x", 1001) + `"}`, `{}`, `load: a path has at most 1000 bytes`},
	}
	for _, test := range tests {
		t.Run(test.rule[:min(len(test.rule), 60)]+test.args[:min(len(test.args), 20)], func(t *testing.T) {
			src := Source{
				schemaFile: []byte(fmt.Sprintf(deepSchema, "d: "+test.typ)), deriveFile: []byte("actions: {look: {d: " + test.rule + "}}"),
				"access/a.cedar": []byte(permitAll),
			}
			if part, ok := strings.CutPrefix(test.want, "load: "); ok {
				wantFault(t, src, AnyCatalog(), part)
				return
			}
			b := mustLoad(t, src, AnyCatalog())
			in := lookAt(b, test.args)
			for id, on := range map[string]string{"off": "false", "odd": `"false"`, "one": "1"} {
				with(entity(`Thing::"`+id+`"`, `{"owner":"h1","kind":"a","size":1,"at":{"who":"h1"},"on":`+on+`}`))(in)
			}
			in.Request.Principal = access.MustRef(`Human::"h1"`)
			got := b.Decide(in)
			if text := string(got.Derived); text != `{"d":`+test.want+`}` && (got.Problem == "" || !strings.Contains(got.Problem, test.want)) {
				t.Errorf("derived %s, problem %q; want %s", text, got.Problem, test.want)
			}
			load(b, in)
			if diff := cmp.Diff(got, b.Decide(in)); diff != "" {
				t.Errorf("with what Needs asked for the decision is another:\n%s", diff)
			}
		})
	}
}

// A rule that lacks an entity does not keep the others from asking for theirs.
func TestNeedsAsksForAllRulesAtOnce(t *testing.T) {
	b := deep(t, "d: Long, e: Long", `d: {get: "args.key -> Thing('{}').size"}, e: {get: "resource.next -> Thing('{}').size"}`, "")
	in := lookAt(b, `{"key":"a/b"}`)
	have := map[access.Ref]*access.Entity{}
	for i, e := range in.Facts.Entities {
		if e.ID == in.Request.Subject || e.ID == in.Request.Resource {
			have[e.ID] = &in.Facts.Entities[i]
		}
	}
	if got, want := fmt.Sprint(b.Needs(&in.Request, have)), `[Thing::"a/b" Thing::"y"]`; got != want {
		t.Errorf("needs %s, want %s", got, want)
	}
}

func TestDerivedOfNoPrincipal(t *testing.T) {
	for _, path := range []string{"principal.score", `"args.key -> Human('{principal.boss}').score"`} {
		b := deep(t, "d: Long", "d: {get: "+path+", missing: 1}", "")
		wantProblem(t, b, lookAt(b, `{"key":"x"}`), "derived.d: the request has no principal")
	}
}

// What is known to be absent is not asked for again, and nothing is derived from it.
func TestDerivedOfAnAbsentResource(t *testing.T) {
	b := deep(t, "d: Long", "d: {get: resource.size}", "")
	in := lookAt(b, `{}`)
	without(`Thing::"x"`)(in)
	if diff := cmp.Diff([]string{`Agent::"a"`, `Thing::"x"`}, load(b, in)); diff != "" {
		t.Error(diff)
	}
	wantProblem(t, b, in, `Thing::"x" is not known`)
}

// An entity that does not fit the schema has no attributes to go on to.
func TestDerivedThroughAnEntityThatDoesNotFit(t *testing.T) {
	b := deep(t, "d: Long", `d: {get: "resource.next -> Thing('{}').size", missing: 1}`, "")
	in := lookAt(b, `{}`)
	with(entity(`Thing::"y"`, `{"size":"large"}`))(in)
	wantProblem(t, b, in, `Thing::"y": attributes.size: want Long, got a string`)
	b = deep(t, "d: Long", `d: {get: "args.key -> Thing('{resource.kind}').size", missing: 1}`, "")
	in = lookAt(b, `{"key":"k"}`)
	with(entity(`Thing::"x"`, `{"size":"large"}`))(in)
	load(b, in) // Needs derives from it, too
	wantProblem(t, b, in, `Thing::"x": attributes.size: want Long, got a string`)
}

// A counter that cannot be counted denies: else the request would be left out of its own limit.
func TestI7_CounterThatCannotBeCounted(t *testing.T) {
	schema := `entity Agent; entity Thing; action look appliesTo { principal: Agent, resource: Thing, context: { args: { "n"?: Long, a: Set<Long> } } };`
	for counted, problem := range map[string]string{
		"args.n":     "counter spent: n is absent, and the rule has no missing",
		`"args.a[]"`: "counter spent: the sum is beyond 64 bits",
	} {
		derive := "counters: {spent: {action: look, window: 1h, sum: " + counted + "}}"
		b := mustLoad(t, Source{schemaFile: []byte(schema), deriveFile: []byte(derive), "access/a.cedar": []byte(permitAll)}, AnyCatalog())
		in := lookAt(b, `{"a":[9223372036854775807,1]}`)
		in.Facts.Entities = []access.Entity{entity(`Agent::"a"`, ``), entity(`Thing::"x"`, ``)}
		wantProblem(t, b, in, problem)
		if got := b.Counters(&in.Request); got != nil {
			t.Errorf("counts %v", got)
		}
	}
}

// A path may not yield without end: three lists in each other give their product.
func TestPathYieldsTooMuch(t *testing.T) {
	schema := `entity Agent; entity Thing; action look appliesTo { principal: Agent, resource: Thing, context: { args: { a: Set<Set<Long>> }, derived: { d: Long } } };`
	b := mustLoad(t, Source{schemaFile: []byte(schema), deriveFile: []byte(`actions: {look: {d: {count: "args.a[][]"}}}`)}, AnyCatalog())
	row := "[" + strings.TrimSuffix(strings.Repeat("1,", 900), ",") + "]"
	in := lookAt(b, `{"a":[`+strings.TrimSuffix(strings.Repeat(row+",", 12), ",")+`]}`)
	in.Facts.Entities = []access.Entity{entity(`Agent::"a"`, ``), entity(`Thing::"x"`, ``)}
	wantProblem(t, b, in, "yields more than 10000 values")
}

func TestExtensionValues(t *testing.T) {
	b := deep(t, "d: Long", "d: {get: resource.size}", forbid("f", "principal, action, resource",
		`context.args has cost && context.args.cost.lessThan(decimal("2.0")) && context.args has net && context.args.net.isInRange(ip("10.0.0.0/8")) && context.args has span && context.args.span < duration("2h")`))
	wantDecided(t, b, lookAt(b, `{"cost":"1.99","net":"10.1.2.3","span":"1h"}`), "deny forbidden f")
	for _, args := range []string{`{"cost":"1.99999"}`, `{"cost":1.99}`, `{"net":"10.1"}`, `{"span":"long"}`, `{"n":"5"}`, `{"key":5}`} {
		wantProblem(t, b, lookAt(b, args), "args.")
	}
}

func TestNeverOverSchemaTypes(t *testing.T) {
	for when, never := range map[string]bool{
		`principal == resource`:                                                          true,
		`resource.owner == resource.kind`:                                                true,
		`resource has fans && resource in resource.fans`:                                 true,
		`resource has fans && resource.owner in resource.fans`:                           false,
		`resource.owner in (if resource.size > 3 then resource else resource)`:           false,
		`resource.owner in [resource, if resource.size > 3 then resource else resource]`: false,
		`resource.owner in resource`:                                                     true,
		`resource in resource.owner`:                                                     true,
		`principal in [resource.owner]`:                                                  true,
		`if resource.size > 3 then false else 1 == 2`:                                    true,
		`if resource.size > 3 then false else resource.size < 1`:                         false,
		`action in (if resource.size > 3 then Action::"look" else Action::"look")`:       false,
		`resource.owner in resource.at.who`:                                              false,
		`resource.kind == Kind::"a"`:                                                     false,
		`{a: false}.a`:                                                                   true,
		`resource.size + 1 > 3`:                                                          false,
		`(if resource.size > 3 then resource.owner else resource.owner) has boss`:        false,
		`(if resource.size > 3 then resource.owner else resource.owner) is Human`:        false,
		`(if resource.size > 3 then resource.owner else resource.owner) in Team::"t"`:    false,
	} {
		src := Source{schemaFile: []byte(fmt.Sprintf(deepSchema, "")), "access/a.cedar": []byte(forbid("f", "principal, action, resource", when))}
		_, err := Load(src, AnyCatalog())
		if got := err != nil && strings.Contains(err.Error(), "can never match"); got != never || err != nil && !never {
			t.Errorf("%s: can never match: %v, want %v (%v)", when, got, never, err)
		}
	}
}
