package catalog

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/internal/access"
)

// The kinds of object a catalog holds, in the order in which they are listed.
const (
	KindIdentity         = "identity"
	KindTeam             = "team"
	KindResource         = "resource"
	KindCollection       = "collection"
	KindTaskType         = "task_type"
	KindFactSource       = "fact_source"
	KindEnforcementPoint = "enforcement_point"
)

// Parse reads a catalog from any number of files, by name. An error is Faults, all of all files at once.
// The catalog is ordered by id or name, and so are its lists that are sets (members, labels, openers …).
func Parse(files map[string][]byte) (access.Catalog, error) {
	p := &parser{
		declared: map[objectKey]place{},
		provider: map[string]string{},
		unread:   map[string]bool{},
	}
	if !p.tooMuch(files) {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			p.file(name, files[name])
		}
		p.check()
	}
	if err := p.err(); err != nil {
		return access.Catalog{}, err
	}
	order(&p.catalog)
	return p.catalog, nil
}

// parser is the state of one Parse over all files.
type parser struct {
	collector
	catalog  access.Catalog
	objects  int
	declared map[objectKey]place
	provider map[string]string // entity type → fact source
	unread   map[string]bool   // kinds of which a declaration could not be read: what refers to one may be right
	uses     []use
	sourced  []sourced
	guarded  []guarded
	members  graph // team → its members
	parents  graph // resource → its parents
	matches  []match
}

// objectKey names an object within a catalog.
type objectKey struct{ kind, name string }

func (p *parser) tooMuch(files map[string][]byte) bool {
	total := 0
	for _, data := range files {
		total += len(data)
	}
	switch {
	case len(files) > MaxFiles:
		p.add(place{}, "%d files: join them into at most %d", len(files), MaxFiles)
	case total > MaxTotalSize:
		p.add(place{}, "the files have %d bytes together: declare at most %d", total, MaxTotalSize)
	default:
		return false
	}
	return true
}

// reader reads one file.
type reader struct {
	*parser
	file string
	bad  map[*yaml.Node]bool // faulty in themselves, told already
}

func (p *parser) file(name string, data []byte) {
	r := &reader{parser: p, file: name, bad: map[*yaml.Node]bool{}}
	root := r.document(data)
	if root == nil {
		r.unreadAll()
		return
	}
	top, ok := r.object(root, "a catalog", "identities", "teams", "resources", "collections", "task_types", "fact_sources", "enforcement_points")
	if !ok || top.damaged {
		r.unreadAll()
	}
	r.list(top, "identities", KindIdentity, r.identity)
	r.list(top, "teams", KindTeam, r.team)
	r.list(top, "resources", KindResource, r.resource)
	r.list(top, "collections", KindCollection, r.collection)
	r.list(top, "task_types", KindTaskType, r.taskType)
	r.list(top, "fact_sources", KindFactSource, r.factSource)
	r.list(top, "enforcement_points", KindEnforcementPoint, r.enforcementPoint)
}

func (r *reader) at(n *yaml.Node) place { return place{r.file, n.Line, n.Column} }

func (r *reader) unreadAll() {
	for _, kind := range []string{KindIdentity, KindTeam, KindResource, KindTaskType, KindFactSource} {
		r.unread[kind] = true
	}
}

// list reads the objects under a top-level key.
func (r *reader) list(top object, key, kind string, read func(*yaml.Node) bool) {
	n, ok := top.values[key]
	if !ok {
		return
	}
	items, ok := r.items(n, key, MaxObjects)
	if !ok {
		r.unread[kind] = true
		return
	}
	for _, item := range items {
		if r.objects++; r.objects > MaxObjects {
			if r.objects == MaxObjects+1 {
				r.add(r.at(item), "more than %d objects: tell resources through a fact source and a collection instead", MaxObjects)
			}
			r.unreadAll()
			return
		}
		if !read(item) {
			r.unread[kind] = true
		}
	}
}

// declare registers an object under its name and reports whether it is the first of that name.
func (r *reader) declare(n *yaml.Node, kind, name string) bool {
	key := objectKey{kind, name}
	if before, ok := r.declared[key]; ok {
		r.add(r.at(n), "%s %s is already declared at %s: keep one of them", words(kind), name, before)
		return false
	}
	r.declared[key] = r.at(n)
	return true
}

// words writes a kind for people.
func words(kind string) string { return strings.ReplaceAll(kind, "_", " ") }

// order sorts the objects of a catalog by id or name.
func order(c *access.Catalog) {
	slices.SortFunc(c.Identities, func(a, b access.Identity) int { return a.ID.Compare(b.ID) })
	slices.SortFunc(c.Teams, func(a, b access.Team) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Resources, func(a, b access.Resource) int { return a.ID.Compare(b.ID) })
	slices.SortFunc(c.Collections, func(a, b access.Collection) int { return strings.Compare(a.Type, b.Type) })
	slices.SortFunc(c.TaskTypes, func(a, b access.TaskType) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.FactSources, func(a, b access.FactSource) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.EnforcementPoints, func(a, b access.EnforcementPoint) int { return a.Identity.Compare(b.Identity) })
}
