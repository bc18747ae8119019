package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/writ-project/writ/internal/witness"
)

type witnessCommand struct {
	Init   witnessInitCommand   `cmd:"" help:"Make the folder of a new witness: key, public key, configuration, empty memory."`
	Serve  witnessServeCommand  `cmd:"" help:"Run the witness of a folder. It should be somebody else's machine than the log's."`
	Forget witnessForgetCommand `cmd:"" help:"Accept that a log was restored from an older backup: set aside what the witness knows of it, and go on from the checkpoint in --accept."`
}

type witnessInitCommand struct {
	Folder string   `arg:"" help:"Folder to make." type:"path"`
	Name   string   `help:"Name of the witness: a host name of yours and a path. It can never change." required:"" placeholder:"NAME"`
	Log    []string `help:"File with the public key of a log to cosign (its log.pub); may be given several times." type:"existingfile" placeholder:"FILE"`
}

func (c *witnessInitCommand) Run(e *environment) error {
	var logs []string
	for _, path := range c.Log {
		key, err := readKey(path)
		if err != nil {
			return err
		}
		logs = append(logs, key)
	}
	key, err := witness.Init(c.Folder, c.Name, logs, rand.Reader)
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(map[string]any{"folder": c.Folder, "name": c.Name, "verifier_key": key, "logs": logs})
	}
	fmt.Fprintf(e.out, `Made %[1]s:
  witness.key     signs; show it to nobody
  witness.pub     what logs and auditors need: %[2]s
  witness.yaml    address, logs to cosign
  witness.state   what was cosigned: never put an older copy in its place

Next:
  writ witness serve %[1]s
`, c.Folder, key)
	if len(logs) == 0 {
		fmt.Fprintf(e.out, "\nIt knows no log yet: put the content of a log's log.pub under logs in %s.\n", filepath.Join(c.Folder, "witness.yaml"))
	}
	return nil
}

type witnessServeCommand struct {
	Folder string `arg:"" help:"Folder of the witness, on a local disk." default:"." type:"path"`
}

func (c *witnessServeCommand) Run(e *environment) error {
	config, cosigner, err := witness.Load(c.Folder)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(e.err, nil))
	w, err := witness.Open(witness.Options{Folder: c.Folder, Cosigner: cosigner, LogKeys: config.Logs, Log: log})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(e.ctx, "tcp", config.Listen)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	log.InfoContext(e.ctx, "serving", slog.String("listen", listener.Addr().String()), slog.String("witness", cosigner.VerifierKey()), slog.Int("logs", len(config.Logs)))
	err = w.Serve(e.ctx, listener, config.TLS.Certificate, config.TLS.Key)
	return errors.Join(err, w.Close())
}

type witnessForgetCommand struct {
	Origin string `arg:"" help:"Name of the log."`
	Folder string `help:"Folder of the witness, which must not be running." default:"." type:"path"`
	Reason string `help:"Why; it is shown to everybody who asks the witness." required:"" placeholder:"TEXT"`
	Accept string `help:"File with the checkpoint to go on from, signed by the log, as \"writ evidence export --no-entries\" writes it: nothing older and nothing else is cosigned afterwards. Without it, first take the log out of witness.yaml." type:"existingfile" placeholder:"FILE"`
}

func (c *witnessForgetCommand) Run(e *environment) error {
	var accept []byte
	if c.Accept != "" {
		var err error
		if accept, err = os.ReadFile(c.Accept); err != nil {
			return err
		}
	}
	known, err := witness.Forget(c.Folder, c.Origin, c.Reason, accept, time.Now())
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(map[string]any{"origin": known.Origin, "size": known.Size, "root": known.Root.String()})
	}
	next := "If this log is added again, its next checkpoint is taken as it comes."
	if accept != nil {
		next = "The witness goes on from the checkpoint in " + c.Accept + "."
	}
	fmt.Fprintf(e.out, "Forgotten: %s at size %d, root %s.\n%s What was known is kept in %s.\n",
		plain(known.Origin), known.Size, known.Root, next, filepath.Join(c.Folder, "witness.forgotten"))
	return nil
}
