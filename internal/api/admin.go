package api

import (
	"net/http"
	"path"
	"strings"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

func (s *server) pushFacts(c *call) (*reply, error) {
	body, err := decode[client.Facts](c, "facts")
	if err != nil {
		return nil, err
	}
	told := make([]control.Told, 0, len(body.Facts))
	for i := range body.Facts {
		one, err := toldOf(&body.Facts[i])
		if err != nil {
			return nil, err
		}
		told = append(told, one)
	}
	answer, err := s.Control.PushFacts(c.Context(), c.caller, body.ObservedAt, told)
	if err != nil {
		return nil, err
	}
	return doneOf(answer)
}

func toldOf(fact *client.Fact) (control.Told, error) {
	told := control.Told{Entity: access.Entity{Attributes: fact.Attributes}, Gone: fact.Gone}
	var err error
	if told.Entity.ID, err = access.ParseRef(fact.ID); err != nil {
		return told, badArgument("facts: id: " + err.Error())
	}
	if fact.Gone && (len(fact.Attributes) > 0 || len(fact.Parents) > 0) {
		return told, badArgument(told.Entity.ID.String() + ": what is gone has no attributes and no parents")
	}
	for _, text := range fact.Parents {
		parent, err := access.ParseRef(text)
		if err != nil {
			return told, badArgument("facts: parents: " + err.Error())
		}
		told.Entity.Parents = append(told.Entity.Parents, parent)
	}
	return told, nil
}

func (s *server) apply(c *call) (*reply, error) {
	body, err := decode[client.Configuration](c, "files")
	if err != nil {
		return nil, err
	}
	files, err := configurationOf(&body)
	if err != nil {
		return nil, err
	}
	applied, err := s.Control.Apply(c.Context(), &c.caller, files, body.Approvals, body.DryRun)
	if err != nil {
		return nil, err
	}
	out := client.Applied{
		Changes: append([]string{}, applied.Changes...), Bundle: applied.Bundle, Former: applied.Former,
		Decisions: []client.Outcome{}, DryRun: applied.Dry, Applied: !applied.Dry,
	}
	status := http.StatusOK
	for _, answer := range applied.Answers {
		switch answer.Decided.Outcome {
		case access.Deny:
			return nil, answer.Refusal()
		case access.NeedsApproval:
			status, out.Applied = http.StatusAccepted, false
		case access.Allow:
		}
		out.Decisions = append(out.Decisions, outcome(answer))
	}
	return &reply{status: status, value: out}, nil
}

// configurationOf takes files below catalog/ and policy/: any other would be ignored, which nobody means.
func configurationOf(body *client.Configuration) (control.Configuration, error) {
	if len(body.Files) == 0 {
		return nil, badArgument("files: send at least one file of catalog/ or policy/")
	}
	files := make(control.Configuration, len(body.Files))
	for name, text := range body.Files {
		if path.Clean(name) != name || !strings.HasPrefix(name, "catalog/") && !strings.HasPrefix(name, "policy/") {
			return nil, badArgument("files: " + quote(name) + " is not a path below catalog/ or policy/")
		}
		files[name] = []byte(text)
	}
	for act := range body.Approvals {
		if act != access.ActApplyCatalog && act != access.ActActivatePolicy {
			return nil, badArgument("approvals: " + quote(act) + " is not apply_catalog or activate_policy")
		}
	}
	return files, nil
}
