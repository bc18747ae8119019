package main

import (
	"context"

	"github.com/writ-project/writ/client"
)

type revokeCommand struct {
	Grant    revokeGrantCommand    `cmd:"" help:"End a grant and everything below it."`
	Task     revokeTaskCommand     `cmd:"" help:"End a task and everything granted for it."`
	Identity revokeIdentityCommand `cmd:"" help:"Suspend an identity: everything it has is over."`
}

type identityCommand struct {
	Resume resumeIdentityCommand `cmd:"" help:"Make a suspended identity active again."`
}

type revocation struct {
	ID       string `arg:"" help:"Id."`
	Reason   string `help:"Why, for the record."`
	Approval string `help:"Approval that speaks for it, where policy asked for one before." placeholder:"ID"`
}

type revokeGrantCommand struct{ revocation }

func (c *revokeGrantCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		done, err := w.RevokeGrant(ctx, c.ID, client.Revocation{Reason: c.Reason, Approval: c.Approval})
		return acknowledge(e, done, err, "The grant is over.")
	})
}

type revokeTaskCommand struct{ revocation }

func (c *revokeTaskCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		done, err := w.RevokeTask(ctx, c.ID, client.Revocation{Reason: c.Reason, Approval: c.Approval})
		return acknowledge(e, done, err, "The task is over, and everything granted for it.")
	})
}

type identityChange struct {
	Identity string `arg:"" help:"Such as 'Agent::\"support-bot\"'."`
	Reason   string `help:"Why, for the record."`
	Approval string `help:"Approval that speaks for it, where policy asked for one before." placeholder:"ID"`
}

type revokeIdentityCommand struct{ identityChange }

func (c *revokeIdentityCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		done, err := w.SuspendIdentity(ctx, client.StatusChange{Identity: c.Identity, Reason: c.Reason, Approval: c.Approval})
		return acknowledge(e, done, err, "Suspended. Everything it has is over.")
	})
}

type resumeIdentityCommand struct{ identityChange }

func (c *resumeIdentityCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		done, err := w.ResumeIdentity(ctx, client.StatusChange{Identity: c.Identity, Reason: c.Reason, Approval: c.Approval})
		return acknowledge(e, done, err, "Active again. What it had before stays over.")
	})
}
