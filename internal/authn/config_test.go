package authn

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestNewReportsAllFaultsAtOnce(t *testing.T) {
	_, err := New(Config{
		ClockSkew:       61 * time.Second,
		CacheSize:       -1,
		ReplaySize:      -1,
		RefreshInterval: time.Second,
		Issuers: []Issuer{
			{URL: "http://idp.example", Audience: "a"},
			{URL: "https://idp.example"},
			{URL: "https://idp.example", Audience: "a", JWKSURL: "ftp://idp.example/keys"},
			{URL: "", Audience: "a", Algorithms: []string{"HS256", "none", "ES256", "ES256"}},
			{URL: "https://user:pw@idp.example", Audience: "a"},
			{URL: "https://idp.example/?tenant=1", Audience: "a"},
			{URL: "https://idp.example/#x", Audience: "a"},
			{URL: "idp.example", Audience: "a"},
			{URL: "https://[broken", Audience: "a"},
			{URL: "http://localhost.example", Audience: "a"},
		},
	}, nil, nil)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"an HTTP client is required", "a clock is required",
		"clock_skew: 1m1s", "cache_size: -1", "replay_size: -1", "refresh_interval: 1s",
		`issuers[0].url: "http://idp.example" must be https`,
		"issuers[1].audience: required",
		`issuers[2].jwks_url: "ftp://idp.example/keys" must be https`,
		`issuers[2].url: "https://idp.example" is configured twice`,
		"issuers[3].url: required",
		`issuers[3].algorithms: "HS256" is not accepted`, `issuers[3].algorithms: "none" is not accepted`,
		`issuers[3].algorithms: "ES256" is named twice`,
		"issuers[4].url: a user name",
		`issuers[5].url: "https://idp.example/?tenant=1" has a query`,
		"issuers[6].url: a user name, a password and a fragment",
		`issuers[7].url: "idp.example" is not an absolute URL`,
		`issuers[8].url: "https://[broken" is not an absolute URL`,
		"issuers[9].url: \"http://localhost.example\" must be https",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	if strings.Contains(err.Error(), "pw") {
		t.Error("the error repeats a password")
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 20 {
		t.Errorf("%d faults, want 20:\n%v", got, err)
	}
}

// Without issuers, as where SVIDs alone are accepted, every token is a stranger's.
func TestWithoutIssuersNoTokenIsAccepted(t *testing.T) {
	v, err := New(Config{}, &http.Client{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if claims, err := v.Verify(t.Context(), "e30.e30.e30"); err == nil {
		t.Errorf("accepted: %v", claims)
	}
}

func TestNewAcceptsLoopbackAndDoesNoNetwork(t *testing.T) {
	refuse := roundTripper(func(*http.Request) (*http.Response, error) {
		t.Error("New used the network")
		return nil, http.ErrServerClosed
	})
	for _, url := range []string{"http://localhost:1", "http://127.0.0.1", "http://127.9.9.9:8080/idp", "http://[::1]:1", "https://idp.example/tenant"} {
		_, err := New(Config{Issuers: []Issuer{{URL: url, Audience: "a", JWKSURL: url + "/keys"}}}, &http.Client{Transport: refuse}, time.Now)
		if err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
