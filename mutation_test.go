package writ_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutants is set by scripts/mutate: a directory with a report of Gremlins for each package.
var mutants = flag.String("mutants", "", "directory of mutation reports, whose survivors docs/mutation.md must explain")

// TestMutationPageIsOfThisCode makes sure that docs/mutation.md explains code that is there, and every survivor of a run.
func TestMutationPageIsOfThisCode(t *testing.T) {
	page, err := os.ReadFile("docs/mutation.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("^\\| `([a-z/]+\\.go)` \\| `([A-Za-z.]+)` \\| [a-z-]+ `(.+«.+».*)` \\| ([^|]+) \\|$")
	explained := 0
	for line := range strings.Lines(string(page)) {
		if !strings.Contains(line, ".go` |") {
			continue
		}
		cells := row.FindStringSubmatch(strings.TrimSpace(line))
		if cells == nil {
			t.Errorf("not a row of file, function, mutation and why nothing can notice it: %s", line)
			continue
		}
		explained++
		code := strings.NewReplacer(`\|`, "|", "«", "", "»", "", "´", "`").Replace(cells[3])
		if !strings.Contains(source(t, cells[1], cells[2]), code) {
			t.Errorf("%s has no function %s with %s: delete the row or mend it", cells[1], cells[2], code)
		}
	}
	if explained == 0 {
		t.Error("the page explains nothing: delete it with this test, or mend its rows")
	}
	if *mutants != "" {
		survivors(t, *mutants, string(page))
	}
}

// source is the text of a declaration of the file, or "".
func source(t *testing.T, path, name string) string {
	t.Helper()
	text, file := parsed(t, path)
	for _, declared := range file.Decls {
		if declaredName(declared) == name {
			return text[declared.Pos()-1 : declared.End()-1]
		}
	}
	return ""
}

func parsed(t *testing.T, path string) (string, *ast.File) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("docs/mutation.md: %v", err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("docs/mutation.md: %v", err)
	}
	return string(text), file
}

// declaredName is that of a function, or the first one of a group of constants, variables or types.
func declaredName(declared ast.Decl) string {
	if function, ok := declared.(*ast.FuncDecl); ok {
		return nameOf(function)
	}
	if group, ok := declared.(*ast.GenDecl); ok && len(group.Specs) > 0 {
		switch first := group.Specs[0].(type) {
		case *ast.ValueSpec:
			return first.Names[0].Name
		case *ast.TypeSpec:
			return first.Name.Name
		}
	}
	return ""
}

// survivors fails for each mutant that no test noticed and the page does not explain, and counts all of them.
func survivors(t *testing.T, reports, page string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(reports, "*.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no reports in %s (%v)", reports, err)
	}
	counts := map[string]map[string]int{}
	for _, name := range names {
		var report struct {
			Package string
			Result  struct {
				Files []struct {
					Name      string `json:"file_name"`
					Mutations []struct {
						Type, Status string
						Line, Column int
					}
				}
			}
		}
		text, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(text, &report)
		}
		if err != nil {
			t.Fatal(err)
		}
		if counts[report.Package] == nil {
			counts[report.Package] = map[string]int{}
		}
		for _, file := range report.Result.Files {
			path := filepath.Join(report.Package, file.Name)
			for _, m := range file.Mutations {
				counts[report.Package][m.Status]++
				counts[report.Package]["all"]++
				if m.Status == "KILLED" || m.Status == "NOT VIABLE" {
					continue
				}
				found := mutation(t, path, m.Type, m.Line, m.Column)
				switch {
				case m.Status == "TIMED OUT":
					t.Logf("a loop without an end, or a slow machine: %s", found)
				case !strings.Contains(page, found):
					t.Errorf("nothing notices it: %s", found)
				}
			}
		}
	}
	for name, n := range counts {
		t.Logf("| `%s` | %d | %d | %d | %d | %d | %d |", name, n["all"], n["NOT VIABLE"], n["KILLED"], n["TIMED OUT"], n["LIVED"], n["NOT COVERED"])
	}
}

// mutation is the first cells of the page's row: the code around the operator, which is marked, without a line number.
func mutation(t *testing.T, path, kind string, line, column int) string {
	t.Helper()
	const most = 36
	text, file := parsed(t, path)
	start := 0
	for range line - 1 {
		start += strings.IndexByte(text[start:], '\n') + 1
	}
	end := start + strings.IndexByte(text[start:], '\n')
	at := start + column - 1
	inside := ""
	for _, declared := range file.Decls {
		if declared.Pos() <= token.Pos(at+1) && token.Pos(at+1) < declared.End() {
			inside = declaredName(declared)
		}
	}
	rest := text[min(at, end):end]
	operator := firstToken(rest)
	if !strings.HasPrefix(rest, operator) {
		t.Fatalf("%s:%d:%d is no operator: the code was changed after the run", path, line, column)
	}
	left, right := strings.TrimLeft(text[start:at], "\t"), rest[len(operator):]
	left, right = left[max(len(left)-most, 0):], right[:min(len(right), most)]
	code := strings.ToValidUTF8(strings.NewReplacer("|", `\|`, "`", "´").Replace(left+"«"+operator+"»"+right), "")
	return fmt.Sprintf("| `%s` | `%s` | %s `%s` |", path, inside, strings.ReplaceAll(strings.ToLower(kind), "_", "-"), strings.TrimSpace(code))
}

// firstToken is the operator or keyword that the text begins with.
func firstToken(text string) string {
	set := token.NewFileSet()
	var s scanner.Scanner
	s.Init(set.AddFile("", set.Base(), len(text)), []byte(text), func(token.Position, string) {}, 0)
	_, found, _ := s.Scan()
	return found.String()
}
