package app

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The API's own test cannot know what routes it is given to carry.
func TestRoutesOfGuestsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../api/openapi.yaml")
	check(t, err)
	var document struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	check(t, yaml.Unmarshal(text, &document))
	carried := map[string]bool{}
	for _, guest := range guests(&gate{}) {
		carried[guest.Path] = true
		if document.Paths[guest.Path][strings.ToLower(guest.Method)] == nil {
			t.Errorf("%s %s is served but not documented", guest.Method, guest.Path)
		}
	}
	for path := range document.Paths {
		if strings.HasPrefix(path, "/oauth/") && !carried[path] {
			t.Errorf("%s is documented but not served", path)
		}
	}
}
