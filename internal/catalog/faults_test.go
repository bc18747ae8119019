package catalog_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/internal/catalog"
)

var update = flag.Bool("update", false, "write the faults that are found into testdata")

// base.yaml is part of every case: some people, a bot, a team, a fact source.
const base = `
identities:
  - id: Human::"ada"
  - id: Human::"bob"
  - {id: Agent::"bot", owner: Human::"ada", purpose: answers customers, review_by: 2027-06-30}
  - {id: Workload::"orders", owner: Human::"bob", purpose: keeps orders, review_by: 2027-06-30}
teams:
  - {name: staff, owner: Human::"bob", members: [Human::"ada", Human::"bob"]}
fact_sources:
  - {name: orders, identity: Workload::"orders", owner: Human::"bob", provides: [Order, Customer], freshness: 1h}
`

// TestFaults reads testdata/faults: the files of a catalog, and in want every fault with its place.
func TestFaults(t *testing.T) {
	paths, err := filepath.Glob("testdata/faults/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			cases, want, _ := strings.Cut(string(text), "-- want --\n")
			files := archive(cases)
			files["base.yaml"] = []byte(base)
			_, err = catalog.Parse(files)
			var faults catalog.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("no faults: %v", err)
			}
			got := faults.Error() + "\n"
			if *update {
				if err := os.WriteFile(path, []byte(cases+"-- want --\n"+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// archive splits a text in the txtar form (a comment, then files, each after a line "-- name --").
func archive(text string) map[string][]byte {
	files := map[string][]byte{}
	name := ""
	for line := range strings.Lines(text) {
		if marked, ok := strings.CutPrefix(line, "-- "); ok {
			name = strings.TrimSuffix(marked, " --\n")
			files[name] = []byte{}
			continue
		}
		files[name] = append(files[name], line...)
	}
	delete(files, "")
	return files
}
