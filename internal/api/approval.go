package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

func (s *server) approvals(c *call) (*reply, error) {
	all := c.URL.Query().Get("all")
	if all != "" && all != "true" {
		return nil, fault(codeInvalidQuery, "all: true, or leave it out")
	}
	inbox, err := s.Control.Inbox(c.Context(), c.caller, all == "true")
	if err != nil {
		return nil, err
	}
	out := client.Approvals{Approvals: []client.Approval{}, Total: inbox.Total}
	for i := range inbox.Cards {
		out.Approvals = append(out.Approvals, *cardOf(&inbox.Cards[i], c.caller.Identity))
	}
	return &reply{value: out}, nil
}

func (s *server) readApproval(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	wait, err := waitOf(c.URL.Query().Get("wait"))
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		if err := s.waiting.enter(c.caller.Identity); err != nil {
			return nil, err
		}
		defer s.waiting.leave(c.caller.Identity)
	}
	card, err := s.awaitApproval(c, id, wait)
	if err != nil {
		return nil, err
	}
	return &reply{value: cardOf(card, c.caller.Identity)}, nil
}

// awaitApproval reads a question, and waits for a change of it no longer than the process serves.
func (s *server) awaitApproval(c *call, id string, wait time.Duration) (*control.Card, error) {
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	defer context.AfterFunc(s.Stopping, cancel)()
	card, err := s.Control.ReadApproval(ctx, c.caller, id, wait)
	if s.Stopping.Err() != nil {
		return s.Control.ReadApproval(c.Context(), c.caller, id, 0) // as it stands: the wait was cut short, perhaps while reading
	}
	return card, err
}

// waitOf reads a duration such as 30s, or seconds.
func waitOf(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if n, plain := strconv.Atoi(text); plain == nil && n <= int(maxWait/time.Second) {
		wait, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || wait < 0 || wait > maxWait {
		return 0, fault(codeInvalidQuery, "wait: write a duration of 0s to 60s, such as 30s")
	}
	return wait, nil
}

func (s *server) answerApproval(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	body, err := decode[client.Reply](c, "approve") // left out, it would read as a no
	if err != nil {
		return nil, err
	}
	answered, err := s.Control.AnswerApproval(c.Context(), c.caller, id, control.Reply{
		Approve: body.Approve, TTL: access.Seconds(body.TTL), MaxUses: body.MaxUses, Reason: body.Reason, Card: body.Card,
		Counter: counterAsked(body.Counter), Surface: control.SurfaceAPI,
	})
	if err != nil {
		return nil, err
	}
	out := approvalOf(&answered.Approval)
	out.Answers = answersOf(answered.Approval.Answers)
	out.Evidence = &client.Evidence{Index: answered.Evidence}
	if now := answered.Outlook; now != nil {
		out.Outlook = &client.Outlook{Outcome: string(now.Outcome), Code: string(now.Code), Account: accountOf(now)}
	}
	return &reply{value: out}, nil
}

func (s *server) comment(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	body, err := decode[client.NewComment](c, "text")
	if err != nil {
		return nil, err
	}
	index, err := s.Control.Comment(c.Context(), c.caller, id, body.Text)
	if err != nil {
		return nil, err
	}
	return &reply{value: client.Done{Evidence: &client.Evidence{Index: index}}}, nil
}

func (s *server) redeem(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	answer, err := s.Control.Redeem(c.Context(), c.caller, id, c.key)
	if err != nil {
		return nil, err
	}
	return opened(c, answer)
}

// outcomeOf turns a decision into 200, 202 or its refusal.
func outcomeOf(answer *control.Answer) (*reply, error) {
	if answer.Decided.Outcome == access.Deny {
		return nil, answer.Refusal()
	}
	out := outcome(answer)
	if answer.Decided.Outcome == access.NeedsApproval {
		return &reply{status: http.StatusAccepted, value: out}, nil
	}
	return &reply{value: out}, nil
}

// doneOf acknowledges an act: with a decision, where there was one.
func doneOf(answer *control.Answer) (*reply, error) {
	if answer.Decided.Outcome == access.Deny {
		return nil, answer.Refusal()
	}
	out := client.Done{}
	if answer.ID != "" {
		decision := decisionOf(answer)
		out.Decision = &decision
	}
	if answer.Evidence > 0 { // entry 0 is the log's first, so 0 says that nothing was left to do
		out.Evidence = &client.Evidence{Index: answer.Evidence}
	}
	if answer.Task != nil {
		task := taskOf(answer.Task)
		out.Task = &task
	}
	if answer.Decided.Outcome == access.NeedsApproval {
		out.Approval = approvalOf(answer.Approval)
		return &reply{status: http.StatusAccepted, value: out}, nil
	}
	return &reply{value: out}, nil
}
