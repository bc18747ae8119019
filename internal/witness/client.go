package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/writ-project/writ/evidence"
)

// The alarms of asking. Both mean that the log and the witness no longer see the same history; a person must look. The witness has
// shown a checkpoint that the log's own key has signed: its word alone is [ErrUnproven].
var (
	// ErrSawNewer: the log has signed a larger checkpoint than it has now. It was rolled back, as by restoring an old backup, or
	// it has grown since it asked, by another process.
	ErrSawNewer = errors.New("the witness has seen a newer state of this log")
	// ErrInconsistent: the log has signed a checkpoint that this one does not continue. The log has forked.
	ErrInconsistent = errors.New("the witness has seen another history of this log")
	// ErrUnproven: the witness says one of the two, but does not show such a checkpoint. It counts as one that does not answer.
	ErrUnproven = errors.New("the witness says that it has seen a newer state or another history of this log, and does not prove it")
)

// Alarm is an alarm with its proof. It wraps [ErrSawNewer] or [ErrInconsistent].
type Alarm struct {
	Known evidence.Checkpoint // that the log has signed
	Note  []byte              // which says so
	Head  evidence.Checkpoint // that the log asked about
	err   error
}

// Error tells a person what to do.
func (a *Alarm) Error() string {
	hint := "Keep both, and find out who forked the log"
	if errors.Is(a.err, ErrSawNewer) {
		hint = "Restore a newer backup; if there is none, accept the loss, and have the witness's operator accept it"
	}
	return fmt.Sprintf("%v: the log's key has signed size %d with root %s, and now size %d with root %s. %s: %.600q",
		a.err, a.Known.Size, a.Known.Root, a.Head.Size, a.Head.Root, hint, a.Note)
}

// Unwrap is one of the two alarms.
func (a *Alarm) Unwrap() error { return a.err }

const (
	defaultTimeout = 10 * time.Second
	maxResponse    = 64 << 10 // bytes, of any answer of a witness
)

// Peer is a witness to ask.
type Peer struct {
	URL string // submission prefix; https, or http on a loopback address
	// Monitor is the monitoring prefix, where the witness shows what it has cosigned; empty: the submission prefix.
	Monitor string
	Key     string // verifier key
}

// ClientOptions make a client.
type ClientOptions struct {
	LogKeys   []string // verifier keys of the log that asks
	Witnesses []Peer
	Timeout   time.Duration     // for all witnesses together; 0: ten seconds
	Transport http.RoundTripper // nil: that of package http
}

// Client asks witnesses to cosign the checkpoints of one log. It may be used by several goroutines at once; they wait for each other.
type Client struct {
	logKeys   []string
	timeout   time.Duration
	http      *http.Client
	witnesses []*peer

	asking sync.Mutex // one checkpoint at a time, so that none is asked for after a later one
}

// peer is what the client knows of a witness.
type peer struct {
	name  string
	key   string
	url   string // of add-checkpoint
	shown string // where it shows what it has cosigned of this log
	size  int64  // that the witness is believed to have cosigned
}

// NewClient checks the witnesses. All faults are reported at once; they wrap evidence.ErrKey where a key is at fault.
func NewClient(o ClientOptions) (*Client, error) {
	c := &Client{logKeys: o.LogKeys, timeout: o.Timeout, http: &http.Client{
		Transport:     o.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	var faults []error
	var keys []string
	logs, err := logsByOrigin(o.LogKeys, "")
	if err != nil || len(logs) != 1 {
		faults = append(faults, errors.Join(fmt.Errorf("%w: the client needs the verifier keys of its log", evidence.ErrKey), err))
	}
	var origin string
	for origin = range logs {
		break
	}
	for _, w := range o.Witnesses {
		if w.Monitor == "" {
			w.Monitor = w.URL
		}
		endpoint, err := endpointOf(w.URL, "add-checkpoint")
		shown, err2 := endpointOf(w.Monitor, hashOf(origin), "checkpoint")
		if err == nil {
			err = err2
		}
		if err != nil {
			faults = append(faults, err)
		}
		for _, key := range o.LogKeys {
			if evidence.SameKey(w.Key, key) {
				faults = append(faults, fmt.Errorf("%w: the witness %s has the key of the log; a log cannot be its own witness", evidence.ErrKey, w.URL))
			}
		}
		name, _, _ := strings.Cut(w.Key, "+")
		keys = append(keys, w.Key)
		c.witnesses = append(c.witnesses, &peer{name: name, key: w.Key, url: endpoint, shown: shown})
	}
	if _, err := evidence.NewCosignaturePolicy(1, keys...); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return c, nil
}

// CheckURL makes sure that a witness can be asked at a URL.
func CheckURL(prefix string) error {
	_, err := endpointOf(prefix, "add-checkpoint")
	return err
}

// endpointOf holds URLs to what is safe: what travels is public, but whoever answers in a witness's place can withhold.
func endpointOf(prefix string, path ...string) (string, error) {
	u, err := url.Parse(prefix)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("the URL of a witness, %.200q, must be a plain one such as https://witness.example.com", prefix)
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return "", fmt.Errorf("the URL of a witness, %.200q, must be https, or http on a loopback address", prefix)
	}
	return u.JoinPath(path...).String(), nil
}

// Prove yields the consistency proof between two sizes of the log, as evidence.ProveConsistency does. It is called by several
// goroutines at once.
type Prove func(ctx context.Context, older, newer int64) ([]evidence.Hash, error)

// Answer is what one witness said.
type Answer struct {
	Witness string // its name
	URL     string // that it was asked at
	Err     error  // nil: it has cosigned
}

// Asked is what all witnesses said.
type Asked struct {
	// Checkpoint is the signed checkpoint with the cosignatures of all that have cosigned it, now or before. It is valid
	// whatever the errors are.
	Checkpoint []byte
	Answers    []Answer // in the order of the configuration
}

// Err joins what went wrong, witness by witness; nil: all have cosigned. With errors.Is, [ErrSawNewer] and
// [ErrInconsistent] are found in it.
func (a Asked) Err() error {
	var faults []error
	for _, answer := range a.Answers {
		if answer.Err != nil {
			faults = append(faults, fmt.Errorf("witness %s: %w", answer.Witness, answer.Err))
		}
	}
	return errors.Join(faults...)
}

// Ask asks all witnesses at once to cosign a signed checkpoint of the log. Call it with checkpoints that grow, or with the same one again.
// An error means that nobody was asked, because the checkpoint is not one of this log; what single witnesses
// said is in the answers.
func (c *Client) Ask(ctx context.Context, signed []byte, prove Prove) (Asked, error) {
	head, err := evidence.OpenCheckpoint(signed, c.logKeys...)
	if err != nil {
		return Asked{}, err
	}
	bare, err := evidence.LogSignatures(signed, c.logKeys...)
	if err != nil {
		return Asked{}, err
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	asked := Asked{Checkpoint: signed, Answers: make([]Answer, len(c.witnesses))}
	lines := make([][]byte, len(c.witnesses))
	var wait sync.WaitGroup
	for i, w := range c.witnesses {
		wait.Go(func() {
			var err error
			lines[i], err = c.ask(ctx, w, head, bare, prove)
			asked.Answers[i] = Answer{w.name, w.url, err}
		})
	}
	wait.Wait()
	for i, w := range c.witnesses {
		if asked.Answers[i].Err != nil {
			continue
		}
		merged, err := evidence.MergeCosignatures(asked.Checkpoint, lines[i], w.key)
		if err != nil {
			asked.Answers[i].Err = err
			continue
		}
		asked.Checkpoint = merged
	}
	return asked, nil
}

// ask asks one witness, and once more if its size is not the one that was believed.
func (c *Client) ask(ctx context.Context, w *peer, head evidence.Checkpoint, bare []byte, prove Prove) ([]byte, error) {
	const attempts = 2
	old := min(w.size, head.Size) // more than the log has cannot be proven; the witness will say it
	for range attempts {
		var proof []evidence.Hash
		if 0 < old && old < head.Size {
			var err error
			if proof, err = prove(ctx, old, head.Size); err != nil {
				return nil, fmt.Errorf("cannot prove that size %d continues size %d: %w", head.Size, old, err)
			}
		}
		status, content, body, err := c.send(ctx, http.MethodPost, w.url, request{old, proof, bare}.body())
		switch {
		case err != nil:
			return nil, err
		case status == http.StatusOK:
			// Verified alone: nothing of a witness comes near the signatures of others before that.
			if _, err := evidence.MergeCosignatures(bare, body, w.key); err != nil {
				return nil, fmt.Errorf("its answer is no cosignature of this checkpoint: %w", err)
			}
			w.size = head.Size
			return body, nil
		case status == http.StatusUnprocessableEntity:
			return nil, c.proven(ctx, w, head, prove, fmt.Sprintf("what it has cosigned at size %d is not the beginning of this log at size %d: %.300q", old, head.Size, body))
		case status != http.StatusConflict:
			return nil, refused(status, body)
		}
		seen, ok := parseSize(strings.TrimSuffix(string(body), "\n"))
		if !ok || content != typeSize || !bytes.HasSuffix(body, []byte("\n")) {
			return nil, fmt.Errorf("it answers 409 without its size (%s, %.60q): it does not speak c2sp.org/tlog-witness", content, body)
		}
		if seen > head.Size {
			return nil, c.proven(ctx, w, head, prove, fmt.Sprintf("it has cosigned size %d, this log has %d", seen, head.Size))
		}
		w.size, old = seen, seen
	}
	return nil, errors.New("its size changed while it was asked: somebody else shows it this log, too")
}

// proven is what a witness's claim against a head is worth. Anybody who answers in its place can make one; only the log's key can
// have signed the checkpoint that proves it.
func (c *Client) proven(ctx context.Context, w *peer, head evidence.Checkpoint, prove Prove, claim string) error {
	status, _, body, err := c.send(ctx, http.MethodGet, w.shown, nil)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnproven, claim, err)
	}
	if status != http.StatusOK {
		return fmt.Errorf("%w: %s; %s answers %d: %.300q", ErrUnproven, claim, w.shown, status, body)
	}
	known, err := evidence.OpenCheckpoint(body, c.logKeys...)
	if err != nil {
		return fmt.Errorf("%w: %s; what %s shows is no checkpoint of this log: %w", ErrUnproven, claim, w.shown, err)
	}
	if known.Size > head.Size {
		return &Alarm{known, body, head, ErrSawNewer}
	}
	var proof []evidence.Hash
	if 0 < known.Size && known.Size < head.Size {
		if proof, err = prove(ctx, known.Size, head.Size); err != nil {
			return fmt.Errorf("cannot prove that size %d continues size %d: %w", head.Size, known.Size, err)
		}
	}
	if err := evidence.VerifyConsistency(known, head, proof); err != nil {
		return &Alarm{known, body, head, ErrInconsistent}
	}
	return fmt.Errorf("%w: %s; what %s shows, size %d, is the beginning of this log", ErrUnproven, claim, w.shown, known.Size)
}

func refused(status int, body []byte) error {
	hint := "see its answer"
	switch status {
	case http.StatusNotFound:
		hint = "it does not know this log: give its operator the log's verifier key, or mend the URL"
	case http.StatusForbidden:
		hint = "it trusts another key for this log: give its operator the new verifier key"
	}
	return fmt.Errorf("it answers %d (%s): %.300q", status, hint, body)
}

func (c *Client) send(ctx context.Context, method, url string, body []byte) (status int, content string, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", typeText)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err == nil && len(answer) > maxResponse {
		err = fmt.Errorf("its answer has more than %d bytes", maxResponse)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer, err
}
