package api

import (
	"net/http"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// id is an id in the path.
func (c *call) id() (string, error) {
	id := c.PathValue("id")
	if !access.ValidID(id) {
		return "", notFound("there is nothing with this id")
	}
	return id, nil
}

func (s *server) openTask(c *call) (*reply, error) {
	body, err := decode[client.OpenTask](c, "type", "purpose")
	if err != nil {
		return nil, err
	}
	opening := control.Opening{
		Type: body.Type, Purpose: body.Purpose, Reference: body.Reference, Trace: access.TraceOf(c.Header.Values("Traceparent")), Duration: access.Seconds(body.TTL), Idempotency: c.key,
	}
	if body.PrincipalToken != "" {
		if s.Principal == nil {
			return nil, badArgument("principal_token: no issuer is configured whose tokens show whom an agent works for")
		}
		if opening.Principal, err = s.Principal(c.Context(), body.PrincipalToken, c.caller.Identity); err != nil {
			return nil, err
		}
	}
	answer, err := s.Control.OpenTask(c.Context(), c.caller, opening)
	if err != nil {
		return nil, err
	}
	return opened(c, answer)
}

// opened answers with the task that a decision opened: 201, or the decision's 202 or refusal.
func opened(c *call, answer *control.Answer) (*reply, error) {
	out, err := outcomeOf(answer)
	if err != nil || out.status != 0 {
		return out, err
	}
	if answer.Task != nil {
		out.status = http.StatusCreated
		c.header().Set("Location", "/v1/tasks/"+answer.Task.ID)
	}
	return out, nil
}

func (s *server) readTask(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	view, err := s.Control.ReadTask(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	task := taskOf(&view.Task)
	task.Purpose, task.Reference, task.Grants, task.Entries = view.Purpose.Words, view.Purpose.Reference, view.Grants, view.Entries
	return &reply{value: task}, nil
}

func (s *server) heartbeat(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	task, err := s.Control.Heartbeat(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	return &reply{value: taskOf(task)}, nil
}

func (s *server) completeTask(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	answer, err := s.Control.CompleteTask(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	return doneOf(answer)
}

func (s *server) pauseTask(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	answer, err := s.Control.PauseTask(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	return doneOf(answer)
}

func (s *server) resumeTask(c *call) (*reply, error) {
	id, err := c.id()
	if err != nil {
		return nil, err
	}
	answer, err := s.Control.ResumeTask(c.Context(), c.caller, id)
	if err != nil {
		return nil, err
	}
	return outcomeOf(answer)
}

func (s *server) revokeTask(c *call) (*reply, error) { return revoke(c, s.Control.RevokeTask) }
