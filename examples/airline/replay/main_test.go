package replay_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/writ-project/writ/examples/airline/replay"
	"github.com/writ-project/writ/internal/access"
)

// TestMain adds -data: a folder with a recording to run through as well.
//
//	go test ./examples/airline/replay -run TestRecordingGiven -v -args -data FOLDER
func TestMain(m *testing.M) {
	flag.String("data", invented, "folder of a recording")
	flag.String("update", "false", "true writes testdata/transcript.txt anew")
	os.Exit(m.Run())
}

// TestRecordingGiven holds for any recording, the invented one if no other is given: looking up needs nobody, what is
// needed is never refused, and nothing needed is decided by a fault in the policies or the facts.
func TestRecordingGiven(t *testing.T) {
	recording, err := replay.Open(flag.Lookup("data").Value.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, note := range recording.Notes() {
		t.Logf("note: %v", &note)
	}
	h, summary := newHouse(t), replay.NewSummary()
	for step := range recording.Steps() {
		h.hear(t, &step)
		got := h.decide(step.Request)
		summary.Add(&step, got.Outcome, ids(got.Policies))
		line := fmt.Sprintf("%d.%d.%d %s %s failed=%v: %s %v %s",
			step.Task, step.Trial, step.Step, step.Tool, step.Label, step.Failed, got.Outcome, ids(got.Policies), got.Problem)
		switch {
		case step.Label == "read" && got.Outcome != access.Allow, step.Label == "expected" && got.Outcome == access.Deny:
			t.Error(line)
		case step.Label != "read":
			t.Log(line)
		}
	}
	var table strings.Builder
	if err := summary.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
}
