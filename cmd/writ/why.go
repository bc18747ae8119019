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
	may := "may"
	if g.Mode == "delegate" {
		may = "may lend"
	}
	rows := [][]string{
		{may, short(g.Action) + " on " + g.Resource + " " + string(g.Args) + string(g.Constraints)},
		{"from", clock(g.GrantedAt) + " to " + clock(g.ExpiresAt)},
		{"task", g.Task + " (" + held.TaskType + ")"},
	}
	if g.Principal != "" {
		rows = append(rows, []string{"for", g.Principal})
	}
	if held.Purpose != "" {
		rows = append(rows, []string{"it says", "“" + held.Purpose + "” " + held.Reference})
	}
	if held.Account != nil {
		rows = append(rows, []string{"because of", policiesOf(held.Account)})
	}
	for i := range g.Chain {
		rows = append(rows, []string{"lent by", lender(&g.Chain[i])})
	}
	for i := range held.LentTo {
		to := &held.LentTo[i]
		rows = append(rows, []string{"lent to", to.Holder + ", to " + verb(to.Mode) + ", until " + clock(to.ExpiresAt) + "; grant " + to.Grant})
	}
	decision := held.Decision
	if g.Evidence != nil {
		decision += fmt.Sprintf(", evidence entry %d", g.Evidence.Index)
	}
	rows = append(rows, []string{"decision", decision}, []string{"grant", g.ID})
	if g.Trace != "" {
		rows = append(rows, []string{"trace", g.Trace})
	}
	return table(e.out, nil, append(rows, []string{""}))
}

func policiesOf(account *client.Account) string {
	names := make([]string, 0, len(account.Policies))
	for _, p := range account.Policies {
		names = append(names, p.ID+" of "+p.Owner)
	}
	return strings.Join(names, ", ")
}

// lender says who lent a right, what they held, and by which decision.
func lender(l *client.Link) string {
	text := l.Holder + ", who may " + verb(l.Mode) + " it"
	if what := string(l.Args) + string(l.Constraints); what != "" {
		text += " with " + what
	}
	if l.Account != nil {
		text += ", because of " + policiesOf(l.Account)
	}
	return text + fmt.Sprintf("; decision %s, evidence entry %d", l.Decision, l.Evidence.Index)
}
