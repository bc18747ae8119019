package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/connector/jwt"
)

// Init makes a folder with the starter files and fresh keys. It overwrites nothing: a file that is there already is an error,
// and then nothing has been written.
func Init(folder, origin string, starter map[string][]byte) error {
	files := maps.Clone(starter)
	secret, public, err := evidence.GenerateKey(origin, rand.Reader)
	if err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	token, err := jwt.GenerateKey(jwt.EdDSA, rand.Reader)
	if err != nil {
		return err
	}
	files["data/log.key"], files["data/log.pub"], files["data/token.key"] = []byte(secret+"\n"), []byte(public+"\n"), token
	for name := range files {
		if _, err := os.Lstat(filepath.Join(folder, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already: choose an empty folder", filepath.Join(folder, name))
		}
	}
	for name, content := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, modeOf(name)); err != nil {
			return err
		}
	}
	return nil
}

func modeOf(name string) fs.FileMode {
	if filepath.Ext(name) == ".key" {
		return 0o600
	}
	return 0o644
}
