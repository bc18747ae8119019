package writ_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestClaimsAreHeld makes sure that every test that docs/claims.md names is there.
func TestClaimsAreHeld(t *testing.T) {
	page, err := os.ReadFile("docs/claims.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) == 0 {
		t.Fatal("no test is named")
	}
	tests := sources(t)
	for _, match := range named {
		if !strings.Contains(tests, "func "+match[1]+"(") {
			t.Errorf("docs/claims.md rests on %s, which does not exist", match[1])
		}
	}
}

// sources is the text of all tests.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		all.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
