package main

import (
	"fmt"
	"path/filepath"

	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/app"
)

type initCommand struct {
	Folder string `arg:"" help:"Folder to make." default:"." type:"path"`
	Issuer string `help:"URL of your identity provider; it replaces the placeholder in all files." placeholder:"URL"`
	Origin string `help:"Name of the evidence log: a host name of yours and a path. It can never change." default:"writ.example.com/log"`
}

func (c *initCommand) Run(e *environment) error {
	issuer := c.Issuer
	if issuer == "" {
		issuer = starter.Issuer
	}
	files, err := starter.Site(issuer)
	if err != nil {
		return err
	}
	if err := app.Init(c.Folder, c.Origin, files); err != nil {
		return err
	}
	config := filepath.Join(c.Folder, "writ.yaml")
	fmt.Fprintf(e.out, `Made %[1]s:
  writ.yaml          configuration
  catalog/*.yaml     who exists, what can be asked for, who answers for it
  policy/            who may do what, what needs a person, what is risky; with cases
  data/              keys and database: back it up, show it to nobody (but data/log.pub to everybody)

Next:
  writ policy test %[1]s
  writ serve --config %[2]s
`, c.Folder, config)
	if c.Issuer == "" {
		fmt.Fprintf(e.out, "\nIts identity provider is the placeholder %s: nobody can log in yet.\nMake it again with --issuer URL, or replace the placeholder in writ.yaml and catalog/*.yaml.\n", starter.Issuer)
	}
	return nil
}
