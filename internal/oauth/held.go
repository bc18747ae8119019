package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// Introspect is RFC 7662: what a token says, if it is good now and the client may know; else that it is not active, and nothing more.
func (e *Endpoint) Introspect(ctx context.Context, r *http.Request, body []byte) Reply {
	return e.serve(ctx, r, body, func(ctx context.Context, client Client, f form) (any, error) {
		if f["token"] == "" {
			return nil, missing("token")
		}
		known, err := e.Control.Introspect(ctx, client.Caller, f["token"])
		if err != nil {
			return nil, err
		}
		if known == nil {
			return map[string]bool{"active": false}, nil
		}
		return introspection(known)
	})
}

// introspection is the token's own claims and what RFC 7662 section 2.2 says besides.
func introspection(known *control.Recognized) (map[string]any, error) {
	var out map[string]any
	var said struct {
		Details []struct {
			Action string `json:"action"`
		} `json:"authorization_details"`
	}
	if err := errors.Join(json.Unmarshal(known.Claims, &out), json.Unmarshal(known.Claims, &said)); err != nil {
		return nil, fmt.Errorf("a token of ours: %w", err)
	}
	out["active"], out["token_type"] = true, "Bearer"
	if key, _ := control.Binding(known.BoundTo); key != "" {
		out["token_type"] = "DPoP"
	}
	if len(said.Details) == 1 {
		if action, err := access.ParseRef(said.Details[0].Action); err == nil {
			out["scope"] = action.ID
		}
	}
	return out, nil
}

// revoked is the answer to a revocation: empty if there was nothing to do.
type revoked struct {
	Evidence *evidence `json:"evidence,omitempty"`
}

// Revoke is RFC 7009: the grant that a token is of ends, and all below it, if the client holds it or lent it. A token that is
// unknown, over, or somebody else's gets the same status, and nothing happens. A grant is named by its id and the hint TypeGrant, a task
// by its id and TypeTask.
func (e *Endpoint) Revoke(ctx context.Context, r *http.Request, body []byte) Reply {
	return e.serve(ctx, r, body, func(ctx context.Context, client Client, f form) (any, error) {
		id := f["token"]
		if id == "" {
			return nil, missing("token")
		}
		if f["token_type_hint"] == TypeTask {
			return e.complete(ctx, client, id)
		}
		if f["token_type_hint"] != TypeGrant {
			var err error
			if id, err = e.Control.GrantOf(ctx, id); err != nil {
				return nil, err
			}
		}
		if !access.ValidID(id) {
			return revoked{}, nil
		}
		answer, err := e.revoke(ctx, client, id)
		var bad *control.Invalid
		var over *control.Refusal
		switch {
		case errors.As(err, &bad) && bad.Kind == control.NotYours, errors.As(err, &over) && over.Code == access.CodeTaskEnded:
			return revoked{}, nil
		case err != nil:
			return nil, err
		case answer.Evidence == 0: // entry 0 is the log's first: nothing was left to do
			return revoked{}, nil
		}
		return revoked{Evidence: &evidence{answer.Evidence}}, nil
	})
}

// complete ends a task of the client, and all that was granted for it. A task that is over, or none of the client's, gets the same
// status, and nothing happens.
func (e *Endpoint) complete(ctx context.Context, client Client, id string) (any, error) {
	if !access.ValidID(id) {
		return revoked{}, nil
	}
	answer, err := e.Control.CompleteTask(ctx, client.Caller, id)
	var bad *control.Invalid
	var over *control.Refusal
	switch {
	case errors.As(err, &bad) && bad.Kind == control.NotYours, errors.As(err, &over), err == nil && answer.Repeated:
		return revoked{}, nil
	case err != nil:
		return nil, err
	}
	return revoked{Evidence: &evidence{answer.Evidence}}, nil
}

// revoke ends what the client holds or lent: its own right, so nothing is decided.
func (e *Endpoint) revoke(ctx context.Context, client Client, id string) (*control.Answer, error) {
	if _, err := e.Control.Held(ctx, client.Caller, id); err != nil {
		return nil, err
	}
	return e.Control.RevokeGrant(ctx, client.Caller, id, control.Grounds{})
}
