package authn

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"
)

// header is what is read of a protected header (RFC 7515 section 4.1).
type header struct {
	alg, kid, typ string
	jwk           json.RawMessage
}

// jws is a compact serialisation that was taken apart and not verified yet.
type jws struct {
	header header
	claims map[string]any
}

// errAlgorithm says that the header names no algorithm that can be accepted at all.
var errAlgorithm = errors.New("its alg is not accepted")

// parseJWS takes a compact JWS with JSON claims apart (RFC 7519 section 7.2).
// The algorithm is looked at before anything else is decoded: whoever sends an
// unsigned token is told so, whatever its other parts look like. The errors are
// errAlgorithm and fixed words: nothing of the input is repeated.
func parseJWS(s string) (jws, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return jws{}, errors.New("it needs three parts separated by dots (an encrypted token has five and is not accepted)")
	}
	raw, err := decodePart(parts[0])
	if err != nil {
		return jws{}, err
	}
	head, err := parseHeader(raw)
	if err != nil {
		return jws{}, err
	}
	if !slices.Contains(supportedAlgorithms(), jose.SignatureAlgorithm(head.alg)) {
		return jws{}, errAlgorithm
	}
	raw, err = decodePart(parts[1])
	if err != nil {
		return jws{}, err
	}
	if _, err := decodePart(parts[2]); err != nil {
		return jws{}, err
	}
	claims, err := parseClaims(raw)
	if err != nil {
		return jws{}, err
	}
	return jws{header: head, claims: claims}, nil
}

// decodePart is strict, so that a signed token has exactly one spelling.
func decodePart(part string) ([]byte, error) {
	fault := errors.New("a part of it is not base64url without padding")
	if part == "" || strings.ContainsAny(part, "\r\n") { // the decoder would skip line breaks
		return nil, fault
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, fault
	}
	return raw, nil
}

func parseHeader(raw []byte) (header, error) {
	var members map[string]json.RawMessage
	if err := decodeObject(raw, &members); err != nil {
		return header{}, errors.New("its header is not a JSON object with unique names")
	}
	if _, ok := members["crit"]; ok {
		return header{}, errors.New("its header has crit, and no critical extension is supported; ask the issuer for a plain token")
	}
	if _, ok := members["b64"]; ok {
		return header{}, errors.New("its header has b64, which is not supported; ask the issuer for a plain token")
	}
	var h header
	for name, target := range map[string]*string{"alg": &h.alg, "kid": &h.kid, "typ": &h.typ} {
		value, ok := members[name]
		if ok && (json.Unmarshal(value, target) != nil || *target == "") {
			return header{}, errors.New("alg, kid and typ in its header must be strings that are not empty")
		}
	}
	h.jwk = members["jwk"]
	return h, nil
}

func parseClaims(raw []byte) (map[string]any, error) {
	var claims map[string]any
	if err := decodeObject(raw, &claims); err != nil {
		return nil, errors.New("its claims are not a JSON object with unique names")
	}
	return claims, nil
}

// decodeObject refuses what readers disagree about: duplicate names and broken
// Unicode (RFC 7493). Numbers stay json.Number, so that large ids keep all digits.
func decodeObject(raw []byte, target any) error {
	if !jsontext.Value(raw).IsValid() || jsontext.Value(raw).Kind() != '{' {
		return errors.New("not an I-JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(target)
}
