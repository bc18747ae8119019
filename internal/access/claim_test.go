package access

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestClaimsFitAndMeet(t *testing.T) {
	exact, set, prefix := Exactly("main"), Claim{In: []string{"main", "dev"}}, Claim{Prefix: "ma"}
	for _, c := range []struct {
		claim Claim
		value string
		fits  bool
	}{
		{exact, "main", true}, {exact, "main2", false}, {exact, "", false},
		{set, "dev", true}, {set, "de", false},
		{prefix, "main", true}, {prefix, "ma", true}, {prefix, "m", false}, {prefix, "xma", false},
		{Claim{}, "", false},
	} {
		if got := c.claim.Fits(c.value); got != c.fits {
			t.Errorf("%v fits %q: %v", c.claim, c.value, got)
		}
	}
	for _, c := range []struct {
		a, b Claim
		meet bool
	}{
		{exact, set, true}, {exact, prefix, true}, {set, prefix, true}, {exact, Exactly("dev"), false},
		{set, Claim{In: []string{"x", "dev"}}, true}, {set, Claim{In: []string{"x"}}, false},
		{prefix, Claim{Prefix: "m"}, true}, {prefix, Claim{Prefix: "mb"}, false}, {prefix, Exactly("m"), false},
	} {
		if c.a.Meets(c.b) != c.meet || c.b.Meets(c.a) != c.meet {
			t.Errorf("%v and %v: want %v", c.a, c.b, c.meet)
		}
	}
}

func TestClaimsReadAsWritten(t *testing.T) {
	for text, want := range map[string]Claim{
		`"main"`: Exactly("main"), `""`: Exactly(""), `{"in":["a","b"]}`: {In: []string{"a", "b"}}, `{"prefix":"x"}`: {Prefix: "x"},
	} {
		var got Claim
		if err := json.Unmarshal([]byte(text), &got); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s reads as %v, %v", text, got, err)
		}
		if again, err := json.Marshal(got); err != nil || string(again) != text {
			t.Errorf("%s is written as %s, %v", text, again, err)
		}
	}
	for _, text := range []string{`{}`, `{"in":[]}`, `{"in":["a"],"prefix":"b"}`, `1`, `["a"]`, `null`} {
		var got Claim
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s reads as %v", text, got)
		}
	}
}

func TestClaimAtFollowsPointers(t *testing.T) {
	var claims map[string]any
	if err := json.Unmarshal([]byte(`{"kubernetes.io":{"namespace":"shop","pod":{"a/b~c":"x"}},"list":["y"],"/odd":"z"}`), &claims); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"/kubernetes.io/namespace": "shop", "/kubernetes.io/pod/a~1b~0c": "x", "/list/0": nil, "/kubernetes.io/none/at/all": nil,
		"kubernetes.io/namespace": nil, "/~1odd": "z", "/": nil,
	} {
		if got := claimAt(claims, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
