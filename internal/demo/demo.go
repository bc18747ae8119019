// Package demo plays a scenario on a whole installation in one process, and tells what happens as it happens.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/sandbox"
)

// Options say how to play.
type Options struct {
	Out    io.Writer
	In     io.Reader
	Style  Style
	Listen string // loopback address; empty: any free port
	Folder string // where everything is kept; empty: a temporary folder that is removed at the end
	// Auto has the invented people answer by themselves, and ends when the scenario does.
	Auto bool
}

// Style are the sequences that set text off, empty where the output is not a terminal.
type Style struct{ Bold, Dim, Good, Ask, Bad, Off string }

// Run plays the scenario. Without Auto it then serves until the context ends.
func Run(ctx context.Context, o Options) (err error) {
	folder := o.Folder
	if folder == "" {
		if folder, err = os.MkdirTemp("", "writ-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	}
	server, err := sandbox.Start(ctx, sandbox.Options{Folder: folder, Listen: o.Listen, Site: site, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("%w\n(if the address is taken, choose another with --listen)", err)
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	p := &play{teller: teller{out: o.Out, style: o.Style}, ctx: ctx, server: server, in: o.In, auto: o.Auto, tokens: map[string]string{}}
	if err := p.cast(); err != nil {
		return err
	}
	if err := p.scenes(); err != nil {
		return err
	}
	if o.Auto {
		return nil
	}
	p.explore(o.Folder == "")
	if err := p.keepTelling(); err != nil {
		return err
	}
	p.say("\nGood-bye.")
	return nil
}

// site is the starter folder for this identity provider.
func site(issuer string) map[string][]byte {
	files, err := starter.Site(issuer)
	if err != nil {
		panic(err) // the files are part of the program
	}
	return files
}

// play is a scenario under way.
type play struct {
	teller

	ctx    context.Context
	server *sandbox.Sandbox
	in     io.Reader
	auto   bool

	task   string // of the story
	grants []string

	tokens                                         map[string]string // files, by name
	support, report, orders, bob, alice, dana, sam *client.Client
	triage, lookup                                 *client.Client
}

// cast gives everybody a token of the sandbox's identity provider, in a file that commands can use too.
func (p *play) cast() error {
	for id, to := range map[string]**client.Client{
		`Agent::"support-bot"`: &p.support, `Agent::"report-bot"`: &p.report, `Workload::"order-system"`: &p.orders,
		`Agent::"triage-bot"`: &p.triage, `Agent::"lookup-bot"`: &p.lookup,
		`Human::"bob"`: &p.bob, `Human::"alice"`: &p.alice, `Human::"dana"`: &p.dana, `Human::"sam"`: &p.sam,
	} {
		identity := access.MustRef(id)
		file, err := p.server.TokenFile(identity, 12*time.Hour)
		if err != nil {
			return err
		}
		p.tokens[identity.ID] = file
		if *to, err = client.New(p.server.URL, client.Options{TokenFile: file}); err != nil {
			return err
		}
	}
	return nil
}

// keepTelling has the order system tell what is so until the context ends: facts that are not told again go stale.
func (p *play) keepTelling() error {
	const often = 5 * time.Minute
	ticker := time.NewTicker(often)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := p.tell(); err != nil {
				return err
			}
		case <-p.ctx.Done():
			return nil
		}
	}
}

// explore says what to try while the server runs.
func (p *play) explore(removed bool) {
	p.title("The server keeps running. Try, in another terminal:")
	p.say("  export WRIT_SERVER=%s", p.server.URL)
	p.say("  export WRIT_TOKEN_FILE=%s      # you are support-bot", p.tokens["support-bot"])
	p.say("  export WRIT_TASK=$(writ task open support 'a customer complains')")
	p.say("  writ request refund 'Order::\"o-2\"' --args '{\"amount\":900,\"reason\":\"broken\"}' --wait 10m")
	p.say("  WRIT_TOKEN_FILE=%s writ approvals      # you are bob, of payments", p.tokens["bob"])
	p.say("  WRIT_TOKEN_FILE=%s writ why 'Agent::\"support-bot\"'      # you are its owner", p.tokens["dana"])
	p.say("  writ evidence verify --data %s", p.server.Data())
	p.say("  curl %s/openapi.yaml", p.server.URL)
	p.say("\n(`writ` is `go run ./cmd/writ` in this repository.)")
	if removed {
		p.say("Everything is in %s, and is removed at the end.", p.server.Folder)
	} else {
		p.say("Everything is in %s, and stays there.", p.server.Folder)
	}
	p.say("Press Ctrl-C to stop.")
}
