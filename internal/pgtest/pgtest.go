// Package pgtest runs throw-away PostgreSQL servers for tests and benchmarks. A server that cannot be started is an
// error, never a skipped test.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// startLimit bounds how long a server may take to be made, to start and to stop.
const startLimit = time.Minute

// superuser is the role that tests connect as. It has no password: the server listens on a socket in a folder that only
// its owner and root can enter.
const superuser = "postgres"

// Server is a running PostgreSQL server with a folder of its own.
type Server struct {
	folder  string
	bin     string
	as      *syscall.Credential // PostgreSQL refuses to run as root
	process *exec.Cmd
	// watching ends those who would end the server.
	watching []func()
	made     atomic.Int64 // databases
}

// Start makes a server and starts it. Settings are lines of postgresql.conf, such as "wal_sync_method=fsync".
// Call Stop when done.
func Start(ctx context.Context, settings ...string) (_ *Server, err error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.folder, err = os.MkdirTemp("", "writ-pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if s.as, err = owner(s.folder); err != nil {
		return nil, err
	}
	making, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := s.run(making, "initdb", "-D", s.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"); err != nil {
		return nil, err
	}
	settings = append([]string{
		"listen_addresses=''", "unix_socket_directories='" + s.folder + "'", "max_connections=200", "logging_collector=off",
	}, settings...)
	config, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = config.WriteString("\n" + strings.Join(settings, "\n") + "\n")
	if err = errors.Join(err, config.Close()); err != nil {
		return nil, err
	}
	return s, s.Restart(ctx)
}

// binaries finds the folder of initdb and postgres: on the PATH, or the newest that Debian has installed.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		real, err := filepath.EvalSymlinks(path) // psql and its like stand beside it there
		return filepath.Dir(real), err
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("there is no PostgreSQL server here: run scripts/deps, or install postgresql and put initdb on the PATH")
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

func version(initdb string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb)))) // what is no number comes first
	return n
}

// owner hands the folder to the user that the server runs as; nil is this process's own.
func owner(folder string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup(superuser)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and needs its own user: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(folder, int(uid), int(gid))
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.folder
	// A group of its own: an interrupt from the terminal must not end the server before the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return cmd
}

func (s *Server) run(ctx context.Context, name string, args ...string) error {
	out, err := s.command(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// Restart starts the server, after Kill or Stop of its process, or for the first time, and waits until it answers.
func (s *Server) Restart(ctx context.Context) error {
	output, err := os.OpenFile(s.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.process = s.command(context.WithoutCancel(ctx), "postgres", "-D", s.data())
	s.process.Stdout, s.process.Stderr = output, output
	if err := errors.Join(s.process.Start(), output.Close()); err != nil {
		return err
	}
	if err := s.watch(ctx); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := s.run(waiting, "pg_isready", "-q", "-h", s.folder)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-waiting.Done():
			said, _ := os.ReadFile(s.Log()) // without it the error stands alone
			return fmt.Errorf("the server does not start: %w\n%s", err, said)
		}
	}
}

// watch ends the server when this process has died without doing so: its end of a pipe closes then.
func (s *Server) watch(ctx context.Context) error {
	watcher := exec.CommandContext(context.WithoutCancel(ctx), "sh", "-c", `read -r _; kill -QUIT "$0" 2>/dev/null; sleep 2; rm -rf "$1"`, strconv.Itoa(s.PID()), s.folder)
	watcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := watcher.StdinPipe()
	if err != nil {
		return err
	}
	if err := watcher.Start(); err != nil {
		return err
	}
	s.watching = append(s.watching, func() {
		_ = watcher.Process.Kill() // before it sees the pipe close
		_ = watcher.Wait()
		_ = pipe.Close()
	})
	return nil
}

// PID is the server's first process; those that serve connections are its children.
func (s *Server) PID() int { return s.process.Process.Pid }

// Log is the file with what the server says.
func (s *Server) Log() string { return filepath.Join(s.folder, "log") }

// Socket is the path of the socket that the server listens on.
func (s *Server) Socket() string { return filepath.Join(s.folder, ".s.PGSQL.5432") }

// Database makes a fresh database and returns its URL.
func (s *Server) Database(ctx context.Context) (string, error) {
	name := fmt.Sprintf("writ%d", s.made.Add(1))
	if err := s.SQL(ctx, superuser, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	return s.URL(name, s.folder), nil
}

// URL is how a database of this server is reached on a socket in a folder.
func (s *Server) URL(name, folder string) string {
	return (&url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + name, RawQuery: url.Values{"host": {folder}}.Encode()}).String()
}

// SQL runs statements in a database, outside any client of ours.
func (s *Server) SQL(ctx context.Context, database string, statements ...string) error {
	args := []string{"-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", s.folder, "-U", superuser, "-d", database}
	for _, statement := range statements {
		args = append(args, "-c", statement)
	}
	return s.run(ctx, "psql", args...)
}

// Kill ends the server without giving it the time to write anything.
func (s *Server) Kill() error {
	for _, end := range s.watching {
		end()
	}
	s.watching = nil
	err := s.process.Process.Signal(syscall.SIGQUIT) // "immediate shutdown": the children die too, and nothing is flushed
	_ = s.process.Wait()
	return err
}

// Stop ends the server and removes its folder.
func (s *Server) Stop() error {
	var err error
	if s.process != nil && s.process.ProcessState == nil && s.process.Process != nil {
		err = s.Kill()
	}
	return errors.Join(err, os.RemoveAll(s.folder))
}
