package demo_test

import (
	"bytes"
	"testing"

	"github.com/writ-project/writ/internal/demo"
)

// TestTheDemoTellsTheTruth plays the scenario to its end: it fails by itself where something it tells is not so.
func TestTheDemoTellsTheTruth(t *testing.T) {
	var out bytes.Buffer
	if err := demo.Run(t.Context(), demo.Options{Out: &out, Auto: true, Listen: "127.0.0.1:0", Folder: t.TempDir()}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		"allowed by policy support-refunds", "approved by bob", "denied: Customer data is not for reports",
		"parent_revoked", "everything below the middle is dead", "every grant below is dead, all 3", "hash to the signed head", "every one the same",
	} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("the demo does not show %q:\n%s", want, out.String())
		}
	}
}
