package control_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
)

// BenchmarkRequest is one governed request without HTTP, authentication and signature: facts, decision, evidence, flush.
func BenchmarkRequest(b *testing.B) {
	w := newWorld(b)
	w = unlimited(b, w)
	w.tell("o-1", "delivered", 120)
	task := w.open(support, "support")
	ask := control.Ask{Task: task, Action: access.MustRef(`Action::"read_order"`), Resource: order1, Args: json.RawMessage(`{}`)}
	request := func() {
		answer, err := w.Request(b.Context(), support, ask)
		if err != nil || answer.Decided.Outcome != access.Allow {
			b.Error(err)
		}
	}
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			request()
		}
	})
	b.Run("64 at once", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				request()
			}
		})
	})
}

// unlimited is the same world without limits per identity.
func unlimited(b *testing.B, w *world) *world {
	b.Helper()
	w.Control = control.New(control.Options{
		Ledger: ledger{w.store}, Issuer: tokens{}, Engine: "test", NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		Limits: control.Limits{RequestsPerSecond: 1e9, Burst: 1e9, EvidencePerHour: 1 << 50},
	})
	return w
}
