package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/policy"
)

// TestASchemaThatMultipliesIsRefused has a few lines that would take all memory to resolve.
func TestASchemaThatMultipliesIsRefused(t *testing.T) {
	doubling := func(levels int) string {
		var text strings.Builder
		text.WriteString("type T0 = { a: Long };\n")
		for i := range levels {
			fmt.Fprintf(&text, "type T%d = { a: T%d, b: Set<T%d> };\n", i+1, i, i)
		}
		fmt.Fprintf(&text, "entity E { x: T%d };\n", levels)
		return text.String()
	}
	groups := func(actions, parents int) string {
		var text strings.Builder
		for i := range parents {
			fmt.Fprintf(&text, "action g%d;\n", i)
		}
		for i := range actions {
			fmt.Fprintf(&text, "action a%d in [", i)
			for j := range parents {
				fmt.Fprintf(&text, "g%d,", j)
			}
			text.WriteString("];\n")
		}
		return strings.ReplaceAll(text.String(), ",]", "]")
	}
	for name, c := range map[string]struct {
		schema  string
		refused bool
	}{
		"a few levels":                   {doubling(8), false},
		"forty levels":                   {doubling(40), true},
		"forty levels in a namespace":    {"namespace N {\n" + doubling(40) + "}\n", true},
		"names of an outer namespace":    {doubling(9) + "namespace N {\n entity F { x: T9 };\n entity G { x: T9 };\n}\n", false},
		"groups of groups, a thousand":   {groups(1000, 40), true},
		"groups of groups, a few":        {groups(20, 10), false},
		"a type that names itself twice": {"type T = { a: T, b: T };\nentity E { x: T };\n", false}, // the resolver says what is wrong
	} {
		_, err := policy.Load(policy.Source{"schema.cedarschema": []byte(c.schema)}, policy.AnyCatalog())
		if refused := err != nil && strings.Contains(err.Error(), "with its common types put in"); refused != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
