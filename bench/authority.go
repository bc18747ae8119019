package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
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
	ca, err := certified(nil, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: trustDomain}}
	})
	if err != nil {
		return nil, err
	}
	server, err := certified(nil, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
	if err != nil {
		return nil, err
	}
	a := &authority{
		roots: x509.NewCertPool(), bundle: filepath.Join(folder, "bundle.pem"),
		certificate: filepath.Join(folder, "tls.crt"), key: filepath.Join(folder, "tls.key"),
	}
	a.roots.AddCert(server.Leaf)
	key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		return nil, err
	}
	err = errors.Join(writePEM(a.bundle, "CERTIFICATE", ca.Certificate[0]), writePEM(a.certificate, "CERTIFICATE", server.Certificate[0]), writePEM(a.key, "PRIVATE KEY", key))
	if err != nil {
		return nil, err
	}
	for n := range agents {
		svid, err := certified(&ca, func(c *x509.Certificate) { c.URIs = []*url.URL{spiffeID(trustDomain, n)} })
		if err != nil {
			return nil, err
		}
		a.svids = append(a.svids, svid)
	}
	return a, nil
}

// certified is a certificate by an authority, or by itself.
func certified(by *tls.Certificate, change func(*x509.Certificate)) (out tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return out, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return out, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(tokenLife), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return out, err
	}
	leaf, err := x509.ParseCertificate(raw)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}, err
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
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
