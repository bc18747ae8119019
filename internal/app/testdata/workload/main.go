// Command workload is what the test of a real SPIRE has call Writ: a process of its own that holds no secret, and knows nothing but
// the Workload API, Writ's URL and Writ's SPIFFE ID.
//
//	workload SOCKET URL ID
//
// For each word on standard input it makes a call and says in one line of JSON how that went: x509 and jwt use the SVID of the
// moment, x509-first and jwt-first the one that it got first.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/writ-project/writ/client"
)

// said is how a call went.
type said struct {
	Error       string   `json:"error,omitempty"`
	Reason      string   `json:"reason,omitempty"` // of a refusal
	ID          string   `json:"id"`               // SPIFFE ID
	Certificate []byte   `json:"certificate,omitempty"`
	SignedBy    string   `json:"signed_by"`   // authority of the SVID
	Authorities []string `json:"authorities"` // of the bundle, for SVIDs of this kind
	Identity    string   `json:"identity"`
	BoundTo     string   `json:"bound_to"`
	Token       string   `json:"token"`
}

type workload struct {
	url    string
	writ   spiffeid.ID
	x509   *workloadapi.X509Source
	jwt    *workloadapi.JWTSource
	first  *x509svid.SVID
	spoken *jwtsvid.SVID
	task   string
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(socket, url, id string) error {
	ctx := context.Background()
	from := workloadapi.WithClientOptions(workloadapi.WithAddr(socket))
	w := &workload{url: url, writ: spiffeid.RequireFromString(id)}
	var err error
	if w.x509, err = workloadapi.NewX509Source(ctx, from); err != nil {
		return err
	}
	defer w.x509.Close()
	if w.jwt, err = workloadapi.NewJWTSource(ctx, from); err != nil {
		return err
	}
	defer w.jwt.Close()
	if w.first, err = w.x509.GetX509SVID(); err != nil {
		return err
	}
	if w.spoken, err = w.jwt.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "writ"}); err != nil {
		return err
	}
	words, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for words.Scan() {
		if err := out.Encode(w.answer(ctx, words.Text())); err != nil {
			return err
		}
	}
	return words.Err()
}

// answer makes one call with one kind of SVID.
func (w *workload) answer(ctx context.Context, word string) (s said) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var err error
	switch word {
	case "x509", "x509-first":
		svid := w.first
		if word == "x509" {
			svid, err = w.x509.GetX509SVID()
		}
		if err == nil {
			err = w.withX509(ctx, svid, &s)
		}
	case "jwt", "jwt-first":
		svid := w.spoken
		if word == "jwt" {
			svid, err = w.jwt.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "writ"})
		}
		if err == nil {
			err = w.withJWT(ctx, svid, &s)
		}
	default:
		err = errors.New("no such word")
	}
	if err != nil {
		s.Error = err.Error()
		var refused *client.Problem
		if errors.As(err, &refused) {
			s.Reason = refused.Reason
		}
	}
	return s
}

func (w *workload) withX509(ctx context.Context, svid *x509svid.SVID, s *said) error {
	leaf := svid.Certificates[0]
	s.ID, s.Certificate, s.SignedBy = svid.ID.String(), leaf.Raw, hex.EncodeToString(leaf.AuthorityKeyId)
	bundle, err := w.x509.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return err
	}
	for _, authority := range bundle.X509Authorities() {
		s.Authorities = append(s.Authorities, hex.EncodeToString(authority.SubjectKeyId))
	}
	// Every call shakes hands anew.
	transport := &http.Transport{TLSClientConfig: tlsconfig.MTLSClientConfig(svid, w.x509, tlsconfig.AuthorizeID(w.writ)), DisableKeepAlives: true}
	return w.call(ctx, client.Options{HTTPClient: &http.Client{Transport: transport}}, s)
}

func (w *workload) withJWT(ctx context.Context, svid *jwtsvid.SVID, s *said) error {
	s.ID = svid.ID.String()
	bundle, err := w.jwt.GetJWTBundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return err
	}
	for kid := range bundle.JWTAuthorities() {
		s.Authorities = append(s.Authorities, kid)
	}
	if s.SignedBy, err = kidOf(svid.Marshal()); err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: tlsconfig.TLSClientConfig(w.x509, tlsconfig.AuthorizeID(w.writ)), DisableKeepAlives: true}
	return w.call(ctx, client.Options{
		HTTPClient: &http.Client{Transport: transport}, Token: func(context.Context) (string, error) { return svid.Marshal(), nil },
	}, s)
}

// kidOf is the key that signed a JWT (RFC 7515 section 4.1.4).
func kidOf(token string) (string, error) {
	encoded, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return "", err
	}
	var header struct {
		KID string `json:"kid"`
	}
	return header.KID, json.Unmarshal(raw, &header)
}

// call asks who it is, opens its task the first time, and asks for access.
func (w *workload) call(ctx context.Context, o client.Options, s *said) error {
	c, err := client.New(w.url, o)
	if err != nil {
		return err
	}
	me, err := c.WhoAmI(ctx)
	if err != nil {
		return err
	}
	s.Identity = me.Identity
	if w.task == "" {
		opened, err := c.OpenTask(ctx, client.OpenTask{Type: "support", Purpose: "a customer complains"})
		if err != nil {
			return err
		}
		w.task = opened.Task.ID
	}
	granted, err := c.Request(ctx, client.AccessRequest{Task: w.task, Action: "read_order", Resource: `Order::"o-1"`})
	if err != nil {
		return err
	}
	if granted.Credential == nil {
		return fmt.Errorf("no credential: %+v", granted.Decision)
	}
	s.BoundTo, s.Token = granted.Credential.BoundTo, granted.Credential.Token
	return nil
}
