package authn

import (
	"net/url"
	"strings"
)

// sameTarget compares two http URLs without query and fragment, after the
// normalisation of RFC 3986 sections 6.2.2 and 6.2.3 (RFC 9449 section 4.3).
func sameTarget(a, b string) bool {
	x, ok := normalTarget(a)
	if !ok {
		return false
	}
	y, ok := normalTarget(b)
	return ok && x == y
}

// normalTarget is the normal form; false for anything but a plain http(s) URL.
func normalTarget(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	defaultPort := "443"
	switch u.Scheme { // url.Parse has made it lower case
	case "https":
	case "http":
		defaultPort = "80"
	default:
		return "", false
	}
	host := strings.ToLower(u.Host)
	host = strings.TrimSuffix(host, ":")
	host = strings.TrimSuffix(host, ":"+defaultPort)
	return u.Scheme + "://" + host + normalPath(u), true
}

// normalPath has no needless escapes and no dot segments, and is never empty.
func normalPath(u *url.URL) string {
	escaped := normalEscapes(u.EscapedPath())
	plain, err := url.PathUnescape(escaped)
	if err != nil || plain == "" {
		return "/"
	}
	clean := url.URL{Scheme: u.Scheme, Host: u.Host, Path: plain, RawPath: escaped}
	return clean.ResolveReference(&clean).EscapedPath() // resolving removes dot segments
}

// normalEscapes decodes escaped unreserved characters and writes the rest in upper case.
func normalEscapes(path string) string {
	var out strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' { // EscapedPath holds only well-formed escapes
			out.WriteByte(path[i])
			continue
		}
		if c := unhex(path[i+1])<<4 | unhex(path[i+2]); isUnreserved(c) {
			out.WriteByte(c)
		} else {
			out.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return out.String()
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	default:
		return c - '0'
	}
}

// isUnreserved is RFC 3986 section 2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
