package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// check refuses what the server could only misunderstand, and says how many seconds are asked for.
func (r *right) check() (seconds int64, err error) {
	for name, text := range map[string]string{"--args": r.Args, "--constraints": r.Constraints} {
		if text != "" && !json.Valid([]byte(text)) {
			return 0, &exitError{exitUsage, fmt.Errorf("%s is not JSON", name)}
		}
	}
	if !r.ToLend && (r.Hops != 0 || r.Constraints != "") {
		return 0, &exitError{exitUsage, errors.New("--hops and --constraints are for a right to lend: add --to-lend, or leave them out")}
	}
	return whole(r.For)
}

func (r *right) mode() string {
	if r.ToLend {
		return "delegate"
	}
	return ""
}

// verb says what a right of a mode is for.
func verb(mode string) string {
	if mode == "delegate" {
		return "lend"
	}
	return "use"
}

type requestCommand struct {
	Action   string `arg:"" help:"Such as refund."`
	Resource string `arg:"" help:"Such as 'Order::\"o-1\"'."`
	Task     string `help:"Id of the task it is for." required:"" env:"WRIT_TASK"`
	right
	patience
}

func (c *requestCommand) Run(e *environment) error {
	seconds, err := c.check()
	if err != nil {
		return err
	}
	return e.call(func(ctx context.Context, w *client.Client) error {
		outcome, err := w.Request(ctx, client.AccessRequest{
			Task: c.Task, Action: c.Action, Resource: c.Resource, Args: json.RawMessage(c.Args), Constraints: json.RawMessage(c.Constraints),
			TTL: seconds, MaxUses: c.MaxUses, Mode: c.mode(), Hops: c.Hops,
		})
		if err == nil {
			outcome, err = c.await(ctx, e, w, outcome)
		}
		if err != nil {
			return err
		}
		return c.show(e, outcome)
	})
}
