package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogWritesLateButErrorsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		handler := newLateLog(&out, slog.LevelInfo)
		log := slog.New(handler).With(slog.String("a", "b"))
		lines := func() int { return strings.Count(out.String(), "\n") }

		log.Info("one")
		log.Debug("not asked for")
		if lines() != 0 {
			t.Errorf("a line was written at once: %s", out.String())
		}
		time.Sleep(logDelay)
		synctest.Wait()
		if lines() != 1 {
			t.Errorf("%d lines after the delay, not 1", lines())
		}
		log.Info("two")
		log.Error("three")
		if lines() != 3 || strings.Index(out.String(), "two") > strings.Index(out.String(), "three") {
			t.Errorf("an error did not bring what came before it: %s", out.String())
		}
		log.Info("four")
		handler.close()
		if lines() != 4 {
			t.Errorf("close left %d of 4 lines", lines())
		}
	})
}
