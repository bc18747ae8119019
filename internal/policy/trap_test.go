package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/access"
)

// Each trap is a way in which plain Cedar, used plainly, lets through what a policy means to stop.

const permitAll = `
@id("all") @owner("Human::\"ann\"") @max_ttl("1h") @until("2027-06-30")
permit(principal, action, resource);
`

func forbid(id, scope, when string) string {
	return fmt.Sprintf("@id(%q) @owner(\"Human::\\\"ann\\\"\") @because(\"because\")\nforbid(%s) when { %s };\n", id, scope, when)
}

// Cedar: an action group that is not in the entity map makes `action in` not match, silently.
func TestTrap_AbsentActionGroup(t *testing.T) {
	b := shopWith(t, permitAll)
	wantDecided(t, b, ask(b, "edit", `File::"b"`, ""), "deny forbidden vault-closed")
	wantDecided(t, b, refund(b, `{"amount":1}`), "allow all large-refunds small-refunds")
}

// Cedar: a folder that is not in the entity map cuts the chain to the folders above it.
func TestTrap_AbsentFolder(t *testing.T) {
	b := shopWith(t, permitAll)
	wantProblem(t, b, ask(b, "edit", `File::"b"`, "", without(`Folder::"safe"`)), `Folder::"safe" is not known`)
	wantProblem(t, b, ask(b, "edit", `File::"b"`, "", without(`Folder::"vault"`)), `Folder::"vault" is not known`)
}

func TestTrap_AbsentResource(t *testing.T) {
	b := shopWith(t, permitAll)
	wantProblem(t, b, ask(b, "edit", `File::"b"`, "", without(`File::"b"`)), `File::"b" is not known`)
}

func TestTrap_AbsentSubject(t *testing.T) {
	b := shopWith(t, permitAll)
	wantProblem(t, b, refund(b, `{"amount":1}`, without(`Agent::"refund-bot"`)), `Agent::"refund-bot" is not known`)
	wantProblem(t, b, refund(b, `{"amount":1}`, without(`Team::"bots"`)), `Team::"bots" is not known`)
}

func TestTrap_AbsentPrincipal(t *testing.T) {
	b := shopWith(t, permitAll)
	forBob := func(in *access.Input) { in.Request.Principal = access.MustRef(`Human::"bob"`) }
	wantDecided(t, b, refund(b, `{"amount":1}`, forBob), "allow all large-refunds small-refunds")
	wantProblem(t, b, refund(b, `{"amount":1}`, forBob, without(`Human::"bob"`)), `Human::"bob" is not known`)
	wantProblem(t, b, refund(b, `{"amount":1}`, forBob, without(`Team::"payments"`)), `Team::"payments" is not known`)
}

// Cedar: the ancestors of an absent entity are none, so a forbid that asks `in` of it does not match; nor does `has`.
func TestTrap_AbsentEntityOnTheLeftOfIn(t *testing.T) {
	for name, when := range map[string]string{
		"through an attribute": `principal.owner in Team::"payments"`,
		"through the context":  `context has principal && context.principal in Team::"payments"`,
		"named outright":       `Human::"bob" in Team::"payments"`,
		"by a condition":       `(if context.args.amount > 0 then principal.owner else Human::"ann") in Team::"payments"`,
		"is in":                `principal.owner is Human in Team::"payments"`,
		"has":                  `principal.owner has level`,
	} {
		t.Run(name, func(t *testing.T) {
			b := shopWith(t, permitAll+forbid("no-payments", `principal is Agent, action == Action::"refund", resource`, when))
			owned := with(entity(`Agent::"refund-bot"`, `{"owner":"bob"}`, `Team::"bots"`))
			human := func(in *access.Input) {
				if name == "through the context" {
					in.Request.Principal = access.MustRef(`Human::"bob"`)
				}
			}
			in := refund(b, `{"amount":1}`, owned, human)
			wantDecided(t, b, in, "deny forbidden no-payments")
			wantProblem(t, b, refund(b, `{"amount":1}`, owned, human, without(`Human::"bob"`)), `Human::"bob" is not known`)
		})
	}
}

// What no policy that could match looks at need not be there.
func TestAbsentEntityThatNothingLooksAt(t *testing.T) {
	b := shopWith(t, permitAll)
	wantDecided(t, b, refund(b, `{"amount":1}`, without(`Human::"ann"`), without(`Customer::"c-1"`)), "allow all large-refunds small-refunds")
}

// Cedar's validator takes any id for an entity.
func TestTrap_MisspelledID(t *testing.T) {
	for name, text := range map[string]string{
		"principal": forbid("x", `principal == Agent::"ghost", action, resource`, "true"),
		"group":     forbid("x", `principal in Team::"ghosts", action, resource`, "true"),
		"resource":  forbid("x", `principal, action, resource in Folder::"ghost"`, "true"),
		"condition": forbid("x", `principal is Agent, action, resource`, `principal.owner == Human::"ghost"`),
		"in a list": forbid("x", `principal is Agent, action, resource`, `[Human::"ann", Human::"ghost"].contains(principal.owner)`),
		"action":    forbid("x", `principal, action, resource`, `action == Action::"ghost"`),
		"enum":      forbid("x", `principal, action == Action::"refund", resource`, `context.args has region && context.args.region == Region::"ghost"`),
	} {
		t.Run(name, func(t *testing.T) {
			src := readBundle(t, "bundles/shop.txtar")
			src["access/more.cedar"] = []byte(text)
			wantFault(t, src, shopCatalog(), `"ghost`)
		})
	}
}

// What is written in another way than people would is still known, and named at its policy.
func TestTrap_MisspelledIDInDisguise(t *testing.T) {
	for text, want := range map[string]string{
		forbid("x", `principal == Agent::"\u{67}host", action, resource`, "true"): `access/more.cedar:1:1: the catalog has no Agent::"ghost"`,
		forbid("x", `principal == Ghost::"x", action, resource`, "true"):          `access/more.cedar:2:21: the schema has no entity type Ghost`,
		"@// why not\ncolour(\"red\")\npermit(principal, action, resource);":      "access/more.cedar:1:1: @colour is unknown",
	} {
		src := readBundle(t, "bundles/shop.txtar")
		src["access/more.cedar"] = []byte(text)
		wantFault(t, src, shopCatalog(), want)
	}
}

// Cedar passes over a policy that errs: an agent could switch a forbid off by an overflow.
func TestTrap_OverflowChosenByAgent(t *testing.T) {
	b := shop(t)
	huge := `{"amount":9223372036854775807,"tip":1}`
	wantProblem(t, b, refund(b, huge), "policy risk-tip: integer overflow")

	b = shopWith(t, permitAll+forbid("sum", `principal, action == Action::"refund", resource`, "context.args.amount + context.args.amount > 10"))
	wantProblem(t, b, refund(b, `{"amount":9223372036854775807}`), "policy sum: integer overflow")
}

func TestTrap_OverflowInASum(t *testing.T) {
	b := shop(t)
	args := `{"flights":[],"payments":[{"id":"a","amount":9223372036854775807},{"id":"b","amount":1}]}`
	wantProblem(t, b, ask(b, "book", `Order::"o-1"`, args), "derived.paid: the sum is beyond 64 bits")
	args = strings.ReplaceAll(strings.ReplaceAll(args, "9223372036854775807", "-9223372036854775808"), `"amount":1}`, `"amount":-1}`)
	wantProblem(t, b, ask(b, "book", `Order::"o-1"`, args), "derived.paid: the sum is beyond 64 bits")
}

// Cedar's JSON reading makes entities and extension values of marked objects, and sets of anything.
func TestTrap_EntityInArguments(t *testing.T) {
	b := shop(t)
	for _, args := range []string{
		`{"amount":1,"note":{"__entity":{"type":"Human","id":"ann"}}}`,
		`{"amount":1,"to":{"__entity":{"type":"Customer","id":"c-1"}}}`,
		`{"amount":1,"to":{"type":"Customer","id":"c-1"}}`,
		`{"amount":{"__extn":{"fn":"decimal","arg":"1.0"}}}`,
		`{"__entity":{"type":"Human","id":"ann"}}`,
		`{"amount":1,"__extn":{"fn":"ip","arg":"1.2.3.4"}}`,
		`{"amount":1,"at":{"fn":"datetime","arg":"2026-01-01"}}`,
	} {
		wantProblem(t, b, refund(b, args), "invalid_args: args")
	}
}

func TestTrap_NumbersInArguments(t *testing.T) {
	b := shop(t)
	for _, number := range []string{"1.0", "1e2", "1E0", "9223372036854775808", "-9223372036854775809", "null", `"1"`, "true", "[1]", "{}", "NaN", "01", "+1"} {
		wantProblem(t, b, refund(b, `{"amount":`+number+`}`), "args")
	}
	wantProblem(t, b, refund(b, `{"amount":9223372036854775808}`), "want Long, got a number beyond 64 bits")
	wantDecided(t, b, refund(b, `{"amount":-0}`), "allow large-refunds small-refunds")
}

func TestTrap_KeyTwice(t *testing.T) {
	b := shop(t)
	wantProblem(t, b, refund(b, `{"amount":1,"amount":1000000}`), "a key twice")
	wantProblem(t, b, refund(b, `{"amount":1,"\u0061mount":1000000}`), "a key twice")
}

func TestTrap_KeyUndeclaredOrMissing(t *testing.T) {
	b := shop(t)
	wantProblem(t, b, refund(b, `{"amount":1,"Amount":2}`), "an undeclared key")
	wantProblem(t, b, refund(b, `{}`), "args.amount: want Long, got nothing")
	wantProblem(t, b, refund(b, ``), "args.amount: want Long, got nothing")
	wantProblem(t, b, ask(b, "view", `File::"a"`, `{"x":1}`), "an undeclared key")
}

// A set swallows repetitions: two equal payments must count as two.
func TestTrap_RepetitionsInALists(t *testing.T) {
	b := shop(t)
	args := `{"flights":[{"number":"HAT1","date":"2024-05-20"},{"number":"HAT1","date":"2024-05-20"}],"payments":[{"id":"a","amount":70},{"id":"a","amount":70}]}`
	got := wantDecided(t, b, ask(b, "book", `Order::"o-1"`, args), "allow book")
	want := `{"distinct":false,"flights":2,"least":0,"most":70,"open":2,"paid":140,"price":140,"statuses":["available"],"tier":"gold"}`
	if string(got.Derived) != want {
		t.Errorf("derived %s, want %s", got.Derived, want)
	}
}

// Two values with a / between them: "a/b" and "c" would make the id of "a" and "b/c".
func TestTrap_SeparatorInAnID(t *testing.T) {
	b := shop(t)
	args := `{"flights":[{"number":"HAT1/2024-05-20","date":"x"}],"payments":[]}`
	wantProblem(t, b, ask(b, "book", `Order::"o-1"`, args), "holds the text that separates it")
}

// A value without an id is no look-up that may be missing.
func TestTrap_MoreLookupsThanTheCap(t *testing.T) {
	b := shop(t)
	var flights []string
	for i := range MaxEntities {
		flights = append(flights, fmt.Sprintf(`{"number":"N%d","date":"d"}`, i))
	}
	args := `{"flights":[` + strings.Join(flights, ",") + `],"payments":[]}`
	in := ask(b, "book", `Order::"o-1"`, args)
	wantProblem(t, b, in, "more than 256 entities")
	if got := len(b.Needs(&in.Request, map[access.Ref]*access.Entity{})); got > MaxEntities {
		t.Errorf("the first call for needs lists %d entities", got)
	}
}

// Asking for no time in particular asks for the default, not for nothing.
func TestTrap_NoTTLIsTheDefault(t *testing.T) {
	b := shopWith(t, permitAll+forbid("long", `principal, action == Action::"refund", resource`, "context.ttl > 200"))
	wantDecided(t, b, refund(b, `{"amount":1}`), "deny forbidden long")
	wantDecided(t, b, refund(b, `{"amount":1}`, func(in *access.Input) { in.Request.TTL = 200 }), "allow all large-refunds small-refunds")
	wantProblem(t, b, refund(b, `{"amount":1}`, func(in *access.Input) { in.Request.TTL = -1 }), "ttl")
}

// An amount below zero would make room under a cap on the sum.
func TestTrap_NegativeAmountLowersTheSum(t *testing.T) {
	b := shop(t)
	wantProblem(t, b, refund(b, `{"amount":-5}`), "counter refunded_per_day: an amount below zero")
}

// A count that was not loaded is no zero.
func TestTrap_CountNotLoaded(t *testing.T) {
	b := shop(t)
	wantProblem(t, b, refund(b, `{"amount":5}`, func(in *access.Input) { in.Facts.Counts = nil }), "context.counts: refunds_per_hour was not counted")
}

func TestTrap_TypoInAnnotation(t *testing.T) {
	good := `@id("x") @owner("Human::\"ann\"") @max_ttl("1h") @until("2027-06-30") `
	for annotation, want := range map[string]string{
		`@max_tll("1m")`:       "@max_tll is unknown, perhaps @max_ttl",
		`@Approval("confirm")`: "@Approval is unknown, perhaps @approval",
		`@approvel("confirm")`: "@approvel is unknown, perhaps @approval",
		`@ID("x")`:             "@ID is unknown, perhaps @id",
		`@note("x")`:           "@note is unknown: the annotations are approval, because, control",
	} {
		src := readBundle(t, "bundles/shop.txtar")
		src["access/more.cedar"] = []byte(good + annotation + "\npermit(principal, action, resource);")
		wantFault(t, src, shopCatalog(), want)
	}
}

func TestTrap_BareApproval(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	src["access/more.cedar"] = []byte(`@id("x") @owner("Human::\"ann\"") @because("b") @approval forbid(principal, action, resource);`)
	wantFault(t, src, shopCatalog(), `@approval(""): want resource-owner, team:NAME`)
}

// An approval on a permit would read as if it had to be asked for, and allow.
func TestTrap_ApprovalOnPermit(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	src["access/more.cedar"] = []byte(`@id("x") @owner("Human::\"ann\"") @max_ttl("1h") @until("2027-06-30") @approval("confirm") permit(principal, action, resource);`)
	wantFault(t, src, shopCatalog(), "access/more.cedar:1:71: @approval does not belong on a permit")
}

func TestTrap_ForbidThatCanNeverMatch(t *testing.T) {
	any := "principal, action, resource"
	agent := "principal is Agent, action, resource"
	for _, policy := range []struct{ scope, when string }{
		{any, "false"},
		{any, "1 == 2"},
		{any, "1 > 2"},
		{any, `"a" like "b*"`},
		{any, "!true"},
		{any, "true && (false || 2 < 1)"},
		{any, "if true then false else true"},
		{any, "if 1 == 1 then 1 == 2 else true"},
		{any, `["a"].contains("b")`},
		{any, "9223372036854775807 + 1 > 0"},
		{any, `principal is Order`},
		{any, `principal != principal`},
		{agent, `principal is Human`},
		{agent, `principal is Agent in Folder::"vault"`},
		{agent, `principal in Folder::"vault"`},
		{agent, `principal in [Folder::"vault", Folder::"public"]`},
		{agent, `principal.owner in Folder::"vault"`},
		{agent, `principal has nosuch`},
		{agent, `!(principal has owner)`},
		{`principal, action == Action::"view", resource`, `action == Action::"refund"`},
		{`principal, action == Action::"view", resource`, `action in Action::"write"`},
		{`principal, action == Action::"view", resource`, `action in [Action::"write", Action::"refund"]`},
		{`principal, action == Action::"view", resource`, `action != Action::"view"`},
		{`principal, action == Action::"view", resource is Order`, "true"},
		{`principal, action == Action::"edit", resource is Folder`, "true"},
		{`principal, action == Action::"edit", resource == Folder::"vault"`, "true"},
		{`principal is Human, action == Action::"edit", resource`, "true"},
		{`principal in Folder::"vault", action, resource`, "true"},
		{`principal is Agent in Folder::"vault", action, resource`, "true"},
		{`principal, action, resource in Team::"bots"`, "true"},
	} {
		for _, kind := range []string{"forbid", "unless", "permit", "risk"} {
			src := readBundle(t, "bundles/shop.txtar")
			text := forbid("never", policy.scope, policy.when)
			file := "access/more.cedar"
			switch kind {
			case "unless":
				text = strings.Replace(strings.Replace(text, "when {", "unless { !(", 1), "};", ")};", 1)
			case "permit":
				text = strings.Replace(text, `@because("because")`, `@max_ttl("1h") @until("2027-06-30")`, 1)
				text = strings.Replace(text, "forbid(", "permit(", 1)
			case "risk":
				text = strings.Replace(text, `@because("because")`, `@because("because") @points("5")`, 1)
				file = "risk/more.cedar"
			}
			src[file] = []byte(text)
			got := faultsOf(t, src, shopCatalog()).Error()
			if !strings.Contains(got, "can never match") && !strings.Contains(got, "unable to find an applicable action") && !strings.Contains(got, "are not compatible") {
				t.Errorf("not refused as one that can never match:\n%s\n%s", text, got)
			}
		}
	}
}

// What depends on facts may match, however odd it looks.
func TestForbidThatMayMatch(t *testing.T) {
	for _, policy := range []struct{ scope, when string }{
		{"principal, action, resource", "true"},
		{"principal, action, resource", "1 == 1"},
		{"principal, action, resource", `if principal is Agent then true else false`},
		{"principal, action, resource", `principal is Agent && resource is File`},
		{"principal, action, resource", `principal in Team::"bots"`},
		{"principal is Agent, action, resource", `principal.owner in Team::"bots"`},
		{"principal is Agent, action, resource", `principal.owner in [Team::"bots", Team::"payments"]`},
		{"principal is Agent, action, resource", `Human::"ann" in Team::"bots"`},
		{"principal is Agent, action, resource", `principal has status && principal.status == "x"`},
		{"principal is Agent, action, resource", `[principal.owner].contains(Human::"ann")`},
		{"principal, action, resource", `action in [Action::"write"]`},
		{"principal, action, resource", `action == Action::"view"`},
	} {
		shopWith(t, forbid("may", policy.scope, policy.when))
	}
}

// A risk policy that read the risk would err when it is evaluated, or read its own sum.
func TestTrap_RiskReadsRisk(t *testing.T) {
	for _, when := range []string{
		"context.risk > 5", "context has risk", `context == context`,
	} {
		src := readBundle(t, "bundles/shop.txtar")
		src["risk/more.cedar"] = []byte(strings.Replace(forbid("r", `principal, action == Action::"refund", resource`, when), "forbid", `@points("5") forbid`, 1))
		wantFault(t, src, shopCatalog(), "a risk policy cannot read context.risk")
	}
}

// Precedent may only raise risk, unless a policy names a band of arguments.
func TestTrap_PrecedentWithoutABand(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	src["access/more.cedar"] = []byte(forbid("p", `principal, action == Action::"refund", resource`, "context.precedent.approvals < 3"))
	wantFault(t, src, shopCatalog(), "context.precedent may be read here only together with context.args")
	src["access/more.cedar"] = []byte(forbid("p", `principal, action == Action::"refund", resource`, "context.precedent.approvals < 3 && context.args.amount > 10"))
	mustLoad(t, src, shopCatalog())
	delete(src, "access/more.cedar")
	src["risk/more.cedar"] = []byte(strings.Replace(forbid("p", `principal, action == Action::"refund", resource`, "context.precedent.approvals < 3"), "forbid", `@points("5") forbid`, 1))
	mustLoad(t, src, shopCatalog())
}

// Cedar names only the forbids once one matches.
func TestTrap_ForbidsHidePermits(t *testing.T) {
	b := shop(t)
	got := wantDecided(t, b, refund(b, `{"amount":60}`), "needs_approval approval_required large-need-owner")
	want := access.Bounds{MaxTTL: 300, MaxTTLPolicy: "small-refunds", Until: got.Bounds.Until, UntilPolicy: "large-refunds", MaxUses: 1, MaxUsesPolicy: "small-refunds"}
	if got.Bounds != want {
		t.Errorf("bounds are %+v, want %+v", got.Bounds, want)
	}
}

// Cedar returns reasons in no order.
func TestTrap_OrderOfReasons(t *testing.T) {
	b := shop(t)
	in := refund(b, `{"amount":60,"tip":990}`, func(in *access.Input) { in.Facts.Counts["refunds_per_hour"] = 5 })
	first, err := json.Marshal(b.Decide(in))
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if again, _ := json.Marshal(shop(t).Decide(in)); string(again) != string(first) {
			t.Fatalf("the same input gives\n%s\nand\n%s", first, again)
		}
	}
}

// Cedar-go reads /* */ as a comment; other Cedar tools do not.
func TestTrap_BlockComment(t *testing.T) {
	src := readBundle(t, "bundles/shop.txtar")
	src["access/more.cedar"] = []byte("// fine\n/* forbid(principal, action, resource); */")
	wantFault(t, src, shopCatalog(), "access/more.cedar:2:1: /* is no comment in Cedar")
}

// A file whose name is misspelt is not passed over.
func TestTrap_FileNotRead(t *testing.T) {
	for _, name := range []string{"acess/a.cedar", "access/a.ceda", "access/sub/a.cedar", "a.cedar", "derive.yml", "tests/a.yml", "access/.a.cedar", "/schema.cedarschema"} {
		src := readBundle(t, "bundles/shop.txtar")
		src[name] = nil
		wantFault(t, src, shopCatalog(), "not part of a bundle")
	}
}
