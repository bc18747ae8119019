package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// run is one run of the benchmark.
type run struct {
	*installation

	handler  *process // the bare one
	progress func(format string, args ...any)
}

// measureCells alternates the bare handler with Writ on fresh copies of a base.
func (r *run) measureCells(ctx context.Context, b base) ([]cell, error) {
	var cells []cell
	for _, connections := range r.settings.connections {
		var all []repeat
		for n := range r.settings.repeats {
			got, err := r.repeat(ctx, b, connections, n%2 == 1)
			if err != nil {
				return nil, fmt.Errorf("%s, %d connections, repeat %d: %w", b.engine, connections, n+1, err)
			}
			r.progress("%s, %d connections, repeat %d of %d: %.0f/s, bare %.0f/s, ratio %.3f",
				b.engine, connections, n+1, r.settings.repeats, got.Warm.Rate, got.Bare.Rate, got.Ratio)
			all = append(all, *got)
		}
		cells = append(cells, cellOf(b.engine, connections, all))
	}
	return cells, nil
}

// repeat measures the bare handler and Writ one after the other; every second time the other way round, so that a drift of the
// machine favours neither.
func (r *run) repeat(ctx context.Context, b base, connections int, swap bool) (_ *repeat, err error) {
	out := &repeat{}
	bare := func() error {
		got, err := r.pass(ctx, r.handler, "", r.bareRequests(b.tasks, r.handler.address), pass{connections, r.settings.duration})
		out.Bare = got
		return err
	}
	governed := func() error {
		at, drop, err := r.copyOf(ctx, b)
		if err != nil {
			return err
		}
		return errors.Join(r.governed(ctx, at, connections, out), drop())
	}
	first, second := bare, governed
	if swap {
		first, second = governed, bare
	}
	if err := first(); err != nil {
		return nil, err
	}
	if err := second(); err != nil {
		return nil, err
	}
	out.Ratio, out.ColdTo = out.Warm.Rate/out.Bare.Rate, out.Cold.Rate/out.Bare.Rate
	return out, nil
}

// governed measures a fresh server: once through all identities, whose tokens it has never seen, and then for the time of a cell.
func (r *run) governed(ctx context.Context, at base, connections int, out *repeat) (err error) {
	server, err := r.serve(ctx, at.state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	requests := r.requests(at.tasks, server.address)
	if out.Cold, err = r.pass(ctx, server, at.engine, requests, pass{connections: connections}); err != nil {
		return fmt.Errorf("cold: %w", err)
	}
	if out.Warm, err = r.pass(ctx, server, at.engine, requests, pass{connections, r.settings.duration}); err != nil {
		return fmt.Errorf("warm: %w", err)
	}
	out.RSS, out.Highest, err = memory(server.pid())
	return err
}

// pass measures one pass. With an engine, the server is Writ: its log must have grown by exactly what it acknowledged.
func (r *run) pass(ctx context.Context, server *process, engine string, requests []prepared, p pass) (measured, error) {
	before, err := r.used(ctx, server, engine)
	if err != nil {
		return measured{}, err
	}
	got, err := drive(ctx, server.address, requests, p)
	if err != nil {
		return measured{}, err
	}
	after, err := r.used(ctx, server, engine)
	if err != nil {
		return measured{}, err
	}
	if grown := after.entries - before.entries; engine != "" && grown != got.requests {
		return measured{}, fmt.Errorf("%d decisions were acknowledged, but the log grew by %d entries", got.requests, grown)
	}
	each := func(seconds float64) float64 { return seconds * 1e6 / float64(got.requests) }
	return measured{
		Requests: got.requests, Rate: got.rate(), P50: millis(got.latency.quantile(.5)), P99: millis(got.latency.quantile(.99)), Max: millis(got.latency.max),
		CPU: each(after.cpu - before.cpu), Postgres: each(after.postgres - before.postgres), Outcomes: got.outcomes,
	}, nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// use is what has been used and written so far.
type use struct {
	cpu, postgres float64 // seconds
	entries       int64
}

func (r *run) used(ctx context.Context, server *process, engine string) (u use, err error) {
	if u.cpu, err = cpu(server.pid()); err != nil || engine == "" {
		return u, err
	}
	if engine == postgres {
		if u.postgres, err = familyCPU(r.pg.PID()); err != nil {
			return u, err
		}
	}
	u.entries, err = logSize(ctx, server)
	return u, err
}

// logSize is the size in the signed head of a server's log (c2sp.org/tlog-checkpoint: its second line).
func logSize(ctx context.Context, server *process) (int64, error) {
	head, err := fetch(ctx, "http://"+server.address+"/log/checkpoint")
	if err != nil {
		return 0, err
	}
	lines := strings.SplitN(string(head), "\n", 3)
	if len(lines) < 3 {
		return 0, errors.New("the checkpoint has no second line")
	}
	return strconv.ParseInt(lines[1], 10, 64)
}
