package authn

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// maxKeys bounds a published key set.
const maxKeys = 128

// keyID is what makes a published key the same key: a cached token stays
// verified only while the key that verified it is published unchanged.
type keyID struct {
	thumbprint [32]byte // RFC 7638, SHA-256
	kid        string
	alg        jose.SignatureAlgorithm // empty when the issuer does not restrict it
}

type publicKey struct {
	id     keyID
	public any
}

// fits reports whether this key may verify the algorithm.
func (k publicKey) fits(alg jose.SignatureAlgorithm) bool {
	return (k.id.alg == "" || k.id.alg == alg) && fits(alg, k.public)
}

// keySet is one published set of keys. It is immutable.
type keySet struct {
	keys       []publicKey
	ids        map[keyID]struct{}
	generation uint64    // rises when the keys change
	fetched    time.Time // when the request for it was sent
}

func (s *keySet) has(id keyID) bool { _, ok := s.ids[id]; return ok }

// candidates are the keys that may have signed a token. named tells whether
// the set knows the kid at all, for whatever algorithm.
func (s *keySet) candidates(kid string, alg jose.SignatureAlgorithm) (keys []publicKey, named bool) {
	for _, key := range s.keys {
		if kid != "" && key.id.kid != kid {
			continue
		}
		named = named || kid != ""
		if key.fits(alg) {
			keys = append(keys, key)
		}
	}
	return keys, named
}

// parseKeySet reads a JWK set (RFC 7517 section 5). Keys that are not public
// signature keys of a supported kind are left out; a set without any is valid
// and accepts nothing, since that is how an issuer withdraws all its keys.
func parseKeySet(raw []byte) (*keySet, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if document.Keys == nil {
		return nil, errors.New(`key set: no "keys" member`)
	}
	if len(document.Keys) > maxKeys {
		return nil, fmt.Errorf("key set: %d keys, more than %d", len(document.Keys), maxKeys)
	}
	set := &keySet{ids: make(map[keyID]struct{})}
	for _, rawKey := range document.Keys {
		key, err := parsePublicKey(rawKey)
		if err != nil || set.has(key.id) {
			continue // RFC 7517 section 5: ignore what is not understood
		}
		set.keys = append(set.keys, key)
		set.ids[key.id] = struct{}{}
	}
	return set, nil
}

// parsePublicKey reads one public signature key. Private members are refused:
// a key whose private half was published proves nothing any more.
func parsePublicKey(raw json.RawMessage) (publicKey, error) {
	var members map[string]json.RawMessage
	if err := decodeObject(raw, &members); err != nil {
		return publicKey{}, err
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, ok := members[private]; ok {
			return publicKey{}, errors.New("it has a private member")
		}
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return publicKey{}, fmt.Errorf("it is not a supported JWK: %w", err)
	}
	if !usable(jwk.Key) || (jwk.Use != "" && jwk.Use != "sig") {
		return publicKey{}, errors.New("it is not a signature key of a supported kind and size")
	}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return publicKey{}, fmt.Errorf("it has no thumbprint: %w", err)
	}
	id := keyID{thumbprint: [32]byte(sum), kid: jwk.KeyID, alg: jose.SignatureAlgorithm(jwk.Algorithm)}
	return publicKey{id: id, public: jwk.Key}, nil
}

// follow numbers a freshly fetched set after the one that it replaces.
func (s *keySet) follow(old *keySet) {
	s.generation = 1
	if old != nil {
		s.generation = old.generation
		if !maps.Equal(s.ids, old.ids) {
			s.generation++
		}
	}
}
