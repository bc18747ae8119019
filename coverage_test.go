package writ_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCoveragePageIsOfThisCode makes sure that every file and function that docs/coverage.md excuses is there.
func TestCoveragePageIsOfThisCode(t *testing.T) {
	page, err := os.ReadFile("docs/coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("^\\| `([a-z/]+\\.go)` \\| `([A-Za-z.]+)` \\| [^|]+ \\| ([^|]+) \\|$")
	excused := 0
	for line := range strings.Lines(string(page)) {
		if !strings.Contains(line, ".go` |") {
			continue
		}
		cells := row.FindStringSubmatch(strings.TrimSpace(line))
		if cells == nil {
			t.Errorf("not a row of file, function, what it guards and why no test reaches it: %s", line)
			continue
		}
		excused++
		if !declares(t, cells[1], cells[2]) {
			t.Errorf("%s has no function %s: delete the row or mend it", cells[1], cells[2])
		}
		for _, held := range regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`").FindAllStringSubmatch(cells[3], -1) {
			if len(packagesWith(sources(t), held[1])) == 0 {
				t.Errorf("the reason for %s rests on %s, which does not exist", cells[2], held[1])
			}
		}
	}
	if excused == 0 {
		t.Error("the page excuses nothing: delete it with this test, or mend its rows")
	}
}

// declares reports whether the file has the function; a method is named receiver.method.
func declares(t *testing.T, path, name string) bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Errorf("docs/coverage.md: %v", err)
		return false
	}
	for _, declared := range file.Decls {
		if function, ok := declared.(*ast.FuncDecl); ok && nameOf(function) == name {
			return true
		}
	}
	return false
}

func nameOf(function *ast.FuncDecl) string {
	if function.Recv == nil {
		return function.Name.Name
	}
	receiver := function.Recv.List[0].Type
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver = pointer.X
	}
	if named, ok := receiver.(*ast.Ident); ok {
		return named.Name + "." + function.Name.Name
	}
	return function.Name.Name
}
