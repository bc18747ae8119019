package app

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/control"
	"github.com/writ-project/writ/internal/store"
)

// sealedTasks has an agent open tasks, read orders, and complete them, until everything of them is gone, in invented time.
func sealedTasks(t *testing.T, config Config, tasks int) {
	t.Helper()
	config.Limits.Burst = 10_000
	synctest.Test(t, func(t *testing.T) {
		a, err := New(t.Context(), config, Options{Now: time.Now})
		check(t, err)
		agent := control.Caller{Identity: access.MustRef(`Agent::"support-bot"`)}
		for i := range tasks {
			_, err = a.Control.PushFacts(t.Context(), control.Caller{Identity: access.MustRef(`Workload::"order-system"`)}, time.Time{}, []control.Told{
				{Entity: access.Entity{ID: access.MustRef(`Order::"o-1"`), Attributes: fmt.Appendf(nil, `{"status":"delivered","total":%d}`, 100+i)}},
			})
			check(t, err)
			answer, err := a.Control.OpenTask(t.Context(), agent, control.Opening{Type: "support", Purpose: "a customer complains", Duration: 600})
			check(t, err)
			if answer.Task == nil {
				t.Fatalf("no task: %+v", answer)
			}
			for range 3 {
				_, err := a.Control.Request(t.Context(), agent, control.Ask{
					Task: answer.Task.ID, Action: access.MustRef(`Action::"read_order"`), Resource: access.MustRef(`Order::"o-1"`),
				})
				check(t, err)
			}
			time.Sleep(time.Second) // of the bubble
			_, err = a.Control.CompleteTask(t.Context(), agent, answer.Task.ID)
			check(t, err)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		check(t, a.Close())
	})
}

// A real history is exported, pruned by age, verified and replayed from the archive, and goes on.
func TestAPrunedInstallationVerifiesAndReplays(t *testing.T) {
	config := initialized(t, "http://127.0.0.1:1")
	sealedTasks(t, config, 150)
	public, err := os.ReadFile(config.Log.VerifierKey)
	check(t, err)
	key := strings.TrimSpace(string(public))
	folder := t.TempDir()
	export := func() *store.Store {
		opened, err := store.OpenReadOnly(t.Context(), config.database(), key)
		check(t, err)
		_, err = opened.Export(t.Context(), folder, key, store.ExportOptions{Entries: true, Values: true})
		check(t, err)
		return opened
	}
	opened := export()
	before, err := Replay(t.Context(), opened, nil, nil)
	check(t, err)
	check(t, opened.Close())
	if before.Decisions < 600 || len(before.Mismatches) > 0 || before.Pruned > 0 {
		t.Fatalf("%+v", before)
	}

	running, err := New(t.Context(), config, Options{})
	check(t, err)
	if _, err := Prune(t.Context(), config, Pruning{Before: 1 << 40, Archive: folder}); !errors.Is(err, store.ErrInUse) {
		t.Error("pruned under a running server:", err)
	}
	check(t, running.Close())
	check(t, export().Close())

	if done, err := Prune(t.Context(), config, Pruning{OlderThan: 100 * 365 * 24 * time.Hour, Archive: folder}); err == nil && done.Entries > 0 {
		t.Errorf("what is young was pruned: %+v", done)
	}
	done, err := Prune(t.Context(), config, Pruning{OlderThan: time.Hour, Archive: folder})
	check(t, err)
	if done.Entries < 512 {
		t.Errorf("%+v", done)
	}
	archive, err := store.OpenArchive(folder, key)
	check(t, err)
	verified, err := store.Verify(t.Context(), config.database(), key, store.VerifyOptions{Archive: archive})
	check(t, err)
	if !verified.OK() || !verified.Complete() || verified.Pruned != done.Entries {
		t.Errorf("%v, %d pruned", verified.Findings, verified.Pruned)
	}
	opened, err = store.OpenReadOnly(t.Context(), config.database(), key)
	check(t, err)
	defer opened.Close()
	after, err := Replay(t.Context(), opened, archive, nil)
	check(t, err)
	if after.Decisions != before.Decisions || after.Erased != before.Erased || after.Pruned != 0 || len(after.Mismatches) > 0 {
		t.Errorf("from the archive %+v, before %+v", after, before)
	}
	alone, err := Replay(t.Context(), opened, nil, nil)
	check(t, err)
	if int64(alone.Pruned) != done.Entries || alone.Decisions >= before.Decisions || len(alone.Mismatches) > 0 {
		t.Errorf("without the archive: %+v", alone)
	}
	running, err = New(t.Context(), config, Options{})
	check(t, err)
	check(t, running.Close())
}
