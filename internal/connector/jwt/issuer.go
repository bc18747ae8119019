package jwt

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	defaultTTL = 5 * time.Minute
	// jwksPath is where the keys are, below the issuer.
	jwksPath = "/.well-known/jwks.json"
)

// Config is what tokens are issued with.
type Config struct {
	// Issuer is the https URL (http on a loopback host) that becomes iss, without
	// query and fragment (RFC 8414 section 2) and without a slash at the end.
	Issuer string
	// Keys: the first signs; all are published, so that tokens signed before a
	// rotation, and after the next, can be verified.
	Keys []Key
	// DefaultTTL is the life of a token whose Expiry is zero; 1 s to 24 h, default 5 min.
	DefaultTTL time.Duration
}

// Issuer signs tokens. It is immutable and may be used concurrently.
type Issuer struct {
	name       string
	ttl        time.Duration
	keys       []Key // the first signs
	algorithms []jose.SignatureAlgorithm
	header     string // of every token, encoded, with its dot
	jwks       []byte
	metadata   []byte
}

// New checks the configuration; the error joins all its faults.
func New(cfg Config) (*Issuer, error) {
	if err := cfg.faults(); err != nil {
		return nil, fmt.Errorf("token issuer: %w", err)
	}
	if cfg.DefaultTTL == 0 {
		cfg.DefaultTTL = defaultTTL
	}
	key := cfg.Keys[0]
	published := make([]json.RawMessage, len(cfg.Keys))
	for i, k := range cfg.Keys {
		published[i] = k.jwk
	}
	jwks, err := json.Marshal(map[string]any{"keys": published})
	if err != nil {
		return nil, fmt.Errorf("token issuer: %w", err)
	}
	metadata, err := json.Marshal(map[string]any{
		"issuer":                                cfg.Issuer,
		"jwks_uri":                              cfg.Issuer + jwksPath,
		"response_types_supported":              []string{}, // required by RFC 8414; there is no authorization endpoint
		"authorization_details_types_supported": []string{DetailsType},
	})
	if err != nil {
		return nil, fmt.Errorf("token issuer: %w", err)
	}
	header := fmt.Sprintf(`{"alg":"%s","kid":"%s","typ":"at+jwt"}`, key.alg, key.id)
	return &Issuer{name: cfg.Issuer, ttl: cfg.DefaultTTL, keys: cfg.Keys, algorithms: algorithmsOf(cfg.Keys), header: encode([]byte(header)) + ".", jwks: jwks, metadata: metadata}, nil
}

func algorithmsOf(keys []Key) (list []jose.SignatureAlgorithm) {
	for _, key := range keys {
		list = append(list, jose.SignatureAlgorithm(key.alg))
	}
	return list
}

func (c Config) faults() error {
	all := []error{checkIssuer(c.Issuer)}
	if len(c.Keys) == 0 {
		all = append(all, errors.New("keys: at least one is required"))
	}
	seen := make(map[string]bool)
	for i, key := range c.Keys {
		switch {
		case key.private == nil:
			all = append(all, fmt.Errorf("keys[%d]: empty; use LoadKey or ParseKey", i))
		case seen[key.id]:
			all = append(all, fmt.Errorf("keys[%d]: %s is given twice", i, key.id))
		}
		seen[key.id] = true
	}
	if c.DefaultTTL != 0 && (c.DefaultTTL < time.Second || c.DefaultTTL > maxTTL) {
		all = append(all, fmt.Errorf("default_ttl: %s is not between 1s and %s", c.DefaultTTL, maxTTL))
	}
	return errors.Join(all...)
}

func checkIssuer(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(raw, "?#") || strings.HasSuffix(raw, "/"):
		return fmt.Errorf("issuer: %q is not an absolute URL without user, query, fragment and slash at the end", raw)
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("issuer: %q must be https; http is for loopback hosts only", raw)
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// Issue signs an access token (RFC 9068). The same Token gives the same bytes
// from the same key, so issuing is idempotent by grant id. The error joins all
// faults of the Token.
func (i *Issuer) Issue(t Token) (string, error) {
	body, err := i.claims(t)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	size := len(i.header) + base64.RawURLEncoding.EncodedLen(len(payload))
	signed := make([]byte, 0, size+1+base64.RawURLEncoding.EncodedLen(2*scalarSize))
	signed = append(signed, i.header...)
	signed = base64.RawURLEncoding.AppendEncode(signed, payload)
	signature, err := i.keys[0].sign(signed)
	if err != nil {
		return "", fmt.Errorf("token: signing: %w", err)
	}
	signed = append(signed, '.')
	return string(base64.RawURLEncoding.AppendEncode(signed, signature)), nil
}

// JWKS is the published key set (RFC 7517), public halves only.
func (i *Issuer) JWKS() []byte { return bytes.Clone(i.jwks) }

// Metadata is the least of RFC 8414 by which verifiers find the keys; they are
// at /.well-known/jwks.json below the issuer.
func (i *Issuer) Metadata() []byte { return bytes.Clone(i.metadata) }

// Fingerprint is the SHA-256 of a token in hexadecimal: what evidence and logs
// may hold in its place.
func Fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
