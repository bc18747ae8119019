package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/internal/access"
)

var _ access.Evaluator = (*Bundle)(nil)
var _ Catalog = (*access.Index)(nil)

func TestHashIsOverContentWithoutTests(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	b := mustLoad(t, src, shopCatalog())
	sum := sha256.Sum256(Archive(src))
	if want := "sha256:" + hex.EncodeToString(sum[:]); b.Hash() != want {
		t.Errorf("hash %s, want %s", b.Hash(), want)
	}
	src["tests/t.yaml"] = []byte("- {name: x, subject: 'Agent::\"a\"', action: edit, resource: 'File::\"a\"', expect: {outcome: deny}}")
	if got := mustLoad(t, src, shopCatalog()).Hash(); got != b.Hash() {
		t.Errorf("a test changed the hash")
	}
	src["access/empty.cedar"] = []byte("// nothing\n")
	if got := mustLoad(t, src, shopCatalog()).Hash(); got == b.Hash() {
		t.Errorf("a new file did not change the hash")
	}
}

func TestArchiveRoundTrip(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	b := mustLoad(t, src, shopCatalog())
	again, err := LoadArchive(Archive(src), AnyCatalog())
	if err != nil || again.Hash() != b.Hash() {
		t.Fatalf("the archive loads as %v, %v", again, err)
	}
	archive := Archive(src)
	for _, size := range []int{1, 7, 8, 20, len(archive) - 1} {
		if _, err := LoadArchive(archive[:size], AnyCatalog()); err == nil {
			t.Errorf("an archive cut to %d bytes loads", size)
		}
	}
}

// An archive that lies about a length is refused before anything is read by it.
func TestArchiveDamaged(t *testing.T) {
	length := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	for name, archive := range map[string][]byte{
		"a path longer than the archive": append(length(9), "a.cedar"...),
		"a file longer than the archive": slices.Concat(length(1), []byte("a"), length(2), []byte("x")),
		"a length beyond any archive":    append(length(math.MaxUint64), "a"...),
		"a path without its file":        append(length(1), "a"...),
		"a length that is cut off":       slices.Concat(length(1), []byte("a"), length(0)[:7]),
	} {
		if _, err := LoadArchive(archive, AnyCatalog()); !errors.Is(err, errArchive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var faults Faults
	if _, err := LoadArchive(nil, AnyCatalog()); !errors.As(err, &faults) {
		t.Errorf("an empty archive is a bundle without a schema: %v", err)
	}
}

func TestAnyCatalogKnowsEverything(t *testing.T) {
	if c := AnyCatalog(); !c.Has(access.MustRef(`Ghost::"x"`)) || !c.External("Ghost") {
		t.Error("AnyCatalog does not know a ghost")
	}
}

func TestTakesArgument(t *testing.T) {
	b := shop(t)
	for _, c := range []struct {
		action, name string
		want         bool
	}{
		{"refund", "amount", true}, {"refund", "tip", true}, {"refund", "ghost", false}, {"edit", "amount", false},
		{"view", "amount", false}, {"write", "amount", false}, {"ghost", "amount", false},
	} {
		if got := b.TakesArgument(access.Ref{Type: "Action", ID: c.action}, c.name); got != c.want {
			t.Errorf("%s takes %s: %v", c.action, c.name, got)
		}
	}
}

// Cedar may stop reading a batch early.
func TestBatchStopsWhenToldTo(t *testing.T) {
	b := shop(t)
	seen := 0
	for range batch(b.policies).All() {
		if seen++; seen == 2 {
			break
		}
	}
	if seen != 2 {
		t.Errorf("%d policies", seen)
	}
}

func TestI8_InputOfAnotherBundle(t *testing.T) {
	b := shop(t)
	wantProblem(t, b, refund(b, `{"amount":1}`, func(in *access.Input) { in.Bundle = "sha256:00" }), "the input names bundle sha256:00")
}

// A replay: what was decided is decided again from the input as JSON.
func TestI8_DecisionReplaysFromJSON(t *testing.T) {
	b := shop(t)
	for _, in := range []*access.Input{
		refund(b, `{"amount":60,"tip":990,"note":"ü\u2028"}`), ask(b, "book", `Order::"o-1"`, booking("HAT1", "HAT2", 100)), refund(b, `{"amount":"x"}`),
	} {
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var again access.Input
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		want, _ := json.Marshal(b.Decide(in))
		if got, _ := json.Marshal(mustLoad(t, readBundle(t, "bundles/shop.txtar"), shopCatalog()).Decide(&again)); string(got) != string(want) {
			t.Errorf("replayed\n%s\nnot\n%s", got, want)
		}
	}
}

// I7: whatever is missing or errs, nothing is allowed.
func TestI7_FailsClosed(t *testing.T) {
	b := shop(t)
	edit := func(f func(*access.Input)) *access.Input { return refund(b, `{"amount":1}`, f) }
	tests := map[string]struct {
		in   *access.Input
		part string
	}{
		"unknown action":            {edit(func(in *access.Input) { in.Request.Action.ID = "ghost" }), "unknown_action"},
		"a group":                   {edit(func(in *access.Input) { in.Request.Action.ID = "write" }), "unknown_action"},
		"type of subject":           {edit(func(in *access.Input) { in.Request.Subject = access.MustRef(`Team::"bots"`) }), "unknown_type: Action::\"refund\" cannot be asked for by a Team, only by Agent, Human"},
		"no subject":                {edit(func(in *access.Input) { in.Request.Subject = access.Ref{} }), "entity without a type"},
		"type of resource":          {edit(func(in *access.Input) { in.Request.Resource = access.MustRef(`File::"a"`) }), "unknown_type"},
		"type of principal":         {edit(func(in *access.Input) { in.Request.Principal = access.MustRef(`Agent::"other"`) }), "the principal is a Human, not an Agent"},
		"mode":                      {edit(func(in *access.Input) { in.Request.Mode = "lend" }), "mode"},
		"no mode":                   {edit(func(in *access.Input) { in.Request.Mode = "" }), "mode"},
		"attribute of another type": {edit(with(entity(`Order::"o-1"`, `{"owner":"ann","status":5,"customer":"c-1","total":70}`))), `Order::"o-1": attributes.status: want String, got a number`},
		"attribute missing":         {edit(with(entity(`Order::"o-1"`, `{"owner":"ann"}`))), `attributes.customer: want Customer, got nothing`},
		"attribute undeclared":      {edit(with(entity(`Agent::"refund-bot"`, `{"owner":"ann","admin":true}`))), "attributes.admin"},
		"of two faults the first": {edit(func(in *access.Input) {
			with(entity(`Agent::"refund-bot"`, `{"owner":"ann","admin":true}`))(in)
			with(entity(`Order::"o-1"`, `{"owner":"ann"}`))(in)
		}), "attributes.admin"},
		"of two absent the first":   {edit(with(entity(`Agent::"refund-bot"`, `{"owner":"ann"}`, `Team::"z"`, `Team::"y"`))), `Team::"y" is not known`},
		"parent of another type":    {edit(with(entity(`Agent::"refund-bot"`, `{"owner":"ann"}`, `Folder::"vault"`))), "the schema lets no Agent be in a Folder"},
		"an entity twice":           {edit(func(in *access.Input) { in.Facts.Entities = append(in.Facts.Entities, in.Facts.Entities[0]) }), "twice"},
		"args beyond the limit":     {refund(b, `{"amount":1,"note":"`+strings.Repeat("x", MaxArgs)+`"}`), "args: want at most 65536 bytes"},
		"args that are no object":   {refund(b, `[]`), "args: want {"},
		"args cut off":              {refund(b, `{"amount":1`), "args: want JSON"},
		"args and more":             {refund(b, `{"amount":1} {}`), "more after its end"},
		"no UTF-8":                  {refund(b, "{\"amount\":1,\"note\":\"\xff\"}"), "args"},
		"an id of an enum":          {refund(b, `{"amount":1,"region":"cn"}`), "args.region: want one of the ids that the schema lists for Region"},
		"an empty id":               {refund(b, `{"amount":1,"to":""}`), "args.to: want the id of a Customer"},
		"a datetime":                {refund(b, `{"amount":1,"at":"yesterday"}`), "args.at: want datetime in Cedar's syntax"},
		"a hop without missing":     {ask(b, "book", `Order::"o-1"`, `{"flights":[],"payments":[]}`, without(`Customer::"c-1"`)), `derived.tier: Customer::"c-1" is not known`},
		"too many items":            {ask(b, "book", `Order::"o-1"`, `{"flights":[],"payments":[],"bags":[`+strings.Repeat("1,", MaxItems)+`1]}`), "args.bags: want at most 1000 items"},
		"no list":                   {ask(b, "book", `Order::"o-1"`, `{"flights":[],"payments":[],"bags":5}`), "args.bags: want Set<Long>, got a number"},
		"a list with a gap":         {ask(b, "book", `Order::"o-1"`, `{"flights":[],"payments":[],"bags":[1,]}`), "args.bags[1]: want JSON"},
		"a list closed as a record": {ask(b, "book", `Order::"o-1"`, `{"flights":[],"payments":[],"bags":[1}`), "args.bags[1]: want JSON"},
		"a record with a gap":       {refund(b, `{"amount":1,}`), "args: want JSON"},
		"a long key":                {refund(b, `{"`+strings.Repeat("k", 81)+`":1}`), "args." + strings.Repeat("k", 80) + "…: want one of the declared keys"},
		"an item of a list":         {ask(b, "book", `Order::"o-1"`, `{"flights":[],"payments":[{"id":"a","amount":1},{"id":"b","amount":null}]}`), "args.payments[1].amount: want Long, got null"},
		"too many entities": {edit(func(in *access.Input) {
			for i := range MaxEntities {
				in.Facts.Entities = append(in.Facts.Entities, entity(fmt.Sprintf(`Team::"x%d"`, i), ``))
			}
		}), "more than 256 entities"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { wantProblem(t, b, test.in, test.part) })
	}
}

// A task that is declared as always there, and is not.
func TestI7_TaskDeclaredAndAbsent(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	src["access/more.cedar"] = []byte(forbid("age", `principal, action == Action::"refund", resource`, "context has task && context.task.age > 60"))
	b := mustLoad(t, src, shopCatalog())
	wantDecided(t, b, refund(b, `{"amount":1}`, func(in *access.Input) { in.Facts.Task = nil }), "allow large-refunds small-refunds")
	wantDecided(t, b, refund(b, `{"amount":1}`, func(in *access.Input) { in.Facts.Task.Age = 61 }), "deny forbidden age")
	src[schemaFile] = []byte(strings.Replace(string(src[schemaFile]), "task?:", "task:", 1))
	b = mustLoad(t, src, shopCatalog())
	wantProblem(t, b, refund(b, `{"amount":1}`, func(in *access.Input) { in.Facts.Task = nil }), "context.task: the request has no task")
}

func TestContextHoldsWhatIsDeclared(t *testing.T) {
	in := func(b *Bundle) *access.Input {
		return refund(b, `{"amount":1,"at":"2026-01-01"}`, func(in *access.Input) {
			in.Request.Principal, in.Request.TTL, in.Request.Mode = access.MustRef(`Human::"bob"`), 90, access.Delegate
			in.Facts.Counts["refunds_per_hour"], in.Facts.Sums["refunded_per_day"] = 2, 30
			in.Facts.Task = &access.TaskFacts{Type: "support", Age: 7, Heartbeat: 8, Expected: true}
			in.Facts.Labels = access.Labels{Task: []string{"a"}, Chain: []string{"b"}, Identity: []string{"c", "d"}}
			in.Facts.Chain = access.ChainFacts{Depth: 2, Root: "Agent::\"x\"", Actors: []string{"y"}}
			in.Facts.Precedent = access.Precedent{Approvals: 4, Denials: 5, Reversals: 6}
		})
	}
	for _, when := range []string{
		`context has task && context.task == {type: "support", age: 7, heartbeat: 8, expected: true}`,
		`context.labels == {task: ["a"], chain: ["b"], identity: ["d", "c"]}`,
		`context.counts.refunds_per_hour == 2`, `context.sums == {refunded_per_day: 30}`,
		`context.chain == {depth: 2, root: "Agent::\"x\"", actors: ["y"]}`,
		`context.precedent == {approvals: 4, denials: 5, reversals: 6} && context.args.amount == 1`,
		`context.ttl == 90`, `context.mode == "delegate"`, `context.risk == 0`,
		`context.now == datetime("2026-03-01T12:00:00Z")`, `context.args has at && context.args.at < context.now`,
		`context has principal && context.principal has level && context.principal.level == 3`,
		`resource.customer.tier == "gold"`,
	} {
		b := shopWith(t, forbid("it", `principal, action == Action::"refund", resource`, when))
		wantDecided(t, b, in(b), "deny forbidden it")
	}
}

// A request without a principal has none in its context, rather than an empty one.
func TestContextWithoutAPrincipal(t *testing.T) {
	b := shopWith(t, forbid("for-someone", `principal, action == Action::"refund", resource`, "context has principal"))
	wantDecided(t, b, refund(b, `{"amount":1}`), "allow large-refunds small-refunds")
	forBob := func(in *access.Input) { in.Request.Principal = access.MustRef(`Human::"bob"`) }
	wantDecided(t, b, refund(b, `{"amount":1}`, forBob), "deny forbidden for-someone")
}

// The risk is in the context of those actions alone whose schema declares it, whoever reads it.
func TestContextWithoutADeclaredRisk(t *testing.T) {
	b := shopWith(t, forbid("scored", `principal, action, resource`, "context has risk"))
	wantDecided(t, b, ask(b, "edit", `File::"a"`, ""), "allow bots-edit")
	wantDecided(t, b, refund(b, `{"amount":1}`), "deny forbidden scored")
	wantDecided(t, b, ask(b, "book", `Order::"o-1"`, booking("HAT1", "HAT2", 100)), "deny forbidden scored")
}

func TestUntilEndsWithItsDay(t *testing.T) {
	b := shop(t)
	for at, want := range map[string]string{
		"2027-05-31T23:59:59.999Z":  "allow large-refunds small-refunds",
		"2027-06-01T00:00:00Z":      "allow small-refunds",
		"2027-06-30T23:59:59Z":      "allow small-refunds",
		"2027-07-01T00:00:00Z":      "deny not_permitted",
		"2027-06-30T23:59:59-01:00": "deny not_permitted",
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		wantDecided(t, b, refund(b, `{"amount":1}`, func(in *access.Input) { in.Now = now }), want)
	}
}

func TestDischargeDropsExactlyThatForbid(t *testing.T) {
	b := shop(t)
	hash := map[string]string{}
	for _, p := range b.Policies() {
		hash[p.ID] = p.Hash
	}
	many := func(in *access.Input) { in.Facts.Counts["refunds_per_hour"] = 5 } // 20 points, and 15 with the tip
	discharge := func(risk int64, policies ...string) func(*access.Input) {
		return func(in *access.Input) {
			for _, p := range policies {
				in.Discharges = append(in.Discharges, access.Discharge{Policy: hash[p], Risk: risk, Approval: "a-1"})
			}
		}
	}
	both := `{"amount":60,"tip":990}`
	for name, test := range map[string]struct {
		in   *access.Input
		want string
	}{
		"one of one":           {refund(b, `{"amount":60}`, discharge(0, "large-need-owner")), "allow large-need-owner large-refunds small-refunds"},
		"the same risk":        {refund(b, `{"amount":60}`, many, discharge(20, "large-need-owner")), "allow large-need-owner large-refunds small-refunds"},
		"the risk has risen":   {refund(b, `{"amount":60}`, many, discharge(19, "large-need-owner")), "needs_approval approval_required large-need-owner"},
		"one of two":           {refund(b, both, many, discharge(35, "large-need-owner")), "needs_approval approval_required risky-need-two"},
		"two of two":           {refund(b, both, many, discharge(35, "large-need-owner", "risky-need-two")), "allow large-need-owner large-refunds risky-need-two small-refunds"},
		"not a plain forbid":   {refund(b, `{"amount":20,"to":"c-9"}`, discharge(99, "not-to-strangers")), "deny forbidden not-to-strangers"},
		"not a missing permit": {refund(b, `{"amount":60}`, discharge(99, "large-need-owner"), func(in *access.Input) { in.Request.Subject = access.MustRef(`Agent::"other"`) }), "deny not_permitted"},
	} {
		t.Run(name, func(t *testing.T) { wantDecided(t, b, test.in, test.want) })
	}
}

func TestDecidedNamesEverything(t *testing.T) {
	b := shop(t)
	got := b.Decide(refund(b, `{"amount":60,"tip":990}`, func(in *access.Input) { in.Facts.Counts["refunds_per_hour"] = 5 }))
	byID := map[string]Info{}
	for _, p := range b.Policies() {
		byID[p.ID] = p
	}
	ann, payments := access.MustRef(`Human::"ann"`), access.MustRef(`Team::"payments"`)
	want := access.Decided{
		Outcome: access.NeedsApproval, Code: access.CodeApprovalRequired,
		Policies: []access.Policy{
			{ID: "large-need-owner", Hash: byID["large-need-owner"].Hash, Owner: ann, Because: "A refund above 50 is looked at", Control: []string{"PR.AA-05", "ASI03"}},
			{ID: "risky-need-two", Hash: byID["risky-need-two"].Hash, Owner: payments, Because: "The risk is high"},
		},
		Requires: []access.Requirement{
			{Policy: "large-need-owner", Hash: byID["large-need-owner"].Hash, Form: access.ApprovalForm{Kind: access.FormResourceOwner, Count: 1}, Because: "A refund above 50 is looked at"},
			{Policy: "risky-need-two", Hash: byID["risky-need-two"].Hash, Form: access.ApprovalForm{Kind: access.FormTeam, Team: "payments", Count: 2}, Because: "The risk is high"},
		},
		Risk: access.Risk{Score: 35, Factors: []access.Factor{
			{Policy: "risk-many", Points: 20, Because: "many refunds in an hour"}, {Policy: "risk-tip", Points: 15, Because: "the sum with the tip is large"},
		}},
		Bounds: access.Bounds{
			MaxTTL: 300, MaxTTLPolicy: "small-refunds", Until: time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC), UntilPolicy: "large-refunds",
			MaxUses: 1, MaxUsesPolicy: "small-refunds",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Of all matching permits each bound is the least, and of equal ones the first by id is named (I4).
func TestI4_TightestBoundsOfAllPermits(t *testing.T) {
	permit := func(id, ttl, until, uses string) string {
		if uses != "" {
			uses = fmt.Sprintf("@max_uses(%q) ", uses)
		}
		return fmt.Sprintf("@id(%q) @owner(\"Human::\\\"ann\\\"\") @max_ttl(%q) @until(%q) %spermit(principal, action, resource);\n", id, ttl, until, uses)
	}
	day := func(month time.Month) time.Time { return time.Date(2026, month, 2, 0, 0, 0, 0, time.UTC) }
	for name, c := range map[string]struct {
		policies string
		want     access.Bounds
	}{
		"uses that are not counted": {permit("a", "60s", "2026-08-01", ""), access.Bounds{MaxTTL: 60, MaxTTLPolicy: "a", Until: day(8), UntilPolicy: "a"}},
		"equal ones": {permit("a", "60s", "2026-08-01", "2") + permit("b", "60s", "2026-08-01", "2"),
			access.Bounds{MaxTTL: 60, MaxTTLPolicy: "a", Until: day(8), UntilPolicy: "a", MaxUses: 2, MaxUsesPolicy: "a"}},
		"the later is tighter": {permit("a", "60s", "2026-08-01", "3") + permit("b", "30s", "2026-07-01", "2"),
			access.Bounds{MaxTTL: 30, MaxTTLPolicy: "b", Until: day(7), UntilPolicy: "b", MaxUses: 2, MaxUsesPolicy: "b"}},
		"the earlier is tighter": {permit("a", "30s", "2026-07-01", "2") + permit("b", "60s", "2026-08-01", "3"),
			access.Bounds{MaxTTL: 30, MaxTTLPolicy: "a", Until: day(7), UntilPolicy: "a", MaxUses: 2, MaxUsesPolicy: "a"}},
		"the later does not count": {permit("a", "60s", "2026-08-01", "3") + permit("b", "60s", "2026-08-01", ""),
			access.Bounds{MaxTTL: 60, MaxTTLPolicy: "a", Until: day(8), UntilPolicy: "a", MaxUses: 3, MaxUsesPolicy: "a"}},
		"only the later counts": {permit("a", "60s", "2026-08-01", "") + permit("b", "60s", "2026-08-01", "3"),
			access.Bounds{MaxTTL: 60, MaxTTLPolicy: "a", Until: day(8), UntilPolicy: "a", MaxUses: 3, MaxUsesPolicy: "b"}},
	} {
		schema := "entity Agent; entity Thing; entity Human; @uses(\"counted\") action look appliesTo { principal: Agent, resource: Thing, context: {} };"
		b := mustLoad(t, Source{schemaFile: []byte(schema), "access/a.cedar": []byte(c.policies)}, AnyCatalog())
		in := lookAt(b, ``)
		in.Facts.Entities = []access.Entity{entity(`Agent::"a"`, ``), entity(`Thing::"x"`, ``)}
		if diff := cmp.Diff(c.want, b.Decide(in).Bounds); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPoliciesForDisplay(t *testing.T) {
	b := shop(t)
	all := b.Policies()
	if len(all) != 10 {
		t.Fatalf("%d policies", len(all))
	}
	for i, p := range all {
		if i > 0 && all[i-1].ID >= p.ID {
			t.Errorf("%s is not in order", p.ID)
		}
		if p.Hash != hashText(p.Text) || !strings.HasPrefix(p.Text, "@id(") || !strings.HasSuffix(p.Text, ";") {
			t.Errorf("%s: text %q", p.ID, p.Text)
		}
		if p.Risk != strings.HasPrefix(p.File, "risk/") || (p.Effect == "permit") == strings.Contains(p.Text, "forbid(") {
			t.Errorf("%s: %+v", p.ID, p)
		}
	}
	if small := all[8]; small.ID != "small-refunds" || small.File != "access/refunds.cedar" || small.Line != 2 || small.Annotations["max_ttl"] != "5m" {
		t.Errorf("small-refunds is shown as %+v", small)
	}
}

func TestReads(t *testing.T) {
	b := shop(t)
	want := Reads{Args: true, Counts: true, Risk: true}
	if diff := cmp.Diff(want, b.Reads(access.MustRef(`Action::"refund"`))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Reads{Risk: true}, b.Reads(access.MustRef(`Action::"edit"`))); diff != "" {
		t.Error(diff)
	}
	if got := b.Reads(access.MustRef(`Action::"ghost"`)); got != (Reads{}) {
		t.Errorf("an unknown action reads %+v", got)
	}
	b = shopWith(t, forbid("whole", `principal, action == Action::"view", resource`, "context == context || context == {}"))
	if got := b.Reads(access.MustRef(`Action::"view"`)); got != everything() {
		t.Errorf("the context as a whole reads only %+v", got)
	}
}

func TestCounters(t *testing.T) {
	b := shop(t)
	want := []Counter{
		{Name: "refunded_per_day", Window: 24 * time.Hour, Bucket: 24 * time.Minute, Amount: 60},
		{Name: "refunds_per_hour", Window: time.Hour, Bucket: time.Minute, Amount: 1},
	}
	if diff := cmp.Diff(want, b.Counters(&refund(b, `{"amount":60}`).Request)); diff != "" {
		t.Error(diff)
	}
	for _, in := range []*access.Input{
		refund(b, `{"amount":-1}`), refund(b, `{}`), ask(b, "ghost", `Order::"o-1"`, ``), ask(b, "view", `File::"a"`, ``),
	} {
		if got := b.Counters(&in.Request); len(got) > 0 {
			t.Errorf("counts %v", got)
		}
	}
	schema := `entity Agent; entity Human; entity Thing; action look appliesTo { principal: Agent, resource: Thing, context: { args: { n: Long } } };`
	derive := "counters: {looks: {action: look, window: 1h}, spent: {action: look, window: 1h, sum: args.n}}"
	both := mustLoad(t, Source{schemaFile: []byte(schema), deriveFile: []byte(derive), "access/a.cedar": []byte(permitAll)}, AnyCatalog())
	if got := both.Counters(&lookAt(both, `{"n":7}`).Request); len(got) != 2 || got[0].Amount != 1 || got[1].Amount != 7 {
		t.Errorf("one look for 7 counts %+v", got)
	}
	windows := []CounterWindow{{Name: "refunds_per_hour", Window: time.Hour, Bucket: time.Minute}}
	if diff := cmp.Diff(windows, b.CounterWindows(access.MustRef(`Action::"refund"`))); diff != "" {
		t.Error(diff) // the sums are declared and no policy reads them
	}
	b = shopWith(t, forbid("sum", `principal, action == Action::"refund", resource`, "context.sums.refunded_per_day > 5"))
	if got := b.CounterWindows(access.MustRef(`Action::"refund"`)); len(got) != 2 || !got[0].Sum {
		t.Errorf("the windows are %+v", got)
	}
	for _, action := range []string{`Action::"view"`, `Action::"write"`, `Action::"ghost"`} {
		if got := b.CounterWindows(access.MustRef(action)); got != nil {
			t.Errorf("%s reads %v", action, got)
		}
	}
}

func TestCheckEntity(t *testing.T) {
	b := shop(t)
	for _, test := range []struct {
		e    access.Entity
		want string
	}{
		{entity(`Flight::"x"`, `{"status":"available","price":5}`), ""},
		{entity(`Flight::"x"`, `{"status":"available","price":5.5}`), `Flight::"x": attributes.price: want Long, got a fraction or an exponent`},
		{entity(`Flight::"x"`, `{"status":"available"}`), `Flight::"x": attributes.price: want Long, got nothing`},
		{entity(`Ghost::"x"`, `{}`), "the schema has no entity type Ghost"},
		{entity(`File::"x"`, `{"owner":"ann"}`, `Team::"bots"`), "the schema lets no File be in a Team"},
		{entity(`File::"x"`, `{"owner":"ann"}`, `Folder::"public"`), ""},
		{entity(`Order::"x"`, `{"owner":"ann","status":"s","customer":"c","total":1,"labels":["a",5]}`), `attributes.labels[1]: want String, got a number`},
	} {
		err := b.CheckEntity(test.e)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s is refused: %v", test.e.ID, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("the fault is %v, want %s", err, test.want)
		}
	}
	var wrong *ValueError
	err := b.CheckEntity(entity(`Flight::"x"`, `{"status":true,"price":5}`))
	if !errors.As(err, &wrong) || *wrong != (ValueError{"attributes.status", "String", "a boolean"}) {
		t.Errorf("the fault is %#v", err)
	}
}

func TestCheckRequest(t *testing.T) {
	b := shop(t)
	if err := b.CheckRequest(&refund(b, `{"amount":1}`).Request); err != nil {
		t.Error(err)
	}
	for want, in := range map[RequestErrorKind]*access.Input{
		UnknownAction: ask(b, "ghost", `Order::"o-1"`, ``), UnknownType: ask(b, "refund", `File::"a"`, `{"amount":1}`), InvalidArgs: refund(b, `{"amount":"1"}`),
	} {
		var wrong *RequestError
		if err := b.CheckRequest(&in.Request); !errors.As(err, &wrong) || wrong.Kind != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestValuesNeverStandInErrors(t *testing.T) {
	b := shop(t)
	for _, args := range []string{`{"amount":"s3cret"}`, `{"amount":1,"at":"s3cret"}`, `{"amount":1,"region":"s3cret"}`, `{"amount":1,"note":s3cret}`} {
		if err := b.CheckRequest(&refund(b, args).Request); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the fault says %v", err)
		}
	}
}

func TestDeclaresAndParents(t *testing.T) {
	b := shop(t)
	if !b.Declares("Order", "owner") || b.Declares("Order", "ghost") || b.Declares("Ghost", "owner") || b.Declares("Team", "owner") {
		t.Error("Declares is wrong")
	}
	if diff := cmp.Diff([]string{"Folder"}, b.Parents("File")); diff != "" || b.Parents("Order") != nil && len(b.Parents("Order")) > 0 || b.Parents("Ghost") != nil {
		t.Error("Parents is wrong", diff)
	}
}

func TestNeedsNothingForABadRequest(t *testing.T) {
	b := shop(t)
	for _, in := range []*access.Input{refund(b, `{}`), ask(b, "ghost", `Order::"o-1"`, ``)} {
		if got := b.Needs(&in.Request, nil); got != nil {
			t.Errorf("needs %v", got)
		}
	}
}

func TestLimits(t *testing.T) {
	base := readBundle(t, "bundles/shop.txtar")
	for want, edit := range map[string]func(Source){
		"a file has at most 1048576 bytes": func(s Source) { s["access/a.cedar"] = make([]byte, MaxFile+1) },
		"a bundle has at most 16777216 bytes": func(s Source) {
			for i := range 17 {
				s[fmt.Sprintf("access/%d.cedar", i)] = make([]byte, MaxFile)
			}
		},
		"a bundle has at most 1000 files": func(s Source) {
			for i := range MaxFiles {
				s[fmt.Sprintf("access/%d.cedar", i)] = nil
			}
		},
		"access/a.cedar:1:65: brackets stand more than 64 deep": func(s Source) { s["access/a.cedar"] = []byte(strings.Repeat("(", 100000)) },
		"schema.cedarschema:2: brackets stand more than 64 deep": func(s Source) {
			s[schemaFile] = []byte("// <<<< \"\n" + `entity A = { "x<": ` + strings.Repeat("Set<", 100000))
		},
		"this policy has more than 65536 bytes": func(s Source) { s["access/a.cedar"] = []byte(strings.Repeat("x", MaxPolicy+1)) },
		"a bundle needs a schema":               func(s Source) { delete(s, schemaFile) },
		"a bundle has at most 10000 policies": func(s Source) {
			for f := range 10 {
				s[fmt.Sprintf("access/%d.cedar", f)] = []byte(strings.Repeat("forbid(principal,action,resource);", 1001))
			}
		},
		"a bundle has at most 10000 cases": func(s Source) {
			one := "- {name: x, subject: 'Agent::\"a\"', action: edit, resource: 'File::\"a\"', expect: {outcome: deny}}\n"
			s["tests/a.yaml"], s["tests/b.yaml"] = []byte(strings.Repeat(one, 6000)), []byte(strings.Repeat(one, 6000))
		},
		`schema.cedarschema: entity "A" shape: attribute "x": undefined type "Ghost"`: func(s Source) { s[schemaFile] = []byte("entity A = { x: Ghost };") },
	} {
		src := Source{}
		for name, text := range base {
			src[name] = text
		}
		edit(src)
		faults := faultsOf(t, src, shopCatalog())
		if !strings.Contains(faults.Error(), want) {
			t.Errorf("no fault %q in %s", want, clip(faults.Error()))
		}
	}
}

func TestEmptyBundleDeniesEverything(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	for file := range src {
		if kindOf(file) == fileAccess || kindOf(file) == fileRisk {
			delete(src, file)
		}
	}
	b := mustLoad(t, src, shopCatalog())
	wantDecided(t, b, refund(b, `{"amount":1}`), "deny not_permitted")
}

func TestLongProblemIsCut(t *testing.T) {
	b := shopWith(t, permitAll+forbid("f", `principal is Agent, action, resource`, `principal.owner has level`))
	long := strings.Repeat("ü", 900)
	in := refund(b, `{"amount":1}`, with(entity(`Agent::"refund-bot"`, `{"owner":"`+long+`"}`, `Team::"bots"`)))
	if got := b.Decide(in).Problem; len(got) > 1010 || !strings.HasPrefix(got, `Human::"üü`) || !strings.HasSuffix(got, "ü…") {
		t.Errorf("the problem is %d bytes: %s", len(got), got)
	}
	if whole := strings.Repeat("x", 1000); clipProblem(whole) != whole || clipProblem(whole+"x") != whole+"…" {
		t.Error("a problem of 1000 bytes is told whole, a longer one is cut there")
	}
}

func TestNeedsStopsAtTheLimit(t *testing.T) {
	b := shop(t)
	have := map[access.Ref]*access.Entity{}
	in := refund(b, `{"amount":1}`)  // wants its subject and its resource first
	for i := range MaxEntities + 3 { // one entity beyond the limit is enough to refuse by
		if got := b.Needs(&in.Request, have); len(got) != max(min(MaxEntities+1-i, 2), 0) {
			t.Errorf("with %d loaded it needs %v", i, got)
		}
		have[access.Ref{Type: "Team", ID: itoa(i)}] = nil
	}
}

// A decision may depend on exactly as many entities as the limit says, and is then sure to see all of them.
func TestAsManyEntitiesAsThereMayBe(t *testing.T) {
	b := shop(t)
	fill := func(n int) func(*access.Input) {
		return func(in *access.Input) {
			for i := len(in.Facts.Entities); i < n; i++ {
				in.Facts.Entities = append(in.Facts.Entities, entity(fmt.Sprintf(`Team::"x%d"`, i), ``))
			}
		}
	}
	wantDecided(t, b, refund(b, `{"amount":1}`, fill(MaxEntities)), "allow large-refunds small-refunds")
	wantProblem(t, b, refund(b, `{"amount":1}`, fill(MaxEntities+1)), "more than 256 entities")
	// An agent that asks for itself stands below 256 teams, and the highest of them was not loaded.
	schema := "entity Team in [Team]; entity Human; entity Agent in [Team]; action look appliesTo { principal: Agent, resource: Agent, context: {} };"
	b = mustLoad(t, Source{schemaFile: []byte(schema), "access/a.cedar": []byte(permitAll)}, AnyCatalog())
	in := lookAt(b, ``)
	in.Request.Resource = in.Request.Subject
	in.Facts.Entities = []access.Entity{entity(`Agent::"a"`, ``, `Team::"1"`)}
	for i := 1; i < MaxEntities; i++ {
		in.Facts.Entities = append(in.Facts.Entities, entity(fmt.Sprintf("Team::%q", itoa(i)), ``, fmt.Sprintf("Team::%q", itoa(i+1))))
	}
	wantProblem(t, b, in, "more than 256 entities")
	last := &in.Facts.Entities[MaxEntities-1]
	last.Parents = nil
	wantDecided(t, b, in, "allow all")
}

// What is as large as it may be is read; one byte more is not.
func TestValuesAsLargeAsTheyMayBe(t *testing.T) {
	b := shop(t)
	fit := func(before string, size int, after string) string {
		return before + strings.Repeat("x", size-len(before)-len(after)) + after
	}
	const allowed = "allow large-refunds small-refunds"
	wantDecided(t, b, refund(b, fit(`{"amount":1,"note":"`, MaxArgs, `"}`)), allowed)
	wantProblem(t, b, refund(b, fit(`{"amount":1,"note":"`, MaxArgs+1, `"}`)), "at most 65536 bytes, got 65537")
	order := func(size int) func(*access.Input) {
		return with(entity(`Order::"o-1"`, fit(`{"owner":"ann","customer":"c-1","total":70,"status":"`, size, `"}`)))
	}
	wantDecided(t, b, refund(b, `{"amount":1}`, order(MaxAttributes)), allowed)
	wantProblem(t, b, refund(b, `{"amount":1}`, order(MaxAttributes+1)), "at most 262144 bytes, got 262145")
	to := func(size int) string { return `{"amount":1,"to":"` + strings.Repeat("c", size) + `"}` }
	wantDecided(t, b, refund(b, to(access.MaxIDLength)), "deny forbidden not-to-strangers")
	wantProblem(t, b, refund(b, to(access.MaxIDLength+1)), "args.to: want the id of a Customer")
	if whole := strings.Repeat("k", 80); clip(whole) != whole || clip(whole+"k") != whole+"…" {
		t.Error("a name of 80 bytes is told whole, a longer one is cut there")
	}
	bags := func(n int) string {
		return strings.TrimSuffix(booking("HAT1", "HAT2", 100), "}") + `,"bags":[` + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]}"
	}
	wantDecided(t, b, ask(b, "book", `Order::"o-1"`, bags(MaxItems)), "allow book")
	wantProblem(t, b, ask(b, "book", `Order::"o-1"`, bags(MaxItems+1)), "args.bags: want at most 1000 items")
}

// Of a record that Writ fills, a schema may declare the part that policies need.
func TestPartOfAStandardRecord(t *testing.T) {
	schema := `entity Agent; entity Thing; action look appliesTo { principal: Agent, resource: Thing, context: {
		chain: { depth: Long }, labels: { task: Set<String> }, precedent?: { denials: Long }, task: { "type"?: String } } };`
	b := mustLoad(t, Source{schemaFile: []byte(schema), "access/a.cedar": []byte(permitAll + forbid("f", "principal, action, resource",
		`context.chain == {depth: 1} && context.labels == {task: ["x"]} && context.task has type && context.task.type == "t"`))}, AnyCatalog())
	in := lookAt(b, ``)
	in.Facts = access.Facts{
		Entities: []access.Entity{entity(`Agent::"a"`, ``), entity(`Thing::"x"`, ``)}, Task: &access.TaskFacts{Type: "t", Age: 5},
		Chain: access.ChainFacts{Depth: 1, Root: "r"}, Labels: access.Labels{Task: []string{"x"}, Chain: []string{"y"}},
	}
	wantDecided(t, b, in, "deny forbidden f")
}
