package store

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// written finds the tables that an SQL text writes to.
var written = regexp.MustCompile(`(?i)\b(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|REPLACE\s+INTO|DELETE\s+FROM|UPDATE(?:\s+OR\s+\w+)?|DROP\s+TABLE|ALTER\s+TABLE|CREATE\s+(?:TEMP\s+)?(?:TABLE|TRIGGER)(?:\s+IF\s+NOT\s+EXISTS)?)\s+(\w+)`)

// writers says in which one file each table may be written. A table that is in none of them fails the test.
func writers() map[string]string {
	out := map[string]string{"migrations": "migrate.go", "settings": "store.go", "heartbeats": "commit.go", "idempotency": "append.go", "strangers": "strangers.go"}
	for _, log := range []string{"entries", "disclosures", "tiles", "head", "bundles"} {
		out[log] = "append.go"
	}
	for _, t := range authoritative() {
		if t.name != "migrations" {
			out[t.name] = "project.go"
		}
	}
	return out
}

// State has one way in: the projection of an entry. Log tables are written only where entries are appended.
func TestI1_EachTableIsWrittenInOneFile(t *testing.T) {
	allowed := writers()
	seen := map[string]bool{}
	eachSource(t, func(name string, file *ast.File) {
		for _, text := range literals(t, file) {
			for _, match := range written.FindAllStringSubmatch(text, -1) {
				table := strings.ToLower(match[1])
				if table == "set" { // of ON CONFLICT DO UPDATE
					continue
				}
				seen[table] = true
				if allowed[table] != name {
					t.Errorf("%s writes %s, which only %q may: %.60s", name, table, allowed[table], text)
				}
			}
		}
	})
	for _, table := range slices.Sorted(maps.Keys(allowed)) {
		if !seen[table] {
			t.Errorf("nothing writes %s: is it a table still, or is this test blind?", table)
		}
	}
}

// What is executed is fixed in the code, so that the test above sees all of it: every text of exec is a constant, but in
// the few places that pass on what they were given.
func TestI1_NoStatementIsMadeUp(t *testing.T) {
	passOn := map[string]int{
		"sqlite.go":   3, // a prepared statement; what was gathered; the migration's own file
		"postgres.go": 3, // the same; the channel's name
		"project.go":  3, // projection.exec; the two constants of counters
		"backup.go":   1, // rows of another database, into an empty one that is verified before anybody serves it
		"verify.go":   1, // DROP INDEX, of the tables that are rebuilt to be compared
		"reserve.go":  1, // PRAGMA max_page_count and a number
	}
	found := map[string]int{}
	eachSource(t, func(name string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"exec", "Exec", "ExecContext"}, selector.Sel.Name) {
				return true
			}
			if len(call.Args) > 1 && !slices.ContainsFunc(call.Args[:min(2, len(call.Args))], fixed) { // the text is the first, or after the context
				found[name]++
			}
			return true
		})
	})
	if diff := cmp.Diff(passOn, found); diff != "" {
		t.Errorf("statements that are not fixed (-allowed +found):\n%s", diff)
	}
}

func fixed(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Kind == token.STRING
	case *ast.BinaryExpr:
		return fixed(e.X) && fixed(e.Y)
	default:
		return false
	}
}

// eachSource parses the package's own files, tests not among them.
func eachSource(t *testing.T, visit func(name string, file *ast.File)) {
	t.Helper()
	names, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Clean(name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		visit(name, file)
	}
}

// literals are the string constants of a file; those that are joined with + are one.
func literals(t *testing.T, file *ast.File) []string {
	t.Helper()
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok || !fixed(e) {
			return true
		}
		text, err := joined(e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
		return false
	})
	return out
}

func joined(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.BinaryExpr:
		x, err := joined(e.X)
		if err != nil {
			return "", err
		}
		y, err := joined(e.Y)
		return x + y, err
	default:
		return "", nil
	}
}

// What a decision depends on is looked for with = and AND alone: conflict.go takes each such condition for a necessary one.
func TestReadsThatAreDependedOnHaveNoAlternatives(t *testing.T) {
	f := newForms()
	conditions := 0
	eachSource(t, func(name string, file *ast.File) {
		if name != "view.go" {
			return
		}
		for _, text := range literals(t, file) {
			if !strings.HasPrefix(text, "SELECT ") || strings.Contains(text, "tasks.heartbeat > 0") || strings.Contains(text, "OR task IN") {
				continue // lists of what is due: each row is depended on by its own read
			}
			for table := range f.looksOf(text) {
				conditions += len(f.looksOf(text)[table])
			}
			if strings.Contains(text, " OR ") || strings.Contains(text, " NOT ") {
				t.Errorf("%s: an alternative: %s", name, text)
			}
		}
	})
	if conditions < 20 {
		t.Errorf("only %d conditions were seen: is this test blind?", conditions)
	}
}
