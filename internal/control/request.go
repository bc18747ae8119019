package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// Idempotency makes a call repeatable: the key, and a digest of the route and body that it stands for.
type Idempotency struct {
	Key    string
	Digest [sha256.Size]byte
}

const (
	idempotencyLife = 24 * time.Hour
	mostOpen        = 2000 // tasks of one identity, and rights lent to it, that a label is held against
	maxRedecided    = 100  // live grants, of those that labels can speak against, that are decided again when one is gained
	maxKey          = 128  // bytes of an idempotency key
	maxJSON         = 64 << 10

	maxTTL access.Seconds = 366 * 24 * 3600 // far more than any policy gives, far less than would overflow
)

// Ask is a request for access, as an endpoint understood it.
type Ask struct {
	Subject     access.Ref // on whose behalf an enforcement point asks; zero: the caller itself
	Task        string
	Action      access.Ref
	Resource    access.Ref
	Args        json.RawMessage
	Constraints access.Constraints // of a right to lend, instead of Args
	TTL         access.Seconds
	MaxUses     int64 // 0: as policy gives
	Mode        access.Mode
	Hops        int // how often a right to lend may be passed on; 0: as often as any
	Parent      string
	Idempotency *Idempotency
}

func (a *Ask) request() access.Request {
	return access.Request{
		Subject: a.Subject, Action: a.Action, Resource: a.Resource, Args: a.Args, Constraints: a.Constraints,
		TTL: a.TTL, MaxUses: a.MaxUses, Mode: cmp.Or(a.Mode, access.Use), Deepest: a.Hops, Task: a.Task, Parent: a.Parent,
	}
}

// Check refuses what no catalog and no policy could make right, as Request does: for who does something else before.
func (a *Ask) Check() error {
	request := a.request()
	return checkLimits(&request)
}

// Answer is a decision and what came of it.
type Answer struct {
	ID         string // of the decision, and of the grant or the approval that it made
	Decided    access.Decided
	Grant      *access.Grant
	Credential *Released
	Approval   *access.Approval
	Task       *access.Task // opened by the decision
	Evidence   int64        // index of the entry
	Time       time.Time
	Repeated   bool // the answer to a call that was made before
}

// Released is a credential on its way to the caller; it is kept nowhere.
type Released struct {
	Token     string
	ExpiresAt time.Time
	BoundTo   string
}

// Refusal is the typed no of an answer, or nil if it allows.
func (a *Answer) Refusal() *Refusal {
	r := &Refusal{Code: a.Decided.Code, Decision: a.ID, Evidence: a.Evidence}
	switch a.Decided.Outcome {
	case access.Allow:
		return nil
	case access.NeedsApproval:
		r.Code, r.Approval = access.CodeApprovalRequired, a.ID
	case access.Deny:
	}
	return r
}

// Request decides on an ask. The answer may be a refusal, which is recorded like any decision; errors are *Invalid,
// *Refusal (limits, a caller that may not ask), access.ErrUnavailable.
func (c *Control) Request(ctx context.Context, caller Caller, ask Ask) (*Answer, error) {
	if ask.Subject.IsZero() {
		ask.Subject = caller.Identity
	}
	if ask.Task == "" {
		return nil, invalid(InvalidArgument, "a request names its task: open one first")
	}
	if ask.Action.Type == access.TypeWritAction {
		return nil, invalid(UnknownAction, "%s has its own call and cannot be requested", ask.Action)
	}
	request := ask.request()
	if err := checkLimits(&request); err != nil {
		return nil, err
	}
	return c.once(ctx, caller, ask.Idempotency, func(v View, s *snapshot) (*Answer, event.Change, error) {
		if ask.Parent != "" {
			// Asking under somebody else's grant is for its holder to offer, see Delegate.
			parent, err := ownGrant(v, Caller{Identity: ask.Subject}, ask.Parent)
			if err != nil {
				return nil, event.Change{}, err
			}
			if parent.Task != ask.Task {
				return nil, event.Change{}, invalid(InvalidArgument, "grant %q is of task %s: what is under it is asked for within that task", ask.Parent, parent.Task)
			}
			request.Deepest = deepest(&parent, ask.Hops)
		}
		if err := s.check(caller, &request, v.Now()); err != nil {
			return nil, event.Change{}, err
		}
		return c.decide(v, s, caller, request, nil)
	})
}

// once decides within the limits of the caller, records, and answers; a call under an idempotency key that was made before is answered
// as then, and nothing is decided.
func (c *Control) once(ctx context.Context, caller Caller, key *Idempotency, decide func(View, *snapshot) (*Answer, event.Change, error)) (*Answer, error) {
	var answer *Answer
	receipt, err := c.update(ctx, caller, func(v View) (event.Change, error) {
		s, err := c.snapshot(v)
		if err != nil {
			return event.Change{}, err
		}
		if repeated, change, err := c.repeat(v, s, caller, key); repeated != nil || err != nil {
			answer = repeated
			return change, err
		}
		var change event.Change
		answer, change, err = decide(v, s)
		if err == nil && key != nil {
			change.Remember = remember(v, caller, key, answer.ID)
		}
		return change, err
	})
	if err != nil {
		return nil, err
	}
	c.finish(answer, receipt)
	return answer, nil
}

// finish completes an answer that has been recorded.
func (c *Control) finish(a *Answer, receipt event.Receipt) {
	a.Time = receipt.Time
	if len(receipt.Indexes) > 0 && !a.Repeated {
		a.Evidence = receipt.Indexes[0]
	}
	if a.Decided.Outcome != "" && !a.Repeated && c.decided != nil {
		c.decided(a.Decided.Outcome, a.Decided.Code)
	}
}

// checkLimits refuses what no catalog and no policy could make right.
func checkLimits(r *access.Request) error {
	switch {
	case r.Mode != access.Use && r.Mode != access.Delegate:
		return invalid(InvalidArgument, "mode must be use or delegate")
	case r.MaxUses < 0:
		return invalid(InvalidArgument, "max_uses must not be negative")
	case r.Deepest < 0 || r.Deepest > access.MaxDepth || r.Deepest > 0 && r.Mode != access.Delegate:
		return invalid(InvalidArgument, "hops is for a right to lend (mode delegate): how often it may be passed on, 1 to %d", access.MaxDepth)
	case len(r.Constraints) > 0 && r.Mode != access.Delegate:
		return invalid(InvalidConstraints, "constraints are for a right to lend (mode delegate): what is used has exact args")
	case len(r.Constraints) > 0 && len(r.Args) > 0:
		return invalid(InvalidConstraints, "give args or constraints, not both: an exact argument is a constraint of type exact")
	}
	if err := checkTTL(r.TTL); err != nil {
		return err
	}
	return checkObject(InvalidArgs, "args", r.Args)
}

func checkTTL(ttl access.Seconds) error {
	if ttl < 0 || ttl > maxTTL {
		return invalid(InvalidArgument, "ttl must be 0 to %d seconds", maxTTL)
	}
	return nil
}

// check tells a request that may be decided on from one that is never recorded.
func (s *snapshot) check(caller Caller, r *access.Request, now time.Time) error {
	switch {
	case r.Lender != caller.Identity && !s.maySpeakFor(caller, r.Subject, now):
		return invalid(NotEnforcementPoint, "only a registered enforcement point may ask for another subject, and only for those declared for it")
	case r.MaxUses > 0 && s.bundle != nil && !s.bundle.CountsUses(r.Action):
		return invalid(InvalidArgument, "max_uses: the uses of %s do not pass through Writ, so they cannot be bounded", r.Action)
	default:
		return s.checkRequest(r)
	}
}

// decide makes the decision on a request, and the change that records it with all that follows.
func (c *Control) decide(v View, s *snapshot, caller Caller, request access.Request, approval *access.Approval) (*Answer, event.Change, error) {
	in, err := c.input(v, s, request)
	if err != nil {
		return nil, event.Change{}, err
	}
	if approval != nil {
		in.Discharges = approval.Discharges()
		limit := approval.Limit(in.Now)
		in.Approval = &limit
	}
	return c.conclude(v, s, caller, in, approval)
}

// conclude decides on an input and drafts the decision's entry.
func (c *Control) conclude(v View, s *snapshot, caller Caller, in *access.Input, approval *access.Approval) (*Answer, event.Change, error) {
	decided := access.Decide(in, s)
	in.Approvers = access.ApproversFor(decided.Requires, in, s.apart(caller.Identity, in.Now))
	decided, limit := access.Settle(in, decided)
	answer := &Answer{ID: c.newID(), Decided: decided}
	made := c.draft(s, caller, in, answer)
	drafts := []event.Draft{{Event: made}}
	if task := in.Standing.Task; task != nil && task.Status != access.TaskSealed { // nothing comes after a seal
		drafts[0].Task = task.ID
	}
	switch decided.Outcome {
	case access.Allow:
		if approval != nil {
			made.Consumed = approval.ID
		}
		if in.Request.Action.Type == access.TypeWritAction {
			break
		}
		ended, err := c.grant(v, s, caller, in, answer, made, limit)
		if err != nil {
			return nil, event.Change{}, err
		}
		drafts = append(drafts, ended...)
	case access.NeedsApproval:
		if open, err := v.OpenQuestions(cmp.Or(in.Request.Lender, in.Request.Subject)); err != nil {
			return nil, event.Change{}, err
		} else if open >= c.limits.limits.OpenQuestions {
			return nil, event.Change{}, &Refusal{Code: access.CodeLimitExceeded, Detail: "as many questions of this identity wait for people as may wait at once"}
		}
		answer.Approval = question(in, answer)
		made.Asked = asked(answer.Approval)
	case access.Deny:
	}
	value, err := json.Marshal(in)
	if err != nil {
		return nil, event.Change{}, fmt.Errorf("%w: encode the decision's input: %w", access.ErrUnavailable, err)
	}
	if len(value) > evidence.MaxValueSize {
		return nil, event.Change{}, invalid(InvalidArgument, "this depends on more than %d bytes of facts: ask for less at once", evidence.MaxValueSize)
	}
	drafts[0].Values = map[string]json.RawMessage{event.SlotInput: value}
	return answer, event.Change{Drafts: drafts}, nil
}

func (c *Control) draft(s *snapshot, caller Caller, in *access.Input, answer *Answer) *event.DecisionMade {
	r, d := &in.Request, &answer.Decided
	made := &event.DecisionMade{
		ID: answer.ID, Caller: s.pseudo(caller.Identity), Subject: s.pseudo(r.Subject), Lender: s.pseudo(r.Lender), Principal: s.pseudo(r.Principal),
		Action: r.Action, Resource: s.pseudo(r.Resource), Bundle: in.Bundle, Engine: c.engine,
	}
	fill(made, d)
	return made
}

// fill writes what was decided into a decision's event.
func fill(made *event.DecisionMade, d *access.Decided) {
	made.Outcome, made.Code, made.Risk, made.Bounds = d.Outcome, d.Code, d.Risk.Score, d.Bounds
	for _, p := range d.Policies {
		made.Policies = append(made.Policies, event.PolicyID{ID: p.ID, Hash: p.Hash})
	}
	for _, f := range d.Risk.Factors {
		made.Factors = append(made.Factors, f.Policy)
	}
}

// grant adds the grant, its credential and its traces to an allowed decision. The credential is made before the
// commit and released after it (I2). The drafts end grants that the labels it brings speak against.
func (c *Control) grant(v View, s *snapshot, caller Caller, in *access.Input, answer *Answer, made *event.DecisionMade, limit access.Limit) ([]event.Draft, error) {
	r := &in.Request
	answer.Grant = &access.Grant{
		ID: answer.ID, Parent: r.Parent, Task: r.Task, Subject: r.Subject, Action: r.Action, Resource: r.Resource, Args: r.Args,
		Constraints: r.Constraints, Mode: r.Mode, Depth: len(in.Standing.Chain), Deepest: r.Deepest, MaxUses: limit.MaxUses, Status: access.GrantActive, GrantedAt: in.Now, ExpiresAt: limit.ExpiresAt,
	}
	var credential *event.CredentialMade
	if r.Lender.IsZero() { // who receives a right fetches the credential: it is bound to what they prove
		var err error
		if credential, err = c.issue(s, caller, answer, in); err != nil {
			return nil, err
		}
	}
	made.Grant = &event.GrantMade{
		Parent: r.Parent, Mode: r.Mode, Depth: answer.Grant.Depth, MaxUses: limit.MaxUses, ExpiresAt: limit.ExpiresAt, Credential: credential,
	}
	for _, counter := range s.bundle.Counters(r) {
		made.Usage = append(made.Usage, event.Usage{Counter: counter.Name, Bucket: bucket(in.Now, counter.Bucket), Add: counter.Amount, Window: access.Seconds(counter.Window / time.Second)})
	}
	var ended []event.Draft
	var err error
	made.Labels, ended, err = c.touch(v, s, in, r.Lender.IsZero(), event.By{Kind: event.ByDecision, Decision: answer.ID})
	return ended, err
}

// touch finds the labels that the resource of a request brings to its task, and to its subject if that gets hold of it, and the drafts
// that end the grants which they speak against.
func (c *Control) touch(v View, s *snapshot, in *access.Input, held bool, by event.By) (labels []string, ended []event.Draft, err error) {
	r := &in.Request
	_, all := s.target(r.Resource)
	if len(all) == 0 {
		return nil, nil, nil
	}
	gained := gain{task: without(all, in.Standing.Task.Labels)}
	labels = gained.task
	if held {
		recent, err := v.Touched(r.Subject, in.Now.Add(-labelRefresh))
		if err != nil {
			return nil, nil, err
		}
		remembered, err := v.Touched(r.Subject, in.Now.Add(-LabelWindow-labelRefresh))
		if err != nil {
			return nil, nil, err
		}
		gained.identity = without(all, remembered)
		labels = union(labels, without(all, recent))
	}
	ended, err = c.redecide(v, s, in, gained, by)
	return labels, ended, err
}

// gain are the labels that are new to a task, and those that are new to its identity.
type gain struct{ task, identity []string }

func without(all, known []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(label string) bool { return slices.Contains(known, label) })
}

// issue makes the credential of a grant, if its resource has a target to show it to.
func (c *Control) issue(s *snapshot, caller Caller, answer *Answer, in *access.Input) (*event.CredentialMade, error) {
	g := answer.Grant
	target, _ := s.target(g.Resource)
	switch {
	case target == "" || g.Mode == access.Delegate:
		return nil, nil
	case c.bound && caller.BoundTo == "":
		return nil, &Invalid{
			Kind: AuthenticationMissing, Reason: "proof_missing",
			Detail: "tokens are given here only to who proves a key or a certificate that they can be bound to: send a DPoP proof, or call with a client certificate",
		}
	case g.ExpiresAt.Unix() <= in.Now.Unix():
		return nil, &Refusal{Code: access.CodeBoundsExceeded, Detail: "less than a second is left"}
	}
	made := Credential{
		Grant: g.ID, Subject: g.Subject, Action: g.Action, Resource: g.Resource, Args: g.Args, Target: target, Task: g.Task,
		Trace: in.Standing.Task.Trace, Principal: in.Request.Principal, IssuedAt: in.Now, ExpiresAt: g.ExpiresAt, BoundTo: caller.BoundTo,
	}
	holder := g.Subject
	for i := range in.Standing.Chain {
		if lender := in.Standing.Chain[i].Subject; lender != holder { // who narrows its own right lends nothing
			made.Lenders = append(made.Lenders, lender)
			holder = lender
		}
	}
	token, err := c.issuer.Issue(made)
	if err != nil {
		return nil, fmt.Errorf("%w: make the credential: %w", access.ErrUnavailable, err)
	}
	answer.Credential = &Released{Token: token.Secret, ExpiresAt: g.ExpiresAt, BoundTo: caller.BoundTo}
	return &event.CredentialMade{Connector: token.Connector, Fingerprint: token.Fingerprint, Target: target, ExpiresAt: g.ExpiresAt, BoundTo: caller.BoundTo}, nil
}

// redecide decides the live grants that labels can speak against again under those about to be gained, and ends the ones
// that would no longer be allowed.
func (c *Control) redecide(v View, s *snapshot, cause *access.Input, gained gain, by event.By) ([]event.Draft, error) {
	live, err := touchedBy(v, cause, gained)
	if err != nil {
		return nil, err
	}
	var drafts []event.Draft
	decided := 0
	for i := range live {
		grant := &live[i]
		allowed := !grant.Subject.IsZero() // else erased: what it was for is no longer known, so nothing speaks for it
		if allowed && s.bundle.Reads(grant.Action).Labels {
			decided++
			allowed = decided <= maxRedecided
			if allowed {
				if allowed, err = c.stillAllowed(v, s, cause, grant, gained); err != nil {
					return nil, err
				}
			}
		}
		if !allowed {
			drafts = append(drafts, event.Draft{Task: grant.Task, Event: &event.GrantEnded{ID: grant.ID, Reason: access.EndRedecided, By: by}})
		}
	}
	return drafts, nil
}

// touchedBy lists the live grants that labels can speak against: all of the task, and if a label is new to the identity, all that it
// holds or has lent in other tasks.
func touchedBy(v View, cause *access.Input, gained gain) ([]access.Grant, error) {
	if len(gained.task)+len(gained.identity) == 0 {
		return nil, nil
	}
	live, err := v.ActiveGrants(cause.Request.Task, cause.Now)
	if err != nil || len(gained.identity) == 0 {
		return live, err
	}
	tasks, err := v.UnendedTasks(cause.Request.Subject, mostOpen)
	if err != nil {
		return nil, err
	}
	lent, err := v.LiveLentGrants(cause.Request.Subject, cause.Now, mostOpen)
	if err != nil {
		return nil, err
	}
	if len(tasks) == mostOpen || len(lent) == mostOpen { // there may be more, and the label speaks against those too
		return nil, &Refusal{Code: access.CodeLimitExceeded, Detail: "this identity has too much open for a label to be held against all of it: complete tasks first"}
	}
	others := map[string]bool{}
	for i := range tasks {
		others[tasks[i].ID] = true
	}
	for i := range lent {
		others[lent[i].Task] = true
	}
	for _, task := range slices.Sorted(maps.Keys(others)) {
		if task == cause.Request.Task {
			continue
		}
		grants, err := v.ActiveGrants(task, cause.Now)
		if err != nil {
			return nil, err
		}
		for i := range grants {
			if concerned, err := concerns(v, cause.Request.Subject, &grants[i]); err != nil {
				return nil, err
			} else if concerned {
				live = append(live, grants[i])
			}
		}
	}
	return live, nil
}

// concerns reports whether an identity holds a grant, or one above it.
func concerns(v View, id access.Ref, grant *access.Grant) (bool, error) {
	if grant.Subject == id || grant.Subject.IsZero() { // erased: nobody knows
		return true, nil
	}
	chain, err := chainOf(v, grant.Parent)
	return access.HoldsAny(chain, id), err
}

func (c *Control) stillAllowed(v View, s *snapshot, cause *access.Input, grant *access.Grant, gained gain) (bool, error) {
	before, err := v.Input(grant.Decided)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	request := before.Request
	request.TTL, request.MaxUses = seconds(grant.ExpiresAt.Sub(cause.Now)), 0 // what is left of it is asked for, and no more
	in, err := c.input(v, s, request)
	var gone *Invalid
	if errors.As(err, &gone) {
		return false, nil // such as a resource that is no more: nothing speaks for the grant
	}
	if err != nil {
		return false, err
	}
	in.Discharges, in.Approval = before.Discharges, before.Approval
	if grant.Task == cause.Request.Task {
		in.Facts.Labels.Task = union(in.Facts.Labels.Task, gained.task)
	}
	if access.HoldsAny(in.Standing.Chain, cause.Request.Subject) {
		in.Facts.Labels.Chain = union(in.Facts.Labels.Chain, gained.identity)
	}
	if grant.Subject == cause.Request.Subject {
		in.Facts.Labels.Identity = union(in.Facts.Labels.Identity, gained.identity)
	}
	return access.Decide(in, s).Outcome == access.Allow, nil
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// checkObject refuses what is there and no JSON object, or could not be committed to as a value beside an entry.
func checkObject(kind InvalidKind, what string, raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	if len(raw) > maxJSON {
		return invalid(kind, "%s must have at most %d bytes", what, maxJSON)
	}
	if _, err := evidence.NewDisclosure(make([]byte, evidence.SaltSize), raw); err != nil {
		return invalid(kind, "%s must be one strict JSON value: %v", what, err)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) {
		return invalid(kind, "%s must be a JSON object", what)
	}
	return nil
}

func question(in *access.Input, answer *Answer) *access.Approval {
	return &access.Approval{
		ID: answer.ID, Task: in.Request.Task, Subject: in.Request.Subject, Status: access.ApprovalPending,
		Requires: answer.Decided.Requires, Risk: answer.Decided.Risk.Score, AskedAt: in.Now, ExpiresAt: in.Now.Add(access.QuestionLife),
	}
}

func asked(a *access.Approval) *event.ApprovalAsked {
	out := &event.ApprovalAsked{ExpiresAt: a.ExpiresAt}
	for _, r := range a.Requires {
		out.Requires = append(out.Requires, event.Asked{Policy: r.Policy, Hash: r.Hash, Form: r.Form})
	}
	return out
}

func remember(v View, caller Caller, key *Idempotency, result string) *event.Remember {
	return &event.Remember{
		Subject: v.Pseudonym(caller.Identity), Key: key.Key, Digest: key.Digest[:], Result: result, Expires: v.Now().Add(idempotencyLife),
	}
}

// repeat answers a call that was made before. A credential is kept nowhere, so a live grant gets a new one under a new
// id, and the former is retired: whoever intercepted the first answer has nothing at Writ, and at a target that verifies
// offline only until the grant's end, which stays the same.
func (c *Control) repeat(v View, s *snapshot, caller Caller, key *Idempotency) (*Answer, event.Change, error) {
	if key == nil {
		return nil, event.Change{}, nil
	}
	if key.Key == "" || len(key.Key) > maxKey {
		return nil, event.Change{}, invalid(InvalidArgument, "an idempotency key has 1 to %d bytes", maxKey)
	}
	known, ok, err := v.Remembered(caller.Identity, key.Key)
	if err != nil || !ok {
		return nil, event.Change{}, err
	}
	if subtle.ConstantTimeCompare(known.Digest, key.Digest[:]) != 1 {
		return nil, event.Change{}, invalid(IdempotencyKeyReused, "this idempotency key stands for another call: use a new key for a new call")
	}
	answer, err := c.recall(v, caller, known.Result)
	if err != nil {
		return nil, event.Change{}, err
	}
	if answer.Grant == nil || answer.Grant.Status != access.GrantActive || !s.maySpeakFor(caller, answer.Grant.Subject, v.Now()) {
		return answer, event.Change{}, nil
	}
	if target, _ := s.target(answer.Grant.Resource); target == "" || answer.Grant.Mode == access.Delegate {
		return answer, event.Change{}, nil // there was no credential to lose, and what was lent from it goes on
	}
	if answer.Grant.MaxUses > 0 {
		return answer, event.Change{}, nil // a second credential would be a second set of uses at a target that counts by token
	}
	in, err := c.standingOf(v, s, answer.Grant)
	if err != nil {
		return nil, event.Change{}, err
	}
	if answer.Grant.Live(in.Now) && in.Standing.Dead(in) == "" {
		former := answer.Grant.ID
		answer.Grant.ID, answer.Grant.GrantedAt = c.newID(), in.Now
		credential, err := c.issue(s, caller, answer, in)
		if err != nil {
			return nil, event.Change{}, err
		}
		return answer, event.Change{
			Drafts: []event.Draft{{Task: answer.Grant.Task, Event: &event.GrantReissued{
				ID: answer.Grant.ID, Replaces: former, By: v.Pseudonym(caller.Identity), Credential: credential,
			}}},
			Remember: remember(v, caller, key, answer.ID+" "+answer.Grant.ID),
		}, nil
	}
	return answer, event.Change{}, nil
}
