package nodetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// installLimit bounds how long npm may take; a slow line needs a minute.
const installLimit = 5 * time.Minute

// install returns the folder that holds node_modules, and makes it if no test did so before: a folder of the user's cache, named
// by the hash of what is in it.
func install(ctx context.Context) (string, error) {
	lock, err := files.ReadFile("package-lock.json")
	if err != nil {
		return "", err
	}
	manifest, err := files.ReadFile("package.json")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("npm packages have nowhere to go: %w", err)
	}
	sum := sha256.Sum256(append(lock, manifest...))
	parent := filepath.Join(cache, "writ-nodetest")
	folder := filepath.Join(parent, hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(folder); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return folder, err
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	making, err := os.MkdirTemp(parent, "making-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(making) }()
	if err := errors.Join(os.WriteFile(filepath.Join(making, "package.json"), manifest, 0o600),
		os.WriteFile(filepath.Join(making, "package-lock.json"), lock, 0o600), ci(ctx, making)); err != nil {
		return "", err
	}
	if err := os.Rename(making, folder); err != nil {
		if _, made := os.Stat(folder); made != nil { // else another process was faster
			return "", err
		}
	}
	return folder, nil
}

// ci installs exactly what the lock says, each package checked by its hash. No package may run anything while it is installed.
func ci(ctx context.Context, folder string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("there is no npm here: run scripts/deps, or put npm on the PATH: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
	cmd.Dir, cmd.WaitDelay = folder, time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci (at most %s; it needs its registry, or a cache that holds the packages): %w\n%s", installLimit, errors.Join(err, ctx.Err()), out)
	}
	return nil
}

// node is the one of package.json, or that of the PATH where there is none of it for this machine.
func node(installed string) (string, error) {
	found, err := filepath.Glob(filepath.Join(installed, "node_modules", "node-linux-*", "bin", "node"))
	if err != nil {
		return "", err
	}
	if len(found) == 1 {
		return found[0], nil
	}
	path, err := exec.LookPath("node")
	if err != nil {
		return "", fmt.Errorf("npm installed no node for this machine, and there is none on the PATH: %w", err)
	}
	return path, nil
}
