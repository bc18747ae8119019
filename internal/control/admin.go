package control

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Grounds are what an administrative act rests on, besides the policy.
type Grounds struct {
	Reason   string // in words, for the record; may be empty
	Approval string // id of the approval that speaks for it, where policy asked for one before
}

// act is an administrative act: an action of the same policy as any other.
type act struct {
	name     string
	resource access.Ref
	digest   string // of what is applied, so that an approval covers exactly that; empty for acts without content
	approval string // id of the approval that speaks for it, if any
}

// act decides on an administrative act. Its answer is recorded whatever it is.
func (c *Control) act(v View, s *snapshot, caller Caller, a act) (*Answer, event.Change, error) {
	request := access.Request{Subject: caller.Identity, Action: access.Act(a.name), Resource: a.resource, Mode: access.Use}
	if a.digest != "" && s.bundle != nil && s.bundle.TakesArgument(request.Action, "digest") {
		request.Args = json.RawMessage(`{"digest":"` + a.digest + `"}`)
	}
	if err := s.checkRequest(&request); err != nil {
		var bad *Invalid
		if errors.As(err, &bad) && (bad.Kind == UnknownAction || bad.Kind == UnknownResource) {
			// A schema that does not know the act, or not for this kind of resource, refuses it.
			return nil, event.Change{}, &Refusal{Code: access.CodeNotPermitted, Detail: "the policy schema does not provide for this act"}
		}
		return nil, event.Change{}, err
	}
	approval, err := c.approved(v, a.approval, &request, a.digest != "")
	if err != nil {
		return nil, event.Change{}, err
	}
	return c.decide(v, s, caller, request, approval)
}

// digestOf names the content of an act.
func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// approved loads the approval that an act names, if it covers exactly this act of this caller.
func (c *Control) approved(v View, id string, r *access.Request, hasContent bool) (*access.Approval, error) {
	if id == "" {
		return nil, nil
	}
	approval, err := v.Approval(id)
	if err != nil {
		return nil, notFound(err, "there is no approval %q", id)
	}
	before, err := v.Input(approval.Decided)
	if err != nil {
		return nil, notFound(err, "what this approval was asked for has been erased")
	}
	was := before.Request
	switch {
	case hasContent && len(r.Args) == 0:
		return nil, invalid(WrongState, "declare args: { digest: String } for %s in the policy schema, so that an approval covers exactly what is applied", r.Action)
	case was.Subject != r.Subject || was.Action != r.Action || was.Resource != r.Resource || string(was.Args) != string(r.Args):
		return nil, invalid(NotYours, "the approval %q is for something else", id)
	}
	if code := approval.Usable(v.Now()); code != "" {
		return nil, &Refusal{Code: code, Approval: id}
	}
	return &approval, nil
}
