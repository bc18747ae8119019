package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// prepared is one identity's request, ready to be sent, and what its answer must be.
type prepared struct {
	raw     []byte
	status  int
	must    []byte // stands in the body of a right answer
	outcome string
	key     int // where in raw the idempotency key stands, which is made anew for every request; 0: it has none

	certificate *tls.Certificate // shown on a connection of this identity's own; nil: any connection will do
	proofs      *proofs          // stand in raw in their turn; nil: raw is sent as it is
}

const (
	keySize   = 32 // hexadecimal digits of an idempotency key
	maxAnswer = 64 << 10
	grace     = 2 * time.Minute // after which a pass that does not end has failed; one over all requests has only this
)

// request writes a request as it goes over the wire; shown are the lines of its header that say who calls.
func request(host, shown string, body []byte, idempotent bool) (raw []byte, key int) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /v1/requests HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\n", host, shown)
	if idempotent {
		b.WriteString("Idempotency-Key: ")
		key = b.Len()
		b.Write(make([]byte, keySize))
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.Bytes(), key
}

// load is what a pass of requests came to.
type load struct {
	requests int64
	elapsed  time.Duration
	latency  histogram
	outcomes map[string]int64
	late     int64 // proofs that were made while time was taken, because those made before were used up
}

func (l *load) rate() float64 { return float64(l.requests) / l.elapsed.Seconds() }

// pass says how long to go on: for a time, or once over all requests.
type pass struct {
	connections int
	duration    time.Duration // 0: each request is sent once, by whichever connection is free
}

// drive connects and sends requests.
func drive(ctx context.Context, at target, requests []prepared, p pass) (*load, error) {
	open, err := connect(ctx, at, requests, p)
	if err != nil {
		return nil, err
	}
	defer open.close()
	return open.drive(ctx, requests, p)
}

// drive sends requests in a closed loop over kept connections, each of which walks through all of them; where each request has
// a connection of its own, so many callers share them out. The first answer that is not as expected ends it with an error.
func (l *lines) drive(ctx context.Context, requests []prepared, p pass) (*load, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if err := l.deadline(time.Now().Add(p.duration + grace)); err != nil {
		return nil, err
	}
	// An answer that is being waited for is not waited for any longer.
	defer context.AfterFunc(ctx, func() { _ = l.deadline(time.Unix(1, 0)) })()
	callers := make([]*caller, p.connections)
	var next atomic.Int64
	var group sync.WaitGroup
	started := time.Now()
	for i := range callers {
		c := newCaller(l, i)
		callers[i] = c
		turn := once(&next, len(requests))
		if p.duration > 0 {
			part := func(n int) int { return n * len(requests) / p.connections }
			turn = until(started.Add(p.duration), part(i), 0, len(requests))
			if l.own {
				turn = until(started.Add(p.duration), part(i), part(i), part(i+1))
			}
		}
		group.Go(func() {
			if err := c.walk(ctx, requests, turn); err != nil {
				stop(err)
			}
		})
	}
	group.Wait()
	out := &load{elapsed: time.Since(started), outcomes: map[string]int64{}}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for _, c := range callers {
		out.late += c.late
		out.latency.add(&c.latency)
		for outcome, n := range c.outcomes {
			out.outcomes[outcome] += n
			out.requests += n
		}
	}
	if out.requests == 0 {
		return nil, errors.New("no request was answered in the time given")
	}
	return out, nil
}

// once yields every index to one of those that share next.
func once(next *atomic.Int64, most int) func() int {
	return func() int {
		if i := int(next.Add(1)) - 1; i < most {
			return i
		}
		return -1
	}
}

// until yields the indices after i, round and round from one up to another, until a time.
func until(end time.Time, i, from, to int) func() int {
	return func() int {
		if !time.Now().Before(end) {
			return -1
		}
		if i++; i >= to {
			i = from
		}
		return i
	}
}

// caller sends one request at a time. It is made to cost little, and the same with every server.
type caller struct {
	lines    *lines
	n        int
	buffer   []byte
	latency  histogram
	outcomes map[string]int64
	late     int64
	random   *rand.ChaCha8
}

func newCaller(l *lines, n int) *caller {
	var seed [32]byte
	binary.NativeEndian.PutUint64(seed[:], rand.Uint64())
	return &caller{lines: l, n: n, buffer: make([]byte, maxAnswer), outcomes: map[string]int64{}, random: rand.NewChaCha8(seed)}
}

func (c *caller) walk(ctx context.Context, requests []prepared, turn func() int) error {
	for i := turn(); i >= 0 && ctx.Err() == nil; i = turn() {
		r := &requests[i]
		raw := r.raw
		if r.key > 0 || r.proofs != nil { // others may be sending the same request
			raw = bytes.Clone(raw)
		}
		if r.key > 0 {
			var key [keySize / 2]byte
			_, _ = c.random.Read(key[:])
			hex.Encode(raw[r.key:], key[:])
		}
		sent := time.Now()
		if r.proofs != nil {
			late, err := r.proofs.put(raw)
			if err != nil {
				return err
			}
			c.late += late
		}
		status, body, err := exchange(c.lines.of(c.n, i), raw, c.buffer)
		if err != nil {
			return err
		}
		c.latency.record(time.Since(sent))
		if status != r.status || !bytes.Contains(body, r.must) {
			return fmt.Errorf("an answer is not as expected: want status %d with %s, got %d: %.300s", r.status, r.must, status, body)
		}
		c.outcomes[r.outcome]++
	}
	return nil
}

// exchange sends a request and reads the answer; the body is in the buffer.
func exchange(conn net.Conn, raw, buffer []byte) (status int, body []byte, err error) {
	if _, err := conn.Write(raw); err != nil {
		return 0, nil, err
	}
	have, head, want := 0, 0, -1
	for {
		n, err := conn.Read(buffer[have:])
		if have += n; head == 0 {
			if end := bytes.Index(buffer[:have], []byte("\r\n\r\n")); end >= 0 {
				if status, want, err = readHead(buffer[:end+2]); err != nil {
					return 0, nil, err
				}
				head = end + 4
			}
		}
		switch {
		case head > 0 && have == head+want:
			return status, buffer[head:have], nil
		case err != nil:
			return 0, nil, fmt.Errorf("an answer ends too early: %w", err)
		case have == len(buffer) || head > 0 && have > head+want:
			return 0, nil, errors.New("an answer is longer than it says, or than it may be")
		}
	}
}

// readHead reads the status line and the length of the body; an answer must give it.
func readHead(head []byte) (status, length int, err error) {
	const line, field = "HTTP/1.1 ", "\r\nContent-Length: "
	at := bytes.Index(head, []byte(field))
	if !bytes.HasPrefix(head, []byte(line)) || len(head) < len(line)+3 || at < 0 {
		return 0, 0, fmt.Errorf("an answer is not HTTP/1.1 with a length: %.200q", head)
	}
	digits, _, _ := bytes.Cut(head[at+len(field):], []byte("\r\n"))
	if status, err = strconv.Atoi(string(head[len(line) : len(line)+3])); err != nil {
		return 0, 0, err
	}
	length, err = strconv.Atoi(string(digits))
	return status, length, err
}
