package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/api"
)

// FuzzCheckJSON holds that whatever passes is one JSON object to another reader too, and reads the same when written again.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":{"b":[1,2,{"c":null}]}}`, `[]`, `{} {}`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", ` {"a":1e400} `, `{"a":null}`,
		strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40), `{`, ``, "\ufeff{}", `{"a":01}`, `{"a":1,}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if api.CheckJSON(data) != nil {
			return
		}
		var value map[string]any
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		if err := decoder.Decode(&value); err != nil || decoder.More() {
			t.Fatalf("accepted, but encoding/json says %v", err)
		}
		if depth(value) > 32 {
			t.Fatalf("accepted %d levels", depth(value))
		}
		for name, one := range value {
			if one == nil {
				t.Fatalf("accepted null in %q", name)
			}
		}
		again, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := api.CheckJSON(again); err != nil {
			t.Fatalf("accepted, but not when written again: %v", err)
		}
	})
}

func depth(value any) int {
	most := 0
	switch v := value.(type) {
	case map[string]any:
		for _, one := range v {
			most = max(most, depth(one))
		}
	case []any:
		for _, one := range v {
			most = max(most, depth(one))
		}
	default:
		return 0
	}
	return most + 1
}

// A caller whose connection is given up gets no answer: none at all would be 200 to net/http, and mean that it was done.
func TestWhoHasGoneIsNotToldOK(t *testing.T) {
	w := newWorld(t, settings{})
	gone, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequestWithContext(gone, http.MethodPost, "/v1/identities/suspend", strings.NewReader(`{"identity":`))
	r.Header.Set("Authorization", "Bearer "+w.token("sam"))
	r.Header.Set("Content-Type", "application/json")
	out := httptest.NewRecorder()
	broken := func() (value any) {
		defer func() { value = recover() }()
		w.server.Config.Handler.ServeHTTP(out, r)
		return nil
	}()
	if broken != http.ErrAbortHandler || out.Body.Len() > 0 { //nolint:errorlint // the very value that net/http knows
		t.Errorf("%v, and %q was written", broken, out.Body)
	}
}
