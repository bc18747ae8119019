package main

import (
	"context"

	"github.com/writ-project/writ/client"
)

type revokeCommand struct {
	Grant    revokeGrantCommand     `cmd:"" help:"End a grant and everything below it."`
	Task     revokeTaskCommand      `cmd:"" help:"End a task and everything granted for it."`
	Identity suspendIdentityCommand `cmd:"" help:"Suspend an identity: everything it has is over."`
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
