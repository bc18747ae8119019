package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/writ-project/writ/client"
)

// client calls the server as whoever the token file or the certificate says.
func (e *environment) client() (*client.Client, error) {
	g := e.global
	switch {
	case g.TokenFile == "" && g.ClientCert == "":
		return nil, &exitError{exitUsage, errors.New("who are you? Name the file with your token (--token-file or WRIT_TOKEN_FILE), or your certificate and its key (--client-cert, --client-key)")}
	case (g.ClientCert == "") != (g.ClientKey == ""):
		return nil, &exitError{exitUsage, errors.New("a certificate needs its key: give both --client-cert and --client-key")}
	}
	options := client.Options{TokenFile: g.TokenFile}
	if g.ClientCert != "" || g.CA != "" {
		config, err := g.tls()
		if err != nil {
			return nil, err
		}
		options.HTTPClient = &http.Client{Timeout: callTimeout, Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	}
	return client.New(g.Server, options)
}

const callTimeout = 90 * time.Second // longer than the longest poll

func (g *commands) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if g.CA != "" {
		text, err := os.ReadFile(g.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", g.CA)
		}
	}
	if g.ClientCert != "" {
		load := func() (*tls.Certificate, error) {
			own, err := tls.LoadX509KeyPair(g.ClientCert, g.ClientKey)
			if err != nil {
				return nil, fmt.Errorf("your certificate: %w", err)
			}
			return &own, nil
		}
		if _, err := load(); err != nil { // said better now than in a handshake
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return config, nil
}

// refusal gives a no of the server the exit code that scripts tell it by, and says the next step.
func refusal(err error) error {
	var problem *client.Problem
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w\n  next: is the server running? Start it with `writ serve`, or name it with --server", err)
	}
	if !errors.As(err, &problem) {
		return err
	}
	if len(problem.Faults) > 0 {
		lines := make([]string, 0, len(problem.Faults))
		for _, f := range problem.Faults {
			lines = append(lines, place(f)+f.Message)
		}
		return errors.New(plainLines(strings.Join(lines, "\n")))
	}
	text := problem.Code
	if problem.Detail != "" {
		text += ": " + problem.Detail
	}
	if problem.Next != "" {
		text += "\n  next: " + problem.Next
	}
	if problem.Decision != "" {
		text += "\n  decision " + problem.Decision
		if problem.Evidence != nil {
			text += fmt.Sprintf(", evidence entry %d", problem.Evidence.Index)
		}
	}
	const forbidden = 403
	if problem.Decision != "" || problem.Status == forbidden {
		return &exitError{exitDenied, errors.New(plainLines(text))}
	}
	return errors.New(plainLines(text))
}

func place(f client.Fault) string {
	switch {
	case f.File == "":
		return ""
	case f.Line == 0:
		return f.File + ": "
	default:
		return fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Column)
	}
}

func plainLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return strings.Join(lines, "\n")
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func (e *environment) call(run func(context.Context, *client.Client) error) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	return refusal(run(e.ctx, c))
}
