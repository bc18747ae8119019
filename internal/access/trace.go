package access

import (
	"regexp"
	"strings"
)

var traceparent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// TraceOf is the trace-id of a traceparent, given as all values of that header; empty without exactly one, and for one that is not as
// W3C Trace Context section 3.2.2 writes it, which is to be ignored.
func TraceOf(values []string) string {
	if len(values) != 1 || !traceparent.MatchString(values[0]) {
		return ""
	}
	id := values[0][3:35]
	if strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}
