package replay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/examples/airline/replay"
	"github.com/writ-project/writ/internal/access"
)

const invented = "testdata/recording"

func open(t *testing.T) *replay.Recording {
	t.Helper()
	recording, err := replay.Open(invented)
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

// transcript is what is told, asked and decided, a block for each call.
func transcript(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	h := newHouse(t)
	for step := range open(t).Steps() {
		h.hear(t, &step)
		got := h.decide(step.Request)
		fmt.Fprintf(&out, "%d.%d.%d %s on %s\n", step.Task, step.Trial, step.Step, step.Tool, step.Request.Resource)
		for _, e := range step.Facts {
			fmt.Fprintf(&out, "  told %s %s\n", e.ID, e.Attributes)
		}
		for _, ref := range step.Gone {
			fmt.Fprintf(&out, "  gone %s\n", ref)
		}
		fmt.Fprintf(&out, "  args %s\n  %s %s\n", step.Request.Args, got.Outcome, strings.Join(ids(got.Policies), ", "))
	}
	return out.String()
}

// TestTranscript holds every fact, request and decision of the invented recording against a file that people can read.
// To write it anew: go test ./examples/airline/replay -run TestTranscript -args -update true
func TestTranscript(t *testing.T) {
	const golden = "testdata/transcript.txt"
	got := transcript(t)
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the transcript differs (-want +got):\n%s", diff)
	}
}

func TestTheSameStepsEveryTime(t *testing.T) {
	recording := open(t)
	first, second := slices.Collect(recording.Steps()), slices.Collect(recording.Steps())
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	if len(first) != recording.Len() {
		t.Errorf("%d steps of %d calls", len(first), recording.Len())
	}
}

// TestEveryRuleIsExercised: each policy on the airline's work determines at least one recorded call.
func TestEveryRuleIsExercised(t *testing.T) {
	h, seen := newHouse(t), map[string]bool{}
	for step := range open(t).Steps() {
		h.hear(t, &step)
		for _, id := range ids(h.decide(step.Request).Policies) {
			seen[id] = true
		}
	}
	for _, p := range h.bundle.Policies() {
		permitsBehindApproval := p.ID == "book" // probation holds every booking until a human has answered
		if p.File != "access/governance.cedar" && !seen[p.ID] && !permitsBehindApproval {
			t.Errorf("no recorded call is decided by %s", p.ID)
		}
	}
}

// TestARunDependsOnNoOther: told afresh for each run alone, or one run after another, decisions are the same.
func TestARunDependsOnNoOther(t *testing.T) {
	together, apart := newHouse(t), newHouse(t)
	for step := range open(t).Steps() {
		if step.First {
			clear(apart.facts)
		}
		together.hear(t, &step)
		apart.hear(t, &step)
		if diff := cmp.Diff(apart.decide(step.Request), together.decide(step.Request)); diff != "" {
			t.Errorf("%d.%d.%d: %s", step.Task, step.Trial, step.Step, diff)
		}
	}
}

func TestAnOpenEndedLoopMayStop(t *testing.T) {
	n := 0
	for range open(t).Steps() {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d steps, want 2", n)
	}
}

const (
	user = `{"ada": {"name": {"first_name": "Ada", "last_name": "Li"}, "dob": "1970-01-01", "membership": "gold", "reservations": ["R1"],
 "payment_methods": {"g": {"source": "gift_card", "amount": 10.0}, "c": {"source": "credit_card"}}}}`
	booked = `{"R1": {"reservation_id": "R1", "user_id": "ada", "cabin": "economy", "flight_type": "one_way", "origin": "AAA", "destination": "BBB",
 "flights": [{"flight_number": "X1", "date": "2024-06-01", "price": 90}], "created_at": "2024-04-01T09:00:00", "insurance": "no"}}`
	flight = `{"X1": {"origin": "AAA", "destination": "BBB", "scheduled_arrival_time_est": "12:00:00", "dates": {"2024-06-01": {"status": "available"}}}}`
)

func folder(users, trips, flights, calls string) fstest.MapFS {
	return fstest.MapFS{
		"users.json": {Data: []byte(users)}, "reservations.json": {Data: []byte(trips)},
		"flights.json": {Data: []byte(flights)}, "calls.jsonl": {Data: []byte(calls)},
	}
}

func TestFaultsNameFileAndLine(t *testing.T) {
	const call = `{"task": 1, "tool": "think", "label": "read", "args": {}}`
	for name, c := range map[string]struct {
		users, trips, flights, calls, want string
	}{
		"users are no object":     {users: `[]`, want: "users.json:1: want one JSON object"},
		"a broken user":           {users: "{\n\"ada\": {\"dob\": 7}}", want: `users.json:2: "ada": json: cannot unmarshal number`},
		"a user twice":            {users: "{\"a\": {\"membership\": \"gold\"},\n\"a\": {\"membership\": \"gold\"}}", want: `users.json:2: "a" stands here twice`},
		"no membership":           {users: `{"ada": {}}`, want: `users.json:1: "ada": a customer has a membership`},
		"cents":                   {users: `{"ada": {"membership": "gold", "payment_methods": {"g": {"amount": 10.5}}}}`, want: "10.5 is not an amount of whole dollars"},
		"an unfinished file":      {users: "{\n", want: "users.json:1: EOF"},
		"no key":                  {users: "{7: {}}", want: "users.json:1: want the id of an entry: "},
		"something after the end": {users: "{}\n{}", want: "users.json:2: something follows the object"},
		"a long name, cut":        {trips: `{"R2": {"reservation_id": "` + strings.Repeat("R", 90) + `"}}`, want: strings.Repeat("R", 80) + "…"},
		"args that do not end":    {calls: `{"tool": "think", "label": "read", "args": "x"}`, want: "calls.jsonl:1: args: json: cannot unmarshal string"},
		"another name":            {trips: `{"R2": {"reservation_id": "R1"}}`, want: `reservations.json:1: "R2": the reservation calls itself "R1"`},
		"no customer":             {trips: `{"R1": {"reservation_id": "R1"}}`, want: "a reservation has user_id, cabin and flight_type"},
		"no time":                 {trips: `{"R1": {"reservation_id": "R1", "user_id": "a", "cabin": "b", "flight_type": "c", "created_at": null}}`, want: "a reservation has created_at"},
		"a strange time":          {trips: `{"R1": {"created_at": "yesterday"}}`, want: `"yesterday" is not a time: want year-month-day`},
		"a time that is a number": {trips: `{"R1": {"created_at": 1}}`, want: "reservations.json:1: "},
		"a flight to nowhere":     {flights: `{"X1": {"origin": "AAA"}}`, want: "flights.json:1: \"X1\": a flight has origin and destination"},
		"a broken call":           {calls: call + "\n{", want: "calls.jsonl:2: unexpected end of JSON input"},
		"a call without a tool":   {calls: "\n" + `{"label": "read"}`, want: "calls.jsonl:2: a call names its tool and its label"},
		"args that are a list":    {calls: `{"tool": "think", "label": "read", "args": [1]}`, want: "calls.jsonl:1: args: json: cannot unmarshal array"},
		"a line without end":      {calls: call + "\n" + strings.Repeat(" ", replay.MaxLine+1), want: "calls.jsonl:2: larger than a replay reads: a line has at most"},
		"a file without end":      {flights: strings.Repeat(" ", replay.MaxDataFile+1), want: "flights.json: larger than a replay reads: at most"},
	} {
		t.Run(name, func(t *testing.T) {
			or := func(text, other string) string {
				if text == "" {
					return other
				}
				return text
			}
			_, err := replay.Read(folder(or(c.users, user), or(c.trips, booked), or(c.flights, flight), or(c.calls, call)))
			var fault *replay.FileError
			if !errors.As(err, &fault) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestAFolderWithoutItsFiles(t *testing.T) {
	for _, name := range []string{"users.json", "reservations.json", "flights.json", "calls.jsonl"} {
		fsys := folder(user, booked, flight, "")
		delete(fsys, name)
		if _, err := replay.Read(fsys); err == nil || !strings.Contains(err.Error(), "a recording has calls.jsonl, users.json") {
			t.Errorf("without %s: %v", name, err)
		}
	}
	fsys := folder(user, booked, flight, "")
	fsys["calls.jsonl"] = &fstest.MapFile{Mode: fs.ModeDir}
	if _, err := replay.Read(fsys); err == nil || strings.Contains(err.Error(), "a recording has") {
		t.Errorf("a folder for a file: %v", err)
	}
	if _, err := replay.Open("testdata/no-such-folder"); err == nil {
		t.Error("a folder that is not there was opened")
	}
}

// call is a line of calls.jsonl.
func call(tool, args, result string, failed bool) string {
	quoted, _ := json.Marshal(result)
	return fmt.Sprintf(`{"task": 1, "trial": 0, "step": 2, "tool": %q, "label": "x", "args": %s, "result": %s, "failed": %v}`+"\n", tool, args, quoted, failed)
}

func steps(t *testing.T, calls string) ([]replay.Step, *replay.Recording) {
	t.Helper()
	recording, err := replay.Read(folder(user, booked, flight, calls))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(recording.Steps()), recording
}

func TestResultsThatCannotBeReadAreNoted(t *testing.T) {
	for name, line := range map[string]string{
		"no reservation": call("cancel_reservation", `{"reservation_id": "R1"}`, "done", false),
		"half of one":    call("cancel_reservation", `{"reservation_id": "R1"}`, `{"reservation_id": "R1"}`, false),
		"no certificate": call("send_certificate", `{"user_id": "ada"}`, "sent", false),
		"cents":          call("send_certificate", `{"user_id": "ada"}`, "Certificate k added to user ada with amount 1.5.", false),
		"no text":        `{"tool": "send_certificate", "label": "x", "args": {}, "result": {}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, recording := steps(t, line)
			if notes := recording.Notes(); len(notes) != 1 || notes[0].Line != 1 || notes[0].Unwrap() == nil {
				t.Errorf("notes: %v", notes)
			}
		})
	}
	if _, recording := steps(t, call("cancel_reservation", `{"reservation_id": "R1"}`, "Error: no", true)); len(recording.Notes()) > 0 {
		t.Error("a call that failed changed nothing, and needs no note")
	}
}

func TestRequests(t *testing.T) {
	for name, c := range map[string]struct {
		tool, args     string
		resource, left string
	}{
		"the resource is no argument":           {"cancel_reservation", `{"reservation_id": "R1"}`, `Reservation::"R1"`, ""},
		"whole numbers with a fraction of zero": {"send_certificate", `{"user_id": "ada", "amount": 100.0}`, `Customer::"ada"`, `{"amount":100}`},
		"cents stay, for the schema to refuse":  {"send_certificate", `{"user_id": "ada", "amount": 0.5}`, `Customer::"ada"`, `{"amount":0.5}`},
		"beyond what a fraction can say":        {"send_certificate", `{"user_id": "ada", "amount": 1e300}`, `Customer::"ada"`, `{"amount":1e300}`},
		"what else the agent said stays":        {"calculate", `{"expression": "1", "why": [1.0, {"x": 2.0}]}`, `Desk::"service"`, `{"expression":"1","why":[1,{"x":2}]}`},
		"a look-up that finds nothing":          {"get_user_details", `{"user_id": "bob"}`, `Desk::"service"`, ""},
		"a look-up of nothing":                  {"get_reservation_details", `{}`, `Desk::"service"`, ""},
		"a look-up that finds somebody":         {"get_user_details", `{"user_id": "ada"}`, `Customer::"ada"`, ""},
		"a change of nothing":                   {"cancel_reservation", `{"reservation_id": 7}`, `Reservation::"none"`, ""},
		"a change of what nobody knows":         {"cancel_reservation", `{"reservation_id": "R9"}`, `Reservation::"R9"`, ""},
		"a tool that nobody knows":              {"open_door", `null`, `Desk::"service"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			list, _ := steps(t, call(c.tool, c.args, "Error", true))
			want := access.Request{
				Subject: replay.Agent(), Action: access.Ref{Type: "Action", ID: c.tool}, Resource: access.MustRef(c.resource),
				Args: json.RawMessage(c.left), Mode: access.Use,
			}
			if c.left == "" {
				want.Args = nil
			}
			if diff := cmp.Diff(want, list[0].Request); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSparseData: what a data file leaves out or calls null is nothing, not a fault.
func TestSparseData(t *testing.T) {
	recording, err := replay.Read(folder(
		`{"ada": {"membership": "gold", "reservations": ["R1", "R0"]}, "bob": {"membership": "gold", "payment_methods": {"g": {"source": "gift_card", "amount": null}}}}`,
		booked, `{}`,
		call("send_certificate", `{"user_id": "ada"}`, "Certificate k added to user ada with amount 5.", false)+
			call("book_reservation", `{"user_id": "ada", "payment_methods": [{"payment_id": "k"}]}`, "Error", true)))
	if err != nil {
		t.Fatal(err)
	}
	list := slices.Collect(recording.Steps())
	want := []string{
		`{"membership":"gold","saved_passengers":[{"first_name":"","last_name":"","dob":""}],"booked_legs":[{"flight_number":"X1","date":"2024-06-01"}],` +
			`"gift_cards":[],"certificates":[{"payment_id":"k","amount":5}],"covered":[],"begun":[],"cancelled_parties":[],"delayed_parties":[]}`,
		`{"kind":"certificate","balance":5}`,
	}
	var got []string
	for _, e := range list[1].Facts {
		got = append(got, string(e.Attributes))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestStrangeArguments: whatever an agent sends, facts can be told; the schema refuses the rest.
func TestStrangeArguments(t *testing.T) {
	calls := call("book_reservation", `{"user_id": "ada", "flights": "X1", "passengers": [1], "payment_methods": [{"payment_id": 3}, {"payment_id": "`+strings.Repeat("x", 3000)+`"}]}`, "Error", true) +
		call("update_reservation_flights", `{"reservation_id": "R1", "flights": [{"flight_number": "X1"}, {"flight_number": "X9", "date": "2024-06-01"}]}`, "Error", true) +
		call("book_reservation", `{"user_id": "bob", "passengers": [{}], "payment_methods": [{}]}`, "Error", true) +
		call("send_certificate", `{"user_id": "bob"}`, "Certificate k added to user bob with amount 5.", false) +
		call("send_certificate", `{"user_id": "ada"}`, "Certificate k added to user ada with amount 5.", false) +
		call("cancel_reservation", `{"reservation_id": "R1"}`, strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(booked, `{"R1": `), "}"), "ada", "eve"), false) +
		call("get_reservation_details", `{"reservation_id": "R1"}`, "", false)
	list, recording := steps(t, calls)
	if len(list) != 7 || len(recording.Notes()) > 0 {
		t.Fatalf("%d steps, notes %v", len(list), recording.Notes())
	}
	last := list[6].Facts
	if len(last) != 1 || !bytes.Contains(last[0].Attributes, []byte(`"customer_id":"eve","membership":""`)) {
		t.Errorf("facts %s", last)
	}
	if got := len(list[2].Facts) + len(list[3].Facts); got != 0 {
		t.Errorf("%d facts about a customer that nobody knows", got)
	}
}

func TestSummary(t *testing.T) {
	s := replay.NewSummary()
	s.Add(&replay.Step{Task: 1, Trial: 2, Step: 3, Label: "expected"}, access.Allow, []string{"book"})
	s.Add(&replay.Step{Label: "wrong-arguments"}, access.Allow, nil)
	s.Add(&replay.Step{Label: "wrong-arguments"}, access.NeedsApproval, []string{"total"})
	s.Add(&replay.Step{Label: "unexpected-action", Failed: true}, "refused", nil)
	s.LogVerified, s.DecisionsReplayed, s.Seconds = true, 4, 0.5

	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"calls":4,"labels":{"expected":{"allow":1,"needs_approval":0,"deny":0},"unexpected-action":{"allow":0,"needs_approval":0,"deny":1},` +
		`"wrong-arguments":{"allow":1,"needs_approval":1,"deny":0}},"effective":{"expected":{"allow":1,"needs_approval":0,"deny":0},` +
		`"wrong-arguments":{"allow":1,"needs_approval":1,"deny":0}},"log_verified":true,"decisions_replayed":4,"replay_mismatches":0,"seconds":0.5,` +
		`"decisions":[{"task":1,"trial":2,"step":3,"outcome":"allow","policies":["book"]},{"task":0,"trial":0,"step":0,"outcome":"allow","policies":[]},` +
		`{"task":0,"trial":0,"step":0,"outcome":"needs_approval","policies":["total"]},{"task":0,"trial":0,"step":0,"outcome":"deny","policies":[]}]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	var table strings.Builder
	if err := s.Print(&table); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"put to a human:                         1 of 4 (25.0 %)",
		"of these, wrong:                        1 of 1 (100.0 %)",
		"wrong, took effect, allowed unasked:    1 of 2 (50.0 %)",
		"decisions computed again, and differed: 0 of 4 (0.0 %)",
	} {
		if !strings.Contains(table.String(), line) {
			t.Errorf("the table lacks %q:\n%s", line, table.String())
		}
	}
	if err := s.Print(broken{}); err == nil {
		t.Error("a table that could not be written was")
	}
	if err := replay.NewSummary().Print(&table); err != nil || !strings.Contains(table.String(), "0 of 0") {
		t.Errorf("%v:\n%s", err, table.String())
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space") }

// FuzzCalls: no line makes the reader fail otherwise than with a fault in a file, and facts and requests stay valid JSON.
func FuzzCalls(f *testing.F) {
	lines, err := os.ReadFile(invented + "/calls.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range bytes.Lines(lines) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		recording, err := replay.Read(folder(user, booked, flight, string(line)))
		if err != nil {
			if fault := (*replay.FileError)(nil); !errors.As(err, &fault) {
				t.Fatal(err)
			}
			return
		}
		for step := range recording.Steps() {
			if step.Request.Args != nil && !json.Valid(step.Request.Args) {
				t.Errorf("args %s", step.Request.Args)
			}
			for _, e := range step.Facts {
				if _, err := access.ParseRef(e.ID.String()); err != nil || !json.Valid(e.Attributes) {
					t.Errorf("told %s %s: %v", e.ID, e.Attributes, err)
				}
			}
		}
	})
}

// FuzzData is FuzzCalls for the data files.
func FuzzData(f *testing.F) {
	f.Add([]byte(user), []byte(booked), []byte(flight))
	calls := call("cancel_reservation", `{"reservation_id": "R1"}`, "Error", true) + call("get_user_details", `{"user_id": "ada"}`, "", false)
	f.Fuzz(func(t *testing.T, users, trips, flights []byte) {
		recording, err := replay.Read(folder(string(users), string(trips), string(flights), calls))
		if err != nil {
			if fault := (*replay.FileError)(nil); !errors.As(err, &fault) {
				t.Fatal(err)
			}
			return
		}
		for range recording.Steps() {
		}
	})
}
