package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// countFlushes counts the flushes of the disk for each request, by watching the system calls of whoever writes the database.
func (r *run) countFlushes(ctx context.Context, b base) ([]flush, error) {
	var out []flush
	for _, connections := range r.settings.connections {
		at, drop, err := r.copyOf(ctx, b)
		if err != nil {
			return nil, err
		}
		got, err := r.watch(ctx, at, connections)
		if err = errors.Join(err, drop()); err != nil {
			return nil, fmt.Errorf("flushes of %s, %d connections: %w", b.engine, connections, err)
		}
		r.progress("%s, %d connections: %.3f flushes a request", b.engine, connections, got.PerRequest)
		out = append(out, *got)
	}
	return out, nil
}

// longestWatched bounds a watched pass: what is counted for each request needs no more.
const longestWatched = 3 * time.Second

// watch counts over a pass. SQLite's server is started under strace, which stops it at nothing but the calls that are counted.
// strace could only be attached to PostgreSQL, which runs already, and would slow it tenfold; it counts its own flushes.
func (r *run) watch(ctx context.Context, at base, connections int) (*flush, error) {
	if at.engine == postgres {
		return r.watchPostgres(ctx, at, connections)
	}
	trace := filepath.Join(at.data, "trace")
	server, err := r.serve(ctx, at.state, plain, "strace", "-D", "-f", "--seccomp-bpf", "-q", "-ttt", "-e", "trace=fsync,fdatasync", "-o", trace)
	if err != nil {
		return nil, err
	}
	out := &flush{Database: at.engine, Connections: connections, By: "strace"}
	from, to, err := r.watched(ctx, server, at, out)
	if err != nil {
		return nil, err
	}
	if err := ended(ctx, trace, server.pid()); err != nil {
		return nil, err
	}
	if out.Calls, err = flushesIn(trace, from, to); err != nil {
		return nil, err
	}
	for _, n := range out.Calls {
		out.PerRequest += float64(n) / float64(out.Requests)
	}
	return out, nil
}

// watchPostgres counts over the life of a server, for PostgreSQL's processes tell of their flushes when they end at the latest.
func (r *run) watchPostgres(ctx context.Context, at base, connections int) (*flush, error) {
	out := &flush{Database: at.engine, Connections: connections, By: "pg_stat_wal"}
	before, err := r.walSyncs(ctx)
	if err != nil {
		return nil, err
	}
	server, err := r.serve(ctx, at.state, plain)
	if err != nil {
		return nil, err
	}
	if _, _, err := r.watched(ctx, server, at, out); err != nil {
		return nil, err
	}
	after, err := r.walSyncs(ctx)
	out.Calls = map[string]int{"wal_sync": after - before}
	out.PerRequest = float64(after-before) / float64(out.Requests+int64(len(at.tasks)))
	return out, err
}

// watched sends the load, once round and then for a time, and stops the server.
func (r *run) watched(ctx context.Context, server *process, at base, out *flush) (from, to time.Time, err error) {
	defer func() { err = errors.Join(err, server.stop()) }()
	requests, err := r.requests(at.tasks, plain, server.address)
	if err != nil {
		return from, to, err
	}
	if _, err := drive(ctx, server.target, requests, pass{connections: out.Connections}); err != nil {
		return from, to, err
	}
	before, err := metrics(ctx, server)
	if err != nil {
		return from, to, err
	}
	from = time.Now()
	got, err := drive(ctx, server.target, requests, pass{out.Connections, min(r.settings.duration, longestWatched)})
	to = time.Now()
	if err != nil {
		return from, to, err
	}
	out.Requests, out.Rate = got.requests, got.rate()
	out.Metrics, err = grown(ctx, server, before)
	return from, to, err
}

// walSyncs is how often PostgreSQL has flushed its log.
func (r *run) walSyncs(ctx context.Context) (int, error) {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.pg.PID()))
	if err != nil {
		return 0, err
	}
	psql := filepath.Join(filepath.Dir(program), "psql")
	said, err := exec.CommandContext(ctx, psql, "-X", "-A", "-t", "-h", filepath.Dir(r.pg.Socket()), "-U", "postgres", "-d", "postgres",
		"-c", "SELECT wal_sync FROM pg_stat_wal").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("psql: %w\n%s", err, said)
	}
	return strconv.Atoi(strings.TrimSpace(string(said)))
}

// ended waits until the trace of a process that has ended is complete.
func ended(ctx context.Context, trace string, pid int) error {
	last := regexp.MustCompile(fmt.Sprintf(`(?m)^%d .* \+\+\+ `, pid))
	for range 1000 {
		if content, err := os.ReadFile(trace); err == nil && last.Match(content) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return errors.New("strace does not end")
}

// flushesIn counts the calls that began within a time. A line is: pid, seconds of Unix time, call. One that another process
// interrupted is resumed in a line of its own, which is not counted again.
func flushesIn(trace string, from, to time.Time) (map[string]int, error) {
	content, err := os.ReadFile(trace)
	if err != nil {
		return nil, err
	}
	calls := map[string]int{}
	for line := range bytes.Lines(content) {
		fields := strings.Fields(string(line))
		if len(fields) < 3 {
			continue
		}
		name, _, called := strings.Cut(fields[2], "(")
		at, err := strconv.ParseFloat(fields[1], 64)
		if seconds := unix(from); !called || err != nil || at < seconds || at > unix(to) {
			continue
		}
		calls[name]++
	}
	if len(calls) == 0 {
		return nil, errors.New("nothing was flushed, or strace could not see it: is it allowed to trace?")
	}
	return calls, nil
}

func unix(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// metrics are the counters of a server that tell of commits or flushes.
func metrics(ctx context.Context, server *process) (map[string]float64, error) {
	text, err := server.fetch(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	counter := regexp.MustCompile(`(?m)^(writ_\w*(?:commit|flush)\w*_(?:total|count))(?:\{[^}]*\})? (\S+)$`)
	out := map[string]float64{}
	for _, m := range counter.FindAllSubmatch(text, -1) {
		value, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return nil, err
		}
		out[string(m[1])] += value
	}
	return out, nil
}

func grown(ctx context.Context, server *process, before map[string]float64) (map[string]float64, error) {
	after, err := metrics(ctx, server)
	for name := range after {
		after[name] -= before[name]
	}
	return after, err
}
