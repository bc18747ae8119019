package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/internal/access"
)

// CaseResult is what became of one case of tests/*.yaml.
type CaseResult struct {
	Name string
	File string
	Line int
	Pass bool
	Diff string // what was expected and what came, in words; empty for a pass
}

// testCase is one case, as it is written.
type testCase struct {
	place      place
	Name       string            `yaml:"name"`
	Subject    access.Ref        `yaml:"subject"`
	Principal  access.Ref        `yaml:"principal"`
	Action     string            `yaml:"action"`
	Resource   access.Ref        `yaml:"resource"`
	Args       yaml.Node         `yaml:"args"`
	TTL        string            `yaml:"ttl"`
	Mode       access.Mode       `yaml:"mode"`
	Task       *caseTask         `yaml:"task"`
	Entities   []caseEntity      `yaml:"entities"`
	Labels     caseLabels        `yaml:"labels"`
	Counts     map[string]int64  `yaml:"counts"`
	Sums       map[string]int64  `yaml:"sums"`
	Chain      caseChain         `yaml:"chain"`
	Precedent  casePrecedent     `yaml:"precedent"`
	Discharges []caseDischarge   `yaml:"discharges"`
	Now        time.Time         `yaml:"now"`
	Expect     caseExpect        `yaml:"expect"`
	request    access.Request    // read from the above
	over       []access.Entity   // Entities, read
	task       *access.TaskFacts // Task, read
	maxTTL     *access.Seconds   // Expect.MaxTTL, read
}

type caseTask struct {
	Type      string `yaml:"type"`
	Age       string `yaml:"age"`
	Heartbeat string `yaml:"heartbeat"`
	Expected  *bool  `yaml:"expected"`
}

type caseEntity struct {
	ID         access.Ref   `yaml:"id"`
	Parents    []access.Ref `yaml:"parents"`
	Attributes yaml.Node    `yaml:"attributes"`
}

type caseLabels struct {
	Task     []string `yaml:"task"`
	Chain    []string `yaml:"chain"`
	Identity []string `yaml:"identity"`
}

type caseChain struct {
	Depth  int64    `yaml:"depth"`
	Root   string   `yaml:"root"`
	Actors []string `yaml:"actors"`
}

type casePrecedent struct {
	Approvals int64 `yaml:"approvals"`
	Denials   int64 `yaml:"denials"`
	Reversals int64 `yaml:"reversals"`
}

type caseDischarge struct {
	Policy string `yaml:"policy"` // its id
	Risk   int64  `yaml:"risk"`
}

type caseExpect struct {
	Outcome  access.Outcome `yaml:"outcome"`
	Code     access.Code    `yaml:"code"`
	Policies []string       `yaml:"policies"`
	Requires []string       `yaml:"requires"`
	Risk     *int64         `yaml:"risk"`
	MaxTTL   string         `yaml:"max_ttl"`
}

// MaxCases is how many cases a bundle may hold.
const MaxCases = 10000

// defaultNow is when a case happens that does not say: fixed, so that a case gives the same answer for ever.
func defaultNow() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

func (b *Bundle) loadCases(src Source, faults *faultList) {
	for _, file := range slices.Sorted(maps.Keys(src)) {
		if kindOf(file) == fileTests {
			b.cases = append(b.cases, parseCases(file, src[file], faults)...)
		}
	}
	if len(b.cases) > MaxCases {
		faults.add(place{file: "."}, "a bundle has at most %d cases, this one %d", MaxCases, len(b.cases))
	}
}

func parseCases(file string, text []byte, faults *faultList) []*testCase {
	root := parseYAML(file, text, faults)
	if root == nil {
		return nil
	}
	if root.Kind != yaml.SequenceNode {
		faults.add(placeOf(file, root), "want a list of cases: - name: …")
		return nil
	}
	var out []*testCase
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		yamlFaults(file, err, faults)
		return nil
	}
	for i, c := range out {
		here := placeOf(file, root.Content[i])
		if c == nil {
			faults.add(here, "a case is empty")
			return nil
		}
		c.place = here
		if err := c.read(); err != nil {
			faults.add(here, "case %q: %v", clip(c.Name), err)
		}
	}
	return out
}

var (
	yamlLine     = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)
)

// yamlFaults reports each fault that the YAML decoder found, in words that name no Go type.
func yamlFaults(file string, err error, faults *faultList) {
	messages := []string{err.Error()}
	if several := (*yaml.TypeError)(nil); errors.As(err, &several) {
		messages = several.Errors
	}
	for _, message := range messages {
		here := place{file: file}
		if m := yamlLine.FindStringSubmatch(message); m != nil {
			_, _ = fmt.Sscan(m[1], &here.line)
			message = m[2]
		}
		faults.add(here, "%s", unknownField.ReplaceAllString(message, "unknown key $1"))
	}
}

// read turns what is written into a request and facts.
func (c *testCase) read() error {
	if c.Name == "" || c.Subject.IsZero() || c.Action == "" || c.Resource.IsZero() {
		return fmt.Errorf("a case needs name, subject, action and resource")
	}
	switch c.Expect.Outcome {
	case access.Allow, access.NeedsApproval, access.Deny:
	default:
		return fmt.Errorf("expect.outcome: want allow, needs_approval or deny")
	}
	if c.Now.IsZero() {
		c.Now = defaultNow()
	}
	c.request = access.Request{Subject: c.Subject, Principal: c.Principal, Resource: c.Resource, Mode: c.Mode}
	if c.Mode == "" {
		c.request.Mode = access.Use
	}
	var err error
	if c.request.TTL, err = seconds("ttl", c.TTL); err != nil {
		return err
	}
	if c.request.Args, err = optionalJSON(&c.Args); err != nil {
		return fmt.Errorf("args: %w", err)
	}
	if c.Expect.MaxTTL != "" {
		ttl, err := seconds("expect.max_ttl", c.Expect.MaxTTL)
		if err != nil {
			return err
		}
		c.maxTTL = &ttl
	}
	if err := c.readTask(); err != nil {
		return err
	}
	return c.readEntities()
}

func (c *testCase) readTask() error {
	if c.Task == nil {
		return nil
	}
	c.request.Task = "case"
	c.task = &access.TaskFacts{Type: c.Task.Type}
	var err error
	if c.task.Age, err = seconds("task.age", c.Task.Age); err != nil {
		return err
	}
	c.task.Heartbeat, err = seconds("task.heartbeat", c.Task.Heartbeat)
	return err
}

func (c *testCase) readEntities() error {
	seen := map[access.Ref]bool{}
	for i := range c.Entities {
		e := &c.Entities[i]
		attributes, err := optionalJSON(&e.Attributes)
		switch {
		case err != nil:
			return fmt.Errorf("entities: %s: %w", e.ID, err)
		case e.ID.IsZero():
			return fmt.Errorf("entities: item %d has no id", i+1)
		case seen[e.ID]:
			return fmt.Errorf("entities: %s stands there twice", e.ID)
		}
		seen[e.ID] = true
		c.over = append(c.over, access.Entity{ID: e.ID, Parents: e.Parents, Attributes: attributes})
	}
	return nil
}

func optionalJSON(n *yaml.Node) ([]byte, error) {
	if n.IsZero() {
		return nil, nil
	}
	return jsonOf(n)
}

func seconds(what, text string) (access.Seconds, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d%time.Second != 0 {
		return 0, fmt.Errorf("%s: %q is no duration in whole seconds, such as 5m", what, clip(text))
	}
	return access.Seconds(d / time.Second), nil
}

// RunCases runs the cases of tests/*.yaml against a catalog, in the order of files and lines.
func (b *Bundle) RunCases(x *access.Index) []CaseResult {
	out := make([]CaseResult, len(b.cases))
	for i, c := range b.cases {
		diff := b.runCase(x, c)
		out[i] = CaseResult{Name: c.Name, File: c.place.file, Line: c.place.line, Pass: diff == "", Diff: diff}
	}
	return out
}

func (b *Bundle) runCase(x *access.Index, c *testCase) string {
	a, err := b.schema.actionNamed(c.Action)
	if err != nil {
		return err.Error()
	}
	in := &access.Input{Request: c.request, Now: c.Now, Bundle: b.hash, Facts: access.Facts{
		Labels:    access.Labels(c.Labels),
		Chain:     access.ChainFacts(c.Chain),
		Precedent: access.Precedent(c.Precedent),
		Task:      c.taskFacts(x, a.ref),
		Counts:    zeros(a.context.get("counts"), c.Counts),
		Sums:      zeros(a.context.get("sums"), c.Sums),
	}}
	in.Request.Action = a.ref
	if err := b.CheckRequest(&in.Request); err != nil {
		return err.Error()
	}
	for _, discharge := range c.Discharges {
		p := b.byID[discharge.Policy]
		if p == nil {
			return fmt.Sprintf("discharges: there is no policy %s", discharge.Policy)
		}
		in.Discharges = append(in.Discharges, access.Discharge{Policy: p.hash, Risk: discharge.Risk, Approval: "case"})
	}
	if in.Facts.Entities, err = b.caseEntities(x, c, &in.Request); err != nil {
		return err.Error()
	}
	return c.compare(b.Decide(in))
}

// taskFacts fills in whether the task's type names the action, if the case does not say.
func (c *testCase) taskFacts(x *access.Index, action access.Ref) *access.TaskFacts {
	if c.task == nil {
		return nil
	}
	task := *c.task
	if c.Task.Expected != nil {
		task.Expected = *c.Task.Expected
	} else if declared, ok := x.TaskType(task.Type); ok {
		task.Expected = slices.Contains(declared.Actions, action)
	}
	return &task
}

// zeros fills the declared counts that a case leaves out.
func zeros(declared *shape, given map[string]int64) map[string]int64 {
	if declared == nil {
		return given
	}
	out := map[string]int64{}
	for _, f := range declared.fields {
		out[f.name] = 0
	}
	maps.Copy(out, given)
	return out
}

// caseEntities gathers what the decision needs, from the catalog with the case's entities laid over it.
func (b *Bundle) caseEntities(x *access.Index, c *testCase, r *access.Request) ([]access.Entity, error) {
	have := map[access.Ref]*access.Entity{}
	for wanted := b.Needs(r, have); len(wanted) > 0; wanted = b.Needs(r, have) {
		for _, ref := range wanted {
			e, err := b.caseEntity(x, c, ref)
			if err != nil {
				return nil, err
			}
			have[ref] = e
		}
	}
	var out []access.Entity
	for _, e := range have {
		if e != nil {
			out = append(out, *e)
		}
	}
	slices.SortFunc(out, func(a, b access.Entity) int { return a.ID.Compare(b.ID) })
	return out, nil
}

func (b *Bundle) caseEntity(x *access.Index, c *testCase, ref access.Ref) (*access.Entity, error) {
	i := slices.IndexFunc(c.over, func(e access.Entity) bool { return e.ID == ref })
	base, known := b.Describe(x, ref, access.Active)
	switch {
	case i < 0 && (!known || !x.Has(ref)):
		return nil, nil
	case i < 0:
		return &base, nil
	case !known:
		return &c.over[i], nil
	}
	e, err := Overlay(base, c.over[i])
	return &e, err
}

// compare says in words what differs from what the case expects.
func (c *testCase) compare(got access.Decided) string {
	var diff []string
	differ := func(what string, want, came any) {
		if w, g := fmt.Sprint(want), fmt.Sprint(came); w != g {
			diff = append(diff, fmt.Sprintf("%s: want %s, got %s", what, w, g))
		}
	}
	want := &c.Expect
	differ("outcome", want.Outcome, got.Outcome)
	if want.Code != "" {
		differ("code", want.Code, got.Code)
	}
	if want.Policies != nil {
		differ("policies", slices.Sorted(slices.Values(want.Policies)), policyIDs(got.Policies))
	}
	if want.Requires != nil {
		differ("requires", slices.Sorted(slices.Values(want.Requires)), forms(got.Requires))
	}
	if want.Risk != nil {
		differ("risk", *want.Risk, got.Risk.Score)
	}
	if c.maxTTL != nil {
		differ("max_ttl", c.maxTTL.Duration(), got.Bounds.MaxTTL.Duration())
	}
	if len(diff) > 0 && got.Problem != "" {
		diff = append(diff, "problem: "+got.Problem)
	}
	if len(diff) > 0 && len(got.Policies) > 0 && want.Policies == nil {
		diff = append(diff, "determined by "+strings.Join(policyIDs(got.Policies), ", "))
	}
	return strings.Join(diff, "; ")
}

func policyIDs(policies []access.Policy) []string {
	out := make([]string, len(policies))
	for i := range policies {
		out[i] = policies[i].ID
	}
	return out
}

// forms are the distinct approvals that are asked for, as @approval writes them.
func forms(requires []access.Requirement) []string {
	var out []string
	for i := range requires {
		out = append(out, requires[i].Form.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}
