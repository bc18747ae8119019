package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/writ-project/writ/client"
)

// right is what is asked for, for oneself or for somebody else.
type right struct {
	Args        string        `help:"Arguments, a JSON object." placeholder:"JSON"`
	For         time.Duration `help:"How long." placeholder:"5m"`
	MaxUses     int64         `help:"How often it may be used, where uses are counted." placeholder:"N"`
	ToLend      bool          `help:"A right to lend, and not to use."`
	Constraints string        `help:"With --to-lend, instead of --args: what the arguments may be, such as '{\"amount\":{\"type\":\"range\",\"max\":100}}'." placeholder:"JSON"`
	Hops        int           `help:"With --to-lend: how often it may be passed on." placeholder:"N"`
}

func (r *right) check() error {
	for name, text := range map[string]string{"--args": r.Args, "--constraints": r.Constraints} {
		if text != "" && !json.Valid([]byte(text)) {
			return &exitError{exitUsage, fmt.Errorf("%s is not JSON", name)}
		}
	}
	return nil
}

func (r *right) mode() string {
	if r.ToLend {
		return "delegate"
	}
	return ""
}

type requestCommand struct {
	Action   string `arg:"" help:"Such as refund."`
	Resource string `arg:"" help:"Such as 'Order::\"o-1\"'."`
	Task     string `help:"Id of the task it is for." required:"" env:"WRIT_TASK"`
	right
	Wait time.Duration `help:"If a person must approve, wait so long for the answer." placeholder:"10m"`
	Out  string        `help:"File for the credential (mode 0600). Without it the credential is printed." type:"path" placeholder:"FILE"`
}

func (c *requestCommand) Run(e *environment) error {
	if err := c.check(); err != nil {
		return err
	}
	return e.call(func(ctx context.Context, w *client.Client) error {
		outcome, err := w.Request(ctx, client.AccessRequest{
			Task: c.Task, Action: c.Action, Resource: c.Resource, Args: json.RawMessage(c.Args), Constraints: json.RawMessage(c.Constraints),
			TTL: int64(c.For / time.Second), MaxUses: c.MaxUses, Mode: c.mode(), Hops: c.Hops,
		})
		if err != nil {
			return err
		}
		if outcome.Approval != nil && c.Wait > 0 {
			if outcome, err = c.wait(ctx, e, w, outcome.Approval.ID); err != nil {
				return err
			}
		}
		return c.show(e, outcome)
	})
}

// wait waits for people, then asks again with their answer.
func (c *requestCommand) wait(ctx context.Context, e *environment, w *client.Client, id string) (*client.Outcome, error) {
	fmt.Fprintf(e.err, "A person must approve %s. Waiting up to %s …\n", id, c.Wait)
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	approval, err := w.WaitApproval(ctx, id)
	if err != nil {
		if ctx.Err() != nil {
			return nil, &exitError{exitWaiting, fmt.Errorf("nobody has answered yet; ask again with `writ request --wait`, or look at %s later", id)}
		}
		return nil, err
	}
	fmt.Fprintf(e.err, "%s\n", approval.Status)
	return w.RedeemApproval(ctx, id)
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

func (c *requestCommand) show(e *environment, outcome *client.Outcome) error {
	if err := keep(outcome.Credential, c.Out); err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(outcome)
	}
	if outcome.Approval != nil && outcome.Grant == nil {
		return waiting(e, outcome)
	}
	if outcome.Grant != nil {
		fmt.Fprintf(e.err, "allowed until %s; grant %s, evidence entry %d\n", clock(outcome.Grant.ExpiresAt), outcome.Grant.ID, outcome.Evidence.Index)
	}
	if outcome.Credential != nil {
		fmt.Fprintln(e.out, outcome.Credential.Token)
	}
	return nil
}

// waiting says that a person must approve, and how to go on.
func waiting(e *environment, outcome *client.Outcome) error {
	if outcome.Approval == nil {
		return errors.New("the server answered neither with a grant nor with a question")
	}
	fmt.Fprintf(e.err, "A person must approve first. The question is open until %s.\n", clock(outcome.Approval.ExpiresAt))
	fmt.Fprintln(e.out, outcome.Approval.ID)
	return &exitError{code: exitWaiting}
}
