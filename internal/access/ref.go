package access

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// MaxIDLength bounds an entity id, and its type, in bytes (a SPIFFE ID has at most 2048).
const MaxIDLength = 2048

// Ref names an entity the way Cedar does: a type and an id, written Type::"id".
// The zero Ref names nothing.
type Ref struct {
	Type string
	ID   string
}

var typeName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*$`)

// ParseRef reads Type::"id". Inside the quotes only \" and \\ are escapes.
func ParseRef(text string) (Ref, error) {
	typ, quoted, ok := strings.Cut(text, `::"`)
	if !ok || !strings.HasSuffix(quoted, `"`) || len(typ) > MaxIDLength || !typeName.MatchString(typ) {
		return Ref{}, fmt.Errorf(`%q is not an entity: write Type::"id", such as Agent::"refund-bot"`, clip(text))
	}
	id, err := unescape(strings.TrimSuffix(quoted, `"`))
	if err != nil {
		return Ref{}, fmt.Errorf("%q is not an entity: %w", clip(text), err)
	}
	if id == "" || len(id) > MaxIDLength || !utf8.ValidString(id) { // JSON cannot carry anything but UTF-8 (I8)
		return Ref{}, fmt.Errorf("%q: an id has 1 to %d bytes of UTF-8", clip(text), MaxIDLength)
	}
	return Ref{Type: typ, ID: id}, nil
}

// MustRef is ParseRef for texts fixed in code and tests; it panics on a fault.
func MustRef(text string) Ref {
	ref, err := ParseRef(text)
	if err != nil {
		panic(err)
	}
	return ref
}

func unescape(text string) (string, error) {
	if !strings.ContainsAny(text, `"\`) {
		return text, nil
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return "", fmt.Errorf("a quote inside the id must be escaped")
		case '\\':
			i++
			if i == len(text) || text[i] != '"' && text[i] != '\\' {
				return "", fmt.Errorf(`only \" and \\ are escapes`)
			}
			out.WriteByte(text[i])
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), nil
}

func clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}

// ValidID reports whether a text can be an id that Writ gave: 1 to 64 letters, digits, points, underscores and hyphens, in ASCII.
func ValidID(text string) bool {
	const most = 64
	return text != "" && len(text) <= most && !strings.ContainsFunc(text, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-'
	})
}

// IsZero reports whether the Ref names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// String is the form that ParseRef reads.
func (r Ref) String() string {
	if r.IsZero() {
		return ""
	}
	id := r.ID
	if strings.ContainsAny(id, `"\`) {
		id = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(id)
	}
	return r.Type + `::"` + id + `"`
}

// Compare orders by type, then id.
func (r Ref) Compare(other Ref) int {
	if c := strings.Compare(r.Type, other.Type); c != 0 {
		return c
	}
	return strings.Compare(r.ID, other.ID)
}

// MarshalText writes the form that ParseRef reads; the zero Ref is empty.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (r *Ref) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Ref{}
		return nil
	}
	ref, err := ParseRef(string(text))
	if err != nil {
		return err
	}
	*r = ref
	return nil
}

// IsIdentity reports whether the type is one of those that can be a caller.
func (r Ref) IsIdentity() bool {
	return r.Type == TypeAgent || r.Type == TypeWorkload || r.Type == TypeHuman
}

// The entity types that Writ itself knows. Actions of Writ live in the same namespace.
const (
	TypeAgent        = "Agent"
	TypeWorkload     = "Workload"
	TypeHuman        = "Human"
	TypeTeam         = "Team"
	TypeTaskType     = "Writ::TaskType"
	TypeInstallation = "Writ::Installation"
	TypeAction       = "Action"
	TypeWritAction   = "Writ::Action"
)

// The administrative acts: actions of the same policy as any other request.
const (
	ActOpenTask       = "open_task"
	ActApplyCatalog   = "apply_catalog"
	ActActivatePolicy = "activate_policy"
	ActRevoke         = "revoke"
	ActSuspend        = "suspend"
	ActResume         = "resume"
	ActRetire         = "retire"
	ActRead           = "read"
	ActReadEvidence   = "read_evidence"
	ActErase          = "erase"
)

// Act is the action entity of an administrative act.
func Act(name string) Ref { return Ref{Type: TypeWritAction, ID: name} }

// Installation is the entity that acts on the whole of Writ are asked for.
func Installation() Ref { return Ref{Type: TypeInstallation, ID: "this"} }
