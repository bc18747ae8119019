// Command eval replays the recorded work of an airline's service agent through a real Writ server: one task for each run,
// the customer's words as its purpose, the reservation system as the source of facts. It prints what was decided, verifies the log,
// computes every decision again, and writes the result as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/examples/airline"
	"github.com/writ-project/writ/examples/airline/replay"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/sandbox"
	"github.com/writ-project/writ/internal/store"
)

func main() {
	data := flag.String("data", "", "folder with the recording")
	out := flag.String("out", "eval.json", "file for the result")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *data, *out, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "eval:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, data, out string, stdout, progress io.Writer) (err error) {
	if data == "" {
		return errors.New("name the folder with the recording: make eval DATA=…")
	}
	recording, err := replay.Open(data)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "writ-eval-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	summary, err := evaluate(ctx, recording, folder, progress)
	if err != nil {
		return err
	}
	if err := summary.Print(stdout); err != nil {
		return err
	}
	verified := "yes"
	if !summary.LogVerified {
		verified = "NO"
	}
	fmt.Fprintf(stdout, "log verified:                           %s\n", verified)
	encoded, err := json.MarshalIndent(summary, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(encoded, '\n'), 0o644)
}

// evaluate runs the whole recording against a server of its own, on the recording's clock.
func evaluate(ctx context.Context, recording *replay.Recording, folder string, progress io.Writer) (*replay.Summary, error) {
	started := time.Now()
	server, err := sandbox.Start(ctx, sandbox.Options{
		Folder: folder, Site: site,
		Now:    func() time.Time { return replay.Now().Add(time.Since(started)) },
		Limits: app.Limits{RequestsPerSecond: 100_000, Burst: 100_000, EvidencePerHour: 1 << 40, OpenQuestions: 1e6},
	})
	if err != nil {
		return nil, err
	}
	d := &desk{summary: replay.NewSummary()}
	for identity, to := range map[access.Ref]**client.Client{replay.Agent(): &d.agent, replay.ReservationSystem(): &d.reservations, auditor(): &d.auditor} {
		if *to, err = caller(server, identity); err != nil {
			return nil, errors.Join(err, server.Close())
		}
	}
	done := 0
	for step := range recording.Steps() {
		if err := d.step(ctx, &step); err != nil {
			return nil, errors.Join(fmt.Errorf("task %d, trial %d, step %d: %w", step.Task, step.Trial, step.Step, err), server.Close())
		}
		if done++; done%50 == 0 || done == recording.Len() {
			fmt.Fprintf(progress, "\r%d of %d calls", done, recording.Len())
		}
	}
	fmt.Fprintln(progress)
	if err := check(ctx, server, folder, d.summary); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	d.summary.Seconds = time.Since(started).Seconds()
	return d.summary, server.Close()
}

func site(issuer string) map[string][]byte {
	files := map[string][]byte{}
	add := func(prefix string, from map[string][]byte, err error) {
		if err != nil {
			panic(err) // the files are part of the program
		}
		for name, content := range from {
			files[prefix+name] = content
		}
	}
	policy, err := airline.Policy()
	add("policy/", policy, err)
	catalog, err := airline.Catalog(issuer)
	add("catalog/", catalog, err)
	return files
}

func auditor() access.Ref { return access.Ref{Type: access.TypeHuman, ID: "paul.lindqvist"} }

func caller(server *sandbox.Sandbox, identity access.Ref) (*client.Client, error) {
	return client.New(server.URL, client.Options{Token: func(context.Context) (string, error) {
		return server.Token(identity, time.Hour)
	}})
}

// desk is the airline's service desk under governance.
type desk struct {
	agent, reservations, auditor *client.Client

	task    string // of the present run
	summary *replay.Summary
}

// check verifies the log and computes every decision again.
func check(ctx context.Context, server *sandbox.Sandbox, folder string, summary *replay.Summary) error {
	key, err := os.ReadFile(server.VerifierKey())
	if err != nil {
		return err
	}
	verified, err := store.Verify(ctx, server.App.Database(), string(key), store.VerifyOptions{Scratch: folder})
	if err != nil {
		return err
	}
	summary.LogVerified = verified.OK()
	replayed, err := app.Replay(ctx, server.App.Store(), nil, nil)
	if err != nil {
		return err
	}
	summary.DecisionsReplayed, summary.ReplayMismatches = replayed.Decisions, len(replayed.Mismatches)
	return nil
}

const maxFacts = 200 // in one call

// step makes one recorded call as the governed agent would.
func (d *desk) step(ctx context.Context, s *replay.Step) error {
	if s.First {
		task, err := d.agent.OpenTask(ctx, client.OpenTask{Type: replay.TaskType, Purpose: s.Intent})
		if err != nil {
			return err
		}
		d.task = task.Task.ID
	}
	if err := d.tell(ctx, s); err != nil {
		return err
	}
	outcome, policies, err := d.ask(ctx, s)
	if err != nil {
		return err
	}
	d.summary.Add(s, outcome, policies)
	if s.Last {
		_, err = d.agent.CompleteTask(ctx, d.task)
	}
	return err
}

// tell has the reservation system tell how things stand at this moment of the run.
func (d *desk) tell(ctx context.Context, s *replay.Step) error {
	facts := make([]client.Fact, 0, len(s.Facts)+len(s.Gone))
	for _, entity := range s.Facts {
		fact := client.Fact{ID: entity.ID.String(), Attributes: entity.Attributes}
		for _, parent := range entity.Parents {
			fact.Parents = append(fact.Parents, parent.String())
		}
		facts = append(facts, fact)
	}
	for _, gone := range s.Gone {
		facts = append(facts, client.Fact{ID: gone.String(), Gone: true})
	}
	for part := range slices.Chunk(facts, maxFacts) {
		if _, err := d.reservations.PushFacts(ctx, client.Facts{Facts: part}); err != nil {
			return err
		}
	}
	return nil
}

// ask asks for what the agent is about to do. Which policies decided is read as the auditor; the agent is not told.
func (d *desk) ask(ctx context.Context, s *replay.Step) (access.Outcome, []string, error) {
	outcome, err := d.agent.Request(ctx, client.AccessRequest{
		Task: d.task, Action: s.Request.Action.String(), Resource: s.Request.Resource.String(), Args: s.Request.Args,
	})
	var problem *client.Problem
	switch {
	case err == nil:
		policies, err := d.policies(ctx, outcome.Decision.ID)
		return access.Outcome(outcome.Decision.Outcome), policies, err
	case !errors.As(err, &problem):
		return "", nil, err
	case problem.Decision != "":
		policies, err := d.policies(ctx, problem.Decision)
		return access.Deny, policies, err
	case slices.Contains([]string{"unknown_resource", "invalid_args"}, problem.Code):
		return access.Deny, []string{problem.Code}, nil // not even a request: the agent made up what it asked for
	default:
		return "", nil, err
	}
}

func (d *desk) policies(ctx context.Context, decision string) ([]string, error) {
	read, err := d.auditor.Decision(ctx, decision)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, p := range read.Account.Policies {
		ids = append(ids, p.ID)
	}
	if len(ids) == 0 {
		ids = append(ids, read.Code)
	}
	return ids, nil
}
