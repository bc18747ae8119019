package authn

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
)

const agentID = "spiffe://a.example/agent"

// jwtSVID signs the claims of a good JWT-SVID with some changed; a nil value removes one.
func jwtSVID(t testing.TB, k signingKey, now time.Time, change map[string]any, header map[jose.HeaderKey]any) string {
	t.Helper()
	claims := map[string]any{"sub": agentID, "aud": []string{audience}, "exp": now.Add(5 * time.Minute).Unix(), "iat": now.Unix()}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	raw, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return k.sign(t, raw, header)
}

func TestVerifyJWTAcceptsTheAlgorithmsOfTheStandard(t *testing.T) {
	for _, alg := range []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
	} {
		t.Run(string(alg), func(t *testing.T) {
			c, key := newClock(), newKey(t, alg, "k")
			s := fromFiles(t, c.now, map[string][]byte{"a.example": bundleOf(t, nil, []signingKey{key}, nil)})
			token := jwtSVID(t, key, c.now(), map[string]any{"iss": "https://oidc.a.example"}, nil)
			want := Claims{
				Issuer: "spiffe://a.example", Subject: agentID, KeyID: "k", Expiry: epoch().Add(5 * time.Minute),
				All: map[string]any{
					"sub": agentID, "aud": []any{audience}, "iat": json.Number("1795435200"), "exp": json.Number("1795435500"), "iss": "https://oidc.a.example",
				},
			}
			for _, when := range []string{"first", "remembered"} {
				got, err := s.VerifyJWT(token)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: claims (-want +got):\n%s", when, diff)
				}
			}
		})
	}
}

// TestVerifyJWTRefusals has two accepted trust domains; each case bends one thing.
func TestVerifyJWTRefusals(t *testing.T) {
	c := newClock()
	key, other, eddsa := newKey(t, jose.ES256, "k"), newKey(t, jose.ES256, "other"), newKey(t, jose.EdDSA, "ed")
	rsa := newKey(t, jose.RS256, "rsa")
	root := newAuthority(t, "a.example", c.now())
	s := fromFiles(t, c.now, map[string][]byte{
		"a.example": bundleOf(t, []authority{root}, []signingKey{key, eddsa, rsa}, nil),
		"b.example": bundleOf(t, nil, []signingKey{other}, nil),
		"c.example": pemOf(newAuthority(t, "c.example", c.now())),
	})
	claims := func(change map[string]any) string { return jwtSVID(t, key, c.now(), change, nil) }
	header := func(change map[jose.HeaderKey]any) string { return jwtSVID(t, key, c.now(), nil, change) }
	at := func(d time.Duration) int64 { return c.now().Add(d).Unix() }
	sub := func(id any) string { return claims(map[string]any{"sub": id}) }
	good := claims(nil)
	parts := strings.Split(good, ".")
	unsigned := func(head string) string { return b64([]byte(head)) + "." + parts[1] + "." + parts[2] }
	stranger := newKey(t, jose.ES256, "k")
	rootKey := signingKey{alg: jose.ES256, kid: "k", private: root.key}
	nameless := signingKey{alg: jose.ES256, private: key.private}

	for _, test := range []struct {
		name  string
		token string
		want  Code
	}{
		{"a good JWT-SVID", good, ""},
		{"a good one of another accepted trust domain", jwtSVID(t, other, c.now(), map[string]any{"sub": "spiffe://b.example/agent"}, nil), ""},
		{"nothing", "", CodeTokenMissing},
		{"not a JWS", "hello", CodeTokenMalformed},
		{"longer than 16 kB", claims(map[string]any{"x": strings.Repeat("x", maxTokenLength)}), CodeTokenMalformed},
		{"a certificate", string(root.certificate.Raw), CodeTokenMalformed},

		{"alg none", unsigned(`{"alg":"none","kid":"k"}`), CodeTokenAlgorithm},
		{"alg none without a signature", b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", CodeTokenAlgorithm},
		{"alg HS256", unsigned(`{"alg":"HS256","kid":"k"}`), CodeTokenAlgorithm},
		{"alg EdDSA, which JWT-SVIDs have not", jwtSVID(t, eddsa, c.now(), nil, nil), CodeTokenAlgorithm},
		{"an algorithm that the key is not for", unsigned(`{"alg":"RS256","kid":"k"}`), CodeTokenAlgorithm},
		{"another curve than the key's", unsigned(`{"alg":"ES384","kid":"k"}`), CodeTokenAlgorithm},
		{"no alg", unsigned(`{"kid":"k"}`), CodeTokenAlgorithm},

		{"no kid", jwtSVID(t, nameless, c.now(), nil, nil), CodeTokenUnknownKey},
		{"an unknown kid", header(map[jose.HeaderKey]any{"kid": "x"}), CodeTokenUnknownKey},
		{"the kid of another key of the trust domain", header(map[jose.HeaderKey]any{"kid": "rsa"}), CodeTokenAlgorithm},
		{"a stranger's key under the same kid", jwtSVID(t, stranger, c.now(), nil, nil), CodeTokenBadSignature},
		{"the key of the X.509 authority", jwtSVID(t, rootKey, c.now(), nil, nil), CodeTokenBadSignature},
		{"a signature over other claims", parts[0] + "." + strings.Split(sub("spiffe://a.example/admin"), ".")[1] + "." + parts[2], CodeTokenBadSignature},

		{"typ JOSE", header(map[jose.HeaderKey]any{"typ": "JOSE"}), ""},
		{"no typ", header(map[jose.HeaderKey]any{"typ": nil}), ""},
		{"typ of an access token", header(map[jose.HeaderKey]any{"typ": "at+jwt"}), CodeTokenMalformed},
		{"typ of a WIT-SVID", header(map[jose.HeaderKey]any{"typ": "wit+jwt"}), CodeTokenMalformed},
		{"typ in lower case", header(map[jose.HeaderKey]any{"typ": "jwt"}), CodeTokenMalformed},
		{"a critical header", header(map[jose.HeaderKey]any{"crit": []string{"exp"}}), CodeTokenMalformed},
		{"its own key in the header", jwtSVID(t, stranger, c.now(), nil, map[jose.HeaderKey]any{"jwk": stranger.public()}), CodeTokenBadSignature},

		{"no sub", sub(nil), CodeTokenMalformed},
		{"sub as a list", sub([]string{agentID}), CodeTokenMalformed},
		{"sub that is no SPIFFE ID", sub("agent"), CodeTokenMalformed},
		{"sub that is a web address", sub("https://a.example/agent"), CodeTokenMalformed},
		{"sub without a path", sub("spiffe://a.example"), CodeTokenMalformed},
		{"sub with the path /", sub("spiffe://a.example/"), CodeTokenMalformed},
		{"sub with a dot segment", sub("spiffe://a.example/x/../agent"), CodeTokenMalformed},
		{"sub with a trust domain in upper case", sub("spiffe://A.example/agent"), CodeTokenMalformed},
		{"sub with a scheme in upper case", sub("SPIFFE://a.example/agent"), CodeTokenMalformed},
		{"sub with a port", sub("spiffe://a.example:443/agent"), CodeTokenMalformed},
		{"sub of 2049 bytes", sub(agentID + strings.Repeat("x", maxSubjectLength-len(agentID)+1)), CodeTokenMalformed},
		{"sub with a trust domain of 256 bytes", sub("spiffe://" + strings.Repeat("a", maxTrustDomainName+1) + "/agent"), CodeTokenMalformed},
		{"sub of another trust domain than the key", sub("spiffe://b.example/agent"), CodeTokenUnknownKey},
		{"the same, under a kid of that trust domain", jwtSVID(t, key, c.now(), map[string]any{"sub": "spiffe://b.example/agent"}, map[jose.HeaderKey]any{"kid": "other"}), CodeTokenBadSignature},
		{"sub of an unknown trust domain", sub("spiffe://d.example/agent"), CodeTrustDomainUnknown},
		{"sub of a trust domain that has certificates only", sub("spiffe://c.example/agent"), CodeTokenUnknownKey},

		{"no aud", claims(map[string]any{"aud": nil}), CodeTokenMalformed},
		{"an empty aud", claims(map[string]any{"aud": []string{}}), CodeTokenMalformed},
		{"aud as one string", claims(map[string]any{"aud": audience}), ""},
		{"aud among others", claims(map[string]any{"aud": []string{"x", audience}}), ""},
		{"the wrong aud", claims(map[string]any{"aud": "https://target.example"}), CodeTokenWrongAudience},
		{"aud with a slash at the end", claims(map[string]any{"aud": audience + "/"}), CodeTokenWrongAudience},

		{"no exp", claims(map[string]any{"exp": nil}), CodeTokenMalformed},
		{"exp as a string", claims(map[string]any{"exp": "2030"}), CodeTokenMalformed},
		{"expired this instant", claims(map[string]any{"exp": at(0)}), CodeTokenExpired},
		{"expired long ago", claims(map[string]any{"exp": at(-time.Hour)}), CodeTokenExpired},
		{"issued within the skew", claims(map[string]any{"iat": at(defaultClockSkew)}), ""},
		{"issued in the future", claims(map[string]any{"iat": at(defaultClockSkew + time.Second)}), CodeTokenNotYetValid},
		{"not yet valid", claims(map[string]any{"nbf": at(time.Minute)}), CodeTokenNotYetValid},

		{"bound to a key", claims(map[string]any{"cnf": map[string]any{"jkt": b64(make([]byte, 32))}}), ""},
		{"bound in another way", claims(map[string]any{"cnf": map[string]any{"x5t#S256": b64(make([]byte, 32))}}), CodeTokenConfirmation},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := s.VerifyJWT(test.token)
			wantCode(t, err, test.want)
			if test.want != "" && !cmp.Equal(got, Claims{}) {
				t.Errorf("refused, but claims are %v", got)
			}
			if test.want == "" && (!strings.HasPrefix(got.Subject, got.Issuer+"/") || !got.Expiry.After(c.now())) {
				t.Errorf("claims = %+v", got)
			}
		})
	}
}

func TestRememberedJWTExpiresToTheInstant(t *testing.T) {
	c, key := newClock(), newKey(t, jose.ES256, "k")
	s := fromFiles(t, c.now, map[string][]byte{"a.example": bundleOf(t, nil, []signingKey{key}, nil)})
	token := jwtSVID(t, key, c.now(), nil, nil)
	for _, step := range []struct {
		advance time.Duration
		want    Code
	}{{0, ""}, {5*time.Minute - 1, ""}, {1, CodeTokenExpired}, {-time.Hour, CodeTokenNotYetValid}} {
		c.advance(step.advance)
		claims, err := s.VerifyJWT(token)
		wantCode(t, err, step.want)
		if step.want != "" && !cmp.Equal(claims, Claims{}) {
			t.Errorf("refused, but claims are %v", claims)
		}
	}
}

// TestBearerGoesToWhomItIsOf has an OIDC provider and a trust domain; SPIRE can be both.
func TestBearerGoesToWhomItIsOf(t *testing.T) {
	c, oidcKey, key := newClock(), newKey(t, jose.ES256, "o"), newKey(t, jose.ES256, "k")
	p := newIDP(t, oidcKey)
	v := newVerifier(t, p, c.now)
	s := fromFiles(t, c.now, map[string][]byte{"a.example": bundleOf(t, nil, []signingKey{key}, nil)})
	oidcToken := p.token(t, oidcKey, c.now(), nil)
	discovered := p.token(t, oidcKey, c.now(), map[string]any{"sub": agentID})
	svid := jwtSVID(t, key, c.now(), nil, nil)
	svidWithIssuer := jwtSVID(t, key, c.now(), map[string]any{"iss": "https://oidc.a.example"}, nil)

	for _, test := range []struct {
		name   string
		v      *Verifier
		s      *SPIFFE
		token  string
		issuer string
		want   Code
	}{
		{"an OIDC token", v, s, oidcToken, p.url, ""},
		{"a JWT-SVID", v, s, svid, "spiffe://a.example", ""},
		{"a JWT-SVID whose iss is not configured", v, s, svidWithIssuer, "spiffe://a.example", ""},
		{"a SPIFFE ID attested by a configured OIDC issuer", v, s, discovered, p.url, ""},
		{"a JWT-SVID that claims a configured OIDC issuer", v, s, jwtSVID(t, key, c.now(), map[string]any{"iss": p.url}, nil), "", CodeTokenUnknownKey},
		{"an OIDC token without iss that claims a SPIFFE ID", v, s, p.token(t, oidcKey, c.now(), map[string]any{"iss": nil, "sub": agentID}), "", CodeTokenUnknownKey},
		{"without SPIFFE, an OIDC token", v, nil, oidcToken, p.url, ""},
		{"without SPIFFE, a JWT-SVID", v, nil, svidWithIssuer, "", CodeTokenUnknownIssuer},
		{"without OIDC, a JWT-SVID", nil, s, svid, "spiffe://a.example", ""},
		{"without OIDC, an OIDC token", nil, s, oidcToken, "", CodeTokenMalformed},
		{"nothing", v, s, "", "", CodeTokenMissing},
		{"noise", v, s, "x", "", CodeTokenMalformed},
		{"too long", v, s, strings.Repeat("x", maxTokenLength+1), "", CodeTokenMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // the second time it may be remembered
				got, err := VerifyBearer(t.Context(), test.v, test.s, test.token)
				wantCode(t, err, test.want)
				if got.Issuer != test.issuer {
					t.Errorf("issuer = %q, want %q", got.Issuer, test.issuer)
				}
			}
		})
	}
}

// FuzzVerifyJWT compares with the verification of go-spiffe: what that one refuses, we never accept.
func FuzzVerifyJWT(f *testing.F) {
	key := newKey(f, jose.ES256, "k")
	s := fromFiles(f, time.Now, map[string][]byte{"a.example": bundleOf(f, nil, []signingKey{key}, nil)})
	theirs := jwtbundle.New(spiffeid.RequireTrustDomainFromString("a.example"))
	if err := theirs.AddJWTAuthority("k", key.private.Public()); err != nil {
		f.Fatal(err)
	}
	good, expired := jwtSVID(f, key, time.Now().Add(100*time.Hour), map[string]any{"iat": nil}, nil), jwtSVID(f, key, time.Unix(0, 0), nil, nil)
	for _, seed := range []string{good, expired, "", "..", "a.b.c", strings.Replace(good, ".", "..", 1)} {
		f.Add(seed, []byte(`{"sub":"`+agentID+`","aud":"`+audience+`","exp":9999999999}`))
	}
	f.Add(good, []byte(`{"sub":"spiffe://a.example/../x","aud":["`+audience+`"],"exp":1e10,"nbf":-1}`))
	f.Fuzz(func(t *testing.T, token string, payload []byte) {
		for _, token := range []string{token, key.sign(t, payload, nil)} {
			claims, err := s.VerifyJWT(token)
			var refusal *Error
			if err != nil {
				if !errors.As(err, &refusal) || refusal.Detail == "" {
					t.Fatalf("untyped or silent error: %v", err)
				}
				continue
			}
			judged, err := jwtsvid.ParseAndValidate(token, theirs, []string{audience})
			if err != nil {
				t.Fatalf("go-spiffe refuses what we accept: %v", err)
			}
			if judged.ID.String() != claims.Subject || !slices.Contains(judged.Audience, audience) {
				t.Fatalf("go-spiffe reads %v, we read %+v", judged, claims)
			}
		}
	})
}

func TestWithoutATransportNothingIsVerified(t *testing.T) {
	if _, err := NewSPIFFE(t.Context(), SPIFFEConfig{}, nil, time.Now, nil); err == nil {
		t.Error("accepted")
	}
	if _, err := NewSPIFFE(t.Context(), SPIFFEConfig{}, &http.Client{}, time.Now, nil); err == nil {
		t.Error("accepted")
	}
}
