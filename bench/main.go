// Command bench measures whole governed requests on a real `writ serve` process, on SQLite and PostgreSQL, against a bare
// net/http handler that reads and writes JSON of the same size. All that is compared is alternated in one run, for the speed of
// a machine drifts: ratios can be believed, absolute figures are of their moment.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/writ-project/writ/internal/app"
)

// longestProven is the longest time that proofs can be made for before.
const longestProven = 20 * time.Second

// settings say what to measure.
type settings struct {
	duration         time.Duration // of a cell
	out              string
	databases        []string
	callers          []callers
	connections      []int
	largeConnections []int
	repeats          int
	identities       int
	entries          int // of the large log; 0: none is measured
	idempotent       bool
	flushes          bool
	writ             string        // program to measure; empty: built here
	profile          string        // file; then nothing is measured
	soak             time.Duration // 0: none; else nothing is measured
	rate             float64       // of its calls, a second
	restarts         int           // in it
	perIdentity      float64
}

func main() {
	if ran, err := child(); ran {
		exit(err)
	}
	s, err := read(os.Args[1:], os.Stderr)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = bench(ctx, s, os.Stdout, os.Stderr)
		stop()
	}
	exit(err)
}

func exit(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func read(args []string, errs io.Writer) (settings, error) {
	s := settings{perIdentity: 1e6}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.DurationVar(&s.duration, "duration", 10*time.Second, "of each cell")
	flags.StringVar(&s.out, "out", "bench.json", "file for the result")
	databases := flags.String("databases", sqlite+","+postgres, "to measure")
	connections := flags.String("connections", "1,16,64", "to measure")
	how := flags.String("callers", string(plain), "how they prove who they are, to measure beside each other: plain (a bearer token), dpop (and a proof of possession), tls (a bearer token over TLS), mtls (an X.509-SVID); a profile is of the first")
	flags.IntVar(&s.repeats, "repeats", 3, "of each cell")
	flags.IntVar(&s.identities, "identities", 1000, "that ask, each with a token and a task of its own")
	flags.IntVar(&s.entries, "entries", 0, "of a large log that is compared with a small one; 0: none")
	flags.BoolVar(&s.idempotent, "idempotency", false, "send an Idempotency-Key with every request")
	flags.BoolVar(&s.flushes, "flushes", true, "count the flushes of the disk; needs strace")
	flags.StringVar(&s.writ, "writ", "", "program to measure; empty: built from here")
	flags.StringVar(&s.profile, "profile", "", "measure nothing, but write a CPU profile of a warm server under the most connections to this file, and one of its memory beside it (.heap)")
	flags.DurationVar(&s.soak, "soak", 0, "measure nothing, but keep a mixed load on a server for so long, and see what grows; 0: no")
	flags.Float64Var(&s.rate, "rate", 200, "calls a second of a soak, at most")
	flags.IntVar(&s.restarts, "restarts", 12, "of the server in a soak, every second one by kill -9; 0: none")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.soak < 0 || s.soak > tokenLife/2 || s.rate <= 0 || s.restarts < 0 || s.restarts > soakSamples/2 {
		return s, fmt.Errorf("-soak must be at most %s, -rate positive, -restarts from 0 to %d", tokenLife/2, soakSamples/2)
	}
	if s.soak > 0 && s.identities < 10*soakWorkers {
		return s, fmt.Errorf("-identities: a soak needs at least %d", 10*soakWorkers)
	}
	s.databases = strings.Split(*databases, ",")
	for _, engine := range s.databases {
		if engine != sqlite && engine != postgres {
			return s, fmt.Errorf("-databases: %q is neither %s nor %s", engine, sqlite, postgres)
		}
	}
	for _, text := range strings.Split(*connections, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 4096 {
			return s, fmt.Errorf("-connections: %q is no number from 1 to 4096", text)
		}
		s.connections = append(s.connections, n)
	}
	var err error
	if s.callers, err = readCallers(*how); err != nil {
		return s, err
	}
	if slices.Contains(s.callers, mtls) && s.identities < slices.Max(s.connections) {
		return s, errors.New("-identities: with mtls each has a connection of its own, so there must be at least as many as -connections")
	}
	if slices.Contains(s.callers, dpop) && s.duration > longestProven {
		return s, fmt.Errorf("-duration: with dpop at most %s, for proofs are made before and a server takes none that is older than a minute", longestProven)
	}
	s.largeConnections = slices.Compact([]int{slices.Min(s.connections), slices.Max(s.connections)})
	if s.duration <= 0 || s.repeats < 1 || s.identities < 50 || s.identities > 10_000 || s.entries < 0 {
		return s, errors.New("-duration and -repeats must be positive, -identities from 50 to 10000, -entries not negative")
	}
	return s, nil
}

// bench runs everything. A run that is not valid is an error; a goal that is missed is not.
func bench(ctx context.Context, s settings, stdout, errs io.Writer) (err error) {
	folder, err := os.MkdirTemp("", "writ-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := os.Chmod(folder, 0o711); err != nil {
		return err
	}
	started := time.Now()
	var saying sync.Mutex
	r := &run{progress: func(format string, args ...any) {
		saying.Lock()
		defer saying.Unlock()
		fmt.Fprintf(errs, "%6.0f s  %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
	}}
	r.progress("building writ; %d identities", s.identities)
	if r.installation, err = install(ctx, s, folder); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if s.profile != "" {
		return r.profile(ctx)
	}
	if s.soak > 0 {
		return r.soak(ctx, stdout)
	}
	result := &report{Started: started.UTC().Format(time.RFC3339), Settings: s.told(), Policies: counted(), Machine: machineOf(ctx)}
	for _, engine := range s.databases {
		if err := r.measure(ctx, engine, result); err != nil {
			return err
		}
	}
	if err := result.sizes(r.sample); err != nil {
		return err
	}
	result.judge()
	result.Valid, result.Seconds = true, time.Since(started).Seconds()
	result.print(stdout)
	encoded, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.out, append(encoded, '\n'), 0o644)
}

// measure measures everything on one database.
func (r *run) measure(ctx context.Context, engine string, result *report) (err error) {
	r.progress("%s: opening a task of each identity", engine)
	b, err := r.makeBase(ctx, engine)
	if err != nil {
		return fmt.Errorf("set up %s: %w", engine, err)
	}
	if engine == postgres {
		if result.Machine.Postgres, err = r.postgresVersion(ctx); err != nil {
			return err
		}
	}
	r.handlers = map[bool]*process{}
	defer func() {
		for _, handler := range r.handlers {
			err = errors.Join(err, handler.stop())
		}
	}()
	for _, how := range r.settings.callers {
		if err := r.warmBare(ctx, b, how); err != nil {
			return err
		}
	}
	cells, compared, err := r.measureCells(ctx, b)
	if err != nil {
		return err
	}
	result.Cells, result.Callers = append(result.Cells, cells...), append(result.Callers, compared...)
	if r.settings.flushes {
		flushes, err := r.countFlushes(ctx, b)
		if err != nil {
			return err
		}
		result.Flushes = append(result.Flushes, flushes...)
	}
	if r.settings.entries > 0 {
		compared, err := r.measureLarge(ctx, b)
		if err != nil {
			return err
		}
		result.Large = append(result.Large, *compared)
	}
	return nil
}

// warmBare starts the bare handler that callers of a kind are compared on, unless it runs, and warms it.
func (r *run) warmBare(ctx context.Context, b base, how callers) (err error) {
	handler := r.handlers[how.overTLS()]
	if handler == nil {
		if handler, err = r.bare(ctx, how); err != nil {
			return err
		}
		r.handlers[how.overTLS()] = handler
	}
	requests, err := r.bareRequests(b.tasks, how, handler.address)
	if err != nil {
		return err
	}
	_, err = drive(ctx, handler.target, requests, pass{slices.Max(r.settings.connections), min(r.settings.duration, time.Second)})
	return err
}

// profile writes a CPU profile of a warm server, which is this program.
func (r *run) profile(ctx context.Context) (err error) {
	b, err := r.makeBase(ctx, r.settings.databases[0])
	if err != nil {
		return err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	how := r.settings.callers[0]
	config, err := r.configure(b.state, how, address)
	if err != nil {
		return err
	}
	cmd, err := self(ctx, "profile", config, r.settings.profile)
	if err != nil {
		return err
	}
	server, err := start(ctx, cmd, r.at(how, address), "/readyz", config+".log")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	connections := slices.Max(r.settings.connections)
	requests, err := r.requests(b.tasks, how, address)
	if err != nil {
		return err
	}
	cold, err := drive(ctx, server.target, requests, pass{connections: connections})
	if err != nil {
		return err
	}
	if _, err := makeProofs(requests, enough(cold.rate(), r.settings.duration)); err != nil {
		return err
	}
	open, err := connect(ctx, server.target, requests, pass{connections: connections})
	if err != nil {
		return err
	}
	defer open.close()
	if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	got, err := open.drive(ctx, requests, pass{connections, r.settings.duration})
	if err != nil {
		return err
	}
	r.progress("%.0f requests/s at %d connections; go tool pprof -top %s", got.rate(), connections, r.settings.profile)
	return nil
}

func (s *settings) told() asked {
	return asked{
		Duration: s.duration.String(), Databases: s.databases, Callers: s.callers, Connections: s.connections, Repeats: s.repeats, Identities: s.identities,
		Entries: s.entries, Idempotency: s.idempotent, Tokens: "ES256, one for each identity", Signatures: "EdDSA",
	}
}

func counted() (p policies) {
	for _, rule := range accessRules() {
		if rule.effect == "approval" {
			p.Approval++
		} else {
			p.Access++
		}
	}
	p.Risk = len(riskRules())
	return p
}

func (r *report) sizes(sample string) error {
	answer, err := os.ReadFile(sample)
	if err != nil {
		return err
	}
	body, _, _ := ask(0, "01990000-0000-7000-8000-000000000000")
	r.Settings.Request, r.Settings.Answer = len(body), len(answer)
	return nil
}

func machineOf(ctx context.Context) machine {
	out := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Writ: app.Version, Kernel: firstLine("/proc/sys/kernel/osrelease")}
	out.Load = strings.Join(strings.Fields(firstLine("/proc/loadavg"))[:3], " ")
	out.CPU = field("/proc/cpuinfo", "model name")
	kib, _ := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"))
	out.MemoryMB = kib / 1024
	if commit, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		out.Commit = strings.TrimSpace(string(commit))
	}
	return out
}

func (r *run) postgresVersion(ctx context.Context) (string, error) {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.pg.PID()))
	if err != nil {
		return "", err
	}
	version, err := exec.CommandContext(ctx, program, "--version").Output()
	return strings.TrimSpace(string(version)), err
}

func firstLine(path string) string {
	content, _ := os.ReadFile(path) // without it the figure is empty
	line, _, _ := bytes.Cut(content, []byte("\n"))
	return string(line)
}

// field is the first value of a key in a file of /proc.
func field(path, key string) string {
	content, _ := os.ReadFile(path) // without it the figure is empty
	for line := range strings.Lines(string(content)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
