package nodetest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestAScriptAnswers(t *testing.T) {
	s := Start(t, "testdata/echo.mjs", "WRIT_NODETEST=there")
	var said map[string]any
	if err := s.Ask("echo", map[string]any{"n": 1, "s": "a\nb\u2028"}, &said); err != nil || said["n"] != 1.0 || said["s"] != "a\nb\u2028" {
		t.Errorf("%v, %v", said, err)
	}
	for ask, want := range map[string]string{"import": "function", "version": "v24.21.0", "environment": "there"} {
		var got string
		if err := s.Ask(ask, map[string]any{"name": "WRIT_NODETEST"}, &got); err != nil || got != want {
			t.Errorf("%s: %q, %v", ask, got, err)
		}
	}
	var refused *Refused
	if err := s.Ask("fail", nil, nil); !errors.As(err, &refused) || refused.Code != "ERR_FAR" || refused.Message != "RangeError: too far" {
		t.Errorf("%v", err)
	}
	if err := s.Ask("toString", nil, nil); !errors.As(err, &refused) || !strings.Contains(refused.Message, "does not know toString") {
		t.Errorf("%v", err)
	}
}

func TestAScriptThatEndsIsAnError(t *testing.T) {
	for _, ask := range []string{"end", "chatter"} {
		s, err := start(t, "testdata/echo.mjs", nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Ask(ask, nil, nil); err == nil || !strings.Contains(err.Error(), "the script has ended") {
				t.Errorf("%s: %v", ask, err)
			}
		}
		if err := s.stop(); err == nil {
			t.Errorf("%s: it ended as if nothing were wrong", ask)
		}
	}
}

func TestAFileOfAPackage(t *testing.T) {
	if source := File(t, "axe-core/axe.min.js"); !strings.Contains(string(source[:200]), "axe v4.14.1") {
		t.Errorf("axe begins %q", source[:200])
	}
	if _, err := file(t.Context(), "axe-core/axe.map"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestWhatCannotBeInstalledIsAnError has no packages, and an npm that is missing or fails.
func TestWhatCannotBeInstalledIsAnError(t *testing.T) {
	cache, bin := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("PATH", bin)
	if _, err := start(t, "testdata/echo.mjs", nil); err == nil || !strings.Contains(err.Error(), "run scripts/deps") {
		t.Errorf("no npm: %v", err)
	}
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte("#!/bin/sh\necho out of order\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, "testdata/echo.mjs", nil); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("a failing npm: %v", err)
	}
	if _, err := file(t.Context(), "axe-core/axe.min.js"); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("a file, and a failing npm: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "writ-nodetest", "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestVersionsArePinned: a range, or a package without a hash, would be another judge tomorrow.
func TestVersionsArePinned(t *testing.T) {
	var manifest map[string]json.RawMessage
	var lock struct {
		Packages map[string]struct{ Integrity, Resolved string }
	}
	for name, into := range map[string]any{"package.json": &manifest, "package-lock.json": &lock} {
		content, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(content, into); err != nil {
			t.Fatal(err)
		}
	}
	exact := regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	for _, kind := range []string{"devDependencies", "optionalDependencies"} {
		var versions map[string]string
		if err := json.Unmarshal(manifest[kind], &versions); err != nil {
			t.Fatal(err)
		}
		for name, version := range versions {
			if !exact.MatchString(version) {
				t.Errorf("%s: %q is not a version", name, version)
			}
		}
	}
	for name, p := range lock.Packages {
		if name != "" && (!strings.HasPrefix(p.Integrity, "sha512-") || p.Resolved != "") {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
