package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/writ-project/writ/internal/access"
)

// Reads says what of the context some policy, risk policy or derived value of an action can read.
// What is not read needs neither loading nor a version check.
type Reads struct {
	Args, Derived, Task, Labels, Counts, Sums, TTL, Mode, Chain, Risk, Precedent, Now, Principal bool
}

func (r *Reads) mark(name types.String) {
	switch name {
	case "args":
		r.Args = true
	case "derived":
		r.Derived = true
	case "task":
		r.Task = true
	case "labels":
		r.Labels = true
	case "counts":
		r.Counts = true
	case "sums":
		r.Sums = true
	case "ttl":
		r.TTL = true
	case "mode":
		r.Mode = true
	case "chain":
		r.Chain = true
	case "risk":
		r.Risk = true
	case "precedent":
		r.Precedent = true
	case "now":
		r.Now = true
	case "principal":
		r.Principal = true
	}
}

// add takes the union.
func (r *Reads) add(other Reads) {
	r.Args = r.Args || other.Args
	r.Derived = r.Derived || other.Derived
	r.Task = r.Task || other.Task
	r.Labels = r.Labels || other.Labels
	r.Counts = r.Counts || other.Counts
	r.Sums = r.Sums || other.Sums
	r.TTL = r.TTL || other.TTL
	r.Mode = r.Mode || other.Mode
	r.Chain = r.Chain || other.Chain
	r.Risk = r.Risk || other.Risk
	r.Precedent = r.Precedent || other.Precedent
	r.Now = r.Now || other.Now
	r.Principal = r.Principal || other.Principal
}

// everything is what a policy reads that uses the context as a whole.
func everything() Reads {
	return Reads{true, true, true, true, true, true, true, true, true, true, true, true, true}
}

// usage is what a policy reads and names.
type usage struct {
	reads    Reads
	entities []access.Ref // that it names, actions included, ordered
	paths    []reach      // to entities whose attributes or ancestors it looks at
}

// reach is the way to an entity: from a variable, or from one named outright, through attributes.
type reach struct {
	from   types.String // principal, resource or context; empty for a named entity
	entity access.Ref
	names  []types.String
}

func usageOf(p *ast.Policy) usage {
	var u usage
	u.scope(p.Principal)
	u.scope(p.Action)
	u.scope(p.Resource)
	for _, condition := range p.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), u.visit)
	}
	slices.SortFunc(u.entities, access.Ref.Compare)
	u.entities = slices.Compact(u.entities)
	return u
}

func (u *usage) scope(scope ast.IsScopeNode) {
	switch scope := scope.(type) {
	case ast.ScopeTypeEq:
		u.entities = append(u.entities, refOf(scope.Entity))
	case ast.ScopeTypeIn:
		u.entities = append(u.entities, refOf(scope.Entity))
	case ast.ScopeTypeIsIn:
		u.entities = append(u.entities, refOf(scope.Entity))
	case ast.ScopeTypeInSet:
		for _, entity := range scope.Entities {
			u.entities = append(u.entities, refOf(entity))
		}
	}
}

// visit gathers from one node; what it looks into itself it does not visit again.
func (u *usage) visit(node ast.IsNode) bool {
	switch n := node.(type) {
	case ast.NodeValue:
		if uid, ok := n.Value.(types.EntityUID); ok {
			u.entities = append(u.entities, refOf(uid))
		}
	case ast.NodeTypeVariable:
		if n.Name == "context" {
			u.reads.add(everything())
		}
	case ast.NodeTypeAccess:
		return u.attribute(n.StrOpNode)
	case ast.NodeTypeHas:
		return u.attribute(n.StrOpNode)
	case ast.NodeTypeIn:
		u.reached(n.Left)
	case ast.NodeTypeIsIn:
		u.reached(n.Left)
	}
	return true
}

func (u *usage) attribute(n ast.StrOpNode) bool {
	if v, ok := n.Arg.(ast.NodeTypeVariable); ok && v.Name == "context" {
		u.reads.mark(n.Value)
		return false
	}
	u.reached(n.Arg)
	return true
}

func (u *usage) reached(node ast.IsNode) {
	u.paths = append(u.paths, reaches(node)...)
}

// reaches lists the ways to the entity that an expression may stand for. Where it knows none, evaluation finds the
// entity absent, and the decision is policy_error.
func reaches(node ast.IsNode) []reach {
	switch n := node.(type) {
	case ast.NodeTypeVariable:
		return []reach{{from: n.Name}}
	case ast.NodeValue:
		if uid, ok := n.Value.(types.EntityUID); ok && !isActionType(string(uid.Type)) {
			return []reach{{entity: refOf(uid)}}
		}
	case ast.NodeTypeAccess:
		out := reaches(n.Arg)
		for i := range out {
			out[i].names = append(slices.Clip(out[i].names), n.Value)
		}
		return out
	case ast.NodeTypeIfThenElse:
		return append(reaches(n.Then), reaches(n.Else)...)
	}
	return nil
}
