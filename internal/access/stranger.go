package access

import "time"

// Stranger is who called with a proof that was verified, and fits no identity of the catalog. Issuer and Subject are untrusted text.
type Stranger struct {
	ID      string // of its row; the store makes it
	Issuer  string
	Subject string
	First   time.Time // seen
	Last    time.Time
	Times   int64
}
