package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
	"github.com/writ-project/writ/internal/policy"
)

// Replayed is what computing decisions again has shown (I8).
type Replayed struct {
	Decisions  int // computed again
	Erased     int // whose inputs have been erased
	Pruned     int // entries that were pruned, of which nobody looked whether they are decisions
	Mismatches []Mismatch
}

// Mismatch is a decision that cannot be computed again, or comes out otherwise.
type Mismatch struct {
	Evidence int64
	Decision string
	Detail   string
}

// Replay computes every decision among the first size entries again, from its entry, its input and the bundle it names,
// and compares. progress, if not nil, is told how many entries were read.
func (c *Control) Replay(ctx context.Context, size int64, progress func(read int64)) (*Replayed, error) {
	out := &Replayed{}
	bundles := map[string]*policy.Bundle{}
	err := c.ledger.Read(ctx, func(v View) error {
		for index := range size {
			if progress != nil && index%1000 == 0 {
				progress(index)
			}
			made, err := v.DecisionEvent(index)
			if errors.Is(err, access.ErrPruned) {
				out.Pruned++
				continue
			}
			if errors.Is(err, access.ErrNotFound) {
				continue // an entry of another kind
			}
			if err != nil {
				return err
			}
			if err := out.replay(v, bundles, index, &made); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func (r *Replayed) replay(v View, bundles map[string]*policy.Bundle, index int64, made *event.DecisionMade) error {
	in, err := v.Input(index)
	if errors.Is(err, access.ErrNotFound) {
		r.Erased++ // verify tells an erasure from tampering
		return nil
	}
	if err != nil {
		return err
	}
	r.Decisions++
	bundle, err := loadOnce(v, bundles, made.Bundle)
	if errors.Is(err, access.ErrUnavailable) {
		return err
	}
	if err != nil {
		r.mismatch(index, made, "the bundle %s cannot be had: %v", made.Bundle, err)
		return nil
	}
	var evaluator access.Evaluator = &snapshot{}
	if bundle != nil {
		evaluator = bundle
	}
	decided, limit := access.Settle(in, access.Decide(in, evaluator))
	if detail := differ(v.Pseudonym, made, in, &decided, limit); detail != "" {
		r.mismatch(index, made, "%s", detail)
	}
	return nil
}

func loadOnce(v View, bundles map[string]*policy.Bundle, hash string) (*policy.Bundle, error) {
	if hash == "" {
		return nil, nil // decided while no bundle was active
	}
	if bundle, ok := bundles[hash]; ok {
		return bundle, nil
	}
	content, err := v.BundleContent(hash)
	if err != nil {
		return nil, err
	}
	bundle, err := policy.LoadArchive(content, policy.AnyCatalog())
	if err == nil {
		bundles[hash] = bundle
	}
	return bundle, err
}

func (r *Replayed) mismatch(index int64, made *event.DecisionMade, format string, args ...any) {
	r.Mismatches = append(r.Mismatches, Mismatch{Evidence: index, Decision: made.ID, Detail: fmt.Sprintf(format, args...)})
}

// differ names the first thing in which the entry and the decision computed again are not the same.
func differ(name func(access.Ref) event.Pseudonym, made *event.DecisionMade, in *access.Input, decided *access.Decided, limit access.Limit) string {
	again := event.DecisionMade{}
	fill(&again, decided)
	switch {
	case made.Bundle != in.Bundle:
		return "the input is for another bundle"
	case made.Action != in.Request.Action || made.Subject != name(in.Request.Subject) || made.Resource != name(in.Request.Resource) || made.Principal != name(in.Request.Principal):
		return "the input is for another request"
	case made.Grant != nil && (made.Grant.Parent != in.Request.Parent || made.Grant.Mode != in.Request.Mode):
		return "the grant is not what was asked for"
	case made.Outcome != again.Outcome || made.Code != again.Code:
		return fmt.Sprintf("the entry says %s %s, computed again it is %s %s", made.Outcome, made.Code, again.Outcome, again.Code)
	case !slices.Equal(made.Policies, again.Policies):
		return "other policies determined it"
	case made.Risk != again.Risk || !slices.Equal(made.Factors, again.Factors):
		return fmt.Sprintf("the entry says risk %d, computed again it is %d", made.Risk, again.Risk)
	case !sameBounds(made.Bounds, again.Bounds):
		return "the bounds differ"
	case made.Grant != nil && (!made.Grant.ExpiresAt.Equal(limit.ExpiresAt) || made.Grant.MaxUses != limit.MaxUses):
		return "the grant's limits differ"
	case made.Asked != nil && !slices.EqualFunc(made.Asked.Requires, decided.Requires, func(a event.Asked, b access.Requirement) bool {
		return a.Policy == b.Policy && a.Hash == b.Hash && a.Form == b.Form
	}):
		return "the requirements differ"
	default:
		return ""
	}
}

func sameBounds(a, b access.Bounds) bool {
	return a.Until.Equal(b.Until) && a.MaxTTL == b.MaxTTL && a.MaxUses == b.MaxUses &&
		a.MaxTTLPolicy == b.MaxTTLPolicy && a.UntilPolicy == b.UntilPolicy && a.MaxUsesPolicy == b.MaxUsesPolicy
}
