package store

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// A row that is copied under a new id changes what is read of both ids: nothing is known of it from the text.
func TestACopiedRowIsSuspected(t *testing.T) {
	f := open(t)
	f.record(f.taskOpened("t1", bot), f.decided("d1", "t1", bot))
	before := f.changes.now()
	f.record(event.Draft{Task: "t1", Event: &event.GrantReissued{ID: "d2", Replaces: "d1"}})
	for _, id := range []string{"d1", "d2"} {
		if !f.changes.since(before, &read{text: grantNumber, args: []any{id}}, &commit{}) {
			t.Errorf("%s is not suspected", id)
		}
	}
}

// A sum beyond 64 bits fails the one who asks for it, not those who share its batch; nor is it remembered as something else.
func TestAnOverflowIsOnesOwn(t *testing.T) { onEach(t, anOverflowIsOnesOwn) }

func anOverflowIsOnesOwn(t *testing.T, open opener) {
	h := hold(t, open)
	h.beforeCommit = nil
	h.record(h.taskOpened("t1", bot), h.taskOpened("t2", other), h.decided("d1", "t1", bot, counts("c", 60, math.MaxInt64-1)))
	h.beforeCommit = func(n int) error {
		h.sizes <- n
		return <-h.next
	}
	go func() {
		_, err := h.try(change(h.decided("d2", "t1", bot, counts("c", 120, 50))))
		fine(t)(event.Receipt{}, err)
		h.done <- struct{}{}
	}()
	<-h.sizes
	h.goUpdate(t.Context(), false, func(v *View) (event.Change, error) {
		_, err := v.Usage(bot, "c", 0)
		return change(h.decided("d3", "t1", bot)), err
	}, func(_ event.Receipt, err error) { wantErr(t, "who asks for the sum", err, access.ErrUnavailable) })
	h.goUpdate(t.Context(), false, func(*View) (event.Change, error) { return change(h.decided("e1", "t2", other)), nil }, fine(t))
	h.next <- nil
	<-h.sizes
	h.next <- nil
	for range 3 {
		<-h.done
	}
	h.beforeCommit = nil
	if total, err := h.view().Usage(bot, "c", 0); err == nil {
		t.Errorf("the sum is %d", total)
	}
	h.verifyClean()
}

// What a database or role sets for its sessions changes nothing; several hosts in one URL are refused.
func TestPostgresSessionsAreOurs(t *testing.T) {
	f := openPostgres(t)
	for _, setting := range []string{"default_transaction_isolation = 'repeatable read'", "default_transaction_read_only = on"} {
		f.sql(`DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET ` + strings.ReplaceAll(setting, "'", "''") + `'; END $$`)
	}
	f.reopen()
	second, err := Open(context.Background(), f.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	together(8, func(i int) {
		s := f.Store
		if i%2 == 1 {
			s = second
		}
		for range 10 {
			if _, err := s.Update(context.Background(), only(statusOf("p", access.Active))); err != nil {
				t.Error(err)
			}
		}
	})
	several := f.opts
	several.Database += ",/nowhere"
	if _, err := Open(t.Context(), several); !errors.Is(err, ErrUnsafePostgres) {
		t.Error("two hosts:", err)
	}
}

// A server that becomes unsafe while it serves grants nothing from the next look on; revoking goes on.
func TestAPostgresThatBecomesUnsafeOnlyRevokes(t *testing.T) {
	f := openPostgres(t)
	server := startedServer.Load()
	set := func(statement string) {
		t.Helper()
		if err := server.SQL(context.Background(), "postgres", statement, "SELECT pg_reload_conf()"); err != nil {
			t.Fatal(err)
		}
	}
	set("ALTER SYSTEM SET fsync = off")
	defer set("ALTER SYSTEM RESET fsync")
	for try := 0; f.Recover(t.Context()) == nil; try++ { // the server reads its configuration in its own time
		if try == 10_000 {
			t.Fatal("it is not noticed")
		}
	}
	_, err := f.try(change(statusOf("p", access.Active)))
	wantErr(t, "a change", err, access.ErrUnavailable)
	if _, err := f.Revoke(t.Context(), only(statusOf("p", access.Suspended))); err != nil {
		t.Error("revoking:", err)
	}
	set("ALTER SYSTEM RESET fsync")
	for try := 0; f.Recover(t.Context()) != nil; try++ {
		if try == 10_000 {
			t.Fatal("it does not recover")
		}
	}
	f.record(statusOf("p", access.Active))
}
