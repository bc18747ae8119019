package policy

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/writ-project/writ/internal/access"
)

// class is what a policy does.
type class uint8

const (
	classPermit class = iota
	classForbid
	classApproval // a forbid that a human can answer
	classRisk
)

// bounds are what a permit's annotations say; the zero uses do not bound.
type bounds struct {
	ttl   access.Seconds
	until time.Time // the first instant after it
	uses  int64
}

// notes are a policy's annotations, read.
type notes struct {
	id      string
	owner   access.Ref
	because string
	control []string
	bounds  bounds
	form    access.ApprovalForm
	reason  bool           // whoever answers must say why
	fresh   access.Seconds // whoever says yes must have logged in no longer ago
	points  int64
}

var (
	idForm      = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	controlForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 .:/()_-]*$`)
)

// annotation is how one name of the closed set is read, where it may stand, and where it must.
type annotation struct {
	on       []class
	required []class
	form     string // in words, for the fault
	read     func(n *notes, text string) bool
}

func annotations() map[string]annotation {
	all := []class{classPermit, classForbid, classApproval, classRisk}
	permits := []class{classPermit}
	forbids := []class{classForbid, classApproval, classRisk}
	return map[string]annotation{
		"id":       {all, all, "lower-case letters, digits and dashes, at most 64", readID},
		"owner":    {all, all, `a human or a team, such as Human::"ann@example.com" or Team::"payments"`, readOwner},
		"because":  {forbids, forbids, "words for the approver and the owner, at most 500 bytes", readBecause},
		"max_ttl":  {permits, permits, "a duration in whole seconds from 1s to 24h, such as 15m", readMaxTTL},
		"until":    {permits, permits, "a date such as 2027-06-30", readUntil},
		"max_uses": {permits, nil, "a whole number from 1", readMaxUses},
		"approval": {[]class{classApproval}, nil, "resource-owner, team:NAME, 2 of team:NAME (up to 9), identity-owner or confirm", readApproval},
		"reason":   {[]class{classApproval}, nil, "required", readReason},
		"reauth":   {[]class{classApproval}, nil, "how long ago the approver may have logged in, a duration in whole seconds from 30s to 24h, such as 5m", readReauth},
		"points":   {[]class{classRisk}, []class{classRisk}, "a whole number from 1 to 1000", readPoints},
		"control":  {all, nil, "control ids with commas between, such as PR.AA-05, ASI03", readControl},
	}
}

func readID(n *notes, text string) bool {
	n.id = text
	return idForm.MatchString(text)
}

func readOwner(n *notes, text string) bool {
	ref, err := access.ParseRef(text)
	n.owner = ref
	return err == nil && (ref.Type == access.TypeHuman || ref.Type == access.TypeTeam)
}

func readBecause(n *notes, text string) bool {
	n.because = text
	return strings.TrimSpace(text) != "" && len(text) <= 500
}

func readMaxTTL(n *notes, text string) bool {
	d, err := time.ParseDuration(text)
	n.bounds.ttl = access.Seconds(d / time.Second)
	return err == nil && d >= time.Second && d <= 24*time.Hour && d%time.Second == 0
}

func readUntil(n *notes, text string) bool {
	day, err := time.Parse(time.DateOnly, text)
	n.bounds.until = day.AddDate(0, 0, 1)
	return err == nil
}

func readMaxUses(n *notes, text string) bool {
	uses, err := strconv.ParseInt(text, 10, 64)
	n.bounds.uses = uses
	return err == nil && uses > 0 && strconv.FormatInt(uses, 10) == text
}

func readApproval(n *notes, text string) bool {
	form, err := access.ParseApprovalForm(text)
	n.form = form
	return err == nil
}

func readReason(n *notes, text string) bool {
	n.reason = text == "required"
	return n.reason
}

func readReauth(n *notes, text string) bool {
	d, err := time.ParseDuration(text)
	n.fresh = access.Seconds(d / time.Second)
	return err == nil && d >= 30*time.Second && d <= 24*time.Hour && d%time.Second == 0
}

func readPoints(n *notes, text string) bool {
	points, err := strconv.ParseInt(text, 10, 64)
	n.points = points
	return err == nil && points >= 1 && points <= 1000 && strconv.FormatInt(points, 10) == text
}

func readControl(n *notes, text string) bool {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if !controlForm.MatchString(part) {
			return false
		}
		n.control = append(n.control, part)
	}
	return true
}

// readNotes reads a policy's annotations by the closed set.
func (p *policy) readNotes(faults *faultList) {
	known := annotations()
	for _, name := range slices.Sorted(maps.Keys(p.annotated)) {
		a, ok := known[name]
		at := p.annotationPlace(name)
		switch {
		case !ok:
			faults.add(at, "@%s is unknown%s: the annotations are %s", name, meant(name, known), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case !slices.Contains(a.on, p.class):
			faults.add(at, "@%s does not belong on a %s", name, p.class)
		case !a.read(&p.notes, p.annotated[name]):
			faults.add(at, "@%s(%q): want %s", name, clip(p.annotated[name]), a.form)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if _, ok := p.annotated[name]; !ok && slices.Contains(known[name].required, p.class) {
			faults.add(p.place, "this %s needs @%s(\"…\"): %s", p.class, name, known[name].form)
		}
	}
}

// String is the word for the class in faults.
func (c class) String() string {
	switch c {
	case classPermit:
		return "permit"
	case classForbid:
		return "plain forbid"
	case classApproval:
		return "forbid with @approval"
	case classRisk:
		return "risk policy"
	default:
		return "policy"
	}
}

// meant suggests the known name that a misspelt one is nearest to.
func meant(name string, known map[string]annotation) string {
	plain := strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	for _, candidate := range slices.Sorted(maps.Keys(known)) {
		if distance(plain, candidate) <= 2 {
			return ", perhaps @" + candidate
		}
	}
	return ""
}

// distance is how many characters must be put in, left out or changed (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// annotationPlace finds where an annotation stands in the policy's text.
func (p *policy) annotationPlace(name string) place {
	at := regexp.MustCompile(`@\s*` + regexp.QuoteMeta(name) + `\b`).FindStringIndex(p.text)
	if at == nil {
		return p.place
	}
	s := splitter{text: p.text, line: p.place.line, column: p.place.column}
	s.advance(at[0])
	return place{file: p.place.file, line: s.line, column: s.column}
}
