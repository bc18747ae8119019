// Package nodetest runs JavaScript of others in tests: judges from npm that share no code with us. Their versions are those of
// package-lock.json. What cannot be installed or started fails the test, and never skips it.
package nodetest

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const (
	answerLimit = time.Minute // for a script to answer one question, and to end
	maxAnswer   = 4 << 20     // bytes of one answer
)

//go:embed package.json package-lock.json answer.mjs
var files embed.FS

// Script is a script that answers questions. One goroutine may ask at a time.
type Script struct {
	process *exec.Cmd
	stdin   io.WriteCloser
	answers chan []byte // closed when the script has ended or says too much
}

// Refused is an error of the script: Code is the code of the JavaScript error, if it has one.
type Refused struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *Refused) Error() string { return r.Message }

// Start runs a script until the test ends. It may import the packages of package.json, and answer.mjs beside it:
//
//	import { answer } from './answer.mjs'
//	await answer({ double: ({ n }) => 2 * n })
//
// env are additions to the environment, such as "NODE_EXTRA_CA_CERTS=…". What the script writes to stderr is in the test's output.
func Start(t testing.TB, script string, env ...string) *Script {
	t.Helper()
	s, err := start(t, script, env)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	})
	return s
}

func start(t testing.TB, script string, env []string) (*Script, error) {
	t.Helper()
	installed, err := install(t.Context())
	if err != nil {
		return nil, err
	}
	folder := t.TempDir() // packages are looked for from where the script lies
	source, err := os.ReadFile(script)
	if err != nil {
		return nil, err
	}
	helper, err := files.ReadFile("answer.mjs")
	main := filepath.Join(folder, "main.mjs")
	if err := errors.Join(err, os.WriteFile(main, source, 0o600), os.WriteFile(filepath.Join(folder, "answer.mjs"), helper, 0o600),
		os.Symlink(filepath.Join(installed, "node_modules"), filepath.Join(folder, "node_modules"))); err != nil {
		return nil, err
	}
	node, err := node(installed)
	if err != nil {
		return nil, err
	}
	// Not of the test's context, which ends before the cleanup that lets the script end by itself.
	s := &Script{process: exec.CommandContext(context.WithoutCancel(t.Context()), node, main), answers: make(chan []byte)}
	s.process.Dir, s.process.Env, s.process.Stderr = folder, append(os.Environ(), env...), t.Output()
	s.process.WaitDelay = answerLimit
	if s.stdin, err = s.process.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	go s.read(stdout)
	return s, nil
}

// read passes on what the script says, a line at a time.
func (s *Script) read(stdout io.Reader) {
	defer close(s.answers)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		s.answers <- bytes.Clone(lines.Bytes())
	}
	if lines.Err() != nil {
		_ = s.process.Process.Kill() // nobody reads what else it says
	}
}

// stop ends the script by the end of its input, and by force if that does not help.
func (s *Script) stop() error {
	force := time.AfterFunc(answerLimit, func() { _ = s.process.Process.Kill() })
	defer force.Stop()
	err := s.stdin.Close()
	for range s.answers { // Wait closes the pipe that is read
		continue
	}
	return errors.Join(err, s.process.Wait())
}

// Ask has the script's handler of that name answer, and decodes what it returns into result, which may be nil. A *Refused is
// what the handler threw.
func (s *Script) Ask(ask string, args, result any) error {
	question, err := json.Marshal(map[string]any{"ask": ask, "args": args})
	if err != nil {
		return err
	}
	if _, err := s.stdin.Write(append(question, '\n')); err != nil {
		return fmt.Errorf("the script has ended: %w", err)
	}
	limit := time.NewTimer(answerLimit)
	defer limit.Stop()
	var line []byte
	select {
	case got, alive := <-s.answers:
		if !alive {
			return fmt.Errorf("the script has ended, or answered more than %d bytes, when asked to %s", maxAnswer, ask)
		}
		line = got
	case <-limit.C:
		return fmt.Errorf("no answer within %s when asked to %s", answerLimit, ask)
	}
	var answer struct {
		Refused *Refused        `json:"refused"`
		Result  json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return fmt.Errorf("the script said %q: %w", line, err)
	}
	if answer.Refused != nil {
		return answer.Refused
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

// File is a file of an installed package, such as "axe-core/axe.min.js".
func File(t testing.TB, name string) []byte {
	t.Helper()
	content, err := file(t.Context(), name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return content
}

func file(ctx context.Context, name string) ([]byte, error) {
	installed, err := install(ctx)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(installed, "node_modules", filepath.FromSlash(name)))
}
