package authn

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// authority is a certificate authority that a test made.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	above       []*x509.Certificate // intermediates to send, up to and without the root
}

func newAuthority(t testing.TB, domain string, now time.Time) authority {
	t.Helper()
	key := newKey(t, jose.ES256, "").private
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority of " + domain}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: domain}},
	}
	return authority{certificate: certify(t, template, key.Public(), template, key), key: key}
}

// below is an intermediate authority, good for an hour.
func (a authority) below(t testing.TB, change func(*x509.Certificate)) authority {
	t.Helper()
	key := newKey(t, jose.ES256, "").private
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "intermediate"}, NotBefore: a.certificate.NotBefore, NotAfter: a.certificate.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	own := certify(t, template, key.Public(), a.certificate, a.key)
	return authority{certificate: own, key: key, above: append([]*x509.Certificate{own}, a.above...)}
}

// svid is a good X.509-SVID for an hour (from an hour before the authority ends by 24), bent by change.
func (a authority) svid(t testing.TB, id string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t, jose.ES256, "").private
	return a.svidFor(t, id, key, change)
}

func (a authority) svidFor(t testing.TB, id string, key crypto.Signer, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	begin := a.certificate.NotBefore.Add(time.Hour)
	template := &x509.Certificate{
		NotBefore: begin.Add(-time.Minute), NotAfter: begin.Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{parseURL(t, id)},
	}
	if change != nil {
		change(template)
	}
	leaf := certify(t, template, key.Public(), a.certificate, a.key)
	out := tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, c := range a.above {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}

// chain is what a peer would see.
func chain(t testing.TB, c tls.Certificate) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, raw := range c.Certificate {
		parsed, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, parsed)
	}
	return out
}

func certify(t testing.TB, template *x509.Certificate, public any, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parseURL(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// bundleOf is a SPIFFE bundle, written without the library that reads it. extra sets further members.
func bundleOf(t testing.TB, authorities []authority, keys []signingKey, extra map[string]any) []byte {
	t.Helper()
	list := []any{}
	for _, a := range authorities {
		public, ok := a.certificate.PublicKey.(*ecdsa.PublicKey)
		if !ok || public.Curve != elliptic.P256() {
			t.Fatal("not a P-256 key")
		}
		point, err := public.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, map[string]any{
			"use": "x509-svid", "kty": "EC", "crv": "P-256", "x5c": [][]byte{a.certificate.Raw},
			"x": b64(point[1:33]), "y": b64(point[33:]),
		})
	}
	for _, k := range keys {
		public := k.public()
		public.Use = "jwt-svid"
		list = append(list, public)
	}
	document := map[string]any{"keys": list}
	maps.Copy(document, extra)
	raw, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func writeFile(t testing.TB, raw []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(authorities ...authority) []byte {
	var out bytes.Buffer
	for _, a := range authorities {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

func newSPIFFE(t testing.TB, cfg SPIFFEConfig, client *http.Client, now func() time.Time) *SPIFFE {
	t.Helper()
	if cfg.Audience == "" {
		cfg.Audience = audience
	}
	s, err := NewSPIFFE(context.Background(), cfg, client, now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fromFiles accepts the trust domains with the given bundles.
func fromFiles(t testing.TB, now func() time.Time, bundles map[string][]byte) *SPIFFE {
	t.Helper()
	var cfg SPIFFEConfig
	for name, raw := range bundles {
		cfg.TrustDomains = append(cfg.TrustDomains, TrustDomain{Name: name, File: writeFile(t, raw)})
	}
	return newSPIFFE(t, cfg, &http.Client{}, now)
}
