package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	maxAnswer      = 64 << 20 // bytes that are read of one answer
	maxTokenFile   = 64 << 10
	defaultTimeout = 90 * time.Second // longer than the longest poll
	attempts       = 4
	firstPause     = 100 * time.Millisecond
	longestPause   = 30 * time.Second // that a server may ask for before a retry
)

// Options configure a Client.
type Options struct {
	// Token returns the caller's bearer token; it is asked before every call, so it may refresh it.
	Token func(ctx context.Context) (string, error)
	// TokenFile is read before every call instead, as platforms rotate token files in place.
	TokenFile string
	// HTTPClient carries transport and timeout; its redirects are not followed, for a token must not travel on. nil: one with a timeout of 90 s.
	HTTPClient *http.Client
	// Key proves possession in every call (DPoP, RFC 9449), so that credentials are bound to it: Ed25519 or ECDSA P-256.
	Key crypto.Signer
	// AllowPlaintext lets tokens travel over http to other hosts than this one. Only for a trusted network.
	AllowPlaintext bool
	UserAgent      string
	// Now is the clock of proofs; nil is the system's.
	Now func() time.Time
}

// Client calls one server. It is safe for concurrent use.
type Client struct {
	base  string
	http  *http.Client
	token func(ctx context.Context) (string, error)
	proof *prover
	agent string
	now   func() time.Time
}

// New returns a client of the server at a base URL such as https://writ.example.com. Without a token only public routes work.
func New(baseURL string, o Options) (*Client, error) {
	base, err := checkBase(baseURL, o.AllowPlaintext)
	if err != nil {
		return nil, err
	}
	if o.Token != nil && o.TokenFile != "" {
		return nil, errors.New("client: give a token function or a token file, not both")
	}
	c := &Client{base: base, token: o.Token, agent: o.UserAgent, now: o.Now}
	if o.TokenFile != "" {
		c.token = fromFile(o.TokenFile)
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.agent == "" {
		c.agent = "writ-client"
	}
	if o.Key != nil {
		if c.proof, err = newProver(o.Key); err != nil {
			return nil, err
		}
	}
	c.http = &http.Client{Timeout: defaultTimeout}
	if o.HTTPClient != nil {
		own := *o.HTTPClient
		c.http = &own
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

func checkBase(raw string, plaintext bool) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("client: %q is not a base URL such as https://writ.example.com", raw)
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && (plaintext || isLoopback(u.Hostname())):
	default:
		return "", fmt.Errorf("client: %q must be https, or http on a loopback host: tokens would travel in the clear", raw)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func fromFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("client: token file: %w", err)
		}
		defer file.Close()
		content, err := io.ReadAll(io.LimitReader(file, maxTokenFile+1))
		if err != nil {
			return "", fmt.Errorf("client: token file: %w", err)
		}
		token := strings.TrimSpace(string(content))
		if token == "" || len(content) > maxTokenFile {
			return "", fmt.Errorf("client: token file %s holds no token", path)
		}
		return token, nil
	}
}

// exchange is one call, and how it may be repeated.
type exchange struct {
	method string
	path   string     // with query
	body   any        // nil: none
	form   url.Values // instead of body
	key    string     // Idempotency-Key, if the route takes one
	trace  string     // trace-id to go by
	again  bool       // repeating it does no harm
	public bool       // needs no token
	accept string
}

// response is an answer that is not a no.
type response struct {
	status int
	body   []byte
}

// do makes a call. Failures of the way (no connection, 502, 503) are retried if that does no harm.
func (c *Client) do(ctx context.Context, x exchange) (*response, error) {
	var body []byte
	if x.body != nil {
		var err error
		if body, err = json.Marshal(x.body); err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
	}
	if x.form != nil {
		body = []byte(x.form.Encode())
	}
	pause := firstPause
	for attempt := 1; ; attempt++ {
		answer, wait, err := c.try(ctx, x, body)
		if err == nil || !x.again || attempt == attempts || !passing(err) || ctx.Err() != nil {
			return answer, err
		}
		if err := sleep(ctx, max(wait, jitter(pause))); err != nil {
			return nil, err
		}
		pause *= 2
	}
}

// passing reports whether an error is one of the way, which may pass.
func passing(err error) bool {
	var p *Problem
	if errors.As(err, &p) {
		return p.Status == http.StatusBadGateway || p.Status == http.StatusServiceUnavailable
	}
	var way *wayError
	return errors.As(err, &way)
}

// wayError is a failure between client and server: whether the call took effect is not known.
type wayError struct{ cause error }

func (e *wayError) Error() string { return "client: " + e.cause.Error() }

func (e *wayError) Unwrap() error { return e.cause }

// jitter is half of a pause to all of it, so that clients do not come back together.
func jitter(pause time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(pause/2)))
	if err != nil {
		return pause
	}
	return pause/2 + time.Duration(n.Int64())
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try makes a call once. wait is how long the server asks to wait before the next attempt.
func (c *Client) try(ctx context.Context, x exchange, body []byte) (*response, time.Duration, error) {
	request, err := c.newRequest(ctx, x, body)
	if err != nil {
		return nil, 0, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, 0, &wayError{err}
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, 0, &wayError{err}
	}
	if len(content) > maxAnswer {
		return nil, 0, fmt.Errorf("client: the answer has more than %d bytes", maxAnswer)
	}
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return &response{answer.StatusCode, content}, 0, nil
	}
	p := problemOf(answer, content)
	return nil, min(p.RetryAfter, longestPause), p
}

func (c *Client) newRequest(ctx context.Context, x exchange, body []byte) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, x.method, c.base+x.path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	h := request.Header
	h.Set("User-Agent", c.agent)
	h.Set("Accept", x.accept+", application/problem+json")
	if x.accept == "" {
		h.Set("Accept", "application/json, application/problem+json")
	}
	switch {
	case x.form != nil:
		h.Set("Content-Type", "application/x-www-form-urlencoded")
	case body != nil:
		h.Set("Content-Type", "application/json")
	}
	if x.key != "" {
		h.Set("Idempotency-Key", x.key)
	}
	if x.trace != "" {
		h.Set("Traceparent", "00-"+x.trace+"-"+spanOf(x.trace)+"-00")
	}
	if x.public || c.token == nil {
		return request, nil
	}
	token, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	h.Set("Authorization", "Bearer "+token)
	if c.proof != nil {
		proof, err := c.proof.prove(x.method, c.base+x.path, token, c.now())
		if err != nil {
			return nil, err
		}
		h.Set("DPoP", proof)
	}
	return request, nil
}

// spanOf makes a parent-id for a caller that keeps no spans: not all zero, as W3C Trace Context section 3.2.2.4 asks.
func spanOf(trace string) string {
	if len(trace) != 32 || strings.Trim(trace[:16], "0") == "" {
		return "0000000000000001"
	}
	return trace[:16]
}

// problemOf reads a no. One that is not of the server (of a proxy on the way) gets a code of its own.
func problemOf(answer *http.Response, content []byte) *Problem {
	p := &Problem{}
	media, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if err != nil || media != "application/problem+json" || json.Unmarshal(content, p) != nil || p.Code == "" {
		p = &Problem{
			Type: "about:blank", Title: http.StatusText(answer.StatusCode), Code: "http_" + strconv.Itoa(answer.StatusCode),
			Detail: "the answer is not one of a Writ server: check the URL and what lies between", RequestID: answer.Header.Get("X-Request-ID"),
		}
	}
	p.Status = answer.StatusCode
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
		p.RetryAfter = time.Duration(min(seconds, 86400)) * time.Second
	}
	return p
}

// call makes a call that answers with JSON.
func call[T any](ctx context.Context, c *Client, x exchange) (*T, error) {
	answer, err := c.do(ctx, x)
	if err != nil {
		return nil, err
	}
	out := new(T)
	if err := json.Unmarshal(answer.body, out); err != nil {
		return nil, fmt.Errorf("client: the answer cannot be read: %w", err)
	}
	return out, nil
}

// raw makes a call that answers with bytes of some other type.
func (c *Client) raw(ctx context.Context, path, accept string, public bool) ([]byte, error) {
	answer, err := c.do(ctx, exchange{method: http.MethodGet, path: path, again: true, public: public, accept: accept})
	if err != nil {
		return nil, err
	}
	return answer.body, nil
}

func get(path string) exchange { return exchange{method: http.MethodGet, path: path, again: true} }

func post(path string, body any) exchange {
	return exchange{method: http.MethodPost, path: path, body: body}
}

// repeatable is a call that is the same when it is made twice.
func (x exchange) repeatable() exchange { x.again = true; return x }

// keyed is a call that an idempotency key makes repeatable.
func (x exchange) keyed(key string) exchange {
	if key == "" {
		key = rand.Text()
	}
	x.key, x.again = key, true
	return x
}

// below is a path with an id in it.
func below(format, id string) string { return fmt.Sprintf(format, url.PathEscape(id)) }
