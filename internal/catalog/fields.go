package catalog

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/internal/access"
)

// object is a mapping whose keys are known.
type object struct {
	*reader
	node    *yaml.Node
	values  map[string]*yaml.Node
	damaged bool // some key could not be read
}

// object reads a mapping. What names it in messages.
func (r *reader) object(n *yaml.Node, what string, keys ...string) (object, bool) {
	o := object{reader: r, node: n, values: make(map[string]*yaml.Node, len(keys))}
	switch {
	case r.bad[n]:
		return o, false
	case n.Kind != yaml.MappingNode:
		r.add(r.at(n), "%s is a mapping with the keys %s", what, strings.Join(keys, ", "))
		return o, false
	}
	for key, value := range pairs(n) {
		switch {
		case r.bad[key]:
			o.damaged = true
		case !slices.Contains(keys, key.Value):
			o.damaged = true
			r.add(r.at(key), "unknown key %s: %s", quote(key.Value), remedy(key.Value, what, keys))
		default:
			o.values[key.Value] = value
		}
	}
	return o, true
}

func remedy(key, what string, keys []string) string {
	if near := nearest(key, keys); near != "" {
		return "write " + near
	}
	return "the keys of " + what + " are " + strings.Join(keys, ", ")
}

// require names a key that is missing, and what to write for it.
func (o object) require(key, example string) {
	if _, ok := o.values[key]; !ok && !o.damaged {
		o.add(o.at(o.node), "%s is missing: add %s: %s", key, key, example)
	}
}

// items reads a list of at most so many nodes, which is not empty.
func (r *reader) items(n *yaml.Node, key string, most int) ([]*yaml.Node, bool) {
	switch {
	case r.bad[n]:
	case n.Kind != yaml.SequenceNode:
		r.add(r.at(n), "%s is a list: write one entry a line, each after a dash, or remove the key", key)
	case len(n.Content) == 0:
		r.add(r.at(n), "%s is empty: list something or remove the key", key)
	case len(n.Content) > most:
		r.add(r.at(n), "%s has %d entries: list at most %d", key, len(n.Content), most)
	default:
		return n.Content, true
	}
	return nil, false
}

// plain reads a scalar that is not null, whatever it looks like.
func (r *reader) plain(n *yaml.Node, key string) (string, bool) {
	switch {
	case r.bad[n]:
	case n.Kind != yaml.ScalarNode:
		r.add(r.at(n), "%s is a single value: write no list or mapping", key)
	case n.Tag == "!!null" || n.Value == "":
		r.add(r.at(n), "%s is empty: give it a value or remove the key", key)
	default:
		return n.Value, true
	}
	return "", false
}

// textOf reads a scalar that is a text, of at most so many bytes.
func (r *reader) textOf(n *yaml.Node, key string, most int) (string, bool) {
	text, ok := r.plain(n, key)
	if !ok {
		return "", false
	}
	bad := strings.IndexFunc(text, func(c rune) bool { return !unicode.IsPrint(c) })
	switch {
	case n.Tag != "!!str" && n.Tag != "!!timestamp":
		r.add(r.at(n), "%s is a text: put %s into quotes", key, clipName(text))
	case len(text) > most:
		r.add(r.at(n), "%s has %d bytes: shorten it to at most %d", key, len(text), most)
	case bad >= 0:
		r.add(r.at(n), "%s holds an invisible or control character at byte %d: remove it", key, bad)
	default:
		return text, true
	}
	return "", false
}

// text reads an optional text.
func (o object) text(key string, most int) string {
	if n, ok := o.values[key]; ok {
		text, _ := o.textOf(n, key, most)
		return text
	}
	return ""
}

// prose reads an optional text of several lines; white space at its ends does not count.
func (o object) prose(key string) string {
	n, ok := o.values[key]
	if !ok || o.bad[n] || n.Kind != yaml.ScalarNode {
		return o.text(key, MaxTextLength)
	}
	flat := *n // lines and tabs are for the reader's eye; what remains must be printable
	flat.Value = strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' {
			return ' '
		}
		return c
	}, strings.TrimSpace(n.Value))
	if _, ok := o.textOf(&flat, key, MaxTextLength); !ok {
		return ""
	}
	return strings.TrimSpace(n.Value)
}

// matching reads an optional text that fits a pattern.
func (o object) matching(key string, most int, pattern *regexp.Regexp, rule string) string {
	n, ok := o.values[key]
	if !ok {
		return ""
	}
	text, ok := o.textOf(n, key, most)
	if ok && !pattern.MatchString(text) {
		o.add(o.at(n), "%s %s is not valid: %s", key, quote(text), rule)
		return ""
	}
	return text
}

const (
	labelRule = "use a-z, 0-9 and . _ : - and begin with a letter or digit"
	nameRule  = "use letters, digits and . _ - and begin with a letter or digit"
)

// Patterns are fixed at compile time and never change.
var (
	labelPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._:-]*$`)
	namePattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	pointer      = regexp.MustCompile(`^(/([^~/]|~[01])*)+$`) // RFC 6901
	wholeNumber  = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
)

func (o object) name() string {
	o.require("name", "some-name")
	return o.matching("name", MaxNameLength, namePattern, nameRule)
}

func (o object) label(key string) string {
	return o.matching(key, MaxLabelLength, labelPattern, labelRule)
}

// set reads an optional list of distinct texts, ordered.
func (o object) set(key string, most, length int, valid func(n *yaml.Node, text string) bool) []string {
	n, ok := o.values[key]
	if !ok {
		return nil
	}
	items, _ := o.items(n, key, most)
	var out []string
	seen := make(map[string]bool, len(items))
	for _, item := range items {
		text, ok := o.textOf(item, key, length)
		switch {
		case !ok:
		case seen[text]:
			o.add(o.at(item), "%s names %s twice: remove one", key, quote(text))
		case valid(item, text):
			seen[text] = true
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

func (o object) labels() []string {
	return o.set("labels", MaxLabels, MaxLabelLength, func(n *yaml.Node, text string) bool {
		if !labelPattern.MatchString(text) {
			o.add(o.at(n), "label %s is not valid: %s", quote(text), labelRule)
			return false
		}
		return true
	})
}

// date reads an optional date, kept as it is written: 2027-06-30.
func (o object) date(key string) string {
	n, ok := o.values[key]
	if !ok {
		return ""
	}
	text, ok := o.plain(n, key)
	if !ok {
		return ""
	}
	if _, err := time.Parse(time.DateOnly, text); err != nil {
		o.add(o.at(n), "%s %s is not a date: write year-month-day, such as 2027-06-30", key, quote(text))
		return ""
	}
	return text
}

// duration reads an optional duration in whole seconds between the bounds.
func (o object) duration(key string, least, most time.Duration) access.Seconds {
	n, ok := o.values[key]
	if !ok {
		return 0
	}
	text, ok := o.plain(n, key)
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		o.add(o.at(n), "%s %s is not a duration: write numbers with units, such as 15m or 1h30m", key, quote(text))
	case d%time.Second != 0:
		o.add(o.at(n), "%s %s is not whole seconds: round it", key, quote(text))
	case d < least || d > most:
		o.add(o.at(n), "%s %s is out of range: write %s to %s", key, quote(text), span(least), span(most))
	default:
		return access.Seconds(d / time.Second)
	}
	return 0
}

// span writes a duration without the zeros at its end: 720h, not 720h0m0s.
func span(d time.Duration) string {
	text := d.String()
	for _, end := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, end) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// number reads an optional whole number from 1.
func (o object) number(key string, most int) int {
	n, ok := o.values[key]
	if !ok {
		return 0
	}
	text, ok := o.plain(n, key)
	if !ok {
		return 0
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 || value > most || !wholeNumber.MatchString(text) {
		o.add(o.at(n), "%s %s is out of range: write a whole number from 1 to %d, or remove the key for no limit", key, quote(text), most)
		return 0
	}
	return value
}

// nearest is the key that a misspelt one most likely stands for, or "".
func nearest(key string, keys []string) string {
	best, least := "", 3 // more than two slips are another word
	for _, candidate := range keys {
		if d := slips(strings.ToLower(key), candidate); d < least && d < len(candidate) {
			best, least = candidate, d
		}
	}
	return best
}

// slips is the Levenshtein distance in bytes; texts of very different length are far apart.
func slips(a, b string) int {
	const far = 1 << 10
	if len(a)-len(b) > 2 || len(b)-len(a) > 2 {
		return far
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
