package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/writ-project/writ/internal/authn"
)

func (s *SPIFFE) used() bool {
	return s.Audience != "" || s.WorkloadAPI != "" || len(s.TrustDomains) > 0
}

// accepts reports whether SVIDs of a trust domain (spiffe://name) may be accepted. What the Workload API federates with is known
// only when it says so.
func (s *SPIFFE) accepts(issuer string) bool {
	name, isDomain := strings.CutPrefix(issuer, "spiffe://")
	if !isDomain || s.WorkloadAPI != "" {
		return isDomain
	}
	for _, t := range s.TrustDomains {
		if t.Name == name {
			return true
		}
	}
	return false
}

// newSPIFFE begins to follow the bundles; nil if no SVIDs are accepted.
func newSPIFFE(ctx context.Context, config Config, o Options) (*authn.SPIFFE, error) {
	if !config.SPIFFE.used() {
		return nil, nil //nolint:nilnil // no SVIDs are accepted
	}
	cfg := authn.SPIFFEConfig{Audience: config.SPIFFE.Audience, WorkloadAPI: config.SPIFFE.WorkloadAPI}
	for _, t := range config.SPIFFE.TrustDomains {
		cfg.TrustDomains = append(cfg.TrustDomains, authn.TrustDomain(t))
	}
	svids, err := authn.NewSPIFFE(ctx, cfg, o.client(), o.Now, o.Log)
	if err != nil {
		return nil, fmt.Errorf("spiffe: %w", err)
	}
	return svids, nil
}

// tls is what the listener speaks; nil is plain HTTP. The certificate is read once.
func (a *App) tls() (*tls.Config, error) {
	var certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	switch files := a.config.TLS; {
	case files.Certificate != "":
		loaded, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &loaded, nil }
	case !files.SVID:
		return nil, nil //nolint:nilnil // plain HTTP
	}
	if a.svids != nil {
		return a.svids.TLSConfig(certificate)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate}, nil
}
