package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"math"

	"github.com/writ-project/writ/internal/access"
)

// MaxStrangers is how many strangers are remembered. Beyond it those are forgotten who were not seen for the longest time.
const MaxStrangers = 10_000

// NoteStrangers adds to what is remembered of strangers: First and Last widen what is known, Times adds to it. It has no
// authority and leaves no evidence: a stranger may do nothing, and is listed for people alone. At most MaxStrangers at once.
func (s *Store) NoteStrangers(ctx context.Context, seen []access.Stranger) error {
	if len(seen) == 0 {
		return nil
	}
	var last int64 // of the newest row that must go to make room
	var id string
	err := s.reads.row(ctx, `SELECT last_seen, id FROM strangers ORDER BY last_seen DESC, id DESC LIMIT 1 OFFSET $1`,
		[]any{MaxStrangers - len(seen)}, &last, &id)
	full := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return unavailable(err)
	}
	return s.note(ctx, func(tx *transaction) error {
		if full {
			if err := tx.on.exec(tx.ctx, `DELETE FROM strangers WHERE (last_seen, id) <= ($1, $2)`, last, id); err != nil {
				return err
			}
		}
		for i := range seen {
			err := tx.on.exec(tx.ctx, `INSERT INTO strangers (id, issuer, subject, first_seen, last_seen, times) VALUES ($1, $2, $3, $4, $5, $6)
				ON CONFLICT (id) DO UPDATE SET last_seen = excluded.last_seen, times = strangers.times + excluded.times`,
				strangerID(&seen[i]), seen[i].Issuer, seen[i].Subject, micros(seen[i].First), micros(seen[i].Last), seen[i].Times)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// strangerID is a key of bounded length; a subject may be longer than what a database takes into an index.
func strangerID(s *access.Stranger) string {
	sum := sha256.Sum256([]byte(s.Issuer + "\x00" + s.Subject))
	return hex.EncodeToString(sum[:])
}

// Strangers lists who was seen and is not known, the last one seen first, at most limit, after the given one (nil: from the
// beginning; its ID and Last count). No decision depends on it, so it is not looked at again at a commit.
func (v *View) Strangers(after *access.Stranger, limit int) ([]access.Stranger, error) {
	last, id := int64(math.MaxInt64), ""
	if after != nil {
		last, id = micros(after.Last), after.ID
	}
	var out []access.Stranger
	err := v.on.each(v.ctx, `SELECT id, issuer, subject, first_seen, last_seen, times FROM strangers
		WHERE (last_seen, id) < ($1, $2) ORDER BY last_seen DESC, id DESC LIMIT $3`, []any{last, id, limit},
		func(row func(...any) error) error {
			var s access.Stranger
			var first, last int64
			err := row(&s.ID, &s.Issuer, &s.Subject, &first, &last, &s.Times)
			s.First, s.Last = fromMicros(first), fromMicros(last)
			out = append(out, s)
			return err
		})
	return out, unavailable(err)
}
