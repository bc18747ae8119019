package policy

import (
	"fmt"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/writ-project/writ/internal/access"
)

// contextOf builds what the action's schema declares and some policy reads, all but the risk.
func (d *decision) contextOf(args tree, derived types.RecordMap) (types.RecordMap, error) {
	out := types.RecordMap{}
	for i := range d.action.context.fields {
		f := &d.action.context.fields[i]
		if !d.action.reads.has(f.name) {
			continue
		}
		value, err := d.contextField(f, args, derived)
		if err != nil {
			return nil, fmt.Errorf("context.%s: %w", f.name, err)
		}
		if value != nil {
			out[types.String(f.name)] = value
		}
	}
	return out, nil
}

// contextField is one value of the context, or nil for an optional one that is absent.
func (d *decision) contextField(f *field, args tree, derived types.RecordMap) (types.Value, error) {
	in, request := d.in, &d.in.Request
	switch f.name {
	case "args":
		return args.value, nil
	case "derived":
		return types.NewRecord(derived), nil
	case "task":
		return taskRecord(f, in.Facts.Task)
	case "labels":
		l := &in.Facts.Labels
		return part3(f.shape, "task", setOfStrings(l.Task), "chain", setOfStrings(l.Chain), "identity", setOfStrings(l.Identity)), nil
	case "counts":
		return numbers(f.shape, in.Facts.Counts)
	case "sums":
		return numbers(f.shape, in.Facts.Sums)
	case "chain":
		c := &in.Facts.Chain
		return part3(f.shape, "depth", types.Long(c.Depth), "root", types.String(c.Root), "actors", setOfStrings(c.Actors)), nil
	case "precedent":
		p := &in.Facts.Precedent
		return part3(f.shape, "approvals", types.Long(p.Approvals), "denials", types.Long(p.Denials), "reversals", types.Long(p.Reversals)), nil
	case "ttl":
		if request.TTL == 0 {
			return types.Long(access.DefaultTTL), nil // what is granted when nothing is wanted
		}
		return types.Long(request.TTL), nil
	case "mode":
		return types.String(request.Mode), nil
	case "now":
		return types.NewDatetime(in.Now), nil
	case "principal":
		if request.Principal.IsZero() {
			return nil, nil
		}
		return uidOf(request.Principal), nil
	default: // the risk is put in once it is known
		return nil, nil
	}
}

func taskRecord(f *field, task *access.TaskFacts) (types.Value, error) {
	if task == nil {
		if f.optional {
			return nil, nil
		}
		return nil, fmt.Errorf("the request has no task, and the schema does not declare it optional")
	}
	out := types.RecordMap{}
	for _, part := range f.shape.fields {
		switch part.name {
		case "type":
			out["type"] = types.String(task.Type)
		case "age":
			out["age"] = types.Long(task.Age)
		case "heartbeat":
			out["heartbeat"] = types.Long(task.Heartbeat)
		case "expected":
			out["expected"] = types.Boolean(task.Expected)
		}
	}
	return types.NewRecord(out), nil
}

// part3 is a record of those of three values that the schema declares.
func part3(s *shape, n1 types.String, v1 types.Value, n2 types.String, v2 types.Value, n3 types.String, v3 types.Value) types.Value {
	out := types.RecordMap{n1: v1, n2: v2, n3: v3}
	for name := range out {
		if s.field(string(name)) < 0 {
			delete(out, name)
		}
	}
	return types.NewRecord(out)
}

func setOfStrings(list []string) types.Set {
	values := make([]types.Value, len(list))
	for i := range list {
		values[i] = types.String(list[i])
	}
	return types.NewSet(values...)
}

// numbers takes the declared counts; one that was not loaded is no zero.
func numbers(s *shape, from map[string]int64) (types.Value, error) {
	out := make(types.RecordMap, len(s.fields))
	for _, f := range s.fields {
		n, ok := from[f.name]
		if !ok {
			return nil, fmt.Errorf("%s was not counted", f.name)
		}
		out[types.String(f.name)] = types.Long(n)
	}
	return types.NewRecord(out), nil
}

func (r *Reads) has(name string) bool {
	switch name {
	case "args":
		return r.Args
	case "derived":
		return r.Derived
	case "task":
		return r.Task
	case "labels":
		return r.Labels
	case "counts":
		return r.Counts
	case "sums":
		return r.Sums
	case "ttl":
		return r.TTL
	case "mode":
		return r.Mode
	case "chain":
		return r.Chain
	case "risk":
		return r.Risk
	case "precedent":
		return r.Precedent
	case "now":
		return r.Now
	case "principal":
		return r.Principal
	default:
		return false
	}
}
