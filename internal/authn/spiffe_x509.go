package authn

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxChain bounds the certificates that a caller may send.
const maxChain = 10

// VerifyX509 reports who a client certificate authenticates: an X.509-SVID,
// leaf first, as crypto/tls hands it over in PeerCertificates (X509-SVID
// sections 4 and 5; SPIFFE-ID section 2). It must be one of its own trust domain
// and alive; a connection lives longer than an SVID, so it is called for every
// request. It never waits. That the peer holds the key is what TLS has shown.
// Every error is an *Error.
func (s *SPIFFE) VerifyX509(chain []*x509.Certificate) (Claims, error) {
	id, err := leafID(chain)
	if err != nil {
		return Claims{}, err
	}
	now := s.now()
	trusted, err := s.bundle(id.TrustDomain(), ofX509, now)
	if err != nil {
		return Claims{}, err
	}
	sum := chainSum(chain)
	if e := s.certificates.get(sum); e != nil && e.bundle == trusted {
		if err := checkLife(e.notBefore, e.claims.Expiry, now); err != nil {
			return Claims{}, err
		}
		return e.claims, nil
	}
	expiry, err := verifyChain(chain, trusted, x509.ExtKeyUsageClientAuth, now)
	if err != nil {
		return Claims{}, err
	}
	thumbprint := sha256.Sum256(chain[0].Raw)
	e := &entry{
		claims: Claims{
			Issuer:                id.TrustDomain().IDString(),
			Subject:               id.String(),
			Expiry:                expiry,
			CertificateThumbprint: base64.RawURLEncoding.EncodeToString(thumbprint[:]),
		},
		notBefore: chain[0].NotBefore,
		bundle:    trusted,
	}
	s.certificates.put(sum, e, now)
	return e.claims, nil
}

// chainSum names a chain; DER delimits itself.
func chainSum(chain []*x509.Certificate) [32]byte {
	h := sha256.New()
	for _, certificate := range chain {
		h.Write(certificate.Raw)
	}
	return [32]byte(h.Sum(nil))
}

// leafID checks what an X.509-SVID must be by itself, and reads whose it says it is.
func leafID(chain []*x509.Certificate) (spiffeid.ID, error) {
	if len(chain) == 0 {
		return spiffeid.ID{}, refuse(CodeSVIDMissing, "present an X.509-SVID as client certificate")
	}
	if len(chain) > maxChain {
		return spiffeid.ID{}, refuse(CodeSVIDMalformed, "the client sent too many certificates; send the SVID and its intermediates only")
	}
	leaf := chain[0]
	switch {
	case len(leaf.URIs) != 1:
		return spiffeid.ID{}, refuse(CodeSVIDMalformed, "an X.509-SVID has exactly one URI name, its SPIFFE ID; have the certificate issued by SPIFFE")
	case leaf.IsCA:
		return spiffeid.ID{}, refuse(CodeSVIDMalformed, "the client certificate is that of a CA; present that of the workload")
	case leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return spiffeid.ID{}, refuse(CodeSVIDMalformed, "the key of the client certificate may sign certificates or revocation lists; present that of the workload")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return spiffeid.ID{}, refuse(CodeSVIDMalformed, "the key usage of an X.509-SVID needs digitalSignature; correct the CA")
	case !usable(leaf.PublicKey):
		return spiffeid.ID{}, refuse(CodeSVIDMalformed, "the key of an X.509-SVID must be RSA of 2048 bits or more, EC or Ed25519; correct the CA")
	}
	id, err := parseID(leaf.URIs[0].String())
	if err != nil {
		return spiffeid.ID{}, &Error{Code: CodeSVIDMalformed, Detail: "the URI name of the client certificate is not the SPIFFE ID of a workload (spiffe://trust-domain/path, the trust domain in lower case); correct the CA", cause: err}
	}
	return id, nil
}

// verifyChain checks the way from the leaf to an authority of the bundle, and
// reports when it ends: with the first certificate on it that expires.
func verifyChain(chain []*x509.Certificate, trusted *bundle, usage x509.ExtKeyUsage, now time.Time) (time.Time, error) {
	leaf := chain[0]
	if err := checkLife(leaf.NotBefore, leaf.NotAfter, now); err != nil {
		return time.Time{}, err
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	ways, err := leaf.Verify(x509.VerifyOptions{
		Roots: trusted.roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return time.Time{}, &Error{Code: CodeSVIDUntrusted, Detail: "the certificate does not lead to an authority of its own trust domain; get a fresh SVID and send its intermediates with it", cause: err}
	}
	var expiry time.Time
	for _, way := range ways {
		end := leaf.NotAfter
		for _, certificate := range way {
			if certificate.NotAfter.Before(end) {
				end = certificate.NotAfter
			}
		}
		if end.After(expiry) {
			expiry = end
		}
	}
	return expiry, checkLife(leaf.NotBefore, expiry, now)
}

// checkLife grants no skew: CAs date an SVID back for that.
func checkLife(notBefore, expiry, now time.Time) error {
	if !now.Before(expiry) {
		return refuse(CodeSVIDExpired, "the SVID has expired; connect with a fresh one")
	}
	if now.Before(notBefore) {
		return refuse(CodeSVIDNotYetValid, "the SVID is not valid yet; wait, or correct the clocks of CA and service")
	}
	return nil
}

// TLSConfig is for a listener that asks every client for a certificate and
// requires none: VerifyX509 refuses a bad one with a typed answer, per request.
// It serves what certificate returns, or, when that is nil, Writ's own X.509-SVID
// as it is at each handshake. The error says that there is neither.
func (s *SPIFFE) TLSConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (*tls.Config, error) {
	if certificate == nil {
		if s.workload == nil {
			return nil, errors.New("authn: there is no certificate to serve: configure the Workload API, or a certificate")
		}
		certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.workload.certificate() }
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: certificate,
	}, nil
}
