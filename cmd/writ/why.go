package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/writ-project/writ/client"
)

type whyCommand struct {
	Subject string    `arg:"" help:"Such as 'Agent::\"support-bot\"'."`
	At      time.Time `help:"At this time instead of now (RFC 3339)." placeholder:"TIME"`
}

func (c *whyCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		access, err := w.Access(ctx, c.Subject, c.At)
		if err != nil {
			return err
		}
		if e.global.JSON {
			return e.json(access)
		}
		when := "now"
		if !c.At.IsZero() {
			when = "at " + clock(c.At)
		}
		if len(access.Access) == 0 {
			fmt.Fprintf(e.out, "%s has no access %s.\n", plain(c.Subject), when)
			return nil
		}
		for i := range access.Access {
			if err := showRight(e, &access.Access[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func showRight(e *environment, held *client.HeldRight) error {
	g := &held.Grant
	rows := [][]string{
		{"may", short(g.Action) + " on " + g.Resource + " " + string(g.Args)},
		{"from", clock(g.GrantedAt) + " to " + clock(g.ExpiresAt)},
		{"task", g.Task + " (" + held.TaskType + ")"},
	}
	if held.Purpose != "" {
		rows = append(rows, []string{"it says", "“" + held.Purpose + "” " + held.Reference})
	}
	if held.Account != nil {
		names := make([]string, 0, len(held.Account.Policies))
		for _, p := range held.Account.Policies {
			names = append(names, p.ID+" of "+p.Owner)
		}
		rows = append(rows, []string{"because of", strings.Join(names, ", ")})
	}
	decision := held.Decision
	if g.Evidence != nil {
		decision += fmt.Sprintf(", evidence entry %d", g.Evidence.Index)
	}
	rows = append(rows, []string{"decision", decision}, []string{"grant", g.ID}, []string{""})
	return table(e.out, nil, rows)
}
