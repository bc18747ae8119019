package sandbox_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/sandbox"
)

// start runs the starter site.
func start(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	server, err := sandbox.Start(t.Context(), sandbox.Options{
		Folder: t.TempDir(), Site: starterSite,
		Limits: app.Limits{RequestsPerSecond: 1e6, Burst: 1e6, EvidencePerHour: 1 << 40, OpenQuestions: 1e6},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func starterSite(issuer string) map[string][]byte {
	files, err := starter.Site(issuer)
	if err != nil {
		panic(err)
	}
	return files
}

func as(t *testing.T, server *sandbox.Sandbox, identity string) *client.Client {
	t.Helper()
	c, err := client.New(server.URL, client.Options{Token: func(context.Context) (string, error) {
		return server.Token(access.MustRef(identity), time.Hour)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withToken adds a bearer token to every request.
type withToken struct{ token string }

func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+w.token)
	return http.DefaultTransport.RoundTrip(r)
}

// TestIndependentClientReadsTheServedLog has a log client that is not ours read and verify what a server serves, and
// verify a proof with nothing but the public key.
func TestIndependentClientReadsTheServedLog(t *testing.T) {
	server := start(t)
	orders, sam := as(t, server, `Workload::"order-system"`), as(t, server, `Human::"sam"`)
	for i := range 300 {
		_, err := orders.PushFacts(t.Context(), client.Facts{Facts: []client.Fact{
			{ID: fmt.Sprintf(`Order::"o-%d"`, i), Attributes: json.RawMessage(`{"status":"delivered","total":100}`)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := os.ReadFile(server.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		t.Fatal(err)
	}
	policy := torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(verifier.Name()), torchwood.SingleVerifierPolicy(verifier))
	token, err := server.Token(access.MustRef(`Human::"sam"`), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	fetcher, err := torchwood.NewTileFetcher(server.URL+"/log/", torchwood.WithHTTPClient(&http.Client{Transport: withToken{token}}))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := torchwood.NewClient(fetcher)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sam.EvidenceEntry(t.Context(), 0); err != nil { // may the auditor read? that is a decision, and an entry
		t.Fatal(err)
	}
	signed, err := fetcher.ReadEndpoint(t.Context(), "checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, _, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		t.Fatal(err)
	}
	read := int64(0)
	for range reader.AllEntries(t.Context(), checkpoint.Tree, 0) {
		read++
	}
	if reader.Err() != nil || read != checkpoint.N || read < 300 {
		t.Fatalf("%d of %d entries read: %v", read, checkpoint.N, reader.Err())
	}
	for _, index := range []int64{0, 255, 256, read - 1} {
		entry, err := sam.EvidenceEntry(t.Context(), index)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := sam.EvidenceProof(t.Context(), index)
		if err != nil {
			t.Fatal(err)
		}
		if err := torchwood.VerifyProof(policy, tlog.RecordHash(entry), proof); err != nil {
			t.Errorf("proof of entry %d: %v", index, err)
		}
		if bytes.Contains(entry, []byte("Order::")) {
			t.Errorf("entry %d names a resource", index)
		}
	}
}

// TestEntriesAreForAuditors shows the other side: hashes are public, entries are not.
func TestEntriesAreForAuditors(t *testing.T) {
	server := start(t)
	for _, path := range []string{"/log/checkpoint", "/log/tile/0/000.p/1", "/v1/evidence/0/proof"} {
		if status := get(t, server.URL+path); status != http.StatusOK {
			t.Errorf("%s: %d", path, status)
		}
	}
	for _, path := range []string{"/log/tile/entries/000.p/1", "/v1/evidence/0", "/v1/evidence/0/values"} {
		if status := get(t, server.URL+path); status != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", path, status)
		}
	}
	var problem *client.Problem
	if _, err := as(t, server, `Agent::"support-bot"`).EvidenceEntry(t.Context(), 0); !errors.As(err, &problem) || problem.Status != http.StatusForbidden {
		t.Errorf("an agent read the log: %v", err)
	}
}

func get(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	return response.StatusCode
}

// TestATokenIsForExactlyItsArguments reads the credential as its target would.
func TestATokenIsForExactlyItsArguments(t *testing.T) {
	server := start(t)
	_, err := as(t, server, `Workload::"order-system"`).PushFacts(t.Context(), client.Facts{Facts: []client.Fact{
		{ID: `Order::"o-1"`, Attributes: json.RawMessage(`{"status":"delivered","total":100}`)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	bot := as(t, server, `Agent::"support-bot"`)
	opened, err := bot.OpenTask(t.Context(), client.OpenTask{Type: "support", Purpose: "a customer complains"})
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]bool{}
	for _, args := range []string{`{"amount":20,"reason":"late"}`, `{"amount":21,"reason":"late"}`} {
		outcome, err := bot.Request(t.Context(), client.AccessRequest{Task: opened.Task.ID, Action: "refund", Resource: `Order::"o-1"`, Args: json.RawMessage(args)})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(outcome.Credential.Token, ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			Subject string `json:"sub"`
			ID      string `json:"jti"`
			Details []struct {
				Digest string `json:"args_digest"`
			} `json:"authorization_details"`
		}
		if err := json.Unmarshal(payload, &claims); err != nil {
			t.Fatal(err)
		}
		if claims.Subject != `Agent::"support-bot"` || claims.ID != outcome.Grant.ID || len(claims.Details) != 1 || !strings.HasPrefix(claims.Details[0].Digest, "sha256:") {
			t.Fatalf("%s", payload)
		}
		digests[claims.Details[0].Digest] = true
	}
	if len(digests) != 2 {
		t.Error("tokens for different arguments look the same")
	}
}
