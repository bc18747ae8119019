package main

import (
	"embed"
	"fmt"
	"strings"

	"github.com/writ-project/writ/internal/access"
)

//go:embed schema.cedarschema derive.yaml
var siteFiles embed.FS

// rule is one policy of the load's bundle: 30 of access, 6 of them again with an approval, 20 of risk, beside the one that opens tasks.
type rule struct {
	id     string
	effect string // permit, forbid, approval (a forbid until somebody agrees) or risk
	value  string // longest life of a permit, form of an approval, points of a risk
	scope  string // principal, action, resource
	when   string
}

const (
	readOrder     = `action == Action::"read_order", resource`
	refund        = `action == Action::"refund", resource`
	updateAddress = `action == Action::"update_address", resource`
	sendMessage   = `action == Action::"send_message", resource`
	readTable     = `action == Action::"read_table", resource`
	runQuery      = `action == Action::"run_query", resource`

	// never is a bound that no run reaches: the counters are read and compared, and do not bind.
	never = "1000000000000"
)

func accessRules() []rule {
	return []rule{
		{"open-work", "permit", "24h", `principal, action == Writ::Action::"open_task", resource`, ""},

		{"support-reads-orders", "permit", "15m", `principal in Team::"support", ` + readOrder, `context.task.expected`},
		{"billing-reads-orders", "permit", "15m", `principal in Team::"billing", ` + readOrder, `context.task.expected`},
		{"order-archived", "forbid", "", `principal, ` + readOrder, `resource.status == "archived"`},
		{"order-of-staff", "forbid", "", `principal, ` + readOrder, `resource.tier == "staff" && context.task.type != "audit"`},
		{"too-many-reads", "forbid", "", `principal, ` + readOrder, `context.counts.reads_per_hour > ` + never},
		{"risky-read", "approval", "resource-owner", `principal, ` + readOrder, `context.risk >= 50`},

		{"billing-refunds", "permit", "5m", `principal in Team::"billing", ` + refund, `context.task.expected && context.args.amount > 0`},
		{"support-refunds-little", "permit", "5m", `principal in Team::"support", ` + refund, `context.args.amount < 10`},
		{"refund-within-order", "forbid", "", `principal, ` + refund, `context.args.amount > resource.total`},
		{"refund-once", "forbid", "", `principal, ` + refund, `resource.status == "refunded"`},
		{"refunded-enough", "forbid", "", `principal, ` + refund, `context.sums.refunded_per_day > ` + never},
		{"large-refund", "approval", "team:payments", `principal, ` + refund, `context.args.amount > 100 || context.risk >= 50`},

		{"support-corrects-addresses", "permit", "10m", `principal in Team::"support", ` + updateAddress, `context.task.expected`},
		{"billing-corrects-addresses", "permit", "10m", `principal in Team::"billing", ` + updateAddress, `resource.status == "open"`},
		{"address-of-shipped", "forbid", "", `principal, ` + updateAddress, `resource.status == "shipped"`},
		{"address-abroad", "forbid", "", `principal, ` + updateAddress, `!(["DE", "FR", "NL"].contains(context.args.country))`},
		{"address-empty", "forbid", "", `principal, ` + updateAddress, `context.args.street == "" || context.args.city == ""`},
		{"risky-address", "approval", "team:payments", `principal, ` + updateAddress, `context.risk >= 50`},

		{"outreach-writes", "permit", "5m", `principal in Team::"outreach", ` + sendMessage, `context.task.expected`},
		{"support-writes", "permit", "5m", `principal in Team::"support", ` + sendMessage, `context.derived.recipients == 1`},
		{"too-many-recipients", "forbid", "", `principal, ` + sendMessage, `context.derived.recipients > 50`},
		{"nothing-to-say", "forbid", "", `principal, ` + sendMessage, `context.args.text == ""`},
		{"too-many-messages", "forbid", "", `principal, ` + sendMessage, `context.counts.messages_per_hour > ` + never},
		{"data-then-outside", "approval", "team:security", `principal, ` + sendMessage, `context.labels.task.contains("customer-data")`},

		{"reports-read-tables", "permit", "15m", `principal in Team::"reports", ` + readTable, `context.task.expected`},
		{"outreach-reads-tables", "permit", "15m", `principal in Team::"outreach", ` + readTable, `resource.sensitivity == "low"`},
		{"table-of-secrets", "forbid", "", `principal, ` + readTable, `resource.sensitivity == "secret"`},
		{"table-too-large", "forbid", "", `principal, ` + readTable, `resource.rows > 1000000000`},
		{"table-elsewhere", "forbid", "", `principal, ` + readTable, `resource.environment != "production"`},
		{"risky-table", "approval", "identity-owner", `principal, ` + readTable, `context.risk >= 50`},

		{"reports-query", "permit", "15m", `principal in Team::"reports", ` + runQuery, `context.task.expected && context.args.limit <= 10000`},
		{"query-everything", "forbid", "", `principal, ` + runQuery, `context.derived.columns == 0`},
		{"query-password", "forbid", "", `principal, ` + runQuery, `context.args.columns.contains("password")`},
		{"too-many-queries", "forbid", "", `principal, ` + runQuery, `context.counts.queries_per_hour > ` + never},
		{"query-staging", "forbid", "", `principal, ` + runQuery, `resource.environment == "staging"`},
		{"risky-query", "approval", "2 of team:security", `principal, ` + runQuery, `context.risk >= 50`},
	}
}

func riskRules() []rule {
	const order = `action in [Action::"read_order", Action::"refund", Action::"update_address"], resource`
	const table = `action in [Action::"read_table", Action::"run_query"], resource`
	return []rule{
		{"order-is-sensitive", "risk", "5", `principal, ` + order, `resource.sensitivity == "high"`},
		{"order-is-large", "risk", "10", `principal, ` + order, `resource.total > 10000`},
		{"order-has-many-items", "risk", "5", `principal, ` + order, `resource.items > 20`},
		{"gold-customer", "risk", "5", `principal, ` + order, `resource.tier == "gold"`},
		{"order-task-is-old", "risk", "10", `principal, ` + order, `context.task.age > 86400`},
		{"reads-fast", "risk", "20", `principal, ` + readOrder, `context.counts.reads_per_hour > ` + never},
		{"reads-long", "risk", "5", `principal, ` + readOrder, `context.ttl > 3600`},
		{"refunds-fast", "risk", "30", `principal, ` + refund, `context.counts.refunds_per_hour > ` + never},
		{"refunds-nearly-everything", "risk", "20", `principal, ` + refund, `context.args.amount * 10 > resource.total * 9`},
		{"refunds-after-outside", "risk", "20", `principal, ` + refund, `context.labels.identity.contains("outside")`},
		{"address-after-outside", "risk", "20", `principal, ` + updateAddress, `context.labels.identity.contains("outside")`},
		{"address-unexpected", "risk", "40", `principal, ` + updateAddress, `!context.task.expected`},
		{"messages-fast", "risk", "30", `principal, ` + sendMessage, `context.counts.messages_per_hour > ` + never},
		{"messages-many", "risk", "20", `principal, ` + sendMessage, `context.derived.recipients > 10`},
		{"messages-after-data", "risk", "20", `principal, ` + sendMessage, `context.labels.identity.contains("customer-data")`},
		{"table-is-sensitive", "risk", "10", `principal, ` + table, `resource.sensitivity == "high"`},
		{"table-task-is-old", "risk", "10", `principal, ` + table, `context.task.age > 86400`},
		{"tables-after-outside", "risk", "20", `principal, ` + readTable, `context.labels.identity.contains("outside")`},
		{"queries-fast", "risk", "20", `principal, ` + runQuery, `context.counts.queries_per_hour > ` + never},
		{"query-is-wide", "risk", "15", `principal, ` + runQuery, `context.derived.columns > 10 || context.args.limit > 5000`},
	}
}

// soakRules are what people may do in a soak, besides answering.
func soakRules() []rule {
	acts := []string{access.ActRevoke, access.ActSuspend, access.ActResume, access.ActRead, access.ActReadEvidence}
	rules := make([]rule, len(acts))
	for i, act := range acts {
		rules[i] = rule{"security-" + strings.ReplaceAll(act, "_", "-"), "permit", "1h", fmt.Sprintf(`principal in Team::"security", action == Writ::Action::%q, resource`, act), ""}
	}
	return rules
}

// cedar writes rules as a bundle's file.
func cedar(rules []rule) []byte {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "@id(%q)\n@owner(\"Human::\\\"lead\\\"\")\n", r.id)
		effect := "forbid"
		switch r.effect {
		case "permit":
			effect = "permit"
			fmt.Fprintf(&b, "@max_ttl(%q)\n@until(\"2099-12-31\")\n", r.value)
		case "approval":
			fmt.Fprintf(&b, "@approval(%q)\n@because(\"Somebody looks at it.\")\n", r.value)
		case "risk":
			fmt.Fprintf(&b, "@points(%q)\n@because(\"This is unusual.\")\n", r.value)
		default:
			b.WriteString("@because(\"This is not done.\")\n")
		}
		fmt.Fprintf(&b, "%s (%s)", effect, r.scope)
		if r.when != "" {
			fmt.Fprintf(&b, "\nwhen { %s }", r.when)
		}
		b.WriteString(";\n\n")
	}
	return []byte(b.String())
}

const (
	orders = 400 // told by the fact source
	tables = 100 // in the catalog
)

func agentID(i int) string { return fmt.Sprintf("agent-%04d", i) }
func orderID(i int) string { return fmt.Sprintf("o-%04d", i%orders) }
func tableID(i int) string { return fmt.Sprintf("warehouse.t%03d", i%tables) }

// teamOf is the team of an agent: what it may do depends on it.
func teamOf(i int) string {
	return []string{"support", "support", "support", "support", "billing", "billing", "outreach", "support", "reports", "reports"}[i%10]
}

// siteOf is the declared state that the load runs against: catalog and policy for so many agents, known to an identity provider and, unless
// domain is empty, to a SPIFFE trust domain.
func siteOf(agents int, issuer, domain string) (map[string][]byte, error) {
	files := map[string][]byte{
		"policy/access/shop.cedar": cedar(accessRules()),
		"policy/risk/shop.cedar":   cedar(riskRules()),
	}
	for _, name := range []string{"schema.cedarschema", "derive.yaml"} {
		content, err := siteFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files["policy/"+name] = content
	}
	files["catalog/agents.yaml"] = agentsFile(agents, issuer, domain)
	files["catalog/people.yaml"] = []byte(strings.ReplaceAll(people, "ISSUER", issuer))
	files["catalog/resources.yaml"] = resourcesFile()
	return files, nil
}

const people = `identities:
  - id: Human::"lead"
    match: [{issuer: ISSUER, subject: lead}]
  - id: Human::"guard"
    match: [{issuer: ISSUER, subject: guard}]
  - id: Workload::"order-system"
    owner: Human::"lead"
    purpose: tells what is so about orders
    review_by: 2099-12-31
    match: [{issuer: ISSUER, subject: order-system}]
teams:
  - {name: payments, owner: Human::"lead", members: [Human::"lead", Human::"guard"]}
  - {name: security, owner: Human::"guard", members: [Human::"lead", Human::"guard"]}
fact_sources:
  - {name: orders, identity: Workload::"order-system", owner: Human::"lead", provides: [Order], freshness: 720h}
task_types:
  - name: work
    owner: Human::"lead"
    openers: [Team::"support", Team::"billing", Team::"outreach", Team::"reports"]
    actions: [Action::"read_order", Action::"refund", Action::"update_address", Action::"send_message", Action::"read_table", Action::"run_query"]
    labels: [customer-data, outside]
    max_duration: 24h
`

func agentsFile(agents int, issuer, domain string) []byte {
	var b strings.Builder
	b.WriteString("identities:\n")
	members := map[string][]string{}
	for i := range agents {
		ref := fmt.Sprintf("Agent::%q", agentID(i))
		members[teamOf(i)] = append(members[teamOf(i)], ref)
		svid := ""
		if domain != "" {
			svid = fmt.Sprintf(", {issuer: %q, subject: %q}", "spiffe://"+domain, spiffeID(domain, i).String())
		}
		fmt.Fprintf(&b, "  - {id: '%s', owner: 'Human::\"lead\"', purpose: serves customers of the shop, review_by: 2099-12-31, match: [{issuer: %q, subject: %s}%s]}\n", ref, issuer, agentID(i), svid)
	}
	b.WriteString("teams:\n")
	for _, team := range []string{"support", "billing", "outreach", "reports"} {
		fmt.Fprintf(&b, "  - {name: %s, owner: 'Human::\"lead\"', members: [%s]}\n", team, strings.Join(members[team], ", "))
	}
	return []byte(b.String())
}

func resourcesFile() []byte {
	var b strings.Builder
	b.WriteString(`collections:
  - {type: Order, owner: Human::"lead", source: orders, sensitivity: high, environment: production, labels: [customer-data], target: "https://orders.example.com"}
resources:
  - {id: Channel::"customers", owner: Human::"lead", sensitivity: medium, environment: production, labels: [outside], target: "https://messages.example.com"}
`)
	for i := range tables {
		sensitivity := "low"
		if i%4 == 0 {
			sensitivity = "high"
		}
		fmt.Fprintf(&b, "  - {id: 'Table::%q', owner: Human::\"lead\", sensitivity: %s, environment: production, labels: [warehouse], target: \"https://warehouse.example.com\", attributes: {rows: %d}}\n",
			tableID(i), sensitivity, 1000*(i+1))
	}
	return []byte(b.String())
}
