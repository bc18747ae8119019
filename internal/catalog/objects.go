package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/writ-project/writ/internal/access"
)

// Object is one thing that a catalog declares, as a document of its own.
type Object struct {
	Kind string          `json:"kind"` // one of the Kind constants
	Name string          `json:"name"` // the id in the form Type::"id", or the name; for a collection its type
	Doc  json.RawMessage `json:"doc"`  // JSON of the access type
}

// ErrObject is wrapped by every error of FromObjects.
var ErrObject = errors.New("not an object of a catalog")

// Objects takes a catalog apart, in the order of its lists. Equal objects have equal documents, byte for byte.
// FromObjects puts exactly the same catalog together, if it came from there or from Parse.
// It panics if attributes are not JSON, which cannot be of a catalog from Parse or FromObjects.
func Objects(c access.Catalog) []Object {
	var out []Object
	out = objects(out, KindIdentity, c.Identities, identityName)
	out = objects(out, KindTeam, c.Teams, teamName)
	out = objects(out, KindResource, c.Resources, resourceName)
	out = objects(out, KindCollection, c.Collections, collectionName)
	out = objects(out, KindTaskType, c.TaskTypes, taskTypeName)
	out = objects(out, KindFactSource, c.FactSources, factSourceName)
	return objects(out, KindEnforcementPoint, c.EnforcementPoints, enforcementPointName)
}

// FromObjects puts a catalog together from its objects, in any order. It refuses unknown kinds and fields, a name that
// is not the document's, and two objects of one name; whether the whole is sound was checked by Parse.
func FromObjects(list []Object) (access.Catalog, error) {
	var c access.Catalog
	seen := make(map[objectKey]bool, len(list))
	for _, o := range list {
		key := objectKey{o.Kind, o.Name}
		err := add(&c, o)
		if err == nil && seen[key] {
			err = errors.New("there are two of this name: keep one")
		}
		if err != nil {
			return access.Catalog{}, fmt.Errorf("%w: %s %s: %w", ErrObject, o.Kind, o.Name, err)
		}
		seen[key] = true
	}
	order(&c)
	return c, nil
}

func add(c *access.Catalog, o Object) error {
	switch o.Kind {
	case KindIdentity:
		return take(&c.Identities, o, identityName)
	case KindTeam:
		return take(&c.Teams, o, teamName)
	case KindResource:
		return take(&c.Resources, o, resourceName)
	case KindCollection:
		return take(&c.Collections, o, collectionName)
	case KindTaskType:
		return take(&c.TaskTypes, o, taskTypeName)
	case KindFactSource:
		return take(&c.FactSources, o, factSourceName)
	case KindEnforcementPoint:
		return take(&c.EnforcementPoints, o, enforcementPointName)
	default:
		return errors.New("the kind is unknown: it was written by another version of Writ")
	}
}

func identityName(v *access.Identity) string                 { return v.ID.String() }
func teamName(v *access.Team) string                         { return v.Name }
func resourceName(v *access.Resource) string                 { return v.ID.String() }
func collectionName(v *access.Collection) string             { return v.Type }
func taskTypeName(v *access.TaskType) string                 { return v.Name }
func factSourceName(v *access.FactSource) string             { return v.Name }
func enforcementPointName(v *access.EnforcementPoint) string { return v.Identity.String() }

func objects[T any](out []Object, kind string, list []T, name func(*T) string) []Object {
	for i := range list {
		out = append(out, Object{Kind: kind, Name: name(&list[i]), Doc: encode(&list[i])})
	}
	return out
}

func take[T any](list *[]T, o Object, name func(*T) string) error {
	var v T
	decoder := json.NewDecoder(bytes.NewReader(o.Doc))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		return fmt.Errorf("the document cannot be read: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document: remove it")
	}
	if actual := name(&v); actual != o.Name || actual == "" {
		return fmt.Errorf("the document is that of %s: names must agree", quote(actual))
	}
	*list = append(*list, v)
	return nil
}
