package access

import (
	"encoding/json"
	"testing"
)

func TestParseApprovalForm(t *testing.T) {
	for text, want := range map[string]ApprovalForm{
		"resource-owner":      {Kind: FormResourceOwner, Count: 1},
		"identity-owner":      {Kind: FormIdentityOwner, Count: 1},
		"confirm":             {Kind: FormConfirm, Count: 1},
		"team:ops":            {Kind: FormTeam, Team: "ops", Count: 1},
		"2 of team:ops":       {Kind: FormTeam, Team: "ops", Count: 2},
		"9 of team:ops":       {Kind: FormTeam, Team: "ops", Count: 9},
		"team:a of b":         {Kind: FormTeam, Team: "a of b", Count: 1},
		"2 of team:a of b":    {Kind: FormTeam, Team: "a of b", Count: 2},
		"team:2 of team:x":    {Kind: FormTeam, Team: "2 of team:x", Count: 1},
		"3 of team:team:deep": {Kind: FormTeam, Team: "team:deep", Count: 3},
	} {
		got, err := ParseApprovalForm(text)
		if err != nil || got != want {
			t.Errorf("ParseApprovalForm(%q) = %+v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("String() = %q, want %q", got, text)
		}
	}
	if got, err := ParseApprovalForm("1 of team:ops"); err != nil || got.String() != "team:ops" {
		t.Errorf("one of a team is the team: %q, %v", got, err)
	}
	for _, text := range []string{
		"", "owner", "Confirm", "confirm ", "team:", "team: ops", "team:ops ", "team", "ops", "0 of team:ops", "10 of team:ops", "-1 of team:ops",
		"+2 of team:ops", "02 of team:ops", "two of team:ops", "2 of ops", "2 of team:", "2  of team:ops", "2 of resource-owner", "2of team:ops", "team:\xff",
		" of team:ops",
	} {
		if got, err := ParseApprovalForm(text); err == nil || got != (ApprovalForm{}) {
			t.Errorf("ParseApprovalForm(%q) = %+v, %v", text, got, err)
		}
	}
}

func TestApprovalFormIndependence(t *testing.T) {
	for text, want := range map[string]bool{"resource-owner": true, "team:ops": true, "2 of team:ops": true, "identity-owner": false, "confirm": false} {
		if got := requires(text)[0].Form.Independent(); got != want {
			t.Errorf("%s: Independent() = %v", text, got)
		}
	}
}

func TestApprovalFormIsTextInJSON(t *testing.T) {
	var form ApprovalForm
	if err := json.Unmarshal([]byte(`"2 of team:ops"`), &form); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(form)
	if err != nil || string(text) != `"2 of team:ops"` {
		t.Errorf("%s, %v", text, err)
	}
	if err := json.Unmarshal([]byte(`""`), &form); err == nil || form.Count != 2 {
		t.Errorf("an empty text must be an error and change nothing: %+v, %v", form, err)
	}
}

func FuzzParseApprovalForm(f *testing.F) {
	for _, text := range []string{"confirm", "team:a of b", "1 of team:a of b", "2 of team:x", "2 of 3 of team:x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		form, err := ParseApprovalForm(text)
		if err != nil {
			return
		}
		if form.Count < 1 || form.Count > 9 || (form.Kind == FormTeam) != (form.Team != "") {
			t.Fatalf("%q: %+v", text, form)
		}
		again, err := ParseApprovalForm(form.String())
		if err != nil || again != form {
			t.Fatalf("%q reads as %+v, written %q, read %+v (%v)", text, form, form, again, err)
		}
	})
}
