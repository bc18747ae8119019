package catalog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/catalog"
)

const people = `
identities:
  - id: Human::"ada"
    match: [{issuer: https://id.example.com, subject: ada}]
  - id: Human::"bob"
  - id: Agent::"refund-bot"
    owner: Human::"ada"
    principal: Human::"bob"
    purpose: |
      Refunds small orders
      without a human.
    review_by: 2027-06-30
    match:
      - issuer: http://localhost:8080
        claims: {azp: refund-bot, env: {in: ["2", "3"]}, /k8s.io/ns: {prefix: shop-}}
    attributes: {zone: eu, level: 3, on_call: true, tags: [b, a], note: "<5 & ok", since: 2026-01-01, empty: ""}
  - id: Workload::"orders"
    owner: Human::"bob"
    purpose: keeps the orders
    review_by: "2027-01-31"
teams:
  - name: staff
    owner: Human::"bob"
    members: [Human::"bob", Human::"ada"]
  - name: all
    owner: Human::"bob"
    members: [Team::"staff", Agent::"refund-bot"]
`

const things = `
resources:
  - id: PgTable::"billing.invoices"
    owner: Human::"ada"
    sensitivity: high
    environment: prod
    labels: [pii, money]
    parents: [Database::"billing", Order::"external"]
    target: postgres://billing
    attributes: {rows: -12}
  - {id: Database::"billing", owner: Human::"ada"}
collections:
  - {type: Order, owner: Human::"bob", source: orders, sensitivity: low, environment: prod, labels: [customer], target: shop}
task_types:
  - name: support
    owner: Human::"bob"
    openers: [Team::"all", Agent::"refund-bot"]
    actions: [Action::"refund", Action::"read"]
    labels: [customer]
    max_duration: 1h30m
    heartbeat: 1m
    max_open: 20
fact_sources:
  - {name: orders, identity: Workload::"orders", owner: Human::"bob", provides: [Order, Customer], freshness: 5m}
enforcement_points:
  - {identity: Workload::"orders", owner: Human::"bob", subjects: [Team::"all"], targets: [shop, postgres://billing]}
`

func sample() access.Catalog {
	ada, bob := access.MustRef(`Human::"ada"`), access.MustRef(`Human::"bob"`)
	bot, orders := access.MustRef(`Agent::"refund-bot"`), access.MustRef(`Workload::"orders"`)
	return access.Catalog{
		Identities: []access.Identity{
			{
				ID: bot, Owner: ada, Principal: bob, Purpose: "Refunds small orders\nwithout a human.", ReviewBy: "2027-06-30",
				Match:      []access.Match{{Issuer: "http://localhost:8080", Claims: map[string]access.Claim{"azp": access.Exactly("refund-bot"), "env": {In: []string{"2", "3"}}, "/k8s.io/ns": {Prefix: "shop-"}}}},
				Attributes: json.RawMessage(`{"empty":"","level":3,"note":"<5 & ok","on_call":true,"since":"2026-01-01","tags":["b","a"],"zone":"eu"}`),
			},
			{ID: ada, Match: []access.Match{{Issuer: "https://id.example.com", Subject: access.Exactly("ada")}}},
			{ID: bob},
			{ID: orders, Owner: bob, Purpose: "keeps the orders", ReviewBy: "2027-01-31"},
		},
		Teams: []access.Team{
			{Name: "all", Owner: bob, Members: []access.Ref{bot, access.MustRef(`Team::"staff"`)}},
			{Name: "staff", Owner: bob, Members: []access.Ref{ada, bob}},
		},
		Resources: []access.Resource{
			{ID: access.MustRef(`Database::"billing"`), Owner: ada},
			{
				ID: access.MustRef(`PgTable::"billing.invoices"`), Owner: ada, Sensitivity: "high", Environment: "prod", Labels: []string{"money", "pii"},
				Parents: []access.Ref{access.MustRef(`Database::"billing"`), access.MustRef(`Order::"external"`)},
				Target:  "postgres://billing", Attributes: json.RawMessage(`{"rows":-12}`),
			},
		},
		Collections: []access.Collection{
			{Type: "Order", Owner: bob, Source: "orders", Sensitivity: "low", Environment: "prod", Labels: []string{"customer"}, Target: "shop"},
		},
		TaskTypes: []access.TaskType{{
			Name: "support", Owner: bob, Openers: []access.Ref{bot, access.MustRef(`Team::"all"`)},
			Actions: []access.Ref{access.MustRef(`Action::"read"`), access.MustRef(`Action::"refund"`)},
			Labels:  []string{"customer"}, MaxDuration: 5400, Heartbeat: 60, MaxOpen: 20,
		}},
		FactSources: []access.FactSource{
			{Name: "orders", Identity: orders, Owner: bob, Provides: []string{"Customer", "Order"}, Freshness: 300},
		},
		EnforcementPoints: []access.EnforcementPoint{
			{Identity: orders, Owner: bob, Subjects: []access.Ref{access.MustRef(`Team::"all"`)}, Targets: []string{"postgres://billing", "shop"}},
		},
	}
}

func mustParse(t testing.TB, files map[string][]byte) access.Catalog {
	t.Helper()
	c, err := catalog.Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse(t *testing.T) {
	want := sample()
	for name, files := range map[string]map[string][]byte{
		"one file":            {"a.yaml": []byte(people + things)},
		"two files":           {"a.yaml": []byte(people), "b.yaml": []byte(things)},
		"in the other order":  {"a.yaml": []byte(things), "b.yaml": []byte(people)},
		"with a leading mark": {"a.yaml": []byte("\ufeff---" + people), "b.yaml": []byte("%YAML 1.1\n---" + things + "...\n")},
		"with DOS line ends":  {"a.yaml": []byte(strings.ReplaceAll(people+things, "\n", "\r\n"))},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want, mustParse(t, files)); diff != "" {
				t.Errorf("catalog (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("no files", func(t *testing.T) {
		if diff := cmp.Diff(access.Catalog{}, mustParse(t, nil)); diff != "" {
			t.Error(diff)
		}
	})
}

// What is printed of a fault depends on what is known of its place.
func TestFaultString(t *testing.T) {
	for _, c := range []struct {
		fault catalog.Fault
		want  string
	}{
		{catalog.Fault{Message: "m"}, "m"},
		{catalog.Fault{File: "f", Message: "m"}, "f: m"},
		{catalog.Fault{File: "f", Line: 2, Message: "m"}, "f:2: m"},
		{catalog.Fault{File: "f", Line: 2, Column: 3, Message: "m"}, "f:2:3: m"},
	} {
		if got := c.fault.String(); got != c.want {
			t.Errorf("%#v: got %q, want %q", c.fault, got, c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	human := func(id string) string { return "\n  - id: Human::\"" + id + `"` }
	with := func(rest string) string { return "identities:" + human("ada") + "\n" + rest }
	list := func(n int, entry func(i int) string) string {
		var out []string
		for i := range n {
			out = append(out, entry(i))
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	number := func(prefix string) func(int) string {
		return func(i int) string { return fmt.Sprintf("%s%d", prefix, i) }
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	table := func(fields string) string {
		return with("resources:\n  - {id: 'T::\"t\"', owner: 'Human::\"ada\"', " + fields + "}")
	}
	team := func(fields string) string { return with("teams:\n  - {owner: 'Human::\"ada\"', " + fields + "}") }
	matches := func(n int) string {
		return "identities:" + human("ada") + "\n    match: " + list(n, func(i int) string { return fmt.Sprintf("{issuer: https://id.example, subject: s%d}", i) })
	}
	claims := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("c%d: x", i))
		}
		return "identities:" + human("ada") + "\n    match: [{issuer: https://id.example, claims: {" + strings.Join(out, ", ") + "}}]"
	}
	claimSets := func(n int) string {
		out := "identities:"
		for i := range n {
			out += human(fmt.Sprint(i)) + fmt.Sprintf("\n    match: [{issuer: https://id.example, claims: {azp: v%d, c%d: x}}]", i, i)
		}
		return out
	}
	choices := func(n int) string {
		out := "identities:"
		for i := range n {
			out += human(fmt.Sprint(i)) + fmt.Sprintf("\n    match: [{issuer: https://id.example, subject: {in: [s%d, t%d]}}]", i, i)
		}
		return out
	}
	nested := func(n int) string { // the list's own depth is 5
		return table("attributes: {a: " + strings.Repeat("[", n-4) + strings.Repeat("]", n-4) + "}")
	}
	for name, c := range map[string]struct{ within, beyond, want string }{
		"file":             {with("#" + long(catalog.MaxFileSize-len(with(""))-1)), with("#" + long(catalog.MaxFileSize-len(with("")))), "a.yaml: the file has 1048577 bytes"},
		"depth":            {nested(catalog.MaxDepth), nested(catalog.MaxDepth + 1), "nested deeper than 32"},
		"id":               {"identities:" + human(long(access.MaxIDLength)), "identities:" + human(long(access.MaxIDLength+1)), "an id has 1 to 2048 bytes"},
		"type of an id":    {strings.Replace(table(""), "T::", long(256)+"::", 1), strings.Replace(table(""), "T::", long(257)+"::", 1), "the type has 257 bytes"},
		"name":             {team("name: " + long(128)), team("name: " + long(129)), "name has 129 bytes"},
		"members":          {with("") + "  - {id: 'Agent::\"x\"', owner: 'Human::\"ada\"', purpose: " + long(2048) + ", review_by: 2027-01-01}", with("") + "  - {id: 'Agent::\"x\"', owner: 'Human::\"ada\"', purpose: " + long(2049) + ", review_by: 2027-01-01}", "purpose has 2049 bytes"},
		"label":            {table("labels: [" + long(128) + "]"), table("labels: [" + long(129) + "]"), "labels has 129 bytes"},
		"labels":           {table("labels: " + list(64, number("l"))), table("labels: " + list(65, number("l"))), "labels has 65 entries"},
		"target":           {table("target: " + long(2048)), table("target: " + long(2049)), "target has 2049 bytes"},
		"attribute text":   {table("attributes: {a: " + long(4096) + "}"), table("attributes: {a: " + long(4097) + "}"), "the text has 4097 bytes"},
		"attribute name":   {table("attributes: {" + long(128) + ": 1}"), table("attributes: {" + long(129) + ": 1}"), "an attribute name has 129 bytes"},
		"attributes":       {table("attributes: {a: " + list(8, func(int) string { return long(4090) }) + "}"), table("attributes: {a: " + list(8, func(int) string { return long(4096) }) + "}"), "bytes as JSON: shorten it to at most 32768"},
		"matches":          {matches(16), matches(17), "match has 17 entries"},
		"claims":           {claims(16), claims(17), "claims is a mapping of 1 to 16"},
		"sets of claims":   {claimSets(catalog.MaxClaimSets), claimSets(catalog.MaxClaimSets + 1), "more than 32 different sets of claim names"},
		"choices":          {choices(catalog.MaxLooseMatches), choices(catalog.MaxLooseMatches + 1), "more than 1000 matches of one issuer with prefix or in"},
		"suggestions":      {with(""), with("teams: []\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: 1"), "the keys of a catalog are"},
		"quoting of texts": {table(""), table("sensitivity: " + strings.Repeat("Ä", 60)), `"` + strings.Repeat("Ä", 40) + `…" is not valid`},
	} {
		t.Run(name, func(t *testing.T) {
			mustParse(t, map[string][]byte{"a.yaml": []byte(c.within)})
			_, err := catalog.Parse(map[string][]byte{"a.yaml": []byte(c.beyond)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestLimitsOfTheWhole(t *testing.T) {
	many := map[string][]byte{}
	for i := range catalog.MaxFiles + 1 {
		many[fmt.Sprint(i)] = nil
	}
	large := map[string][]byte{}
	for i := range 17 {
		large[fmt.Sprint(i)] = make([]byte, catalog.MaxFileSize)
	}
	objects := map[string][]byte{"z.yaml": []byte("teams:\n  - {name: more, owner: Human::\"gone\"}")}
	for i := range catalog.MaxObjects / 1000 {
		text := "identities:\n"
		for j := range 1000 {
			text += fmt.Sprintf("  - {id: Human::\"%d-%d\"}\n", i, j)
		}
		objects[fmt.Sprint(i)] = []byte(text)
	}
	faulty := "teams:\n" + strings.Repeat("  - {}\n", catalog.MaxFaults)
	for name, c := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"files":   {many, "10001 files: join them into at most 10000"},
		"total":   {large, "the files have 17825792 bytes together: declare at most 16777216"},
		"objects": {objects, "z.yaml:2:5: more than 100000 objects: tell resources through a fact source and a collection instead"},
		"faults":  {map[string][]byte{"a.yaml": []byte(faulty)}, "and 1000 more faults: mend these first"},
		"UTF-8":   {map[string][]byte{"a.yaml": []byte("teams:\n  - ä\xff")}, "a.yaml:2: the file is not UTF-8: save it as UTF-8"},
		"UTF-16":  {map[string][]byte{"a.yaml": []byte("\xff\xfet\x00")}, "a.yaml:1: the file is not UTF-8: save it as UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := catalog.Parse(c.files)
			var faults catalog.Faults
			if !errors.As(err, &faults) || faults[len(faults)-1].String() != c.want {
				t.Errorf("got %.200v, want it to end with %q", err, c.want)
			}
			if len(faults) > catalog.MaxFaults+1 {
				t.Errorf("%d faults", len(faults))
			}
		})
	}
	delete(objects, "z.yaml")
	if got := len(mustParse(t, objects).Identities); got != catalog.MaxObjects {
		t.Errorf("%d objects", got)
	}
}

func TestObjects(t *testing.T) {
	got := catalog.Objects(sample())
	var names []string
	for _, o := range got {
		names = append(names, o.Kind+" "+o.Name)
	}
	want := []string{
		`identity Agent::"refund-bot"`, `identity Human::"ada"`, `identity Human::"bob"`, `identity Workload::"orders"`,
		`team all`, `team staff`,
		`resource Database::"billing"`, `resource PgTable::"billing.invoices"`,
		`collection Order`, `task_type support`, `fact_source orders`, `enforcement_point Workload::"orders"`,
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if want := `{"id":"PgTable::\"billing.invoices\"","owner":"Human::\"ada\"","sensitivity":"high","environment":"prod","labels":["money","pii"],` +
		`"parents":["Database::\"billing\"","Order::\"external\""],"target":"postgres://billing","attributes":{"rows":-12}}`; string(got[7].Doc) != want {
		t.Errorf("got  %s\nwant %s", got[7].Doc, want)
	}
	slices.Reverse(got)
	back, err := catalog.FromObjects(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), back); diff != "" {
		t.Error(diff)
	}
}

func TestFromObjectsRefuses(t *testing.T) {
	team := catalog.Object{Kind: catalog.KindTeam, Name: "a", Doc: json.RawMessage(`{"name":"a","owner":"Human::\"ada\""}`)}
	change := func(f func(*catalog.Object)) []catalog.Object { o := team; f(&o); return []catalog.Object{o} }
	for name, c := range map[string]struct {
		list []catalog.Object
		want string
	}{
		"two of a name":         {[]catalog.Object{team, team}, "there are two of this name"},
		"an unknown kind":       {change(func(o *catalog.Object) { o.Kind = "robot" }), "the kind is unknown"},
		"another's document":    {change(func(o *catalog.Object) { o.Name = "b" }), `the document is that of "a"`},
		"a document of nobody":  {change(func(o *catalog.Object) { o.Name, o.Doc = "", json.RawMessage(`{}`) }), `the document is that of ""`},
		"an unknown field":      {change(func(o *catalog.Object) { o.Doc = json.RawMessage(`{"name":"a","x":1}`) }), `unknown field "x"`},
		"a reference amiss":     {change(func(o *catalog.Object) { o.Doc = json.RawMessage(`{"name":"a","owner":"ada"}`) }), "is not an entity"},
		"no document":           {change(func(o *catalog.Object) { o.Doc = nil }), "cannot be read"},
		"more than a document":  {change(func(o *catalog.Object) { o.Doc = append(slices.Clone(o.Doc), " {}"...) }), "something follows"},
		"junk after a document": {change(func(o *catalog.Object) { o.Doc = append(slices.Clone(o.Doc), " ?"...) }), "something follows"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := catalog.FromObjects(c.list)
			if !errors.Is(err, catalog.ErrObject) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if diff := cmp.Diff(access.Catalog{}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestObjectsPanicsOnAttributesThatAreNotJSON(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	catalog.Objects(access.Catalog{Identities: []access.Identity{{Attributes: json.RawMessage("{")}}})
}

func TestDiff(t *testing.T) {
	before, after := sample(), sample()
	after.Identities = slices.Delete(after.Identities, 2, 3) // bob
	after.Identities[0].Purpose = "Refunds everything"
	after.Identities[0].Owner = access.MustRef(`Human::"bob"`)
	after.Identities[0].Principal = access.Ref{}
	after.Resources[0].Attributes = json.RawMessage(`{"a":1}`)
	after.TaskTypes[0].Name = "triage"
	after.FactSources[0].Freshness = 0
	after.EnforcementPoints = nil
	var got []string
	for _, c := range catalog.Diff(before, after) {
		got = append(got, c.String())
	}
	want := []string{
		`~ identity Agent::"refund-bot": owner "Human::\"ada\"" → "Human::\"bob\"", ` +
			`principal "Human::\"bob\"" → (none), purpose "Refunds small orders\nwithout a human." → "Refunds everything"`,
		`- identity Human::"bob"`,
		`~ resource Database::"billing": attributes (none) → {"a":1}`,
		`- task type support`,
		`+ task type triage`,
		`~ fact source orders: freshness 300 → (none)`,
		`- enforcement point Workload::"orders"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := catalog.Diff(before, sample()); got != nil {
		t.Errorf("equal catalogs differ: %v", got)
	}
	if got := (catalog.Change{Kind: catalog.KindTeam, Name: "a"}).String(); got != "? team a" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(people), []byte(things))
	f.Add([]byte(base), []byte("teams:\n  - {name: a, owner: *b}"))
	f.Add([]byte("a: &b [*b]"), []byte("- 1\n# c\n\n -"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		files := map[string][]byte{"a.yaml": a, "b.yaml": b}
		c, err := catalog.Parse(maps.Clone(files))
		again, errAgain := catalog.Parse(files)
		if fmt.Sprint(err) != fmt.Sprint(errAgain) || !cmp.Equal(c, again) {
			t.Fatalf("not the same twice: %v, %v", err, errAgain)
		}
		if err != nil {
			checkFaults(t, err)
			return
		}
		back, err := catalog.FromObjects(catalog.Objects(c))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

func checkFaults(t *testing.T, err error) {
	t.Helper()
	var faults catalog.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("not Faults: %#v", err)
	}
	for _, fault := range faults {
		if fault.Message == "" || len(fault.Message) > 8000 || bytes.ContainsAny([]byte(fault.Message), "\n\x00") {
			t.Fatalf("unreadable: %q", fault.Message)
		}
	}
}

// Everything but a human must name a human of the catalog who answers for it.
func TestI9_EverythingHasAnOwner(t *testing.T) {
	const agent = `{id: Agent::"x", purpose: p, review_by: 2027-06-30`
	for _, c := range []struct{ section, object string }{
		{"identities", agent},
		{"identities", strings.Replace(agent, "Agent", "Workload", 1)},
		{"teams", `{name: x`},
		{"resources", `{id: Table::"x"`},
		{"collections", `{type: Customer, source: orders`},
		{"task_types", `{name: x, openers: [Agent::"bot"], max_duration: 1h`},
		{"fact_sources", `{name: x, identity: Workload::"orders", provides: [Thing]`},
		{"enforcement_points", `{identity: Workload::"orders", subjects: [Agent::"bot"]`},
	} {
		for owner, want := range map[string]string{
			`, owner: Human::"ada"}`:    "",
			`}`:                         "owner is missing",
			`, owner: Human::"nobody"}`: `owner names Human::"nobody", which no file declares`,
			`, owner: Agent::"bot"}`:    `owner names Agent::"bot": name a human`,
			`, owner: ~}`:               "owner is empty",
		} {
			_, err := catalog.Parse(map[string][]byte{"base.yaml": []byte(base), "a.yaml": []byte(c.section + ":\n  - " + c.object + owner)})
			if got := fmt.Sprint(err); want == "" && err != nil || want != "" && !strings.Contains(got, want) {
				t.Errorf("%s %s%s: got %v, want %q", c.section, c.object, owner, got, want)
			}
		}
	}
}

func TestAChangeShowsWhatItWasAndWhatItBecomes(t *testing.T) {
	long := strings.Repeat("x", 200)
	for want, c := range map[string]catalog.Change{
		`~ team a: owner "o" → "p"`: {Old: json.RawMessage(`{"owner":"o"}`), New: json.RawMessage(`{"owner":"p"}`), Fields: []string{"owner"}},
		`~ team a: owner (none) → "` + long[:79] + `…`: {
			Old: json.RawMessage(`{}`), New: json.RawMessage(`{"owner":"` + long + `"}`), Fields: []string{"owner"},
		},
		`~ team a: owner`: {Old: json.RawMessage(`?`), New: json.RawMessage(`{}`), Fields: []string{"owner"}},
	} {
		c.Kind, c.Name, c.Op = catalog.KindTeam, "a", catalog.Changed
		if got := c.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The matches that the design note shows are read as they stand there, and are told apart.
func TestDocumentedMatchesAreRead(t *testing.T) {
	text, err := os.ReadFile("../../docs/design/identity.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```yaml\n")
	block, _, closed := strings.Cut(block, "```")
	c := mustParse(t, map[string][]byte{"a.yaml": []byte(block + "  - id: Human::\"ada\"\n")})
	if !closed || len(c.Identities) != 5 {
		t.Fatalf("%d identities", len(c.Identities))
	}
	x := access.NewIndex(c)
	for _, token := range []struct {
		issuer, subject string
		claims          map[string]any
		want            string
	}{
		{"https://kubernetes.example", "system:serviceaccount:shop:bot", map[string]any{}, `Agent::"shop-bot"`},
		{"https://kubernetes.example", "system:serviceaccount:shop-jobs:night", map[string]any{"kubernetes.io": map[string]any{"namespace": "shop-jobs"}}, `Workload::"shop-jobs"`},
		{"https://kubernetes.example", "system:serviceaccount:shop-jobs:night", map[string]any{"kubernetes.io": map[string]any{"namespace": "other"}}, ""},
		{"https://token.actions.githubusercontent.com", "repo:acme/shop", map[string]any{"repository": "acme/shop", "ref": "refs/tags/v1.2", "environment": "staging"}, `Workload::"release"`},
		{"https://token.actions.githubusercontent.com", "repo:acme/shop", map[string]any{"repository": "acme/shop", "ref": "refs/heads/main", "environment": "staging"}, ""},
		{"https://token.actions.githubusercontent.com", "repo:acme/shop-fork", map[string]any{"repository": "acme/shop-fork", "ref": "refs/tags/v1.2", "environment": "staging"}, ""},
		{"https://gitlab.example", "project_path:acme/till", map[string]any{"project_path": "acme/till", "ref_protected": "true"}, `Workload::"pipeline"`},
		{"https://gitlab.example", "project_path:acme/till", map[string]any{"project_path": "acme/till", "ref_protected": true}, ""},
	} {
		got, ok := x.Identify(token.issuer, token.subject, token.claims)
		if ok != (token.want != "") || ok && got.ID.String() != token.want {
			t.Errorf("%s of %s is %v, %v", token.subject, token.issuer, got, ok)
		}
	}
}
