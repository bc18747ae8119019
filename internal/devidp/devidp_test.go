package devidp

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func epoch() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func start(t *testing.T) *Server {
	t.Helper()
	s, err := Start(epoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func token(t *testing.T, i *Issuer, extra map[string]any) string {
	t.Helper()
	signed, err := i.Token("agent-1", "writ", time.Hour, extra)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// judge verifies with go-oidc, through discovery and the published keys.
func judge(ctx context.Context, s *Server, token string) (*oidc.IDToken, error) {
	provider, err := oidc.NewProvider(ctx, s.URL())
	if err != nil {
		return nil, err
	}
	return provider.Verifier(&oidc.Config{ClientID: "writ", Now: epoch}).Verify(ctx, token)
}

func TestTokenHoldsForAnOIDCClient(t *testing.T) {
	s := start(t)
	got, err := judge(t.Context(), s, token(t, s.Issuer, map[string]any{"groups": []string{"ops"}}))
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := got.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"iss": s.URL(), "sub": "agent-1", "aud": "writ", "iat": 1795435200.0, "exp": 1795438800.0,
		"groups": []any{"ops"}, "writ_development_only": true,
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestRotateKeepsOldTokensAndWithdrawEndsThem(t *testing.T) {
	s := start(t)
	old := token(t, s.Issuer, nil)
	if err := s.Rotate(); err != nil {
		t.Fatal(err)
	}
	fresh := token(t, s.Issuer, nil)
	for _, signed := range []string{old, fresh} {
		if _, err := judge(t.Context(), s, signed); err != nil {
			t.Error(err)
		}
	}
	s.Withdraw()
	if _, err := judge(t.Context(), s, old); err == nil {
		t.Error("a withdrawn key still verifies")
	}
	if _, err := judge(t.Context(), s, fresh); err != nil {
		t.Error(err)
	}
}

func TestItCannotBeTakenForProduction(t *testing.T) {
	for url, want := range map[string]string{
		"https://idp.example":         "not on a loopback host",
		"http://10.0.0.1:80":          "not on a loopback host",
		"http://localhost.example":    "not on a loopback host",
		"http://0.0.0.0:1":            "not on a loopback host",
		"http://127.0.0.1/":           "slash at the end",
		"http://127.0.0.1?x":          "not an http URL",
		"http://u@127.0.0.1":          "not an http URL",
		"ftp://127.0.0.1":             "not an http URL",
		"127.0.0.1":                   "not an http URL",
		"http://127.0.0.1:not-a-port": "not an http URL",
	} {
		if _, err := New(url, epoch); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want %q", url, err, want)
		}
	}
	if _, err := New("http://127.0.0.1", nil); err == nil {
		t.Error("accepted no clock")
	}
	i, err := New("http://localhost:1/tenant", epoch)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		method, path, from string
		want               int
	}{
		{"GET", "/tenant" + discoveryPath, "127.0.0.1:5", http.StatusOK},
		{"HEAD", "/tenant" + keysPath, "[::1]:5", http.StatusOK},
		{"GET", "/tenant" + keysPath, "192.0.2.1:5", http.StatusForbidden},
		{"GET", "/tenant" + keysPath, "", http.StatusForbidden},
		{"POST", "/tenant" + keysPath, "127.0.0.1:5", http.StatusMethodNotAllowed},
		{"GET", discoveryPath, "127.0.0.1:5", http.StatusNotFound},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(test.method, test.path, nil)
		r.RemoteAddr = test.from
		i.ServeHTTP(w, r)
		if w.Code != test.want || !strings.Contains(w.Header().Get("Writ-Development-Only"), "not for production") {
			t.Errorf("%s %s from %q: %d %v, want %d with a warning", test.method, test.path, test.from, w.Code, w.Header(), test.want)
		}
	}
}

func TestPublishedKeysHoldNothingPrivate(t *testing.T) {
	s := start(t)
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, keysPath, nil)
	r.RemoteAddr = "127.0.0.1:5"
	s.ServeHTTP(w, r)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 1 || !set.Keys[0].IsPublic() || !strings.HasPrefix(set.Keys[0].KeyID, "development-") {
		t.Errorf("keys = %s", w.Body)
	}
}

func TestTokenRefusals(t *testing.T) {
	s := start(t)
	for name, make := range map[string]func() (string, error){
		"no subject":     func() (string, error) { return s.Token("", "writ", time.Hour, nil) },
		"no audience":    func() (string, error) { return s.Token("a", "", time.Hour, nil) },
		"no life":        func() (string, error) { return s.Token("a", "writ", 0, nil) },
		"a long life":    func() (string, error) { return s.Token("a", "writ", maxTTL+1, nil) },
		"another issuer": func() (string, error) { return s.Token("a", "writ", time.Hour, map[string]any{"iss": "x"}) },
		"no warning":     func() (string, error) { return s.Token("a", "writ", time.Hour, map[string]any{claimName: false}) },
		"no JSON":        func() (string, error) { return s.Token("a", "writ", time.Hour, map[string]any{"x": func() {}}) },
	} {
		if signed, err := make(); err == nil {
			t.Errorf("%s: made %s", name, signed)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	s := start(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, err := s.Token("a", "writ", time.Minute, nil); err != nil {
					t.Error(err)
				}
				if err := s.Rotate(); err != nil {
					t.Error(err)
				}
				s.Withdraw()
			}
		})
	}
	wg.Wait()
}

func TestClosedServerAnswersNobody(t *testing.T) {
	s, err := Start(epoch)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := oidc.NewProvider(t.Context(), s.URL()); err == nil {
		t.Error("still answers")
	}
	if _, err := Start(nil); err == nil {
		t.Error("started without a clock")
	}
}
