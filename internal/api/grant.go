package api

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

func (s *server) request(c *call) (*reply, error) {
	body, err := decode[client.AccessRequest](c, "task", "action", "resource")
	if err != nil {
		return nil, err
	}
	ask, err := askOf(&body)
	if err != nil {
		return nil, err
	}
	ask.Idempotency = c.key
	answer, err := s.Control.Request(c.Context(), c.caller, ask)
	if err != nil {
		return nil, err
	}
	return outcomeOf(answer)
}

func askOf(body *client.AccessRequest) (ask control.Ask, err error) {
	ask = control.Ask{Task: body.Task, Args: body.Args, TTL: access.Seconds(body.TTL), MaxUses: body.MaxUses, Mode: access.Mode(body.Mode), Hops: body.Hops, Parent: body.Parent}
	if ask.Action, err = access.ParseAction(body.Action); err != nil {
		return ask, badArgument(err.Error())
	}
	if ask.Resource, err = access.ParseRef(body.Resource); err != nil {
		return ask, badArgument("resource: " + err.Error())
	}
	if body.Subject != "" {
		if ask.Subject, err = access.ParseRef(body.Subject); err != nil {
			return ask, badArgument("subject: " + err.Error())
		}
	}
	if ask.Constraints, err = constraintsIn(body.Constraints); err != nil {
		return ask, err
	}
	for name, id := range map[string]string{"task": body.Task, "parent": body.Parent} {
		if id != "" && !access.ValidID(id) {
			return ask, notFound("there is no " + name + " with this id")
		}
	}
	return ask, nil
}

func constraintsIn(text json.RawMessage) (access.Constraints, error) {
	if len(text) == 0 {
		return nil, nil
	}
	parsed, err := access.ParseConstraints(text)
	if err != nil {
		return nil, &control.Invalid{Kind: control.InvalidConstraints, Detail: err.Error()}
	}
	return parsed, nil
}

func (s *server) delegate(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	body, err := decode[client.Delegation](c, "to")
	if err != nil {
		return nil, err
	}
	part := control.Delegation{Args: body.Args, TTL: access.Seconds(body.TTL), MaxUses: body.MaxUses, Mode: access.Mode(body.Mode), Hops: body.Hops, Idempotency: c.key}
	if part.To, err = access.ParseRef(body.To); err != nil {
		return nil, badArgument("to: " + err.Error())
	}
	if part.Constraints, err = constraintsIn(body.Constraints); err != nil {
		return nil, err
	}
	answer, err := s.Control.Delegate(c.Context(), c.caller, id, part)
	if err != nil {
		return nil, err
	}
	return outcomeOf(answer)
}

func (s *server) issueCredential(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	answer, err := s.Control.IssueCredential(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	grant := grantOf(answer.Grant)
	return &reply{value: client.IssuedCredential{Grant: grant, Credential: *credentialOf(answer.Credential), Evidence: client.Evidence{Index: answer.Evidence}}}, nil
}

func (s *server) countUse(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	answer, err := s.Control.CountUse(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	return &reply{value: client.Used{Grant: grantOf(answer.Grant), Evidence: client.Evidence{Index: answer.Evidence}}}, nil
}

func (s *server) readDecision(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	view, err := s.Control.ReadDecision(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	out := client.Decision{
		ID: view.Event.ID, Outcome: string(view.Event.Outcome), Code: string(view.Event.Code), Time: view.Time,
		Evidence: &client.Evidence{Index: view.Evidence}, Account: accountOf(view.Full),
	}
	if view.Request != nil {
		out.Request = askedOf(view.Request)
	}
	if view.Full != nil { // the bundle's hash would tell the subject when policies change under it
		out.Bundle, out.Engine = view.Event.Bundle, view.Event.Engine
	}
	return &reply{value: out}, nil
}

func (s *server) readGrant(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	view, err := s.Control.ReadGrant(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	return &reply{value: grantViewOf(view)}, nil
}

func (s *server) renew(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	body, err := decode[client.Renewal](c)
	if err != nil {
		return nil, err
	}
	answer, err := s.Control.Renew(c.Context(), c.caller, id, access.Seconds(body.TTL), c.key)
	if err != nil {
		return nil, err
	}
	return outcomeOf(answer)
}

func (s *server) reportAction(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	body, err := decode[client.Action](c, "status")
	if err != nil {
		return nil, err
	}
	answer, err := s.Control.ReportAction(c.Context(), c.caller, id, control.Done{Status: body.Status, Detail: body.Detail})
	if err != nil {
		return nil, err
	}
	return doneOf(answer)
}

func (s *server) revokeGrant(c *call) (*reply, error) { return revoke(c, s.Control.RevokeGrant) }

// revoke is what ending a grant and ending a task have in common.
func revoke(c *call, end func(context.Context, control.Caller, string, control.Grounds) (*control.Answer, error)) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	body, err := decode[client.Revocation](c)
	if err != nil {
		return nil, err
	}
	answer, err := end(c.Context(), c.caller, id, control.Grounds{Reason: body.Reason, Approval: body.Approval})
	if err != nil {
		return nil, err
	}
	return doneOf(answer)
}

func (s *server) whoami(c *call) (*reply, error) {
	return &reply{value: client.Identity{Identity: c.caller.Identity.String(), BoundTo: c.caller.BoundTo}}, nil
}

func (s *server) away(c *call) (*reply, error) {
	body, err := decode[client.Absence](c, "until")
	if err != nil {
		return nil, err
	}
	away, err := s.Control.SetAway(c.Context(), c.caller, body.Until)
	if err != nil {
		return nil, err
	}
	return &reply{value: client.Away{Until: away.Until, Substitute: nameOf(away.Substitute), Evidence: client.Evidence{Index: away.Evidence}}}, nil
}

func (s *server) why(c *call) (*reply, error) {
	query := c.URL.Query()
	subject := c.caller.Identity
	if text := query.Get("subject"); text != "" {
		var err error
		if subject, err = access.ParseRef(text); err != nil {
			return nil, fault(codeInvalidQuery, "subject: "+err.Error())
		}
	}
	var at time.Time
	if text := query.Get("at"); text != "" {
		var err error
		// A plus that was not escaped reads as a space.
		if at, err = time.Parse(time.RFC3339, strings.ReplaceAll(text, " ", "+")); err != nil {
			return nil, fault(codeInvalidQuery, "at: write a time such as 2026-03-01T12:00:00Z")
		}
	}
	held, err := s.Control.Why(c.Context(), c.caller, subject, at)
	if err != nil {
		return nil, err
	}
	out := client.Access{Subject: subject.String(), At: at, Access: []client.HeldRight{}}
	for i := range held {
		h := &held[i]
		right := client.HeldRight{
			Grant: grantViewOf(&h.Grant), TaskType: h.Task.Type, Purpose: h.Purpose.Words, Reference: h.Purpose.Reference,
			Decision: h.By.ID, EndedAt: h.EndedAt,
		}
		for i := range right.Grant.Chain {
			right.Grant.Chain[i].Decision = h.Above[i].ID
		}
		for i := range h.LentTo {
			right.LentTo = append(right.LentTo, linkOf(&h.LentTo[i]))
		}
		if subject != c.caller.Identity { // the account names policies and risk factors: not for the subject itself
			right.Account = accountOf(&h.By.Full)
			for i := range right.Grant.Chain {
				right.Grant.Chain[i].Account = accountOf(&h.Above[i].Full)
			}
		}
		out.Access = append(out.Access, right)
	}
	return &reply{value: out}, nil
}
