package main

import "github.com/writ-project/writ/internal/demo"

type demoCommand struct {
	Auto   bool   `help:"Let the invented people answer, and end when the story does."`
	Listen string `help:"Loopback address to serve on (127.0.0.1:8420; with --auto any free port)." placeholder:"ADDRESS"`
	Folder string `help:"Keep everything in this empty folder." type:"path"`
}

func (c *demoCommand) Run(e *environment) error {
	color := colorsFor(e.out)
	listen := c.Listen
	if listen == "" && !c.Auto { // with Auto nobody will look for it
		listen = "127.0.0.1:8420"
	}
	return demo.Run(e.ctx, demo.Options{
		Out: e.out, In: e.in, Listen: listen, Folder: c.Folder, Auto: c.Auto,
		Style: demo.Style{Bold: color.bold, Dim: color.dim, Good: color.green, Ask: color.yellow, Bad: color.red, Off: color.off},
	})
}
