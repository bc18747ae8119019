package policy

import (
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/access"
)

// ceilings is the shop with an action whose arguments may be left open where it is lent, and counted as a sum where it is used.
func ceilings(t *testing.T) *Bundle {
	src := readBundle(t, "bundles/shop.txtar")
	src["schema.cedarschema"] = append(src["schema.cedarschema"], `
@uses("counted")
action pay appliesTo { principal: [Agent], resource: [Order], context: { args: { amount?: Long, currency: String }, mode: String, sums: { paid: Long } } };
action wave appliesTo { principal: [Agent], resource: [Order] };
`...)
	src["derive.yaml"] = append(src["derive.yaml"], `
  paid: {action: pay, window: 24h, sum: args.amount}
`...)
	src["access/pay.cedar"] = []byte(`
@id("lend-euros") @owner("Human::\"ann\"") @max_ttl("1h") @until("2027-06-30")
permit (principal, action == Action::"pay", resource) when { context.mode == "delegate" && context.args.currency == "EUR" };
@id("pay-little") @owner("Human::\"ann\"") @max_ttl("1h") @until("2027-06-30")
permit (principal, action == Action::"pay", resource) when { context.mode == "use" && context.args has amount && context.args.amount <= 50 };
@id("wave") @owner("Human::\"ann\"") @max_ttl("1h") @until("2027-06-30")
permit (principal, action == Action::"wave", resource);
`)
	return mustLoad(t, src, shopCatalog())
}

// What is left open, policy does not see; what is fixed, it does. Lending counts nothing.
func TestPolicySeesOfARightToLendWhatIsFixed(t *testing.T) {
	b := ceilings(t)
	for _, c := range []struct {
		name, action, constraints, args string
		outcome                         access.Outcome
		problem                         string
	}{
		{"fixed", "pay", `{"amount":{"type":"range","max":100},"currency":{"type":"exact","value":"EUR"}}`, "", access.Allow, ""},
		{"fixed to something else", "pay", `{"amount":{"type":"range","max":100},"currency":{"type":"exact","value":"USD"}}`, "", access.Deny, ""},
		{"exact arguments", "pay", "", `{"amount":70,"currency":"EUR"}`, access.Allow, ""},
		{"open, where the schema wants it", "pay", `{"amount":{"type":"wildcard"},"currency":{"type":"wildcard"}}`, "", access.Deny, "args.currency is left open: a right to lend it needs a schema that declares currency?: String"},
		{"left out, where the schema wants it", "pay", `{"amount":{"type":"wildcard"}}`, "", access.Deny, "currency"},
		{"of another type", "pay", `{"amount":{"type":"exact","value":"x"},"currency":{"type":"exact","value":"EUR"}}`, "", access.Deny, "amount"},
		{"no such argument", "pay", `{"amounts":{"type":"wildcard"},"currency":{"type":"exact","value":"EUR"}}`, "", access.Deny, "args.amounts: Action::\"pay\" has no such argument"},
		{"no arguments at all", "wave", `{"amount":{"type":"wildcard"}}`, "", access.Deny, "has no such argument"},
	} {
		in := ask(b, c.action, `Order::"o-1"`, c.args, func(in *access.Input) {
			in.Request.Mode = access.Delegate
			in.Facts.Sums["paid"] = 0
			if c.constraints != "" {
				parsed, err := access.ParseConstraints([]byte(c.constraints))
				if err != nil {
					t.Fatal(err)
				}
				in.Request.Constraints = parsed
			}
		})
		got := b.Decide(in)
		if got.Outcome != c.outcome || (got.Problem == "") != (c.problem == "") || !strings.Contains(got.Problem, c.problem) {
			t.Errorf("%s: %+v", c.name, got)
		}
		if err := b.CheckRequest(&in.Request); (err == nil) != (c.problem == "") {
			t.Errorf("%s: checked as %v", c.name, err)
		}
		if counted := b.Counters(&in.Request); counted != nil {
			t.Errorf("%s counts %v", c.name, counted)
		}
	}
	used := ask(b, "pay", `Order::"o-1"`, `{"amount":40,"currency":"EUR"}`, func(in *access.Input) { in.Facts.Sums["paid"] = 0 })
	if got := b.Decide(used); got.Outcome != access.Allow {
		t.Errorf("%+v", got)
	}
	if counted := b.Counters(&used.Request); len(counted) != 1 || counted[0].Amount != 40 {
		t.Errorf("a use counts %v", counted)
	}
	if !b.CountsUses(access.MustRef(`Action::"pay"`)) || b.CountsUses(access.MustRef(`Action::"wave"`)) || b.CountsUses(access.MustRef(`Action::"none"`)) {
		t.Error("whose uses are counted is told wrong")
	}
}
