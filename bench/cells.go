package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// run is one run of the benchmark.
type run struct {
	*installation

	handlers map[bool]*process // the bare ones: without TLS, with it
	progress func(format string, args ...any)
}

// measureCells alternates the bare handler with Writ on fresh copies of a base, and the kinds of callers with each other.
func (r *run) measureCells(ctx context.Context, b base) (cells []cell, beside []compared, err error) {
	for _, connections := range r.settings.connections {
		all := map[callers][]repeat{}
		for n := range r.settings.repeats {
			order := slices.Clone(r.settings.callers)
			if n%2 == 1 {
				slices.Reverse(order)
			}
			for _, how := range order {
				got, err := r.repeat(ctx, b, how, connections, n%2 == 1)
				if err != nil {
					return nil, nil, fmt.Errorf("%s, %s, %d connections, repeat %d: %w", b.engine, how, connections, n+1, err)
				}
				r.progress("%s, %s, %d connections, repeat %d of %d: %.0f/s, bare %.0f/s, ratio %.3f",
					b.engine, how, connections, n+1, r.settings.repeats, got.Warm.Rate, got.Bare.Rate, got.Ratio)
				all[how] = append(all[how], *got)
			}
		}
		for _, how := range r.settings.callers {
			cells = append(cells, cellOf(b.engine, how, connections, all[how]))
			if how != plain && len(all[plain]) > 0 {
				beside = append(beside, compare(b.engine, how, connections, all[plain], all[how]))
			}
		}
	}
	return cells, beside, nil
}

// repeat measures the bare handler and Writ one after the other; every second time the other way round, so that a drift of the
// machine favours neither.
func (r *run) repeat(ctx context.Context, b base, how callers, connections int, swap bool) (_ *repeat, err error) {
	out := &repeat{}
	bare := func() (err error) {
		handler := r.handlers[how.overTLS()]
		requests, err := r.bareRequests(b.tasks, how, handler.address)
		if err != nil {
			return err
		}
		out.Bare, err = r.pass(ctx, handler, "", requests, pass{connections, r.settings.duration})
		return err
	}
	governed := func() error {
		at, drop, err := r.copyOf(ctx, b)
		if err != nil {
			return err
		}
		return errors.Join(r.governed(ctx, at, how, connections, out), drop())
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

// governed measures a fresh server: once through all identities, whose tokens and certificates it has never seen, and then for
// the time of a cell.
func (r *run) governed(ctx context.Context, at base, how callers, connections int, out *repeat) (err error) {
	server, err := r.serve(ctx, at.state, how)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	requests, err := r.requests(at.tasks, how, server.address)
	if err != nil {
		return err
	}
	if _, err := makeProofs(requests, int64(len(requests))); err != nil {
		return err
	}
	if out.Cold, err = r.pass(ctx, server, at.engine, requests, pass{connections: connections}); err != nil {
		return fmt.Errorf("cold: %w", err)
	}
	proving, err := makeProofs(requests, enough(out.Cold.Rate, r.settings.duration))
	if err != nil {
		return err
	}
	if out.Warm, err = r.pass(ctx, server, at.engine, requests, pass{connections, r.settings.duration}); err != nil {
		return fmt.Errorf("warm: %w", err)
	}
	out.Warm.Proving = proving
	if out.RSS, out.Highest, err = memory(server.pid()); err != nil {
		return err
	}
	return r.checkBound(ctx, server, how)
}

// enough is how many requests will hardly be exceeded in a time, after a cold pass of some rate, which is short.
func enough(rate float64, d time.Duration) int64 {
	const faster = 3 // than cold
	return int64(faster * rate * d.Seconds())
}

// pass measures one pass. With an engine, the server is Writ: its log must have grown by exactly what it acknowledged.
func (r *run) pass(ctx context.Context, server *process, engine string, requests []prepared, p pass) (measured, error) {
	idle, err := cpu(server.pid())
	if err != nil {
		return measured{}, err
	}
	open, err := connect(ctx, server.target, requests, p)
	if err != nil {
		return measured{}, err
	}
	defer open.close()
	before, err := r.used(ctx, server, engine)
	if err != nil {
		return measured{}, err
	}
	got, err := open.drive(ctx, requests, p)
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
	out := measured{
		Requests: got.requests, Rate: got.rate(), P50: millis(got.latency.quantile(.5)), P99: millis(got.latency.quantile(.99)), Max: millis(got.latency.max),
		CPU: each(after.cpu - before.cpu), Postgres: each(after.postgres - before.postgres), Callers: each(after.own - before.own), Outcomes: got.outcomes,
		Handshakes: open.handshakes, LateProofs: got.late,
	}
	if open.own {
		out.Handshake = (before.cpu - idle) * 1e6 / float64(open.handshakes)
	}
	return out, nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// use is what has been used and written so far.
type use struct {
	cpu, postgres, own float64 // seconds
	entries            int64
}

func (r *run) used(ctx context.Context, server *process, engine string) (u use, err error) {
	if u.own, err = ownCPU(); err != nil {
		return u, err
	}
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
	head, err := server.fetch(ctx, "/log/checkpoint")
	if err != nil {
		return 0, err
	}
	lines := strings.SplitN(string(head), "\n", 3)
	if len(lines) < 3 {
		return 0, errors.New("the checkpoint has no second line")
	}
	return strconv.ParseInt(lines[1], 10, 64)
}
