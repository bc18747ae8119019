package control

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Limits bound what one identity may cause. They come before evidence, so that nobody can fill the log.
type Limits struct {
	RequestsPerSecond float64 // sustained; 0 means 200
	Burst             int     // at once; 0 means 400
	EvidencePerHour   int64   // bytes of values and entries; 0 means 256 MiB
	OpenQuestions     int64   // that wait for people at once; 0 means 100
}

const (
	entrySize       = 1 << 10 // about what an entry costs besides its values
	defaultRate     = 200
	defaultBurst    = 400
	defaultEvidence = 256 << 20
	defaultOpen     = 100
	callsPerRequest = 4             // how many calls of any kind are allowed for each request
	limiterIdle     = 2 * time.Hour // after which a full bucket is the same as none
)

type limiter struct {
	limits Limits

	mu      sync.Mutex
	buckets map[access.Ref]*buckets
	swept   time.Time
}

type buckets struct {
	calls    *rate.Limiter // of any kind, also those that only read
	requests *rate.Limiter
	bytes    *rate.Limiter
	used     time.Time
}

func newLimiter(l Limits) *limiter {
	if l.RequestsPerSecond == 0 {
		l.RequestsPerSecond = defaultRate
	}
	if l.Burst == 0 {
		l.Burst = defaultBurst
	}
	if l.EvidencePerHour == 0 {
		l.EvidencePerHour = defaultEvidence
	}
	if l.OpenQuestions == 0 {
		l.OpenQuestions = defaultOpen
	}
	return &limiter{limits: l, buckets: map[access.Ref]*buckets{}}
}

// spending is what one call takes from its caller's limits. A decision that is made again is paid for once.
type spending struct {
	limits   *limiter
	identity access.Ref
	asked    bool
	bytes    int
}

func (p *spending) request(now time.Time) error {
	if p.asked || p.limits.of(p.identity, now).requests.AllowN(now, 1) {
		p.asked = true
		return nil
	}
	return &Refusal{Code: access.CodeLimitExceeded, Detail: "too many requests of this identity"}
}

// evidence takes what a change would add to the log and beside it.
func (p *spending) evidence(change *event.Change, now time.Time) error {
	size := 0
	for i := range change.Drafts {
		size += entrySize
		for _, value := range change.Drafts[i].Values {
			size += len(value)
		}
	}
	if size <= p.bytes || p.limits.of(p.identity, now).bytes.AllowN(now, size-p.bytes) {
		p.bytes = max(p.bytes, size)
		return nil
	}
	return &Refusal{Code: access.CodeLimitExceeded, Detail: "too much evidence of this identity in an hour"}
}

// update is the ledger's Update within the limits of the caller.
func (c *Control) update(ctx context.Context, caller Caller, decide func(View) (event.Change, error)) (event.Receipt, error) {
	spend := &spending{limits: c.limits, identity: caller.Identity}
	return c.ledger.Update(ctx, spend.on(decide))
}

func (p *spending) on(decide func(View) (event.Change, error)) func(View) (event.Change, error) {
	return func(v View) (event.Change, error) {
		if err := p.request(v.Now()); err != nil {
			return event.Change{}, err
		}
		change, err := decide(v)
		if err != nil {
			return event.Change{}, err
		}
		return change, p.evidence(&change, v.Now())
	}
}

var errRefused = errors.New("the act is refused")

// lessen is for what takes access away: if it is allowed, no budget of evidence stops it, and it has the reserved space.
// A refusal has no claim to either, or those whom policy refuses could use them up.
func (c *Control) lessen(ctx context.Context, caller Caller, decide func(View) (*Answer, event.Change, error)) (*Answer, error) {
	spend := &spending{limits: c.limits, identity: caller.Identity}
	var answer *Answer
	run := func(v View) (change event.Change, err error) {
		answer, change, err = decide(v)
		return change, err
	}
	receipt, err := c.ledger.Revoke(ctx, func(v View) (event.Change, error) {
		if err := spend.request(v.Now()); err != nil {
			return event.Change{}, err
		}
		change, err := run(v)
		if err == nil && answer.Decided.Outcome != access.Allow {
			return event.Change{}, errRefused
		}
		return change, err
	})
	if errors.Is(err, errRefused) {
		receipt, err = c.ledger.Update(ctx, spend.on(run))
	}
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	return answer, nil
}

func (l *limiter) of(identity access.Ref, now time.Time) *buckets {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) > limiterIdle {
		for ref, b := range l.buckets {
			if now.Sub(b.used) > limiterIdle {
				delete(l.buckets, ref)
			}
		}
		l.swept = now
	}
	b := l.buckets[identity]
	if b == nil {
		perSecond := float64(l.limits.EvidencePerHour) / time.Hour.Seconds()
		b = &buckets{
			calls:    rate.NewLimiter(rate.Limit(callsPerRequest*l.limits.RequestsPerSecond), callsPerRequest*l.limits.Burst),
			requests: rate.NewLimiter(rate.Limit(l.limits.RequestsPerSecond), l.limits.Burst),
			bytes:    rate.NewLimiter(rate.Limit(perSecond), int(l.limits.EvidencePerHour)),
		}
		l.buckets[identity] = b
	}
	b.used = now
	return b
}
