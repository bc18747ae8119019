package access

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestTaskLifeCycle(t *testing.T) {
	all := []TaskStatus{"", "bogus", TaskOpen, TaskPaused, TaskEnded, TaskSealed}
	allowed := map[TaskStatus][]TaskStatus{
		TaskOpen:   {TaskPaused, TaskEnded},
		TaskPaused: {TaskOpen, TaskEnded},
		TaskEnded:  {TaskSealed},
	}
	for _, from := range all {
		for _, to := range all {
			if got, want := from.CanBecome(to), slices.Contains(allowed[from], to); got != want {
				t.Errorf("%q to %q: %v", from, to, got)
			}
		}
	}
}

func TestTaskClock(t *testing.T) {
	const beat = 60
	minute := after(time.Minute)
	for name, c := range map[string]struct {
		status    TaskStatus
		heartbeat Seconds
		now       time.Time
		due       time.Time
		overdue   EndReason
		live      bool
	}{
		"open":                               {TaskOpen, 0, noon(), after(time.Hour), "", true},
		"open, at the last instant":          {TaskOpen, 0, after(time.Hour - 1), after(time.Hour), "", true},
		"open, at its expiry":                {TaskOpen, 0, after(time.Hour), after(time.Hour), EndExpired, false},
		"beating":                            {TaskOpen, beat, noon(), minute, "", true},
		"beating, at the last instant":       {TaskOpen, beat, minute.Add(-1), minute, "", true},
		"silent":                             {TaskOpen, beat, minute, minute, EndHeartbeatLost, false},
		"silent and expired":                 {TaskOpen, beat, after(time.Hour), minute, EndExpired, false},
		"a heartbeat longer than the task":   {TaskOpen, 7200, noon(), after(time.Hour), "", true},
		"a heartbeat longer than any clock":  {TaskOpen, math.MaxInt64, noon(), after(time.Hour), "", true},
		"paused owes no heartbeat":           {TaskPaused, beat, minute, after(time.Hour), "", false},
		"paused, and its clock runs on (I4)": {TaskPaused, beat, after(time.Hour), after(time.Hour), EndExpired, false},
		"ended":                              {TaskEnded, beat, after(2 * time.Hour), after(time.Hour), "", false},
		"ended before its expiry":            {TaskEnded, 0, noon(), after(time.Hour), "", false},
		"sealed":                             {TaskSealed, 0, noon(), after(time.Hour), "", false},
		"of no status":                       {"", 0, noon(), after(time.Hour), "", false},
		"of an unknown status":               {"OPEN", 0, noon(), after(time.Hour), "", false},
	} {
		task := openTask()
		task.Status, task.Heartbeat = c.status, c.heartbeat
		if due := task.Due(); !due.Equal(c.due) {
			t.Errorf("%s: Due() = %v, want %v", name, due, c.due)
		}
		if overdue := task.Overdue(c.now); overdue != c.overdue {
			t.Errorf("%s: Overdue() = %q, want %q", name, overdue, c.overdue)
		}
		if live := task.Live(c.now); live != c.live {
			t.Errorf("%s: Live() = %v", name, live)
		}
	}
}

// I5: what was cut off with its subject does not come back, whatever its clock says.
func TestI5_TaskCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		status  TaskStatus
		now     time.Time
		overdue EndReason
	}{
		"open":                {TaskOpen, noon(), EndRevoked},
		"silent":              {TaskOpen, after(time.Minute), EndRevoked},
		"open, at its expiry": {TaskOpen, after(time.Hour), EndRevoked},
		"paused":              {TaskPaused, noon(), EndRevoked},
		"ended":               {TaskEnded, noon(), ""},
		"sealed":              {TaskSealed, noon(), ""},
	} {
		task := openTask()
		task.Status, task.Heartbeat, task.Cut = c.status, 60, true
		if overdue := task.Overdue(c.now); overdue != c.overdue {
			t.Errorf("%s: Overdue() = %q, want %q", name, overdue, c.overdue)
		}
		if task.Live(c.now) {
			t.Errorf("%s: live", name)
		}
	}
}

func TestSecondsNeverWrapAround(t *testing.T) {
	for s, want := range map[Seconds]time.Duration{
		0: 0, 90: 90 * time.Second, -1: -time.Second,
		math.MaxInt64: math.MaxInt64 / time.Second * time.Second, math.MinInt64: -(math.MaxInt64 / time.Second * time.Second),
		1 << 34: math.MaxInt64 / time.Second * time.Second,
	} {
		if got := s.Duration(); got != want {
			t.Errorf("%d s is %v, want %v", s, got, want)
		}
	}
}
