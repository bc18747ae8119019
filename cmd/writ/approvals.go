package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/writ-project/writ/client"
)

type approvalsCommand struct {
	ID string `arg:"" optional:"" help:"Show this question whole."`
}

func (c *approvalsCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		if c.ID != "" {
			approval, err := w.Approval(ctx, c.ID)
			if err != nil {
				return err
			}
			if e.global.JSON {
				return e.json(approval)
			}
			return showCard(e, approval)
		}
		list, err := w.Approvals(ctx)
		if err != nil {
			return err
		}
		if e.global.JSON {
			return e.json(list)
		}
		if len(list) == 0 {
			fmt.Fprintln(e.out, "Nothing waits for you.")
			return nil
		}
		rows := make([][]string, 0, len(list))
		for _, a := range list {
			rows = append(rows, []string{a.ID, a.Subject, what(&a), fmt.Sprint(a.Account.Risk.Score), time.Until(a.ExpiresAt).Round(time.Minute).String()})
		}
		return table(e.out, []string{"QUESTION", "WHO ASKS", "WHAT", "RISK", "OPEN FOR"}, rows)
	})
}

func what(a *client.Approval) string {
	if a.Request == nil {
		return "(erased)"
	}
	text := short(a.Request.Action) + " " + a.Request.Resource
	if len(a.Request.Args) > 0 {
		text += " " + string(a.Request.Args)
	}
	return text
}

// short is an action without its type, where that is the usual one.
func short(action string) string {
	if name, ok := strings.CutPrefix(action, `Action::"`); ok {
		return strings.TrimSuffix(name, `"`)
	}
	return action
}

// showCard shows what a person needs to judge.
func showCard(e *environment, a *client.Approval) error {
	rows := [][]string{{"question", a.ID + " (" + a.Status + ", open until " + clock(a.ExpiresAt) + ")"}, {"who asks", a.Subject}}
	if a.Request != nil {
		if a.Request.Principal != "" {
			rows = append(rows, []string{"for", a.Request.Principal})
		}
		rows = append(rows, []string{"what", short(a.Request.Action) + " on " + a.Request.Resource})
		if len(a.Request.Args) > 0 {
			rows = append(rows, []string{"exactly", string(a.Request.Args)})
		}
	}
	if a.Purpose != "" {
		rows = append(rows, []string{"it says", "“" + a.Purpose + "” " + a.Reference})
	}
	if a.Account != nil {
		for _, r := range a.Account.Requires {
			rows = append(rows, []string{"why you", r.Because + " (" + r.Policy + ", " + r.Form + ")"})
		}
		for _, f := range a.Account.Risk.Factors {
			rows = append(rows, []string{"risk", fmt.Sprintf("%d  %s", f.Points, f.Because)})
		}
	}
	if p := a.Precedent; p != nil {
		rows = append(rows, []string{"before", fmt.Sprintf("the like was approved %d times, denied %d times", p.Approvals, p.Denials)})
	}
	for _, answer := range a.Answers {
		said := "no"
		if answer.Approve {
			said = "yes"
		}
		rows = append(rows, []string{"answer", answer.By + ": " + said})
	}
	if err := table(e.out, nil, rows); err != nil || !a.MayAnswer {
		return err
	}
	fmt.Fprintf(e.out, "\nwrit approve %[1]s   or   writ deny %[1]s --reason …\n", a.ID)
	return nil
}

type approveCommand struct {
	ID     string        `arg:"" help:"Id of the question."`
	For    time.Duration `help:"Shorter than was asked." placeholder:"2m"`
	Uses   int64         `help:"Fewer uses than was asked."`
	Reason string        `help:"Why, for the record."`
}

func (c *approveCommand) Run(e *environment) error {
	seconds, err := whole("--for", c.For)
	if err != nil {
		return err
	}
	return reply(e, c.ID, client.Reply{Approve: true, TTL: seconds, MaxUses: c.Uses, Reason: c.Reason})
}

type denyCommand struct {
	ID     string `arg:"" help:"Id of the question."`
	Reason string `help:"Why, for the record."`
}

func (c *denyCommand) Run(e *environment) error {
	return reply(e, c.ID, client.Reply{Reason: c.Reason})
}

func reply(e *environment, id string, answer client.Reply) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		approval, err := w.AnswerApproval(ctx, id, answer)
		if err != nil {
			return err
		}
		if e.global.JSON {
			return e.json(approval)
		}
		fmt.Fprintf(e.out, "On record. The question is %s.\n", approval.Status)
		return nil
	})
}
