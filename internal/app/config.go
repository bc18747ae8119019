package app

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/oauth"
	"github.com/writ-project/writ/internal/witness"
)

// Config is the configuration file. docs/configuration.md is generated from these comments.
type Config struct {
	// Listen is the address that the API is served on.
	Listen string `yaml:"listen"`
	// URL is how callers reach Writ: the issuer of its tokens. Required.
	URL string `yaml:"url"`
	// Data is the folder of the database. It must be on a local disk.
	Data string `yaml:"data"`
	// Database is the URL of a PostgreSQL database (postgres://user@host/name?sslmode=verify-full), which several processes may
	// serve together. It holds no password: name a file with passfile=, a client certificate, or use the socket. Empty: SQLite in Data.
	Database string `yaml:"database"`
	// Site is the folder with catalog/ and policy/ that is applied at every start. Empty: nothing is applied.
	Site string `yaml:"site"`
	// TLS is required unless Listen is a loopback address or BehindProxy is set.
	TLS TLS `yaml:"tls"`
	// BehindProxy says that a proxy on a trusted network ends TLS. It never makes Writ trust a forwarded header.
	BehindProxy bool `yaml:"behind_proxy"`
	// Log is the evidence log.
	Log Log `yaml:"log"`
	// Tokens are the credentials that Writ signs itself.
	Tokens Tokens `yaml:"tokens"`
	// Issuers are the identity providers whose tokens are accepted. At least one is required.
	Issuers []Issuer `yaml:"issuers"`
	// SPIFFE says whose SVIDs are accepted: X.509-SVIDs as client certificates, JWT-SVIDs as bearer tokens. Empty: none.
	SPIFFE SPIFFE `yaml:"spiffe"`
	// Limits bound what one identity may cause.
	Limits Limits `yaml:"limits"`
	// Witnesses keep and cosign the log's checkpoints, so that nobody can rewrite what they have seen.
	Witnesses Witnesses `yaml:"witnesses"`
}

// Witnesses are other parties that remember the log (c2sp.org/tlog-witness).
type Witnesses struct {
	// Required is how many must have cosigned a checkpoint before it is published. 0: all.
	Required int `yaml:"required"`
	// Ask are the witnesses. Empty: none is asked.
	Ask []Witness `yaml:"ask"`
}

// Witness is one of them.
type Witness struct {
	// URL is where it is asked; https, or http on a loopback address.
	URL string `yaml:"url"`
	// Monitor is where it shows what it has cosigned (its monitoring prefix): the proof without which nothing that it says against the log
	// counts. Empty: the same URL.
	Monitor string `yaml:"monitor"`
	// Key is its verifier key, as it publishes it: name+hash+key.
	Key string `yaml:"key"`
}

// TLS names the server's certificate.
type TLS struct {
	// Certificate is a PEM file with the chain, leaf first.
	Certificate string `yaml:"certificate"`
	// Key is a PEM file, mode 0600.
	Key string `yaml:"key"`
	// SVID serves Writ's own X.509-SVID from the Workload API instead of a certificate.
	SVID bool `yaml:"svid"`
}

// Log names the evidence log and its key.
type Log struct {
	// Key is the file with the log's private key, as `writ init` makes it, mode 0600. It holds the log's name (its origin).
	Key string `yaml:"key"`
	// VerifierKey is the file with the public key.
	VerifierKey string `yaml:"verifier_key"`
}

// Tokens name the signing keys.
type Tokens struct {
	// Keys are PEM files (PKCS #8, Ed25519 or P-256), mode 0600. The first signs, all are published: to rotate, add the new
	// key at the end, wait until verifiers have fetched it, then move it to the front; drop the old one a day later.
	Keys []string `yaml:"keys"`
	// Bound refuses a token to whoever proves neither a key (DPoP) nor a certificate (mTLS), so that no token is worth stealing.
	Bound bool `yaml:"bound"`
}

// Issuer is an identity provider.
type Issuer struct {
	// URL is the issuer, exactly as in the tokens' iss claim; https, or http on a loopback address.
	URL string `yaml:"url"`
	// Audience is what the tokens' aud claim must contain. Required. It is not the URL of Writ, which is the audience of client assertions.
	Audience string `yaml:"audience"`
	// PrincipalAudience is what the aud claim of a token must contain that shows for whom an agent works, and then not Audience: who was
	// handed one must not be able to act as that person. Empty: tokens of this issuer show nobody.
	PrincipalAudience string `yaml:"principal_audience"`
	// JWKS is the URL of the keys, if the issuer has no discovery document.
	JWKS string `yaml:"jwks"`
	// Algorithms narrows the accepted signature algorithms. Empty: all asymmetric ones.
	Algorithms []string `yaml:"algorithms"`
}

// SPIFFE names the trust domains whose workloads may call.
type SPIFFE struct {
	// Audience is what the aud claim of JWT-SVIDs must contain. Required.
	Audience string `yaml:"audience"`
	// WorkloadAPI is the address (unix:///path, or tcp://ip:port on a loopback address) that Writ's own X.509-SVID and bundles come
	// from. Every trust domain whose bundle it delivers is accepted.
	WorkloadAPI string `yaml:"workload_api"`
	// TrustDomains have their bundles from elsewhere.
	TrustDomains []TrustDomain `yaml:"trust_domains"`
}

// TrustDomain is one of them, with its bundle from either File or URL.
type TrustDomain struct {
	// Name is the trust domain, such as example.org.
	Name string `yaml:"name"`
	// File holds its SPIFFE bundle (JWKS), or certificates in PEM, which can verify X.509-SVIDs only. It is read again every five minutes.
	File string `yaml:"file"`
	// URL is its bundle endpoint; https.
	URL string `yaml:"url"`
	// Profile of the endpoint: https_web or https_spiffe.
	Profile string `yaml:"profile"`
	// EndpointID is the SPIFFE ID of the endpoint; https_spiffe only.
	EndpointID string `yaml:"endpoint_id"`
	// Bootstrap is a file like File that authenticates the first connection to an endpoint of this very trust domain.
	Bootstrap string `yaml:"bootstrap"`
}

// Limits bound what one identity may cause; they come before evidence.
type Limits struct {
	// RequestsPerSecond is sustained, per identity.
	RequestsPerSecond float64 `yaml:"requests_per_second"`
	// Burst is how many requests may come at once.
	Burst int `yaml:"burst"`
	// EvidencePerHour is the bytes of evidence that one identity may cause in an hour.
	EvidencePerHour int64 `yaml:"evidence_per_hour"`
	// OpenQuestions is how many questions of one identity may wait for people at once.
	OpenQuestions int64 `yaml:"open_questions"`
}

// DefaultConfig is what holds where the file says nothing.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8420",
		Data:   "data",
		Site:   ".",
		Log:    Log{Key: "data/log.key", VerifierKey: "data/log.pub"},
		Tokens: Tokens{Keys: []string{"data/token.key"}},
		Limits: Limits{RequestsPerSecond: 200, Burst: 400, EvidencePerHour: 256 << 20, OpenQuestions: 100},
	}
}

// LoadConfig reads a configuration file. Relative paths in it are relative to its folder. Unknown keys are refused, and
// all faults are reported at once.
func LoadConfig(path string) (Config, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("%w: make a starter folder with `writ init`, or name the file with --config", err)
	}
	config := DefaultConfig()
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	config.resolve(filepath.Dir(path))
	if err := config.Check(); err != nil {
		return Config{}, fmt.Errorf("%s:\n%w", path, err)
	}
	return config, nil
}

func (c *Config) resolve(folder string) {
	paths := []*string{&c.Data, &c.Site, &c.TLS.Certificate, &c.TLS.Key, &c.Log.Key, &c.Log.VerifierKey}
	for i := range c.Tokens.Keys {
		paths = append(paths, &c.Tokens.Keys[i])
	}
	for i := range c.SPIFFE.TrustDomains {
		paths = append(paths, &c.SPIFFE.TrustDomains[i].File, &c.SPIFFE.TrustDomains[i].Bootstrap)
	}
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(folder, *path)
		}
	}
}

// Place is where the database is: the path of a file, or a URL.
func (c *Config) Place() string { return c.database() }

func (c *Config) database() string {
	if c.Database != "" {
		return c.Database
	}
	return filepath.Join(c.Data, DatabaseFile)
}

// Check names everything that is wrong or unsafe in the configuration.
func (c *Config) Check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		fault("listen: %q is not host:port", c.Listen)
	}
	tls := c.TLS.Certificate != "" || c.TLS.Key != "" || c.TLS.SVID
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		fault("tls: certificate and key go together")
	}
	if c.TLS.SVID && c.TLS.Certificate != "" {
		fault("tls: serve a certificate or the SVID, not both")
	}
	if c.TLS.SVID && c.SPIFFE.WorkloadAPI == "" {
		fault("tls.svid: needs spiffe.workload_api, which the SVID comes from")
	}
	if err == nil && !tls && !c.BehindProxy && !isLoopback(host) {
		fault("listen: %s can be reached from outside without TLS: set tls, or behind_proxy if a proxy ends TLS", c.Listen)
	}
	if c.BehindProxy && tls {
		fault("behind_proxy: not together with tls")
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(c.URL, "/") {
		fault("url: %q must be the URL that callers use, such as https://writ.example.com, without a slash at the end", c.URL)
	} else if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		fault("url: %s must be https: tokens travel there", c.URL)
	}
	for name, value := range map[string]string{"data": c.Data, "log.key": c.Log.Key, "log.verifier_key": c.Log.VerifierKey} {
		if value == "" {
			fault("%s: required", name)
		}
	}
	if err := checkDatabase(c.Database); err != nil {
		fault("database: %w", err)
	}
	if len(c.Tokens.Keys) == 0 {
		fault("tokens.keys: at least one is required")
	}
	for _, problem := range c.Witnesses.problems() {
		fault("witnesses: %w", problem)
	}
	if len(c.Issuers) == 0 && !c.SPIFFE.used() {
		fault("issuers: at least one identity provider, or spiffe, is required: without one nobody can call")
	}
	for i, issuer := range c.Issuers {
		if issuer.URL == c.URL {
			fault("issuers[%d].url: Writ's own tokens are for targets, and prove nobody here", i)
		}
		if c.reserved(issuer.Audience) || c.reserved(issuer.PrincipalAudience) {
			fault("issuers[%d]: the audience %s is for client assertions alone: choose others for calls and for principals", i, c.URL)
		}
	}
	if c.reserved(c.SPIFFE.Audience) {
		fault("spiffe.audience: %s is for client assertions alone: choose another one for calls", c.URL)
	}
	if math.IsNaN(c.Limits.RequestsPerSecond) || math.IsInf(c.Limits.RequestsPerSecond, 0) {
		fault("limits.requests_per_second: must be a number, and finite: there is no unlimited")
	}
	if c.Limits.RequestsPerSecond <= 0 || c.Limits.Burst <= 0 || c.Limits.EvidencePerHour <= 0 || c.Limits.OpenQuestions <= 0 {
		fault("limits: each must be positive")
	}
	return errors.Join(faults...)
}

// reserved reports whether an audience is one of Writ's own: of client assertions, or of actor tokens.
func (c *Config) reserved(audience string) bool {
	return c.URL != "" && (audience == c.URL || audience == c.URL+oauth.ActorAudience)
}

// problems are what is wrong with the witnesses, by themselves: that none has the log's key is seen when that is read.
func (w *Witnesses) problems() (problems []error) {
	keys := make([]string, 0, len(w.Ask))
	for _, ask := range w.Ask {
		keys = append(keys, ask.Key)
		if err := witness.CheckURL(ask.URL); err != nil {
			problems = append(problems, err)
		}
		if ask.Monitor == "" {
			continue
		}
		if err := witness.CheckURL(ask.Monitor); err != nil {
			problems = append(problems, err)
		}
	}
	if len(keys) == 0 && w.Required == 0 {
		return nil
	}
	if _, err := evidence.NewCosignaturePolicy(w.required(), keys...); err != nil {
		problems = append(problems, err)
	}
	return problems
}

func (w *Witnesses) required() int {
	if w.Required == 0 {
		return len(w.Ask)
	}
	return w.Required
}

// checkDatabase refuses a URL with a secret in it, and one that lets others read or change what travels.
func checkDatabase(database string) error {
	if database == "" {
		return nil
	}
	u, err := url.Parse(database)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errors.New("must be a URL such as postgres://writ@db.example.com/writ?sslmode=verify-full") // without what may be a password
	}
	if _, secret := u.User.Password(); secret || u.Query().Has("password") || u.Query().Has("sslpassword") {
		return errors.New("holds a password: put it into a file of mode 0600 and name that with passfile=")
	}
	host := u.Hostname()
	if named := u.Query().Get("host"); named != "" {
		host = named
	}
	if strings.Contains(u.Host+host, ",") {
		return errors.New("names several hosts: name the one that is the primary")
	}
	local := strings.HasPrefix(host, "/") || isLoopback(host)
	if mode := u.Query().Get("sslmode"); !local && mode != "verify-full" && mode != "verify-ca" {
		return fmt.Errorf("%s is reached over the network: set sslmode=verify-full", host)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// ReadSite reads the files of catalog/ and policy/ below a folder, by their path in it.
func ReadSite(folder string) (map[string][]byte, error) {
	const most = 2000
	files := map[string][]byte{}
	for _, part := range []string{"catalog", "policy"} {
		root := filepath.Join(folder, part)
		err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
				return err
			}
			if len(files) == most {
				return fmt.Errorf("%s has more than %d files", folder, most)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(folder, path)
			files[filepath.ToSlash(name)] = content
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has neither catalog/ nor policy/: name the folder that `writ init` made", folder)
	}
	return files, nil
}

// loopEvery is how often what has run out is looked for.
const loopEvery = time.Second
