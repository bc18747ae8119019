package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/writ-project/writ/examples/airline/replay"
)

// TestARecordingIsGoverned replays an invented recording through a real server.
func TestARecordingIsGoverned(t *testing.T) {
	out := filepath.Join(t.TempDir(), "eval.json")
	var printed bytes.Buffer
	if err := run(t.Context(), filepath.Join("..", "replay", "testdata", "recording"), out, &printed, io.Discard); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var summary replay.Summary
	if err := json.Unmarshal(content, &summary); err != nil {
		t.Fatal(err)
	}
	if !summary.LogVerified || summary.ReplayMismatches != 0 || summary.DecisionsReplayed < summary.Calls || len(summary.Decisions) != summary.Calls || summary.Calls == 0 {
		t.Errorf("calls %d, log verified %t, replayed %d, mismatches %d", summary.Calls, summary.LogVerified, summary.DecisionsReplayed, summary.ReplayMismatches)
	}
	if got := summary.Labels["read"]; got.Allow != got.Total() || got.Total() == 0 {
		t.Errorf("reads need a human: %+v", got)
	}
	if got := summary.Labels["expected"]; got.Deny != 0 || got.Total() == 0 {
		t.Errorf("expected calls were denied: %+v", got)
	}
}
