package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/writ-project/writ/client"
)

type delegateCommand struct {
	Grant string `arg:"" help:"Id of the right to lend, which you hold."`
	To    string `arg:"" help:"Who receives it, such as 'Agent::\"refund-bot\"'."`
	right
	Wait time.Duration `help:"If a person must approve, wait so long for the answer." placeholder:"10m"`
}

// Help says what happens then.
func (*delegateCommand) Help() string {
	return "What is left out is as in the right that it is part of; what is more than that is refused. Policy decides, with the chain in its " +
		"context. Prints the id of the new grant: the receiver gets its credential with `writ credential ID`, bound to what the receiver proves. " +
		"`writ revoke grant ID` takes it back, with everything below it."
}

func (c *delegateCommand) Run(e *environment) error {
	seconds, err := c.check()
	if err != nil {
		return err
	}
	return e.call(func(ctx context.Context, w *client.Client) error {
		outcome, err := w.Delegate(ctx, c.Grant, client.Delegation{
			To: c.To, Args: json.RawMessage(c.Args), Constraints: json.RawMessage(c.Constraints), TTL: seconds, MaxUses: c.MaxUses, Mode: c.mode(), Hops: c.Hops,
		})
		waits := patience{Wait: c.Wait}
		if err == nil {
			outcome, err = waits.await(ctx, e, w, outcome)
		}
		if err != nil {
			return err
		}
		return waits.show(e, outcome)
	})
}

type credentialCommand struct {
	Grant string `arg:"" help:"Id of a live grant that you hold."`
	Out   string `help:"File for the credential (mode 0600). Without it the credential is printed." type:"path" placeholder:"FILE"`
}

// Help says when it is of use besides.
func (*credentialCommand) Help() string {
	return "The first credential of what was lent to you, or another one of any grant that you hold, as after a lost answer or when your certificate " +
		"has been replaced: it is bound to the key or certificate that this call proves."
}

func (c *credentialCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		issued, err := w.IssueCredential(ctx, c.Grant)
		if err != nil {
			return err
		}
		if err := keep(&issued.Credential, c.Out); err != nil {
			return err
		}
		if e.global.JSON {
			return e.json(issued)
		}
		fmt.Fprintf(e.err, "good until %s; evidence entry %d\n", clock(issued.Credential.ExpiresAt), issued.Evidence.Index)
		fmt.Fprintln(e.out, issued.Credential.Token)
		return nil
	})
}
