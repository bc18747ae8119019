package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/store"
	"github.com/writ-project/writ/internal/witness"
)

// cosignEvery is how often witnesses are asked, if the log has grown.
const cosignEvery = time.Second

const notCosigned = "a witness has not cosigned the log"

// cosigned is the log as it is published: under the newest checkpoint that enough witnesses have cosigned.
type cosigned struct {
	*store.Store

	client *witness.Client
	policy *evidence.CosignaturePolicy
	key    string // of the log
	log    *slog.Logger
	latest atomic.Pointer[published]
	alarm  atomic.Pointer[error] // a witness knows another history of this log; it stays until the process ends
}

// alarming tells what a person must look into from trouble that passes.
func alarming(err error) bool {
	return errors.Is(err, witness.ErrSawNewer) || errors.Is(err, witness.ErrInconsistent)
}

type published struct {
	evidence.Checkpoint

	signed []byte
}

// newCosigned checks the witnesses; nil where there are none.
func newCosigned(c Witnesses, s *store.Store, key string, log *slog.Logger) (*cosigned, error) {
	if len(c.Ask) == 0 {
		return nil, nil
	}
	o := witness.ClientOptions{LogKeys: []string{key}}
	keys := make([]string, 0, len(c.Ask))
	for _, w := range c.Ask {
		o.Witnesses = append(o.Witnesses, witness.Peer{URL: w.URL, Monitor: w.Monitor, Key: w.Key})
		keys = append(keys, w.Key)
	}
	client, err := witness.NewClient(o)
	if err != nil {
		return nil, fmt.Errorf("witnesses: %w", err)
	}
	policy, err := evidence.NewCosignaturePolicy(c.required(), keys...)
	if err != nil {
		return nil, fmt.Errorf("witnesses: %w", err)
	}
	return &cosigned{Store: s, client: client, policy: policy, key: key, log: log}, nil
}

// Checkpoint is the newest one that enough witnesses have cosigned, or the head as long as there is none.
func (c *cosigned) Checkpoint() []byte {
	if latest := c.latest.Load(); latest != nil {
		return latest.signed
	}
	return c.Store.Checkpoint()
}

// Proof proves an entry under that checkpoint, or under the head if the entry is newer.
func (c *cosigned) Proof(ctx context.Context, index int64) (evidence.Proof, error) {
	if latest := c.latest.Load(); latest != nil && index < latest.Size {
		return c.ProofAt(ctx, index, latest.Checkpoint, latest.signed)
	}
	return c.Store.Proof(ctx, index)
}

// start refuses a log that a witness proves another history of. A witness that does not answer is no reason, nor is one that claims
// what it cannot prove.
func (c *cosigned) start(ctx context.Context) error {
	if err := c.recall(ctx); err != nil {
		return err
	}
	err := c.ask(ctx)
	if alarming(err) {
		return fmt.Errorf("this log is not the one that its witnesses know: %w", err)
	}
	if err != nil {
		c.log.ErrorContext(ctx, notCosigned, slog.Any("error", err))
	}
	return nil
}

// recall reads what was kept before, or by another process.
func (c *cosigned) recall(ctx context.Context) error {
	signed, err := c.Cosigned(ctx)
	if err != nil || signed == nil {
		return err
	}
	checkpoint, _, err := c.policy.Check(signed, c.key)
	if err != nil {
		return nil //nolint:nilerr // it is of other witnesses, and has no authority
	}
	if latest := c.latest.Load(); latest != nil && latest.Size >= checkpoint.Size {
		return nil
	}
	if held, err := c.Holds(ctx, checkpoint); err != nil || !held { // it is no longer of this log
		return err
	}
	c.latest.Store(&published{checkpoint, signed})
	return nil
}

// loop has the log cosigned until the context ends. One of the processes that share a database asks, the others read.
func (c *cosigned) loop(ctx context.Context) {
	ticker := time.NewTicker(cosignEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if latest := c.latest.Load(); latest != nil && latest.Size == c.Size() {
			continue
		}
		leads, err := c.Leads(ctx)
		if err == nil && leads {
			err = c.ask(ctx)
		} else if err == nil {
			err = c.recall(ctx)
		}
		if alarming(err) {
			c.alarm.Store(&err)
		}
		if err != nil && ctx.Err() == nil {
			c.log.ErrorContext(ctx, notCosigned, slog.Any("error", err))
		}
	}
}

// ask has the head cosigned, keeps it if that was by enough, and returns what went wrong with any witness.
func (c *cosigned) ask(ctx context.Context) error {
	asked, err := c.client.Ask(ctx, c.Store.Checkpoint(), c.Consistency)
	if err != nil {
		return err
	}
	checkpoint, _, err := c.policy.Check(asked.Checkpoint, c.key)
	if err == nil {
		c.latest.Store(&published{checkpoint, asked.Checkpoint})
		err = c.KeepCosigned(ctx, asked.Checkpoint)
	}
	for i := range asked.Answers {
		var ahead *witness.Alarm
		if answer := &asked.Answers[i]; errors.Is(answer.Err, witness.ErrSawNewer) && errors.As(answer.Err, &ahead) && c.catchesUp(ctx, ahead.Known) {
			answer.Err = errOvertaken
		}
	}
	return errors.Join(err, asked.Err())
}

var errOvertaken = errors.New("another process has had a later checkpoint of this log cosigned meanwhile")

// catchesUp reports whether the log holds a checkpoint, or does soon: another process may have committed, and had it cosigned, a moment
// before this one has heard of it.
func (c *cosigned) catchesUp(ctx context.Context, known evidence.Checkpoint) bool {
	const soon, between = 2 * time.Second, 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	for c.Size() < known.Size {
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return false
		}
	}
	held, err := c.Holds(ctx, known)
	return held && err == nil
}
