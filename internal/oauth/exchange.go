package oauth

import (
	"cmp"
	"context"
	"errors"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// exchange is RFC 8693. The subject token is a person's, and access is asked for on their behalf; or it is a grant that the client
// holds, and part of it is lent to the actor, kept as a narrower grant, or had once more as a credential.
func (e *Endpoint) exchange(ctx context.Context, client Client, f form) (any, error) {
	subject, kind := f["subject_token"], f["subject_token_type"]
	switch {
	case subject == "":
		return nil, missing("subject_token")
	case kind == "":
		return nil, missing("subject_token_type")
	case (f["actor_token"] == "") != (f["actor_token_type"] == ""):
		return nil, malformed("actor_token and actor_token_type go together")
	}
	a, err := parseAsked(f)
	if err != nil {
		return nil, err
	}
	actor, err := e.actor(ctx, f)
	if err != nil {
		return nil, err
	}
	switch kind {
	case TypeGrant:
		held, err := e.held(ctx, client, subject)
		if err != nil {
			return nil, err
		}
		return e.exchangeGrant(ctx, client, f, held, actor, a)
	case typeAccessToken:
		known, err := e.Control.Introspect(ctx, client.Caller, subject)
		if err != nil {
			return nil, err
		}
		if known == nil { // nothing of ours that is good now
			break
		}
		if known.BoundTo != "" && known.BoundTo != client.BoundTo {
			return nil, &fault{err: invalidToken, code: codeSubject, detail: "the subject token is bound to a key or certificate: prove that very one in this call"}
		}
		held, err := e.held(ctx, client, known.Grant)
		if err != nil {
			return nil, err
		}
		return e.exchangeGrant(ctx, client, f, held, actor, a)
	case typeIDToken, typeJWT:
	default:
		return nil, malformed("this subject_token_type is not supported: send a token of a person, an access token of this server, or a grant")
	}
	return e.exchangePerson(ctx, client, f, actor, a)
}

// actor is the identity that the actor token is of; zero if there is none.
func (e *Endpoint) actor(ctx context.Context, f form) (access.Ref, error) {
	switch f["actor_token_type"] {
	case "":
		return access.Ref{}, nil
	case typeIdentity:
		actor, err := access.ParseRef(f["actor_token"])
		if err != nil || !actor.IsIdentity() {
			return access.Ref{}, malformed(`the actor_token must be an identity, such as Agent::"refund-bot"`)
		}
		return actor, nil
	case typeAccessToken, typeIDToken, typeJWT:
	default:
		return access.Ref{}, malformed("this actor_token_type is not supported: name the identity, or send a JWT of it")
	}
	actor, err := e.Actor(ctx, f["actor_token"])
	if err != nil {
		return access.Ref{}, &tokenFault{code: codeActor, err: err}
	}
	return actor, nil
}

// exchangePerson asks for access on behalf of the person whose token the client was handed.
func (e *Endpoint) exchangePerson(ctx context.Context, client Client, f form, actor access.Ref, a *asked) (any, error) {
	if !actor.IsZero() && actor != client.Identity {
		return nil, &fault{err: invalidToken, code: codeActor, detail: "who acts for a person authenticates itself: the actor token must be the client's own, or left out"}
	}
	principal, err := e.Principal(ctx, f["subject_token"], client.Identity)
	if err != nil {
		also := ""
		if f["subject_token_type"] == typeAccessToken {
			also = "it is no token of this server that is good now and this client's, nor a person's: "
		}
		return nil, &tokenFault{code: codeSubject, also: also, err: err}
	}
	if err := a.whole(); err != nil {
		return nil, err
	}
	if err := wants(f, a.Mode == access.Delegate); err != nil {
		return nil, err
	}
	return e.ask(ctx, client, a, principal)
}

// held is a grant that the client holds.
func (e *Endpoint) held(ctx context.Context, client Client, id string) (*access.Grant, error) {
	absent := &fault{err: invalidToken, code: codeSubject, detail: "the subject token is no grant of this client"}
	if !access.ValidID(id) {
		return nil, absent
	}
	grant, err := e.Control.Held(ctx, client.Caller, id)
	var bad *control.Invalid
	if errors.As(err, &bad) || err == nil && grant.Subject != client.Identity { // whoever lent it does not hold it
		return nil, absent
	}
	return grant, err
}

// exchangeGrant makes something of a grant that the client holds.
func (e *Endpoint) exchangeGrant(ctx context.Context, client Client, f form, held *access.Grant, actor access.Ref, a *asked) (any, error) {
	lends := !actor.IsZero() || a != nil && cmp.Or(a.Mode, held.Mode) == access.Delegate
	if err := wants(f, lends); err != nil {
		return nil, err
	}
	if a == nil && actor.IsZero() {
		if err := e.checkTarget(ctx, held.Resource, f["resource"]); err != nil {
			return nil, err
		}
		answer, err := e.Control.IssueCredential(ctx, client.Caller, held.ID)
		if err != nil {
			return nil, err
		}
		return answerOf(answer)
	}
	if a == nil {
		a = &asked{target: f["resource"]}
	}
	if a.open != nil || a.Task != "" && a.Task != held.Task || a.Parent != "" && a.Parent != held.ID {
		return nil, malformed("what is under a grant is of its task: leave out task, open and parent")
	}
	if err := e.checkTarget(ctx, cmp.Or(a.Resource, held.Resource), a.target); err != nil {
		return nil, err
	}
	if !actor.IsZero() {
		return e.lend(ctx, client, held, actor, a)
	}
	return e.narrow(ctx, client, held, a)
}

// lend passes part of the grant on to the actor, who fetches the credential itself: it is bound to what they prove.
func (e *Endpoint) lend(ctx context.Context, client Client, held *access.Grant, actor access.Ref, a *asked) (any, error) {
	answer, err := e.Control.Delegate(ctx, client.Caller, held.ID, control.Delegation{
		To: actor, Action: a.Action, Resource: a.Resource, Args: a.Args, Constraints: a.Constraints, TTL: a.TTL, MaxUses: a.MaxUses, Mode: a.Mode, Hops: a.Hops,
	})
	if err != nil {
		return nil, err
	}
	return answerOf(answer)
}

// narrow asks for a grant of the client's own under the one that it holds. What it does not say is as in that.
func (e *Endpoint) narrow(ctx context.Context, client Client, held *access.Grant, a *asked) (any, error) {
	a.Task, a.Parent = held.Task, held.ID
	a.Action, a.Resource, a.Mode = cmp.Or(a.Action, held.Action), cmp.Or(a.Resource, held.Resource), cmp.Or(a.Mode, held.Mode)
	if a.Args == nil && a.Constraints == nil { // an empty object is not nothing: it is no arguments
		a.Args = held.Args
		if a.Mode == access.Delegate {
			a.Constraints = held.Constraints
		}
	}
	answer, err := e.Control.Request(ctx, client.Caller, a.Ask)
	if err != nil {
		return nil, err
	}
	return answerOf(answer)
}

// wants refuses a wish for another type of token than what comes: a right to lend, or one that is lent, is named by its id.
func wants(f form, grant bool) error {
	switch wanted := f["requested_token_type"]; {
	case wanted == "", wanted == typeAccessToken && !grant, wanted == TypeGrant && grant:
		return nil
	case grant:
		return malformed("what this gives is a grant: leave requested_token_type out, or ask for " + TypeGrant)
	default:
		return malformed("what this gives is an access token: leave requested_token_type out, or ask for " + typeAccessToken)
	}
}
