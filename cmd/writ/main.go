// Command writ governs the access of AI agents and other non-human identities.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/writ-project/writ/internal/app"
)

// Exit codes, as scripts rely on them.
const (
	exitOK       = 0
	exitFailed   = 1 // something went wrong
	exitUsage    = 2 // the command line is wrong
	exitDenied   = 3 // the answer is no
	exitWaiting  = 4 // a person must approve
	exitTampered = 5 // evidence does not hold
	// exitIncomplete: what was read holds, but entries were pruned and not read, so nobody can say that the tables do.
	exitIncomplete = 6
)

// commands is the command line.
type commands struct {
	Server     string           `help:"URL of the server (default ${default})." env:"WRIT_SERVER" default:"http://127.0.0.1:8420" placeholder:"URL"`
	TokenFile  string           `help:"File with your token: of your workload identity, or of your login. It is read anew for every call." env:"WRIT_TOKEN_FILE" type:"path" placeholder:"FILE"`
	ClientCert string           `help:"File with your certificate, such as an X.509-SVID, instead of a token or beside it. It is read anew for every connection." env:"WRIT_CLIENT_CERT" type:"path" placeholder:"FILE"`
	ClientKey  string           `help:"File with the certificate's key." env:"WRIT_CLIENT_KEY" type:"path" placeholder:"FILE"`
	CA         string           `help:"File with the certificates that the server's is checked by, if it is not of a public authority: the bundle of its trust domain." name:"ca" env:"WRIT_CA" type:"path" placeholder:"FILE"`
	JSON       bool             `help:"Print JSON." name:"json"`
	Version    kong.VersionFlag `help:"Print the version."`

	Demo  demoCommand  `cmd:"" help:"See everything work in two minutes: a server, agents, an approval, verification."`
	Init  initCommand  `cmd:"" help:"Make a starter folder: configuration, catalog, policy, keys."`
	Serve serveCommand `cmd:"" help:"Run the server."`
	Apply applyCommand `cmd:"" help:"Make a folder's catalog and policy the declared state; show what changes."`

	Task       taskCommand       `cmd:"" help:"Open and end tasks."`
	Request    requestCommand    `cmd:"" help:"Ask for one action on one resource."`
	Delegate   delegateCommand   `cmd:"" help:"Pass part of a right to lend on to another identity."`
	Credential credentialCommand `cmd:"" help:"Get the credential of a right that was lent to you."`
	Redeem     redeemCommand     `cmd:"" help:"Get what people have approved."`
	Approvals  approvalsCommand  `cmd:"" help:"List the questions that wait for you."`
	Approve    approveCommand    `cmd:"" help:"Say yes to a question."`
	Deny       denyCommand       `cmd:"" help:"Say no to a question, and what you would look at more kindly."`
	Away       awayCommand       `cmd:"" help:"Say until when you are away: your substitute is asked in your place."`
	Comment    commentCommand    `cmd:"" help:"Ask back about a question, or reply to that."`
	Revoke     revokeCommand     `cmd:"" help:"End a grant, a task, or everything an identity has."`
	Identity   identityCommand   `cmd:"" help:"List identities, suspend, resume and retire them, adopt unknown ones."`
	Why        whyCommand        `cmd:"" help:"Show every access that a subject has, and the decision behind it."`

	Policy   policyCommand   `cmd:"" help:"Check and test a policy bundle."`
	Evidence evidenceCommand `cmd:"" help:"Verify, show, prove, export, prune and replay the evidence log."`
	Backup   backupCommand   `cmd:"" help:"Copy the database, while it is in use, into one verified file."`
	Restore  restoreCommand  `cmd:"" help:"Put a backup into an empty database, SQLite or PostgreSQL."`
	Witness  witnessCommand  `cmd:"" help:"Run a witness: it cosigns what logs say, so that none can be cut or forked unseen."`
}

// environment is what a command may touch.
type environment struct {
	ctx    context.Context
	out    io.Writer
	err    io.Writer
	in     io.Reader
	global *commands
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	var cli commands
	exit := -1
	parser, err := kong.New(&cli,
		kong.Name("writ"),
		kong.Description("Writ governs the access of AI agents: each decision explainable, bounded, revocable, and on record.\n\nStart with `writ demo`. Then `writ init` makes a folder to build on."),
		kong.Vars{"version": app.Version},
		kong.Writers(out, errs),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(errs, "writ:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help and --version
		return exit
	}
	if err != nil {
		fmt.Fprintf(errs, "writ: %v; see `%s --help`\n", err, named(err))
		return exitUsage
	}
	err = command.Run(&environment{ctx: ctx, out: out, err: errs, in: in, global: &cli})
	var status *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		if status.err != nil {
			fmt.Fprintln(errs, "writ:", status.err)
		}
		return status.code
	default:
		fmt.Fprintln(errs, "writ:", err)
		return exitFailed
	}
}

// named is the command that a wrong command line has named so far.
func named(err error) string {
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil && wrong.Context.Selected() != nil {
		return wrong.Context.Selected().FullPath()
	}
	return "writ"
}

// exitError ends the command with a code of its own; with a nil err everything has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }
