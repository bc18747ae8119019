package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// jsonOf writes a YAML value as JSON. A date stays the text it was written as; aliases are not followed.
func jsonOf(n *yaml.Node) (json.RawMessage, error) {
	var out bytes.Buffer
	if err := writeJSON(&out, n, 0); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func writeJSON(out *bytes.Buffer, n *yaml.Node, depth int) error {
	switch {
	case depth > MaxNesting:
		return fmt.Errorf("line %d: values stand more than %d deep in each other", n.Line, MaxNesting)
	case n.Kind == yaml.ScalarNode:
		return writeScalar(out, n)
	case n.Kind == yaml.SequenceNode:
		return writeItems(out, n, depth)
	case n.Kind == yaml.MappingNode:
		return writeObject(out, n, depth)
	default:
		return fmt.Errorf("line %d: aliases are not read here", n.Line)
	}
}

func writeItems(out *bytes.Buffer, n *yaml.Node, depth int) error {
	out.WriteByte('[')
	for i, item := range n.Content {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := writeJSON(out, item, depth+1); err != nil {
			return err
		}
	}
	out.WriteByte(']')
	return nil
}

func writeObject(out *bytes.Buffer, n *yaml.Node, depth int) error {
	out.WriteByte('{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		if i > 0 {
			out.WriteByte(',')
		}
		writeString(out, n.Content[i].Value)
		out.WriteByte(':')
		if err := writeJSON(out, n.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

func writeString(out *bytes.Buffer, text string) {
	quoted, _ := json.Marshal(text) // a string always marshals
	out.Write(quoted)
}

func writeScalar(out *bytes.Buffer, n *yaml.Node) error {
	switch n.Tag {
	case "!!null":
		out.WriteString("null")
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return err
		}
		out.WriteString(strconv.FormatBool(b))
	case "!!int":
		var i int64
		if err := n.Decode(&i); err != nil {
			return fmt.Errorf("line %d: %q is not a whole number within 64 bits", n.Line, clip(n.Value))
		}
		out.WriteString(strconv.FormatInt(i, 10))
	case "!!str", "!!timestamp":
		writeString(out, n.Value)
	default:
		return fmt.Errorf("line %d: %q is neither text, whole number, true nor false", n.Line, clip(n.Value))
	}
	return nil
}
