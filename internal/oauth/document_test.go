package oauth_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/internal/oauth"
)

const documentURL = "https://writ.example/openapi.json"

// document is the OpenAPI document of the server; objects of this endpoint are closed in it.
type document struct {
	schemas map[string]*jsonschema.Schema // of answers, by name
	routes  []string                      // of this endpoint
}

func newDocument(t testing.TB) *document {
	t.Helper()
	text, err := os.ReadFile("../api/openapi.yaml")
	check(t, err)
	var parsed any
	check(t, yaml.Unmarshal(text, &parsed))
	encoded, err := json.Marshal(parsed)
	check(t, err)
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	check(t, err)
	d, compiler := &document{schemas: map[string]*jsonschema.Schema{}}, jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	check(t, compiler.AddResource(documentURL, root))
	member := func(path string) map[string]any {
		value, _ := find(root, path)
		object, _ := value.(map[string]any)
		return object
	}
	for path := range member("paths") {
		for method := range member("paths." + path) {
			if strings.HasPrefix(path, "/oauth/") {
				d.routes = append(d.routes, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for name, schema := range member("components.schemas") {
		if object, ok := schema.(map[string]any); ok && strings.HasPrefix(name, "OAuth") && object["properties"] != nil && object["additionalProperties"] == nil {
			object["additionalProperties"] = false
		}
	}
	for _, name := range []string{"OAuthIssued", "OAuthIntrospection", "OAuthRevoked", "OAuthError", "Problem"} {
		d.schemas[name], err = compiler.Compile(documentURL + "#/components/schemas/" + name)
		check(t, err)
	}
	return d
}

// checkAnswer holds an answer of the endpoint against what the document says of it.
func (d *document) checkAnswer(t testing.TB, path string, status int, content string, body []byte) {
	t.Helper()
	name := map[string]string{oauth.TokenPath: "OAuthIssued", oauth.IntrospectPath: "OAuthIntrospection", oauth.RevokePath: "OAuthRevoked"}[path]
	switch {
	case name == "":
		return
	case status != 200 && content == "application/problem+json":
		name = "Problem"
	case content != "application/json":
		t.Errorf("%s: the document knows no answer of type %q", path, content)
	case status != 200:
		name = "OAuthError"
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	check(t, err)
	if err := d.schemas[name].Validate(value); err != nil {
		t.Errorf("%s %d: the answer does not fit the document: %v\n%s", path, status, err, body)
	}
}

// TestTheRoutesAreDocumented: what the server carries for this endpoint is in its OpenAPI document; the conversations show that it is served.
func TestTheRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	routes := newDocument(t).routes
	want := []string{"POST " + oauth.IntrospectPath, "POST " + oauth.RevokePath, "POST " + oauth.TokenPath}
	slices.Sort(routes)
	if !slices.Equal(routes, want) {
		t.Errorf("documented: %v", routes)
	}
}
