package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/writ-project/writ/internal/control"
)

const (
	maxDepth    = 32
	maxKey      = 128 // bytes of an idempotency key
	maxQuery    = 8 << 10
	readTimeout = 15 * time.Second // of a body of usual size
)

// checkQuery refuses parameters that the route does not take, or takes only once.
func checkQuery(r *http.Request, takes []string) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	if len(r.URL.RawQuery) > maxQuery {
		return fault(codeInvalidQuery, "the query is too long")
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fault(codeInvalidQuery, "the query cannot be read")
	}
	for name, given := range values {
		switch {
		case name == "access_token" || name == "token":
			return fault(codeInvalidQuery, "credentials do not belong in a URL, which is logged on its way: send the Authorization header, and replace this token")
		case !slices.Contains(takes, name):
			return fault(codeInvalidQuery, "unknown parameter "+quote(name)+wanted(takes))
		case len(given) > 1:
			return fault(codeInvalidQuery, "parameter "+quote(name)+" is given twice")
		}
	}
	return nil
}

func wanted(names []string) string {
	if len(names) == 0 {
		return ": this route takes none"
	}
	return ": this route takes " + strings.Join(names, ", ")
}

// readBody reads the whole body within its limits, and checks that it is strict JSON.
func (s *server) readBody(c *call, rt *route) error {
	most := s.MaxBody
	switch {
	case rt.body == configurationBody:
		most = s.MaxApplyBody
	case rt.maxBody > 0:
		most = rt.maxBody
	}
	data, err := c.readAll(most, readTimeout+rt.timeout)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return fault(codeTooLarge, "the body has more than "+strconv.FormatInt(most, 10)+" bytes")
	case err != nil:
		return fault(codeInvalidBody, "the body could not be read to its end")
	case len(data) == 0 && (rt.body == mustBody || rt.body == configurationBody):
		return fault(codeInvalidBody, "the body is empty: send a JSON object")
	case len(data) == 0:
		return nil
	case rt.body == anyBody:
		c.data = data
		return nil
	case rt.body == noBody:
		return fault(codeInvalidBody, "this call takes no body")
	}
	if err := checkContentType(c.Header); err != nil {
		return err
	}
	c.data = data
	return checkJSON(data)
}

// readAll reads the body, at most so many bytes in so much time.
func (c *call) readAll(most int64, within time.Duration) ([]byte, error) {
	if c.ContentLength == 0 {
		return nil, nil
	}
	connection := http.NewResponseController(c.w)
	_ = connection.SetReadDeadline(time.Now().Add(within)) // not every writer can
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, most))
	// A deadline that fires later would end the call: the server reads ahead to see whether the caller has gone.
	_ = connection.SetReadDeadline(time.Time{})
	return data, err
}

func checkContentType(h http.Header) error {
	if sent := h.Get("Content-Type"); sent != typeJSON {
		media, params, err := mime.ParseMediaType(sent)
		charset := params["charset"]
		if err != nil || media != typeJSON || charset != "" && !strings.EqualFold(charset, "utf-8") {
			return fault(codeMediaType, "send Content-Type: application/json")
		}
	}
	if encoding := h.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return fault(codeMediaType, "send the body uncompressed")
	}
	return nil
}

// checkJSON accepts one JSON object with each key once, valid UTF-8 and bounded depth. A null at the top could be taken
// for a false or a zero that nobody meant, so it is refused.
func checkJSON(data []byte) error {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(data)) // a buffer is read in place
	if decoder.PeekKind() != '{' {
		if _, err := decoder.ReadToken(); err != nil {
			return malformed(err)
		}
		return fault(codeInvalidBody, "the body must be one JSON object")
	}
	for {
		token, err := decoder.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return malformed(err)
		case decoder.StackDepth() > maxDepth:
			return fault(codeInvalidBody, "the body is nested deeper than "+strconv.Itoa(maxDepth)+" levels")
		case token.Kind() == 'n' && decoder.StackDepth() == 1:
			return fault(codeInvalidBody, quote(decoder.StackPointer().LastToken())+" is null: leave it out instead")
		case decoder.StackDepth() == 0 && len(bytes.TrimSpace(data[decoder.InputOffset():])) > 0:
			return fault(codeInvalidBody, "there is more after the end of the JSON object")
		}
	}
}

func malformed(err error) error {
	var syntax *jsontext.SyntacticError
	where := ""
	if errors.As(err, &syntax) {
		where = " (byte " + strconv.FormatInt(syntax.ByteOffset, 10) + ")"
	}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fault(codeInvalidBody, "a key is given twice in one object"+where)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fault(codeInvalidBody, "the JSON ends too early"+where)
	default:
		return fault(codeInvalidBody, "the body is not JSON in UTF-8"+where)
	}
}

// decode reads the body into a wire type: every field known, and the required ones there.
func decode[T any](c *call, required ...string) (T, error) {
	var out T
	if len(c.data) == 0 {
		return out, nil
	}
	var fields map[string]jsontext.Value
	if err := json.Unmarshal(c.data, &fields); err != nil {
		return out, malformed(err)
	}
	err := json.Unmarshal(c.data, &out, json.RejectUnknownMembers(true))
	var bad *json.SemanticError
	switch {
	case errors.As(err, &bad) && errors.Is(bad.Err, json.ErrUnknownName):
		return out, fault(codeUnknownField, "unknown field "+quote(string(bad.JSONPointer)))
	case errors.As(err, &bad):
		return out, fault(codeInvalidBody, "field "+quote(string(bad.JSONPointer))+" has the wrong type or form")
	case err != nil:
		return out, fault(codeInvalidBody, "the body does not fit this call")
	}
	for _, name := range required {
		if _, ok := fields[name]; !ok {
			return out, fault(codeInvalidBody, "field "+quote(name)+" is missing")
		}
	}
	return out, nil
}

// readKey takes the Idempotency-Key, where the route has one, bare or as a quoted string.
func (c *call) readKey(rt *route) error {
	values := c.Header.Values("Idempotency-Key")
	if len(values) == 0 || rt.method == http.MethodGet {
		return nil
	}
	if !rt.key {
		return fault(codeInvalidKey, "this call takes no Idempotency-Key")
	}
	key := values[0]
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	unprintable := strings.IndexFunc(key, func(r rune) bool { return r < '!' || r > '~' || r == '"' }) >= 0
	if len(values) > 1 || key == "" || len(key) > maxKey || unprintable {
		return fault(codeInvalidKey, "send one Idempotency-Key of 1 to "+strconv.Itoa(maxKey)+" printable characters")
	}
	c.key = &control.Idempotency{Key: key, Digest: digest(c.Method, c.URL.Path, c.data)}
	return nil
}

// digest is over method, path and body, each after its length.
func digest(method, path string, body []byte) [sha256.Size]byte {
	var text []byte
	for _, part := range [][]byte{[]byte(method), []byte(path), body} {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

// quote shows a text from outside, escaped and cut to a readable length.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}
