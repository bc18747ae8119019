package policy

import (
	"iter"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// role says which scope a policy stands under in a table.
type role uint8

const (
	roleAny role = iota // neither scope narrows it
	rolePrincipalType
	roleResourceType
	rolePrincipal // the entity, or one above it
	roleResource
)

type key struct {
	role role
	uid  types.EntityUID // for the type roles only its type
}

// table holds the policies of one action scope, each under its most selective key.
type table map[key][]*policy

// scopeKey is the key that a principal or resource scope gives, if it narrows anything.
func scopeKey(scope ast.IsScopeNode, entity, typ role) (key, bool) {
	switch scope := scope.(type) {
	case ast.ScopeTypeEq:
		return key{entity, scope.Entity}, true
	case ast.ScopeTypeIn:
		return key{entity, scope.Entity}, true
	case ast.ScopeTypeIsIn:
		return key{entity, scope.Entity}, true
	case ast.ScopeTypeIs:
		return key{typ, types.EntityUID{Type: scope.Type}}, true
	default:
		return key{}, false
	}
}

// keys are those a policy can stand under: entities where a scope names one, else types, else anywhere.
func (p *policy) keys() []key {
	principal, okP := scopeKey(p.ast.Principal, rolePrincipal, rolePrincipalType)
	resource, okR := scopeKey(p.ast.Resource, roleResource, roleResourceType)
	var out []key
	for _, k := range []struct {
		key
		ok bool
	}{{resource, okR}, {principal, okP}} {
		if k.ok && k.role >= rolePrincipal {
			out = append(out, k.key)
		}
	}
	switch {
	case len(out) > 0:
		return out
	case okR && okP:
		return []key{resource, principal}
	case okR:
		return []key{resource}
	case okP:
		return []key{principal}
	default:
		return []key{{}}
	}
}

// actionKeys are the action scopes that a policy stands under; the zero one is any action.
func (p *policy) actionKeys() []types.EntityUID {
	switch scope := p.ast.Action.(type) {
	case ast.ScopeTypeEq:
		return []types.EntityUID{scope.Entity}
	case ast.ScopeTypeIn:
		return []types.EntityUID{scope.Entity}
	case ast.ScopeTypeInSet:
		return scope.Entities
	default:
		return []types.EntityUID{{}}
	}
}

// buildIndex puts every policy where few others stand, and gives each action the tables it must look into.
func buildIndex(policies []*policy, actions []*action) {
	crowd := map[types.EntityUID]map[key]int{}
	for _, p := range policies {
		for _, a := range p.actionKeys() {
			if crowd[a] == nil {
				crowd[a] = map[key]int{}
			}
			for _, k := range p.keys() {
				crowd[a][k]++
			}
		}
	}
	tables := map[types.EntityUID]table{}
	for _, p := range policies {
		for _, a := range p.actionKeys() {
			if tables[a] == nil {
				tables[a] = table{}
			}
			best := slices.MinFunc(p.keys(), func(x, y key) int { return crowd[a][x] - crowd[a][y] })
			tables[a][best] = append(tables[a][best], p)
		}
	}
	for _, a := range actions {
		for _, uid := range append([]types.EntityUID{a.uid, {}}, a.above...) {
			if t := tables[uid]; t != nil {
				a.tables = append(a.tables, t)
			}
		}
	}
}

// candidates are the policies that a request could match, in the order of their ids.
func (a *action) candidates(principal, resource []types.EntityUID) []*policy {
	const usual = 32
	out := make([]*policy, 0, usual)
	for _, t := range a.tables {
		out = append(out, t[key{}]...)
		out = append(out, t[key{rolePrincipalType, types.EntityUID{Type: principal[0].Type}}]...)
		out = append(out, t[key{roleResourceType, types.EntityUID{Type: resource[0].Type}}]...)
		for _, uid := range principal {
			out = append(out, t[key{rolePrincipal, uid}]...)
		}
		for _, uid := range resource {
			out = append(out, t[key{roleResource, uid}]...)
		}
	}
	slices.SortFunc(out, func(x, y *policy) int { return x.rank - y.rank })
	return slices.Compact(out)
}

// batch is a list of policies that Cedar evaluates together.
type batch []*policy

// All makes a batch what cedar.Authorize takes.
func (b batch) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range b {
			if !yield(cedar.PolicyID(p.id), p.cedar) {
				return
			}
		}
	}
}
