package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/writ-project/writ/client"
)

// patience is how long a command waits for people, and where what they agree to goes.
type patience struct {
	Wait time.Duration `help:"If a person must approve, wait so long for the answer." placeholder:"10m"`
	Out  string        `help:"File for the credential (mode 0600). Without it the credential is printed." type:"path" placeholder:"FILE"`
}

// await waits for people if they must agree and time was given for it, and then asks again with their answer.
func (p *patience) await(ctx context.Context, e *environment, w *client.Client, outcome *client.Outcome) (*client.Outcome, error) {
	if outcome.Approval == nil || outcome.Grant != nil || outcome.Task != nil || p.Wait <= 0 {
		return outcome, nil
	}
	return p.redeem(ctx, e, w, outcome.Approval.ID)
}

func (p *patience) redeem(ctx context.Context, e *environment, w *client.Client, id string) (*client.Outcome, error) {
	if p.Wait > 0 {
		fmt.Fprintf(e.err, "A person must approve %s. Waiting up to %s …\n", plain(id), p.Wait)
		waiting, cancel := context.WithTimeout(ctx, p.Wait)
		defer cancel()
		approval, err := w.WaitApproval(waiting, id)
		switch {
		case err != nil && waiting.Err() != nil && ctx.Err() == nil:
			return nil, &exitError{exitWaiting, fmt.Errorf("nobody has answered yet; the question stays open\n  next: writ redeem %s --wait 10m", plain(id))}
		case err != nil:
			return nil, err
		}
		fmt.Fprintf(e.err, "%s\n", approval.Status)
	}
	return w.RedeemApproval(ctx, id)
}

// show prints what a decision gave: the credential, or else the id of the grant or task that the next command wants.
func (p *patience) show(e *environment, outcome *client.Outcome) error {
	if err := keep(outcome.Credential, p.Out); err != nil {
		return err
	}
	switch g := outcome.Grant; {
	case e.global.JSON:
		return e.json(outcome)
	case g != nil:
		fmt.Fprintf(e.err, "%s may %s %s on %s until %s; grant %s, evidence entry %d\n", plain(g.Subject), verb(g.Mode), short(g.Action), plain(g.Resource),
			clock(g.ExpiresAt), g.ID, outcome.Evidence.Index)
		if outcome.Credential != nil {
			fmt.Fprintln(e.out, outcome.Credential.Token)
			return nil
		}
		fmt.Fprintln(e.out, g.ID)
		return nil
	case outcome.Task != nil:
		fmt.Fprintln(e.out, outcome.Task.ID)
		fmt.Fprintf(e.err, "open until %s\n", clock(outcome.Task.ExpiresAt))
		return nil
	case outcome.Approval == nil:
		return errors.New("the server answered neither with a grant nor with a question")
	}
	fmt.Fprintf(e.err, "A person must approve first. The question is open until %s.\n  next: writ redeem %s --wait 10m\n", clock(outcome.Approval.ExpiresAt), outcome.Approval.ID)
	fmt.Fprintln(e.out, outcome.Approval.ID)
	return &exitError{code: exitWaiting}
}

// keep writes a credential to a file, if one is named, so that it is not shown.
func keep(credential *client.Credential, file string) error {
	if file == "" || credential == nil {
		return nil
	}
	if err := os.WriteFile(file, []byte(credential.Token), 0o600); err != nil {
		return err
	}
	credential.Token = "in " + file
	return nil
}

type redeemCommand struct {
	ID string `arg:"" help:"Id of the question."`
	patience
}

// Help says what happens then.
func (*redeemCommand) Help() string {
	return "Policy decides again with the facts of this moment; the yes counts once, for exactly what was asked. What was asked for a task opens it, " +
		"what was asked for somebody else is theirs."
}

func (c *redeemCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		outcome, err := c.redeem(ctx, e, w, c.ID)
		if err != nil {
			return err
		}
		return c.show(e, outcome)
	})
}

// whole is a duration in seconds, as the server takes it. What it cannot say is no duration, and never more than was meant.
func whole(d time.Duration) (int64, error) {
	if d < 0 || d%time.Second != 0 {
		return 0, &exitError{exitUsage, errors.New("--for: write whole seconds, such as 90s or 5m")}
	}
	return int64(d / time.Second), nil
}
