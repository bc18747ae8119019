package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/access"
)

const benchSchema = `
entity Team in [Team];
entity Human in [Team];
entity Agent in [Team] = { owner: Human };
entity Folder in [Folder];
entity Doc in [Folder] = { owner: Human, status: String, "labels": Set<String> };
action %s appliesTo {
  principal: [Agent], resource: [Doc],
  context: {
    args: { amount: Long, note: String }, ttl: Long, risk: Long, now: datetime,
    task: { type: String, age: Long }, labels: { task: Set<String> }
  }
};
`

// benchBundle has 20 policies that could match, and others up to n that could not, by their scope.
func benchBundle(t testing.TB, n int, shared bool) *Bundle {
	t.Helper()
	var text strings.Builder
	actions := []string{"act0"}
	add := func(i int, scope, when string) {
		fmt.Fprintf(&text, "@id(\"p%d\")\n@owner(\"Team::\\\"t\\\"\")\n", i)
		if i%2 == 0 {
			fmt.Fprintf(&text, "@max_ttl(\"5m\")\n@until(\"2027-06-30\")\npermit(%s) when { %s };\n", scope, when)
		} else {
			fmt.Fprintf(&text, "@because(\"b\")\nforbid(%s) when { %s };\n", scope, when)
		}
	}
	for i := range 20 {
		when := fmt.Sprintf(`context.args.amount > %d && resource.status == "open"`, i)
		if i%2 == 1 {
			when = fmt.Sprintf(`context.args.amount > %d || context.risk > 100 || context.labels.task.contains("x%d")`, 1000+i, i)
		}
		add(i, `principal in Team::"t", action == Action::"act0", resource in Folder::"f"`, when)
	}
	for i := 20; i < n; i++ {
		if shared {
			add(i, fmt.Sprintf(`principal in Team::"t", action == Action::"act0", resource == Doc::"d%d"`, i), "context.args.amount > 5")
			continue
		}
		name := fmt.Sprintf("act%d", i%50+1)
		if i < 70 {
			actions = append(actions, name)
		}
		add(i, fmt.Sprintf(`principal in Team::"t%d", action == Action::%q, resource == Doc::"d%d"`, i, name, i%100), "context.args.amount > 5")
	}
	src := Source{schemaFile: []byte(fmt.Sprintf(benchSchema, strings.Join(actions, ", "))), "access/a.cedar": []byte(text.String())}
	return mustLoad(t, src, anyCatalog{})
}

func benchInput(b *Bundle) *access.Input {
	return &access.Input{
		Request: access.Request{
			Subject: access.MustRef(`Agent::"a"`), Action: access.MustRef(`Action::"act0"`), Resource: access.MustRef(`Doc::"mine"`),
			Args: []byte(`{"amount": 50, "note": "the customer asked for it"}`), TTL: 60, Mode: access.Use, Task: "t",
		},
		Facts: access.Facts{
			Entities: []access.Entity{
				entity(`Agent::"a"`, `{"owner":"h"}`, `Team::"t"`),
				entity(`Doc::"mine"`, `{"owner":"h","status":"open","labels":["pii","eu"]}`, `Folder::"f"`),
				entity(`Folder::"f"`, ``), entity(`Human::"h"`, ``), entity(`Team::"t"`, ``),
			},
			Task: &access.TaskFacts{Type: "support", Age: 10}, Labels: access.Labels{Task: []string{"pii"}},
		},
		Now: noon, Bundle: b.Hash(),
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, layout := range []string{"spread", "shared"} {
		for _, n := range []int{20, 1000, 5000} {
			b.Run(fmt.Sprintf("%s/%d", layout, n), func(b *testing.B) {
				bundle := benchBundle(b, n, layout == "shared")
				in := benchInput(bundle)
				if got := bundle.Decide(in); got.Outcome != access.Allow || len(got.Policies) != 10 {
					b.Fatalf("the benchmark decides %s: %s", summary(got), got.Problem)
				}
				b.ReportAllocs()
				for b.Loop() {
					bundle.Decide(in)
				}
			})
		}
	}
}

func BenchmarkNeeds(b *testing.B) {
	bundle := benchBundle(b, 1000, true)
	in := benchInput(bundle)
	have := map[access.Ref]*access.Entity{}
	for i := range in.Facts.Entities {
		have[in.Facts.Entities[i].ID] = &in.Facts.Entities[i]
	}
	b.ReportAllocs()
	for b.Loop() {
		bundle.Needs(&in.Request, have)
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				benchBundle(b, n, true)
			}
		})
	}
}
