package catalog

import (
	"slices"
	"strings"

	"github.com/writ-project/writ/internal/access"
)

// want is what sort of thing a reference must name.
type want int

const (
	wantHuman    want = iota
	wantIdentity      // agent, workload or human
	wantParty         // identity or team
	wantResource
	wantAction
)

// fault says what is wrong with the sort of thing that is named, or "".
func (w want) fault(ref access.Ref) string {
	switch w {
	case wantHuman:
		if ref.Type != access.TypeHuman {
			return `name a human, such as Human::"ada"`
		}
	case wantIdentity:
		return identityType(ref.Type)
	case wantParty:
		if !ref.IsIdentity() && ref.Type != access.TypeTeam {
			return "name an Agent, a Workload, a Human or a Team"
		}
	case wantResource:
		return resourceType(ref.Type)
	case wantAction:
		if !isAction(ref.Type) {
			return `name an action, such as Action::"refund"`
		}
	}
	return ""
}

func identityType(typ string) string {
	if (access.Ref{Type: typ}).IsIdentity() {
		return ""
	}
	return "an identity is an Agent, a Workload or a Human"
}

// resourceType says why things of a type cannot be resources or told by fact sources, or "".
func resourceType(typ string) string {
	namespace, _, _ := strings.Cut(typ, "::")
	switch {
	case (access.Ref{Type: typ}).IsIdentity():
		return "the type belongs to identities: choose another"
	case typ == access.TypeTeam, namespace == "Writ", isAction(typ), strings.Contains(typ, "__cedar"):
		return "the type belongs to Writ or Cedar: choose another"
	default:
		return ""
	}
}

func isAction(typ string) bool {
	return typ == access.TypeAction || strings.HasSuffix(typ, "::"+access.TypeAction)
}

// use is a reference whose target must exist.
type use struct {
	at  place
	key string
	ref access.Ref
}

// sourced is a collection's claim that a fact source provides its type.
type sourced struct {
	at          place
	typ, source string
}

// guarded is an enforcement point's claim to guard a target.
type guarded struct {
	at     place
	target string
}

// check holds what only the whole catalog can tell.
func (p *parser) check() {
	for _, u := range p.uses {
		p.exists(u)
	}
	for _, s := range p.sourced {
		p.provides(s)
	}
	p.guards()
	for _, e := range p.members.cycles() {
		p.add(e.at, "teams are members of each other, %s: remove one of these memberships", strings.Join(e.names, " → "))
	}
	for _, e := range p.parents.cycles() {
		p.add(e.at, "resources are parents of each other, %s: remove one of these parents", strings.Join(e.names, " → "))
	}
	p.ambiguous()
}

// guards refuses to guard what no credential is for: a target that is misspelt would be guarded by nobody.
func (p *parser) guards() {
	if len(p.guarded) == 0 || p.unread[KindResource] || p.unread[KindCollection] {
		return
	}
	known := map[string]bool{}
	for i := range p.catalog.Resources {
		known[p.catalog.Resources[i].Target] = true
	}
	for i := range p.catalog.Collections {
		known[p.catalog.Collections[i].Target] = true
	}
	for _, g := range p.guarded {
		if !known[g.target] {
			p.add(g.at, "targets names %s, which is the target of no resource and no collection: correct it", quote(g.target))
		}
	}
}

func (p *parser) exists(u use) {
	kind, name, section := KindResource, u.ref.String(), "resources"
	switch {
	case u.ref.IsIdentity():
		kind, section = KindIdentity, "identities"
	case u.ref.Type == access.TypeTeam:
		kind, name, section = KindTeam, u.ref.ID, "teams"
	case p.provider[u.ref.Type] != "" || p.unread[KindFactSource]:
		return // external: its source tells which ids exist
	}
	if _, ok := p.declared[objectKey{kind, name}]; !ok && !p.unread[kind] {
		p.add(u.at, "%s names %s, which no file declares: add it to %s or correct the id", u.key, shown(u.ref), section)
	}
}

func (p *parser) provides(s sourced) {
	if p.unread[KindFactSource] || p.provider[s.typ] == s.source {
		return
	}
	if _, ok := p.declared[objectKey{KindFactSource, s.source}]; !ok {
		p.add(s.at, "source names %s, which no file declares: add it to fact_sources or correct the name", quote(s.source))
		return
	}
	p.add(s.at, "fact source %s does not provide %s: add the type to its provides or name another source", quote(s.source), s.typ)
}

// edge is a reference from one thing to another of its kind.
type edge struct {
	to access.Ref
	at place
}

// graph holds who refers to whom, in the order of the files.
type graph struct {
	nodes []access.Ref
	edges map[access.Ref][]edge
}

func (g *graph) add(from access.Ref, edges []edge) {
	if g.edges == nil {
		g.edges = map[access.Ref][]edge{}
	}
	g.nodes = append(g.nodes, from)
	g.edges[from] = edges
}

// cycle is a way from a thing back to itself, and the reference that closes it.
type cycle struct {
	at    place
	names []string // from the thing to itself again
}

// cycles finds a reference for every cycle whose removal breaks it.
func (g *graph) cycles() []cycle {
	s := search{graph: g, depth: map[access.Ref]int{}}
	for _, node := range g.nodes {
		s.visit(node)
	}
	return s.found
}

type search struct {
	*graph
	depth map[access.Ref]int // 1-based place in path; -1 when done
	path  []access.Ref
	found []cycle
}

func (s *search) visit(node access.Ref) {
	if s.depth[node] != 0 {
		return
	}
	s.path = append(s.path, node)
	s.depth[node] = len(s.path)
	for _, e := range s.edges[node] {
		if start := s.depth[e.to]; start > 0 {
			s.found = append(s.found, cycle{e.at, names(s.path[start-1:])})
		}
		s.visit(e.to)
	}
	s.depth[node] = -1
	s.path = s.path[:len(s.path)-1]
}

// names writes a cycle from its first node back to it; long ones are cut.
func names(path []access.Ref) []string {
	const most = 8
	var out []string
	for _, ref := range path[:min(len(path), most)] {
		out = append(out, ref.String())
	}
	if len(path) > most {
		out = append(out, "…")
	}
	return slices.Clip(append(out, path[0].String()))
}
