package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

const (
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"
	noStore     = "no-store"
	immutable   = "max-age=31536000, immutable"
	// slack is how long an answer may take to be written after its time to be made is over.
	slack = 10 * time.Second
	// statusClientGone is what the log says when nobody waits for the answer any more.
	statusClientGone = 499
)

// reply is an answer: a value to write as JSON, or bytes of some other type.
type reply struct {
	status  int // 0 means 200
	value   any
	raw     []byte
	content string // type of raw
	cache   string // Cache-Control; empty means no-store
	handler http.Handler
}

// call is one request while it is served.
type call struct {
	*http.Request

	w      *response
	caller control.Caller
	data   []byte // the body
	key    *control.Idempotency
}

func (c *call) header() http.Header { return c.w.Header() }

// response remembers what the log line needs.
type response struct {
	http.ResponseWriter

	id     string
	caller access.Ref
	status int
	cause  error // of a failure, for the log
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the writer beneath.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ServeHTTP gives every request an id, safe headers, one log line, and an answer even if the code panics.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	out := &response{ResponseWriter: w, id: requestID(r)}
	h := out.Header()
	h.Set("X-Request-ID", out.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", noStore)
	defer func() {
		defer func() { s.logLine(r, out, time.Since(start)) }()
		s.recovered(r.Context(), out, recover())
	}()
	s.mux.ServeHTTP(out, r)
}

// recovered answers after a panic. What was panicked with may hold a secret, so only an error of the runtime is told.
func (s *server) recovered(ctx context.Context, w *response, value any) {
	if value == nil {
		return
	}
	if err, ok := value.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(value)
	}
	what := fmt.Sprintf("%T", value)
	var bug runtime.Error
	if err, ok := value.(error); ok && errors.As(err, &bug) {
		what = bug.Error()
	}
	s.Logger.ErrorContext(ctx, "panic", slog.String("request_id", w.id), slog.String("what", what), slog.String("stack", string(debug.Stack())))
	if w.status == 0 {
		writeProblem(w, fault(codeInternal, "something in the server broke; nothing is known to be granted"))
	}
}

func (s *server) logLine(r *http.Request, w *response, took time.Duration) {
	level := slog.LevelInfo
	if w.status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	pattern := r.Pattern
	if pattern == "" {
		pattern = "none"
	}
	attrs := []slog.Attr{
		slog.String("method", logMethod(r.Method)), slog.String("route", pattern), slog.Int("status", w.status),
		slog.Duration("duration", took), slog.String("caller", w.caller.String()), slog.String("request_id", w.id),
	}
	if w.cause != nil {
		attrs = append(attrs, slog.String("error", w.cause.Error()))
	}
	s.Logger.LogAttrs(r.Context(), level, "request", attrs...)
}

// logMethod keeps a method that somebody made up out of the log.
func logMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}

// requestID is the caller's, if it is sane, or a new one.
func requestID(r *http.Request) string {
	if values := r.Header.Values("X-Request-ID"); len(values) == 1 && access.ValidID(values[0]) {
		return values[0]
	}
	return rand.Text()
}

// serve handles one route: who calls, what is sent, the answer.
func (s *server) serve(rt *route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, ok := w.(*response)
		if !ok {
			panic("the mux is served through the server")
		}
		timeout := s.RequestTimeout + rt.timeout
		connection := http.NewResponseController(w)
		_ = connection.SetWriteDeadline(time.Now().Add(timeout + slack)) // not every writer can
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		c := &call{Request: r.WithContext(ctx), w: out}
		answer, err := s.answer(c, rt)
		switch {
		case err != nil && r.Context().Err() != nil: // no answer is 200 to net/http: break the connection off instead
			out.status = statusClientGone
			panic(http.ErrAbortHandler)
		case err != nil:
			writeProblem(out, err)
		default:
			write(c, answer)
		}
	})
}

func (s *server) answer(c *call, rt *route) (*reply, error) {
	if err := checkQuery(c.Request, rt.query); err != nil {
		return nil, err
	}
	if rt.access != public {
		who, err := s.Authenticate(c.Context(), c.Request)
		if err != nil {
			return nil, err
		}
		c.caller, c.w.caller = who, who.Identity
	}
	if rt.access == auditor {
		if err := s.Control.MayReadEvidence(c.Context(), c.caller); err != nil {
			return nil, err
		}
	}
	if err := s.readBody(c, rt); err != nil {
		return nil, err
	}
	if err := c.readKey(rt); err != nil {
		return nil, err
	}
	return rt.handle(c)
}

func write(c *call, r *reply) {
	h := c.header()
	if r.cache != "" {
		h.Set("Cache-Control", r.cache)
	}
	if r.handler != nil {
		r.handler.ServeHTTP(c.w, c.Request)
		return
	}
	body, content := r.raw, r.content
	if r.value != nil {
		encoded, err := json.Marshal(r.value)
		if err != nil {
			writeProblem(c.w, fmt.Errorf("encode the answer: %w", err))
			return
		}
		body, content = encoded, typeJSON
	}
	status := r.status
	if status == 0 {
		status = http.StatusOK
	}
	send(c.w, status, content, body)
}

func send(w *response, status int, content string, body []byte) {
	w.Header().Set("Content-Type", content)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever has gone away cannot be told
}
