package policy

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
)

// fakeCatalog knows some entities outright and whole types as external.
type fakeCatalog struct {
	has      map[access.Ref]bool
	external map[string]bool
}

func (c fakeCatalog) Has(ref access.Ref) bool  { return c.has[ref] }
func (c fakeCatalog) External(typ string) bool { return c.external[typ] }

func shopCatalog() fakeCatalog {
	c := fakeCatalog{has: map[access.Ref]bool{}, external: map[string]bool{"Order": true, "Flight": true}}
	for _, text := range []string{
		`Human::"ann"`, `Human::"bob"`, `Team::"payments"`, `Team::"bots"`, `Agent::"refund-bot"`, `Agent::"other"`,
		`Folder::"public"`, `Folder::"vault"`,
	} {
		c.has[access.MustRef(text)] = true
	}
	return c
}

func readBundle(t testing.TB, name string) Source {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return parts(string(data))
}

// parts cuts a text at lines such as -- path --, as the txtar format does.
func parts(text string) Source {
	src := Source{}
	name := ""
	for line := range strings.Lines(text) {
		if head, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(head, " --") {
			name = strings.TrimSuffix(head, " --")
			src[name] = []byte{}
		} else if name != "" {
			src[name] = append(src[name], line...)
		}
	}
	return src
}

func mustLoad(t testing.TB, src Source, catalog Catalog) *Bundle {
	t.Helper()
	b, err := Load(src, catalog)
	if err != nil {
		t.Fatalf("Load:\n%v", err)
	}
	return b
}

func shop(t testing.TB) *Bundle {
	t.Helper()
	return mustLoad(t, readBundle(t, "bundles/shop.txtar"), shopCatalog())
}

// shopWith is the shop with more policies in access/more.cedar.
func shopWith(t testing.TB, policies string) *Bundle {
	t.Helper()
	src := readBundle(t, "bundles/shop.txtar")
	src["access/more.cedar"] = []byte(policies)
	return mustLoad(t, src, shopCatalog())
}

func faultsOf(t testing.TB, src Source, catalog Catalog) Faults {
	t.Helper()
	_, err := Load(src, catalog)
	var faults Faults
	if err != nil && !errors.As(err, &faults) {
		t.Fatalf("Load's error is no Faults: %v", err)
	}
	return faults
}

func wantFault(t testing.TB, src Source, catalog Catalog, part string) {
	t.Helper()
	faults := faultsOf(t, src, catalog)
	if !slices.ContainsFunc(faults, func(f Fault) bool { return strings.Contains(f.String(), part) }) {
		t.Errorf("no fault holds %q; there are:\n%v", part, faults)
	}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func entity(id, attributes string, parents ...string) access.Entity {
	e := access.Entity{ID: access.MustRef(id)}
	if attributes != "" {
		e.Attributes = []byte(attributes)
	}
	for _, parent := range parents {
		e.Parents = append(e.Parents, access.MustRef(parent))
	}
	return e
}

func shopEntities() []access.Entity {
	return []access.Entity{
		entity(`Agent::"other"`, `{"owner":"ann"}`),
		entity(`Agent::"refund-bot"`, `{"owner":"ann"}`, `Team::"bots"`),
		entity(`Customer::"c-1"`, `{"tier":"gold"}`),
		entity(`File::"a"`, `{"owner":"ann"}`, `Folder::"sub"`),
		entity(`File::"b"`, `{"owner":"ann"}`, `Folder::"safe"`),
		entity(`Flight::"HAT1/2024-05-20"`, `{"status":"available","price":70}`),
		entity(`Flight::"HAT2/2024-05-21"`, `{"status":"available","price":30}`),
		entity(`Flight::"HAT3/2024-05-21"`, `{"status":"cancelled","price":30}`),
		entity(`Folder::"public"`, `{"owner":"ann"}`),
		entity(`Folder::"safe"`, `{"owner":"ann"}`, `Folder::"vault"`),
		entity(`Folder::"sub"`, `{"owner":"ann"}`, `Folder::"public"`),
		entity(`Folder::"vault"`, `{"owner":"ann"}`),
		entity(`Human::"ann"`, `{}`),
		entity(`Human::"bob"`, `{"level":3}`, `Team::"payments"`),
		entity(`Order::"o-1"`, `{"owner":"ann","status":"delivered","customer":"c-1","total":70}`),
		entity(`Team::"bots"`, ``),
		entity(`Team::"payments"`, ``),
	}
}

// ask is a request of refund-bot with the shop's facts, which edits change.
func ask(b *Bundle, action, resource, args string, edits ...func(*access.Input)) *access.Input {
	in := &access.Input{
		Request: access.Request{
			Subject: access.MustRef(`Agent::"refund-bot"`), Action: access.Ref{Type: "Action", ID: action},
			Resource: access.MustRef(resource), Mode: access.Use, Task: "t-1",
		},
		Facts: access.Facts{
			Entities: shopEntities(),
			Counts:   map[string]int64{"refunds_per_hour": 0}, Sums: map[string]int64{"refunded_per_day": 0},
			Task: &access.TaskFacts{Type: "support", Age: 30},
		},
		Now: noon, Bundle: b.Hash(),
	}
	if args != "" {
		in.Request.Args = []byte(args)
	}
	for _, edit := range edits {
		edit(in)
	}
	return in
}

func refund(b *Bundle, args string, edits ...func(*access.Input)) *access.Input {
	return ask(b, "refund", `Order::"o-1"`, args, edits...)
}

func without(id string) func(*access.Input) {
	return func(in *access.Input) {
		in.Facts.Entities = slices.DeleteFunc(in.Facts.Entities, func(e access.Entity) bool { return e.ID == access.MustRef(id) })
	}
}

func with(e access.Entity) func(*access.Input) {
	return func(in *access.Input) {
		without(e.ID.String())(in)
		in.Facts.Entities = append(in.Facts.Entities, e)
	}
}

// summary is what most tests compare: outcome, code and the policies.
func summary(d access.Decided) string {
	out := string(d.Outcome)
	if d.Code != "" {
		out += " " + string(d.Code)
	}
	for _, p := range d.Policies {
		out += " " + p.ID
	}
	return out
}

func wantDecided(t testing.TB, b *Bundle, in *access.Input, want string) access.Decided {
	t.Helper()
	got := b.Decide(in)
	if summary(got) != want {
		t.Errorf("got %q, want %q (problem: %s)", summary(got), want, got.Problem)
	}
	return got
}

func wantProblem(t testing.TB, b *Bundle, in *access.Input, part string) {
	t.Helper()
	got := wantDecided(t, b, in, "deny policy_error")
	if !strings.Contains(got.Problem, part) {
		t.Errorf("the problem is %q, want it to hold %q", got.Problem, part)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func itoa(n int) string { return strconv.Itoa(n) }
