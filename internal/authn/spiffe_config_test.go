package authn

import (
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestNewSPIFFEReportsAllFaultsAtOnce(t *testing.T) {
	c := newClock()
	root := newAuthority(t, "a.example", c.now())
	leaf := root.svid(t, "spiffe://a.example/agent", nil)
	good := writeFile(t, pemOf(root))
	const url = "https://a.example/bundle"
	_, err := NewSPIFFE(t.Context(), SPIFFEConfig{
		WorkloadAPI:  "tcp://192.0.2.1:8081",
		ClockSkew:    61 * time.Second,
		CacheSize:    -1,
		MaxBundleAge: time.Minute,
		TrustDomains: []TrustDomain{
			{Name: "", File: good},
			{Name: "A.example", File: good},
			{Name: "spiffe://a.example", File: good},
			{Name: "n3.example"},
			{Name: "n4.example", File: good, URL: url, Profile: ProfileWeb},
			{Name: "n5.example", File: good, Profile: ProfileWeb},
			{Name: "n6.example", URL: "http://127.0.0.1/bundle", Profile: ProfileWeb},
			{Name: "n7.example", URL: url},
			{Name: "n8.example", URL: url, Profile: ProfileWeb, EndpointID: "spiffe://n8.example/e"},
			{Name: "n9.example", URL: url, Profile: ProfileSPIFFE, EndpointID: "spiffe://n9.example"},
			{Name: "n10.example", URL: url, Profile: ProfileSPIFFE, EndpointID: "spiffe://n10.example/e"},
			{Name: "n11.example", URL: url, Profile: ProfileSPIFFE, EndpointID: "spiffe://n5.example/e", Bootstrap: good},
			{Name: "n12.example", File: filepath.Join(t.TempDir(), "absent")},
			{Name: "n12.example", File: writeFile(t, []byte("hello"))},
			{Name: "n14.example", File: writeFile(t, nil)},
			{Name: "n15.example", File: writeFile(t, pemOf(authority{certificate: leaf.Leaf}))},
			{Name: "n16.example", File: writeFile(t, []byte(`{"keys":[],"keys":[]}`))},
			{Name: "n17.example", File: writeFile(t, []byte(`{}`))},
			{Name: "n18.example", File: writeFile(t, []byte(strings.Repeat(" ", maxResponse+1)))},
			{Name: "n19.example", URL: url, Profile: ProfileSPIFFE, EndpointID: "spiffe://n19.example/e", Bootstrap: filepath.Join(t.TempDir(), "absent")},
			{Name: "n20.example", File: writeFile(t, bundleOf(t, nil, manyKeys(t, maxKeys+1), nil))},
		},
	}, &http.Client{}, c.now, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"audience: required", `workload_api: "tcp://192.0.2.1:8081" is not on this machine`,
		"clock_skew: 1m1s", "cache_size: -1", "max_bundle_age: 1m0s",
		"trust_domains[0].name: required",
		`trust_domains[1].name: "A.example" is not the name of a trust domain`,
		`trust_domains[2].name: "spiffe://a.example" is not the name of a trust domain`,
		"trust_domains[3].file, url: exactly one", "trust_domains[4].file, url: exactly one",
		"trust_domains[5].profile, endpoint_id, bootstrap: these go with url only",
		`trust_domains[6].url: "http://127.0.0.1/bundle" must be https`,
		`trust_domains[7].profile: "" is neither https_web nor https_spiffe`,
		"trust_domains[8].endpoint_id, bootstrap: these go with profile https_spiffe only",
		"trust_domains[9].endpoint_id: it names a trust domain and no workload",
		"trust_domains[10].bootstrap: required", "trust_domains[11].bootstrap: the endpoint is in another trust domain",
		"trust_domains[12].file: bundle: open", `trust_domains[13].name: "n12.example" is configured twice`,
		"trust_domains[13].file: bundle: neither a SPIFFE bundle nor certificates", "trust_domains[14].file: bundle: it is empty",
		"trust_domains[15].file: bundle: it holds a certificate that is no CA",
		"trust_domains[16].file: bundle: not a JSON object with unique names", "trust_domains[17].file: bundle: ",
		"trust_domains[18].file: bundle: the file is larger", "trust_domains[19].bootstrap: bundle: open",
		"trust_domains[20].file: bundle: 129 authorities, more than 128",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 27 {
		t.Errorf("%d faults, want 27:\n%v", got, err)
	}
}

func manyKeys(t testing.TB, n int) []signingKey {
	t.Helper()
	keys := make([]signingKey, n)
	key := newKey(t, jose.ES256, "")
	for i := range keys {
		keys[i] = key
		keys[i].kid = strings.Repeat("k", i+1)
	}
	return keys
}

func TestNewSPIFFERefusesToServeNobody(t *testing.T) {
	_, err := NewSPIFFE(t.Context(), SPIFFEConfig{Audience: "a"}, &http.Client{}, time.Now, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "workload_api, trust_domains: one of them is required") {
		t.Errorf("error = %v", err)
	}
}

func TestEndpointOfATrustDomainThatIsNotConfigured(t *testing.T) {
	cfg := SPIFFEConfig{Audience: "a", TrustDomains: []TrustDomain{
		{Name: "a.example", URL: "https://a.example", Profile: ProfileSPIFFE, EndpointID: "spiffe://hub.example/e"},
	}}
	if err := cfg.faults(); err == nil || !strings.Contains(err.Error(), `"hub.example" is not configured`) {
		t.Errorf("error = %v", err)
	}
	cfg.WorkloadAPI = "unix:///run/agent.sock" // may federate with it
	if err := cfg.faults(); err != nil {
		t.Error(err)
	}
}

func TestWorkloadAPIAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"": true, "unix:///run/agent.sock": true, "tcp://127.0.0.1:8081": true, "tcp://[::1]:8081": true,
		"unix:agent.sock": false, "tcp://localhost:8081": false, "tcp://127.0.0.1": false, "tcp://10.0.0.1:8081": false,
		"/run/agent.sock": false, "http://127.0.0.1:8081": false, "npipe:agent": false,
	} {
		if err := checkWorkloadAPI(address); (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
	}
}
