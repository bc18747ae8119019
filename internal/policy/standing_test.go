package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
)

func TestStandingFile(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"":                       0,
		"# nothing yet\n":        0,
		"owner_grace: 0s\n":      0,
		"owner_grace: 72h\n":     72 * time.Hour,
		"owner_grace: '1h30m'\n": 90 * time.Minute,
		"{owner_grace: 720h}":    30 * 24 * time.Hour,
	} {
		src := readBundle(t, "bundles/shop.txtar")
		src["standing.yaml"] = []byte(text)
		b := mustLoad(t, src, shopCatalog())
		if b.OwnerGrace() != want {
			t.Errorf("%q: %s, want %s", text, b.OwnerGrace(), want)
		}
		if b.Hash() == shop(t).Hash() {
			t.Errorf("%q: the file is not part of the hash", text)
		}
		again, err := LoadArchive(Archive(src), shopCatalog())
		if err != nil || again.OwnerGrace() != want {
			t.Errorf("%q: from its archive it is %v, %v", text, again, err)
		}
	}
	if got := shop(t).OwnerGrace(); got != 0 {
		t.Errorf("without the file the grace is %s", got)
	}
}

func TestStandingFileFaults(t *testing.T) {
	for text, want := range map[string]string{
		"owner_grace: 72\n":                       "standing.yaml:1:14: owner_grace is a duration such as 72h",
		"owner_grace:\n":                          "standing.yaml:1:13: owner_grace is a duration such as 72h",
		"\nowner_grace: [1h]\n":                   "standing.yaml:2:14: owner_grace is a duration such as 72h",
		"owner_grace: -1h\n":                      "standing.yaml:1:14: owner_grace is 0s to 720h, in whole seconds",
		"owner_grace: 720h1s\n":                   "standing.yaml:1:14: owner_grace is 0s to 720h, in whole seconds",
		"owner_grace: 1500ms\n":                   "standing.yaml:1:14: owner_grace is 0s to 720h, in whole seconds",
		"  owner-grace: 1h\n":                     "standing.yaml:1:3: unknown key owner-grace: want owner_grace",
		"owner_grace: 1h\nowner_grace: 2h\n":      "standing.yaml:2:1: standing.yaml: owner_grace stands here twice",
		"owner_grace: &a 1h\nother: *a\n":         "standing.yaml:2:8: standing.yaml: aliases are not read here",
		"- owner_grace\n":                         "standing.yaml:1:1: standing.yaml: want keys and values",
		"owner_grace: 1h\n---\nowner_grace: 2h\n": "standing.yaml:2:1: one YAML document is read, this is a second",
		"owner_grace: 1h: 2h\n":                   "standing.yaml: mapping values are not allowed",
	} {
		src := readBundle(t, "bundles/shop.txtar")
		src["standing.yaml"] = []byte(text)
		wantFault(t, src, shopCatalog(), want)
	}
	src := readBundle(t, "bundles/shop.txtar")
	src["standing.yml"] = []byte("owner_grace: 1h\n")
	wantFault(t, src, shopCatalog(), "standing.yml: not part of a bundle")
}

const reviewed = `
-- schema.cedarschema --
entity Team;
entity Human in [Team];
entity Agent in [Team] = { owner: Human, review_by: datetime };
entity Folder = { owner: Human };
action view appliesTo { principal: [Agent, Human], resource: [Folder], context: { now: datetime } };
-- access/view.cedar --
@id("bots-view")
@owner("Human::\"ann\"")
@max_ttl("5m")
@until("2027-06-30")
permit(principal is Agent, action == Action::"view", resource);

@id("looked-at-again")
@owner("Human::\"ann\"")
@because("Nobody has looked at this agent again in time.")
forbid(principal is Agent, action == Action::"view", resource)
when { context.now > principal.review_by };
-- tests/reviewed.yaml --
- name: on the day itself there is still time
  subject: Agent::"refund-bot"
  action: view
  resource: Folder::"public"
  now: 2026-06-30T23:59:59.999Z
  expect: {outcome: allow}
- name: when the day is over, it may no more
  subject: Agent::"refund-bot"
  action: view
  resource: Folder::"public"
  now: 2026-07-01T00:00:00Z
  expect: {outcome: deny, code: forbidden, policies: [looked-at-again]}
- name: without a date nobody knows
  subject: Agent::"other"
  action: view
  resource: Folder::"public"
  expect: {outcome: deny, code: policy_error}
`

func TestPoliciesReadTheDateOfTheNextReview(t *testing.T) {
	b := mustLoad(t, parts(reviewed), shopCatalog())
	results := b.RunCases(shopIndex())
	if len(results) != 3 {
		t.Fatalf("%d cases ran", len(results))
	}
	for _, r := range results {
		if !r.Pass {
			t.Errorf("%s: %s", r.Name, r.Diff)
		}
	}
	for _, wrong := range []string{"String", "Long"} {
		src := parts(strings.Replace(reviewed, "review_by: datetime", "review_by: "+wrong, 1))
		wantFault(t, src, shopCatalog(), "entity Agent: attribute review_by is filled by Writ as datetime: declare it so, not as "+wrong)
	}
	// A human has none: there the name is the bundle's own.
	src := parts(strings.Replace(reviewed, "entity Human in [Team];", "entity Human in [Team] = { \"review_by\"?: String };", 1))
	e, _ := mustLoad(t, src, shopCatalog()).Describe(access.NewIndex(access.Catalog{Identities: []access.Identity{
		{ID: access.MustRef(`Human::"ann"`), ReviewBy: "2026-06-30"},
	}}), access.MustRef(`Human::"ann"`), access.Active)
	if len(e.Attributes) != 0 {
		t.Errorf("a human is described with %s", e.Attributes)
	}
}
