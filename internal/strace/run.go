package strace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// ReadFile reads a recording.
func ReadFile(path string) ([]Call, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return Read(file)
}

// Attached is an strace of threads or processes that were running already.
type Attached struct {
	command *exec.Cmd
	file    string
	said    *bufio.Reader
}

// Attach starts recording what the given threads do, and returns when it does. Options are strace's, such as
// "-f" to follow all threads of each and what they start, or "-e", "inject=fsync:error=EIO:when=3"; the count of an
// injection is of each thread. Call Stop when done; the context's end does not stop it.
func Attach(ctx context.Context, file string, options []string, pids ...int) (*Attached, error) {
	args := append([]string{"-y", "-ttt", "-o", file}, options...)
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	a := &Attached{command: exec.CommandContext(context.WithoutCancel(ctx), "strace", args...), file: file}
	// A group of its own: an interrupt from the terminal must not leave a thread stopped.
	a.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := a.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	a.said = bufio.NewReader(out)
	if err := a.command.Start(); err != nil {
		return nil, err
	}
	for waiting := len(pids); waiting > 0; {
		line, err := a.said.ReadString('\n')
		if err != nil {
			return nil, errors.Join(fmt.Errorf("strace ended: %w", err), a.command.Wait())
		}
		for _, pid := range pids {
			if strings.HasPrefix(line, "strace: Process "+strconv.Itoa(pid)+" attached") {
				waiting--
			}
		}
		if strings.Contains(line, "attach:") || strings.Contains(line, "invalid") {
			return nil, errors.Join(fmt.Errorf("%s (as another user than root this needs kernel.yama.ptrace_scope=0)", strings.TrimSpace(line)), a.command.Process.Kill(), a.command.Wait())
		}
	}
	go func() { _, _ = a.said.WriteTo(io.Discard) }() // more threads may be attached; it ends with strace
	return a, nil
}

// Stop lets the threads go, if they still live, and returns what was recorded.
func (a *Attached) Stop() ([]Call, error) {
	if err := a.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, err
	}
	_ = a.command.Wait() // by the signal
	return ReadFile(a.file)
}
