package authn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	maxResponse  = 1 << 20 // bytes, after decompression
	maxRedirects = 3
)

// source fetches the keys of one issuer. It is used by one goroutine at a time.
type source struct {
	issuer     string
	configured string // jwks_uri of the configuration, or empty
	discovered string // jwks_uri of discovery; forgotten when a fetch fails
	client     *http.Client
}

func newSource(cfg Issuer, client *http.Client) *source {
	limited := *client
	limited.Transport = limitTransport{base: client.Transport}
	limited.CheckRedirect = checkRedirect
	limited.Jar = nil
	return &source{issuer: cfg.URL, configured: cfg.JWKSURL, client: &limited}
}

// fetch gets the published keys, after discovery where that is needed.
func (s *source) fetch(ctx context.Context) (*keySet, error) {
	where := s.configured
	if where == "" {
		if err := s.discover(ctx); err != nil {
			return nil, err
		}
		where = s.discovered
	}
	raw, err := s.get(ctx, where)
	if err != nil {
		s.discovered = ""
		return nil, err
	}
	return parseKeySet(raw)
}

func (s *source) discover(ctx context.Context) error {
	if s.discovered != "" {
		return nil
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, s.client), s.issuer)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	var document struct {
		JWKSURL string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	if err := checkEndpoint(document.JWKSURL); err != nil {
		return fmt.Errorf("discovery: jwks_uri: %w", err)
	}
	if urlOnLoopback(document.JWKSURL) && !urlOnLoopback(s.issuer) {
		return errors.New("discovery: jwks_uri points to this host and the issuer is elsewhere")
	}
	s.discovered = document.JWKSURL
	return nil
}

func (s *source) get(ctx context.Context, where string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("key set: the issuer answered %d", resp.StatusCode)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return raw, nil
}

// checkRedirect keeps a redirect from leading to plain http, or from outside to this host.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if err := checkEndpoint(req.URL.String()); err != nil {
		return fmt.Errorf("redirect: %w", err)
	}
	if isLoopback(req.URL.Hostname()) && !isLoopback(via[0].URL.Hostname()) {
		return errors.New("redirect to this host")
	}
	return nil
}

func urlOnLoopback(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && isLoopback(u.Hostname())
}

// limitTransport bounds what is read of an answer, also by libraries that read all of it.
type limitTransport struct{ base http.RoundTripper }

func (t limitTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	base := t.base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(req)
	if err == nil {
		resp.Body = &limitedBody{ReadCloser: resp.Body, left: maxResponse}
	}
	return resp, err
}

type limitedBody struct {
	io.ReadCloser
	left int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("the answer is larger than %d bytes", maxResponse)
	}
	return n, err
}
