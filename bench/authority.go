package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/writ-project/writ/internal/svidtest"
)

const trustDomain = "bench.example"

func spiffeID(domain string, n int) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: domain, Path: "/" + agentID(n)}
}

// authority is a SPIFFE trust domain, the X.509-SVIDs of its agents, and the certificate that servers show. All keys are P-256.
type authority struct {
	svids            []tls.Certificate
	roots            *x509.CertPool // of the servers' certificate
	certificate, key string         // its files
	bundle           string         // file with the trust domain's certificate
}

func newAuthority(folder string, agents int) (*authority, error) {
	ca, err := svidtest.Authority(trustDomain, time.Now())
	if err != nil {
		return nil, err
	}
	server, err := svidtest.Server(time.Now())
	if err != nil {
		return nil, err
	}
	a := &authority{
		roots: x509.NewCertPool(), bundle: filepath.Join(folder, "bundle.pem"),
		certificate: filepath.Join(folder, "tls.crt"), key: filepath.Join(folder, "tls.key"),
	}
	a.roots.AddCert(server.Leaf)
	if err := errors.Join(svidtest.Write(ca, a.bundle, ""), svidtest.Write(server, a.certificate, a.key)); err != nil {
		return nil, err
	}
	for n := range agents {
		svid, err := svidtest.SVID(ca, trustDomain, spiffeID(trustDomain, n).Path, time.Now())
		if err != nil {
			return nil, err
		}
		a.svids = append(a.svids, svid)
	}
	return a, nil
}

// domain is the trust domain that agents are known by, too; empty without one.
func (a *authority) domain() string {
	if a == nil {
		return ""
	}
	return trustDomain
}

// configuration is what a server needs to know of it. The catalog names the trust domain, so every server must accept it.
func (a *authority) configuration(how callers) (text string) {
	if a != nil {
		text = fmt.Sprintf("spiffe: {audience: %s, trust_domains: [{name: %s, file: %q}]}\n", audience, trustDomain, a.bundle)
	}
	if how.overTLS() {
		text += fmt.Sprintf("tls: {certificate: %q, key: %q}\n", a.certificate, a.key)
	}
	return text
}
