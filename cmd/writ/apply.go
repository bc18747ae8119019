package main

import (
	"context"
	"fmt"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/app"
)

type applyCommand struct {
	Folder   string            `arg:"" help:"Folder with catalog/ and policy/." default:"." type:"path"`
	DryRun   bool              `help:"Only show what would change."`
	Approval map[string]string `help:"Approval that speaks for an act, where policy asked for one: apply_catalog=ID, activate_policy=ID." placeholder:"ACT=ID"`
}

func (c *applyCommand) Run(e *environment) error {
	read, err := app.ReadSite(c.Folder)
	if err != nil {
		return err
	}
	files := make(map[string]string, len(read))
	for path, content := range read {
		files[path] = string(content)
	}
	return e.call(func(ctx context.Context, w *client.Client) error {
		applied, err := w.Apply(ctx, client.Configuration{Files: files, Approvals: c.Approval, DryRun: c.DryRun})
		if err != nil {
			return err
		}
		if e.global.JSON {
			return e.json(applied)
		}
		for _, change := range applied.Changes {
			fmt.Fprintln(e.out, plain(change))
		}
		if applied.Former != "" {
			fmt.Fprintf(e.out, "~ policy %s → %s\n", applied.Former, applied.Bundle)
		}
		for _, decision := range applied.Decisions {
			if decision.Approval != nil {
				fmt.Fprintf(e.out, "A person must approve first: %s\n", decision.Approval.ID)
				return &exitError{code: exitWaiting}
			}
		}
		switch {
		case len(applied.Changes) == 0 && applied.Former == "":
			fmt.Fprintln(e.out, "Nothing changes.")
		case c.DryRun:
			fmt.Fprintln(e.out, "Nothing was changed: this was a dry run.")
		default:
			fmt.Fprintln(e.out, "Applied.")
		}
		return nil
	})
}
