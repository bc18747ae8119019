package oauth

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

const maxParameters = 64

// form is what was sent, each parameter once; one without a value is as if it were not there (RFC 6749 section 3.2).
type form map[string]string

// parseForm reads a form strictly. Parameters that nobody knows are ignored, but given twice they are refused, too.
func parseForm(h http.Header, body []byte) (form, error) {
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset := params["charset"]
	encoding := strings.Join(h.Values("Content-Encoding"), ", ")
	if err != nil || len(h.Values("Content-Type")) > 1 || media != "application/x-www-form-urlencoded" || charset != "" && !strings.EqualFold(charset, "utf-8") || encoding != "" && encoding != "identity" {
		return nil, malformed("send one form, uncompressed, with Content-Type: application/x-www-form-urlencoded")
	}
	if len(body) > MaxBody || strings.Count(string(body), "&") >= maxParameters {
		return nil, malformed("the form has more than " + strconv.Itoa(maxParameters) + " parameters or " + strconv.Itoa(MaxBody) + " bytes")
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, malformed("the form cannot be read")
	}
	f := make(form, len(values))
	for name, given := range values {
		switch {
		case !plain(name) || len(given) == 1 && !plain(given[0]):
			return nil, malformed("the form must be UTF-8 without NUL")
		case len(given) > 1 && (name == "resource" || name == "audience"): // RFC 8693 section 2.2.2
			return nil, &fault{err: "invalid_target", code: codeForm, detail: name + " is given twice: a grant is for one resource, so ask for one at a time"}
		case len(given) > 1:
			return nil, malformed("a parameter is given twice")
		case given[0] != "":
			f[name] = given[0]
		}
	}
	return f, nil
}

func plain(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }
