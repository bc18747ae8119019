package api_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/writ-project/writ/client"
)

func TestTheClientManagesIdentities(t *testing.T) {
	t.Parallel()
	w := newWorld(t, settings{})
	ctx := t.Context()
	sam := w.client("sam")
	var ids []string
	for query := (client.IdentityQuery{Limit: 2}); ; {
		page := must[*client.Identities](t)(sam.Identities(ctx, query))
		for i := range page.Identities {
			ids = append(ids, page.Identities[i].ID)
		}
		if page.Next == "" {
			break
		}
		query.After = page.Next
	}
	if len(ids) != 14 || !slices.IsSorted(ids) {
		t.Errorf("page by page: %v", ids)
	}
	owned := must[*client.Identities](t)(sam.Identities(ctx, client.IdentityQuery{Owner: `Human::"alice"`, Overdue: true}))
	if len(owned.Identities) != 0 {
		t.Errorf("overdue: %+v", owned)
	}
	must[*client.Done](t)(sam.RetireIdentity(ctx, client.StatusChange{Identity: `Workload::"gateway"`, Reason: "replaced"}))
	if shown := must[*client.RegisteredIdentity](t)(sam.Identity(ctx, `Workload::"gateway"`)); shown.Status != "retired" || !shown.Since.Equal(w.now.now()) {
		t.Errorf("retired: %+v", shown)
	}
	if _, err := sam.ResumeIdentity(ctx, client.StatusChange{Identity: `Workload::"gateway"`}); !errors.Is(err, &client.Problem{Code: "wrong_state"}) {
		t.Errorf("resumed: %v", err)
	}
	for i := range 5 {
		if _, err := w.client(fmt.Sprint("stranger-", i)).WhoAmI(ctx); !errors.Is(err, &client.Problem{Code: "identity_unknown"}) {
			t.Fatal(err)
		}
		w.now.advance(time.Second)
	}
	check(t, w.control.RecordStrangers(ctx))
	var subjects []string
	for after := ""; ; {
		page := must[*client.UnknownIdentities](t)(sam.UnknownIdentities(ctx, after, 2))
		for i := range page.Unknown {
			subjects = append(subjects, page.Unknown[i].Subject)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if want := []string{"stranger-4", "stranger-3", "stranger-2", "stranger-1", "stranger-0"}; !slices.Equal(subjects, want) {
		t.Errorf("page by page: %v", subjects)
	}
	if page := must[*client.UnknownIdentities](t)(sam.UnknownIdentities(ctx, "", 0)); len(page.Unknown) != 5 || page.Next != "" {
		t.Errorf("at once: %+v", page)
	}
}
