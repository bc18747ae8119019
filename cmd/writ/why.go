package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access"
)

type whyCommand struct {
	Subject string    `arg:"" help:"Such as 'Agent::\"support-bot\"'."`
	At      time.Time `help:"At this time instead of now (RFC 3339)." placeholder:"TIME"`
}

func (c *whyCommand) Run(e *environment) error {
	if _, err := access.ParseRef(c.Subject); err != nil {
		return &exitError{exitUsage, err}
	}
	return e.call(func(ctx context.Context, w *client.Client) error {
		held, err := w.Access(ctx, c.Subject, c.At)
		if err != nil {
			return err
		}
		if e.global.JSON {
			return e.json(held)
		}
		when := "now"
		if !c.At.IsZero() {
			when = "at " + clock(c.At)
		}
		if len(held.Access) == 0 {
			fmt.Fprintf(e.out, "%s has no access %s.\n", plain(c.Subject), when)
			return nil
		}
		for i := range held.Access {
			if err := showRight(e, &held.Access[i]); err != nil {
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
		{may, strings.TrimSpace(short(g.Action) + " on " + g.Resource + " " + string(g.Args) + string(g.Constraints))},
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
	rows = append(rows, chain(g)...)
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

// chain draws the way that a right came, from its holder to the root, and says of each link what it was and which decision made it.
// A right of one's own that was only narrowed was lent by nobody.
func chain(g *client.Grant) (rows [][]string) {
	if len(g.Chain) == 0 {
		return nil
	}
	way, holder := g.Subject, g.Subject
	for i := range g.Chain {
		l := &g.Chain[i]
		from := "lent by"
		if l.Holder == holder {
			from = "narrowed"
		} else {
			way += " ◀─ " + l.Holder
		}
		holder = l.Holder
		text := l.Holder
		if what := string(l.Args) + string(l.Constraints); what != "" {
			text += ", who had " + what
		}
		if l.Account != nil {
			text += ", because of " + policiesOf(l.Account)
		}
		rows = append(rows, []string{from, fmt.Sprintf("%s; decision %s, evidence entry %d", text, l.Decision, l.Evidence.Index)})
	}
	return append([][]string{{"chain", way}}, rows...)
}
