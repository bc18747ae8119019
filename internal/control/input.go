package control

import (
	"errors"
	"slices"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/policy"
)

// LabelWindow is how long an identity is remembered to have touched a label.
const LabelWindow = 24 * time.Hour

// labelRefresh is how long after touching a label it need not be noted again. The window is read by so much longer.
const labelRefresh = time.Hour

// input gathers all that a decision depends on. The request must have been checked against the schema.
func (c *Control) input(v View, s *snapshot, request access.Request) (*access.Input, error) {
	in := &access.Input{Request: request, Now: v.Now(), Bundle: s.hash()}
	if err := c.standing(v, s, in); err != nil {
		return nil, err
	}
	if s.bundle == nil || in.Standing.Dead(in) != "" {
		return in, nil // the answer is no whatever the facts are
	}
	if err := s.facts(v, in); err != nil {
		return nil, err
	}
	entities, err := s.entities(v, &in.Request)
	if err != nil {
		return nil, err
	}
	in.Facts.Entities = entities
	return in, s.known(v, in)
}

// known tells a resource that nobody ever heard of from one whose facts are missing or stale, which is for policy to refuse.
func (s *snapshot) known(v View, in *access.Input) error {
	resource := in.Request.Resource
	if s.index.Has(resource) {
		return nil
	}
	_, err := v.Fact(resource)
	if errors.Is(err, access.ErrNotFound) {
		return invalid(UnknownResource, "there is no resource %s: neither the catalog nor a fact source has told of it", resource)
	}
	return err
}

// standing loads where the parties of the request stand.
func (c *Control) standing(v View, s *snapshot, in *access.Input) error {
	r := &in.Request
	in.Standing.Subject, in.Standing.Owned = s.statusOf(r.Subject), s.owned(r.Subject, in.Now)
	chain, err := chainOf(v, r.Parent)
	if err != nil {
		return err
	}
	in.Standing.Chain = chain
	if r.Task != "" {
		task, err := v.Task(r.Task)
		if err != nil {
			return notFound(err, "there is no task %q of this identity", r.Task)
		}
		if task.Subject != r.Subject && (len(chain) == 0 || chain[0].Task != r.Task) { // what was lent is within the lender's task
			return invalid(NotYours, "there is no task %q of this identity", r.Task)
		}
		in.Standing.Task = &task
		r.Principal = task.Principal
	}
	if identity, ok := s.index.Identity(r.Subject); ok {
		in.Standing.FixedPrincipal = identity.Principal
	}
	if !r.Principal.IsZero() {
		in.Standing.Principal = s.statusOf(r.Principal)
	}
	for i := range chain {
		stands := s.holder(chain[i].Subject, in.Now)
		if above, ok := s.index.Identity(chain[i].Subject); ok && stands == access.Active && !above.Principal.IsZero() && above.Principal != r.Principal {
			stands = access.Suspended
		}
		in.Standing.Above = append(in.Standing.Above, stands)
	}
	return nil
}

// chainOf loads a grant and everything above it, up to the root.
func chainOf(v View, id string) ([]access.Grant, error) {
	var chain []access.Grant
	for ; id != "" && len(chain) <= access.MaxDepth; id = chain[len(chain)-1].Parent {
		grant, err := v.Grant(id)
		if err != nil {
			return nil, notFound(err, "there is no grant %q", id)
		}
		chain = append(chain, grant)
	}
	return chain, nil
}

func notFound(err error, format string, args ...any) error {
	if errors.Is(err, access.ErrNotFound) && !errors.Is(err, access.ErrPruned) {
		e := invalid(NotYours, format, args...)
		e.Cause = err
		return e
	}
	return err
}

// facts loads what the policies of this action can read; what they cannot read is not loaded, so that it cannot
// conflict at the commit either.
func (s *snapshot) facts(v View, in *access.Input) error {
	reads := s.bundle.Reads(in.Request.Action)
	task := in.Standing.Task
	if task != nil {
		in.Facts.Task = s.taskFacts(task, in)
		in.Facts.Labels.Task = task.Labels
	}
	in.Facts.Chain = chainFacts(in)
	if reads.Labels {
		touched, err := v.Touched(in.Request.Subject, in.Now.Add(-LabelWindow-labelRefresh))
		if err != nil {
			return err
		}
		in.Facts.Labels.Identity = touched
		if in.Facts.Labels.Chain, err = chainLabels(v, in); err != nil {
			return err
		}
	}
	if reads.Precedent && task != nil {
		p, err := v.Precedent(in.Request.Subject, in.Request.Action, in.Request.Resource.Type, task.Type)
		if err != nil {
			return err
		}
		in.Facts.Precedent = p
	}
	if !reads.Counts && !reads.Sums {
		return nil
	}
	in.Facts.Counts, in.Facts.Sums = map[string]int64{}, map[string]int64{}
	for _, counter := range s.bundle.CounterWindows(in.Request.Action) {
		from := bucket(in.Now, counter.Bucket) - int64(counter.Window/time.Second)
		total, err := v.Usage(in.Request.Subject, counter.Name, from)
		if err != nil {
			return err
		}
		for i := range in.Standing.Chain { // what is lent counts for who lends it, so that many hands are not slower than one
			above, err := v.Usage(in.Standing.Chain[i].Subject, counter.Name, from)
			if err != nil {
				return err
			}
			total = max(total, above)
		}
		if counter.Sum {
			in.Facts.Sums[counter.Name] = total
		} else {
			in.Facts.Counts[counter.Name] = total
		}
	}
	return nil
}

// bucket is the start of the part of a counter's window that a moment falls into, in Unix seconds.
func bucket(at time.Time, width time.Duration) int64 {
	seconds := max(int64(width/time.Second), 1)
	return at.Unix() / seconds * seconds
}

func (s *snapshot) taskFacts(task *access.Task, in *access.Input) *access.TaskFacts {
	facts := &access.TaskFacts{
		Type: task.Type, Age: seconds(in.Now.Sub(task.OpenedAt)), Heartbeat: seconds(in.Now.Sub(task.HeartbeatAt)),
	}
	if declared, ok := s.index.TaskType(task.Type); ok {
		facts.Expected = slices.Contains(declared.Actions, in.Request.Action)
	}
	return facts
}

func seconds(d time.Duration) access.Seconds { return access.Seconds(d / time.Second) }

func chainFacts(in *access.Input) access.ChainFacts {
	chain := in.Standing.Chain
	facts := access.ChainFacts{Depth: int64(len(chain))}
	for i := range chain {
		facts.Root = chain[i].Subject.String()
		facts.Actors = append(facts.Actors, facts.Root)
	}
	return facts
}

// chainLabels are the labels that whoever lent the right has touched, in whatever task: what they know, they can pass on with it.
func chainLabels(v View, in *access.Input) ([]string, error) {
	var labels []string
	for i := range in.Standing.Chain {
		touched, err := v.Touched(in.Standing.Chain[i].Subject, in.Now.Add(-LabelWindow-labelRefresh))
		if err != nil {
			return nil, err
		}
		labels = union(labels, touched)
	}
	return labels, nil
}

// entities loads what the decision needs until it needs no more.
func (s *snapshot) entities(v View, r *access.Request) ([]access.Entity, error) {
	have := map[access.Ref]*access.Entity{}
	if err := s.parties(v, r, have); err != nil {
		return nil, err
	}
	for {
		needs := s.bundle.Needs(r, have)
		if len(needs) == 0 {
			break
		}
		for _, ref := range needs {
			entity, err := s.entity(v, ref)
			if err != nil {
				return nil, err
			}
			have[ref] = entity
		}
	}
	out := make([]access.Entity, 0, len(have))
	for _, entity := range have {
		if entity != nil {
			out = append(out, *entity)
		}
	}
	slices.SortFunc(out, func(a, b access.Entity) int { return a.ID.Compare(b.ID) })
	return out, nil
}

// parties loads what every decision needs: the parties of the request, and all that they are in.
func (s *snapshot) parties(v View, r *access.Request, have map[access.Ref]*access.Entity) error {
	next := make([]access.Ref, 0, 8)
	next = append(next, r.Subject, r.Resource)
	if !r.Principal.IsZero() {
		next = append(next, r.Principal)
	}
	for ; len(next) > 0 && len(have) < policy.MaxEntities; next = next[1:] {
		if _, known := have[next[0]]; known {
			continue
		}
		entity, err := s.entity(v, next[0])
		if err != nil {
			return err
		}
		have[next[0]] = entity
		if entity != nil {
			next = append(next, entity.Parents...)
		}
	}
	return nil
}

// checkRequest tells an ask that makes no sense from one that is refused: it is never recorded.
func (s *snapshot) checkRequest(r *access.Request) error {
	if s.bundle == nil {
		return nil // it will be refused, and say why
	}
	err := s.bundle.CheckRequest(r)
	var bad *policy.RequestError
	if !errors.As(err, &bad) {
		return err
	}
	kind := InvalidArgs
	switch bad.Kind {
	case policy.UnknownAction:
		kind = UnknownAction
	case policy.UnknownType:
		kind = UnknownResource
	case policy.InvalidArgs:
		if len(r.Constraints) > 0 {
			kind = InvalidConstraints
		}
	}
	return &Invalid{Kind: kind, Detail: bad.Detail, Cause: err}
}
