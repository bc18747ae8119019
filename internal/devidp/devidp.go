// Package devidp is a small OIDC issuer for the demo, the evaluation and tests.
//
// IT IS NOT FOR PRODUCTION, and it is built so that it cannot be taken for it:
// it vouches for whatever name its caller asks for, without any login; its keys
// live in memory and are lost when it ends; its issuer URL must be on a
// loopback host; it answers nobody but this host; and every answer and every
// token says so.
package devidp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/keys"
	// warning is in the header of every answer and in the claims of every token.
	warning     = "development issuer: not for production"
	warningName = "Writ-Development-Only"
	claimName   = "writ_development_only"

	maxTTL        = 24 * time.Hour
	scalarSize    = 32 // bytes of a P-256 coordinate, and of half an ES256 signature
	maxHeaderRead = 5 * time.Second
)

// Issuer makes ES256 tokens for anybody, and serves discovery and its keys. It
// may be used concurrently.
type Issuer struct {
	url  string
	path string
	now  func() time.Time

	mu   sync.RWMutex
	keys []signingKey // the last one signs
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
	public  map[string]string // the JWK
}

// New makes an issuer with a fresh key. issuerURL must be http(s) on a loopback
// host, without query, fragment and slash at the end. now is the clock.
func New(issuerURL string, now func() time.Time) (*Issuer, error) {
	u, err := url.Parse(issuerURL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil ||
		strings.ContainsAny(issuerURL, "?#") || strings.HasSuffix(issuerURL, "/"):
		return nil, fmt.Errorf("development issuer: %q is not an http URL without user, query, fragment and slash at the end", issuerURL)
	case !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("development issuer: %q is not on a loopback host; it vouches for anybody, so use a real OIDC provider there", issuerURL)
	case now == nil:
		return nil, errors.New("development issuer: a clock is required")
	}
	i := &Issuer{url: issuerURL, path: u.Path, now: now}
	if err := i.Rotate(); err != nil {
		return nil, err
	}
	return i, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// URL is the issuer, as it is in iss.
func (i *Issuer) URL() string { return i.url }

// Rotate signs with a new key from now on. The older ones stay published, as at
// a real provider, until Withdraw.
func (i *Issuer) Rotate() error {
	key, err := newKey()
	if err != nil {
		return fmt.Errorf("development issuer: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, key)
	return nil
}

// Withdraw publishes the signing key alone: what older keys signed becomes
// invalid as soon as verifiers look again.
func (i *Issuer) Withdraw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = []signingKey{i.keys[len(i.keys)-1]}
}

func newKey() (signingKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signingKey{}, err
	}
	point, err := private.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return signingKey{}, err
	}
	sum := sha256.Sum256(point)
	id := "development-" + encode(sum[:12])
	return signingKey{id: id, private: private, public: map[string]string{
		"kty": "EC", "crv": "P-256", "x": encode(point[1 : 1+scalarSize]), "y": encode(point[1+scalarSize:]),
		"kid": id, "alg": "ES256", "use": "sig",
	}}, nil
}

// Token vouches for the subject before the audience, for a ttl of 1 s to 24 h
// from now. extra adds claims; it cannot replace those that the issuer sets.
func (i *Issuer) Token(subject, audience string, ttl time.Duration, extra map[string]any) (string, error) {
	if subject == "" || audience == "" {
		return "", errors.New("development issuer: a subject and an audience are required")
	}
	if ttl < time.Second || ttl > maxTTL {
		return "", fmt.Errorf("development issuer: a ttl of %s is not between 1s and %s", ttl, maxTTL)
	}
	now := i.now()
	claims := map[string]any{
		"iss": i.url, "sub": subject, "aud": audience,
		"iat": now.Unix(), "exp": now.Add(ttl).Unix(), claimName: true,
	}
	for name, value := range extra {
		if _, taken := claims[name]; taken {
			return "", fmt.Errorf("development issuer: the claim %q is set by the issuer", name)
		}
		claims[name] = value
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("development issuer: %w", err)
	}
	return i.sign(payload)
}

// sign makes a compact JWS with ES256 (RFC 7515, RFC 7518 section 3.4).
func (i *Issuer) sign(payload []byte) (string, error) {
	i.mu.RLock()
	key := i.keys[len(i.keys)-1]
	i.mu.RUnlock()
	header := fmt.Sprintf(`{"alg":"ES256","kid":"%s","typ":"JWT"}`, key.id)
	input := encode([]byte(header)) + "." + encode(payload)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key.private, digest[:])
	if err != nil {
		return "", fmt.Errorf("development issuer: %w", err)
	}
	signature := make([]byte, 2*scalarSize)
	r.FillBytes(signature[:scalarSize])
	s.FillBytes(signature[scalarSize:])
	return input + "." + encode(signature), nil
}

// ServeHTTP serves discovery and the keys below the issuer's path, to callers
// on this host only.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(warningName, warning)
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !isLoopback(host) {
		http.Error(w, "This is a development issuer; it answers nobody but its own host.", http.StatusForbidden)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Only GET is served here.", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case i.path + discoveryPath:
		i.serveDiscovery(w)
	case i.path + keysPath:
		i.serveKeys(w)
	default:
		http.NotFound(w, r)
	}
}

func (i *Issuer) serveDiscovery(w http.ResponseWriter) {
	writeJSON(w, map[string]any{
		"issuer":                                i.url,
		"jwks_uri":                              i.url + keysPath,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
		claimName:                               warning,
	})
}

func (i *Issuer) serveKeys(w http.ResponseWriter) {
	i.mu.RLock()
	public := make([]map[string]string, len(i.keys))
	for n, key := range i.keys {
		public[n] = key.public
	}
	i.mu.RUnlock()
	writeJSON(w, map[string]any{"keys": public})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails only when the client has gone
}

func encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// Server is an Issuer that listens on a free port of 127.0.0.1.
type Server struct {
	*Issuer
	http *http.Server
	done chan struct{}
}

// Start listens on 127.0.0.1 and serves until Close.
func Start(now func() time.Time) (*Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("development issuer: %w", err)
	}
	issuer, err := New("http://"+listener.Addr().String(), now)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s := &Server{Issuer: issuer, http: &http.Server{Handler: issuer, ReadHeaderTimeout: maxHeaderRead}, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(listener) // ends with ErrServerClosed
	}()
	return s, nil
}

// Close stops listening and drops open connections.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}
