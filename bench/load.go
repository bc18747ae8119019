package main

import (
	"bytes"
	"context"
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
}

const (
	keySize   = 32 // hexadecimal digits of an idempotency key
	maxAnswer = 64 << 10
	grace     = 2 * time.Minute // after which a pass that does not end has failed; one over all requests has only this
)

// request writes a request as it goes over the wire.
func request(host, token string, body []byte, idempotent bool) (raw []byte, key int) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /v1/requests HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n", host, token)
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
}

func (l *load) rate() float64 { return float64(l.requests) / l.elapsed.Seconds() }

// pass says how long to go on: for a time, or once over all requests.
type pass struct {
	connections int
	duration    time.Duration // 0: each request is sent once, by whichever connection is free
}

// drive sends requests in a closed loop over kept connections, each of which walks through all of them. The first answer that
// is not as expected ends it with an error.
func drive(ctx context.Context, address string, requests []prepared, p pass) (*load, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	callers := make([]*caller, p.connections)
	for i := range callers {
		c, err := dial(ctx, address)
		if err != nil {
			return nil, err
		}
		defer func() { _ = c.conn.Close() }()
		if err := c.conn.SetDeadline(time.Now().Add(p.duration + grace)); err != nil {
			return nil, err
		}
		callers[i] = c
	}
	// An answer that is being waited for is not waited for any longer.
	defer context.AfterFunc(ctx, func() {
		for _, c := range callers {
			_ = c.conn.SetDeadline(time.Unix(1, 0))
		}
	})()
	var next atomic.Int64
	var group sync.WaitGroup
	started := time.Now()
	for i, c := range callers {
		turn := once(&next, len(requests))
		if p.duration > 0 {
			turn = until(started.Add(p.duration), i*len(requests)/p.connections, len(requests))
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

// until yields index after index, round and round, until a time.
func until(end time.Time, i, most int) func() int {
	return func() int {
		if !time.Now().Before(end) {
			return -1
		}
		i++
		return i % most
	}
}

// caller is one connection. It is made to cost little, and the same with every server.
type caller struct {
	conn     net.Conn
	buffer   []byte
	latency  histogram
	outcomes map[string]int64
	random   *rand.ChaCha8
}

func dial(ctx context.Context, address string) (*caller, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	var seed [32]byte
	binary.NativeEndian.PutUint64(seed[:], rand.Uint64())
	return &caller{conn: conn, buffer: make([]byte, maxAnswer), outcomes: map[string]int64{}, random: rand.NewChaCha8(seed)}, nil
}

func (c *caller) walk(ctx context.Context, requests []prepared, turn func() int) error {
	for i := turn(); i >= 0 && ctx.Err() == nil; i = turn() {
		r := &requests[i]
		raw := r.raw
		if r.key > 0 { // others may be sending the same request
			var key [keySize / 2]byte
			_, _ = c.random.Read(key[:])
			raw = bytes.Clone(raw)
			hex.Encode(raw[r.key:], key[:])
		}
		sent := time.Now()
		status, body, err := c.exchange(raw)
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

// exchange sends a request and reads the answer; the body is valid until the next call.
func (c *caller) exchange(raw []byte) (status int, body []byte, err error) {
	if _, err := c.conn.Write(raw); err != nil {
		return 0, nil, err
	}
	have, head, want := 0, 0, -1
	for {
		n, err := c.conn.Read(c.buffer[have:])
		if have += n; head == 0 {
			if end := bytes.Index(c.buffer[:have], []byte("\r\n\r\n")); end >= 0 {
				if status, want, err = readHead(c.buffer[:end+2]); err != nil {
					return 0, nil, err
				}
				head = end + 4
			}
		}
		switch {
		case head > 0 && have == head+want:
			return status, c.buffer[head:have], nil
		case err != nil:
			return 0, nil, fmt.Errorf("an answer ends too early: %w", err)
		case have == len(c.buffer) || head > 0 && have > head+want:
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
