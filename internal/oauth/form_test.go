package oauth

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

func formHeader() http.Header {
	return http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
}

func TestOnlyFormsAreForms(t *testing.T) {
	for name, x := range map[string]struct {
		header http.Header
		good   bool
	}{
		"a form":                {formHeader(), true},
		"UTF-8":                 {http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=UTF-8"}}, true},
		"another character set": {http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-16"}}, false},
		"none":                  {http.Header{}, false},
		"two":                   {http.Header{"Content-Type": {"application/x-www-form-urlencoded", "application/json"}}, false},
		"several parts":         {http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}, false},
		"compressed":            {http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Content-Encoding": {"gzip"}}, false},
	} {
		if _, err := parseForm(x.header, []byte("token=x")); (err == nil) != x.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := parseForm(formHeader(), []byte("token="+strings.Repeat("x", MaxBody))); err == nil {
		t.Error("more than the most")
	}
}

// FuzzForm: whatever is sent, what is accepted has each parameter once, as every other reader would read it, and is the same when it is
// written again; and what is asked for in it is read without a panic, or refused as an error of OAuth.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		"grant_type=client_credentials&scope=read_order&audience=Order%3A%3A%22o-1%22&task=t", "a=1&a=2", "a=&b", "a=%zz", "a;b=c", "resource=x&resource=y", "%00=x", "=x",
		"authorization_details=" + url.QueryEscape(`[{"type":"writ_request","open":{"type":"a","purpose":"b"},"action":"pay","resource":"Order::\"o\"","constraints":{"a":{"type":"range","max":1}},"mode":"delegate","hops":1}]`),
		"authorization_details=" + url.QueryEscape(strings.Repeat("[", 100)), "authorization_details=%5Bnull%5D&scope=x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := parseForm(formHeader(), []byte(body))
		var own *fault
		if err != nil {
			if !errors.As(err, &own) || own.err == "" || got != nil {
				t.Fatalf("%v with %v", err, got)
			}
			return
		}
		all, err := url.ParseQuery(body)
		if err != nil {
			t.Fatal(err)
		}
		again := url.Values{}
		for name, values := range all {
			if len(values) != 1 || values[0] != got[name] || !utf8.ValidString(name+values[0]) {
				t.Fatalf("%q: %q is read as %q", name, values, got[name])
			}
		}
		for name, value := range got {
			again.Set(name, value)
		}
		if second, err := parseForm(formHeader(), []byte(again.Encode())); err != nil || !maps.Equal(got, second) {
			t.Fatalf("%v is written as %v: %v", got, second, err)
		}
		a, err := parseAsked(got)
		var bad *control.Invalid
		if err != nil && !errors.As(err, &bad) && (!errors.As(err, &own) || own.err == "" || own.code == "") {
			t.Fatalf("an error of no kind: %v", err)
		}
		if err == nil && a.whole() == nil && (a.Action.IsZero() || a.Resource.IsZero() || a.open == nil && !access.ValidID(a.Task) || a.Parent != "" && !access.ValidID(a.Parent)) {
			t.Fatalf("not whole: %+v", a)
		}
	})
}
