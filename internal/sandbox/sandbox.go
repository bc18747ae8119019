// Package sandbox runs a whole installation on loopback, with an identity provider of its own: for the demo, the
// evaluation and tests. Nothing of it is fit for production.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/devidp"
)

// Audience is what the sandbox's tokens are made out to.
const Audience = "writ"

// Options say what to run.
type Options struct {
	Folder string // for configuration, keys and database; must be empty
	Listen string // loopback address; empty: any free port
	// Site makes the files of catalog/ and policy/ once the identity provider's URL is known.
	Site func(issuer string) map[string][]byte
	Now  func() time.Time // nil: the system's clock
	Log  *slog.Logger
	// Configure changes the configuration, such as to TLS and SVIDs; nil: not.
	Configure func(*app.Config)
	// Limits per identity; zero: the default.
	Limits app.Limits
}

// Sandbox is a running installation.
type Sandbox struct {
	URL    string
	Folder string
	App    *app.App

	idp    *devidp.Server
	stop   context.CancelFunc
	served chan error
}

// Start runs an installation until Close.
func Start(ctx context.Context, o Options) (_ *Sandbox, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	idp, err := devidp.Start(o.Now)
	if err != nil {
		return nil, err
	}
	s := &Sandbox{Folder: o.Folder, idp: idp, served: make(chan error, 1)}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, errors.Join(err, idp.Close())
	}
	s.URL = "http://" + listener.Addr().String()
	config, err := s.configure(o, listener.Addr().String())
	if err == nil {
		s.App, err = app.New(ctx, config, app.Options{Log: o.Log, Now: o.Now})
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close(), idp.Close())
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() { s.served <- s.App.Serve(running, listener) }()
	return s, nil
}

// configure writes the folder as `writ init` would, for this identity provider.
func (s *Sandbox) configure(o Options, listen string) (app.Config, error) {
	if err := app.Init(o.Folder, "sandbox.writ.example/log", o.Site(s.idp.URL())); err != nil {
		return app.Config{}, err
	}
	config := app.DefaultConfig()
	config.Listen, config.URL = listen, s.URL
	config.Data, config.Site = filepath.Join(o.Folder, "data"), o.Folder
	config.Log.Key, config.Log.VerifierKey = filepath.Join(o.Folder, "data/log.key"), filepath.Join(o.Folder, "data/log.pub")
	config.Tokens.Keys = []string{filepath.Join(o.Folder, "data/token.key")}
	config.Issuers = []app.Issuer{{URL: s.idp.URL(), Audience: Audience}}
	if o.Limits != (app.Limits{}) {
		config.Limits = o.Limits
	}
	if o.Configure != nil {
		o.Configure(&config)
	}
	if config.TLS.Certificate != "" {
		s.URL = "https://" + listen
		config.URL = s.URL
	}
	return config, config.Check()
}

// Token is a token of the identity provider for an identity that the catalog knows by its id as subject.
func (s *Sandbox) Token(identity access.Ref, life time.Duration) (string, error) {
	return s.idp.Token(identity.ID, Audience, life, nil)
}

// TokenFile writes a token where a command can read it, and returns its path.
func (s *Sandbox) TokenFile(identity access.Ref, life time.Duration) (string, error) {
	token, err := s.Token(identity, life)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.Folder, fmt.Sprintf("%s.token", identity.ID))
	return path, os.WriteFile(path, []byte(token+"\n"), 0o600)
}

// VerifierKey is the file with the log's public key.
func (s *Sandbox) VerifierKey() string { return filepath.Join(s.Folder, "data", "log.pub") }

// Data is the data folder.
func (s *Sandbox) Data() string { return filepath.Join(s.Folder, "data") }

// Close stops serving and closes the database.
func (s *Sandbox) Close() error {
	s.stop()
	return errors.Join(<-s.served, s.App.Close(), s.idp.Close())
}
