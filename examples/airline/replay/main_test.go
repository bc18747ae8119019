package replay_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/writ-project/writ/examples/airline/replay"
)

// TestMain adds -data: a folder with a recording to run through as well.
//
//	go test ./examples/airline/replay -run TestRecordingGiven -v -args -data FOLDER
func TestMain(m *testing.M) {
	flag.String("data", "testdata/recording", "folder of a recording")
	os.Exit(m.Run())
}

// TestRecordingGiven holds for any recording, the invented one if no other is given: everything is decided by a policy,
// looking up needs nobody, and nothing needed is refused.
func TestRecordingGiven(t *testing.T) {
	dir := flag.Lookup("data").Value.String()
	recording, err := replay.Open(dir)
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
		name := fmt.Sprintf("%d.%d.%d %s %s failed=%v: %s %v %s", step.Task, step.Trial, step.Step, step.Tool, step.Label, step.Failed, got.Outcome, ids(got.Policies), got.Problem)
		if step.Label != "read" {
			t.Log(name)
		}
		if got.Problem != "" {
			t.Errorf("no policy decided this: %s", name)
		}
		if step.Label == "read" && got.Outcome != "allow" || step.Label == "expected" && got.Outcome == "deny" {
			t.Error(name)
		}
	}
	var table strings.Builder
	if err := summary.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
}
