package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/store"
)

const (
	prefillLimit = 20 * time.Minute
	verifyLimit  = 30 * time.Minute
	entriesEach  = 64 // in one change
	writers      = 4  // changes at once: they share a transaction
)

// measureLarge fills a copy of a base, and compares it with the base.
func (r *run) measureLarge(ctx context.Context, b base) (_ *large, err error) {
	full, drop, err := r.copyOf(ctx, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	started := time.Now()
	out := &large{Database: b.engine}
	before, err := r.size(full)
	if err != nil {
		return nil, err
	}
	if out.Entries, err = r.prefill(ctx, full); err != nil {
		return nil, fmt.Errorf("fill %s: %w", b.engine, err)
	}
	out.Prefill = time.Since(started).Seconds()
	after, err := r.size(full)
	if err != nil {
		return nil, err
	}
	out.SizeMiB = after - before
	if err := r.startTimes(ctx, b, full, out); err != nil {
		return nil, err
	}
	for _, connections := range r.settings.largeConnections {
		got, err := r.compare(ctx, b, full, connections)
		if err != nil {
			return nil, fmt.Errorf("%s, %d entries, %d connections: %w", b.engine, out.Entries, connections, err)
		}
		r.progress("%s, %d entries, %d connections: %.2f times the time of a small log", b.engine, out.Entries, connections, got.Times.Median)
		out.Cells = append(out.Cells, *got)
	}
	r.progress("%s: verifying %d entries", b.engine, out.Entries)
	out.Verify, err = r.verify(ctx, full)
	return out, err
}

// template is a decision that the server made, and what lies beside it.
type template struct {
	task   string
	made   event.DecisionMade
	values map[string]json.RawMessage
}

func (r *run) openStore(ctx context.Context, at base) (*store.Store, error) {
	keys := filepath.Join(r.site, "data")
	secret, err := os.ReadFile(filepath.Join(keys, "log.key"))
	if err != nil {
		return nil, err
	}
	signer, err := evidence.NewSigner(strings.TrimSpace(string(secret)))
	if err != nil {
		return nil, err
	}
	public, err := os.ReadFile(filepath.Join(keys, "log.pub"))
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Options{
		Database: at.database(), Signer: signer, VerifierKey: strings.TrimSpace(string(public)), Engine: app.Version, Now: time.Now,
	})
}

// prefill appends decisions like those in the log until it has as many entries as wanted, through the store itself: what is
// written is what a server would have written. It returns the size of the log.
func (r *run) prefill(ctx context.Context, at base) (_ int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, prefillLimit)
	defer cancel()
	opened, err := r.openStore(ctx, at)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	templates, err := templatesIn(ctx, opened)
	if err != nil {
		return 0, err
	}
	want := int64(r.settings.entries)
	var next atomic.Int64
	next.Store(opened.Size())
	var group sync.WaitGroup
	failed := make([]error, writers)
	for w := range writers {
		group.Go(func() {
			for failed[w] == nil {
				from := next.Add(entriesEach) - entriesEach
				if from >= want {
					return
				}
				change := event.Change{}
				for n := from; n < min(from+entriesEach, want); n++ {
					change.Drafts = append(change.Drafts, templates[n%int64(len(templates))].draft(opened.Now()))
				}
				_, failed[w] = opened.Update(ctx, func(*store.View) (event.Change, error) { return change, nil })
				const often = 100_000
				if from/often != (from+entriesEach)/often {
					r.progress("%s: %d of %d entries written", at.engine, from/often*often+often, want)
				}
			}
		})
	}
	group.Wait()
	return opened.Size(), errors.Join(failed...)
}

// templatesIn reads the decisions in a log that granted something.
func templatesIn(ctx context.Context, opened *store.Store) ([]template, error) {
	type raw struct {
		index int64
		body  []byte
	}
	var bodies []raw
	err := opened.Entries(ctx, 0, math.MaxInt32, func(index int64, body []byte) error {
		bodies = append(bodies, raw{index, append([]byte(nil), body...)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []template
	for _, b := range bodies {
		entry, err := evidence.Parse(b.body)
		if err != nil {
			return nil, err
		}
		decoded, _, err := event.Decode(entry.Type, entry.Data)
		if err != nil {
			return nil, err
		}
		made, ok := decoded.(*event.DecisionMade)
		if !ok || made.Grant == nil {
			continue
		}
		beside, err := opened.Disclosures(ctx, b.index)
		if err != nil {
			return nil, err
		}
		t := template{task: entry.Task, made: *made, values: map[string]json.RawMessage{}}
		for slot, value := range beside {
			t.values[slot] = value.Value
		}
		t.made.Labels = nil // gained already
		out = append(out, t)
	}
	if len(out) == 0 {
		return nil, errors.New("no decision in the log granted anything")
	}
	return out, nil
}

// draft is the same decision made once more, with a grant that has run out, as most in a long log have.
func (t *template) draft(now time.Time) event.Draft {
	made, grant := t.made, *t.made.Grant
	made.ID = uuid.Must(uuid.NewV7()).String()
	grant.ExpiresAt = now
	if grant.Credential != nil {
		credential := *grant.Credential
		credential.ExpiresAt = now
		grant.Credential = &credential
	}
	made.Grant = &grant
	return event.Draft{Task: t.task, Event: &made, Values: t.values}
}

// size is what the files of a database take in MiB; with PostgreSQL, of all databases of the server.
func (r *run) size(at base) (mib float64, err error) {
	folder := at.data
	if at.engine == postgres {
		folder = filepath.Join(filepath.Dir(r.pg.Socket()), "data", "base")
	}
	err = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(entry.Name(), ".reserve") {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			mib += float64(info.Size()) / (1 << 20)
		}
		return err
	})
	return mib, err
}

// startTimes measures how long a server takes until it is ready, on both logs.
func (r *run) startTimes(ctx context.Context, small, full base, out *large) error {
	var times [2][]float64
	for range r.settings.repeats {
		fresh, drop, err := r.copyOf(ctx, small)
		if err != nil {
			return err
		}
		for i, at := range []base{fresh, full} {
			server, err := r.serve(ctx, at.state, plain)
			if err != nil {
				return errors.Join(err, drop())
			}
			times[i] = append(times[i], millis(server.ready.Sub(server.started)))
			if err := server.stop(); err != nil {
				return errors.Join(err, drop())
			}
		}
		if err := drop(); err != nil {
			return err
		}
	}
	out.Start = startTimes{Small: spreadOf(times[0]), Large: spreadOf(times[1])}
	r.progress("%s: ready after %.0f ms, with %d entries after %.0f ms", small.engine, out.Start.Small.Median, out.Entries, out.Start.Large.Median)
	return nil
}

// compare alternates the small log and the large one.
func (r *run) compare(ctx context.Context, small, full base, connections int) (*largeCell, error) {
	var times []float64
	var smalls, larges []repeat
	for n := range r.settings.repeats {
		fresh, drop, err := r.copyOf(ctx, small)
		if err != nil {
			return nil, err
		}
		var a, b repeat
		first := func() error { return r.governed(ctx, fresh, plain, connections, &a) }
		second := func() error { return r.governed(ctx, full, plain, connections, &b) }
		if n%2 == 1 {
			first, second = second, first
		}
		if err = first(); err == nil {
			err = second()
		}
		if err = errors.Join(err, drop()); err != nil {
			return nil, err
		}
		times, smalls, larges = append(times, a.Warm.Rate/b.Warm.Rate), append(smalls, a), append(larges, b)
	}
	rate := func(r *repeat) float64 { return r.Warm.Rate }
	p99 := func(r *repeat) float64 { return r.Warm.P99 }
	used := func(r *repeat) float64 { return r.Warm.CPU + r.Warm.Postgres }
	return &largeCell{
		Connections: connections, Times: spreadOf(times),
		Small: over(smalls, rate), Large: over(larges, rate), SmallP99: over(smalls, p99), LargeP99: over(larges, p99),
		SmallCPU: over(smalls, used), LargeCPU: over(larges, used),
	}, nil
}

// verify times the verification of a whole database, and the verifier of entries by itself.
func (r *run) verify(ctx context.Context, at base) (_ *verification, err error) {
	ctx, cancel := context.WithTimeout(ctx, verifyLimit)
	defer cancel()
	key := filepath.Join(r.site, "data", "log.pub")
	public, err := os.ReadFile(key)
	if err != nil {
		return nil, err
	}
	out := &verification{By: "writ evidence verify"}
	if at.engine == postgres {
		out.By = "store.Verify" // the command knows no other database than a file
	}
	started := time.Now()
	stop := r.tell(out.By)
	if at.engine == postgres {
		out.Entries, err = verifyStore(ctx, at, strings.TrimSpace(string(public)))
	} else {
		out.Entries, err = r.verifyCommand(ctx, at, key)
	}
	stop()
	if err != nil {
		return nil, err
	}
	out.Seconds = time.Since(started).Seconds()
	out.Rate = float64(out.Entries) / out.Seconds
	out.VerifierRate, err = verifierAlone(ctx, at, strings.TrimSpace(string(public)))
	return out, err
}

func (r *run) verifyCommand(ctx context.Context, at base, key string) (int64, error) {
	said, err := output(exec.CommandContext(ctx, r.writ, "evidence", "verify", "--data", at.data, "--key", key, "--json"))
	if err != nil {
		return 0, fmt.Errorf("writ evidence verify: %w", err)
	}
	var verified struct {
		OK      bool  `json:"ok"`
		Entries int64 `json:"entries"`
	}
	if err := json.Unmarshal(said, &verified); err != nil {
		return 0, err
	}
	if !verified.OK {
		return 0, fmt.Errorf("the log does not verify: %.2000s", said)
	}
	return verified.Entries, nil
}

// output is what a command prints; what it says beside that, such as its progress, is in the error.
func output(command *exec.Cmd) ([]byte, error) {
	var beside bytes.Buffer
	command.Stderr = &beside
	said, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%.2000s%.2000s", err, beside.Bytes(), said)
	}
	return said, err
}

func verifyStore(ctx context.Context, at base, public string) (int64, error) {
	verified, err := store.Verify(ctx, at.database(), public, store.VerifyOptions{Scratch: at.data})
	if err != nil {
		return 0, err
	}
	if !verified.OK() {
		return 0, fmt.Errorf("the log does not verify: %v", verified.Findings)
	}
	return verified.Log.Entries, nil
}

// tell says from time to time that something long is still going on, until it is told to stop.
func (r *run) tell(what string) (stop func()) {
	const often = 15 * time.Second
	ticker, done := time.NewTicker(often), make(chan struct{})
	go func() {
		for {
			select {
			case <-ticker.C:
				r.progress("%s is still at work", what)
			case <-done:
				return
			}
		}
	}()
	return func() { ticker.Stop(); close(done) }
}

// verifierAlone is how many entries evidence.Verifier takes in a second; reading them from the database is not timed.
func verifierAlone(ctx context.Context, at base, public string) (float64, error) {
	opened, err := store.OpenReadOnly(ctx, at.database(), public)
	if err != nil {
		return 0, err
	}
	defer opened.Close()
	verifier := evidence.NewVerifier(opened.Origin())
	var spent time.Duration
	const chunk = 10_000
	for from := int64(0); from < opened.Size(); {
		var bodies [][]byte
		err := opened.Entries(ctx, from, chunk, func(_ int64, body []byte) error {
			bodies = append(bodies, append([]byte(nil), body...))
			return nil
		})
		if err != nil {
			return 0, err
		}
		started := time.Now()
		for _, body := range bodies {
			verifier.Add(body)
		}
		spent += time.Since(started)
		from += int64(len(bodies))
	}
	checkpoint, err := evidence.OpenCheckpoint(opened.Checkpoint(), public)
	if err != nil {
		return 0, err
	}
	report := verifier.Finish(checkpoint)
	if !report.OK() {
		return 0, fmt.Errorf("the log does not verify: %v", report.Problems)
	}
	return float64(report.Entries) / spent.Seconds(), nil
}
