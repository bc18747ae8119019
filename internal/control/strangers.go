package control

import (
	"context"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/writ-project/writ/internal/access"
)

const (
	maxHeld       = 1024 // strangers in memory at once; what comes beyond them is let go
	maxWritten    = 64   // strangers that are written at once, so that a commit that others wait for stays short
	strangerPause = time.Minute
	maxStranger   = 2048 // bytes of an issuer or a subject
)

// strangers are those who called with a good proof and fit no identity, until the background loop writes them down. Nothing
// that they do touches the database in the call, and their number is bounded.
type strangers struct {
	mu   sync.Mutex
	held map[strangerKey]*held
}

type strangerKey struct{ issuer, subject string }

// held is what is not written yet, and when the last was: each stranger is written at most once in strangerPause.
type held struct {
	first, last time.Time
	times       int64
	written     time.Time
}

func newStrangers() *strangers { return &strangers{held: map[strangerKey]*held{}} }

// saw takes note of a call. What no catalog could name is let go: its matches are printable text.
func (s *strangers) saw(issuer, subject string, now time.Time) {
	if !nameable(issuer) || !nameable(subject) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strangerKey{issuer, subject}
	h := s.held[key]
	if h == nil {
		if len(s.held) >= maxHeld {
			return
		}
		h = &held{}
		s.held[key] = h
	}
	if h.times == 0 {
		h.first = now
	}
	h.last, h.times = now, h.times+1
}

func nameable(text string) bool {
	return text != "" && len(text) <= maxStranger && utf8.ValidString(text) &&
		!strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) })
}

// due lists some of those to write now, and lets go of those who were silent since they were written.
func (s *strangers) due(now time.Time) []access.Stranger {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []access.Stranger
	for key, h := range s.held {
		switch {
		case now.Sub(h.written) < strangerPause:
		case h.times == 0:
			delete(s.held, key)
		case len(out) < maxWritten:
			out = append(out, access.Stranger{Issuer: key.issuer, Subject: key.subject, First: h.first, Last: h.last, Times: h.times})
		}
	}
	return out
}

// wrote leaves of what was written only what has come since.
func (s *strangers) wrote(list []access.Stranger, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		h := s.held[strangerKey{list[i].Issuer, list[i].Subject}]
		h.times -= list[i].Times
		h.written = now
	}
}

// RecordStrangers writes down some of those who called and are not known; the background loop calls it every second, and
// nothing else may at the same time. What cannot be written is tried again.
func (c *Control) RecordStrangers(ctx context.Context) error {
	var now time.Time
	if err := c.ledger.Read(ctx, func(v View) error { now = v.Now(); return nil }); err != nil {
		return err
	}
	list := c.strangers.due(now)
	if err := c.ledger.NoteStrangers(ctx, list); err != nil {
		return err
	}
	c.strangers.wrote(list, now)
	return nil
}

// Unknown lists those who called and are in no catalog, the last one seen first, at most limit, after a given one (nil: from
// the beginning). more tells whether to ask again, after next. For whoever may read evidence. Who the catalog knows by now is
// left out, as far as issuer and subject tell: a match that asks for other claims cannot be seen here.
func (c *Control) Unknown(ctx context.Context, caller Caller, after *access.Stranger, limit int) (list []access.Stranger, next *access.Stranger, err error) {
	if err := c.MayReadEvidence(ctx, caller); err != nil {
		return nil, nil, err
	}
	err = c.ledger.Read(ctx, func(v View) error {
		s, err := c.snapshot(v)
		if err != nil {
			return err
		}
		found, err := v.Strangers(after, limit)
		if err != nil {
			return err
		}
		list, next = nil, nil
		for i := range found {
			if _, known := s.index.Identify(found[i].Issuer, found[i].Subject, nil); !known {
				list = append(list, found[i])
			}
		}
		if len(found) == limit {
			next = &found[limit-1]
		}
		return nil
	})
	return list, next, err
}
