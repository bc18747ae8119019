package authn

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	defaultClockSkew       = 30 * time.Second
	maxClockSkew           = 60 * time.Second
	defaultCacheSize       = 10_000
	maxCacheSize           = 1_000_000
	defaultReplaySize      = 500_000
	maxReplaySize          = 5_000_000
	defaultRefreshInterval = 5 * time.Minute
	minRefreshInterval     = 10 * time.Second
)

// Config says whose tokens are accepted. Zero values stand for the defaults.
type Config struct {
	// Issuers whose tokens are accepted; none where SVIDs alone are.
	Issuers []Issuer
	// ClockSkew is granted to nbf and iat, never to exp; 0 to 60 s, default 30 s.
	ClockSkew time.Duration
	// CacheSize is how many verified tokens are remembered; at most 1,000,000, default 10,000.
	CacheSize int
	// RefreshInterval is the age at which a key set is fetched again; 10 s to 1 h, default 5 min.
	RefreshInterval time.Duration
	// ReplaySize is how many DPoP proofs are remembered, each for at most two minutes;
	// at most 5,000,000, default 500,000 (about 50 MB when full). When it is full, proofs are refused.
	ReplaySize int
}

// Issuer is one OIDC provider.
type Issuer struct {
	// URL is the issuer exactly as tokens carry it in iss. Https, except on a loopback host.
	URL string
	// Audience must be in aud.
	Audience string
	// PrincipalAudience is in aud, and Audience is not, of tokens that show for whom an agent works. Empty: there are none.
	PrincipalAudience string
	// JWKSURL is where the keys are; empty means OpenID Connect Discovery 1.0.
	JWKSURL string
	// Algorithms narrows the accepted signatures; empty means RS, PS and ES with
	// 256, 384, 512, and EdDSA.
	Algorithms []string
}

// faults lists everything that is wrong with the configuration, joined.
func (c Config) faults() error {
	var all []error
	add := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	all = append(all, sharedFaults(c.ClockSkew, c.CacheSize)...)
	if c.ReplaySize < 0 || c.ReplaySize > maxReplaySize {
		add("replay_size: %d is not between 0 and %d", c.ReplaySize, maxReplaySize)
	}
	if c.RefreshInterval != 0 && (c.RefreshInterval < minRefreshInterval || c.RefreshInterval > maxKeyAge) {
		add("refresh_interval: %s is not between %s and %s", c.RefreshInterval, minRefreshInterval, maxKeyAge)
	}
	seen := make(map[string]bool)
	for i, issuer := range c.Issuers {
		for _, fault := range issuer.faults() {
			all = append(all, fmt.Errorf("issuers[%d].%w", i, fault))
		}
		if issuer.URL != "" && seen[issuer.URL] {
			add("issuers[%d].url: %q is configured twice; merge the entries", i, issuer.URL)
		}
		seen[issuer.URL] = true
	}
	return errors.Join(all...)
}

// sharedFaults are those of what tokens and SVIDs are configured by alike.
func sharedFaults(skew time.Duration, cacheSize int) (all []error) {
	if skew < 0 || skew > maxClockSkew {
		all = append(all, fmt.Errorf("clock_skew: %s is not between 0s and %s; correct the clocks instead of allowing more", skew, maxClockSkew))
	}
	if cacheSize < 0 || cacheSize > maxCacheSize {
		all = append(all, fmt.Errorf("cache_size: %d is not between 0 and %d", cacheSize, maxCacheSize))
	}
	return all
}

func (i Issuer) faults() []error {
	var all []error
	if err := checkEndpoint(i.URL); err != nil {
		all = append(all, fmt.Errorf("url: %w", err))
	} else if strings.Contains(i.URL, "?") {
		all = append(all, fmt.Errorf("url: %q has a query; an issuer has none", i.URL))
	}
	if i.Audience == "" {
		all = append(all, errors.New("audience: required; without it tokens made for others would be accepted"))
	}
	if i.Audience != "" && i.PrincipalAudience == i.Audience {
		all = append(all, errors.New("principal_audience: the same as audience; a token handed to an agent would be good for acting as its owner"))
	}
	if i.JWKSURL != "" {
		if err := checkEndpoint(i.JWKSURL); err != nil {
			all = append(all, fmt.Errorf("jwks_url: %w", err))
		}
	}
	for n, name := range i.Algorithms {
		switch {
		case !slices.Contains(supportedAlgorithms(), jose.SignatureAlgorithm(name)):
			all = append(all, fmt.Errorf("algorithms: %q is not accepted; choose of %s", name, algorithmList(supportedAlgorithms())))
		case slices.Contains(i.Algorithms[:n], name):
			all = append(all, fmt.Errorf("algorithms: %q is named twice", name))
		}
	}
	return all
}

// algorithms is the accepted subset, or all that are supported.
func (i Issuer) algorithms() []jose.SignatureAlgorithm {
	if len(i.Algorithms) == 0 {
		return supportedAlgorithms()
	}
	out := make([]jose.SignatureAlgorithm, len(i.Algorithms))
	for n, name := range i.Algorithms {
		out[n] = jose.SignatureAlgorithm(name)
	}
	return out
}

// checkEndpoint accepts absolute https URLs, and http ones on a loopback host.
func checkEndpoint(raw string) error {
	if raw == "" {
		return errors.New("required")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Errorf("%q is not an absolute URL", raw)
	case u.User != nil || strings.Contains(raw, "#"):
		return errors.New("a user name, a password and a fragment are not allowed")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("%q must be https; http is for loopback hosts only", raw)
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	c.ClockSkew = cmp.Or(c.ClockSkew, defaultClockSkew)
	c.CacheSize = cmp.Or(c.CacheSize, defaultCacheSize)
	c.RefreshInterval = cmp.Or(c.RefreshInterval, defaultRefreshInterval)
	c.ReplaySize = cmp.Or(c.ReplaySize, defaultReplaySize)
	return c
}

// New makes a Verifier. It does no network; the keys of an issuer are fetched
// when its first token arrives. client carries the transport (proxies, roots);
// its redirects and the size of its answers are limited further. now is the
// clock. The error joins all faults of the configuration.
func New(cfg Config, client *http.Client, now func() time.Time) (*Verifier, error) {
	var missing []error
	if client == nil {
		missing = append(missing, errors.New("an HTTP client is required"))
	}
	if now == nil {
		missing = append(missing, errors.New("a clock is required"))
	}
	if err := errors.Join(append(missing, cfg.faults())...); err != nil {
		return nil, fmt.Errorf("authn: %w", err)
	}
	cfg = cfg.withDefaults()
	v := &Verifier{
		issuers: make(map[string]*issuer, len(cfg.Issuers)),
		skew:    cfg.ClockSkew,
		now:     now,
		cache:   newCache(cfg.CacheSize),
		proofs:  newReplay(cfg.ReplaySize),
	}
	for _, i := range cfg.Issuers {
		v.issuers[i.URL] = newIssuer(i, client, now, cfg.RefreshInterval)
	}
	return v, nil
}
