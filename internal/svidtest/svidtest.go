// Package svidtest makes certificates and X.509-SVIDs of authorities in memory: for tests, the bench and examples.
package svidtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"time"
)

// life is how long a certificate is good.
const life = 24 * time.Hour

// Certified makes a certificate with a new P-256 key, good from a minute before now for a day, by an authority, or by itself if by
// is nil.
func Certified(by *tls.Certificate, now time.Time, change func(*x509.Certificate)) (out tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return out, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return out, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(life), BasicConstraintsValid: true,
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

// Authority makes the certificate of a trust domain's authority.
func Authority(domain string, now time.Time) (tls.Certificate, error) {
	return Certified(nil, now, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: domain}}
	})
}

// SVID makes an X.509-SVID for spiffe://domain/path.
func SVID(by tls.Certificate, domain, path string, now time.Time) (tls.Certificate, error) {
	return Certified(&by, now, func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: domain, Path: path}} })
}

// Server makes a certificate for 127.0.0.1 that stands for itself.
func Server(now time.Time) (tls.Certificate, error) {
	return Certified(nil, now, func(c *x509.Certificate) {
		c.Subject, c.IPAddresses = pkix.Name{CommonName: "127.0.0.1"}, []net.IP{net.IPv4(127, 0, 0, 1)} // OpenSSL trusts nobody without a name
	})
}

// Thumbprint is the x5t#S256 of a certificate (RFC 8705 section 3.1).
func Thumbprint(c tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Write writes a certificate, and its key unless that file is empty, as PEM for the owner alone.
func Write(c tls.Certificate, certificateFile, keyFile string) error {
	err := writePEM(certificateFile, "CERTIFICATE", c.Certificate[0])
	if keyFile == "" || err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	return errors.Join(err, writePEM(keyFile, "PRIVATE KEY", key))
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
