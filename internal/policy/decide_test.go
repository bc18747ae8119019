package policy

import (
	"testing"

	"github.com/writ-project/writ/internal/access"
)

func TestDecideOutcomes(t *testing.T) {
	b := shop(t)
	many := func(in *access.Input) { in.Facts.Counts["refunds_per_hour"] = 5 }
	other := func(in *access.Input) { in.Request.Subject = access.MustRef(`Agent::"other"`) }
	tests := []struct {
		name string
		in   *access.Input
		want string
	}{
		{"a small refund", refund(b, `{"amount":20}`), "allow large-refunds small-refunds"},
		{"the boundary", refund(b, `{"amount":50}`), "allow large-refunds small-refunds"},
		{"a larger refund", refund(b, `{"amount":51}`), "needs_approval approval_required large-need-owner"},
		{"to a stranger", refund(b, `{"amount":20,"to":"c-2"}`), "deny forbidden not-to-strangers"},
		{"never put to a human what is forbidden", refund(b, `{"amount":60,"to":"c-2"}`), "deny forbidden not-to-strangers"},
		{"to the one who paid", refund(b, `{"amount":20,"to":"c-1"}`), "allow large-refunds small-refunds"},
		{"nobody permits", refund(b, `{"amount":20}`, other), "deny not_permitted"},
		{"never put to a human what nobody permits", refund(b, `{"amount":60}`, other), "deny not_permitted"},
		{"risk below the line", refund(b, `{"amount":20}`, many), "allow large-refunds small-refunds"},
		{"risk above the line", refund(b, `{"amount":20,"tip":990}`, many), "needs_approval approval_required risky-need-two"},
		{"requirements compose", refund(b, `{"amount":60,"tip":990}`, many), "needs_approval approval_required large-need-owner risky-need-two"},
		{"a file in a public folder's folder", ask(b, "edit", `File::"a"`, ""), "allow bots-edit"},
		{"a file in the vault", ask(b, "edit", `File::"b"`, ""), "deny forbidden vault-closed"},
		{"derived values", ask(b, "book", `Order::"o-1"`, booking("HAT1", "HAT2", 100)), "allow book"},
		{"not paid in full", ask(b, "book", `Order::"o-1"`, booking("HAT1", "HAT2", 90)), "deny not_permitted"},
		{"a flight that is not known", ask(b, "book", `Order::"o-1"`, booking("HAT1", "HAT9", 70)), "deny not_permitted"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { wantDecided(t, b, test.in, test.want) })
	}
}

func booking(first, second string, paid int) string {
	return `{"flights":[{"number":"` + first + `","date":"2024-05-20"},{"number":"` + second + `","date":"2024-05-21"}],` +
		`"payments":[{"id":"p-1","amount":` + itoa(paid) + `}]}`
}
