package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
)

// Algorithm is a signature algorithm (RFC 7518 section 3.1, RFC 8037).
type Algorithm string

// The algorithms that tokens are signed with.
const (
	EdDSA Algorithm = "EdDSA" // Ed25519
	ES256 Algorithm = "ES256" // ECDSA on P-256 with SHA-256
)

const (
	pemType        = "PRIVATE KEY" // PKCS#8, RFC 7468 section 10
	maxKeyFile     = 64 << 10      // bytes
	maxKeyAttempts = 128
	scalarSize     = 32 // bytes of a P-256 scalar, and of half an ES256 signature
)

// ErrKeyFileMode says that others than the owner may read or write a key file.
var ErrKeyFileMode = errors.New("the key file is open to others than its owner")

// Key is a private signing key. It prints as its id, never as the key itself.
// It is made by ParseKey and LoadKey, is immutable, and may be used concurrently.
type Key struct {
	alg     Algorithm
	id      string
	jwk     json.RawMessage // the public half
	private crypto.Signer
}

// ID is the kid: the RFC 7638 thumbprint (SHA-256, base64url).
func (k Key) ID() string { return k.id }

// Algorithm is the one algorithm that the key signs with.
func (k Key) Algorithm() Algorithm { return k.alg }

// Format keeps the private half out of every verb of fmt, and so out of logs.
func (k Key) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "jwt.Key(%s %s)", k.alg, k.id) }

// LoadKey reads a PKCS#8 PEM file. A file that others than its owner may read
// or write is refused with ErrKeyFileMode.
func LoadKey(path string) (Key, error) {
	file, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("signing key: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat() // of the open file, so that it cannot be exchanged in between
	if err != nil {
		return Key{}, fmt.Errorf("signing key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Key{}, fmt.Errorf("signing key %s: not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&^fs.FileMode(0o600) != 0 {
		return Key{}, fmt.Errorf("signing key %s: %w: mode %04o; run chmod 600 on it, and replace the key if it may have been read", path, ErrKeyFileMode, mode)
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return Key{}, fmt.Errorf("signing key: %w", err)
	}
	key, err := ParseKey(raw)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ParseKey reads one unencrypted PKCS#8 key in PEM: Ed25519 or ECDSA P-256.
func ParseKey(raw []byte) (Key, error) {
	if len(raw) > maxKeyFile {
		return Key{}, fmt.Errorf("signing key: larger than %d bytes", maxKeyFile)
	}
	block, rest := pem.Decode(raw)
	switch {
	case block == nil:
		return Key{}, errors.New(`signing key: no PEM block; expected "BEGIN PRIVATE KEY"`)
	case block.Type != pemType:
		return Key{}, fmt.Errorf("signing key: PEM type %q; convert it with: openssl pkcs8 -topk8 -nocrypt", block.Type)
	case len(bytes.TrimSpace(rest)) != 0:
		return Key{}, errors.New("signing key: something follows the key; keep one key in a file")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, errors.New("signing key: not a PKCS#8 private key") // the cause may quote the key
	}
	return newKey(parsed)
}

// newKey accepts the two kinds of key and computes what is published of them.
func newKey(private any) (Key, error) {
	switch p := private.(type) {
	case ed25519.PrivateKey:
		public := p[ed25519.PrivateKeySize-ed25519.PublicKeySize:] // RFC 8032, section 5.1.5: the private key ends in the public one
		return publish(EdDSA, p, fmt.Sprintf(`"crv":"Ed25519","kty":"OKP","x":"%s"`, encode(public)))
	case *ecdsa.PrivateKey:
		if p.Curve != elliptic.P256() {
			return Key{}, fmt.Errorf("signing key: ECDSA on %s; only P-256 is supported", p.Params().Name)
		}
		point, err := p.PublicKey.Bytes() // 4, x, y
		if err != nil {
			return Key{}, fmt.Errorf("signing key: %w", err)
		}
		x, y := point[1:1+scalarSize], point[1+scalarSize:]
		return publish(ES256, p, fmt.Sprintf(`"crv":"P-256","kty":"EC","x":"%s","y":"%s"`, encode(x), encode(y)))
	default:
		return Key{}, fmt.Errorf("signing key: %T; only Ed25519 and ECDSA P-256 are supported", private)
	}
}

// publish takes the members that RFC 7638 hashes, in its order.
func publish(alg Algorithm, private crypto.Signer, members string) (Key, error) {
	sum := sha256.Sum256([]byte("{" + members + "}"))
	id := encode(sum[:])
	jwk := fmt.Sprintf(`{%s,"alg":"%s","kid":"%s","use":"sig"}`, members, alg, id)
	return Key{alg: alg, id: id, jwk: json.RawMessage(jwk), private: private}, nil
}

// sign is the JWS signature of the input (RFC 7518 section 3.4, RFC 8037 section 3.1).
func (k Key) sign(input []byte) ([]byte, error) {
	if k.alg == EdDSA {
		return k.private.Sign(nil, input, crypto.Hash(0))
	}
	digest := sha256.Sum256(input)
	der, err := k.private.Sign(nil, digest[:], crypto.SHA256) // no randomness: RFC 6979
	if err != nil {
		return nil, err
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return nil, err
	}
	out := make([]byte, 2*scalarSize)
	pair.R.FillBytes(out[:scalarSize])
	pair.S.FillBytes(out[scalarSize:])
	return out, nil
}

// GenerateKey makes a key from 32 bytes of rand (for ES256 seldom more), as a
// PKCS#8 PEM block to be stored with mode 0600. It is deterministic in rand.
func GenerateKey(alg Algorithm, rand io.Reader) ([]byte, error) {
	private, err := generate(alg, rand)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

func generate(alg Algorithm, rand io.Reader) (any, error) {
	seed := make([]byte, ed25519.SeedSize)
	for range maxKeyAttempts {
		if _, err := io.ReadFull(rand, seed); err != nil {
			return nil, err
		}
		switch alg {
		case EdDSA:
			return ed25519.NewKeyFromSeed(seed), nil
		case ES256:
			if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed); err == nil {
				return key, nil // else the number is not below the order of the curve
			}
		default:
			return nil, fmt.Errorf("algorithm %q; choose %s or %s", alg, EdDSA, ES256)
		}
	}
	return nil, errors.New("the source of randomness is broken")
}

func encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }
