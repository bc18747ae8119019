package authn

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// The profiles of bundle endpoints (SPIFFE Federation section 5.2).
const (
	ProfileWeb    = "https_web"    // the endpoint's certificate is of the Web PKI
	ProfileSPIFFE = "https_spiffe" // it is an X.509-SVID
)

const (
	maxTrustDomainName  = 255 // bytes (SPIFFE-ID section 2.1)
	defaultMaxBundleAge = time.Hour
	minMaxBundleAge     = 15 * time.Minute
	maxMaxBundleAge     = 24 * time.Hour
)

// SPIFFEConfig says whose SVIDs are accepted. Zero values stand for the defaults.
type SPIFFEConfig struct {
	// Audience must be in aud of a JWT-SVID.
	Audience string
	// WorkloadAPI is the address that Writ's own X.509-SVID and bundles come from:
	// unix:///path, or tcp://ip:port on a loopback address. Every trust domain whose
	// bundle it delivers is accepted. Empty: TrustDomains alone.
	WorkloadAPI string
	// TrustDomains have their bundles from elsewhere; for these, what the Workload API says does not count.
	TrustDomains []TrustDomain
	// ClockSkew is granted to nbf and iat of a JWT-SVID, never to an expiry; 0 to 60 s, default 30 s.
	ClockSkew time.Duration
	// CacheSize is how many verified SVIDs of each kind are remembered; at most 1,000,000, default 10,000.
	CacheSize int
	// MaxBundleAge is how long the last good bundle serves while its source is down;
	// 15 min to 24 h, default 1 h. For so long a removed key may live on.
	MaxBundleAge time.Duration
}

// TrustDomain is one trust domain, with its bundle from either File or URL.
type TrustDomain struct {
	// Name is the trust domain, such as example.org.
	Name string
	// File holds a SPIFFE bundle (JWKS), or certificates in PEM, which can verify X.509-SVIDs only. It is read again every 5 min.
	File string
	// URL is a bundle endpoint; https.
	URL string
	// Profile of the endpoint: ProfileWeb or ProfileSPIFFE.
	Profile string
	// EndpointID is the SPIFFE ID of the endpoint; ProfileSPIFFE only.
	EndpointID string
	// Bootstrap is a file like File that authenticates the first connection, when EndpointID is in this very
	// trust domain; from then on the fetched bundle does. Else the endpoint's trust domain is known by itself.
	Bootstrap string
}

// faults lists everything that is wrong with the configuration, joined.
func (c SPIFFEConfig) faults() error {
	var all []error
	add := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if c.Audience == "" {
		add("audience: required; without it JWT-SVIDs made for others would be accepted")
	}
	if c.WorkloadAPI == "" && len(c.TrustDomains) == 0 {
		add("workload_api, trust_domains: one of them is required; without it nobody could be authenticated")
	}
	if err := checkWorkloadAPI(c.WorkloadAPI); err != nil {
		add("workload_api: %w", err)
	}
	all = append(all, sharedFaults(c.ClockSkew, c.CacheSize)...)
	if c.MaxBundleAge != 0 && (c.MaxBundleAge < minMaxBundleAge || c.MaxBundleAge > maxMaxBundleAge) {
		add("max_bundle_age: %s is not between %s and %s", c.MaxBundleAge, minMaxBundleAge, maxMaxBundleAge)
	}
	seen := make(map[string]bool)
	for i, domain := range c.TrustDomains {
		for _, fault := range domain.faults(c) {
			add("trust_domains[%d].%w", i, fault)
		}
		if domain.Name != "" && seen[domain.Name] {
			add("trust_domains[%d].name: %q is configured twice; a trust domain has one source", i, domain.Name)
		}
		seen[domain.Name] = true
	}
	return errors.Join(all...)
}

func (t TrustDomain) faults(c SPIFFEConfig) []error {
	var all []error
	add := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if _, err := parseTrustDomain(t.Name); err != nil {
		add("name: %w", err)
	}
	if (t.File == "") == (t.URL == "") {
		add("file, url: exactly one of them is required")
	}
	if t.URL == "" {
		if t.Profile != "" || t.EndpointID != "" || t.Bootstrap != "" {
			add("profile, endpoint_id, bootstrap: these go with url only")
		}
		return all
	}
	if err := checkBundleURL(t.URL); err != nil {
		add("url: %w", err)
	}
	switch t.Profile {
	case ProfileWeb:
		if t.EndpointID != "" || t.Bootstrap != "" {
			add("endpoint_id, bootstrap: these go with profile %s only", ProfileSPIFFE)
		}
	case ProfileSPIFFE:
		all = append(all, t.endpointFaults(c)...)
	default:
		add("profile: %q is neither %s nor %s", t.Profile, ProfileWeb, ProfileSPIFFE)
	}
	return all
}

// endpointFaults looks at how an endpoint with an SVID is to be authenticated.
func (t TrustDomain) endpointFaults(c SPIFFEConfig) []error {
	id, err := parseID(t.EndpointID)
	if err != nil {
		return []error{fmt.Errorf("endpoint_id: %w", err)}
	}
	serving := id.TrustDomain().Name()
	switch {
	case serving == t.Name && t.Bootstrap == "":
		return []error{errors.New("bootstrap: required, since the endpoint is in this trust domain; give its bundle as of now")}
	case serving != t.Name && t.Bootstrap != "":
		return []error{errors.New("bootstrap: the endpoint is in another trust domain; configure that one instead")}
	case serving != t.Name && c.WorkloadAPI == "" && !c.has(serving):
		return []error{fmt.Errorf("endpoint_id: its trust domain %q is not configured, so the endpoint could not be authenticated", serving)}
	default:
		return nil
	}
}

func (c SPIFFEConfig) has(name string) bool {
	for _, t := range c.TrustDomains {
		if t.Name == name {
			return true
		}
	}
	return false
}

// withDefaults fills in what was left zero.
func (c SPIFFEConfig) withDefaults() SPIFFEConfig {
	c.ClockSkew = cmp.Or(c.ClockSkew, defaultClockSkew)
	c.CacheSize = cmp.Or(c.CacheSize, defaultCacheSize)
	c.MaxBundleAge = cmp.Or(c.MaxBundleAge, defaultMaxBundleAge)
	return c
}

// checkWorkloadAPI keeps the private key, which the Workload API sends in the clear, on this machine.
func checkWorkloadAPI(address string) error {
	if address == "" {
		return nil
	}
	if err := workloadapi.ValidateAddress(address); err != nil {
		return fmt.Errorf("%q cannot be used (unix:///path or tcp://ip:port): %w", address, err)
	}
	if u, err := url.Parse(address); err != nil || u.Scheme == "tcp" && !isLoopback(u.Hostname()) {
		return fmt.Errorf("%q is not on this machine, and private keys would cross the network in the clear; use a socket or a loopback address", address)
	}
	return nil
}

func checkBundleURL(raw string) error {
	if !strings.HasPrefix(strings.ToLower(raw), "https:") {
		return fmt.Errorf("%q must be https, also on a loopback host", raw)
	}
	return checkEndpoint(raw)
}

// parseTrustDomain reads a trust domain's name (SPIFFE-ID section 2.1).
func parseTrustDomain(name string) (spiffeid.TrustDomain, error) {
	if name == "" {
		return spiffeid.TrustDomain{}, errors.New("required")
	}
	domain, err := spiffeid.TrustDomainFromString(name)
	if err != nil || domain.Name() != name || len(name) > maxTrustDomainName {
		return spiffeid.TrustDomain{}, fmt.Errorf("%q is not the name of a trust domain: at most %d of a-z, 0-9, dot, dash and underscore", name, maxTrustDomainName)
	}
	return domain, nil
}

// parseID reads the SPIFFE ID of a workload: one with a path (SPIFFE-ID section 2).
func parseID(raw string) (spiffeid.ID, error) {
	if len(raw) > maxSubjectLength {
		return spiffeid.ID{}, fmt.Errorf("it is longer than %d bytes", maxSubjectLength)
	}
	id, err := spiffeid.FromString(raw)
	switch {
	case err != nil:
		return spiffeid.ID{}, fmt.Errorf("it is not a SPIFFE ID: %w", err)
	case len(id.TrustDomain().Name()) > maxTrustDomainName:
		return spiffeid.ID{}, fmt.Errorf("its trust domain is longer than %d bytes", maxTrustDomainName)
	case id.Path() == "":
		return spiffeid.ID{}, errors.New("it names a trust domain and no workload; a path is required")
	default:
		return id, nil
	}
}
