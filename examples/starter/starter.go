// Package starter holds the folder that `writ init` makes and the demo runs on.
package starter

import (
	"bytes"
	"embed"
	"io/fs"
)

// Files are writ.yaml, catalog/ and policy/.
//
//go:embed writ.yaml catalog policy
var Files embed.FS

// Issuer is the identity provider that the files name: the one thing a new installation must replace.
const Issuer = "https://idp.example.com"

// Site is all files, by path, with the identity provider's URL put in.
func Site(issuer string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := Files.ReadFile(path)
		files[path] = bytes.ReplaceAll(content, []byte(Issuer), []byte(issuer))
		return err
	})
	return files, err
}
