package authn

import (
	"encoding/json"
	"math"
	"time"
)

const (
	maxSubjectLength = 2048 // the longest SPIFFE ID
	maxAudiences     = 64
	maxNumericDate   = 253402300799 // the end of year 9999
)

// Claims is what a verified token says.
type Claims struct {
	Issuer  string
	Subject string
	Expiry  time.Time
	// KeyID is the kid of the key that signed, as the issuer publishes it; may be empty.
	KeyID string
	// All holds every claim; numbers are json.Number. It is shared between
	// callers and must not be modified.
	All map[string]any
}

// numericDate reads a date (RFC 7519 section 2). The second result tells
// whether the claim is there, the third whether it is well formed.
func numericDate(claims map[string]any, name string) (t time.Time, present, ok bool) {
	value, present := claims[name]
	if !present {
		return time.Time{}, false, true
	}
	number, isNumber := value.(json.Number)
	if !isNumber {
		return time.Time{}, true, false
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > maxNumericDate {
		return time.Time{}, true, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), true, true
}

// audiences reads aud: a string, or a list of strings.
func audiences(value any) ([]string, bool) {
	switch aud := value.(type) {
	case string:
		return []string{aud}, aud != ""
	case []any:
		if len(aud) == 0 || len(aud) > maxAudiences {
			return nil, false
		}
		out := make([]string, len(aud))
		for i, one := range aud {
			s, ok := one.(string)
			if !ok || s == "" {
				return nil, false
			}
			out[i] = s
		}
		return out, true
	default:
		return nil, false
	}
}
