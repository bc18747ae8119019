package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/app"
)

// childVariable makes this program one of its own servers: bare, or Writ with a profile.
const childVariable = "WRIT_BENCH_CHILD"

// self is a command that runs this program as one of its servers.
func self(ctx context.Context, role string, args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), childVariable+"="+role)
	return cmd, nil
}

// child runs as the server that the environment names, until it is told to stop. It reports whether it did.
func child() (ran bool, err error) {
	role := os.Getenv(childVariable)
	if role == "" {
		return false, nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch args := os.Args[1:]; {
	case role == "bare" && (len(args) == 2 || len(args) == 4):
		return true, serveBare(ctx, args[0], args[1], args[2:]...)
	case role == "profile" && len(args) == 2:
		return true, serveProfiled(ctx, args[0], args[1])
	default:
		return true, fmt.Errorf("%s=%s is for the benchmark itself", childVariable, role)
	}
}

// serveBare is what everything is compared with: net/http reading and writing JSON of the same size, and nothing else. With
// the files of a certificate and its key it speaks TLS, and asks for a client certificate as Writ does.
func serveBare(ctx context.Context, address, sample string, files ...string) error {
	content, err := os.ReadFile(sample)
	if err != nil {
		return err
	}
	var answer client.Outcome
	if err := json.Unmarshal(content, &answer); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/requests", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var ask client.AccessRequest
		if err := errors.Join(err, json.Unmarshal(body, &ask)); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		encoded, err := json.Marshal(&answer)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(encoded)))
		_, _ = w.Write(encoded)
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	serve := server.ListenAndServe
	if len(files) > 0 {
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}
		serve = func() error { return server.ListenAndServeTLS(files[0], files[1]) }
	}
	if err := serve(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveProfiled is `writ serve`, which writes a profile of its CPU from SIGUSR1 to its end, and beside it one of the memory in
// use then. The real server has no such thing.
func serveProfiled(ctx context.Context, file, profile string) (err error) {
	config, err := app.LoadConfig(file)
	if err != nil {
		return err
	}
	running, err := app.New(ctx, config, app.Options{Log: slog.New(slog.NewJSONHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, running.Close()) }()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", config.Listen)
	if err != nil {
		return err
	}
	out, err := os.Create(profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	begin := make(chan os.Signal, 1)
	signal.Notify(begin, syscall.SIGUSR1)
	go func() {
		<-begin
		if err := pprof.StartCPUProfile(out); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	err = running.Serve(ctx, listener)
	pprof.StopCPUProfile()
	return errors.Join(err, writeHeap(profile+".heap"))
}

func writeHeap(file string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(pprof.WriteHeapProfile(out), out.Close())
}
