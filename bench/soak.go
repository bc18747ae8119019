package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/evidence"
)

const (
	soakWorkers = 8
	soakSamples = 60
	soakChecked = 25 // acknowledged decisions of each kind that are looked for after a restart
)

// sample is what a server looked like at one time; latencies are of the governed requests since the sample before, as a client
// in Go sees them.
type sample struct {
	Seconds    float64 `json:"seconds"`
	RSS        float64 `json:"rss_mib"`
	Database   float64 `json:"database_bytes"` // SQLite: the file; PostgreSQL: all databases of the server
	WAL        float64 `json:"wal_bytes"`
	Entries    float64 `json:"entries"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Requests   int64   `json:"requests"`
	Files      float64 `json:"open_files"`
	Threads    float64 `json:"threads"`
	Goroutines float64 `json:"goroutines,omitempty"` // if /metrics has them
	Lives      int     `json:"lives"`                // of the server: how often it was started
}

// soaking is one soak of one database.
type soaking struct {
	*run

	at      base
	config  string
	load    *soaker
	server  *process
	lives   int
	kept    []string // files with checkpoints
	newest  evidence.Checkpoint
	out     *soakResult
	checker *worker // no part of the load
}

// soak runs the mixed load on each database. A promise that is broken is an error; what is not flat is not.
func (r *run) soak(ctx context.Context, stdout io.Writer) error {
	result := &soakReport{Started: time.Now().UTC().Format(time.RFC3339), Duration: r.settings.soak.String(), Rate: r.settings.rate, Machine: machineOf(ctx)}
	var broken error
	for _, engine := range r.settings.databases {
		b, err := r.makeBase(ctx, engine)
		if err != nil {
			return fmt.Errorf("set up %s: %w", engine, err)
		}
		out, err := r.soakOne(ctx, b)
		if err != nil {
			out.Broken = err.Error()
			broken = errors.Join(broken, fmt.Errorf("%s: %w", engine, err))
		}
		out.judge()
		out.print(stdout)
		result.Databases = append(result.Databases, out)
	}
	result.Kept = broken == nil
	encoded, err := json.MarshalIndent(result, "", "  ")
	if err == nil {
		err = os.WriteFile(r.settings.out, append(encoded, '\n'), 0o644)
	}
	return errors.Join(broken, err)
}

func (r *run) soakOne(ctx context.Context, b base) (_ *soakResult, err error) {
	k := &soaking{run: r, at: b, out: &soakResult{Database: b.engine}}
	address, err := freeAddress(ctx)
	if err != nil {
		return k.out, err
	}
	if k.config, err = r.configure(b.state, plain, address); err != nil {
		return k.out, err
	}
	if err := k.prepare(address); err != nil {
		return k.out, err
	}
	if err := k.begin(ctx, address); err != nil {
		return k.out, err
	}
	defer func() { err = errors.Join(err, k.server.stop()) }()
	if err := k.drive(ctx); err != nil {
		return k.out, err
	}
	if err := k.nothingIsAlive(ctx); err != nil {
		return k.out, err
	}
	if err := k.afterRestart(ctx); err != nil {
		return k.out, err
	}
	if err := k.server.stop(); err != nil {
		return k.out, err
	}
	return k.out, k.verifyAll(ctx)
}

func (k *soaking) prepare(address string) error {
	public, err := os.ReadFile(filepath.Join(k.site, "data", "log.pub"))
	if err != nil {
		return err
	}
	k.load = &soaker{address: address, tokens: k.tokens, origin: strings.TrimSpace(string(public)), latency: &histogram{}, counts: map[string]int64{}}
	k.out.Calls = k.load.counts
	for subject, token := range map[string]*string{"guard": &k.load.guard, "order-system": &k.load.source} {
		if *token, err = k.idp.Token(subject, audience, tokenLife, nil); err != nil {
			return err
		}
	}
	k.checker, err = k.load.newWorker(nil, 0)
	return err
}

// begin starts the server, always at the same address.
func (k *soaking) begin(ctx context.Context, address string) error {
	k.lives++
	server, err := k.launch(ctx, k.at.state, target{address: address}, k.config)
	if err == nil {
		k.server = server
	}
	return err
}

// drive runs load, samples and restarts for the time that was asked for.
func (k *soaking) drive(ctx context.Context) error {
	loading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop(nil)
	if err := k.seed(ctx); err != nil {
		return err
	}
	every := time.Duration(float64(soakWorkers) / k.settings.rate * float64(time.Second))
	for i := range soakWorkers {
		w, err := k.load.newWorker(agentsOf(i, len(k.tokens)), every)
		if err != nil {
			return err
		}
		group.Go(func() {
			if err := w.work(loading); err != nil {
				stop(err)
			}
		})
	}
	started, step := time.Now(), k.settings.soak/soakSamples
	between := soakSamples // samples
	if k.settings.restarts > 0 {
		between = max(1, soakSamples/k.settings.restarts)
	}
	for n := 1; n <= soakSamples; n++ {
		if err := waitUntil(loading, started.Add(time.Duration(n)*step)); err != nil {
			return err
		}
		if err := k.sampled(loading, time.Since(started)); err != nil {
			return errors.Join(context.Cause(loading), err)
		}
		if k.settings.restarts > 0 && n%between == 0 && n < soakSamples {
			if err := waitUntil(loading, started.Add(time.Duration(n)*step+step/2)); err != nil {
				return err
			}
			if err := k.restart(ctx, n/between%2 == 0); err != nil {
				return errors.Join(context.Cause(loading), err)
			}
		}
	}
	stop(nil)
	group.Wait()
	if err := context.Cause(loading); !errors.Is(err, context.Canceled) {
		return err
	}
	return ctx.Err()
}

// waitUntil waits for a time; it ends early with the cause of ctx.
func waitUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// agentsOf are the identities of one worker, first one whose requests may need a person.
func agentsOf(worker, all int) []int {
	var out []int
	for ten := worker; ten < all/10; ten += soakWorkers {
		for n := range 10 {
			out = append(out, ten*10+(n+4)%10) // the fifth of ten is in billing
		}
	}
	return out
}

// seed makes the first acknowledged decision, which readers look for.
func (k *soaking) seed(ctx context.Context) error {
	w, err := k.load.newWorker(agentsOf(0, len(k.tokens)), 0)
	if err != nil {
		return err
	}
	got, err := w.client.Request(as(ctx, w.tokens[0]), client.AccessRequest{Task: k.at.tasks[0], Action: "read_order", Resource: fmt.Sprintf("Order::%q", orderID(0))})
	if err == nil {
		k.load.keep(got.Decision.ID, got.Evidence.Index)
	}
	return err
}

// sampled takes a sample, and keeps the checkpoint of that time.
func (k *soaking) sampled(ctx context.Context, after time.Duration) (err error) {
	s := sample{Seconds: after.Seconds(), Lives: k.lives}
	k.load.mu.Lock()
	window := k.load.latency
	k.load.latency = &histogram{}
	k.load.mu.Unlock()
	s.P50, s.P99, s.Requests = millis(window.quantile(0.5)), millis(window.quantile(0.99)), window.total
	pid := k.server.pid()
	if s.RSS, _, err = memory(pid); err != nil {
		return err
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return err
	}
	s.Files = float64(len(open))
	s.Threads, _ = strconv.ParseFloat(field(fmt.Sprintf("/proc/%d/status", pid), "Threads"), 64)
	if s.Database, s.WAL, err = k.sizes(); err != nil {
		return err
	}
	shown, err := k.server.fetch(ctx, "/metrics")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(shown) {
		if value, ok := bytes.CutPrefix(line, []byte("go_goroutines ")); ok {
			s.Goroutines, _ = strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
		}
	}
	if err := k.grown(ctx); err != nil {
		return err
	}
	s.Entries = float64(k.newest.Size)
	k.out.Samples = append(k.out.Samples, s)
	k.progress("%s: %3.0f %%  %.0f entries, %.0f MiB, WAL %.1f MiB, p50 %.2f ms, p99 %.1f ms", k.at.engine,
		100*after.Seconds()/k.settings.soak.Seconds(), s.Entries, s.RSS, s.WAL/(1<<20), s.P50, s.P99)
	return nil
}

// sizes are the bytes of the database, and of its write-ahead log.
func (k *soaking) sizes() (database, wal float64, err error) {
	if k.at.engine == postgres {
		data := filepath.Join(filepath.Dir(k.pg.Socket()), "data")
		if database, err = bytesBelow(filepath.Join(data, "base")); err == nil {
			wal, err = bytesBelow(filepath.Join(data, "pg_wal"))
		}
		return database, wal, err
	}
	info, err := os.Stat(k.at.database())
	if err != nil {
		return 0, 0, err
	}
	wal, err = bytesBelow(k.at.database() + "-wal")
	return float64(info.Size()), wal, err
}

// bytesBelow is what files below a path take; a file that has just gone takes nothing.
func bytesBelow(path string) (total float64, err error) {
	err = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				total += float64(info.Size())
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return total, err
}

// grown reads a checkpoint and keeps it. It must cover all that was acknowledged before it was asked for.
func (k *soaking) grown(ctx context.Context) error {
	top := k.load.top.Load()
	signed, err := k.checker.client.Checkpoint(ctx)
	if err != nil {
		return err
	}
	checkpoint, err := evidence.OpenCheckpoint(signed, k.load.origin)
	if err != nil {
		return brokenError(err.Error())
	}
	if checkpoint.Size <= top || checkpoint.Size < k.newest.Size {
		return brokenError(fmt.Sprintf("the checkpoint has %d entries: entry %d was acknowledged, and an earlier one had %d", checkpoint.Size, top, k.newest.Size))
	}
	k.newest = checkpoint
	file := filepath.Join(k.folder, fmt.Sprintf("checkpoint-%s-%d", k.at.engine, len(k.kept)))
	k.kept = append(k.kept, file)
	return os.WriteFile(file, signed, 0o600)
}

// restart ends the server under load, gracefully or not, and starts it again; then all that was acknowledged must be there.
func (k *soaking) restart(ctx context.Context, graceful bool) error {
	k.load.epoch.Add(1)
	defer k.load.epoch.Add(1) // also after a failure, or workers would wait for ever
	if graceful {
		if err := k.server.stop(); err != nil {
			return brokenError("a graceful stop: " + err.Error())
		}
		k.out.Graceful++
	} else {
		if err := k.server.cmd.Process.Signal(syscall.SIGKILL); err != nil {
			return err
		}
		k.server.done <- <-k.server.done // it has ended, and stop finds that again
		k.out.Killed++
	}
	if err := k.begin(ctx, k.load.address); err != nil {
		return brokenError("start again: " + err.Error())
	}
	k.out.Ready = append(k.out.Ready, millis(k.server.ready.Sub(k.server.started)))
	return k.afterRestart(ctx)
}

// afterRestart looks for a sample of what was acknowledged: of late, and ever.
func (k *soaking) afterRestart(ctx context.Context) error {
	if err := k.grown(ctx); err != nil {
		return err
	}
	k.load.mu.Lock()
	look := append(some(k.load.recent, soakChecked), some(k.load.acks, soakChecked)...)
	if n := len(k.load.recent); n > 0 {
		look = append(look, k.load.recent[max(0, n-soakWorkers):]...) // the last words before the end
	}
	k.load.recent = nil
	k.load.mu.Unlock()
	for _, a := range look {
		if err := k.checker.found(ctx, a); err != nil {
			return err
		}
	}
	k.out.Looked += len(look)
	return nil
}

// nothingIsAlive reads all grants that must be dead, when the last of them has run out.
func (k *soaking) nothingIsAlive(ctx context.Context) error {
	last := time.Now()
	for _, e := range k.load.dead {
		if e.from.After(last) && e.from.Before(last.Add(time.Minute)) {
			last = e.from
		}
	}
	k.progress("%s: seeing that %d grants are dead", k.at.engine, len(k.load.dead))
	if err := waitUntil(ctx, last.Add(time.Second)); err != nil {
		return err
	}
	k.out.Dead, k.out.Sealed = map[string]int{}, map[string]int{}
	for _, e := range k.load.dead {
		if time.Now().Before(e.from) {
			continue
		}
		if err := k.checker.alive(ctx, e.grant, false, e.why); err != nil {
			return err
		}
		k.out.Dead[e.why]++
		if e.task == "" {
			continue
		}
		sealed, err := k.checker.sealed(ctx, e.task, e.why != "expired") // a sweep ends what has run out, some time later
		if err != nil {
			return err
		}
		if sealed {
			k.out.Sealed[e.why]++
		}
	}
	return nil
}

// verifyAll checks the whole database as an operator does, with every checkpoint that was kept.
func (k *soaking) verifyAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, verifyLimit)
	defer cancel()
	started := time.Now()
	defer k.tell("writ evidence verify")()
	words := []string{"evidence", "verify", "--key", filepath.Join(k.site, "data", "log.pub"), "--json"}
	if k.at.engine == postgres {
		words = append(words, "--database", k.at.url)
	} else {
		words = append(words, "--data", k.at.data)
	}
	for _, file := range k.kept {
		words = append(words, "--checkpoint", file)
	}
	said, err := output(exec.CommandContext(ctx, k.writ, words...))
	if err != nil {
		return brokenError(fmt.Sprintf("writ evidence verify: %v\n%.2000s", err, said))
	}
	var verified struct {
		OK      bool  `json:"ok"`
		Entries int64 `json:"entries"`
	}
	if err := json.Unmarshal(said, &verified); err != nil {
		return err
	}
	if !verified.OK || verified.Entries <= k.load.top.Load() {
		return brokenError(fmt.Sprintf("the log does not verify: %.2000s", said))
	}
	k.out.Verified, k.out.Checkpoints, k.out.VerifySeconds = verified.Entries, len(k.kept), time.Since(started).Seconds()
	return nil
}
