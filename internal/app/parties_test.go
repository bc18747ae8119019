package app

import (
	"strings"
	"testing"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/devidp"
	"github.com/writ-project/writ/internal/oauth"
)

func TestAPrincipalAudienceIsAnotherThanTheLogins(t *testing.T) {
	config := initialized(t, "http://127.0.0.1:1")
	config.Issuers[0].PrincipalAudience = config.Issuers[0].Audience
	if _, err := New(t.Context(), config, Options{}); err == nil || !strings.Contains(err.Error(), "issuers[0].principal_audience") {
		t.Error(err)
	}
}

// TestMetadataNamesWhatIsAccepted: without SPIFFE, or behind a proxy, no certificate reaches Writ.
func TestMetadataNamesWhatIsAccepted(t *testing.T) {
	config := initialized(t, "http://127.0.0.1:1")
	if got := config.accepts(); got.Certificates || got.SVIDs || !got.Tokens || got.URL != config.URL || len(got.Algorithms) == 0 {
		t.Errorf("tokens alone: %+v", got)
	}
	config.SPIFFE.Audience, config.Issuers = "writ", nil
	if got := config.accepts(); got.Certificates || !got.SVIDs || got.Tokens {
		t.Errorf("without TLS: %+v", got)
	}
	config.TLS.Certificate = "c"
	if got := config.accepts(); !got.Certificates {
		t.Errorf("with TLS: %+v", got)
	}
}

// TestShowingSomebodysTokenIsNoCallOfTheirs: who was handed tokens of others cannot use up the calls that those may make themselves.
func TestShowingSomebodysTokenIsNoCallOfTheirs(t *testing.T) {
	idp, err := devidp.Start(time.Now)
	check(t, err)
	t.Cleanup(func() { check(t, idp.Close()) })
	config := initialized(t, idp.URL())
	config.Issuers[0].PrincipalAudience = "people"
	config.Limits.Burst, config.Limits.RequestsPerSecond = 1, 1e-9
	a, err := New(t.Context(), config, Options{})
	check(t, err)
	t.Cleanup(func() { check(t, a.Close()) })
	verifier, err := newVerifier(config, Options{Now: time.Now})
	check(t, err)
	at := &gate{verifier: verifier, control: a.Control, url: config.URL}
	bob, err := idp.Token("bob", "people", time.Hour, map[string]any{"may_act": map[string]any{"sub": "support-bot"}})
	check(t, err)
	bot, err := idp.Token("report-bot", config.URL+oauth.ActorAudience, time.Hour, nil)
	check(t, err)
	for range 100 {
		human, err := at.principal(t.Context(), bob, access.MustRef(`Agent::"support-bot"`))
		if err != nil || human != access.MustRef(`Human::"bob"`) {
			t.Fatal(human, err)
		}
		actor, err := at.actor(t.Context(), bot)
		if err != nil || actor != access.MustRef(`Agent::"report-bot"`) {
			t.Fatal(actor, err)
		}
	}
	for _, subject := range []string{"bob", "report-bot", "support-bot"} {
		if _, err := a.Control.Identify(t.Context(), idp.URL(), subject, nil); err != nil {
			t.Errorf("%s: %v", subject, err)
		}
	}
}
