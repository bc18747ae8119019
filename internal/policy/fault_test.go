package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each file of testdata/faults is a bundle laid over the shop, with the faults that it must be refused for.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fault bundles: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			src := parts(string(text))
			if src[schemaFile] == nil {
				src[schemaFile] = readBundle(t, "bundles/shop.txtar")[schemaFile]
				src["derive.yaml"] = append(readBundle(t, "bundles/shop.txtar")["derive.yaml"], src["derive.yaml"]...)
				if broken := parts(string(text))["derive.yaml"]; broken != nil {
					src["derive.yaml"] = broken
				}
			}
			faults := faultsOf(t, src, shopCatalog())
			if !slices.IsSortedFunc(faults, func(a, b Fault) int { return strings.Compare(a.File, b.File) }) {
				t.Errorf("the faults are not in order")
			}
			missed := false
			for line := range strings.Lines(string(text)) {
				want, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "want: ")
				if ok && !slices.ContainsFunc(faults, func(f Fault) bool { return strings.Contains(f.String(), want) }) {
					t.Errorf("no fault holds %q", want)
					missed = true
				}
			}
			if missed {
				t.Logf("the faults are:\n%v", faults)
			}
		})
	}
}
