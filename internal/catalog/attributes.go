package catalog

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// attributes reads the optional mapping of that name as a JSON object, its keys ordered. Names that Writ fills are refused.
func (o object) attributes(filled ...string) json.RawMessage {
	n, ok := o.values["attributes"]
	if !ok || o.bad[n] {
		return nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		o.add(o.at(n), "attributes is a mapping of names to values: write some or remove the key")
		return nil
	}
	for key := range pairs(n) {
		if slices.Contains(filled, key.Value) {
			o.add(o.at(key), "attribute %s is filled by Writ: remove it here", key.Value)
		}
	}
	out := encode(o.value(n))
	if len(out) > MaxAttributes {
		o.add(o.at(n), "attributes has %d bytes as JSON: shorten it to at most %d", len(out), MaxAttributes)
		return nil
	}
	return out
}

// value turns a YAML value into what JSON can say exactly; nil stands for one that is faulty.
func (r *reader) value(n *yaml.Node) any {
	switch {
	case r.bad[n]:
		return nil
	case n.Kind == yaml.MappingNode:
		out := make(map[string]any, len(n.Content)/2)
		for key, value := range pairs(n) {
			inner := r.value(value)
			if name, ok := r.textOf(key, "an attribute name", MaxNameLength); ok {
				out[name] = inner
			}
		}
		return out
	case n.Kind == yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			out = append(out, r.value(item))
		}
		return out
	default:
		return r.scalar(n)
	}
}

func (r *reader) scalar(n *yaml.Node) any {
	switch n.Tag {
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE"
	case "!!null":
		r.add(r.at(n), "null is no value: give one or remove the attribute")
	case "!!int":
		number, err := strconv.ParseInt(n.Value, 10, 64)
		if err == nil && wholeNumber.MatchString(n.Value) {
			return number
		}
		r.add(r.at(n), "%s is not a plain whole number of 64 bits: write decimal digits, or quotes for a text", clipName(n.Value))
	case "!!float":
		r.add(r.at(n), "%s is a decimal number: use a whole number of a smaller unit, or quotes for a text", clipName(n.Value))
	default:
		if len(n.Value) <= MaxAttributeString {
			return n.Value
		}
		r.add(r.at(n), "the text has %d bytes: shorten it to at most %d", len(n.Value), MaxAttributeString)
	}
	return nil
}

// encode is JSON on one line with the text as it is: no escapes for HTML, so that reading and writing again changes nothing.
// It panics on JSON that is not valid in itself, which neither Parse nor FromObjects makes.
func encode(v any) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("catalog: attributes that are not JSON: " + err.Error())
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
