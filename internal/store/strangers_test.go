package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-project/writ/internal/access"
)

func (f *fixture) note(seen ...access.Stranger) {
	f.t.Helper()
	if err := f.NoteStrangers(f.t.Context(), seen); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) strangers(after *access.Stranger, limit int) (out []access.Stranger) {
	f.t.Helper()
	err := f.Read(f.t.Context(), func(v *View) (err error) {
		out, err = v.Strangers(after, limit)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

func TestStrangersAreRemembered(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		f := open(t)
		seen := func(subject string, first, last time.Duration, times int64) access.Stranger {
			s := access.Stranger{Issuer: "https://idp.example", Subject: subject, First: f.now.Add(first), Last: f.now.Add(last), Times: times}
			s.ID = strangerID(&s)
			return s
		}
		size := f.Size()
		f.note()
		f.note(seen("a", 0, time.Second, 2), seen("b", 0, 2*time.Second, 1))
		f.note(seen("a", 3*time.Second, 4*time.Second, 5), seen("c", time.Second, time.Second, 1))
		want := []access.Stranger{seen("a", 0, 4*time.Second, 7), seen("b", 0, 2*time.Second, 1), seen("c", time.Second, time.Second, 1)}
		if diff := cmp.Diff(want, f.strangers(nil, 10)); diff != "" {
			t.Error(diff)
		}
		first := f.strangers(nil, 2)
		if diff := cmp.Diff(want[2:], f.strangers(&first[1], 2)); diff != "" {
			t.Errorf("the next page: %s", diff)
		}
		if f.Size() != size {
			t.Error("a stranger left evidence")
		}
		other := seen("a", 0, 0, 1)
		other.Issuer += "\x01"
		if strangerID(&other) == first[0].ID {
			t.Error("two issuers' subjects are one")
		}
	})
}

// Whoever floods us pushes out others, and never more than that: the number of rows stays the same.
func TestStrangersAreBounded(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		f := open(t)
		batch := func(from, n int) (out []access.Stranger) {
			for i := range n { // all at the same moment: the bound holds whatever the clock does
				out = append(out, access.Stranger{Issuer: "i", Subject: fmt.Sprint(from + i), First: f.now, Last: f.now, Times: 1})
			}
			return out
		}
		count := func() int64 { return f.number(`SELECT COUNT(*) FROM strangers`) }
		for from := 0; from < MaxStrangers; from += 2000 {
			f.note(batch(from, 2000)...)
		}
		if count() != MaxStrangers {
			t.Fatalf("%d rows", count())
		}
		f.now = f.now.Add(time.Second)
		f.note(batch(MaxStrangers, 64)...)
		if count() != MaxStrangers {
			t.Errorf("%d rows, 64 more have come", count())
		}
		f.note(batch(MaxStrangers, 64)...) // the same again
		if n := count(); n > MaxStrangers || n < MaxStrangers-64 {
			t.Errorf("%d rows", n)
		}
		newest := f.strangers(nil, 65)
		if newest[63].Times != 2 || newest[64].Times != 1 {
			t.Errorf("the newest are not those that were seen last: %+v", newest[63:])
		}
	})
}
