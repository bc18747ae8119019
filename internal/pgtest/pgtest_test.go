package pgtest_test

import (
	"testing"

	"github.com/writ-project/writ/internal/pgtest"
)

func TestAServerKeepsWhatWasCommittedWhenItIsKilled(t *testing.T) {
	server, err := pgtest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := server.Database(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.SQL(t.Context(), "writ1", "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.SQL(t.Context(), "writ1", "SELECT 1/n FROM kept"); err != nil {
		t.Error(err)
	}
	if err := server.SQL(t.Context(), "writ1", "SELECT nonsense"); err == nil {
		t.Error("a wrong statement seemed to work")
	}
}
