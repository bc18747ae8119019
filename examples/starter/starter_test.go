package starter_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/policy"
)

func files(t *testing.T, prefix string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := fs.WalkDir(starter.Files, prefix, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := starter.Files.ReadFile(path)
		out[strings.TrimPrefix(path, prefix+"/")] = content
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStarterIsSound(t *testing.T) {
	declared, err := catalog.Parse(files(t, "catalog"))
	if err != nil {
		t.Fatal(err)
	}
	index := access.NewIndex(declared)
	bundle, err := policy.Load(files(t, "policy"), index)
	if err != nil {
		t.Fatal(err)
	}
	results := bundle.RunCases(index)
	if len(results) == 0 {
		t.Fatal("no cases ran")
	}
	for _, result := range results {
		if !result.Pass {
			t.Errorf("%s:%d: %s\n%s", result.File, result.Line, result.Name, result.Diff)
		}
	}
}
