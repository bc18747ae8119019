package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/api"
)

// TestAGuestIsCarriedLikeEveryRoute has a route of another endpoint: its id, headers, log line and limits are the server's.
func TestAGuestIsCarriedLikeEveryRoute(t *testing.T) {
	t.Parallel()
	logs := &buffer{}
	server := httptest.NewServer(api.New(api.Options{
		Logger: slog.New(slog.NewJSONHandler(logs, nil)), RequestTimeout: time.Minute,
		Guests: []api.Guest{{Method: http.MethodPost, Path: "/guest", MaxBody: 8, Serve: func(ctx context.Context, r *http.Request, body []byte) api.GuestReply {
			if _, limited := ctx.Deadline(); !limited {
				t.Error("no limit of time")
			}
			switch string(body) {
			case "panic":
				panic("secret-in-a-panic")
			case "fail":
				return api.GuestReply{Status: http.StatusServiceUnavailable, Content: "application/json", Body: []byte(`{}`), Cause: errors.New("the disk is full")}
			}
			return api.GuestReply{
				Status: http.StatusTeapot, Content: "text/plain", Body: append([]byte("heard "), body...), Header: map[string]string{"Pragma": "no-cache"},
				Caller: access.MustRef(`Agent::"support-bot"`),
			}
		}}},
	}))
	t.Cleanup(server.Close)
	ask := func(method, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/guest", strings.NewReader(body))
		check(t, err)
		got, err := http.DefaultClient.Do(r)
		check(t, err)
		defer got.Body.Close()
		var text bytes.Buffer
		_, err = text.ReadFrom(got.Body)
		check(t, err)
		if got.Header.Get("X-Request-ID") == "" || got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %q: headers %v", method, body, got.Header)
		}
		return got.StatusCode, text.String()
	}
	for _, x := range []struct {
		method, body string
		status       int
		says         string
	}{
		{http.MethodPost, "a form", http.StatusTeapot, "heard a form"},
		{http.MethodPost, "", http.StatusTeapot, "heard "},
		{http.MethodPost, "far too long", http.StatusRequestEntityTooLarge, `"code":"body_too_large"`},
		{http.MethodPost, "panic", http.StatusInternalServerError, `"code":"internal"`},
		{http.MethodPost, "fail", http.StatusServiceUnavailable, `{}`},
		{http.MethodGet, "", http.StatusMethodNotAllowed, `"code":"method_not_allowed"`},
	} {
		status, text := ask(x.method, x.body)
		if status != x.status || !strings.Contains(text, x.says) {
			t.Errorf("%s %q: %d %s", x.method, x.body, status, text)
		}
	}
	server.Close()
	var line map[string]any
	first, _, _ := strings.Cut(logs.String(), "\n")
	check(t, json.Unmarshal([]byte(first), &line))
	if line["caller"] != `Agent::"support-bot"` || line["route"] != "POST /guest" || line["request_id"] == "" {
		t.Errorf("the log line: %s", first)
	}
	if text := logs.String(); strings.Contains(text, "secret-in-a-panic") || !strings.Contains(text, "the disk is full") || strings.Count(text, `"msg":"request"`) != 6 {
		t.Errorf("the log: %s", text)
	}
}
