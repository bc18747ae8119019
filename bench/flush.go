package main

import (
	"bufio"
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

// watch starts the server under strace, which stops it at nothing but the calls that are counted. PostgreSQL runs already, so
// strace is attached to all its processes; there every system call is slower.
func (r *run) watch(ctx context.Context, at base, connections int) (_ *flush, err error) {
	trace := filepath.Join(at.data, "trace")
	out := &flush{Database: at.engine, Connections: connections, Processes: "the server"}
	var before []string
	if at.engine == sqlite {
		before = []string{"strace", "-D", "-f", "--seccomp-bpf", "-q", "-ttt", "-e", "trace=fsync,fdatasync", "-o", trace}
	}
	server, err := r.serve(ctx, at.state, before...)
	if err != nil {
		return nil, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, server.stop())
		}
	}()
	requests := r.requests(at.tasks, server.address)
	if _, err := drive(ctx, server.address, requests, pass{connections: connections}); err != nil {
		return nil, err
	}
	detach := func() error { return nil }
	if at.engine == postgres {
		out.Processes = "PostgreSQL"
		if detach, err = attach(ctx, r.pg.PID(), trace); err != nil {
			return nil, err
		}
	}
	counted, err := metrics(ctx, server)
	if err != nil {
		return nil, errors.Join(err, detach())
	}
	from := time.Now()
	got, err := drive(ctx, server.address, requests, pass{connections, min(r.settings.duration, longestWatched)})
	to := time.Now()
	if err = errors.Join(err, detach()); err != nil {
		return nil, err
	}
	if out.Metrics, err = grown(ctx, server, counted); err != nil {
		return nil, err
	}
	stopped = true
	if err := server.stop(); err != nil {
		return nil, err
	}
	if at.engine == sqlite {
		if err := ended(ctx, trace, server.pid()); err != nil {
			return nil, err
		}
	}
	out.Requests, out.Rate = got.requests, got.rate()
	out.Calls, err = flushesIn(trace, from, to)
	for _, n := range out.Calls {
		out.PerRequest += float64(n) / float64(out.Requests)
	}
	return out, err
}

// attach has strace watch a process and its children. detach ends that; the trace is then complete.
func attach(ctx context.Context, parent int, trace string) (detach func() error, err error) {
	pids, err := family(parent)
	if err != nil {
		return nil, err
	}
	args := []string{"-f", "-ttt", "-e", "trace=fsync,fdatasync", "-o", trace}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	cmd := exec.CommandContext(ctx, "strace", args...)
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(said)
	for range pids {
		if !lines.Scan() || !strings.Contains(lines.Text(), "attached") {
			_ = cmd.Process.Kill()
			return nil, errors.Join(fmt.Errorf("strace does not attach: %s", lines.Text()), cmd.Wait())
		}
	}
	return func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		for lines.Scan() {
			continue // what it says of detaching
		}
		var status *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &status) { // it ends by the signal
			return err
		}
		return nil
	}, nil
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
	text, err := fetch(ctx, "http://"+server.address+"/metrics")
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
