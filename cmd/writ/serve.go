package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"

	"github.com/writ-project/writ/internal/app"
)

type serveCommand struct {
	Config  string `help:"Configuration file." default:"writ.yaml" type:"path"`
	Verbose bool   `help:"Log more." short:"v"`
}

// gcPercent trades some 15 MB of memory for less time in the garbage collector, whose work is a tenth of all at Go's 100.
const gcPercent = 175

func (c *serveCommand) Run(e *environment) error {
	config, err := app.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if c.Verbose {
		level = slog.LevelDebug
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log := slog.New(slog.NewJSONHandler(e.err, &slog.HandlerOptions{Level: level}))
	running, err := app.New(e.ctx, config, app.Options{Log: log})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(e.ctx, "tcp", config.Listen)
	if err != nil {
		return fmt.Errorf("%w\n%w", err, running.Close())
	}
	log.InfoContext(e.ctx, "serving", slog.String("listen", listener.Addr().String()), slog.String("url", config.URL), slog.String("version", app.Version))
	err = running.Serve(e.ctx, listener)
	if closed := running.Close(); err == nil {
		err = closed
	}
	return err
}
