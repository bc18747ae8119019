package authn

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// minRSABits is the smallest RSA modulus accepted (RFC 7518 section 3.3).
const minRSABits = 2048

// Algorithms are the names of the signatures that are accepted of tokens, where an issuer is not configured for fewer, and of DPoP proofs.
func Algorithms() (names []string) {
	for _, alg := range supportedAlgorithms() {
		names = append(names, string(alg))
	}
	return names
}

// supportedAlgorithms are the signatures that can be accepted at all: asymmetric ones.
func supportedAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512,
		jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512,
		jose.EdDSA,
	}
}

// algorithmList is the list as an error message shows it.
func algorithmList(algorithms []jose.SignatureAlgorithm) string {
	names := make([]string, len(algorithms))
	for i, a := range algorithms {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}

// fits reports whether a public key may verify signatures of the algorithm.
// Key and algorithm are tied here so that a token cannot choose a weaker pairing.
func fits(alg jose.SignatureAlgorithm, public any) bool {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return (strings.HasPrefix(string(alg), "RS") || strings.HasPrefix(string(alg), "PS")) && key.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey:
		return alg == curveAlgorithm(key.Curve)
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	default:
		return false
	}
}

// curveAlgorithm is the one ECDSA algorithm of a curve (RFC 7518 section 3.4).
func curveAlgorithm(curve elliptic.Curve) jose.SignatureAlgorithm {
	switch curve {
	case elliptic.P256():
		return jose.ES256
	case elliptic.P384():
		return jose.ES384
	case elliptic.P521():
		return jose.ES512
	default:
		return ""
	}
}

// usable reports whether a public key fits any supported algorithm.
func usable(public any) bool {
	for _, alg := range supportedAlgorithms() {
		if fits(alg, public) {
			return true
		}
	}
	return false
}
