package access

import "testing"

func TestActionsAreReadLongOrShort(t *testing.T) {
	for text, want := range map[string]string{
		"refund": `Action::"refund"`, "read_order": `Action::"read_order"`, `Action::"refund"`: `Action::"refund"`, `Writ::Action::"erase"`: `Writ::Action::"erase"`,
		"": "", "two words": "", `Action::"`: "", "1st": "", "ä": "",
	} {
		ref, err := ParseAction(text)
		if (err == nil) != (want != "") || err == nil && ref.String() != want {
			t.Errorf("%q: %v, %v", text, ref, err)
		}
	}
}
