package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	for _, link := range a.Chain {
		rows = append(rows, []string{"under", "a right of " + link.Holder + " (grant " + link.Grant + ")"})
	}
	for _, said := range a.Comments {
		rows = append(rows, []string{"comment", cmp.Or(said.By, "a person") + ": “" + said.Text + "”"})
	}
	if offer := a.Counter; offer != nil {
		rows = append(rows, []string{"instead", offered(offer)})
	}
	for _, answer := range a.Answers {
		said := "no"
		if answer.Approve {
			said = "yes"
		}
		rows = append(rows, []string{"answer", answer.By + ": " + said})
	}
	if err := table(e.out, nil, rows); err != nil || !a.MayAnswer || a.Status != client.ApprovalPending {
		return err
	}
	fmt.Fprintf(e.out, "\nwrit approve %[1]s   or   writ deny %[1]s --reason …   or ask back:   writ comment %[1]s …\n", a.ID)
	return nil
}

// offered is a counter-offer in one line.
func offered(offer *client.Counter) string {
	var parts []string
	if offer.Words != "" {
		parts = append(parts, "“"+offer.Words+"”")
	}
	if len(offer.Args) > 0 {
		parts = append(parts, string(offer.Args))
	}
	if offer.TTL > 0 {
		parts = append(parts, "for "+(time.Duration(offer.TTL)*time.Second).String())
	}
	if offer.MaxUses > 0 {
		parts = append(parts, fmt.Sprintf("%d uses", offer.MaxUses))
	}
	return strings.Join(parts, ", ")
}

type approveCommand struct {
	ID     string        `arg:"" help:"Id of the question."`
	For    time.Duration `help:"Shorter than was asked." placeholder:"2m"`
	Uses   int64         `help:"Fewer uses than was asked."`
	Reason string        `help:"Why, for the record."`
	Yes    bool          `help:"Neither show the card nor ask: you have looked at it."`
}

func (c *approveCommand) Run(e *environment) error {
	seconds, err := whole(c.For)
	if err != nil {
		return err
	}
	if e.global.JSON && !c.Yes {
		return wrong("--json asks nobody: look at the card with `writ approvals %s`, then add --yes", c.ID)
	}
	return e.call(func(ctx context.Context, w *client.Client) error {
		card, err := w.Approval(ctx, c.ID)
		if err != nil {
			return err
		}
		if !c.Yes && card.Card != "" { // else it cannot be answered, and the server says why
			if err := confirmed(e, card); err != nil {
				return err
			}
		}
		return reply(ctx, e, w, card, client.Reply{Approve: true, TTL: seconds, MaxUses: c.Uses, Reason: c.Reason})
	})
}

func wrong(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// confirmed shows a card, and wants a yes to it.
func confirmed(e *environment, card *client.Approval) error {
	if err := showCard(e, card); err != nil {
		return err
	}
	fmt.Fprint(e.out, "\nApprove exactly this? [y/N] ")
	line, _ := bufio.NewReader(io.LimitReader(e.in, 1<<10)).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	case "":
		return wrong("nothing was said, so nothing is on record: answer y, or add --yes")
	default:
		return wrong("not approved, and nothing is on record: say no with `writ deny %s`", card.ID)
	}
}

type denyCommand struct {
	ID     string `arg:"" help:"Id of the question."`
	Reason string `help:"Why, for the record."`
	// The offer.
	Instead string        `help:"What you would look at more kindly, in words for the agent."`
	Args    string        `help:"The same as arguments: the agent must ask for them itself." placeholder:"JSON"`
	For     time.Duration `help:"The same as a shorter time." placeholder:"2m"`
	Uses    int64         `help:"The same as fewer uses."`
}

func (c *denyCommand) Run(e *environment) error {
	seconds, err := whole(c.For)
	if err != nil {
		return err
	}
	answer := client.Reply{Reason: c.Reason}
	if offer := (client.Counter{Words: c.Instead, Args: json.RawMessage(c.Args), TTL: seconds, MaxUses: c.Uses}); offer.Words != "" || c.Args != "" || seconds > 0 || c.Uses > 0 {
		if c.Args != "" && !json.Valid(offer.Args) {
			return wrong("--args is not JSON")
		}
		answer.Counter = &offer
	}
	return e.call(func(ctx context.Context, w *client.Client) error {
		card, err := w.Approval(ctx, c.ID)
		if err != nil {
			return err
		}
		return reply(ctx, e, w, card, answer)
	})
}

// reply answers a card.
func reply(ctx context.Context, e *environment, w *client.Client, card *client.Approval, answer client.Reply) error {
	answer.Card = card.Card
	approval, err := w.AnswerApproval(ctx, card.ID, answer)
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(approval)
	}
	fmt.Fprintf(e.out, "On record (entry %d). The question is %s.\n", approval.Evidence.Index, approval.Status)
	if now := approval.Outlook; now != nil && now.Outcome != client.Allow {
		fmt.Fprintf(e.out, "As things are now policy would not grant it all the same: %s.\n", cmp.Or(now.Code, now.Outcome))
	}
	return nil
}

type commentCommand struct {
	ID   string `arg:"" help:"Id of the question."`
	Text string `arg:"" help:"What you want to know of whoever asks, or your reply to that."`
}

func (c *commentCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		done, err := w.CommentApproval(ctx, c.ID, c.Text)
		if err != nil {
			return err
		}
		if e.global.JSON {
			return e.json(done)
		}
		fmt.Fprintf(e.out, "On record (entry %d).\n", done.Evidence.Index)
		return nil
	})
}
