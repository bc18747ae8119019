package policy

import (
	"fmt"
	"testing"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/writ-project/writ/internal/access"
)

// A short text can make many records of a list, so none is kept; the number of the others is bounded.
func TestArgsCacheIsBounded(t *testing.T) {
	c, a := newArgsCache(), &action{}
	flat := tree{fields: []tree{{value: types.Long(1)}}}
	c.put(a, []byte(`{"n":1}`), flat)
	if _, ok := c.get(a, []byte(`{"n":1}`)); !ok {
		t.Error("what was read is not known")
	}
	if _, ok := c.get(&action{}, []byte(`{"n":1}`)); ok {
		t.Error("another action reads the same text by another schema")
	}
	c.put(a, []byte(`{"l":[]}`), tree{fields: []tree{{items: []tree{}}}})
	if _, ok := c.get(a, []byte(`{"l":[]}`)); ok {
		t.Error("a list is kept")
	}
	c.put(a, make([]byte, maxReadArgsText+1), flat)
	for i := range 3 * maxReadArgs {
		c.put(a, fmt.Append(nil, i), flat)
	}
	if len(c.read) > maxReadArgs {
		t.Errorf("%d texts are kept", len(c.read))
	}
}

func TestEntityCacheIsBounded(t *testing.T) {
	c := newEntityCache()
	for i := range 2 * maxReadEntities {
		c.put(&access.Entity{ID: access.Ref{Type: "Order", ID: fmt.Sprint(i)}}, &node{})
	}
	if len(c.read) > maxReadEntities {
		t.Errorf("%d entities are kept", len(c.read))
	}
}
