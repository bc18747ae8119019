package api_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/api"
	"github.com/writ-project/writ/internal/authn"
	"github.com/writ-project/writ/internal/control"
)

func (w *world) client(subject string, change ...func(*client.Options)) *client.Client {
	w.t.Helper()
	options := client.Options{Token: func(context.Context) (string, error) { return w.token(subject), nil }}
	for _, c := range change {
		c(&options)
	}
	c, err := client.New(w.url, options)
	check(w.t, err)
	return c
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		check(t, err)
		return value
	}
}

// asked is a world with a large refund that waits for payments.
func asked(t *testing.T, set settings) (w *world, agent *client.Client, approval string) {
	t.Helper()
	w = newWorld(t, set)
	_, err := w.client("order-system").PushFacts(t.Context(), client.Facts{Facts: []client.Fact{
		{ID: `Order::"o-1"`, Attributes: json.RawMessage(`{"status":"delivered","total":500}`)},
	}})
	check(t, err)
	agent = w.client("support-bot")
	task := must[*client.Outcome](t)(agent.OpenTask(t.Context(), client.OpenTask{Type: "support", Purpose: "a parcel never came"})).Task
	outcome := must[*client.Outcome](t)(agent.Request(t.Context(), client.AccessRequest{
		Task: task.ID, Action: "refund", Resource: `Order::"o-1"`, Args: json.RawMessage(`{"amount":300,"reason":"lost"}`),
	}))
	if outcome.Decision.Outcome != client.NeedsApproval || outcome.Approval == nil {
		t.Fatalf("no question: %+v", outcome)
	}
	return w, agent, outcome.Approval.ID
}

// yes looks at a card, and says yes to it.
func yes(ctx context.Context, person *client.Client, id string) error {
	card, err := person.Approval(ctx, id)
	if err == nil {
		_, err = person.AnswerApproval(ctx, id, client.Reply{Approve: true, Card: card.Card})
	}
	return err
}

func TestTheClientWalksTheWholeWay(t *testing.T) {
	t.Parallel()
	w, agent, id := asked(t, settings{})
	ctx := t.Context()
	answered := make(chan error, 1)
	go func() {
		answered <- yes(ctx, w.client("bob"), id)
	}()
	approval := must[*client.Approval](t)(agent.WaitApproval(ctx, id))
	check(t, <-answered)
	if approval.Status != client.ApprovalApproved || approval.Account != nil {
		t.Fatalf("%+v", approval)
	}
	outcome := must[*client.Outcome](t)(agent.RedeemApproval(ctx, id))
	if outcome.Credential == nil || outcome.Credential.Token == "" || outcome.Grant == nil {
		t.Fatalf("no credential: %+v", outcome)
	}
	renewed := must[*client.Outcome](t)(agent.RenewGrant(ctx, outcome.Grant.ID, 60))
	if renewed.Decision.Outcome != client.NeedsApproval { // the yes was for one grant
		t.Errorf("renewing: %+v", renewed.Decision)
	}
	must[*client.Done](t)(agent.ReportAction(ctx, outcome.Grant.ID, client.Action{Status: "succeeded"}))
	must[*client.Done](t)(agent.RevokeGrant(ctx, outcome.Grant.ID, client.Revocation{Reason: "done"}))
	must[*client.Task](t)(agent.Heartbeat(ctx, outcome.Grant.Task))
	must[*client.Done](t)(agent.PauseTask(ctx, outcome.Grant.Task))
	must[*client.Outcome](t)(agent.ResumeTask(ctx, outcome.Grant.Task))
	must[*client.Done](t)(agent.CompleteTask(ctx, outcome.Grant.Task))
	must[*client.Done](t)(agent.RevokeTask(ctx, outcome.Grant.Task, client.Revocation{Reason: "again"}))
	if task := must[*client.Task](t)(agent.Task(ctx, outcome.Grant.Task)); task.Status != "ended" || task.Purpose == "" {
		t.Errorf("the task: %+v", task)
	}
	if grant := must[*client.Grant](t)(agent.Grant(ctx, outcome.Grant.ID)); grant.Live == nil || *grant.Live {
		t.Errorf("the grant: %+v", grant)
	}
	if decision := must[*client.Decision](t)(agent.Decision(ctx, outcome.Decision.ID)); decision.Account != nil {
		t.Errorf("the decision: %+v", decision)
	}
	if me := must[*client.Identity](t)(agent.WhoAmI(ctx)); me.Identity != `Agent::"support-bot"` {
		t.Errorf("me: %+v", me)
	}
	if held := must[*client.Access](t)(w.client("dana").Access(ctx, `Agent::"support-bot"`, w.now.now())); len(held.Access) != 0 {
		t.Errorf("held: %+v", held)
	}
}

func TestTheClientGoverns(t *testing.T) {
	t.Parallel()
	w, _, id := asked(t, settings{})
	ctx := t.Context()
	sam, bob := w.client("sam"), w.client("bob")
	if cards := must[[]client.Approval](t)(bob.Approvals(ctx)); len(cards) != 1 || cards[0].ID != id || !cards[0].MayAnswer {
		t.Errorf("cards: %+v", cards)
	}
	must[*client.Approval](t)(bob.Approval(ctx, id))
	must[*client.Done](t)(sam.SuspendIdentity(ctx, client.StatusChange{Identity: `Agent::"support-bot"`, Reason: "odd"}))
	must[*client.Done](t)(sam.ResumeIdentity(ctx, client.StatusChange{Identity: `Agent::"support-bot"`, Reason: "fine again"}))
	files := map[string]string{}
	for path, content := range w.site {
		files[path] = string(content)
	}
	applied := must[*client.Applied](t)(sam.Apply(ctx, client.Configuration{Files: files, DryRun: true}))
	if len(applied.Changes) > 0 || applied.Applied {
		t.Errorf("applied: %+v", applied)
	}
	_, err := sam.Apply(ctx, client.Configuration{Files: map[string]string{"policy/schema.cedarschema": "entity"}})
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != "invalid_configuration" || len(p.Faults) == 0 || p.Faults[0].File != "policy/schema.cedarschema" {
		t.Errorf("a broken schema: %v", err)
	}
	check(t, sam.Ready(ctx))
	must[[]byte](t)(sam.JWKS(ctx))
	must[[]byte](t)(sam.Metadata(ctx))
}

func TestEvidenceVerifiesOfflineAsServed(t *testing.T) {
	t.Parallel()
	w, agent, id := asked(t, settings{})
	ctx := t.Context()
	sam := w.client("sam")
	index := must[*client.Approval](t)(agent.Approval(ctx, id)).Evidence.Index
	entry := must[[]byte](t)(sam.EvidenceEntry(ctx, index))
	proof, err := evidence.ParseProof(must[[]byte](t)(agent.EvidenceProof(ctx, index)))
	check(t, err)
	if _, err := evidence.VerifyInclusion(proof, entry, w.key); err != nil {
		t.Error(err)
	}
	if _, err := evidence.VerifyInclusion(proof, append(entry, ' '), w.key); err == nil {
		t.Error("another entry verifies")
	}
	values := must[*client.Values](t)(sam.EvidenceValues(ctx, index))
	parsed, err := evidence.Parse(entry)
	check(t, err)
	commitments := must[map[string]evidence.Commitment](t)(parsed.Commitments())
	for slot, value := range values.Values {
		var disclosure evidence.Disclosure
		check(t, json.Unmarshal(value, &disclosure))
		if !commitments[slot].Opens(disclosure) {
			t.Errorf("the value in %s is not what the entry commits to", slot)
		}
	}
	if len(values.Values) == 0 {
		t.Error("no values")
	}
	checkpoint, err := evidence.OpenCheckpoint(must[[]byte](t)(agent.Checkpoint(ctx)), w.key)
	check(t, err)
	width := strconv.FormatInt(checkpoint.Size, 10)
	if tile := must[[]byte](t)(agent.Tile(ctx, "tile/0/000.p/"+width)); len(tile) != int(checkpoint.Size)*32 {
		t.Errorf("a tile of %d bytes", len(tile))
	}
	entries, err := evidence.DecodeBundle(must[[]byte](t)(sam.EntryBundle(ctx, "tile/entries/000.p/"+width)))
	check(t, err)
	if string(entries[index]) != string(entry) {
		t.Error("the bundle holds another entry")
	}
}

func TestCredentialsAreBoundToTheProvenKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, settings{})
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	nist, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	_, err = w.client("order-system").PushFacts(t.Context(), client.Facts{Facts: []client.Fact{
		{ID: `Order::"o-1"`, Attributes: json.RawMessage(`{"status":"delivered","total":500}`)},
	}})
	check(t, err)
	for name, key := range map[string]crypto.Signer{"Ed25519": edwards, "P-256": nist} {
		agent := w.client("support-bot", func(o *client.Options) { o.Key, o.Now = key, w.now.now })
		me := must[*client.Identity](t)(agent.WhoAmI(t.Context()))
		task := must[*client.Outcome](t)(agent.OpenTask(t.Context(), client.OpenTask{Type: "support", Purpose: "x"})).Task
		outcome := must[*client.Outcome](t)(agent.Request(t.Context(), client.AccessRequest{
			Task: task.ID, Action: "refund", Resource: `Order::"o-1"`, Args: json.RawMessage(`{"amount":10,"reason":"late"}`),
		}))
		if c := outcome.Credential; me.BoundTo == "" || c == nil || c.BoundTo != me.BoundTo || c.Type != "DPoP" {
			t.Errorf("%s: %+v %+v", name, me, outcome.Credential)
		}
	}
}

func TestRefusalsAreTypedErrors(t *testing.T) {
	t.Parallel()
	w, agent, id := asked(t, settings{})
	_, err := agent.RedeemApproval(t.Context(), id)
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != "approval_required" || p.Approval != id || p.Next == "" || p.RequestID == "" {
		t.Errorf("too early: %v", err)
	}
	if _, err := w.client("nobody").WhoAmI(t.Context()); !errors.Is(err, &client.Problem{Code: "identity_unknown"}) {
		t.Errorf("a stranger: %v", err)
	}
}

// A server that cannot know anybody must not say that the caller is unknown.
func TestAnIssuerThatIsDownIsNotTheCallersFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, settings{})
	token := w.token("support-bot")
	check(t, w.idp.Close())
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/whoami", nil)
	check(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(request)
	check(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
}

func TestWhatCannotBeKnownNowIsAskedAgain(t *testing.T) {
	for _, reason := range []authn.Code{authn.CodeIssuerUnavailable, authn.CodeProofUnavailable, authn.CodeTrustDomainUnavailable, authn.CodeProofStale} {
		err := &control.Invalid{Kind: control.AuthenticationMissing, Reason: string(reason), Temporary: reason.Temporary(), Detail: "d"}
		status, code := http.StatusServiceUnavailable, "issuer_unavailable"
		if reason == authn.CodeProofStale {
			status, code = http.StatusUnauthorized, "unauthenticated"
		}
		if p := api.ProblemOf(err); p.Status != status || p.Code != code || p.Reason != string(reason) || p.Next != err.Next() {
			t.Errorf("%s: %+v", reason, p)
		}
	}
}

func TestOnlySoManyMayWait(t *testing.T) {
	t.Parallel()
	w, _, id := asked(t, settings{MaxWaiting: 1})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		for {
			_, err := w.client("support-bot").WaitApproval(ctx, id)
			if !errors.Is(err, &client.Problem{Code: "limit_exceeded"}) { // a probe was there first
				first <- err
				return
			}
		}
	}()
	// The first place is taken at some moment after this; until then the probe returns the question itself.
	for {
		err := w.poll(t, "support-bot", id)
		if errors.Is(err, &client.Problem{Code: "limit_exceeded"}) {
			break
		}
		check(t, err)
	}
	must[*client.Approval](t)(w.client("support-bot").Approval(ctx, id)) // without waiting it may still be read
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("who waited: %v", err)
	}
}

// One identity cannot take the places of all others.
func TestOneIdentityHoldsOnlyItsShareOfWaiting(t *testing.T) {
	t.Parallel()
	w, _, id := asked(t, settings{MaxWaiting: 2, WaitingEach: 1})
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	wait := func(who string) {
		waiting.Go(func() {
			for ctx.Err() == nil { // until it has the place: a probe may be there first
				_, _ = w.client(who).WaitApproval(ctx, id)
			}
		})
	}
	full := func(who string) *client.Problem {
		for {
			err := w.poll(t, who, id)
			var p *client.Problem
			if errors.As(err, &p) && p.Code == "limit_exceeded" {
				return p
			}
			check(t, err)
		}
	}
	wait("support-bot")
	if p := full("support-bot"); p.Status != http.StatusTooManyRequests || !strings.Contains(p.Detail, "your calls") {
		t.Errorf("the agent: %+v", p)
	}
	check(t, w.poll(t, "dana", id)) // there is still room for others
	wait("dana")
	if p := full("bob"); strings.Contains(p.Detail, "your calls") {
		t.Errorf("bob, who does not wait: %+v", p)
	}
	cancel()
	waiting.Wait()
}

// A process that is about to end answers who waits with what is so, and lets nobody wait any more.
func TestNobodyWaitsForAProcessThatIsStopping(t *testing.T) {
	t.Parallel()
	w, agent, id := asked(t, settings{MaxWaiting: 1})
	waited := make(chan error, 1)
	var before, after *client.Approval
	go func() {
		err := &client.Problem{Code: "limit_exceeded"}
		for err != nil && err.Code == "limit_exceeded" { // a probe was there first
			before, err = w.read(t, "support-bot", id, "60s")
		}
		if err != nil {
			waited <- err
			return
		}
		waited <- nil
	}()
	for {
		err := w.poll(t, "support-bot", id)
		if errors.Is(err, &client.Problem{Code: "limit_exceeded"}) {
			break
		}
		check(t, err)
	}
	w.stop()
	check(t, <-waited) // long before its 60 seconds, or the test's own time is over
	after, p := w.read(t, "support-bot", id, "60s")
	if p != nil {
		t.Fatal(p)
	}
	if before.Status != client.ApprovalPending || after.Status != client.ApprovalPending {
		t.Errorf("%+v %+v", before, after)
	}
	must[*client.Identity](t)(agent.WhoAmI(t.Context())) // what is no wait is served as ever
}

// poll asks with the shortest wait there is.
func (w *world) poll(t *testing.T, who, id string) error {
	t.Helper()
	if _, p := w.read(t, who, id, "1ms"); p != nil {
		return p
	}
	return nil
}

// read asks once, and waits for the answer.
func (w *world) read(t *testing.T, who, id, wait string) (*client.Approval, *client.Problem) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/approvals/"+id+"?wait="+wait, nil)
	check(t, err)
	request.Header.Set("Authorization", "Bearer "+w.token(who))
	answer, err := http.DefaultClient.Do(request)
	check(t, err)
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		var approval client.Approval
		check(t, json.NewDecoder(answer.Body).Decode(&approval))
		return &approval, nil
	}
	var p client.Problem
	check(t, json.NewDecoder(answer.Body).Decode(&p))
	return nil, &p
}

// A read deadline of the server must not end a call that waits: the server reads ahead while it waits.
func TestALongPollOutlivesTheServersReadDeadline(t *testing.T) {
	t.Parallel()
	w, agent, id := asked(t, settings{ReadTimeout: 100 * time.Millisecond})
	card := must[*client.Approval](t)(w.client("bob").Approval(t.Context(), id))
	type result struct {
		approval *client.Approval
		err      error
	}
	done := make(chan result, 1)
	began := make(chan struct{})
	go func() {
		close(began)
		approval, err := agent.WaitApproval(t.Context(), id)
		done <- result{approval, err}
	}()
	<-began
	// Somebody answers only after the deadline would have fired.
	deadline := time.NewTimer(400 * time.Millisecond)
	defer deadline.Stop()
	<-deadline.C
	must[*client.Approval](t)(w.client("bob").AnswerApproval(t.Context(), id, client.Reply{Approve: true, Card: card.Card}))
	got := <-done
	check(t, got.err)
	if got.approval.Status != client.ApprovalApproved {
		t.Errorf("%+v", got.approval)
	}
	w.server.Close()
	polls := strings.Count(w.logs.String(), `"route":"GET /v1/approvals/{id}"`)
	if polls != 2 { // and bob's look
		t.Errorf("%d polls, want the first one to last", polls-1)
	}
}

// Full tiles never change, so caches may keep them for ever; partial ones may go.
func TestFullTilesAreImmutable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, settings{})
	source := w.client("order-system")
	for w.store.Size() < 256 {
		_, err := source.PushFacts(t.Context(), client.Facts{Facts: []client.Fact{{ID: `Order::"o-1"`, Attributes: json.RawMessage(`{"status":"delivered","total":500}`)}}})
		check(t, err)
	}
	for path, want := range map[string]string{
		"/log/tile/0/000": "public, max-age=31536000, immutable", "/log/tile/0/000.p/9": "public, max-age=60",
		"/log/tile/entries/000": "private, max-age=31536000, immutable",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, nil)
		check(t, err)
		request.Header.Set("Authorization", "Bearer "+w.token("sam"))
		answer, err := http.DefaultClient.Do(request)
		check(t, err)
		check(t, answer.Body.Close())
		if answer.StatusCode != http.StatusOK || answer.Header.Get("Cache-Control") != want {
			t.Errorf("%s: %d %q", path, answer.StatusCode, answer.Header.Get("Cache-Control"))
		}
	}
}
