package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/internal/access"
)

func shopIndex() *access.Index {
	human := func(id string) access.Ref { return access.Ref{Type: "Human", ID: id} }
	ann := human("ann")
	return access.NewIndex(access.Catalog{
		Identities: []access.Identity{
			{ID: ann}, {ID: human("bob"), Attributes: []byte(` {"level": 3} `)},
			{ID: access.MustRef(`Agent::"refund-bot"`), Owner: ann, Purpose: "refunds", ReviewBy: "2026-06-30"},
			{ID: access.MustRef(`Agent::"other"`), Owner: ann, Attributes: []byte(`{}`)},
		},
		Teams: []access.Team{
			{Name: "bots", Owner: ann, Members: []access.Ref{access.MustRef(`Agent::"refund-bot"`)}},
			{Name: "payments", Owner: ann, Members: []access.Ref{human("bob")}},
		},
		Resources: []access.Resource{
			{ID: access.MustRef(`Folder::"public"`), Owner: ann}, {ID: access.MustRef(`Folder::"vault"`), Owner: ann},
			{ID: access.MustRef(`File::"a"`), Owner: ann, Sensitivity: "low", Parents: []access.Ref{access.MustRef(`Folder::"public"`)}},
		},
		Collections: []access.Collection{{Type: "Order", Owner: ann, Source: "shop", Labels: []string{"money"}}},
		TaskTypes:   []access.TaskType{{Name: "support", Owner: ann, MaxDuration: 60, Actions: []access.Ref{access.MustRef(`Action::"refund"`)}}},
		FactSources: []access.FactSource{{Name: "shop", Identity: ann, Owner: ann, Provides: []string{"Order", "Flight", "Customer"}}},
	})
}

const shopCases = `
- name: an agent refunds a small order by itself
  subject: Agent::"refund-bot"
  task: {type: support, age: 30s}
  action: refund
  resource: Order::"o-1"
  args: {amount: 20, at: 2026-01-01}
  entities: &order
    - id: Order::"o-1"
      attributes: {status: delivered, customer: c-1, total: 70}
    - id: Customer::"c-1"
      attributes: {tier: gold}
  expect: {outcome: allow, policies: [small-refunds, large-refunds], max_ttl: 5m, risk: 0, requires: []}
- name: a large one needs approval
  subject: Agent::"refund-bot"
  action: Action::"refund"
  resource: Order::"o-1"
  args: {amount: 60, tip: 990}
  ttl: 1m
  counts: {refunds_per_hour: 5}
  entities: *order
  now: 2026-03-01T12:00:00Z
  expect: {outcome: needs_approval, code: approval_required, requires: [resource-owner, 2 of team:payments], risk: 35}
- name: an approved one
  subject: Agent::"refund-bot"
  principal: Human::"bob"
  mode: use
  action: refund
  resource: Order::"o-1"
  args: {amount: 60}
  discharges: [{policy: large-need-owner, risk: 0}]
  entities: *order
  expect: {outcome: allow}
- name: the permits have run out
  subject: Agent::"refund-bot"
  action: refund
  resource: Order::"o-1"
  args: {amount: 20}
  entities: *order
  now: 2028-01-01T00:00:00Z
  expect: {outcome: deny, code: not_permitted, policies: []}
- name: a file of the catalog
  subject: Agent::"other"
  action: edit
  resource: File::"a"
  entities: [{id: 'File::"a"', parents: ['Folder::"vault"']}]
  expect: {outcome: deny, policies: [vault-closed]}
- name: facts of entities that only the case tells of
  subject: Agent::"refund-bot"
  action: book
  resource: Order::"o-1"
  args: {flights: [{number: HAT1, date: 2024-05-20}], payments: [{id: p-1, amount: 70}]}
  entities:
    - id: Order::"o-1"
      attributes: {status: delivered, customer: c-1, total: 70}
    - id: Customer::"c-1"
      attributes: {tier: gold}
    - id: Flight::"HAT1/2024-05-20"
      attributes: {status: available, price: 70}
  expect: {outcome: allow, policies: [book]}
- name: the case says that its task is not expected to
  subject: Agent::"other"
  task: {type: support, expected: false}
  action: refund
  resource: Order::"o-1"
  args: {amount: 20}
  entities: *order
  expect: {outcome: deny, policies: [unexpected]}
- name: the case says that its task is expected to
  subject: Agent::"refund-bot"
  task: {type: triage, expected: true}
  action: refund
  resource: Order::"o-1"
  args: {amount: 20}
  entities: *order
  expect: {outcome: allow, policies: [small-refunds, large-refunds]}
- name: an order that nobody knows
  subject: Agent::"refund-bot"
  action: refund
  resource: Order::"o-2"
  args: {amount: 20}
  expect: {outcome: deny, code: policy_error}
- name: wrong in every way
  subject: Agent::"refund-bot"
  action: refund
  resource: Order::"o-1"
  args: {amount: 60}
  entities: *order
  expect: {outcome: allow, code: forbidden, requires: [confirm], risk: 5, max_ttl: 1m}
- name: wrong policies
  subject: Agent::"refund-bot"
  action: refund
  resource: Order::"o-1"
  args: {amount: 20}
  entities: *order
  expect: {outcome: allow, policies: [other]}
- {name: problem, subject: 'Agent::"refund-bot"', action: refund, resource: 'Order::"o-1"', args: {amount: 20}, expect: {outcome: allow}}
- {name: no such action, subject: 'Agent::"refund-bot"', action: ghost, resource: 'Order::"o-1"', expect: {outcome: deny}}
- {name: bad args, subject: 'Agent::"refund-bot"', action: refund, resource: 'Order::"o-1"', args: {amount: "1"}, expect: {outcome: deny}}
- {name: no such policy, subject: 'Agent::"refund-bot"', action: refund, resource: 'Order::"o-1"', args: {amount: 1}, discharges: [{policy: x}], expect: {outcome: deny}}
- {name: bad overlay, subject: 'Agent::"other"', action: edit, resource: 'File::"a"', entities: [{id: 'File::"a"', attributes: [1]}], expect: {outcome: deny}}
`

func TestRunCases(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	src["tests/a.yaml"] = []byte(shopCases)
	src["access/more.cedar"] = []byte(forbid("unexpected", `principal, action == Action::"refund", resource`, "context has task && !context.task.expected"))
	b := mustLoad(t, src, shopIndex())
	got := b.RunCases(shopIndex())
	want := []string{
		"", "", "", "", "", "", "", "", "",
		"outcome: want allow, got needs_approval; code: want forbidden, got approval_required; requires: want [confirm], got [resource-owner]; risk: want 5, got 0; max_ttl: want 1m0s, got 5m0s; determined by large-need-owner",
		"policies: want [other], got [large-refunds small-refunds]",
		`outcome: want allow, got deny; problem: Order::"o-1" is not known: without it policies could be passed over`,
		`the schema has no action Action::"ghost"`,
		"invalid_args: args.amount: want Long, got a string",
		"discharges: there is no policy x",
		`File::"a": attributes: want a JSON object`,
	}
	var diffs []string
	for _, r := range got {
		if r.Pass != (r.Diff == "") {
			t.Errorf("%s: pass %v with %q", r.Name, r.Pass, r.Diff)
		}
		diffs = append(diffs, r.Diff)
	}
	if diff := cmp.Diff(want, diffs); diff != "" {
		t.Error(diff)
	}
	if got[1].Line != 14 || got[1].File != "tests/a.yaml" || got[1].Name != "a large one needs approval" {
		t.Errorf("the second case is %+v", got[1])
	}
}

func TestCaseFaults(t *testing.T) {
	head := `{name: x, subject: 'Agent::"a"', action: edit, resource: 'File::"a"', `
	for text, want := range map[string]string{
		"name: x":                              "tests/a.yaml:1:1: want a list of cases",
		"- {name: x}":                          `tests/a.yaml:1:3: case "x": a case needs name, subject, action and resource`,
		"-":                                    "a case is empty",
		"- " + head + "}":                      "expect.outcome: want allow",
		"- " + head + "expect: {outcome: no}}": "expect.outcome: want allow",
		"- " + head + "weather: 1, expect: {outcome: deny}}":                                                      "tests/a.yaml:1: unknown key weather",
		"- " + head + "expect: {outcome: deny, colour: red}}":                                                     "unknown key colour",
		"- " + head + "ttl: 1, expect: {outcome: deny}}":                                                          `ttl: "1" is no duration`,
		"- " + head + "ttl: 1ms, expect: {outcome: deny}}":                                                        `ttl: "1ms" is no duration`,
		"- " + head + "expect: {outcome: deny, max_ttl: -1s}}":                                                    `expect.max_ttl: "-1s" is no duration`,
		"- " + head + "task: {age: x}, expect: {outcome: deny}}":                                                  "task.age",
		"- " + head + "task: {heartbeat: x}, expect: {outcome: deny}}":                                            "task.heartbeat",
		"- " + head + "args: {a: 1.5}, expect: {outcome: deny}}":                                                  `args: line 1: "1.5" is neither text, whole number`,
		"- " + head + "args: {a: 99999999999999999999}, expect: {outcome: deny}}":                                 "args: line 1:",
		"- " + head + "args: {a: &x 1, b: *x}, expect: {outcome: deny}}":                                          "args: line 1: aliases are not read here",
		"- " + head + "args: " + strings.Repeat("[", 70) + strings.Repeat("]", 70) + ", expect: {outcome: deny}}": "values stand more than 64 deep",
		"- " + head + "entities: [{parents: []}], expect: {outcome: deny}}":                                       "entities: item 1 has no id",
		"- " + head + "entities: [{id: 'A::\"a\"'}, {id: 'A::\"a\"'}], expect: {outcome: deny}}":                  "stands there twice",
		"- " + head + "entities: [{id: 'A::\"a\"', attributes: {x: 1.5}}], expect: {outcome: deny}}":              "entities: A::\"a\"",
		"- {name: x, subject: nonsense}":                                                                          "nonsense",
		"[]\n---\n[]":                                                                                             "one YAML document is read, this is a second",
		"- [":                                                                                                     "tests/a.yaml:",
	} {
		src := readBundle(t, "bundles/shop.txtar")
		src["tests/a.yaml"] = []byte(text)
		wantFault(t, src, shopCatalog(), want)
	}
	src := readBundle(t, "bundles/shop.txtar")
	src["tests/a.yaml"] = []byte("# nothing yet\n")
	mustLoad(t, src, shopCatalog())
}

func TestYAMLValuesAsJSON(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	src["tests/a.yaml"] = []byte(`- {name: x, subject: 'Agent::"a"', action: edit, resource: 'File::"a"', expect: {outcome: deny},
  args: {s: text, d: 2024-05-15, n: 0x10, b: [yes, true, "a\"b"], z: ~, o: {}, q: "1"}}`)
	b := mustLoad(t, src, shopCatalog())
	want := `{"s":"text","d":"2024-05-15","n":16,"b":["yes",true,"a\"b"],"z":null,"o":{},"q":"1"}`
	if got := string(b.cases[0].request.Args); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDescribe(t *testing.T) {
	schema := `
entity Team in [Team];
entity Human in [Team] = { owner: Human, "level"?: Long };
entity Agent = { owner: Human, purpose: String, status: String, review_by: datetime };
entity Order = { owner: Human, labels: Set<String>, "environment"?: String };
entity File in [Folder] = { owner: Human, sensitivity: String, labels: Set<String> };
entity Folder;
namespace Writ { entity TaskType = { max_duration: Long }; entity Installation; }
`
	b := mustLoad(t, Source{schemaFile: []byte(schema)}, shopCatalog())
	x := shopIndex()
	for id, want := range map[string]access.Entity{
		`Human::"ann"`:               entity(`Human::"ann"`, `{"owner":"ann"}`),
		`Human::"bob"`:               entity(`Human::"bob"`, `{"owner":"bob","level": 3}`, `Team::"payments"`),
		`Agent::"refund-bot"`:        entity(`Agent::"refund-bot"`, `{"owner":"ann","purpose":"refunds","review_by":"2026-06-30T23:59:59.999Z","status":"suspended"}`),
		`Agent::"other"`:             entity(`Agent::"other"`, `{"owner":"ann","status":"suspended"}`),
		`Order::"any"`:               entity(`Order::"any"`, `{"labels":["money"],"owner":"ann"}`),
		`File::"a"`:                  entity(`File::"a"`, `{"labels":[],"owner":"ann","sensitivity":"low"}`, `Folder::"public"`),
		`Team::"bots"`:               entity(`Team::"bots"`, ``),
		`Writ::TaskType::"support"`:  entity(`Writ::TaskType::"support"`, `{"max_duration":60}`),
		`Writ::Installation::"this"`: entity(`Writ::Installation::"this"`, ``),
	} {
		got, ok := b.Describe(x, access.MustRef(id), access.Suspended)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%s (known: %v): %s", id, ok, diff)
		}
	}
	for _, id := range []string{`Human::"ghost"`, `Ghost::"x"`, `Team::"ghosts"`, `Writ::TaskType::"x"`, `Writ::Installation::"other"`, `Folder::"x"`} {
		if _, ok := b.Describe(x, access.MustRef(id), access.Active); ok {
			t.Errorf("%s is known", id)
		}
	}
	if _, err := Overlay(entity(`A::"a"`, `{"x":1}`), entity(`A::"a"`, `[]`)); err == nil {
		t.Error("a list is laid over")
	}
}

// What the catalog says of an owner cannot be said twice.
func TestDescribedAttributeTwiceIsRefused(t *testing.T) {
	b := shop(t)
	x := access.NewIndex(access.Catalog{Identities: []access.Identity{
		{ID: access.MustRef(`Agent::"a"`), Owner: access.MustRef(`Human::"ann"`), Attributes: []byte(`{"owner":"mallory"}`)},
	}})
	e, _ := b.Describe(x, access.MustRef(`Agent::"a"`), access.Active)
	if err := b.CheckEntity(e); err == nil || !strings.Contains(err.Error(), "a key twice") {
		t.Errorf("the fault is %v", err)
	}
}
