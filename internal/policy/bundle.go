package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	slashpath "path"
	"slices"
	"strings"
	"time"

	"github.com/writ-project/writ/internal/access"
)

// Source is the content of a bundle: path relative to the bundle's folder, with slashes, to bytes.
type Source map[string][]byte

// Catalog is what policies may name. An *access.Index is one.
type Catalog interface {
	// Has reports whether the entity is declared.
	Has(access.Ref) bool
	// External reports whether a fact source tells of the type's entities, so that ids need not be declared.
	External(typ string) bool
}

// Bundle is a loaded bundle. It is immutable and safe for concurrent use.
type Bundle struct {
	hash     string
	schema   *schema
	policies []*policy // ordered by id
	byID     map[string]*policy
	counters []*counter
	grace    time.Duration // of standing.yaml
	cases    []*testCase
}

// Load reads, checks and indexes a bundle. The error is Faults: all faults of all files.
func Load(src Source, catalog Catalog) (*Bundle, error) {
	faults := &faultList{}
	checkSource(src, faults)
	if len(faults.list) > 0 {
		return nil, faults.sorted()
	}
	b := &Bundle{hash: hashSource(src), byID: map[string]*policy{}}
	schemaText, ok := src[schemaFile]
	if !ok {
		faults.add(place{file: schemaFile}, "a bundle needs a schema")
	} else {
		b.schema = loadSchema(schemaText, faults)
	}
	b.loadPolicies(src, faults)
	b.grace = loadStanding(src[standingFile], faults)
	b.loadCases(src, faults)
	if b.schema != nil {
		b.complete(src, catalog, faults)
	}
	if list := faults.sorted(); len(list) > 0 {
		return nil, list
	}
	b.index()
	return b, nil
}

func checkSource(src Source, faults *faultList) {
	if len(src) > MaxFiles {
		faults.add(place{file: "."}, "a bundle has at most %d files, this one %d", MaxFiles, len(src))
		return
	}
	total := 0
	for _, file := range slices.Sorted(maps.Keys(src)) {
		total += len(src[file])
		if len(src[file]) > MaxFile {
			faults.add(place{file: file}, "a file has at most %d bytes, this one %d", MaxFile, len(src[file]))
		}
		if kindOf(file) == fileUnknown {
			faults.add(place{file: file}, "not part of a bundle: it holds schema.cedarschema, access/*.cedar, risk/*.cedar, derive.yaml, standing.yaml and tests/*.yaml")
		}
	}
	if total > MaxBundle {
		faults.add(place{file: "."}, "a bundle has at most %d bytes, this one %d", MaxBundle, total)
	}
}

type fileKind uint8

const (
	fileUnknown fileKind = iota
	fileSchema
	fileDerive
	fileStanding
	fileAccess
	fileRisk
	fileTests
)

func kindOf(file string) fileKind {
	folder, name := slashpath.Split(file)
	hidden := strings.HasPrefix(name, ".")
	switch {
	case file == schemaFile:
		return fileSchema
	case file == deriveFile:
		return fileDerive
	case file == standingFile:
		return fileStanding
	case folder == "access/" && !hidden && strings.HasSuffix(name, ".cedar"):
		return fileAccess
	case folder == "risk/" && !hidden && strings.HasSuffix(name, ".cedar"):
		return fileRisk
	case folder == "tests/" && !hidden && strings.HasSuffix(name, ".yaml"):
		return fileTests
	default:
		return fileUnknown
	}
}

// hashSource names the content: the SHA-256 of the archive.
func hashSource(src Source) string {
	sum := sha256.Sum256(Archive(src))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (b *Bundle) loadPolicies(src Source, faults *faultList) {
	for _, file := range slices.Sorted(maps.Keys(src)) {
		switch kindOf(file) {
		case fileAccess:
			b.policies = append(b.policies, parsePolicies(file, string(src[file]), false, faults)...)
		case fileRisk:
			b.policies = append(b.policies, parsePolicies(file, string(src[file]), true, faults)...)
		case fileUnknown, fileSchema, fileDerive, fileStanding, fileTests:
		}
	}
	if len(b.policies) > MaxPolicies {
		faults.add(place{file: "."}, "a bundle has at most %d policies, this one %d", MaxPolicies, len(b.policies))
	}
	for _, p := range b.policies {
		if first, ok := b.byID[p.id]; ok && p.id != "" {
			faults.add(p.annotationPlace("id"), "@id %q is taken by the policy at %s:%d", p.id, first.place.file, first.place.line)
			continue
		}
		b.byID[p.id] = p
	}
}

func (b *Bundle) complete(src Source, catalog Catalog, faults *faultList) {
	d := &deriver{schema: b.schema, faults: faults, named: map[string]bool{}}
	d.load(src[deriveFile])
	b.counters = d.counters
	c := newChecker(b.schema, catalog, faults)
	for _, p := range b.policies {
		c.check(p)
	}
}

// index orders the policies and makes each action know its own.
func (b *Bundle) index() {
	slices.SortFunc(b.policies, func(x, y *policy) int { return cmp.Compare(x.id, y.id) })
	for i, p := range b.policies {
		p.rank = i
	}
	actions := b.schema.sortedActions()
	for _, a := range actions {
		for _, p := range b.policies {
			if covers(p.ast.Action, a) {
				a.reads.add(p.uses.reads)
			}
		}
	}
	buildIndex(b.policies, actions)
}

// Hash names the bundle by its content: sha256:<hex>.
func (b *Bundle) Hash() string { return b.hash }

// Policies lists the policies for display, ordered by id.
func (b *Bundle) Policies() []Info {
	out := make([]Info, len(b.policies))
	for i, p := range b.policies {
		out[i] = p.info()
	}
	return out
}

// Declares reports whether the schema gives entities of the type the attribute; the caller fills only those.
func (b *Bundle) Declares(typ, attribute string) bool {
	t := b.schema.types[typ]
	return t != nil && t.attributes.get(attribute) != nil
}

// Parents lists the types that entities of the type can be directly in, ordered.
func (b *Bundle) Parents(typ string) []string {
	t := b.schema.types[typ]
	if t == nil {
		return nil
	}
	return slices.Clone(t.parents)
}

// Reads says what of the context the policies of an action can read. An unknown action reads nothing.
func (b *Bundle) Reads(action access.Ref) Reads {
	if a := b.schema.actions[action]; a != nil {
		return a.reads
	}
	return Reads{}
}

// Counter is what an allowed request adds to one counter of its subject.
type Counter struct {
	Name   string
	Window time.Duration
	Bucket time.Duration // the window's part that the amount is added to: Window / Buckets
	Amount int64         // 1, or the sum for a sum counter
}

// CounterWindow is a counter that an action's policies can read, for the caller to sum up.
type CounterWindow struct {
	Name   string
	Sum    bool // it belongs in Facts.Sums, else in Facts.Counts
	Window time.Duration
	Bucket time.Duration // read Buckets+1 of them, the current one last
}

// CountsUses reports whether every use of the action passes through Writ, so that uses can be bounded.
func (b *Bundle) CountsUses(action access.Ref) bool {
	a := b.schema.actions[action]
	return a != nil && a.counted
}

// Counters lists what the request adds when it is allowed, ordered by name. It lists nothing for a request that
// Decide answers with policy_error, nor for a right to lend: what is used under it counts by itself.
func (b *Bundle) Counters(r *access.Request) []Counter {
	if r.Mode == access.Delegate {
		return nil
	}
	a, err := b.schema.party(r)
	if err != nil {
		return nil
	}
	args, err := b.schema.argsOf(newReader(), a, r)
	if err != nil {
		return nil
	}
	amounts, err := (&inputs{action: a, request: r, args: args}).amounts()
	if err != nil {
		return nil
	}
	out := make([]Counter, len(amounts))
	for i, c := range a.counters {
		out[i] = Counter{Name: c.name, Window: c.window, Bucket: c.window / Buckets, Amount: amounts[i]}
	}
	return out
}

// CounterWindows lists the counters that the action's policies can read, ordered by name.
func (b *Bundle) CounterWindows(action access.Ref) []CounterWindow {
	a := b.schema.actions[action]
	if a == nil || a.context == nil {
		return nil
	}
	var out []CounterWindow
	for _, c := range b.counters {
		declared, read := a.context.get("counts"), a.reads.Counts
		if c.sum != nil {
			declared, read = a.context.get("sums"), a.reads.Sums
		}
		if read && declared.get(c.name) != nil {
			out = append(out, CounterWindow{Name: c.name, Sum: c.sum != nil, Window: c.window, Bucket: c.window / Buckets})
		}
	}
	return out
}
