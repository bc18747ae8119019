package airline_test

import (
	"bytes"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/writ-project/writ/examples/airline"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/policy"
)

func index(t *testing.T) *access.Index {
	t.Helper()
	files, err := airline.Catalog("https://id.airline.example")
	if err != nil {
		t.Fatal(err)
	}
	declared, err := catalog.Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	return access.NewIndex(declared)
}

func source(t *testing.T) policy.Source {
	t.Helper()
	files, err := airline.Policy()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheManual(t *testing.T) {
	x := index(t)
	bundle, err := policy.Load(source(t), x)
	if err != nil {
		t.Fatal(err)
	}
	results := bundle.RunCases(x)
	for _, r := range results {
		if !r.Pass {
			t.Errorf("%s:%d: %s: %s", r.File, r.Line, r.Name, r.Diff)
		}
	}
	if len(results) < 100 {
		t.Errorf("only %d cases ran", len(results))
	}
}

// TestEveryRuleHasBothSides breaks each policy in two ways. Without it, or without its conditions, some case must fail.
func TestEveryRuleHasBothSides(t *testing.T) {
	x := index(t)
	whole, err := policy.Load(source(t), x)
	if err != nil {
		t.Fatal(err)
	}
	conditions := regexp.MustCompile(`(?s)\n?\s*(when|unless) \{.*\};$`)
	for _, p := range whole.Policies() {
		if !caught(t, x, p, "") {
			t.Errorf("%s: no case notices that it is missing", p.ID)
		}
		if broad := conditions.ReplaceAllString(p.Text, ";"); broad != p.Text && !caught(t, x, p, broad) {
			t.Errorf("%s: no case notices that it always matches", p.ID)
		}
	}
}

// caught reports whether a case of the policy's own chapter fails when the policy's text is another.
func caught(t *testing.T, x *access.Index, p policy.Info, text string) bool {
	t.Helper()
	broken := source(t)
	if !bytes.Contains(broken[p.File], []byte(p.Text)) {
		t.Fatalf("%s: its text is not in %s", p.ID, p.File)
	}
	broken[p.File] = bytes.Replace(broken[p.File], []byte(p.Text), []byte(text), 1)
	chapter := strings.Replace(strings.Replace(p.File, "access/", "tests/", 1), ".cedar", ".yaml", 1)
	maps.DeleteFunc(broken, func(file string, _ []byte) bool { return strings.HasPrefix(file, "tests/") && file != chapter })
	bundle, err := policy.Load(broken, x)
	if err != nil {
		t.Fatalf("%s as %q: %v", p.ID, text, err)
	}
	for _, r := range bundle.RunCases(x) {
		if !r.Pass {
			return true
		}
	}
	return false
}

// TestNothingOfTheIssuerIsLeft makes sure that the placeholder is put in everywhere.
func TestNothingOfTheIssuerIsLeft(t *testing.T) {
	files, err := airline.Catalog("https://id.airline.example")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if bytes.Contains(content, []byte(airline.Issuer)) {
			t.Errorf("%s holds %s", name, airline.Issuer)
		}
	}
	if !bytes.Contains(files["people.yaml"], []byte(`"https://id.airline.example"`)) {
		t.Error("people.yaml names no issuer")
	}
}
