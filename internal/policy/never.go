package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
)

// setting is one combination of action and types that requests can have.
type setting struct {
	action              *action
	principal, resource string
}

// may says what a condition can come to; one that always fails can come to neither.
type may struct{ hold, fail bool }

func exactly(b bool) may { return may{hold: b, fail: !b} }

func open() may { return may{true, true} }

// possible reports a policy that no request of the schema can match: it misleads its reader, and a forbid protects nothing.
func (c *checker) possible(p *policy) {
	for _, a := range c.schema.sortedActions() {
		if a.context == nil || !covers(p.ast.Action, a) {
			continue
		}
		for _, principal := range a.principals {
			for _, resource := range a.resources {
				s := setting{a, principal, resource}
				if !c.inScope(p.ast.Principal, principal) || !c.inScope(p.ast.Resource, resource) {
					continue
				}
				if c.conditions(p, s) {
					return
				}
			}
		}
	}
	c.faults.add(p.place, "this %s can never match: no request of the schema makes its scope and its conditions true", p.class)
}

func (c *checker) inScope(scope ast.IsScopeNode, typ string) bool {
	switch scope := scope.(type) {
	case ast.ScopeTypeEq:
		return string(scope.Entity.Type) == typ
	case ast.ScopeTypeIn:
		return c.schema.canBeIn(typ, string(scope.Entity.Type))
	case ast.ScopeTypeIs:
		return string(scope.Type) == typ
	case ast.ScopeTypeIsIn:
		return string(scope.Type) == typ && c.schema.canBeIn(typ, string(scope.Entity.Type))
	default:
		return true
	}
}

// conditions reports whether all conditions can hold at once, each looked at by itself.
func (c *checker) conditions(p *policy, s setting) bool {
	for _, condition := range p.ast.Conditions {
		out := c.can(condition.Body, s)
		if condition.Condition == ast.ConditionWhen && !out.hold || condition.Condition == ast.ConditionUnless && !out.fail {
			return false
		}
	}
	return true
}

// can folds an expression as far as the schema and its literals decide it.
func (c *checker) can(node ast.IsNode, s setting) may {
	switch n := node.(type) {
	case ast.NodeTypeAnd:
		left, right := c.can(n.Left, s), c.can(n.Right, s)
		return may{left.hold && right.hold, left.fail || left.hold && right.fail}
	case ast.NodeTypeOr:
		left, right := c.can(n.Left, s), c.can(n.Right, s)
		return may{left.hold || left.fail && right.hold, left.fail && right.fail}
	case ast.NodeTypeNot:
		out := c.can(n.Arg, s)
		return may{out.fail, out.hold}
	case ast.NodeTypeIfThenElse:
		return c.branch(n, s)
	case ast.NodeTypeIs:
		return c.canBe(n, s)
	case ast.NodeTypeIsIn:
		is, in := c.canBe(n.NodeTypeIs, s), c.canIn(n.Left, n.Entity, s)
		return may{is.hold && in.hold, is.fail || in.fail}
	case ast.NodeTypeIn:
		return c.canIn(n.Left, n.Right, s)
	case ast.NodeTypeHas:
		return c.canHave(n, s)
	case ast.NodeTypeEquals:
		return c.canEqual(n.BinaryNode, n, s)
	case ast.NodeTypeNotEquals:
		out := c.canEqual(n.BinaryNode, ast.NodeTypeEquals(n), s)
		return may{out.fail, out.hold}
	default:
		return constant(n)
	}
}

func (c *checker) branch(n ast.NodeTypeIfThenElse, s setting) may {
	var out may
	test := c.can(n.If, s)
	if test.hold {
		out = c.can(n.Then, s)
	}
	if test.fail {
		other := c.can(n.Else, s)
		out = may{out.hold || other.hold, out.fail || other.fail}
	}
	return out
}

func (c *checker) canBe(n ast.NodeTypeIs, s setting) may {
	if t := c.shapeOf(n.Left, s); t != nil && t.kind == kindEntity {
		return exactly(t.entity == string(n.EntityType))
	}
	return open()
}

func (c *checker) canIn(left, right ast.IsNode, s setting) may {
	targets := literals(right)
	if v, ok := left.(ast.NodeTypeVariable); ok && v.Name == "action" {
		if targets == nil {
			return open()
		}
		return exactly(slices.ContainsFunc(targets, s.action.in))
	}
	t := c.shapeOf(left, s)
	if t == nil || t.kind != kindEntity {
		return open()
	}
	above := make([]string, 0, len(targets))
	for _, uid := range targets {
		above = append(above, string(uid.Type))
	}
	if targets == nil {
		above = c.targetTypes(right, s)
	}
	if above == nil || slices.ContainsFunc(above, func(typ string) bool { return c.schema.canBeIn(t.entity, typ) }) {
		return open()
	}
	return exactly(false)
}

// targetTypes are the types of entity that the right side of `in` stands for, or nil if they cannot be told.
func (c *checker) targetTypes(node ast.IsNode, s setting) []string {
	if set, ok := node.(ast.NodeTypeSet); ok {
		var out []string
		for _, element := range set.Elements {
			one := c.targetTypes(element, s)
			if one == nil {
				return nil
			}
			out = append(out, one...)
		}
		return out
	}
	t := c.shapeOf(node, s)
	if t != nil && t.kind == kindSet {
		t = t.elem
	}
	if t == nil || t.kind != kindEntity {
		return nil
	}
	return []string{t.entity}
}

// literals are the entities that an expression names outright, or nil if it does not.
func literals(node ast.IsNode) []types.EntityUID {
	switch n := node.(type) {
	case ast.NodeValue:
		if uid, ok := n.Value.(types.EntityUID); ok {
			return []types.EntityUID{uid}
		}
	case ast.NodeTypeSet:
		var out []types.EntityUID
		for _, element := range n.Elements {
			one := literals(element)
			if one == nil {
				return nil
			}
			out = append(out, one...)
		}
		return out
	}
	return nil
}

func (c *checker) canHave(n ast.NodeTypeHas, s setting) may {
	t := c.shapeOf(n.Arg, s)
	if t == nil {
		return open()
	}
	record := t
	if t.kind == kindEntity {
		record = c.schema.types[t.entity].attributes
	}
	i := record.field(string(n.Value))
	switch {
	case i < 0:
		return exactly(false)
	case !record.fields[i].optional:
		return exactly(true)
	default:
		return open()
	}
}

func (c *checker) canEqual(n ast.BinaryNode, whole ast.IsNode, s setting) may {
	if v, ok := n.Left.(ast.NodeTypeVariable); ok && v.Name == "action" {
		if targets := literals(n.Right); len(targets) == 1 {
			return exactly(targets[0] == s.action.uid)
		}
	}
	left, right := c.shapeOf(n.Left, s), c.shapeOf(n.Right, s)
	if left != nil && right != nil && left.kind == kindEntity && right.kind == kindEntity && left.entity != right.entity {
		return exactly(false)
	}
	if ast.Equal(ast.NewNode(n.Left), ast.NewNode(n.Right)) {
		return exactly(true)
	}
	return constant(whole)
}

// constant works out an expression that depends on nothing but its literals.
func constant(node ast.IsNode) may {
	fixed := true
	ast.Inspect(ast.NewNode(node), func(n ast.IsNode) bool {
		switch n := n.(type) {
		case ast.NodeTypeVariable, ast.NodeTypeIn, ast.NodeTypeIsIn, ast.NodeTypeHasTag, ast.NodeTypeGetTag:
			fixed = false
		case ast.NodeValue:
			_, entity := n.Value.(types.EntityUID)
			fixed = fixed && !entity
		}
		return fixed
	})
	if !fixed {
		return open()
	}
	value, err := eval.Eval(node, eval.Env{Entities: types.EntityMap{}})
	if err != nil {
		return may{}
	}
	return may{hold: !value.Equal(types.False), fail: !value.Equal(types.True)}
}

// shapeOf is the type of an expression where the schema tells it, or nil.
func (c *checker) shapeOf(node ast.IsNode, s setting) *shape {
	switch n := node.(type) {
	case ast.NodeTypeVariable:
		switch n.Name {
		case "principal":
			return &shape{kind: kindEntity, entity: s.principal}
		case "resource":
			return &shape{kind: kindEntity, entity: s.resource}
		case "context":
			return s.action.context
		}
	case ast.NodeValue:
		if uid, ok := n.Value.(types.EntityUID); ok && !isActionType(string(uid.Type)) {
			return &shape{kind: kindEntity, entity: string(uid.Type)}
		}
	case ast.NodeTypeAccess:
		base := c.shapeOf(n.Arg, s)
		if base != nil && base.kind == kindEntity {
			base = c.schema.types[base.entity].attributes
		}
		if base != nil && base.kind == kindRecord {
			return base.get(string(n.Value))
		}
	}
	return nil
}
