package browsertest

import (
	"crypto/rand"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// party is a small relying party: each of its sessions is a cookie of a browser.
type party struct {
	t        *testing.T
	config   oauth2.Config
	verifier *oidc.IDTokenVerifier
	mu       sync.Mutex
	pending  map[string]*login // by session
}

type login struct{ state, nonce, verifier string }

// startParty starts a relying party and its provider.
func startParty(t *testing.T, secret string) (*Provider, string) {
	t.Helper()
	r := &party{t: t, pending: map[string]*login{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", r.login)
	mux.HandleFunc("GET /callback", r.callback)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	server := httptest.NewUnstartedServer(mux)
	url := "http://" + server.Listener.Addr().String()
	r.config = oauth2.Config{ClientID: "console", ClientSecret: secret, RedirectURL: url + "/callback", Scopes: []string{"openid", "groups"}}
	p := StartProvider(t, map[string][]string{"ana": {"payments", "security"}}, Client{"console", secret, r.config.RedirectURL})
	found, err := oidc.NewProvider(t.Context(), p.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.config.Endpoint = found.Endpoint()
	r.verifier = found.Verifier(&oidc.Config{ClientID: "console", Now: p.Now})
	server.Start()
	t.Cleanup(server.Close)
	return p, url
}

func (r *party) login(w http.ResponseWriter, request *http.Request) {
	session, l := rand.Text(), &login{rand.Text(), rand.Text(), oauth2.GenerateVerifier()}
	r.mu.Lock()
	r.pending[session] = l
	r.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: "__Host-session", Value: session, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	options := []oauth2.AuthCodeOption{oidc.Nonce(l.nonce), oauth2.S256ChallengeOption(l.verifier)}
	if age := request.FormValue("max_age"); age != "" {
		options = append(options, oauth2.SetAuthURLParam("max_age", age))
	}
	http.Redirect(w, request, r.config.AuthCodeURL(l.state, options...), http.StatusSeeOther)
}

func (r *party) callback(w http.ResponseWriter, request *http.Request) {
	said, err := r.person(request)
	if err != nil {
		r.t.Error(err)
	}
	fmt.Fprintf(w, "<!doctype html><p>%s</p>", html.EscapeString(said))
}

// person is who came back from the provider.
func (r *party) person(request *http.Request) (string, error) {
	cookie, err := request.Cookie("__Host-session")
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	l := r.pending[cookie.Value]
	r.mu.Unlock()
	if l == nil || request.FormValue("state") != l.state {
		return "", fmt.Errorf("%s is not the state of the session %+v", request.URL, l)
	}
	token, err := r.config.Exchange(request.Context(), request.FormValue("code"), oauth2.VerifierOption(l.verifier))
	if err != nil {
		return "", err
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := r.verifier.Verify(request.Context(), raw)
	if err != nil {
		return "", err
	}
	var claims struct {
		AuthTime int64 `json:"auth_time"`
		Groups   []string
	}
	if err := id.Claims(&claims); err != nil || id.Nonce != l.nonce {
		return "", fmt.Errorf("nonce %q, want %q, %w", id.Nonce, l.nonce, err)
	}
	return fmt.Sprintf("Hello %s of %s, since %s", id.Subject, claims.Groups, time.Unix(claims.AuthTime, 0).UTC().Format(time.TimeOnly)), nil
}

// TestPeopleLogIn logs two people in at once, each in their own window, at a confidential and at a public client.
func TestPeopleLogIn(t *testing.T) {
	browser := Open(t)
	for _, secret := range []string{"a secret of the test, long enough for the provider", ""} {
		p, url := startParty(t, secret)
		ana, bo := browser.NewPage(t), browser.NewPage(t)
		for person, page := range map[string]*Page{"ana": ana, "bo": bo} {
			page.Go(url + "/login")
			p.Login(page, person)
		}
		first := p.Now().Format(time.TimeOnly)
		ana.WaitText("Hello ana of [payments security], since " + first)
		bo.WaitText("Hello bo of [], since " + first)

		p.Advance(t, 10*time.Minute)
		ana.Go(url + "/login")
		ana.WaitText("Hello ana of [payments security], since " + first) // the provider remembers her
		ana.Go(url + "/login?max_age=300")
		p.Login(ana, "ana")
		ana.WaitText("Hello ana of [payments security], since " + p.Now().Format(time.TimeOnly))
	}
}
