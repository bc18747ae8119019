package control

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/writ-project/writ/internal/access"
)

// Limits bound what one identity may cause. They come before evidence, so that nobody can fill the log.
type Limits struct {
	RequestsPerSecond float64 // sustained; 0 means 200
	Burst             int     // at once; 0 means 400
	EvidencePerHour   int64   // bytes of values and entries; 0 means 256 MiB
}

const (
	entrySize       = 1 << 10 // about what an entry costs besides its values
	defaultRate     = 200
	defaultBurst    = 400
	defaultEvidence = 256 << 20
	limiterIdle     = 2 * time.Hour // after which a full bucket is the same as none
)

type limiter struct {
	limits Limits

	mu      sync.Mutex
	buckets map[access.Ref]*buckets
	swept   time.Time
}

type buckets struct {
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
	return &limiter{limits: l, buckets: map[access.Ref]*buckets{}}
}

// allow takes one request of so many bytes from the identity's budget.
func (l *limiter) allow(identity access.Ref, size int, now time.Time) *Refusal {
	b := l.of(identity, now)
	switch {
	case !b.requests.AllowN(now, 1):
		return &Refusal{Code: access.CodeLimitExceeded, Detail: "too many requests of this identity"}
	case !b.bytes.AllowN(now, size+entrySize):
		return &Refusal{Code: access.CodeLimitExceeded, Detail: "too much evidence of this identity in an hour"}
	default:
		return nil
	}
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
			requests: rate.NewLimiter(rate.Limit(l.limits.RequestsPerSecond), l.limits.Burst),
			bytes:    rate.NewLimiter(rate.Limit(perSecond), int(l.limits.EvidencePerHour)),
		}
		l.buckets[identity] = b
	}
	b.used = now
	return b
}
