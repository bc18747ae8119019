package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// logDelay is how long a line of the log may wait for company. Warnings and errors do not wait.
const logDelay = 100 * time.Millisecond

// lateLog is a JSON log that is written in larger pieces: a write for each request's line shows in what a request costs. It is
// safe for concurrent use; close writes what waits.
type lateLog struct {
	slog.Handler

	out *lateWriter
}

func newLateLog(w io.Writer, level slog.Level) *lateLog {
	out := &lateWriter{buf: bufio.NewWriterSize(w, 64<<10)}
	return &lateLog{slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}), out}
}

func (l *lateLog) Handle(ctx context.Context, r slog.Record) error {
	err := l.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		l.out.flush()
	}
	return err
}

func (l *lateLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lateLog{l.Handler.WithAttrs(attrs), l.out}
}

func (l *lateLog) WithGroup(name string) slog.Handler {
	return &lateLog{l.Handler.WithGroup(name), l.out}
}

func (l *lateLog) close() { l.out.flush() }

// lateWriter writes what it is given a little later.
type lateWriter struct {
	mu    sync.Mutex
	buf   *bufio.Writer
	timer *time.Timer // set while something waits
}

func (w *lateWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		w.timer = time.AfterFunc(logDelay, w.flush)
	}
	return w.buf.Write(line)
}

func (w *lateWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	_ = w.buf.Flush() // a log that cannot be written has nowhere to say so
}
