package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Erase removes values that lie beside an entry, for good. The entry's commitments stay, and an entry of its own says that
// they were erased and by which decision. A decision without its input can no longer be replayed; a grant without it is dead.
func (c *Control) Erase(ctx context.Context, caller Caller, index int64, slots []string, on Grounds) (*Answer, error) {
	if len(slots) == 0 || len(slots) > evidence.MaxCommitments {
		return nil, invalid(InvalidArgument, "name the values to erase: 1 to %d slots", evidence.MaxCommitments)
	}
	if err := checkReason(on.Reason); err != nil {
		return nil, err
	}
	slots = slices.Compact(slices.Sorted(slices.Values(slots)))
	var answer *Answer
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		var change event.Change
		answer, change, err = c.act(v, s, caller, act{
			name: access.ActErase, resource: access.Installation(), digest: digestOf(fmt.Sprintf("%d %q", index, slots)), approval: on.Approval,
		})
		if err != nil || answer.Decided.Outcome != access.Allow {
			return change, err
		}
		for _, slot := range slots {
			if _, err := v.Value(index, slot); errors.Is(err, access.ErrNotFound) {
				return event.Change{}, invalid(InvalidArgument, "there is no value %q beside entry %d", slot, index)
			} else if err != nil {
				return event.Change{}, err
			}
		}
		by := event.By{Kind: event.ByDecision, Decision: answer.ID}
		change.Drafts = append(change.Drafts, withReason([]event.Draft{{Event: &event.ValueErased{Index: index, Slots: slots, By: by}}}, on.Reason)...)
		return change, nil
	})
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	return answer, nil
}
