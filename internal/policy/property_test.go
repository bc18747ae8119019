package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/internal/access"
)

const propertySchema = `
entity Team in [Team];
entity Human in [Team];
entity Agent in [Team] = { owner: Human };
entity Folder in [Folder];
entity File in [Folder] = { status: String };
action all;
action change in [all];
action write in [change] appliesTo {
  principal: [Agent, Human], resource: [File, Folder], context: { args: { n: Long }, "risk": Long, ttl: Long }
};
action delete in [change, all] appliesTo {
  principal: [Agent, Human], resource: [File, Folder], context: { args: { n: Long }, "risk": Long, ttl: Long }
};
action read in [all] appliesTo {
  principal: [Agent, Human], resource: [File, Folder], context: { args: { n: Long }, "risk": Long, ttl: Long }
};
action look appliesTo {
  principal: [Agent, Human], resource: [File, Folder], context: { args: { n: Long }, "risk": Long, ttl: Long }
};
`

// drawPolicies writes random policies over a small world, so that many of them match.
func drawPolicies(t *rapid.T, n int) string {
	principals := []string{"principal", "principal is Agent", "principal is Human", `principal == Agent::"a"`, `principal == Human::"h"`,
		`principal in Team::"t1"`, `principal in Team::"t2"`, `principal is Agent in Team::"t2"`, `principal in Team::"t3"`}
	actions := []string{"action", `action == Action::"write"`, `action in Action::"change"`, `action in Action::"all"`,
		`action in [Action::"write", Action::"read"]`, `action in [Action::"change", Action::"write", Action::"all"]`, `action == Action::"look"`}
	resources := []string{"resource", "resource is File", "resource is Folder", `resource == File::"f"`, `resource == Folder::"d1"`,
		`resource in Folder::"d1"`, `resource in Folder::"d2"`, `resource is File in Folder::"d2"`, `resource in Folder::"d3"`}
	whens := []string{"true", "context.args.n > 5", "context.args.n > 5 && context.args.n * 2 < 1000", "context.ttl > 100", `Human::"h" in Team::"t2"`}
	var out strings.Builder
	for i := range n {
		kind := rapid.SampledFrom([]string{"permit", "forbid", "approval"}).Draw(t, "kind")
		fmt.Fprintf(&out, "@id(\"p%02d\") @owner(\"Team::\\\"t1\\\"\")\n", i)
		effect := "forbid"
		switch kind {
		case "permit":
			effect = "permit"
			fmt.Fprintf(&out, "@max_ttl(\"%ds\") @until(\"2026-0%d-01\")\n", rapid.IntRange(1, 900).Draw(t, "ttl"), rapid.IntRange(1, 9).Draw(t, "until"))
		case "approval":
			out.WriteString("@because(\"b\") @approval(\"team:t1\")\n")
		default:
			out.WriteString("@because(\"b\")\n")
		}
		fmt.Fprintf(&out, "%s(%s, %s, %s) when { %s };\n", effect,
			rapid.SampledFrom(principals).Draw(t, "principal"), rapid.SampledFrom(actions).Draw(t, "action"),
			rapid.SampledFrom(resources).Draw(t, "resource"), rapid.SampledFrom(whens).Draw(t, "when"))
	}
	return out.String()
}

func drawInput(t *rapid.T, b *Bundle) *access.Input {
	ref := func(label string, of ...string) access.Ref {
		return access.MustRef(rapid.SampledFrom(of).Draw(t, label))
	}
	entities := []access.Entity{
		entity(`Agent::"a"`, `{"owner":"h"}`, `Team::"t1"`), entity(`Agent::"b"`, `{"owner":"h"}`),
		entity(`File::"f"`, `{"status":"x"}`, `Folder::"d1"`), entity(`File::"g"`, `{"status":"x"}`),
		entity(`Folder::"d1"`, ``, `Folder::"d2"`), entity(`Folder::"d2"`, ``), entity(`Folder::"d3"`, ``),
		entity(`Human::"h"`, ``, `Team::"t2"`), entity(`Team::"t1"`, ``, `Team::"t2"`), entity(`Team::"t2"`, ``), entity(`Team::"t3"`, ``),
	}
	if rapid.IntRange(0, 9).Draw(t, "leave out") == 0 {
		i := rapid.IntRange(0, len(entities)-1).Draw(t, "which")
		entities = slices.Delete(entities, i, i+1)
	}
	in := &access.Input{
		Request: access.Request{
			Subject: ref("subject", `Agent::"a"`, `Agent::"b"`, `Human::"h"`), Resource: ref("resource", `File::"f"`, `File::"g"`, `Folder::"d1"`, `Folder::"d3"`),
			Action: ref("action", `Action::"write"`, `Action::"delete"`, `Action::"read"`, `Action::"look"`, `Action::"change"`),
			Mode:   access.Use, TTL: access.Seconds(rapid.Int64Range(0, 300).Draw(t, "ttl")),
			Args: fmt.Appendf(nil, `{"n":%d}`, rapid.SampledFrom([]int64{0, 6, 600, 1 << 62}).Draw(t, "n")),
		},
		Facts: access.Facts{Entities: entities}, Now: noon, Bundle: b.Hash(),
	}
	for _, p := range b.Policies() {
		if strings.Contains(p.Text, "@approval") && rapid.Bool().Draw(t, "discharge") {
			in.Discharges = append(in.Discharges, access.Discharge{Policy: p.Hash, Risk: rapid.Int64Range(0, 40).Draw(t, "risk"), Approval: "x"})
		}
	}
	return in
}

func drawBundle(t *rapid.T) (*Bundle, string) {
	policies := drawPolicies(t, rapid.IntRange(0, 30).Draw(t, "policies"))
	risk := strings.ReplaceAll(forbid("risk-n", `principal, action in Action::"change", resource`, "context.args.n > 5"), "forbid", `@points("20") forbid`) +
		strings.ReplaceAll(forbid("risk-f", `principal is Agent, action, resource is File`, "true"), "forbid", `@points("15") forbid`)
	src := Source{schemaFile: []byte(propertySchema), "access/a.cedar": []byte(policies), "risk/r.cedar": []byte(risk)}
	// Policies that could never match are refused: leave those out that the loader names.
	b, err := Load(src, anyCatalog{})
	if err != nil {
		drop := map[int]bool{}
		for _, f := range err.(Faults) { //nolint:errorlint // Load says that its error is Faults
			drop[f.Line] = true
		}
		lines := strings.SplitAfter(policies, "\n")
		var kept strings.Builder
		for i := 0; i+2 < len(lines); i += 3 {
			if !drop[i+1] {
				kept.WriteString(strings.Join(lines[i:i+3], ""))
			}
		}
		policies = kept.String()
		src["access/a.cedar"] = []byte(policies)
		if b, err = Load(src, anyCatalog{}); err != nil {
			t.Fatalf("%v\n%s", err, policies)
		}
	}
	return b, policies
}

// The index leaves out only policies that cannot match.
func TestIndexDecidesAsAllPoliciesWould(t *testing.T) {
	outcomes := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		b, policies := drawBundle(t)
		for range 5 {
			in := drawInput(t, b)
			got, want := b.decide(in, false), b.decide(in, true)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("with the index (+) and without (-):\n%s\n%s", diff, policies)
			}
			outcomes[string(got.Outcome)+string(got.Code)]++
		}
	})
	for _, outcome := range []string{"allow", "denyforbidden", "denynot_permitted", "denypolicy_error", "needs_approvalapproval_required"} {
		if outcomes[outcome] == 0 {
			t.Errorf("no input was decided %s: %v", outcome, outcomes)
		}
	}
}

// A policy stands where a request that it is not about seldom looks: under an entity, else under the type that fewer share.
func TestIndexLeavesOutWhatIsAboutSomethingElse(t *testing.T) {
	policies := ""
	for i, scope := range []string{
		0: `principal is Agent, action, resource == File::"f"`, 1: `principal is Human, action, resource == File::"f"`,
		2: `principal == Agent::"a", action, resource is File`, 3: `principal == Agent::"a", action, resource is Folder`,
		4: `principal is Human, action, resource is Folder`, 5: `principal is Agent, action, resource is File`,
		6: `principal, action, resource is Folder`, 7: `principal, action, resource is Folder`,
		8: `principal is Agent, action, resource`, 9: `principal is Agent, action, resource`, 10: `principal is Human, action, resource`,
		11: `principal is Human, action == Action::"read", resource`, 12: `principal is Human, action == Action::"read", resource is File`,
	} {
		policies += forbid(fmt.Sprintf("p%02d", i), scope, "true")
	}
	b := mustLoad(t, Source{schemaFile: []byte(propertySchema), "access/a.cedar": []byte(policies)}, AnyCatalog())
	for _, c := range []struct{ principal, action, resource, want string }{
		{`Agent::"b"`, "look", `File::"g"`, "p05 p08 p09"},
		{`Agent::"b"`, "read", `File::"g"`, "p05 p08 p09 p12"},
		{`Agent::"b"`, "look", `Folder::"d"`, "p06 p07 p08 p09"},
		{`Human::"h"`, "look", `File::"g"`, "p04 p05 p10"},
		{`Agent::"a"`, "look", `File::"f"`, "p00 p01 p02 p03 p05 p08 p09"},
	} {
		uid := func(text string) []types.EntityUID { return []types.EntityUID{uidOf(access.MustRef(text))} }
		var got []string
		for _, p := range b.schema.actions[access.Ref{Type: "Action", ID: c.action}].candidates(uid(c.principal), uid(c.resource)) {
			got = append(got, p.id)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("for %s to %s %s the candidates are %s, want %s", c.principal, c.action, c.resource, text, c.want)
		}
	}
}

// The same input gives the same bytes, whatever the order of policies, files, entities and discharges.
func TestI8_DecisionsDoNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, policies := drawBundle(t)
		in := drawInput(t, b)
		want, err := json.Marshal(b.Decide(in))
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		shuffled := *in
		shuffled.Facts.Entities = slices.Clone(in.Facts.Entities)
		shuffled.Discharges = slices.Clone(in.Discharges)
		random.Shuffle(len(shuffled.Facts.Entities), func(i, j int) {
			e := shuffled.Facts.Entities
			e[i], e[j] = e[j], e[i]
		})
		random.Shuffle(len(shuffled.Discharges), func(i, j int) {
			d := shuffled.Discharges
			d[i], d[j] = d[j], d[i]
		})
		if got, _ := json.Marshal(b.Decide(&shuffled)); string(got) != string(want) {
			t.Fatalf("shuffled facts give\n%s\nnot\n%s", got, want)
		}
		other := reordered(t, b, policies, random)
		shuffled.Bundle = other.Hash()
		if got, _ := json.Marshal(other.Decide(&shuffled)); string(got) != string(want) {
			t.Fatalf("shuffled policies give\n%s\nnot\n%s", got, want)
		}
	})
}

// reordered is the bundle with its access policies in another order, in two files.
func reordered(t *rapid.T, b *Bundle, policies string, random *rand.Rand) *Bundle {
	var texts []string
	var risk strings.Builder
	for _, p := range b.Policies() {
		if p.Risk {
			risk.WriteString(p.Text + "\n")
			continue
		}
		texts = append(texts, p.Text+"\n")
	}
	random.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	half := len(texts) / 2
	other, err := Load(Source{
		schemaFile: []byte(propertySchema), "risk/r.cedar": []byte(risk.String()),
		"access/z.cedar": []byte(strings.Join(texts[:half], "")), "access/b.cedar": []byte(strings.Join(texts[half:], "")),
	}, anyCatalog{})
	if err != nil {
		t.Fatalf("%v\n%s", err, policies)
	}
	return other
}

// A bundle is used from many goroutines at once (run with -race).
func TestDecideConcurrently(t *testing.T) {
	b := shop(t)
	in := refund(b, `{"amount":60,"tip":990}`)
	want := summary(b.Decide(in))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				if got := summary(b.Decide(in)); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				b.Needs(&in.Request, nil)
				b.Counters(&in.Request)
			}
		})
	}
	wait.Wait()
}

// What Needs asks for is enough, whatever is asked; Decide then misses nothing that exists.
func TestNeedsLoadWhatDecideWants(t *testing.T) {
	b := shop(t)
	all := map[access.Ref]access.Entity{}
	for _, e := range shopEntities() {
		all[e.ID] = e
	}
	for name, in := range map[string]*access.Input{
		"refund": refund(b, `{"amount":60,"to":"c-1"}`),
		"for":    refund(b, `{"amount":60}`, func(in *access.Input) { in.Request.Principal = access.MustRef(`Human::"bob"`) }),
		"edit":   ask(b, "edit", `File::"b"`, ""),
		"book":   ask(b, "book", `Order::"o-1"`, booking("HAT1", "HAT2", 100)),
		"absent": ask(b, "book", `Order::"o-1"`, booking("HAT1", "HAT8", 100)),
	} {
		t.Run(name, func(t *testing.T) {
			want := b.Decide(in)
			have := map[access.Ref]*access.Entity{}
			rounds := 0
			for wanted := b.Needs(&in.Request, have); len(wanted) > 0; wanted = b.Needs(&in.Request, have) {
				rounds++
				for _, ref := range wanted {
					if _, twice := have[ref]; twice {
						t.Fatalf("%s is asked for twice", ref)
					}
					have[ref] = nil
					if e, ok := all[ref]; ok {
						have[ref] = &e
					}
				}
			}
			in.Facts.Entities = nil
			for _, e := range have {
				if e != nil {
					in.Facts.Entities = append(in.Facts.Entities, *e)
				}
			}
			if diff := cmp.Diff(want, b.Decide(in)); diff != "" {
				t.Errorf("after %d rounds of Needs the decision is another (-all facts +needed):\n%s", rounds, diff)
			}
			if len(have) >= len(all) {
				t.Errorf("needs %d entities, all there are", len(have))
			}
		})
	}
}
