package witness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/writ-project/writ/evidence"
)

const (
	typeText = "text/plain; charset=utf-8"
	typeSize = "text/x.tlog.size"

	// maxClockBehind is how far the clock may be behind the last cosignature; a longer step back is refused, because a
	// cosignature would then deny a later one.
	maxClockBehind = time.Minute
)

// Options make a witness.
type Options struct {
	Folder   string             // of its memory, on a local disk
	Cosigner *evidence.Cosigner // its key
	LogKeys  []string           // verifier keys of the logs it knows; those of the same name are of one log
	Now      func() time.Time   // nil: time.Now
	Log      *slog.Logger       // nil: nothing is logged
}

// Witness is a witness as an http.Handler. Submission and monitoring prefix are both the URL where it is mounted.
type Witness struct {
	cosigner *evidence.Cosigner
	logs     map[string][]string // verifier keys by origin
	memory   *memory
	now      func() time.Time
	log      *slog.Logger
	mux      *http.ServeMux
}

// Open makes the witness whose memory is in the folder, and holds that memory until Close. Its error wraps [ErrInUse], [ErrMemory] or
// evidence.ErrKey.
func Open(o Options) (*Witness, error) {
	w := &Witness{cosigner: o.Cosigner, now: o.Now, log: o.Log, mux: http.NewServeMux()}
	var err error
	if w.logs, err = logsByOrigin(o.LogKeys, o.Cosigner.VerifierKey()); err != nil {
		return nil, err
	}
	if w.now == nil {
		w.now = time.Now
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.memory, err = openMemory(o.Folder, o.Cosigner.VerifierKey()); err != nil {
		return nil, err
	}
	w.mux.HandleFunc("POST /add-checkpoint", w.addCheckpoint)
	w.mux.HandleFunc("GET /{hash}/checkpoint", w.checkpoint)
	w.mux.HandleFunc("GET /healthz", w.healthz)
	w.mux.HandleFunc("GET /{$}", w.index)
	return w, nil
}

// Close lets go of the memory. What was cosigned is on the disk already.
func (w *Witness) Close() error { return w.memory.close() }

// logsByOrigin groups the keys by the log that they name. All faults at once.
func logsByOrigin(keys []string, own string) (map[string][]string, error) {
	logs := make(map[string][]string)
	var faults []error
	for _, key := range keys {
		v, err := note.NewVerifier(key)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("%w: %.200q is no verifier key of a log (origin+id+base64), as in its log.pub: %w", evidence.ErrKey, key, err))
		case slices.Contains(logs[v.Name()], key):
			faults = append(faults, fmt.Errorf("%w: %.200q is there twice", evidence.ErrKey, key))
		case evidence.SameKey(key, own):
			faults = append(faults, fmt.Errorf("%w: %.200q is the key of this witness itself", evidence.ErrKey, key))
		default:
			logs[v.Name()] = append(logs[v.Name()], key)
		}
	}
	return logs, errors.Join(faults...)
}

// ServeHTTP gives every answer safe headers.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	w.mux.ServeHTTP(rw, r)
}

// refusal is an answer of the protocol that is not a cosignature.
type refusal struct {
	status int
	size   int64 // for 409
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

func (w *Witness) addCheckpoint(rw http.ResponseWriter, r *http.Request) {
	line, err := w.add(rw, r)
	if err == nil {
		rw.Header().Set("Content-Type", typeText)
		_, _ = rw.Write(line)
		return
	}
	var no *refusal
	if !errors.As(err, &no) {
		w.log.ErrorContext(r.Context(), "cannot cosign", slog.Any("error", err))
		http.Error(rw, "this witness cannot keep what it would cosign; its operator finds the reason in its log", http.StatusInternalServerError)
		return
	}
	w.log.InfoContext(r.Context(), "refused", slog.Int("status", no.status), slog.Any("error", no.err))
	if no.status == http.StatusConflict {
		rw.Header().Set("Content-Type", typeSize)
		rw.WriteHeader(no.status)
		_, _ = fmt.Fprintf(rw, "%d\n", no.size)
		return
	}
	http.Error(rw, no.err.Error(), no.status)
}

// add answers add-checkpoint in the order of c2sp.org/tlog-witness.
func (w *Witness) add(rw http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, err: fmt.Errorf("the body has more than %d bytes", maxRequest)}
	}
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, err: err}
	}
	req, err := parseRequest(body)
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, err: err}
	}
	keys := w.logs[req.origin()]
	if len(keys) == 0 {
		return nil, &refusal{status: http.StatusNotFound, err: fmt.Errorf("this witness does not know the log %.80q: ask its operator to add the log's verifier key", req.origin())}
	}
	c, err := evidence.OpenCheckpoint(req.signed, keys...)
	if err != nil {
		return nil, &refusal{status: statusOf(err), err: err}
	}
	if req.old > c.Size {
		return nil, &refusal{status: http.StatusBadRequest, err: fmt.Errorf("the old size %d is larger than the checkpoint's, %d", req.old, c.Size)}
	}
	if req.signed, err = evidence.LogSignatures(req.signed, keys...); err != nil {
		return nil, err
	}
	var line []byte
	err = w.memory.advance(c.Origin, func(known record) (next record, err error) {
		next, line, err = w.next(r.Context(), known, c, req)
		return next, err
	})
	if err != nil {
		return nil, err
	}
	w.log.InfoContext(r.Context(), "cosigned", slog.String("origin", c.Origin), slog.Int64("old", req.old), slog.Int64("size", c.Size), slog.String("root", c.Root.String()))
	return line, nil
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, evidence.ErrUnverified):
		return http.StatusForbidden
	case errors.Is(err, evidence.ErrEmptyRoot):
		return http.StatusUnprocessableEntity
	default:
		return http.StatusBadRequest
	}
}

// next decides whether the checkpoint continues what is known, and signs it. The cosignature must not leave before the
// record that is returned with it is on the disk.
func (w *Witness) next(ctx context.Context, known record, c evidence.Checkpoint, req request) (record, []byte, error) {
	if req.old != known.checkpoint.Size {
		return record{}, nil, &refusal{status: http.StatusConflict, size: known.checkpoint.Size, err: fmt.Errorf("%.80q is known at size %d, not %d", c.Origin, known.checkpoint.Size, req.old)}
	}
	if err := evidence.VerifyConsistency(known.checkpoint, c, req.proof); err != nil {
		// Two checkpoints of one size are proof enough that the log has forked; of two sizes, the proof may be just wrong.
		w.log.WarnContext(ctx, "inconsistent", slog.Bool("fork", c.Size == known.checkpoint.Size && c.Root != known.checkpoint.Root),
			slog.String("known", string(known.note)), slog.String("offered", string(req.signed)))
		return record{}, nil, &refusal{status: http.StatusUnprocessableEntity, err: err}
	}
	at, err := known.next(w.now())
	if err != nil {
		return record{}, nil, err
	}
	line, err := w.cosigner.Cosign(c, at)
	if err != nil {
		return record{}, nil, err
	}
	merged, err := evidence.MergeCosignatures(req.signed, line, w.cosigner.VerifierKey())
	return record{c, at, merged}, line, err
}

// checkpoint is the monitoring interface: the largest checkpoint of a log that was cosigned.
func (w *Witness) checkpoint(rw http.ResponseWriter, r *http.Request) {
	records, _ := w.memory.all()
	for _, known := range records {
		if hashOf(known.checkpoint.Origin) == r.PathValue("hash") {
			rw.Header().Set("Content-Type", typeText)
			_, _ = rw.Write(known.note)
			return
		}
	}
	http.Error(rw, "this witness has cosigned no checkpoint of such a log; the path is the SHA-256 of the log's origin in lowercase hex", http.StatusNotFound)
}

// hashOf is the name of a log in URLs.
func hashOf(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}

func (w *Witness) healthz(rw http.ResponseWriter, _ *http.Request) {
	w.memory.mu.Lock()
	broken := w.memory.broken
	w.memory.mu.Unlock()
	if broken != nil {
		http.Error(rw, broken.Error(), http.StatusServiceUnavailable)
		return
	}
	rw.Header().Set("Content-Type", typeText)
	_, _ = io.WriteString(rw, "ok\n")
}

// index tells people what this is.
func (w *Witness) index(rw http.ResponseWriter, _ *http.Request) {
	records, gone := w.memory.all()
	var page strings.Builder
	fmt.Fprintf(&page, "Witness %s (c2sp.org/tlog-witness)\n\nVerifier key: %s\nSubmit:       POST add-checkpoint\n", w.cosigner.Name(), w.cosigner.VerifierKey())
	known := make(map[string]record)
	var origins []string
	for _, r := range records {
		known[r.checkpoint.Origin] = r
		origins = append(origins, r.checkpoint.Origin)
	}
	for origin := range w.logs {
		if _, cosigned := known[origin]; !cosigned {
			origins = append(origins, origin)
		}
	}
	slices.Sort(origins)
	for _, origin := range origins {
		fmt.Fprintf(&page, "\n%s\n", origin)
		if len(w.logs[origin]) == 0 {
			page.WriteString("  no longer cosigned\n")
		}
		if r := known[origin]; r.note != nil {
			fmt.Fprintf(&page, "  size %d, root %s\n  cosigned %s\n  %s/checkpoint\n", r.checkpoint.Size, r.checkpoint.Root, r.at.UTC().Format(time.RFC3339), hashOf(origin))
		} else {
			page.WriteString("  nothing cosigned yet\n")
		}
	}
	for _, f := range gone {
		fmt.Fprintf(&page, "\nForgotten on %s: %s, which was at size %d.\n  Reason: %s\n", f.Time.UTC().Format(time.RFC3339), f.Origin, f.Size, strconv.Quote(f.Reason))
		if next, err := w.memory.read(f.Accepted); err == nil {
			fmt.Fprintf(&page, "  Went on from size %d, root %s.\n", next.checkpoint.Size, next.checkpoint.Root)
		}
	}
	rw.Header().Set("Content-Type", typeText)
	_, _ = io.WriteString(rw, page.String())
}

// Serve answers on the listener until the context ends, then lets requests finish. The files are the chain and key of its
// certificate, or empty for plain HTTP. The listener is closed when it returns.
func (w *Witness) Serve(ctx context.Context, listener net.Listener, certificate, key string) error {
	const header, request, idle, grace = 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Second
	server := &http.Server{
		Handler: w, ReadHeaderTimeout: header, ReadTimeout: request, WriteTimeout: request, IdleTimeout: idle,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() {
		if certificate != "" {
			failed <- server.ServeTLS(listener, certificate, key)
			return
		}
		failed <- server.Serve(listener)
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return server.Shutdown(stop)
}
