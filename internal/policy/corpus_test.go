package policy

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	cedarschema "github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
	exptypes "github.com/cedar-policy/cedar-go/x/exp/types"
)

const cedarVersion = "v1.9.0"

func cedarModule(t *testing.T, format string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", format, "github.com/cedar-policy/cedar-go").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// The validator, the AST and constant evaluation are in x/exp, which promises nothing: a new version is a decision.
func TestCedarVersionIsPinned(t *testing.T) {
	if got := cedarModule(t, "{{.Version}}"); got != cedarVersion {
		t.Errorf("cedar-go is %s, not %s: read its changes, run this package's tests, and pin it here", got, cedarVersion)
	}
}

// archive reads the files of one of cedar-go's corpus archives.
func archive(t *testing.T, name string) map[string][]byte {
	t.Helper()
	file, err := os.Open(filepath.Join(cedarModule(t, "{{.Dir}}"), name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	reader := tar.NewReader(unzipped)
	for {
		head, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(head.Name, "/._") || head.Typeflag != tar.TypeReg {
			continue
		}
		if files[head.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}

type corpusEntity cedar.EntityUID

func (e *corpusEntity) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	return json.Unmarshal(text, (*cedar.EntityUID)(e))
}

type corpusCase struct {
	Schema, Policies, Entities string
	Requests                   []struct {
		Description                 string
		Principal, Action, Resource corpusEntity
		Context                     cedar.Record
		Decision                    cedar.Decision
		Reason, Errors              []cedar.PolicyID
	}
}

type corpusValidation struct {
	PolicyValidation struct {
		PerPolicy map[string]struct{ Strict bool }
	}
}

// Cedar's own corpus, made by the Rust implementation, run the way this package uses cedar-go: policies cut at their
// semicolons, the strict validator for each by itself, permits and forbids evaluated apart.
func TestCedarCorpus(t *testing.T) {
	files, validations := archive(t, "corpus-tests.tar.gz"), archive(t, "corpus-tests-validation.tar.gz")
	cases, requests := 0, 0
	for _, name := range sortedKeys(files) {
		if !strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".entities.json") {
			continue
		}
		cases++
		var c corpusCase
		if err := json.Unmarshal(files[name], &c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		requests += len(c.Requests)
		base := strings.TrimSuffix(filepath.Base(name), ".json")
		runCorpusCase(t, base, &c, files, validations["corpus-tests-validation/"+base+".validation.json"])
	}
	if cases < 7000 || requests < 50000 {
		t.Errorf("the corpus has only %d cases with %d requests", cases, requests)
	}
}

func runCorpusCase(t *testing.T, name string, c *corpusCase, files map[string][]byte, validation []byte) {
	var parsed cedarschema.Schema
	if err := parsed.UnmarshalCedar(files[c.Schema]); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	resolved, err := parsed.Resolve()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	pieces, _, _, err := split(string(files[c.Policies]))
	if err != nil || !sameAsWhole(string(files[c.Policies]), pieces) {
		t.Errorf("%s: the policies are not cut as Cedar reads them: %v", name, err)
		return
	}
	var want corpusValidation
	if err := json.Unmarshal(validation, &want); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var permits, forbids batch
	for i, piece := range pieces {
		var p cedar.Policy
		if err := p.UnmarshalCedar([]byte(piece.text)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		id := "policy" + itoa(i)
		if got := validate.New(resolved, validate.WithStrict()).Policy("", (*ast.Policy)(p.AST())) == nil; got != want.PolicyValidation.PerPolicy[id].Strict {
			t.Errorf("%s: %s is valid: %v, want %v", name, id, got, !got)
		}
		usageOf((*ast.Policy)(p.AST())) // must not panic
		one := &policy{cedar: &p, notes: notes{id: id}}
		if p.Effect() == cedar.Permit {
			permits = append(permits, one)
		} else {
			forbids = append(forbids, one)
		}
	}
	var entities exptypes.EntityMap
	if err := entities.UnmarshalJSONWithSchema(files[c.Entities], resolved); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, r := range c.Requests {
		request := cedar.Request{
			Principal: cedar.EntityUID(r.Principal), Action: cedar.EntityUID(r.Action), Resource: cedar.EntityUID(r.Resource), Context: r.Context,
		}
		_, forbidden := cedar.Authorize(forbids, types.EntityMap(entities), request)
		_, permitted := cedar.Authorize(permits, types.EntityMap(entities), request)
		reasons := idsOf(forbidden.Reasons)
		decision := cedar.Decision(len(reasons) == 0 && len(permitted.Reasons) > 0)
		if len(reasons) == 0 {
			reasons = idsOf(permitted.Reasons)
		}
		var failed []cedar.PolicyID
		for _, e := range append(forbidden.Errors, permitted.Errors...) {
			failed = append(failed, e.PolicyID)
		}
		slices.Sort(failed)
		slices.Sort(r.Reason)
		slices.Sort(r.Errors)
		if decision != r.Decision || !slices.Equal(reasons, r.Reason) || !slices.Equal(failed, r.Errors) {
			t.Errorf("%s, %s: %s %v %v, want %s %v %v", name, r.Description, decision, reasons, failed, r.Decision, r.Reason, r.Errors)
		}
	}
}

func idsOf(reasons []cedar.DiagnosticReason) []cedar.PolicyID {
	var out []cedar.PolicyID
	for _, reason := range reasons {
		out = append(out, reason.PolicyID)
	}
	slices.Sort(out)
	return out
}
