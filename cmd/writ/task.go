package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/writ-project/writ/client"
)

type taskCommand struct {
	Open      taskOpenCommand      `cmd:"" help:"Open a task; prints its id."`
	Show      taskShowCommand      `cmd:"" help:"Show a task."`
	Heartbeat taskHeartbeatCommand `cmd:"" help:"Say that the task is alive."`
	Complete  taskCompleteCommand  `cmd:"" help:"End the task: everything granted for it is over."`
	Pause     taskPauseCommand     `cmd:"" help:"Stop everything granted for the task until it is resumed."`
	Resume    taskResumeCommand    `cmd:"" help:"Resume a paused task: a new decision."`
}

type taskOpenCommand struct {
	Type      string        `arg:"" help:"Task type, from the catalog."`
	Purpose   string        `arg:"" help:"What for, in words."`
	Reference string        `help:"Such as a ticket."`
	For       time.Duration `help:"How long at most." placeholder:"30m"`
	Principal string        `help:"File with a token of the human for whom this is, which they gave you for it." name:"principal-token-file" type:"existingfile" placeholder:"FILE"`
	Trace     string        `help:"W3C trace-id that this belongs to (default: a new one)." placeholder:"HEX"`
	Wait      time.Duration `help:"If a person must approve, wait so long for the answer." placeholder:"10m"`
}

func (c *taskOpenCommand) Run(e *environment) error {
	seconds, err := whole(c.For)
	if err != nil {
		return err
	}
	return e.call(func(ctx context.Context, w *client.Client) error {
		open := client.OpenTask{Type: c.Type, Purpose: c.Purpose, Reference: c.Reference, TTL: seconds, Trace: c.Trace}
		if c.Principal != "" {
			token, err := os.ReadFile(c.Principal)
			if err != nil {
				return err
			}
			open.PrincipalToken = strings.TrimSpace(string(token))
		}
		waits := patience{Wait: c.Wait}
		outcome, err := w.OpenTask(ctx, open)
		if err == nil {
			outcome, err = waits.await(ctx, e, w, outcome)
		}
		if err != nil {
			return err
		}
		return waits.show(e, outcome)
	})
}

type taskID struct {
	ID string `arg:"" help:"Id of the task."`
}

type taskShowCommand struct{ taskID }

func (c *taskShowCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		task, err := w.Task(ctx, c.ID)
		if err != nil {
			return err
		}
		return showTask(e, task)
	})
}

func showTask(e *environment, task *client.Task) error {
	if e.global.JSON {
		return e.json(task)
	}
	status := task.Status
	if task.Reason != "" {
		status += " (" + task.Reason + ")"
	}
	rows := [][]string{
		{"task", task.ID}, {"type", task.Type}, {"of", task.Subject}, {"status", status},
		{"opened", clock(task.OpenedAt)}, {"until", clock(task.ExpiresAt)},
	}
	if task.Principal != "" {
		rows = append(rows, []string{"for", task.Principal})
	}
	if task.Trace != "" {
		rows = append(rows, []string{"trace", task.Trace})
	}
	if task.Purpose != "" {
		rows = append(rows, []string{"purpose", task.Purpose})
	}
	if task.Entries > 0 {
		rows = append(rows, []string{"evidence", fmt.Sprintf("%d entries", task.Entries)})
	}
	for _, grant := range task.Grants {
		rows = append(rows, []string{"grant", grant})
	}
	return table(e.out, nil, rows)
}

type taskHeartbeatCommand struct{ taskID }

func (c *taskHeartbeatCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		_, err := w.Heartbeat(ctx, c.ID)
		return err
	})
}

type taskCompleteCommand struct{ taskID }

func (c *taskCompleteCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		done, err := w.CompleteTask(ctx, c.ID)
		return acknowledge(e, done, err, "The task has ended; everything granted for it is over.")
	})
}

type taskPauseCommand struct{ taskID }

func (c *taskPauseCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		done, err := w.PauseTask(ctx, c.ID)
		return acknowledge(e, done, err, "The task is paused. Its clock runs on.")
	})
}

type taskResumeCommand struct{ taskID }

func (c *taskResumeCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		outcome, err := w.ResumeTask(ctx, c.ID)
		if err != nil {
			return err
		}
		done := &client.Done{Decision: &outcome.Decision, Approval: outcome.Approval, Task: outcome.Task, Evidence: &outcome.Evidence}
		return acknowledge(e, done, nil, "The task is open again.")
	})
}

// acknowledge says what an act did, and where it is on record.
func acknowledge(e *environment, done *client.Done, err error, words string) error {
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(done)
	}
	if done.Approval != nil {
		fmt.Fprintf(e.out, "A person must approve first: %s\n  next: then writ redeem %[1]s, or repeat this with --approval %[1]s where it takes one\n", done.Approval.ID)
		return &exitError{code: exitWaiting}
	}
	fmt.Fprint(e.out, words)
	if done.Evidence != nil {
		fmt.Fprintf(e.out, " Evidence entry %d.", done.Evidence.Index)
	}
	fmt.Fprintln(e.out)
	return nil
}
