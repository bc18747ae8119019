// Package catalog reads what an installation declares, from YAML files into an
// [access.Catalog], names every fault of all files at once, and tells two
// catalogs apart. It is pure: bytes in, values out; nothing is kept, everything
// may be used concurrently.
//
// A file is one YAML document with any of the keys identities, teams,
// resources, collections, task_types, fact_sources and enforcement_points. The
// lists of all files are merged and ordered, so neither the number nor the
// order of the files matters. Anchors, aliases, merge keys, tags, nulls and
// decimal numbers are refused: a catalog says what it says where it says it.
package catalog
