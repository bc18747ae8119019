package main

import (
	"fmt"
	"strings"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/policy"
)

type policyCommand struct {
	Check policyCheckCommand `cmd:"" help:"Check a folder's catalog and policy: every fault of every file."`
	Test  policyTestCommand  `cmd:"" help:"Run the cases in policy/tests."`
}

type policyCheckCommand struct {
	Folder string `arg:"" help:"Folder with catalog/ and policy/." default:"." type:"path"`
}

func (c *policyCheckCommand) Run(e *environment) error {
	bundle, _, err := loadSite(c.Folder)
	if err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(map[string]any{"bundle": bundle.Hash(), "policies": len(bundle.Policies())})
	}
	fmt.Fprintf(e.out, "%d policies, no faults. Bundle %s\n", len(bundle.Policies()), bundle.Hash())
	return nil
}

// loadSite loads a folder as applying it would.
func loadSite(folder string) (*policy.Bundle, *access.Index, error) {
	files, err := app.ReadSite(folder)
	if err != nil {
		return nil, nil, err
	}
	declarations, source := map[string][]byte{}, policy.Source{}
	for path, content := range files {
		if name, ok := strings.CutPrefix(path, "catalog/"); ok {
			declarations[name] = content
		} else {
			source[strings.TrimPrefix(path, "policy/")] = content
		}
	}
	declared, err := catalog.Parse(declarations)
	if err != nil {
		return nil, nil, fmt.Errorf("catalog:\n%w", err)
	}
	index := access.NewIndex(declared)
	bundle, err := policy.Load(source, index)
	if err != nil {
		return nil, nil, fmt.Errorf("policy:\n%w", err)
	}
	return bundle, index, nil
}

type policyTestCommand struct {
	Folder string `arg:"" help:"Folder with catalog/ and policy/." default:"." type:"path"`
}

func (c *policyTestCommand) Run(e *environment) error {
	bundle, index, err := loadSite(c.Folder)
	if err != nil {
		return err
	}
	results := bundle.RunCases(index)
	failed := 0
	for _, r := range results {
		if !r.Pass {
			failed++
		}
	}
	if e.global.JSON {
		if err := e.json(results); err != nil {
			return err
		}
	} else {
		color := colorsFor(e.out)
		for _, r := range results {
			if r.Pass {
				fmt.Fprintf(e.out, "%sok%s    %s\n", color.green, color.off, r.Name)
				continue
			}
			fmt.Fprintf(e.out, "%sFAIL%s  %s (%s:%d)\n      %s\n", color.red, color.off, r.Name, r.File, r.Line, strings.ReplaceAll(r.Diff, "\n", "\n      "))
		}
		fmt.Fprintf(e.out, "%d cases, %d failed\n", len(results), failed)
	}
	switch {
	case len(results) == 0:
		return fmt.Errorf("no cases in policy/tests: a policy without a case is a guess")
	case failed > 0:
		return &exitError{code: exitFailed}
	default:
		return nil
	}
}
