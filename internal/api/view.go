package api

import (
	"encoding/json"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

func decisionOf(answer *control.Answer) client.Decision {
	return client.Decision{
		ID: answer.ID, Outcome: string(answer.Decided.Outcome), Code: string(answer.Decided.Code),
		Time: answer.Time, Repeated: answer.Repeated,
	}
}

// outcome is what the caller is told of a decision: nothing of policies, thresholds or risk factors.
func outcome(answer *control.Answer) client.Outcome {
	out := client.Outcome{Decision: decisionOf(answer), Evidence: client.Evidence{Index: answer.Evidence}}
	if answer.Grant != nil {
		grant := grantOf(answer.Grant)
		out.Grant = &grant
	}
	out.Credential = credentialOf(answer.Credential)
	if answer.Approval != nil {
		out.Approval = approvalOf(answer.Approval)
	}
	if answer.Task != nil {
		task := taskOf(answer.Task)
		out.Task = &task
	}
	return out
}

// credentialOf shows a credential, or nil if there is none.
func credentialOf(released *control.Released) *client.Credential {
	if released == nil {
		return nil
	}
	out := &client.Credential{Type: "Bearer", Token: released.Token, ExpiresAt: released.ExpiresAt, BoundTo: released.BoundTo}
	if key, _ := control.Binding(released.BoundTo); key != "" {
		out.Type = "DPoP"
	}
	return out
}

func taskOf(t *access.Task) client.Task {
	return client.Task{
		ID: t.ID, Type: t.Type, Subject: t.Subject.String(), Principal: nameOf(t.Principal), Trace: t.Trace, Status: string(t.Status), Reason: string(t.Reason),
		OpenedAt: t.OpenedAt, ExpiresAt: t.ExpiresAt, EndedAt: t.EndedAt, Heartbeat: int64(t.Heartbeat), HeartbeatAt: t.HeartbeatAt, Labels: t.Labels,
	}
}

func grantOf(g *access.Grant) client.Grant {
	return client.Grant{
		ID: g.ID, Parent: g.Parent, Task: g.Task, Subject: g.Subject.String(), Action: g.Action.String(), Resource: g.Resource.String(),
		Args: g.Args, Constraints: constraintsOf(g.Constraints), Mode: string(g.Mode), Depth: g.Depth, Hops: g.Hops(), MaxUses: g.MaxUses, Uses: g.Uses, Status: string(g.Status), Reason: string(g.Reason),
		GrantedAt: g.GrantedAt, ExpiresAt: g.ExpiresAt, EndedAt: g.EndedAt,
	}
}

// nameOf is an entity's name; empty for none.
func nameOf(id access.Ref) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

func constraintsOf(cs access.Constraints) json.RawMessage {
	if len(cs) == 0 {
		return nil
	}
	text, err := json.Marshal(cs)
	if err != nil { // they were read from JSON
		return nil
	}
	return text
}

func grantViewOf(view *control.GrantView) client.Grant {
	out := grantOf(&view.Grant)
	out.Live, out.NotLive = &view.Live, string(view.Why)
	out.Principal, out.Trace = nameOf(view.Principal), view.Trace
	for i := range view.Chain {
		out.Chain = append(out.Chain, linkOf(&view.Chain[i]))
	}
	out.Evidence = &client.Evidence{Index: view.Evidence}
	return out
}

func linkOf(g *access.Grant) client.Link {
	return client.Link{
		Grant: g.ID, Holder: nameOf(g.Subject), Mode: string(g.Mode), Args: g.Args, Constraints: constraintsOf(g.Constraints), ExpiresAt: g.ExpiresAt,
		Evidence: client.Evidence{Index: g.Decided},
	}
}

// approvalOf is a question as whoever asked sees it.
func approvalOf(a *access.Approval) *client.Approval {
	return &client.Approval{
		ID: a.ID, Status: string(a.Status), Task: a.Task, Subject: a.Subject.String(),
		AskedAt: a.AskedAt, ExpiresAt: a.ExpiresAt, ApprovedUntil: a.ApprovedUntil,
	}
}

// cardOf is a question as its reader may see it: all but its subject see the whole card.
func cardOf(card *control.Card, reader access.Ref) *client.Approval {
	out := approvalOf(&card.Approval)
	out.MayAnswer, out.Asked = card.MayAnswer, card.Asked
	out.Evidence = &client.Evidence{Index: card.Evidence}
	if !card.Request.Subject.IsZero() { // else what was asked has been erased
		out.Request = askedOf(&card.Request)
	}
	for i := range card.Comments {
		said := &card.Comments[i]
		out.Comments = append(out.Comments, client.Comment{By: nameOf(said.By), Text: said.Text, At: said.At})
	}
	out.Counter = counterOf(card.Counter)
	if card.Approval.Subject == reader && !card.MayAnswer {
		return out
	}
	out.Digest, out.Card = card.Digest, card.Receipt
	for i := range card.Chain {
		out.Chain = append(out.Chain, linkOf(&card.Chain[i]))
	}
	if out.Request != nil {
		out.Account = accountOf(&card.Decided)
		out.Precedent = &client.Precedent{
			Approvals: card.Precedent.Approvals, Denials: card.Precedent.Denials, Reversals: card.Precedent.Reversals,
		}
	}
	out.TaskType, out.Purpose, out.Reference = card.Task.Type, card.Purpose.Words, card.Purpose.Reference
	out.Answers = answersOf(card.Approval.Answers)
	return out
}

func counterOf(offer *control.Counter) *client.Counter {
	if offer == nil {
		return nil
	}
	return &client.Counter{Words: offer.Words, Args: offer.Args, TTL: int64(offer.TTL), MaxUses: offer.MaxUses}
}

func counterAsked(offer *client.Counter) *control.Counter {
	if offer == nil {
		return nil
	}
	return &control.Counter{Words: offer.Words, Args: offer.Args, TTL: access.Seconds(offer.TTL), MaxUses: offer.MaxUses}
}

func answersOf(answers []access.Answer) []client.Answer {
	var out []client.Answer
	for _, a := range answers {
		out = append(out, client.Answer{By: a.By.String(), Approve: a.Approve, TTL: int64(a.TTL), MaxUses: a.MaxUses, At: a.At})
	}
	return out
}

func askedOf(r *access.Request) *client.Asked {
	return &client.Asked{
		Subject: r.Subject.String(), Principal: r.Principal.String(), Action: r.Action.String(), Resource: r.Resource.String(),
		Args: r.Args, Constraints: constraintsOf(r.Constraints), TTL: int64(r.TTL), MaxUses: r.MaxUses, Mode: string(r.Mode), Task: r.Task, Parent: r.Parent,
		Lender: nameOf(r.Lender),
	}
}

// accountOf is the full account of a decision; nil for none.
func accountOf(d *access.Decided) *client.Account {
	if d == nil || d.Outcome == "" {
		return nil
	}
	out := &client.Account{
		Risk: client.Risk{Score: d.Risk.Score}, Derived: d.Derived, Problem: d.Problem,
		Bounds: client.Bounds{
			MaxTTL: int64(d.Bounds.MaxTTL), MaxTTLPolicy: d.Bounds.MaxTTLPolicy, Until: d.Bounds.Until, UntilPolicy: d.Bounds.UntilPolicy,
			MaxUses: d.Bounds.MaxUses, MaxUsesPolicy: d.Bounds.MaxUsesPolicy,
		},
	}
	for _, p := range d.Policies {
		out.Policies = append(out.Policies, client.Policy{ID: p.ID, Hash: p.Hash, Owner: p.Owner.String(), Because: p.Because, Control: p.Control})
	}
	for _, r := range d.Requires {
		out.Requires = append(out.Requires, client.Requirement{
			Policy: r.Policy, Hash: r.Hash, Form: r.Form.String(), Because: r.Because, Reason: r.Reason, Fresh: int64(r.Fresh),
		})
	}
	for _, f := range d.Risk.Factors {
		out.Risk.Factors = append(out.Risk.Factors, client.Factor{Policy: f.Policy, Points: f.Points, Because: f.Because})
	}
	return out
}
