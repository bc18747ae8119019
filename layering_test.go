package writ_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/writ-project/writ/"

// rooms says which packages of ours each package may import, beside itself. Data flows one way:
// endpoint → control → pure decision, and store and connectors only ever meet in app.
func rooms() map[string][]string {
	pure := []string{"evidence", "internal/access", "internal/access/event", "internal/policy", "internal/catalog"}
	return map[string][]string{
		"evidence":                nil,
		"internal/access":         nil,
		"internal/access/event":   {"internal/access"},
		"internal/policy":         {"internal/access"},
		"internal/catalog":        {"internal/access"},
		"internal/control":        pure,
		"internal/store":          {"evidence", "internal/access", "internal/access/event"},
		"internal/authn":          nil,
		"internal/connector/jwt":  nil,
		"internal/devidp":         nil,
		"internal/nodetest":       nil,
		"internal/browsertest":    {"internal/nodetest"},
		"internal/pgtest":         nil,
		"internal/svidtest":       nil,
		"internal/strace":         nil,
		"internal/witness":        {"evidence"},
		"client":                  nil,
		"internal/api":            append([]string{"internal/control", "client"}, pure...),
		"internal/oauth":          {"internal/access", "internal/control"},
		"examples/starter":        nil,
		"examples/airline":        nil,
		"examples/airline/replay": {"internal/access"},
		"examples/orders":         {"client"},
	}
}

// everything may be imported where parts are put together.
func putTogether() []string {
	return []string{"internal/app", "internal/sandbox", "internal/demo", "cmd/writ", "examples/airline/eval", "bench"}
}

type pkg struct {
	path    string
	imports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		list = append(list, pkg{strings.TrimPrefix(fields[0], module), fields[1:]})
	}
	return list
}

func TestLayering(t *testing.T) {
	allowed := rooms()
	for _, p := range packages(t) {
		if slices.Contains(putTogether(), p.path) || p.path+"/" == module {
			continue
		}
		may, known := allowed[p.path]
		if !known {
			t.Errorf("%s: give it a room in this test, and say what it may import", p.path)
		}
		for _, imported := range p.imports {
			if ours, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(may, ours) {
				t.Errorf("%s must not import %s", p.path, ours)
			}
		}
	}
}

// TestPurePackagesDoNoIO holds the pure core away from clocks, randomness, files and the network.
func TestPurePackagesDoNoIO(t *testing.T) {
	pure := []string{"evidence", "internal/access", "internal/access/event", "internal/policy", "internal/catalog"}
	impure := []string{"os", "net", "net/http", "database/sql", "crypto/rand", "math/rand", "math/rand/v2", "log", "log/slog", "os/exec", "syscall", "embed"}
	clocks := regexp.MustCompile(`\btime\.(Now|Since|Until|Sleep|After|AfterFunc|Tick|NewTimer|NewTicker)\(`)
	for _, p := range packages(t) {
		if !slices.Contains(pure, p.path) {
			continue
		}
		files, err := filepath.Glob(p.path + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files, %v", p.path, err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if found := clocks.Find(content); found != nil && !strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s is pure and must not use %s", file, found)
			}
		}
		for _, imported := range p.imports {
			if slices.Contains(impure, imported) {
				t.Errorf("%s is pure and must not import %s", p.path, imported)
			}
		}
	}
}
