package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/internal/api"
)

const documentURL = "https://writ.example/openapi.json"

// document is the OpenAPI document, ready to validate. Objects are closed in it, so that fields that it does not
// describe are found.
type document struct {
	root     map[string]any
	compiler *jsonschema.Compiler
	compiled map[string]*jsonschema.Schema
}

func newDocument(t testing.TB) *document {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	check(t, err)
	var parsed any
	check(t, yaml.Unmarshal(text, &parsed))
	encoded, err := json.Marshal(parsed)
	check(t, err)
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	check(t, err)
	object, ok := root.(map[string]any)
	if !ok {
		t.Fatal("the document is no object")
	}
	schemas := at(t, object, "components", "schemas")
	closeObjects(schemas)
	d := &document{root: object, compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	check(t, d.compiler.AddResource(documentURL, root))
	return d
}

func at(t testing.TB, from map[string]any, path ...string) map[string]any {
	t.Helper()
	for _, step := range path {
		next, ok := from[step].(map[string]any)
		if !ok {
			t.Fatalf("the document has no %v", path)
		}
		from = next
	}
	return from
}

func closeObjects(value any) {
	switch v := value.(type) {
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
		for _, one := range v {
			closeObjects(one)
		}
	case []any:
		for _, one := range v {
			closeObjects(one)
		}
	}
}

// schema compiles the schema at a JSON pointer.
func (d *document) schema(t testing.TB, pointer string) *jsonschema.Schema {
	t.Helper()
	if known := d.compiled[pointer]; known != nil {
		return known
	}
	schema, err := d.compiler.Compile(documentURL + "#" + pointer)
	check(t, err)
	d.compiled[pointer] = schema
	return schema
}

func escape(step string) string {
	return strings.ReplaceAll(strings.ReplaceAll(step, "~", "~0"), "/", "~1")
}

// resolve follows a $ref of the document and returns the object with its pointer.
func (d *document) resolve(t testing.TB, value map[string]any, pointer string) (map[string]any, string) {
	t.Helper()
	ref, ok := value["$ref"].(string)
	if !ok {
		return value, pointer
	}
	pointer = strings.TrimPrefix(ref, "#")
	return at(t, d.root, strings.Split(strings.TrimPrefix(pointer, "/"), "/")...), pointer
}

// pathOf is the path of the document that serves a URL path.
func (d *document) pathOf(t testing.TB, urlPath string) string {
	t.Helper()
	best := ""
	for path := range at(t, d.root, "paths") {
		pattern := regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+")
		if strings.HasPrefix(path, "/log/tile/") {
			pattern = strings.Replace(pattern, "[^/]+", ".+", 1)
		}
		if regexp.MustCompile("^"+pattern+"$").MatchString(urlPath) && len(path) > len(best) {
			best = path
		}
	}
	return best
}

// checkAnswer holds an answer against what the document says of it. It returns the operation.
func (d *document) checkAnswer(t testing.TB, method, urlPath string, status int, content string, body []byte) string {
	t.Helper()
	path := d.pathOf(t, urlPath)
	operation := map[string]any{"responses": map[string]any{"default": map[string]any{"$ref": "#/components/responses/Problem"}}}
	name := ""
	if path != "" {
		if op, ok := at(t, d.root, "paths", path)[strings.ToLower(method)].(map[string]any); ok {
			operation = op
			name, _ = op["operationId"].(string)
		}
	}
	responses, ok := operation["responses"].(map[string]any)
	if !ok {
		t.Fatalf("%s %s: no responses", method, path)
	}
	key := strconv.Itoa(status)
	if responses[key] == nil {
		key = "default"
		if status < 400 {
			t.Errorf("%s %s: the document knows no answer %d", method, path, status)
			return name
		}
	}
	described, ok := responses[key].(map[string]any)
	if !ok {
		t.Fatalf("%s %s %s: no description", method, path, key)
	}
	described, pointer := d.resolve(t, described, "/paths/"+escape(path)+"/"+strings.ToLower(method)+"/responses/"+key)
	media, _, _ := strings.Cut(content, ";")
	contents := at(t, described, "content")
	entry, ok := contents[media].(map[string]any)
	if !ok {
		t.Errorf("%s %s %d: the document knows no answer of type %q", method, path, status, content)
		return name
	}
	if entry["schema"] == nil || !strings.Contains(media, "json") {
		return name
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Errorf("%s %s %d: not JSON: %v\n%s", method, path, status, err, body)
		return name
	}
	if err := d.schema(t, pointer+"/content/"+escape(media)+"/schema").Validate(value); err != nil {
		t.Errorf("%s %s %d: the answer does not fit the document: %v\n%s", method, path, status, err, body)
	}
	return name
}

// operations are all of the document: method and path.
func (d *document) operations(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	paths := at(t, d.root, "paths")
	for path := range paths {
		for method, op := range at(t, paths, path) {
			if operation, ok := op.(map[string]any); ok && method != "parameters" {
				id, _ := operation["operationId"].(string)
				out[strings.ToUpper(method)+" "+path] = id
			}
		}
	}
	return out
}

// ofGuests are the documented operations of another endpoint, which this server only carries: internal/app checks that it is given just
// these, and internal/oauth holds their answers against the document.
func ofGuests() map[string]bool {
	return map[string]bool{"POST /oauth/token": true, "POST /oauth/introspect": true, "POST /oauth/revoke": true}
}

func TestEveryRouteIsDocumentedAndEveryDocumentedRouteIsServed(t *testing.T) {
	t.Parallel()
	documented := newDocument(t).operations(t)
	served := ofGuests()
	for _, route := range api.Routes() {
		route = strings.ReplaceAll(route, "...}", "}")
		served[route] = true
		if _, ok := documented[route]; !ok {
			t.Errorf("%s is served but not documented", route)
		}
	}
	seen := map[string]string{}
	for operation, id := range documented {
		if !served[operation] {
			t.Errorf("%s is documented but not served", operation)
		}
		if other := seen[id]; other != "" || id == "" {
			t.Errorf("%s: operationId %q is empty or that of %s", operation, id, other)
		}
		seen[id] = operation
	}
}

func TestEveryCodeIsDocumentedAndServed(t *testing.T) {
	t.Parallel()
	listed, ok := at(t, newDocument(t).root, "components", "schemas", "ErrorCode")["enum"].([]any)
	if !ok {
		t.Fatal("no codes")
	}
	var documented []string
	for _, code := range listed {
		text, _ := code.(string)
		documented = append(documented, text)
	}
	slices.Sort(documented)
	served := api.Codes()
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("documented %v\nserved     %v", documented, served)
	}
}

func TestExamplesOfTheDocumentFitTheirSchemas(t *testing.T) {
	t.Parallel()
	d := newDocument(t)
	found := 0
	var walk func(value any, pointer string)
	walk = func(value any, pointer string) {
		switch v := value.(type) {
		case map[string]any:
			if example, ok := v["example"]; ok && v["schema"] != nil {
				found++
				if err := d.schema(t, pointer+"/schema").Validate(example); err != nil {
					t.Errorf("%s: %v", pointer, err)
				}
			}
			for key, one := range v {
				walk(one, pointer+"/"+escape(key))
			}
		case []any:
			for i, one := range v {
				walk(one, pointer+"/"+strconv.Itoa(i))
			}
		}
	}
	walk(d.root, "")
	if found < 15 {
		t.Errorf("only %d examples", found)
	}
}

func TestTheDocumentIsServedAsItIs(t *testing.T) {
	t.Parallel()
	handler := api.New(api.Options{})
	text, err := os.ReadFile("openapi.yaml")
	check(t, err)
	for path, want := range map[string]string{"/openapi.yaml": string(text), "/openapi.json": `"openapi":"3.1.0"`} {
		out := httptest.NewRecorder()
		handler.ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if out.Code != http.StatusOK || !strings.Contains(out.Body.String(), want) {
			t.Errorf("%s: %d", path, out.Code)
		}
	}
}
