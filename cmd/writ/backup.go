package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/store"
)

// progress tells of long work on standard error: on a terminal in one line, elsewhere with a line now and then.
func (e *environment) progress() store.Progress {
	color := colorsFor(e.err)
	terminal := color.off != ""
	every, end := 10*time.Second, "\n"
	if terminal {
		every, end = time.Second/4, "\x1b[K\r"
	}
	last := time.Now()
	return func(what string, done, of int64) {
		if time.Since(last) < every {
			return
		}
		last = time.Now()
		if of > 0 {
			fmt.Fprintf(e.err, "%s: %d of %d%s", what, done, of, end)
		} else {
			fmt.Fprintf(e.err, "%s: %d%s", what, done, end)
		}
	}
}

type backupCommand struct {
	logFiles

	File string `arg:"" help:"File to write. It must not be there yet." type:"path"`
}

func (c *backupCommand) Run(e *environment) error {
	key, err := c.verifierKey()
	if err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	verified, err := store.Backup(e.ctx, c.database(), key, c.File, e.progress())
	if errors.Is(err, store.ErrNotCopied) {
		return e.damaged(verified, fmt.Errorf("%w: nothing was written; the database itself is wrong, see `writ evidence verify`", err))
	}
	if err != nil {
		return err
	}
	return e.copied(verified, c.File, "Backed up to")
}

// damaged prints what is wrong with what was copied.
func (e *environment) damaged(v *store.Verified, err error) error {
	if e.global.JSON {
		if err := e.json(map[string]any{"ok": false, "findings": v.Findings}); err != nil {
			return err
		}
	} else {
		printVerified(e, v, 0, nil)
	}
	return &exitError{exitTampered, err}
}

func (e *environment) copied(v *store.Verified, where, did string) error {
	if e.global.JSON {
		return e.json(map[string]any{
			"ok": true, "place": where, "entries": v.Log.Entries, "pruned": v.Pruned, "rows": v.Rows, "root": v.Log.Root.String(), "complete": v.Complete(),
		})
	}
	fmt.Fprintf(e.out, "%s %s: %d entries of %s, verified against its signed head.\n", did, where, v.Log.Entries, v.Checkpoint.Origin)
	if !v.Complete() {
		fmt.Fprintf(e.out, "%d entries were pruned before: keep the folder that holds them with the backup. `writ evidence verify --archive` verifies everything.\n", v.Pruned)
	}
	return nil
}

type restoreCommand struct {
	logFiles

	File       string `arg:"" help:"Backup." type:"existingfile"`
	AcceptLoss string `help:"Why entries that this host has acknowledged, and the backup lacks, may be lost. It is recorded in the log, which needs --config." placeholder:"REASON"`
	Config     string `help:"Configuration file, for --accept-loss." default:"writ.yaml" type:"path"`
}

func (c *restoreCommand) Run(e *environment) error {
	key, err := c.verifierKey()
	if err != nil {
		return err
	}
	if err := c.checkURL(); err != nil {
		return err
	}
	if _, err := os.Stat(c.Data); err != nil && c.Database == "" {
		return fmt.Errorf("%w: make the data folder with the log's keys first: they are not in the backup", err)
	}
	var config app.Config
	if c.AcceptLoss != "" {
		if config, err = app.LoadConfig(c.Config); err != nil {
			return err
		}
		if config.Place() != c.database() {
			return fmt.Errorf("%s names the database %s: restore into that one, or accept the loss later with `writ evidence accept-loss`", c.Config, config.Place())
		}
	}
	verified, err := store.Restore(e.ctx, c.File, key, c.database(), e.progress())
	if errors.Is(err, store.ErrNotCopied) {
		return e.damaged(verified, fmt.Errorf("%w: use another backup; no server starts on what was restored", err))
	}
	if err != nil {
		return err
	}
	if err := e.copied(verified, c.place(), "Restored into"); err != nil || c.AcceptLoss == "" {
		return err
	}
	return acceptLoss(e, config, c.AcceptLoss)
}

// place is where the database is, as it may be shown.
func (f *logFiles) place() string {
	if f.isURL() {
		return "the PostgreSQL database"
	}
	return f.database()
}

type acceptLossCommand struct {
	Config string `help:"Configuration file." default:"writ.yaml" type:"path"`
	Reason string `help:"Why the log goes on without what this host has acknowledged. It is kept beside the entry." required:""`
}

func (c *acceptLossCommand) Run(e *environment) error {
	config, err := app.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	return acceptLoss(e, config, c.Reason)
}

func acceptLoss(e *environment, config app.Config, reason string) error {
	receipt, err := app.AcceptLoss(e.ctx, config, reason)
	if errors.Is(err, store.ErrNothingLost) {
		fmt.Fprintln(e.out, "Nothing was lost: the log holds all that this host has acknowledged. Nothing was recorded.")
		return nil
	}
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(map[string]any{"ok": true, "evidence": receipt.Indexes[0]})
	}
	fmt.Fprintf(e.out, "Recorded in entry %d: the log goes on without what this host had acknowledged beyond it.\n", receipt.Indexes[0])
	fmt.Fprintln(e.out, "Witnesses refuse it until their operators forget what they saw (`writ witness forget`).")
	return nil
}
