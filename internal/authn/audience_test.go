package authn

import (
	"net/http"
	"slices"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// TestATokenIsGoodForWhatItWasMadeFor asks for the same tokens in each purpose, twice: what is remembered must not mix them.
func TestATokenIsGoodForWhatItWasMadeFor(t *testing.T) {
	const self, people, other = "https://self.example", "people", "https://other.example"
	key, c := newKey(t, jose.ES256, "k"), newClock()
	p := newIDP(t, key)
	v, err := New(Config{Issuers: []Issuer{{URL: p.url, Audience: audience, PrincipalAudience: people}}}, &http.Client{}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	s := fromFiles(t, c.now, map[string][]byte{"a.example": bundleOf(t, nil, []signingKey{key}, nil)})
	purposes := map[string][]Audience{
		"api": nil, "assertion": {{Only: self}}, "principal": {{Principal: true}}, "actor": {{}, {Only: self}},
	}
	for name, x := range map[string]struct {
		aud  any
		good []string
	}{
		"the API's":                    {audience, []string{"api", "actor"}},
		"this server's":                {self, []string{"assertion", "actor"}},
		"this server's, in a list":     {[]string{self}, []string{"assertion", "actor"}},
		"this server's, twice":         {[]string{self, self}, nil},
		"this server's, and another's": {[]string{self, other}, nil},
		"this server's, and the API's": {[]string{self, audience}, []string{"api", "actor"}},
		"a person's":                   {people, []string{"principal"}},
		"a person's, and another's":    {[]string{people, other}, []string{"principal"}},
		"a person's, good at the API":  {[]string{people, audience}, []string{"api", "actor"}},
		"somebody else's":              {other, nil},
	} {
		oidc, svid := p.token(t, key, c.now(), map[string]any{"aud": x.aud}), jwtSVID(t, key, c.now(), map[string]any{"aud": x.aud}, nil)
		for range 2 {
			for purpose, audiences := range purposes {
				want := CodeTokenWrongAudience
				if slices.Contains(x.good, purpose) {
					want = ""
				}
				t.Run(name+"/"+purpose, func(t *testing.T) {
					_, err := VerifyBearer(t.Context(), v, s, oidc, audiences...)
					wantCode(t, err, want)
					if purpose == "principal" { // no SVID is a person's
						want = CodeTokenWrongAudience
					}
					_, err = VerifyBearer(t.Context(), v, s, svid, audiences...)
					wantCode(t, err, want)
				})
			}
		}
	}
}

func TestAPrincipalAudienceIsAnother(t *testing.T) {
	if _, err := New(Config{Issuers: []Issuer{{URL: "https://idp.example", Audience: "a", PrincipalAudience: "a"}}}, &http.Client{}, epoch); err == nil {
		t.Error("a token handed to an agent would be good at the API")
	}
}

// TestAProofWithoutABearerToken is RFC 9449 section 5: whoever authenticates in another way has nothing to hash.
func TestAProofWithoutABearerToken(t *testing.T) {
	key, c := newKey(t, jose.ES256, ""), newClock()
	v := proofVerifier(t, 10, c.now)
	in := input(proofOf(t, key, c.now(), map[string]any{"ath": nil}, nil))
	_, err := v.VerifyProof(t.Context(), in)
	wantCode(t, err, CodeProofMismatch)
	in.AccessToken = ""
	_, err = v.VerifyProof(t.Context(), in)
	wantCode(t, err, CodeTokenMissing)
	in.Alone = true
	if jkt, err := v.VerifyProof(t.Context(), in); err != nil || jkt == "" {
		t.Errorf("%q, %v", jkt, err)
	}
	_, err = v.VerifyProof(t.Context(), in)
	wantCode(t, err, CodeProofReplayed)
}
