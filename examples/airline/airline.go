// Package airline holds an example: the policies and the catalog of an airline whose service agents are AI.
package airline

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed policy catalog
var files embed.FS

// Issuer is what stands in the catalog for the URL of the identity provider.
const Issuer = "${ISSUER}"

// Policy is the policy bundle: path relative to its folder, to bytes.
func Policy() (map[string][]byte, error) { return folder("policy") }

// Catalog is the catalog's files, with the identity provider's URL put in.
func Catalog(issuer string) (map[string][]byte, error) {
	out, err := folder("catalog")
	for name := range out {
		out[name] = bytes.ReplaceAll(out[name], []byte(Issuer), []byte(issuer))
	}
	return out, err
}

func folder(name string) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := fs.WalkDir(files, name, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out[strings.TrimPrefix(path, name+"/")], err = files.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the example's %s: %w", name, err)
	}
	return out, nil
}
