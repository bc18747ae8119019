package app

import (
	"strings"
	"testing"
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
	if got := config.accepts(); got.Certificates || got.SVIDs || got.URL != config.URL || len(got.Algorithms) == 0 {
		t.Errorf("tokens alone: %+v", got)
	}
	config.SPIFFE.Audience = "writ"
	if got := config.accepts(); got.Certificates || !got.SVIDs {
		t.Errorf("without TLS: %+v", got)
	}
	config.TLS.Certificate = "c"
	if got := config.accepts(); !got.Certificates {
		t.Errorf("with TLS: %+v", got)
	}
}
