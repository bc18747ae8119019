package access

import "time"

// TaskStatus is where a task stands. Only open tasks carry live grants.
type TaskStatus string

// The statuses of a task. Sealed is ended, with everything it gave provably gone.
const (
	TaskOpen   TaskStatus = "open"
	TaskPaused TaskStatus = "paused"
	TaskEnded  TaskStatus = "ended"
	TaskSealed TaskStatus = "sealed"
)

// EndReason says why a task or a grant ended.
type EndReason string

// The reasons for which a task or a grant ends.
const (
	EndCompleted     EndReason = "completed"
	EndExpired       EndReason = "expired"
	EndRevoked       EndReason = "revoked"
	EndHeartbeatLost EndReason = "heartbeat_lost"
	EndReissued      EndReason = "reissued"
	EndRedecided     EndReason = "redecided"
)

// Task is one piece of work, the root of everything granted for it.
type Task struct {
	ID          string     `json:"id"`
	Type        string     `json:"type"`
	Subject     Ref        `json:"subject"`
	Principal   Ref        `json:"principal,omitzero"` // the human it is for, from its opening on
	Trace       string     `json:"trace,omitempty"`    // trace-id (W3C Trace Context) of all that is done for it
	Status      TaskStatus `json:"status"`
	Reason      EndReason  `json:"reason,omitempty"`
	OpenedAt    time.Time  `json:"opened_at"`
	ExpiresAt   time.Time  `json:"expires_at"`
	EndedAt     time.Time  `json:"ended_at,omitzero"`
	Heartbeat   Seconds    `json:"heartbeat,omitempty"` // the longest silence; 0: not asked for
	HeartbeatAt time.Time  `json:"heartbeat_at"`
	Cut         bool       `json:"cut,omitempty"`    // its subject, or its principal, was suspended, or left, since it was opened
	Labels      []string   `json:"labels,omitempty"` // touched so far, ordered
	Opened      int64      `json:"-"`                // index of the entry that opened it
}

// Due is when the task ends by itself if nothing else happens.
func (t *Task) Due() time.Time {
	if t.Heartbeat > 0 && t.Status == TaskOpen {
		if silent := t.HeartbeatAt.Add(t.Heartbeat.Duration()); silent.Before(t.ExpiresAt) {
			return silent
		}
	}
	return t.ExpiresAt
}

// Overdue names why the task should have ended by now, or "" if it need not. A paused task owes no heartbeat, but its clock runs on (I4).
func (t *Task) Overdue(now time.Time) EndReason {
	switch {
	case t.Status != TaskOpen && t.Status != TaskPaused:
		return ""
	case t.Cut:
		return EndRevoked
	case !now.Before(t.ExpiresAt):
		return EndExpired
	case !now.Before(t.Due()):
		return EndHeartbeatLost
	default:
		return ""
	}
}

// Live reports whether grants of the task may be alive at now.
func (t *Task) Live(now time.Time) bool {
	return t.Status == TaskOpen && t.Overdue(now) == ""
}

// CanBecome reports whether the life cycle allows the step.
func (s TaskStatus) CanBecome(next TaskStatus) bool {
	switch s {
	case TaskOpen:
		return next == TaskPaused || next == TaskEnded
	case TaskPaused:
		return next == TaskOpen || next == TaskEnded
	case TaskEnded:
		return next == TaskSealed
	case TaskSealed:
		return false
	default:
		return false
	}
}
