package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/writ-project/writ/client"
)

// client calls the server as whoever the token file says.
func (e *environment) client() (*client.Client, error) {
	if e.global.TokenFile == "" {
		return nil, &exitError{exitUsage, errors.New("who are you? Name the file with your token: --token-file or WRIT_TOKEN_FILE")}
	}
	return client.New(e.global.Server, client.Options{TokenFile: e.global.TokenFile})
}

// refusal gives a no of the server the exit code that scripts tell it by, and says the next step.
func refusal(err error) error {
	var problem *client.Problem
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w\n  next: is the server running? Start it with `writ serve`, or name it with --server", err)
	}
	if !errors.As(err, &problem) {
		return err
	}
	if len(problem.Faults) > 0 {
		lines := make([]string, 0, len(problem.Faults))
		for _, f := range problem.Faults {
			lines = append(lines, place(f)+f.Message)
		}
		return errors.New(plainLines(strings.Join(lines, "\n")))
	}
	text := problem.Code
	if problem.Detail != "" {
		text += ": " + problem.Detail
	}
	if problem.Next != "" {
		text += "\n  next: " + problem.Next
	}
	if problem.Decision != "" {
		text += "\n  decision " + problem.Decision
		if problem.Evidence != nil {
			text += fmt.Sprintf(", evidence entry %d", problem.Evidence.Index)
		}
	}
	const forbidden = 403
	if problem.Decision != "" || problem.Status == forbidden {
		return &exitError{exitDenied, errors.New(plainLines(text))}
	}
	return errors.New(plainLines(text))
}

func place(f client.Fault) string {
	switch {
	case f.File == "":
		return ""
	case f.Line == 0:
		return f.File + ": "
	default:
		return fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Column)
	}
}

func plainLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return strings.Join(lines, "\n")
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func (e *environment) call(run func(context.Context, *client.Client) error) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	return refusal(run(e.ctx, c))
}
