package authn

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func TestVerifyX509TellsWhoItIs(t *testing.T) {
	c := newClock()
	root := newAuthority(t, "a.example", c.now())
	s := fromFiles(t, c.now, map[string][]byte{"a.example": bundleOf(t, []authority{root}, nil, nil)})
	svid := root.svid(t, "spiffe://a.example/ns/agent", nil)
	sum := sha256.Sum256(svid.Leaf.Raw)
	want := Claims{
		Issuer: "spiffe://a.example", Subject: "spiffe://a.example/ns/agent",
		Expiry: epoch().Add(time.Hour), CertificateThumbprint: b64(sum[:]),
	}
	for _, when := range []string{"first", "remembered"} {
		got, err := s.VerifyX509(chain(t, svid))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: claims (-want +got):\n%s", when, diff)
		}
	}
}

// TestVerifyX509Refusals has two accepted trust domains; each case bends one thing.
func TestVerifyX509Refusals(t *testing.T) {
	c := newClock()
	a, b := newAuthority(t, "a.example", c.now()), newAuthority(t, "b.example", c.now())
	stranger := newAuthority(t, "a.example", c.now())
	s := fromFiles(t, c.now, map[string][]byte{
		"a.example": bundleOf(t, []authority{a}, nil, nil),
		"b.example": bundleOf(t, []authority{b}, nil, nil),
	})
	const id = "spiffe://a.example/agent"
	bent := func(change func(*x509.Certificate)) []*x509.Certificate { return chain(t, a.svid(t, id, change)) }
	named := func(id string) []*x509.Certificate { return chain(t, a.svid(t, id, nil)) }
	usage := func(usage x509.KeyUsage) []*x509.Certificate {
		return bent(func(c *x509.Certificate) { c.KeyUsage = usage })
	}
	purpose := func(usages ...x509.ExtKeyUsage) []*x509.Certificate {
		return bent(func(c *x509.Certificate) { c.ExtKeyUsage = usages })
	}
	life := func(from, to time.Duration) []*x509.Certificate {
		return bent(func(x *x509.Certificate) { x.NotBefore, x.NotAfter = c.now().Add(from), c.now().Add(to) })
	}
	middle := a.below(t, nil)
	ended := a.below(t, func(x *x509.Certificate) { x.NotAfter = c.now().Add(-time.Minute) })
	noCA := a.svid(t, id, nil)
	forged := authority{certificate: noCA.Leaf, key: noCA.PrivateKey.(crypto.Signer), above: []*x509.Certificate{noCA.Leaf}}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	tampered := bent(nil)
	tampered[0].Signature[len(tampered[0].Signature)-1] ^= 1

	for _, test := range []struct {
		name  string
		chain []*x509.Certificate
		want  Code
	}{
		{"a good SVID", bent(nil), ""},
		{"a good SVID of another accepted trust domain", chain(t, b.svid(t, "spiffe://b.example/agent", nil)), ""},
		{"with its intermediate", chain(t, middle.svid(t, id, nil)), ""},
		{"with an RSA key", chain(t, a.svidFor(t, id, newKey(t, jose.RS256, "").private, nil)), ""},
		{"with an Ed25519 key", chain(t, a.svidFor(t, id, newKey(t, jose.EdDSA, "").private, nil)), ""},
		{"with DNS names beside", bent(func(c *x509.Certificate) { c.DNSNames = []string{"agent.example"} }), ""},
		{"the longest SPIFFE ID", named(id + strings.Repeat("x", maxSubjectLength-len(id))), ""},
		{"nothing", nil, CodeSVIDMissing},

		{"of another trust domain than the CA that signed it", chain(t, b.svid(t, id, nil)), CodeSVIDUntrusted},
		{"of another trust domain, with its CA sent along", append(chain(t, b.svid(t, id, nil)), b.certificate), CodeSVIDUntrusted},
		{"of an unknown trust domain", chain(t, a.svid(t, "spiffe://c.example/agent", nil)), CodeTrustDomainUnknown},
		{"of a subdomain of a trust domain", named("spiffe://x.a.example/agent"), CodeTrustDomainUnknown},
		{"of a CA with the same name", chain(t, stranger.svid(t, id, nil)), CodeSVIDUntrusted},
		{"signed by itself", chain(t, selfSigned(t, id, c.now())), CodeSVIDUntrusted},
		{"signed by another SVID", chain(t, forged.svid(t, id, func(c *x509.Certificate) { c.NotBefore = noCA.Leaf.NotBefore })), CodeSVIDUntrusted},
		{"with a changed signature", tampered, CodeSVIDUntrusted},
		{"without its intermediate", chain(t, middle.svid(t, id, nil))[:1], CodeSVIDUntrusted},
		{"with an expired intermediate", chain(t, ended.svid(t, id, nil)), CodeSVIDUntrusted},
		{"with eleven certificates", append(bent(nil), chain(t, tls.Certificate{Certificate: repeat(a.certificate.Raw, maxChain)})...), CodeSVIDMalformed},

		{"no URI name", bent(func(c *x509.Certificate) { c.URIs = nil }), CodeSVIDMalformed},
		{"two URI names", bent(func(c *x509.Certificate) { c.URIs = append(c.URIs, parseURL(t, "spiffe://a.example/other")) }), CodeSVIDMalformed},
		{"the same URI name twice", bent(func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }), CodeSVIDMalformed},
		{"a SPIFFE ID and a web address", bent(func(c *x509.Certificate) { c.URIs = append(c.URIs, parseURL(t, "https://a.example")) }), CodeSVIDMalformed},
		{"a web address", named("https://a.example/agent"), CodeSVIDMalformed},
		{"an ID without a path", named("spiffe://a.example"), CodeSVIDMalformed},
		{"an ID with the path /", named("spiffe://a.example/"), CodeSVIDMalformed},
		{"an ID with a slash at the end", named(id + "/"), CodeSVIDMalformed},
		{"an ID with an empty segment", named("spiffe://a.example//agent"), CodeSVIDMalformed},
		{"an ID with a dot segment", named("spiffe://a.example/x/../agent"), CodeSVIDMalformed},
		{"an ID with an escape", named("spiffe://a.example/%61gent"), CodeSVIDMalformed},
		{"an ID with a query", named(id + "?x"), CodeSVIDMalformed},
		{"an ID with a fragment", named(id + "#x"), CodeSVIDMalformed},
		{"an ID with a user", named("spiffe://root@a.example/agent"), CodeSVIDMalformed},
		{"a trust domain in upper case", named("spiffe://A.example/agent"), CodeSVIDMalformed},
		{"an ID that is too long", named(id + strings.Repeat("x", maxSubjectLength-len(id)+1)), CodeSVIDMalformed},

		{"with the CA bit", bent(func(c *x509.Certificate) { c.IsCA = true }), CodeSVIDMalformed},
		{"a key that may sign certificates", usage(x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign), CodeSVIDMalformed},
		{"a key that may sign revocation lists", usage(x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign), CodeSVIDMalformed},
		{"a key that may not sign", usage(x509.KeyUsageKeyEncipherment), CodeSVIDMalformed},
		{"no key usage", usage(0), CodeSVIDMalformed},
		{"the CA itself", []*x509.Certificate{a.certificate}, CodeSVIDMalformed},
		{"a short RSA key", chain(t, a.svidFor(t, id, small, nil)), CodeSVIDMalformed},
		{"for clients and servers", purpose(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth), ""},
		{"for any purpose that is not said", purpose(), ""},
		{"for servers only", purpose(x509.ExtKeyUsageServerAuth), CodeSVIDUntrusted},

		{"in its last second", life(-time.Hour, time.Second), ""},
		{"expired this instant", life(-time.Hour, 0), CodeSVIDExpired},
		{"expired a second ago", life(-time.Hour, -time.Second), CodeSVIDExpired},
		{"from this instant on", life(0, time.Hour), ""},
		{"not yet valid", life(time.Second, time.Hour), CodeSVIDNotYetValid},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := s.VerifyX509(test.chain)
			wantCode(t, err, test.want)
			if test.want != "" && !cmp.Equal(got, Claims{}) {
				t.Errorf("refused, but claims are %v", got)
			}
			if test.want == "" && (got.Subject != test.chain[0].URIs[0].String() || !got.Expiry.After(c.now())) {
				t.Errorf("claims = %+v", got)
			}
		})
	}
}

func TestRememberedSVIDExpiresToTheInstant(t *testing.T) {
	c := newClock()
	root := newAuthority(t, "a.example", c.now())
	s := fromFiles(t, c.now, map[string][]byte{"a.example": bundleOf(t, []authority{root}, nil, nil)})
	// The intermediate ends before the SVID does, and so ends what the SVID proves.
	middle := root.below(t, func(x *x509.Certificate) { x.NotAfter = c.now().Add(30 * time.Minute) })
	svid := chain(t, middle.svid(t, "spiffe://a.example/agent", nil))
	for _, step := range []struct {
		advance time.Duration
		want    Code
	}{{0, ""}, {30*time.Minute - 1, ""}, {1, CodeSVIDExpired}, {-2 * time.Hour, CodeSVIDNotYetValid}} {
		c.advance(step.advance)
		_, err := s.VerifyX509(svid)
		wantCode(t, err, step.want)
	}
}

func TestRefusalsTellNothingOfOthers(t *testing.T) {
	c := newClock()
	root := newAuthority(t, "secret.example", c.now())
	s := fromFiles(t, c.now, map[string][]byte{"secret.example": bundleOf(t, []authority{root}, nil, nil)})
	for _, id := range []string{"spiffe://other.example/agent", "spiffe://secret.example/agent", "spiffe://Other/agent"} {
		_, err := s.VerifyX509(chain(t, selfSigned(t, id, c.now())))
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "ther.example") {
			t.Errorf("error = %v", err)
		}
	}
}

// TestCertificateIsNoToken: a certificate is public, so knowing one proves nothing.
func TestCertificateIsNoToken(t *testing.T) {
	c := newClock()
	root := newAuthority(t, "a.example", c.now())
	s := fromFiles(t, c.now, map[string][]byte{"a.example": bundleOf(t, []authority{root}, nil, nil)})
	svid := chain(t, root.svid(t, "spiffe://a.example/agent", nil))
	_, err := s.VerifyX509(svid)
	wantCode(t, err, "")
	_, err = s.VerifyJWT(string(svid[0].Raw))
	wantCode(t, err, CodeTokenMalformed)
}

func repeat(raw []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = raw
	}
	return out
}

func selfSigned(t testing.TB, id string, now time.Time) tls.Certificate {
	t.Helper()
	key := newKey(t, jose.ES256, "").private
	template := &x509.Certificate{
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{parseURL(t, id)},
	}
	leaf := certify(t, template, key.Public(), template, key)
	return tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
}

func FuzzVerifyX509(f *testing.F) {
	c := newClock()
	root := newAuthority(f, "a.example", c.now())
	s := fromFiles(f, c.now, map[string][]byte{"a.example": bundleOf(f, []authority{root}, nil, nil)})
	good := root.svid(f, "spiffe://a.example/agent", nil)
	f.Add(good.Leaf.Raw)
	f.Add(root.certificate.Raw)
	f.Add(selfSigned(f, "spiffe://a.example", c.now()).Leaf.Raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		certificate, err := x509.ParseCertificate(raw)
		if err != nil {
			return
		}
		_, err = s.VerifyX509([]*x509.Certificate{certificate})
		if err == nil && !certificate.Equal(good.Leaf) {
			t.Fatal("a certificate that was never issued is accepted")
		}
		var refusal *Error
		if err != nil && (!errors.As(err, &refusal) || refusal.Detail == "") {
			t.Fatalf("untyped or silent error: %v", err)
		}
	})
}

func BenchmarkVerifyX509(b *testing.B) {
	c := newClock()
	root := newAuthority(b, "a.example", c.now())
	s := fromFiles(b, c.now, map[string][]byte{"a.example": bundleOf(b, []authority{root}, nil, nil)})
	certificates := chain(b, root.below(b, nil).svid(b, "spiffe://a.example/agent", nil))
	b.Run("miss", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.certificates.remove(chainSum(certificates))
			if _, err := s.VerifyX509(certificates); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.VerifyX509(certificates); err != nil {
				b.Fatal(err)
			}
		}
	})
}
