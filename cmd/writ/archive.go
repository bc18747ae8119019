package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/store"
)

type evidenceExportCommand struct {
	logFiles

	Folder  string `arg:"" help:"Folder to write. What a former export wrote there is completed." type:"path"`
	Entries bool   `help:"Also write the entries, which auditors may read; without them the files are public." default:"true" negatable:""`
	Values  bool   `help:"Also write what lies beside the entries, which is private; pruning needs it."`
}

func (c *evidenceExportCommand) Run(e *environment) error {
	if c.Values && !c.Entries {
		return errors.New("--values and --no-entries do not go together")
	}
	key, err := c.verifierKey()
	if err != nil {
		return err
	}
	opened, err := c.open(e)
	if err != nil {
		return err
	}
	defer opened.Close()
	done, err := opened.Export(e.ctx, c.Folder, key, store.ExportOptions{Entries: c.Entries, Values: c.Values, Progress: e.progress()})
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(map[string]any{"entries": done.Size, "files": done.Written, "folder": c.Folder})
	}
	fmt.Fprintf(e.out, "%d entries, %d files written in %s\n", done.Size, done.Written, c.Folder)
	return nil
}

type evidencePruneCommand struct {
	Config    string `help:"Configuration file: pruning is recorded in the log, under its key." default:"writ.yaml" type:"path"`
	Archive   string `help:"Folder that writ evidence export --values has written." required:"" type:"existingdir" placeholder:"FOLDER"`
	Before    int64  `help:"Prune entries before this index." xor:"until" required:""`
	OlderThan string `help:"Prune entries that are older, such as 90d or 36h." xor:"until" required:"" placeholder:"AGE"`
}

func (c *evidencePruneCommand) Run(e *environment) error {
	pruning := app.Pruning{Before: c.Before, Archive: c.Archive, Progress: e.progress()}
	var err error
	if c.Before < 0 || c.Before == 0 && c.OlderThan == "" {
		return errors.New("--before must be an index above 0")
	}
	if c.OlderThan != "" {
		if pruning.OlderThan, err = age(c.OlderThan); err != nil {
			return err
		}
	}
	config, err := app.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	done, err := app.Prune(e.ctx, config, pruning)
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w: on SQLite entries are pruned while the server is stopped", err)
	}
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(map[string]any{"before": done.Before, "entries": done.Entries, "values": done.Values, "kept": done.Kept})
	}
	fmt.Fprintf(e.out, "%d entries before index %d pruned, with %d values; %d are still needed and stay. Keep %s: only there they can be read now.\n",
		done.Entries, done.Before, done.Values, done.Kept, c.Archive)
	return nil
}

// age reads a duration that may be in days.
func age(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err == nil && n > 0 && n < 36500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not an age such as 90d or 36h", text)
}
