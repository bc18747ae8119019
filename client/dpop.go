package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

const scalarSize = 32 // bytes of a P-256 coordinate, and of half an ES256 signature

// prover makes proofs of possession of one key (DPoP, RFC 9449).
type prover struct {
	key    crypto.Signer
	alg    string
	header string // encoded: it is the same in every proof
}

func newProver(key crypto.Signer) (*prover, error) {
	p := &prover{key: key}
	var jwk any
	switch public := key.Public().(type) {
	case ed25519.PublicKey:
		p.alg = "EdDSA"
		jwk = struct {
			Kty string `json:"kty"`
			Crv string `json:"crv"`
			X   string `json:"x"`
		}{"OKP", "Ed25519", encode(public)}
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return nil, errors.New("client: the key must be Ed25519 or ECDSA P-256")
		}
		point, err := public.Bytes() // 4, x, y
		if err != nil {
			return nil, fmt.Errorf("client: the key: %w", err)
		}
		p.alg = "ES256"
		jwk = struct {
			Kty string `json:"kty"`
			Crv string `json:"crv"`
			X   string `json:"x"`
			Y   string `json:"y"`
		}{"EC", "P-256", encode(point[1 : 1+scalarSize]), encode(point[1+scalarSize:])}
	default:
		return nil, errors.New("client: the key must be Ed25519 or ECDSA P-256")
	}
	header, err := json.Marshal(map[string]any{"typ": "dpop+jwt", "alg": p.alg, "jwk": jwk})
	if err != nil {
		return nil, fmt.Errorf("client: the key: %w", err)
	}
	p.header = encode(header)
	return p, nil
}

// prove makes the proof for one request; its URL goes in without query (RFC 9449 section 4.2).
func (p *prover) prove(method, target, token string, now time.Time) (string, error) {
	target, _, _ = strings.Cut(target, "?")
	sum := sha256.Sum256([]byte(token))
	claims, err := json.Marshal(map[string]any{
		"jti": rand.Text(), "htm": method, "htu": target, "iat": now.Unix(), "ath": encode(sum[:]),
	})
	if err != nil {
		return "", fmt.Errorf("client: proof: %w", err)
	}
	text := p.header + "." + encode(claims)
	signature, err := p.sign([]byte(text))
	if err != nil {
		return "", fmt.Errorf("client: proof: %w", err)
	}
	return text + "." + encode(signature), nil
}

func (p *prover) sign(text []byte) ([]byte, error) {
	if p.alg == "EdDSA" {
		return p.key.Sign(rand.Reader, text, crypto.Hash(0))
	}
	sum := sha256.Sum256(text)
	signed, err := p.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var parts struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signed, &parts); err != nil || len(rest) > 0 || parts.R.BitLen() > 8*scalarSize || parts.S.BitLen() > 8*scalarSize {
		return nil, errors.New("the key made a signature of another form")
	}
	out := make([]byte, 2*scalarSize)
	parts.R.FillBytes(out[:scalarSize])
	parts.S.FillBytes(out[scalarSize:])
	return out, nil
}

func encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }
