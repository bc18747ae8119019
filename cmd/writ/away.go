package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/writ-project/writ/client"
)

type awayCommand struct {
	Until string        `help:"The day on which you are back, or the minute, such as 2027-01-07 or 2027-01-07T09:00." xor:"when"`
	For   time.Duration `help:"For so long, such as 8h." xor:"when"`
	Back  bool          `help:"You are back." xor:"when"`
}

func (c *awayCommand) Run(e *environment) error {
	until, err := c.until(time.Now())
	if err != nil {
		return &exitError{exitUsage, err}
	}
	return e.call(func(ctx context.Context, w *client.Client) error {
		away, err := w.SetAway(ctx, until)
		switch {
		case err != nil:
			return err
		case e.global.JSON:
			return e.json(away)
		case !until.After(time.Now()):
			fmt.Fprintf(e.out, "You are back, and asked again (entry %d).\n", away.Evidence.Index)
		case away.Substitute == "":
			fmt.Fprintf(e.out, "Away until %s (entry %d). Nobody is asked in your place: what only you may answer is refused. The catalog can name a substitute.\n", clock(until), away.Evidence.Index)
		default:
			fmt.Fprintf(e.out, "Away until %s (entry %d). %s is asked in your place.\n", clock(until), away.Evidence.Index, away.Substitute)
		}
		return nil
	})
}

func (c *awayCommand) until(now time.Time) (time.Time, error) {
	switch {
	case c.Back:
		return now, nil
	case c.For > 0:
		return now.Add(c.For), nil
	}
	for _, form := range []string{time.DateOnly, "2006-01-02T15:04", time.RFC3339} {
		if until, err := time.ParseInLocation(form, c.Until, time.Local); err == nil {
			if !until.After(now) {
				return until, errors.New("--until lies in the past: if you are there again, say --back")
			}
			return until, nil
		}
	}
	return time.Time{}, errors.New("until when? Say --until 2027-01-07, --for 8h, or --back")
}
