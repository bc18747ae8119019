package authn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// firstAnswer is how long NewSPIFFE waits for its sources.
const firstAnswer = fetchTimeout + time.Second

// SPIFFE verifies SVIDs, each with the bundle of its own trust domain and no
// other. It may be used concurrently, until Close.
type SPIFFE struct {
	audience string
	now      func() time.Time
	rules    *Verifier // for the claims and times of JWT-SVIDs, which follow the rules of OIDC tokens
	domains  map[spiffeid.TrustDomain]*domain
	workload *workload // nil without a Workload API

	// What was verified; two caches, so that a certificate, which anybody may know, never passes for a token.
	tokens, certificates *cache

	stop    context.CancelFunc
	running sync.WaitGroup
}

// NewSPIFFE begins to follow the bundles of all trust domains, until Close. It
// waits, at most 6 s and no longer than ctx, until every source has answered or
// failed. A source that is down is no error: Health tells of it, it is asked
// again, and meanwhile its SVIDs are refused. client carries the transport
// (proxies, roots) to https_web endpoints; now is the clock. The error joins all
// faults of the configuration and its files.
func NewSPIFFE(ctx context.Context, cfg SPIFFEConfig, client *http.Client, now func() time.Time, log *slog.Logger) (*SPIFFE, error) {
	if client == nil || now == nil || log == nil {
		return nil, errors.New("authn: an HTTP client, a clock and a logger are required")
	}
	faults := cfg.faults()
	cfg = cfg.withDefaults()
	s := &SPIFFE{
		audience: cfg.Audience,
		now:      now,
		rules:    &Verifier{skew: cfg.ClockSkew},
		domains:  make(map[spiffeid.TrustDomain]*domain, len(cfg.TrustDomains)),
	}
	for i, t := range cfg.TrustDomains {
		if len(t.faults(cfg)) > 0 {
			continue // among the faults already
		}
		d := &domain{maxAge: cfg.MaxBundleAge, now: now, log: log}
		if err := s.open(d, t, client); err != nil {
			faults = errors.Join(faults, fmt.Errorf("trust_domains[%d].%w", i, err))
		}
		s.domains[d.name] = d
	}
	if faults != nil {
		return nil, fmt.Errorf("authn: %w", faults)
	}
	s.tokens, s.certificates = newCache(cfg.CacheSize), newCache(cfg.CacheSize)
	if err := s.start(ctx, cfg, log); err != nil {
		return nil, err
	}
	return s, nil
}

// open says how a trust domain's bundle is fetched, and reads its files for the first time.
func (s *SPIFFE) open(d *domain, t TrustDomain, client *http.Client) (err error) {
	if d.name, err = parseTrustDomain(t.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if t.File != "" {
		d.fetch = func(context.Context) (*bundle, error) { return readBundle(d.name, t.File) }
		if _, err := d.fetch(context.Background()); err != nil {
			return fmt.Errorf("file: %w", err)
		}
		return nil
	}
	if t.Profile == ProfileSPIFFE {
		endpoint, err := parseID(t.EndpointID)
		if err != nil {
			return fmt.Errorf("endpoint_id: %w", err)
		}
		authorities := func() (*bundle, error) { return s.bundle(endpoint.TrustDomain(), ofX509, s.now()) }
		if t.Bootstrap != "" {
			bootstrap, err := readBundle(d.name, t.Bootstrap)
			if err != nil {
				return fmt.Errorf("bootstrap: %w", err)
			}
			authorities = func() (*bundle, error) { return cmp.Or(d.latest(), bootstrap), nil }
		}
		client = spiffeClient(client, endpoint, authorities, s.now)
	}
	d.fetch = fetchFrom(d.name, t.URL, client)
	return nil
}

// start runs what follows the sources, and waits for their first answers.
func (s *SPIFFE) start(ctx context.Context, cfg SPIFFEConfig, log *slog.Logger) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	waiting, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	if cfg.WorkloadAPI != "" {
		client, err := workloadapi.New(running, workloadapi.WithAddr(cfg.WorkloadAPI), workloadapi.WithBackoffStrategy(steady{}))
		if err != nil {
			stop()
			return fmt.Errorf("authn: workload_api: %w", err)
		}
		s.workload = newWorkload(running, client, cfg.MaxBundleAge, s.now, log)
		s.running.Go(s.workload.followX509)
		s.running.Go(s.workload.followJWT)
	}
	var firsts []chan struct{}
	for _, d := range s.domains {
		first := make(chan struct{})
		firsts = append(firsts, first)
		s.running.Go(func() { d.run(running, sync.OnceFunc(func() { close(first) })) })
	}
	if s.workload != nil {
		_ = s.workload.await(waiting, s.workload.answered) // whether it did is told by Health
	}
	for _, first := range firsts {
		select {
		case <-first:
		case <-waiting.Done():
		}
	}
	return nil
}

// bundle is what SVIDs of a trust domain are verified with. The error is an *Error.
func (s *SPIFFE) bundle(name spiffeid.TrustDomain, what half, now time.Time) (*bundle, error) {
	if d := s.domains[name]; d != nil {
		return d.serving(now)
	}
	if s.workload != nil {
		return s.workload.serving(name, what, now)
	}
	return nil, domainUnknown()
}

func domainUnknown() error {
	return refuse(CodeTrustDomainUnknown, "the SVID is of a trust domain that is not accepted here; have the operator federate with it")
}

func domainUnavailable(cause error) error {
	return &Error{Code: CodeTrustDomainUnavailable, Detail: fmt.Sprintf("the bundle of the SVID's trust domain cannot be read, so nothing can be verified; try again in %s, and if it lasts, tell the operator", retryAfter), cause: cause}
}

// orSilent gives a source that has not failed, and brought nothing either, words.
func orSilent(failure error) error {
	if failure == nil {
		return errors.New("it has not answered")
	}
	return failure
}

// Health tells what is wrong with the sources of bundles and with Writ's own
// SVID: what cannot be renewed, since when, until when it still serves. Nil when
// nothing is. It names hosts and files: it is for the operator only.
func (s *SPIFFE) Health() error {
	now := s.now()
	var all []error
	if s.workload != nil {
		all = append(all, s.workload.health(now))
	}
	for _, d := range s.domains {
		all = append(all, d.health(now))
	}
	return errors.Join(all...)
}

// Close stops following the sources, and waits for that. What was received
// serves on until it is too old.
func (s *SPIFFE) Close() error {
	s.stop()
	s.running.Wait()
	if s.workload == nil {
		return nil
	}
	return s.workload.client.Close()
}
