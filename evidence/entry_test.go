package evidence_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/writ-project/writ/evidence"
)

func fullEntry() evidence.Entry {
	return evidence.Entry{
		ID: "7", Source: origin, Type: "writ.decision.made", Subject: `agent/"7"\é`,
		Time: noon().Add(123456 * time.Microsecond), Task: "task-1", TaskSeq: 2, TaskPrev: "5",
		Data: json.RawMessage(`{"outcome":"allow","risk":20}`),
	}
}

const fullEntryText = `{"specversion":"1.0","id":"7","source":"writ.example/log","type":"writ.decision.made","subject":"agent/\"7\"\\é",` +
	`"time":"2026-11-23T12:00:00.123456Z","task":"task-1","taskseq":2,"taskprev":"5",` +
	`"datacontenttype":"application/json","data":{"outcome":"allow","risk":20}}`

func TestEntryText(t *testing.T) {
	raw, err := fullEntry().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fullEntryText, string(raw)); diff != "" {
		t.Errorf("text of an entry (-want +got):\n%s", diff)
	}
	if !json.Valid(raw) {
		t.Error("it is no JSON")
	}
	back, err := evidence.Parse(raw)
	if diff := cmp.Diff(fullEntry(), back); diff != "" || err != nil {
		t.Errorf("read back (-want +got), error %v:\n%s", err, diff)
	}
}

func TestEntryTimeIsUTCInMicroseconds(t *testing.T) {
	e := fullEntry()
	e.Time = time.Date(2026, 11, 23, 13, 0, 0, 999_999_999, time.FixedZone("CET", 3600))
	if raw := must(e.Marshal())(t); !bytes.Contains(raw, []byte(`"2026-11-23T12:00:00.999999Z"`)) {
		t.Errorf("time is not in UTC, cut to microseconds: %s", raw)
	}
}

func TestEntryAtItsBounds(t *testing.T) {
	for name, change := range map[string]func(*evidence.Entry){
		"the first index":           func(e *evidence.Entry) { e.ID, e.TaskSeq, e.TaskPrev = "0", 1, "" },
		"the last index":            func(e *evidence.Entry) { e.ID, e.TaskPrev = "281474976710656", "281474976710655" },
		"the last number of a task": func(e *evidence.Entry) { e.TaskSeq = math.MaxInt32 },
		"the first year":            func(e *evidence.Entry) { e.Time = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC) },
		"the last year":             func(e *evidence.Entry) { e.Time = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC) },
		"what is no control":        func(e *evidence.Entry) { e.Subject = " ~\u00a0" },
	} {
		e := fullEntry()
		change(&e)
		raw, err := e.Marshal()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back, err := evidence.Parse(raw)
		if diff := cmp.Diff(e, back); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	for _, control := range []string{"\x00", "\x1f", "\x7f", "\u0080", "\u009f"} {
		e := fullEntry()
		e.Subject = control
		if _, err := e.Marshal(); !errors.Is(err, evidence.ErrEntry) {
			t.Errorf("control character %q: %v", control, err)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64)
	for name, c := range map[string]struct {
		change func(*evidence.Entry)
		is     error
		says   string
	}{
		"no id":                     {func(e *evidence.Entry) { e.ID = "" }, evidence.ErrEntry, "id"},
		"id with leading zero":      {func(e *evidence.Entry) { e.ID = "07" }, evidence.ErrEntry, "id"},
		"id with sign":              {func(e *evidence.Entry) { e.ID = "+7" }, evidence.ErrEntry, "id"},
		"id not a number":           {func(e *evidence.Entry) { e.ID = "7x" }, evidence.ErrEntry, "id"},
		"id over the largest":       {func(e *evidence.Entry) { e.ID = "281474976710657" }, evidence.ErrEntry, "id"},
		"no source":                 {func(e *evidence.Entry) { e.Source = "" }, evidence.ErrEntry, "source is missing"},
		"no type":                   {func(e *evidence.Entry) { e.Type = "" }, evidence.ErrEntry, "type is missing"},
		"control character":         {func(e *evidence.Entry) { e.Subject = "a\nb" }, evidence.ErrEntry, "subject"},
		"control character, C1":     {func(e *evidence.Entry) { e.Subject = "a\u0085b" }, evidence.ErrEntry, "subject"},
		"invalid UTF-8":             {func(e *evidence.Entry) { e.Task = "a\xff" }, evidence.ErrEntry, "task"},
		"no time":                   {func(e *evidence.Entry) { e.Time = time.Time{} }, evidence.ErrEntry, "time"},
		"year 10000":                {func(e *evidence.Entry) { e.Time = e.Time.AddDate(8000, 0, 0) }, evidence.ErrEntry, "time"},
		"year 0":                    {func(e *evidence.Entry) { e.Time = e.Time.AddDate(-2026, 0, 0) }, evidence.ErrEntry, "time"},
		"number alone":              {func(e *evidence.Entry) { e.Task, e.TaskPrev = "", "" }, evidence.ErrEntry, "without task"},
		"predecessor alone":         {func(e *evidence.Entry) { e.Task, e.TaskSeq = "", 0 }, evidence.ErrEntry, "without task"},
		"number without task":       {func(e *evidence.Entry) { e.Task = "" }, evidence.ErrEntry, "without task"},
		"task without number":       {func(e *evidence.Entry) { e.TaskSeq = 0 }, evidence.ErrEntry, "taskseq"},
		"task number over 32 bits":  {func(e *evidence.Entry) { e.TaskSeq = math.MaxInt32 + 1 }, evidence.ErrEntry, "taskseq"},
		"first with predecessor":    {func(e *evidence.Entry) { e.TaskSeq = 1 }, evidence.ErrEntry, "no taskprev"},
		"second without it":         {func(e *evidence.Entry) { e.TaskPrev = "" }, evidence.ErrEntry, "taskprev"},
		"predecessor is itself":     {func(e *evidence.Entry) { e.TaskPrev = "7" }, evidence.ErrEntry, "taskprev"},
		"data no object":            {func(e *evidence.Entry) { e.Data = []byte(`[1]`) }, evidence.ErrEntry, "JSON object"},
		"data with space around":    {func(e *evidence.Entry) { e.Data = []byte(`{} `) }, evidence.ErrEntry, "JSON object"},
		"data on two lines":         {func(e *evidence.Entry) { e.Data = []byte("{\n}") }, evidence.ErrEntry, "one line"},
		"data with duplicate names": {func(e *evidence.Entry) { e.Data = []byte(`{"a":{"b":1,"b":2}}`) }, evidence.ErrEntry, `"b" appears twice`},
		"data that breaks out":      {func(e *evidence.Entry) { e.Data = []byte(`{},"id":{}`) }, evidence.ErrEntry, "after the JSON value"},
		"data too deep":             {func(e *evidence.Entry) { e.Data = []byte(deep) }, evidence.ErrEntry, "nested"},
		"data too large":            {func(e *evidence.Entry) { e.Data = []byte(`{"a":"` + strings.Repeat("x", 60_000) + `"}`) }, evidence.ErrTooLarge, "60000"},
		"all of it too large":       {func(e *evidence.Entry) { e.Data = []byte(`{"a":"` + strings.Repeat("x", 59_900) + `"}`) }, evidence.ErrTooLarge, "keep large values beside"},
	} {
		t.Run(name, func(t *testing.T) {
			e := fullEntry()
			c.change(&e)
			raw, err := e.Marshal()
			if raw != nil || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %.80q, %v; want %v that says %q", raw, err, c.is, c.says)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	swap := func(old, new string) string { return strings.Replace(fullEntryText, old, new, 1) }
	for name, c := range map[string]struct {
		text string
		is   error
		says string
	}{
		"nothing":                    {"", evidence.ErrEntry, "object is expected"},
		"an array":                   {"[]", evidence.ErrEntry, "object is expected"},
		"an empty object":            {"{}", evidence.ErrEntry, "specversion"},
		"another version":            {swap(`"1.0"`, `"0.3"`), evidence.ErrEntry, "specversion"},
		"a line break at its end":    {fullEntryText + "\n", evidence.ErrEntry, "more than one line"},
		"a carriage return":          {swap(`,"id"`, ",\r\"id\""), evidence.ErrEntry, "more than one line"},
		"a line break before it":     {"\n" + fullEntryText, evidence.ErrEntry, "more than one line"},
		"a carriage return before":   {"\r" + fullEntryText, evidence.ErrEntry, "more than one line"},
		"a name beside a letter":     {swap(`"id"`, `"a{":1,"id"`), evidence.ErrEntry, "lower-case"},
		"a name beside a digit":      {swap(`"id"`, `"a:":1,"id"`), evidence.ErrEntry, "lower-case"},
		"a name with a backquote":    {swap(`"id"`, "\"a`\":1,\"id\""), evidence.ErrEntry, "lower-case"},
		"data after it":              {fullEntryText + "{}", evidence.ErrEntry, "after the JSON value"},
		"duplicate attribute":        {swap(`"id":"7"`, `"id":"7","id":"7"`), evidence.ErrEntry, `"id" appears twice`},
		"duplicate name, escaped":    {swap(`"id":"7"`, `"id":"7","i\u0064":"8"`), evidence.ErrEntry, `"id" appears twice`},
		"duplicate name in data":     {swap(`"risk":20`, `"risk":20,"risk":0`), evidence.ErrEntry, `"risk" appears twice`},
		"duplicate in an extension":  {swap(`"id"`, `"ext":{"a":1,"a":1},"id"`), evidence.ErrEntry, `"a" appears twice`},
		"invalid UTF-8":              {swap(`é`, "\xc3"), evidence.ErrEntry, "UTF-8"},
		"too deep":                   {swap(`"risk":20`, `"risk":`+strings.Repeat("[", 63)+strings.Repeat("]", 63)), evidence.ErrEntry, "nested"},
		"too large":                  {swap(`allow`, strings.Repeat("a", 60_000)), evidence.ErrTooLarge, "limit is 60000"},
		"attribute in another case":  {swap(`"id"`, `"ID":"9","id"`), evidence.ErrEntry, `"ID"`},
		"binary data":                {swap(`"data":`, `"data_base64":"AA==","data":`), evidence.ErrEntry, "data_base64"},
		"attribute without a name":   {swap(`"id"`, `"":1,"id"`), evidence.ErrEntry, "no name"},
		"missing id":                 {swap(`"id":"7",`, ``), evidence.ErrEntry, "id"},
		"missing source":             {swap(`"source":"writ.example/log",`, ``), evidence.ErrEntry, "source is missing"},
		"missing type":               {swap(`"type":"writ.decision.made",`, ``), evidence.ErrEntry, "type is missing"},
		"missing time":               {swap(`"time":"2026-11-23T12:00:00.123456Z",`, ``), evidence.ErrEntry, "time is missing"},
		"id as number":               {swap(`"id":"7"`, `"id":7`), evidence.ErrEntry, "id must be a string"},
		"null subject":               {swap(`"agent/\"7\"\\é"`, `null`), evidence.ErrEntry, "subject must be a string"},
		"empty subject":              {swap(`"agent/\"7\"\\é"`, `""`), evidence.ErrEntry, "subject must be a string"},
		"control character, escaped": {swap(`é`, `\u0000`), evidence.ErrEntry, "control characters"},
		"time as number":             {swap(`"2026-11-23T12:00:00.123456Z"`, `1`), evidence.ErrEntry, "time must be a string"},
		"time with offset":           {swap(`456Z`, `456+00:00`), evidence.ErrEntry, "time is"},
		"time with comma":            {swap(`00.123`, `00,123`), evidence.ErrEntry, "time is"},
		"time in seconds":            {swap(`.123456Z`, `Z`), evidence.ErrEntry, "time is"},
		"31 February":                {swap(`11-23`, `02-31`), evidence.ErrEntry, "time is"},
		"other content type":         {swap(`application/json`, `text/plain`), evidence.ErrEntry, "datacontenttype"},
		"taskseq as string":          {swap(`"taskseq":2`, `"taskseq":"2"`), evidence.ErrEntry, "taskseq"},
		"taskseq zero, no task":      {swap(`"task":"task-1","taskseq":2,"taskprev":"5"`, `"taskseq":0`), evidence.ErrEntry, "taskseq"},
		"taskseq zero":               {swap(`"taskseq":2`, `"taskseq":0`), evidence.ErrEntry, "taskseq"},
		"taskseq with exponent":      {swap(`"taskseq":2`, `"taskseq":2e0`), evidence.ErrEntry, "taskseq"},
		"data as string":             {swap(`{"outcome":"allow","risk":20}`, `"x"`), evidence.ErrEntry, "data must be"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := evidence.Parse([]byte(c.text))
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v that says %q", err, c.is, c.says)
			}
			if diff := cmp.Diff(evidence.Entry{}, e); diff != "" {
				t.Errorf("a refused entry is not empty:\n%s", diff)
			}
		})
	}
}

func TestParseIgnoresWhatLaterVersionsAdd(t *testing.T) {
	text := strings.Replace(fullEntryText, `"id"`, `"traceparent":"00-ab","severity":3,"az09":0,"id"`, 1)
	e, err := evidence.Parse([]byte(text))
	if diff := cmp.Diff(fullEntry(), e); diff != "" || err != nil {
		t.Errorf("(-want +got), error %v:\n%s", err, diff)
	}
}

func TestLargestEntry(t *testing.T) {
	e := fullEntry()
	e.Data = []byte(`{"a":""}`)
	free := evidence.MaxEntrySize - len(must(e.Marshal())(t))
	e.Data = []byte(`{"a":"` + strings.Repeat("x", free) + `"}`)
	raw := must(e.Marshal())(t)
	if _, err := evidence.Parse(raw); len(raw) != evidence.MaxEntrySize || err != nil {
		t.Errorf("%d bytes, error %v", len(raw), err)
	}
	e.Data = []byte(`{"a":"` + strings.Repeat("x", free+1) + `"}`)
	if _, err := e.Marshal(); !errors.Is(err, evidence.ErrTooLarge) {
		t.Errorf("one byte more is written: %v", err)
	}
	if _, err := evidence.Parse(append(raw, ' ')); !errors.Is(err, evidence.ErrTooLarge) {
		t.Errorf("one byte more is read: %v", err)
	}
}

func TestLeafHashVector(t *testing.T) {
	// SHA-256 of one zero byte: the leaf hash of the empty entry, as certificate transparency lists it.
	if got, want := evidence.LeafHash(nil).String(), "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0="; got != want {
		t.Errorf("leaf hash is %s, want %s", got, want)
	}
}

func genEntry() *rapid.Generator[evidence.Entry] {
	return rapid.Custom(func(t *rapid.T) evidence.Entry {
		text := rapid.StringMatching(`[ -~é世😀]{1,40}`)
		e := evidence.Entry{
			ID: "1000", Source: text.Draw(t, "source"), Type: text.Draw(t, "type"),
			Time: time.UnixMicro(rapid.Int64Range(0, 250_000_000_000_000_000).Draw(t, "time")).UTC(),
		}
		if rapid.Bool().Draw(t, "has subject") {
			e.Subject = text.Draw(t, "subject")
		}
		if rapid.Bool().Draw(t, "has task") {
			e.Task, e.TaskSeq = text.Draw(t, "task"), rapid.IntRange(1, math.MaxInt32).Draw(t, "seq")
			if e.TaskSeq > 1 {
				e.TaskPrev = "999"
			}
		}
		if rapid.Bool().Draw(t, "has data") {
			e.Data, _ = json.Marshal(rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "data"))
		}
		return e
	})
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEntry().Draw(t, "entry")
		raw, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := evidence.Parse(raw)
		if diff := cmp.Diff(e, back); diff != "" || err != nil {
			t.Fatalf("error %v, (-want +got):\n%s", err, diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fullEntryText))
	f.Add([]byte(`{"specversion":"1.0","id":"0","source":"a","type":"b","time":"2026-11-23T12:00:00.000000Z"}`))
	f.Add([]byte(`{"specversion":"1.0","id":"0","id":"1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := evidence.Parse(raw)
		if err != nil {
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("%q is no JSON", raw)
		}
		again, err := e.Marshal()
		if err != nil {
			t.Fatalf("%q was read but cannot be written: %v", raw, err)
		}
		if back, err := evidence.Parse(again); err != nil || !cmp.Equal(e, back) {
			t.Fatalf("%q changed when written and read: %v\n%s", raw, err, cmp.Diff(e, back))
		}
	})
}
