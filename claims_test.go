package writ_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestClaimsAreHeld makes sure that every test that docs/claims.md names is there.
func TestClaimsAreHeld(t *testing.T) {
	page, err := os.ReadFile("docs/claims.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(?:([a-z/]+)\\.)?(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) == 0 {
		t.Fatal("no test is named")
	}
	tests := sources(t)
	for _, match := range named {
		in := packagesWith(tests, match[2])
		if match[1] == "" && len(in) != 1 || match[1] != "" && !slices.Contains(in, match[1]) {
			t.Errorf("docs/claims.md rests on %s, which is in the packages %q: it must exist, and name its package where several have it", match[0], in)
		}
	}
}

// packagesWith are the folders that have a test of this name.
func packagesWith(tests map[string]string, name string) (folders []string) {
	for folder, text := range tests {
		if strings.Contains(text, "func "+name+"(") {
			folders = append(folders, folder)
		}
	}
	return folders
}

// sources is the text of all tests, by folder.
func sources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		content, err := os.ReadFile(name)
		all[path.Dir(name)] += string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
