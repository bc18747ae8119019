package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/app"
	"github.com/writ-project/writ/internal/devidp"
	"github.com/writ-project/writ/internal/pgtest"
)

const (
	sqlite    = "sqlite"
	postgres  = "postgres"
	origin    = "bench.writ.example/log"
	audience  = "writ"
	tokenLife = 12 * time.Hour
	setUpAt   = 16 // tasks that are opened at once
)

// installation is what all servers of a run share: program, keys, declared state, identities. Each database has a base: the
// state after every identity has opened its task and asked once. Every cell gets a fresh copy of it.
type installation struct {
	settings settings
	folder   string
	writ     string // the program
	site     string // folder with catalog, policy and keys
	idp      *devidp.Server
	proof    *proof         // what callers need for what they prove with
	pg       *pgtest.Server // nil without PostgreSQL
	tokens   []string
	sample   string // file with an answer of Writ, for the bare handler
	copies   int
}

// state is where a server keeps what it knows.
type state struct {
	engine string
	data   string
	url    string // of a PostgreSQL database
}

// database is where the store finds it.
func (s state) database() string {
	if s.url != "" {
		return s.url
	}
	return filepath.Join(s.data, app.DatabaseFile)
}

// base is a state and the tasks in it, by identity.
type base struct {
	state

	tasks []string
}

func install(ctx context.Context, s settings, folder string) (_ *installation, err error) {
	i := &installation{settings: s, folder: folder, writ: s.writ, site: filepath.Join(folder, "site"), sample: filepath.Join(folder, "answer.json")}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.close())
		}
	}()
	if i.writ == "" {
		i.writ = filepath.Join(folder, "writ")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", i.writ, "github.com/writ-project/writ/cmd/writ")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return i, fmt.Errorf("build writ: %w\n%s", err, out)
		}
	}
	if i.idp, err = devidp.Start(time.Now); err != nil {
		return i, err
	}
	if i.proof, err = prove(s, folder); err != nil {
		return i, err
	}
	files, err := siteOf(s.identities, i.idp.URL(), i.proof.domain())
	if err != nil {
		return i, err
	}
	if s.soak > 0 {
		files["policy/access/soak.cedar"] = cedar(soakRules())
	}
	if err := app.Init(i.site, origin, files); err != nil {
		return i, err
	}
	for n := range s.identities {
		token, err := i.idp.Token(agentID(n), audience, tokenLife, nil)
		if err != nil {
			return i, err
		}
		i.tokens = append(i.tokens, token)
	}
	return i, nil
}

func (i *installation) close() error {
	var errs []error
	if i.idp != nil {
		errs = append(errs, i.idp.Close())
	}
	if i.pg != nil {
		errs = append(errs, i.pg.Stop())
	}
	return errors.Join(errs...)
}

// configure writes the configuration of a server.
func (i *installation) configure(at state, how callers, address string) (string, error) {
	keys := filepath.Join(i.site, "data")
	text := fmt.Sprintf(`listen: %s
url: %s
data: %s
site: %s
log: {key: %s/log.key, verifier_key: %s/log.pub}
tokens: {keys: [%s/token.key]}
issuers: [{url: %q, audience: %s}]
limits: {requests_per_second: %g, burst: %d, evidence_per_hour: %d, open_questions: 1000000000}
`, address, i.at(how, address).url(), at.data, i.site, keys, keys, keys, i.idp.URL(), audience, i.settings.perIdentity, int(i.settings.perIdentity), int64(1)<<40)
	if at.url != "" {
		text += fmt.Sprintf("database: %q\n", at.url)
	}
	text += i.proof.configuration(how)
	file := filepath.Join(at.data, "writ.yaml")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// at is an address, and whether TLS is spoken there.
func (i *installation) at(how callers, address string) target {
	out := target{address: address}
	if how.overTLS() {
		out.roots = i.proof.roots
	}
	return out
}

// serve runs `writ serve` on a state. Before it stand the words of a program that runs it, if any.
func (i *installation) serve(ctx context.Context, at state, how callers, before ...string) (*process, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	config, err := i.configure(at, how, address)
	if err != nil {
		return nil, err
	}
	return i.launch(ctx, at, i.at(how, address), config, before...)
}

// launch runs `writ serve` with a configuration that is there already.
func (i *installation) launch(ctx context.Context, at state, where target, config string, before ...string) (*process, error) {
	words := append(before[:len(before):len(before)], i.writ, "serve", "--config", config)
	return start(ctx, exec.CommandContext(ctx, words[0], words[1:]...), where, "/readyz", filepath.Join(at.data, "serve.log"))
}

// bare runs the bare handler.
func (i *installation) bare(ctx context.Context, how callers) (*process, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{address, i.sample}
	if how.overTLS() {
		args = append(args, i.proof.certificate, i.proof.key)
	}
	cmd, err := self(ctx, "bare", args...)
	if err != nil {
		return nil, err
	}
	return start(ctx, cmd, i.at(how, address), "/readyz", filepath.Join(i.folder, "bare.log"))
}

// makeBase makes the base of a database.
func (i *installation) makeBase(ctx context.Context, engine string) (_ base, err error) {
	b := base{state: state{engine: engine, data: filepath.Join(i.folder, "base-"+engine)}, tasks: make([]string, len(i.tokens))}
	if err := os.Mkdir(b.data, 0o700); err != nil {
		return b, err
	}
	if engine == postgres {
		if i.pg, err = pgtest.Start(ctx); err != nil {
			return b, err
		}
		if b.url, err = i.pg.Database(ctx); err != nil {
			return b, err
		}
	}
	server, err := i.serve(ctx, b.state, plain)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	if err := i.tellOrders(ctx, server); err != nil {
		return b, err
	}
	if err := i.openTasks(ctx, server, b.tasks); err != nil {
		return b, err
	}
	if _, err := os.Stat(i.sample); err != nil {
		if err := i.keepSample(ctx, server, b.tasks[0]); err != nil {
			return b, err
		}
	}
	requests, err := i.requests(b.tasks, plain, server.address)
	if err != nil {
		return b, err
	}
	_, err = drive(ctx, server.target, requests, pass{connections: setUpAt})
	return b, err
}

func (i *installation) client(server *process, token string) (*client.Client, error) {
	return client.New("http://"+server.address, client.Options{Token: func(context.Context) (string, error) { return token, nil }})
}

func (i *installation) tellOrders(ctx context.Context, server *process) error {
	token, err := i.idp.Token("order-system", audience, tokenLife, nil)
	if err != nil {
		return err
	}
	c, err := i.client(server, token)
	if err != nil {
		return err
	}
	facts := make([]client.Fact, 0, orders)
	for n := range orders {
		tier := []string{"new", "silver", "gold"}[n%3]
		attributes := fmt.Sprintf(`{"status":"open","total":%d,"items":%d,"tier":%q}`, 200+n, 1+n%30, tier)
		facts = append(facts, client.Fact{ID: fmt.Sprintf("Order::%q", orderID(n)), Attributes: json.RawMessage(attributes)})
	}
	const most = 100 // in one call
	for len(facts) > 0 {
		n := min(most, len(facts))
		if _, err := c.PushFacts(ctx, client.Facts{Facts: facts[:n]}); err != nil {
			return err
		}
		facts = facts[n:]
	}
	return nil
}

// openTasks opens a task of each identity.
func (i *installation) openTasks(ctx context.Context, server *process, tasks []string) error {
	var group sync.WaitGroup
	failed := make([]error, setUpAt)
	for part := range setUpAt {
		group.Go(func() {
			for n := part; n < len(tasks) && failed[part] == nil; n += setUpAt {
				c, err := i.client(server, i.tokens[n])
				if err != nil {
					failed[part] = err
					return
				}
				opened, err := c.OpenTask(ctx, client.OpenTask{Type: "work", Purpose: "serves the customers of the day", Reference: "SHIFT-" + strconv.Itoa(n)})
				if err != nil {
					failed[part] = fmt.Errorf("open a task of %s: %w", agentID(n), err)
					return
				}
				tasks[n] = opened.Task.ID
			}
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

// keepSample keeps one answer, so that the bare handler can give one of the same form and size.
func (i *installation) keepSample(ctx context.Context, server *process, task string) error {
	c, err := i.client(server, i.tokens[0])
	if err != nil {
		return err
	}
	answer, err := c.Request(ctx, client.AccessRequest{Task: task, Action: "read_order", Resource: fmt.Sprintf("Order::%q", orderID(0))})
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return os.WriteFile(i.sample, encoded, 0o600)
}

// ask is what an agent asks for, again and again, and what comes of it. Of fifty, one must wait for people and one is refused.
func ask(n int, task string) (body []byte, status int, outcome string) {
	status, outcome = 200, client.Allow
	request := client.AccessRequest{Task: task, Resource: fmt.Sprintf("Order::%q", orderID(n))}
	switch {
	case n%50 == 14:
		request.Action, request.Args = "refund", json.RawMessage(`{"amount":150,"reason":"arrived broken"}`)
		status, outcome = 202, client.NeedsApproval
	case n%50 == 24:
		request.Action, request.Args = "refund", json.RawMessage(`{"amount":5000,"reason":"very angry"}`)
		status, outcome = 403, client.Deny
	case teamOf(n) == "billing":
		request.Action, request.Args = "refund", json.RawMessage(`{"amount":20,"reason":"arrived late"}`)
	case teamOf(n) == "outreach":
		request.Action, request.Resource = "send_message", `Channel::"customers"`
		request.Args = json.RawMessage(`{"text":"Your parcel is on its way and arrives tomorrow.","recipients":["c-1","c-2"]}`)
	case n%10 == 7:
		request.Action = "update_address"
		request.Args = json.RawMessage(`{"street":"Kanalstraat 12","city":"Utrecht","country":"NL"}`)
	case n%10 == 8:
		request.Action, request.Resource = "read_table", fmt.Sprintf("Table::%q", tableID(n))
	case n%10 == 9:
		request.Action, request.Resource = "run_query", fmt.Sprintf("Table::%q", tableID(n))
		request.Args = json.RawMessage(`{"columns":["id","city","total"],"limit":1000}`)
	default:
		request.Action = "read_order"
	}
	body, _ = json.Marshal(request) // a value of ours
	return body, status, outcome
}

// requests are what every identity sends to a server.
func (i *installation) requests(tasks []string, how callers, host string) ([]prepared, error) {
	out := make([]prepared, len(tasks))
	for n, task := range tasks {
		body, status, outcome := ask(n, task)
		must := fmt.Sprintf(`"outcome":%q`, outcome)
		if outcome == client.Deny {
			must = `"code":"forbidden"`
		}
		out[n] = prepared{status: status, must: []byte(must), outcome: outcome}
		shown, err := i.shown(n, how, "POST", i.at(how, host).url()+"/v1/requests", &out[n])
		if err != nil {
			return nil, err
		}
		out[n].raw, out[n].key = request(host, shown, body, i.settings.idempotent)
		if out[n].proofs != nil {
			out[n].proofs.place(out[n].raw)
		}
	}
	return out, nil
}

// bareRequests are the same requests, to the bare handler, which allows all.
func (i *installation) bareRequests(tasks []string, how callers, host string) ([]prepared, error) {
	out, err := i.requests(tasks, how, host)
	for n := range out {
		out[n].proofs = nil // the one in raw will do
		out[n].status, out[n].must, out[n].outcome = 200, []byte(`"outcome":"allow"`), client.Allow
	}
	return out, err
}

// copyOf copies a base, whose server has stopped. drop removes the copy.
func (i *installation) copyOf(ctx context.Context, b base) (_ base, drop func() error, err error) {
	i.copies++
	out := base{state: state{engine: b.engine, data: filepath.Join(i.folder, fmt.Sprintf("copy-%d", i.copies))}, tasks: b.tasks}
	if err := os.Mkdir(out.data, 0o700); err != nil {
		return out, nil, err
	}
	if b.engine == postgres {
		name := fmt.Sprintf("copy%d", i.copies)
		at, err := url.Parse(b.url)
		if err != nil {
			return out, nil, err
		}
		from := strings.TrimPrefix(at.Path, "/")
		at.Path = "/" + name
		out.url = at.String()
		drop = func() error {
			return errors.Join(os.RemoveAll(out.data), i.pg.SQL(ctx, "postgres", "DROP DATABASE "+name+" WITH (FORCE)"))
		}
		return out, drop, i.pg.SQL(ctx, "postgres", "CREATE DATABASE "+name+" TEMPLATE "+from, "CHECKPOINT")
	}
	for _, name := range []string{app.DatabaseFile, app.DatabaseFile + "-wal"} {
		content, err := os.ReadFile(filepath.Join(b.data, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(out.data, name), content, 0o600)
		}
		if err != nil {
			return out, nil, err
		}
	}
	return out, func() error { return os.RemoveAll(out.data) }, nil
}
