package control

import (
	"context"

	"github.com/writ-project/writ/internal/access"
)

// Held reads a grant that the caller holds, or that it lent; one of somebody else is as absent as one that is not there. Nothing is
// decided and nothing recorded, unlike by ReadGrant. Whether the grant is alive is not looked at.
func (c *Control) Held(ctx context.Context, caller Caller, id string) (*access.Grant, error) {
	var grant access.Grant
	err := c.ledger.Read(ctx, func(v View) (err error) {
		if _, err = c.snapshot(v); err != nil {
			return err
		}
		if grant, err = v.Grant(id); err != nil {
			return notFound(err, "there is no grant %q of this identity", id)
		}
		chain, err := chainOf(v, grant.Parent)
		if err == nil && grant.Subject != caller.Identity && !access.HoldsAny(chain, caller.Identity) {
			return invalid(NotYours, "there is no grant %q of this identity", id)
		}
		return err
	})
	return &grant, err
}

// OwnTask reads a task of the caller, without its purpose.
func (c *Control) OwnTask(ctx context.Context, caller Caller, id string) (*access.Task, error) {
	var task access.Task
	err := c.ledger.Read(ctx, func(v View) (err error) {
		if _, err = c.snapshot(v); err != nil {
			return err
		}
		task, err = ownTask(v, caller, id)
		return err
	})
	return &task, err
}

// GrantOf is the grant that a credential is of, if Writ issued it and it has not expired; "" for everything else. Whose it is, and
// whether it is still good, is not said: see Introspect.
func (c *Control) GrantOf(ctx context.Context, token string) (id string, err error) {
	err = c.ledger.Read(ctx, func(v View) error {
		if known, ok := c.issuer.Recognize(token, v.Now()); ok {
			id = known.Grant
		}
		return nil
	})
	return id, err
}

// TargetOf is what credentials for a resource are for, their audience; "" where there is none.
func (c *Control) TargetOf(ctx context.Context, resource access.Ref) (target string, err error) {
	err = c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err == nil {
			target, _ = s.target(resource)
		}
		return err
	})
	return target, err
}

// Known is the identity whose claims these are. Unlike Identify, which every call comes by, it is no call of that identity: whoever
// shows somebody else's token does not use up their limits. Refusals: identity_unknown.
func (c *Control) Known(ctx context.Context, issuer, subject string, claims map[string]any) (id access.Ref, err error) {
	err = c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		identity, ok := s.index.Identify(issuer, subject, claims)
		if !ok {
			return &Refusal{Code: access.CodeIdentityUnknown}
		}
		id = identity.ID
		return nil
	})
	return id, err
}
