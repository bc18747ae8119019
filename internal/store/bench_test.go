package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// one governed decision, as control makes it: a task, its grants, a counter are read; a grant and its traces are recorded.
func (f *fixture) decideOne(id string) error {
	_, err := f.Update(context.Background(), func(v *View) (event.Change, error) {
		if _, err := v.CatalogVersion(); err != nil {
			return event.Change{}, err
		}
		if _, err := v.Task("t1"); err != nil {
			return event.Change{}, err
		}
		if _, err := v.Precedent(bot, read1, "Doc", "support"); err != nil {
			return event.Change{}, err
		}
		return change(f.decided(id, "t1", bot, counts("c", 60, 1))), nil
	})
	return err
}

func BenchmarkDecision(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("c=%d", callers), func(b *testing.B) {
			f := open(b, func(o *Options) { o.Now = time.Now })
			f.record(f.taskOpened("t1", bot), statusOf(f.Pseudonym(bot), access.Active))
			var commits, next atomic.Int64
			f.beforeCommit = func(int) error { commits.Add(1); return nil }
			b.SetParallelism(max(callers/2, 1)) // for each of two processors
			b.ResetTimer()
			if callers == 1 {
				for b.Loop() {
					if err := f.decideOne(fmt.Sprint("d", next.Add(1))); err != nil {
						b.Fatal(err)
					}
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := f.decideOne(fmt.Sprint("d", next.Add(1))); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ReportMetric(float64(commits.Load())/float64(b.N), "flushes/op")
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	f := open(b)
	f.record(f.taskOpened("t1", bot))
	var drafts []event.Draft
	for i := range 5000 {
		drafts = append(drafts, f.decided(fmt.Sprint("d", i), "t1", bot, counts("c", 60, 1)))
	}
	f.record(drafts...)
	for b.Loop() {
		if _, err := Verify(b.Context(), f.path, f.key, VerifyOptions{Scratch: b.TempDir()}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(int64(b.N)*f.Size()), "µs/entry")
}
