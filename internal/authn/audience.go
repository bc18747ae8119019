package authn

import "slices"

// Audience is for whom a token must have been made. The zero value is the API: aud holds the audience that the token's issuer is
// configured with.
type Audience struct {
	// Only, where it is not empty, is all that aud may hold: the form of a client assertion (RFC 7523, as its revision and
	// draft-ietf-oauth-spiffe-client-auth have it), which is good at no other place.
	Only string
	// Principal asks for the audience of tokens that show for whom an agent works, and refuses what is good at the API too: an agent
	// that was handed one must not be able to act as that person.
	Principal bool
}

func (a Audience) accepts(from *issuer, aud []string) bool {
	switch {
	case a.Only != "":
		return len(aud) == 1 && aud[0] == a.Only
	case a.Principal:
		return from.principal != "" && slices.Contains(aud, from.principal) && !slices.Contains(aud, from.audience)
	default:
		return slices.Contains(aud, from.audience)
	}
}

// madeFor refuses a genuine token that was made for somebody, or something, else.
func (e *entry) madeFor(audiences []Audience) error {
	if len(audiences) == 0 && (Audience{}).accepts(e.issuer, e.audience) {
		return nil
	}
	for _, one := range audiences {
		if one.accepts(e.issuer, e.audience) {
			return nil
		}
	}
	return refuse(CodeTokenWrongAudience, "the token was made for another audience; ask the issuer for one with the audience that this service is configured with for this purpose")
}
