package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/catalog"
	"github.com/writ-project/writ/internal/control"
)

type identityCommand struct {
	List    listIdentitiesCommand    `cmd:"" help:"List the identities that you may see: you, what you own, and all if you may read evidence."`
	Show    showIdentityCommand      `cmd:"" help:"Show one identity."`
	Suspend suspendIdentityCommand   `cmd:"" help:"Suspend an identity: everything it has is over."`
	Resume  resumeIdentityCommand    `cmd:"" help:"Make a suspended identity active again."`
	Retire  retireIdentityCommand    `cmd:"" help:"Retire an identity for good: everything it has is over."`
	Unknown unknownIdentitiesCommand `cmd:"" help:"List who called with a good token and is in no catalog."`
	Adopt   adoptCommand             `cmd:"" help:"Write the catalog entry of somebody unknown. The server is not changed: applying is another step."`
}

type identityChange struct {
	Identity string `arg:"" help:"Such as 'Agent::\"support-bot\"'."`
	Reason   string `help:"Why, for the record."`
	Approval string `help:"Approval that speaks for it, where policy asked for one before." placeholder:"ID"`
}

// run makes the change and says in words what it did.
func (c *identityChange) run(e *environment, change func(*client.Client, context.Context, client.StatusChange) (*client.Done, error), words string) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		done, err := change(w, ctx, client.StatusChange{Identity: c.Identity, Reason: c.Reason, Approval: c.Approval})
		return acknowledge(e, done, err, words)
	})
}

type suspendIdentityCommand struct{ identityChange }

func (c *suspendIdentityCommand) Run(e *environment) error {
	return c.run(e, (*client.Client).SuspendIdentity, "Suspended. Everything it has is over.")
}

type resumeIdentityCommand struct{ identityChange }

func (c *resumeIdentityCommand) Run(e *environment) error {
	return c.run(e, (*client.Client).ResumeIdentity, "Active again. What it had before stays over.")
}

type retireIdentityCommand struct{ identityChange }

func (c *retireIdentityCommand) Run(e *environment) error {
	return c.run(e, (*client.Client).RetireIdentity, "Retired for good. Everything it has is over.")
}

type listIdentitiesCommand struct {
	Overdue bool   `help:"Only those that should have been looked at again."`
	Owner   string `help:"Only what this human owns." placeholder:"REF"`
}

func (c *listIdentitiesCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		all := []client.RegisteredIdentity{}
		query := client.IdentityQuery{Owner: c.Owner, Overdue: c.Overdue, Limit: pageSize}
		for more := true; more; more = query.After != "" {
			page, err := w.Identities(ctx, query)
			if err != nil {
				return err
			}
			all = append(all, page.Identities...)
			query.After = page.Next
		}
		if e.global.JSON {
			return e.json(client.Identities{Identities: all})
		}
		if len(all) == 0 {
			fmt.Fprintln(e.out, "There is none.")
			return nil
		}
		rows := make([][]string, 0, len(all))
		for i := range all {
			rows = append(rows, []string{all[i].ID, all[i].Status, all[i].Owner, all[i].ReviewBy, remarks(&all[i])})
		}
		return table(e.out, []string{"IDENTITY", "STATUS", "OWNER", "REVIEW BY", "REMARKS"}, rows)
	})
}

const pageSize = 1000

// remarks are what somebody should see to.
func remarks(i *client.RegisteredIdentity) string {
	var out []string
	if i.Overdue {
		out = append(out, "review overdue")
	}
	switch {
	case i.OwnerStatus == "" || i.OwnerStatus == string(access.Active):
	case i.GraceEndsAt.IsZero():
		out = append(out, "owner "+i.OwnerStatus)
	default:
		out = append(out, "owner "+i.OwnerStatus+", grace until "+clock(i.GraceEndsAt))
	}
	return strings.Join(out, "; ")
}

type showIdentityCommand struct {
	Identity string `arg:"" help:"Such as 'Agent::\"support-bot\"'."`
}

func (c *showIdentityCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		i, err := w.Identity(ctx, c.Identity)
		if err != nil {
			return err
		}
		if e.global.JSON {
			return e.json(i)
		}
		rows := [][]string{{"identity", i.ID}, {"status", i.Status + " since " + clock(i.Since)}}
		for _, row := range [][]string{{"owner", i.Owner}, {"purpose", i.Purpose}, {"runs for", i.Principal}, {"review by", i.ReviewBy}, {"remarks", remarks(i)}} {
			if row[1] != "" {
				rows = append(rows, row)
			}
		}
		return table(e.out, nil, rows)
	})
}

type unknownIdentitiesCommand struct{}

func (c *unknownIdentitiesCommand) Run(e *environment) error {
	return e.call(func(ctx context.Context, w *client.Client) error {
		all := []client.UnknownIdentity{}
		after := ""
		for more := true; more; more = after != "" {
			page, err := w.UnknownIdentities(ctx, after, pageSize)
			if err != nil {
				return err
			}
			all = append(all, page.Unknown...)
			after = page.Next
		}
		if e.global.JSON {
			return e.json(client.UnknownIdentities{Unknown: all})
		}
		if len(all) == 0 {
			fmt.Fprintln(e.out, "Nobody unknown has called.")
			return nil
		}
		rows := make([][]string, 0, len(all))
		for i := range all {
			rows = append(rows, []string{all[i].Issuer, all[i].Subject, fmt.Sprint(all[i].Times), clock(all[i].FirstSeen), clock(all[i].LastSeen)})
		}
		if err := table(e.out, []string{"ISSUER", "SUBJECT", "TIMES", "FIRST", "LAST"}, rows); err != nil {
			return err
		}
		_, err := fmt.Fprintln(e.out, "\nwrit identity adopt ISSUER SUBJECT --as 'Agent::\"…\"' --owner 'Human::\"…\"' --purpose … --review-by … --site FOLDER")
		return err
	})
}

type adoptCommand struct {
	Issuer   string `arg:"" help:"As writ identity unknown lists it."`
	Subject  string `arg:"" help:"As writ identity unknown lists it."`
	As       string `help:"What to call it, such as 'Agent::\"night-batch\"'." required:"" placeholder:"REF"`
	Owner    string `help:"The human who answers for it; not for a human." placeholder:"REF"`
	Purpose  string `help:"What it is for, in words; not for a human." placeholder:"WORDS"`
	ReviewBy string `help:"The day by which it is looked at again, such as 2027-06-30; not for a human." placeholder:"DATE"`
	Site     string `help:"Folder with catalog/ and policy/: the entry is checked together with the others, and written there (default: only printed)." type:"path" placeholder:"FOLDER"`
}

func (c *adoptCommand) Run(e *environment) error {
	identity := access.Identity{Purpose: c.Purpose, ReviewBy: c.ReviewBy, Match: []access.Match{{Issuer: c.Issuer, Subject: access.Exactly(c.Subject)}}}
	var err error
	if identity.ID, err = access.ParseRef(c.As); err != nil {
		return &exitError{exitUsage, fmt.Errorf("--as: %w", err)}
	}
	files := map[string][]byte{}
	if c.Owner != "" {
		if identity.Owner, err = access.ParseRef(c.Owner); err != nil {
			return &exitError{exitUsage, fmt.Errorf("--owner: %w", err)}
		}
	}
	if c.Site != "" {
		site, err := app.ReadSite(c.Site)
		if err != nil {
			return err
		}
		files = control.Configuration(site).Catalog()
	} else if identity.Owner.Type == access.TypeHuman { // whom the catalog declares, as far as anybody can tell here
		stub := map[string][]map[string]access.Ref{"identities": {{"id": identity.Owner}}}
		if files["owner"], err = json.Marshal(stub); err != nil { // JSON is YAML
			return err
		}
	}
	name := fileOf(identity.ID)
	text, err := catalog.Adopt(files, name, identity)
	if err != nil {
		return errors.New(plainLines(err.Error()))
	}
	if c.Site == "" {
		fmt.Fprint(e.out, string(text))
		fmt.Fprintf(e.err, "next: put this into a file of the site's catalog folder, then `writ policy check` and `writ apply`; --site FOLDER does the first and looks for ambiguity\n")
		return nil
	}
	path := filepath.Join(c.Site, "catalog", name)
	if err := writeNew(path, text); err != nil {
		return err
	}
	if e.global.JSON {
		return e.json(map[string]string{"identity": identity.ID.String(), "file": path})
	}
	fmt.Fprintf(e.out, "Wrote %s. Nothing has changed at the server.\nnext: look at it, then writ apply %s --dry-run, then writ apply %[2]s\n", path, c.Site)
	return nil
}

// fileOf names the file of an identity by what is plain of its type and id.
func fileOf(id access.Ref) string {
	const most = 80
	slug := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(id.Type+"-"+id.ID)), "-")
	return slug[:min(len(slug), most)] + ".yaml"
}

// writeNew writes a file that is not there yet.
func writeNew(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}
