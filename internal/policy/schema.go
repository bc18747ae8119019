package policy

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	cedarschema "github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/writ-project/writ/internal/access"
)

// schemaFile is where a bundle's schema stands.
const schemaFile = "schema.cedarschema"

// schema is a bundle's schema in the form that decisions are made by.
type schema struct {
	resolved *resolved.Schema
	enums    map[string]map[types.String]struct{}
	types    map[string]*entityType
	actions  map[access.Ref]*action
	// entities are the actions and their groups: Cedar needs them in the entity map, or action groups match nothing.
	entities     map[types.EntityUID]types.Entity
	readEntities *entityCache
	readArgs     *argsCache
}

type entityType struct {
	name       string
	parents    []string
	within     map[string]bool // this type and every type that can be above it
	attributes *shape
	enum       bool
}

type action struct {
	ref        access.Ref
	uid        types.EntityUID
	above      []types.EntityUID // every group it is in
	principals []string
	resources  []string
	context    *shape // nil for a group, which nothing can ask for
	counted    bool   // every use passes through Writ
	rules      []*rule
	counters   []*counter // those that an allowed request adds to
	reads      Reads
	tables     []table
}

func (a *action) args() *shape    { return a.context.get("args") }
func (a *action) derived() *shape { return a.context.get("derived") }

func uidOf(ref access.Ref) types.EntityUID {
	return types.EntityUID{Type: types.EntityType(ref.Type), ID: types.String(ref.ID)}
}

func refOf(uid types.EntityUID) access.Ref {
	return access.Ref{Type: string(uid.Type), ID: string(uid.ID)}
}

func isActionType(typ string) bool {
	return typ == access.TypeAction || strings.HasSuffix(typ, "::"+access.TypeAction)
}

// loadSchema reads the schema; it is nil if there are faults in it.
func loadSchema(text []byte, faults *faultList) *schema {
	whole := place{file: schemaFile}
	if line := tooDeep(string(text)); line > 0 {
		faults.add(place{file: schemaFile, line: line}, "%v", errNesting)
		return nil
	}
	var parsed cedarschema.Schema
	parsed.SetFilename(schemaFile)
	if err := parsed.UnmarshalCedar(text); err != nil {
		at, message := position(place{file: schemaFile, line: 1, column: 1}, err)
		faults.add(at, "%s", message)
		return nil
	}
	if tooLarge(parsed.AST()) {
		faults.add(whole, "with its common types put in, a schema has at most %d types, and its actions at most %d parents: name fewer types within types", MaxSchemaTypes, MaxActionParents)
		return nil
	}
	full, err := parsed.Resolve()
	if err != nil {
		faults.add(whole, "%v", err)
		return nil
	}
	s := &schema{resolved: full, readEntities: newEntityCache(), readArgs: newArgsCache()}
	s.build()
	before := len(faults.list)
	s.checkTypes(faults, whole)
	s.checkActions(faults, whole)
	if len(faults.list) > before {
		return nil
	}
	return s
}

var positioned = regexp.MustCompile(`(?s)^(.*?)(?:` + regexp.QuoteMeta(schemaFile) + `|<input>):(\d+):(\d+):? ?(.*)$`)

// The parser's message names the token after the wrong one, then says what it wanted.
var (
	parsedToken = regexp.MustCompile(`^"(?:[^"\\\\]|\\\\.)*": `)
	wantGot     = regexp.MustCompile(`^exact got (.*) want (.*)$`)
)

// position takes the place out of a parser's message; the parser counts from where its text begins.
func position(start place, err error) (place, string) {
	m := positioned.FindStringSubmatch(err.Error())
	if m == nil {
		return start, err.Error()
	}
	line, _ := strconv.Atoi(m[2])
	column, _ := strconv.Atoi(m[3])
	at := place{file: start.file, line: start.line + line - 1, column: column}
	if line <= 1 {
		at.line, at.column = start.line, start.column+max(column, 1)-1
	}
	if m[1] == "" || strings.HasSuffix(m[1], "parser error: ") {
		return at, m[4]
	}
	message := parsedToken.ReplaceAllString(m[4], "")
	return at, "parse error: " + wantGot.ReplaceAllString(message, "want $2, got $1")
}

func (s *schema) build() {
	s.enums = map[string]map[types.String]struct{}{}
	s.types = map[string]*entityType{}
	s.actions = map[access.Ref]*action{}
	s.entities = map[types.EntityUID]types.Entity{}
	for name, enum := range s.resolved.Enums {
		ids := map[types.String]struct{}{}
		for _, id := range enum.Values {
			ids[id.ID] = struct{}{}
		}
		s.enums[string(name)] = ids
		s.types[string(name)] = &entityType{name: string(name), enum: true, attributes: &shape{kind: kindRecord}}
	}
	for name, entity := range s.resolved.Entities {
		s.types[string(name)] = &entityType{name: string(name), parents: stringsOf(entity.ParentTypes), attributes: s.recordOf(entity.Shape)}
	}
	for _, t := range s.types {
		t.within = map[string]bool{}
		s.climb(t.name, t.within)
	}
	for uid, declared := range s.resolved.Actions {
		s.actions[refOf(uid)] = s.actionOf(uid, declared)
		s.entities[uid] = declared.Entity
	}
}

func (s *schema) climb(typ string, within map[string]bool) {
	if within[typ] {
		return
	}
	within[typ] = true
	if t := s.types[typ]; t != nil {
		for _, parent := range t.parents {
			s.climb(parent, within)
		}
	}
}

func (s *schema) actionOf(uid types.EntityUID, declared resolved.Action) *action {
	a := &action{ref: refOf(uid), uid: uid, counted: declared.Annotations["uses"] == "counted"}
	seen := map[types.EntityUID]bool{}
	s.groups(uid, seen)
	a.above = slices.SortedFunc(maps.Keys(seen), compareUID)
	if declared.AppliesTo != nil {
		a.principals = stringsOf(declared.AppliesTo.Principals)
		a.resources = stringsOf(declared.AppliesTo.Resources)
		a.context = s.recordOf(declared.AppliesTo.Context)
	}
	return a
}

func compareUID(a, b types.EntityUID) int { return refOf(a).Compare(refOf(b)) }

func (s *schema) groups(uid types.EntityUID, seen map[types.EntityUID]bool) {
	for group := range s.resolved.Actions[uid].Entity.Parents.All() {
		if !seen[group] {
			seen[group] = true
			s.groups(group, seen)
		}
	}
}

func stringsOf(list []types.EntityType) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = string(list[i])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sortedActions are the schema's actions in a fixed order.
func (s *schema) sortedActions() []*action {
	return slices.SortedFunc(maps.Values(s.actions), func(a, b *action) int { return a.ref.Compare(b.ref) })
}

// canBeIn reports whether an entity of one type can be, or be in, one of another.
func (s *schema) canBeIn(typ, above string) bool {
	t := s.types[typ]
	return t != nil && t.within[above]
}
