package authn

import (
	"fmt"
	"sync"
	"time"
)

// replay remembers the proofs that were used, until they would be too old
// anyway. When it is full it refuses: forgetting one would allow its replay.
type replay struct {
	mu      sync.Mutex
	limit   int
	seen    map[[32]byte]struct{}
	expiry  map[int64][][32]byte // what to forget at the end of which second
	forgone int64                // seconds up to here are forgotten
}

func newReplay(limit int) *replay {
	return &replay{limit: limit, seen: make(map[[32]byte]struct{}), expiry: make(map[int64][][32]byte)}
}

// use marks a proof as used; it must be remembered until the given time.
func (r *replay) use(id [32]byte, until, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(now.Unix() - 1)
	second := until.Unix()
	if second <= r.forgone { // the clock was set back: whether it was used is no longer known
		return refuse(CodeProofStale, "the proof is too old; make a proof for each request")
	}
	if _, ok := r.seen[id]; ok {
		return refuse(CodeProofReplayed, "the proof was used before; make a proof with a new jti for each request")
	}
	if len(r.seen) >= r.limit {
		return refuse(CodeProofUnavailable, fmt.Sprintf("too many proofs are in use, so replays could not be told; try again in %s with a new proof", proofWindow))
	}
	r.seen[id] = struct{}{}
	r.expiry[second] = append(r.expiry[second], id)
	return nil
}

// forget drops what expired up to the given second, once a second.
func (r *replay) forget(upTo int64) {
	if upTo <= r.forgone {
		return
	}
	for second, ids := range r.expiry { // at most two windows of seconds
		if second <= upTo {
			for _, id := range ids {
				delete(r.seen, id)
			}
			delete(r.expiry, second)
		}
	}
	r.forgone = upTo
}
