package control

import (
	"context"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

const maxAway = 366 * 24 * time.Hour

// Away is what an absence means.
type Away struct {
	Until      time.Time  // not after now: the person is there
	Substitute access.Ref // who is asked in their place; zero: nobody is
	Evidence   int64
}

// SetAway says until when the caller, a person, is away: whoever the catalog names as their substitute is asked in their place, and has
// their roles, until then. A time that is not after now says that they are back. Nobody says it for somebody else.
func (c *Control) SetAway(ctx context.Context, caller Caller, until time.Time) (*Away, error) {
	out := new(Away)
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		switch {
		case caller.Identity.Type != access.TypeHuman || !s.IsActive(caller.Identity):
			return event.Change{}, invalid(NotEligible, "only an active human is asked, and can be away")
		case until.After(v.Now().Add(maxAway)):
			return event.Change{}, invalid(InvalidArgument, "nobody is away for more than a year: have the catalog name somebody else")
		}
		*out = Away{Until: until}
		if identity, ok := s.index.Identity(caller.Identity); ok && until.After(v.Now()) {
			out.Substitute = identity.Substitute
		}
		return event.Change{Drafts: []event.Draft{{Event: &event.AwayChanged{Identity: v.Pseudonym(caller.Identity), Until: until}}}}, nil
	})
	if err != nil {
		return nil, err
	}
	c.changed.wakeAll() // what waits for people may wait for others now
	out.Evidence = receipt.Indexes[0]
	return out, nil
}
