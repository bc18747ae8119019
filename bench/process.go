package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 2 * time.Minute // for a server to be ready
	stopLimit  = 30 * time.Second
	tick       = 100 // of the kernel's clock a second: USER_HZ, the same on every Linux
)

// process is a server of the benchmark, in a process of its own.
type process struct {
	target

	cmd     *exec.Cmd
	started time.Time // when it was started
	ready   time.Time // when it first answered
	said    string    // file with its output
	done    chan error
}

// start starts a server and waits until it answers its ready path with 200.
func start(ctx context.Context, cmd *exec.Cmd, at target, ready, said string) (*process, error) {
	output, err := os.OpenFile(said, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	// A group of its own: an interrupt from the terminal is for us, and we stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &process{target: at, cmd: cmd, said: said, started: time.Now(), done: make(chan error, 1)}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		if _, err := at.fetch(ctx, ready); err == nil {
			p.ready = time.Now()
			return p, nil
		}
		select {
		case err := <-p.done:
			p.done <- err
			return nil, fmt.Errorf("%s ended before it was ready: %w\n%s", filepath.Base(cmd.Path), err, p.tail())
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s is not ready: %w\n%s", filepath.Base(cmd.Path), ctx.Err(), p.tail()), p.stop())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// stop asks a server to end, and makes it end.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case err := <-p.done:
		p.done <- err
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", filepath.Base(p.cmd.Path), err, p.tail())
		}
		return nil
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("%s did not stop within %s\n%s", filepath.Base(p.cmd.Path), stopLimit, p.tail())
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// tail is the end of what a server said.
func (p *process) tail() string {
	const most = 2 << 10
	said, _ := os.ReadFile(p.said) // without it the error stands alone
	return string(said[max(0, len(said)-most):])
}

// target is where a server is called.
type target struct {
	address string
	roots   *x509.CertPool // of its certificate; nil: it speaks no TLS
}

func (t target) url() string {
	if t.roots != nil {
		return "https://" + t.address
	}
	return "http://" + t.address
}

func (t target) fetch(ctx context.Context, path string) ([]byte, error) {
	url := t.url() + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: t.roots},
	}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %.300s", url, response.StatusCode, body)
	}
	return body, err
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// stat are the fields of /proc/PID/stat that follow the name, which may hold anything.
func stat(pid int) ([]string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	const most = 20
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) < most {
		return nil, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return fields, nil
}

// The places of fields in what stat returns (proc(5), less the first two).
const (
	statParent   = 1
	statUser     = 11 // then system, and both of the children that were waited for
	statChildren = 13
)

func ticks(fields []string) float64 {
	total := 0
	for _, field := range fields {
		n, _ := strconv.Atoi(field) // the kernel writes numbers
		total += n
	}
	return float64(total) / tick
}

// cpu is the seconds of CPU that a process has used.
func cpu(pid int) (float64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return ticks(fields[statUser : statUser+2]), nil
}

// family is a process and its children.
func family(parent int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	pids := []int{parent}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if fields, err := stat(pid); err == nil && fields[statParent] == strconv.Itoa(parent) { // else it has just ended
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// familyCPU is the seconds of CPU that a process and all its children, ended ones too, have used.
func familyCPU(parent int) (float64, error) {
	pids, err := family(parent)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, pid := range pids {
		fields, err := stat(pid)
		switch {
		case err != nil && pid != parent:
			continue
		case err != nil:
			return 0, err
		case pid == parent:
			total += ticks(fields[statChildren : statChildren+2])
		}
		total += ticks(fields[statUser : statUser+2])
	}
	return total, nil
}

// memory is the present and the highest resident size of a process in MiB.
func memory(pid int) (present, highest float64, err error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "VmRSS:":
			present = kib / 1024
		case "VmHWM:":
			highest = kib / 1024
		}
	}
	return present, highest, nil
}
