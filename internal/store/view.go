package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// View reads the present state. What it reads for a decision is remembered and checked again at the commit, so
// nothing is decided on a state that is no longer so. It is for one goroutine, for the time of one call.
type View struct {
	ctx    context.Context
	store  *Store
	on     session
	inside bool      // of the committing transaction: nothing can change under it
	now    time.Time // of the transaction, inside it
	seen   []read
	also   []read // what was read besides, that no decision depends on
}

// read is one number that a decision depends on, and how to read it again: a row's version, a sum, a count.
type read struct {
	text string
	args []any
	saw  int64
}

// key is what makes two reads the same.
func (r *read) key() string {
	key := r.text
	for _, arg := range r.args {
		key += fmt.Sprintf("\x00%v", arg)
	}
	return key
}

const absent = -1 // the number of a row that is not there

func (r *read) value(ctx context.Context, on session) (int64, error) {
	var now sql.NullInt64
	err := on.row(ctx, r.text, r.args, &now)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !now.Valid {
		return absent, nil
	}
	return now.Int64, err
}

// depend remembers that the change depends on what was seen. Everything that a View reads is covered by a number that
// changes with it, read in the same statement or before: in a later one it could belong to a newer state.
func (v *View) depend(saw int64, text string, args ...any) {
	if !v.inside {
		v.seen = append(v.seen, read{text: text, args: args, saw: saw})
	}
}

// number reads one number and depends on it; a row that is not there reads as absent.
func (v *View) number(text string, args ...any) (int64, error) {
	r := read{text: text, args: args}
	now, err := r.value(v.ctx, v.on)
	if err != nil {
		return 0, unavailable(err)
	}
	v.depend(now, text, args...)
	return now, nil
}

// one reads one row whose depended number is its first column. A missing row is access.ErrNotFound, and depended on too.
func (v *View) one(number, text string, args []any, into ...any) error {
	var saw int64
	err := v.on.row(v.ctx, text, args, append([]any{&saw}, into...)...)
	if errors.Is(err, sql.ErrNoRows) {
		saw, err = absent, access.ErrNotFound
	}
	if err == nil || saw == absent {
		v.depend(saw, number, args...)
	}
	return unavailable(err)
}

func unavailable(err error) error {
	if err == nil || errors.Is(err, access.ErrNotFound) || errors.Is(err, access.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", access.ErrUnavailable, err)
}

// Now is the time to decide by.
func (v *View) Now() time.Time {
	if v.inside {
		return v.now // the entry's own
	}
	return v.store.Now()
}

// MAC authenticates a text for one use, as every process of this installation does.
func (v *View) MAC(label, text string) []byte { return v.store.names.key.MAC(label, text) }

// Pseudonym is the name under which an entity appears in evidence.
func (v *View) Pseudonym(ref access.Ref) event.Pseudonym { return v.store.names.of(ref) }

const catalogVersion = `SELECT version FROM catalog_version WHERE one = 1`

// CatalogVersion changes whenever the catalog, the active bundle or somebody's status does. What was built from the
// catalog may be kept under it.
func (v *View) CatalogVersion() (int64, error) {
	version, err := memo(v, "CatalogVersion", "", func() (int64, error) { return v.number(catalogVersion) })
	if err == nil && v.unsettled(version) {
		return v.store.unsettled.Add(-1) + absent, nil // its own, each time: another catalog may get the index yet
	}
	return version, err
}

// unsettled reports whether a version is that of an entry whose transaction may still be undone.
func (v *View) unsettled(version int64) bool { return v.inside && version >= v.store.Size() }

// Catalog reads the whole catalog. The caller reads CatalogVersion first and depends on that.
func (v *View) Catalog() (event.CatalogState, error) {
	state := event.CatalogState{Statuses: map[event.Pseudonym]event.IdentityStatus{}}
	version, err := (&read{text: catalogVersion}).value(v.ctx, v.on)
	if err != nil {
		return state, unavailable(err)
	}
	var identities []access.Ref
	err = v.on.each(v.ctx, `SELECT catalog.kind, disclosures.value FROM catalog
		JOIN disclosures ON disclosures.idx = catalog.version AND disclosures.slot = 'document' ORDER BY catalog.kind, catalog.object`, nil,
		func(row func(...any) error) error {
			var o event.CatalogObject
			var value []byte
			if err := row(&o.Kind, &value); err != nil {
				return err
			}
			if err := json.Unmarshal(value, &o); err != nil {
				return err
			}
			state.Objects = append(state.Objects, o)
			if o.Kind != event.KindIdentity {
				return nil
			}
			ref, err := access.ParseRef(o.Name)
			identities = append(identities, ref)
			return err
		})
	if err != nil {
		return state, unavailable(err)
	}
	if v.unsettled(version) {
		v.store.names.add(identities)
	} else {
		v.store.names.learn(version, identities)
	}
	v.store.cache.named()
	err = v.on.each(v.ctx, `SELECT identity, status, was, since, away FROM identities`, nil, func(row func(...any) error) error {
		var identity, status, was string
		var since, away int64
		if err := row(&identity, &status, &was, &since, &away); err != nil {
			return err
		}
		state.Statuses[event.Pseudonym(identity)] = event.IdentityStatus{Status: access.Status(status), Was: access.Status(was), Since: fromMicros(since), Away: fromMicros(away)}
		return nil
	})
	if err != nil {
		return state, unavailable(err)
	}
	err = v.on.row(v.ctx, `SELECT bundles.hash, bundles.content FROM catalog_version JOIN bundles ON bundles.hash = catalog_version.bundle`, nil,
		&state.Bundle.Hash, &state.Bundle.Content)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return state, unavailable(err)
}

// BundleContent reads a bundle that was active once; access.ErrNotFound if there is none of this hash.
func (v *View) BundleContent(hash string) ([]byte, error) {
	var content []byte
	err := v.one(`SELECT 1 FROM bundles WHERE hash = $1`, `SELECT 1, content FROM bundles WHERE hash = $1`, []any{hash}, &content)
	return content, err
}

// LastTold is when the newest was observed that a source told of an entity, also that it is gone; zero if nothing was told.
func (v *View) LastTold(ref access.Ref) (time.Time, error) {
	at, err := v.number(`SELECT observed_at FROM facts WHERE entity = $1`, string(v.store.names.of(ref)))
	if err != nil || at == absent {
		return time.Time{}, err
	}
	return fromMicros(at), nil
}

// Fact is what a source told of an entity, and when; access.ErrNotFound if nothing is known, or its value was erased.
func (v *View) Fact(ref access.Ref) (access.Fact, error) {
	name := string(v.store.names.of(ref))
	return memo(v, "Fact", name, func() (access.Fact, error) { return v.fact(name) })
}

func (v *View) fact(name string) (access.Fact, error) {
	const from = ` FROM facts JOIN disclosures ON disclosures.idx = facts.version AND disclosures.slot = facts.slot WHERE facts.entity = $1`
	var fact access.Fact
	var at int64
	var value []byte
	err := v.one(`SELECT facts.version`+from, `SELECT facts.version, facts.source, facts.observed_at, disclosures.value`+from,
		[]any{name}, &fact.Source, &at, &value)
	if err != nil {
		return fact, err
	}
	fact.ObservedAt = fromMicros(at)
	err = json.Unmarshal(value, &fact.Entity)
	return fact, unavailable(err)
}

const taskColumns = `tasks.id, tasks.type, tasks.subject, tasks.principal, tasks.trace, tasks.status, tasks.reason, tasks.opened_at, tasks.expires_at, tasks.ended_at,
	tasks.heartbeat, tasks.opened, tasks.version, COALESCE((SELECT at FROM heartbeats WHERE task = tasks.id), tasks.opened_at),
	CASE WHEN ` + taskCut + ` THEN 1 ELSE 0 END`

// taskCut holds for a task whose subject, or the human whom it is for, was suspended, or left, since it was opened. A status comes
// with a catalog version, which every decision depends on.
const taskCut = `(COALESCE((SELECT version FROM identities WHERE identity = tasks.subject), 0) > tasks.opened
	OR COALESCE((SELECT version FROM identities WHERE identity = tasks.principal), 0) > tasks.opened)`

const taskVersion = `SELECT version FROM tasks WHERE id = $1`

func (v *View) scanTask(row func(...any) error) (t access.Task, people []string, version int64, err error) {
	var opened, expires, ended, heartbeat, beat, cut int64
	var subject, principal string
	err = row(&t.ID, &t.Type, &subject, &principal, &t.Trace, (*string)(&t.Status), (*string)(&t.Reason), &opened, &expires, &ended, &heartbeat, &t.Opened, &version, &beat, &cut)
	t.Subject = v.store.names.ref(event.Pseudonym(subject))
	if t.Principal = v.store.names.ref(event.Pseudonym(principal)); principal != "" && t.Principal.IsZero() {
		t.Principal = access.Ref{Type: access.TypeHuman, ID: principal} // who left the catalog is not nobody
	}
	t.OpenedAt, t.ExpiresAt, t.EndedAt, t.HeartbeatAt = fromMicros(opened), fromMicros(expires), fromMicros(ended), fromMicros(beat)
	t.Heartbeat, t.Cut = access.Seconds(heartbeat), cut == 1
	return t, []string{subject, principal}, version, err
}

// Task reads a task with the labels it has touched; access.ErrNotFound if there is none.
func (v *View) Task(id string) (access.Task, error) {
	return memo(v, "Task", id, func() (access.Task, error) { return v.task(id) })
}

func (v *View) task(id string) (access.Task, error) {
	var task access.Task
	var people []string
	var version int64
	stmt := `SELECT ` + taskColumns + ` FROM tasks WHERE id = $1`
	err := v.on.each(v.ctx, stmt, []any{id}, func(row func(...any) (err error)) (err error) {
		task, people, version, err = v.scanTask(row)
		return err
	})
	if err != nil {
		return task, unavailable(err)
	}
	if task.ID == "" {
		v.depend(absent, taskVersion, id)
		return task, access.ErrNotFound
	}
	v.depend(version, taskVersion, id)
	// No decision depends on the heartbeat, for a later one only keeps the task alive, nor by itself on the status of those whose it is.
	v.also = append(v.also, read{text: `SELECT at FROM heartbeats WHERE task = $1`, args: []any{id}})
	for _, name := range people {
		v.also = append(v.also, read{text: `SELECT version FROM identities WHERE identity = $1`, args: []any{name}})
	}
	count := int64(0)
	err = v.on.each(v.ctx, `SELECT label FROM task_labels WHERE task = $1 ORDER BY label`, []any{id}, func(row func(...any) error) error {
		var label string
		count++
		err := row(&label)
		task.Labels = append(task.Labels, label)
		return err
	})
	v.depend(count, `SELECT COUNT(*) FROM task_labels WHERE task = $1`, id) // labels only ever come
	return task, unavailable(err)
}

// OpenTasks counts the tasks of a type that an identity has open or paused.
func (v *View) OpenTasks(subject access.Ref, taskType string) (int64, error) {
	return v.number(`SELECT COUNT(*) FROM tasks WHERE subject = $1 AND status IN ('open', 'paused') AND type = $2`,
		string(v.store.names.of(subject)), taskType)
}

// TaskEntries is how many entries the task has in the log.
func (v *View) TaskEntries(task string) (int64, error) {
	return v.number(`SELECT seq FROM task_log WHERE task = $1`, task)
}

// Tasks lists the tasks that a subject ever had, newest first, at most limit, without their labels.
func (v *View) Tasks(subject access.Ref, limit int) ([]access.Task, error) {
	name := string(v.store.names.of(subject))
	if _, err := v.number(`SELECT MAX(version) FROM tasks WHERE subject = $1`, name); err != nil {
		return nil, err
	}
	return v.tasks(`SELECT `+taskColumns+` FROM tasks WHERE subject = $1 ORDER BY id DESC LIMIT $2`, name, limit)
}

// OverdueTasks lists tasks that should have ended by now, at most limit, without their labels. A change depends on each
// one that it lists and its last heartbeat, not on others that become overdue later.
func (v *View) OverdueTasks(now time.Time, limit int) ([]access.Task, error) {
	return v.tasks(`SELECT `+taskColumns+` FROM tasks LEFT JOIN heartbeats ON heartbeats.task = tasks.id
		WHERE tasks.status IN ('open', 'paused') AND (tasks.expires_at <= $1 OR tasks.status = 'open' AND tasks.heartbeat > 0
		AND COALESCE(heartbeats.at, tasks.opened_at) + tasks.heartbeat * 1000000 <= $1 OR `+taskCut+`) LIMIT $2`, micros(now), limit)
}

// EndedTasks lists ended tasks that are not sealed, whose grants had all run out by the given time and which no question
// to people is open for, at most limit, without their labels. A change depends on each one that it lists.
func (v *View) EndedTasks(goneBy time.Time, limit int) ([]access.Task, error) {
	return v.tasks(`SELECT `+taskColumns+` FROM tasks WHERE tasks.status = 'ended'
		AND COALESCE((SELECT MAX(expires_at) FROM grants WHERE grants.task = tasks.id), 0) <= $1
		AND NOT EXISTS (SELECT 1 FROM approvals WHERE approvals.task = tasks.id AND approvals.status = 'pending' AND kind = '') LIMIT $2`, micros(goneBy), limit)
}

func (v *View) tasks(text string, args ...any) ([]access.Task, error) {
	var out []access.Task
	err := v.on.each(v.ctx, text, args, func(row func(...any) error) error {
		task, _, version, err := v.scanTask(row)
		if err != nil {
			return err
		}
		out = append(out, task)
		v.depend(version, taskVersion, task.ID)
		v.depend(micros(task.HeartbeatAt), `SELECT COALESCE((SELECT at FROM heartbeats WHERE task = tasks.id), tasks.opened_at) FROM tasks WHERE id = $1`, task.ID)
		return nil
	})
	return out, unavailable(err)
}

const grantColumns = `grants.id, grants.decided, grants.parent, grants.task, grants.mode, grants.depth, grants.status, grants.reason,
	grants.granted_at, grants.expires_at, grants.ended_at, grants.max_uses, grants.uses, grants.version, disclosures.value,
	CASE WHEN COALESCE((SELECT version FROM identities WHERE identity = grants.subject), 0) > grants.decided THEN 1 ELSE 0 END`

const grantFrom = ` FROM grants LEFT JOIN disclosures ON disclosures.idx = grants.decided AND disclosures.slot = 'input' `

// grantNumber changes with the grant and with the erasure of what it was for.
const grantNumber = `SELECT CASE WHEN disclosures.idx IS NULL THEN -2 - grants.version ELSE grants.version END` + grantFrom + `WHERE grants.id = $1`

func scanGrant(row func(...any) error) (g access.Grant, number int64, err error) {
	var version int64
	var granted, expires, ended int64
	var input []byte
	var cut int64
	err = row(&g.ID, &g.Decided, &g.Parent, &g.Task, (*string)(&g.Mode), &g.Depth, (*string)(&g.Status), (*string)(&g.Reason),
		&granted, &expires, &ended, &g.MaxUses, &g.Uses, &version, &input, &cut)
	if err != nil {
		return g, 0, err
	}
	g.GrantedAt, g.ExpiresAt, g.EndedAt, g.Cut = fromMicros(granted), fromMicros(expires), fromMicros(ended), cut == 1
	if len(input) == 0 {
		return g, -2 - version, nil // erased: nobody knows any more what it was for, so it matches nothing
	}
	var decided struct{ Request access.Request }
	err = json.Unmarshal(input, &decided)
	r := &decided.Request
	g.Subject, g.Action, g.Resource, g.Args, g.Constraints, g.Deepest = r.Subject, r.Action, r.Resource, r.Args, r.Constraints, r.Deepest
	return g, version, err
}

// Grant reads a grant; access.ErrNotFound if there is none.
func (v *View) Grant(id string) (access.Grant, error) {
	return memo(v, "Grant", id, func() (access.Grant, error) { return v.grant(id) })
}

func (v *View) grant(id string) (access.Grant, error) {
	grants, err := v.grants(`WHERE grants.id = $1`, id)
	if err != nil {
		return access.Grant{}, err
	}
	if len(grants) == 0 {
		v.depend(absent, grantNumber, id)
		return access.Grant{}, access.ErrNotFound
	}
	// No decision depends on the subject's status by itself: it depends on the catalog's version.
	v.also = append(v.also, read{text: `SELECT version FROM identities WHERE identity = $1`, args: []any{string(v.store.names.of(grants[0].Subject))}})
	return grants[0], nil
}

// ActiveGrants lists the grants of a task that have not ended and not run out at now.
func (v *View) ActiveGrants(task string, now time.Time) ([]access.Grant, error) {
	if err := v.dependOnGrants(task); err != nil {
		return nil, err
	}
	return v.grants(`WHERE grants.task = $1 AND grants.status = 'active' AND grants.expires_at > $2 ORDER BY grants.id`, task, micros(now))
}

// GrantsOfTask lists every grant that a task ever had.
func (v *View) GrantsOfTask(task string) ([]access.Grant, error) {
	if err := v.dependOnGrants(task); err != nil {
		return nil, err
	}
	return v.grants(`WHERE grants.task = $1 ORDER BY grants.id`, task)
}

// UnendedTasks lists the tasks of a subject that are open or paused, at most limit, without their labels.
func (v *View) UnendedTasks(subject access.Ref, limit int) ([]access.Task, error) {
	name := string(v.store.names.of(subject))
	if _, err := v.number(`SELECT MAX(version) FROM tasks WHERE subject = $1`, name); err != nil {
		return nil, err
	}
	return v.tasks(`SELECT `+taskColumns+` FROM tasks WHERE subject = $1 AND status IN ('open', 'paused') ORDER BY id LIMIT $2`, name, limit)
}

// LiveLentGrants lists the grants below others that a subject holds and that have not ended and not run out at now, at most limit.
func (v *View) LiveLentGrants(subject access.Ref, now time.Time, limit int) ([]access.Grant, error) {
	name := string(v.store.names.of(subject))
	if _, err := v.number(`SELECT MAX(version) FROM grants WHERE subject = $1 AND parent <> ''`, name); err != nil {
		return nil, err
	}
	return v.grants(`WHERE grants.subject = $1 AND grants.parent <> '' AND grants.status = 'active' AND grants.expires_at > $2 ORDER BY grants.id LIMIT $3`,
		name, micros(now), limit)
}

// LentGrants lists the grants below others that a subject ever held, newest first, at most limit.
func (v *View) LentGrants(subject access.Ref, limit int) ([]access.Grant, error) {
	name := string(v.store.names.of(subject))
	if _, err := v.number(`SELECT MAX(version) FROM grants WHERE subject = $1 AND parent <> ''`, name); err != nil {
		return nil, err
	}
	return v.grants(`WHERE grants.subject = $1 AND grants.parent <> '' ORDER BY grants.id DESC LIMIT $2`, name, limit)
}

// dependOnGrants makes a list of a task's grants stale when one is added, too.
func (v *View) dependOnGrants(task string) error {
	_, err := v.number(`SELECT MAX(version) FROM grants WHERE task = $1`, task)
	return err
}

func (v *View) grants(where string, args ...any) ([]access.Grant, error) {
	var out []access.Grant
	err := v.on.each(v.ctx, `SELECT `+grantColumns+grantFrom+where, args, func(row func(...any) error) error {
		grant, number, err := scanGrant(row)
		if err != nil {
			return err
		}
		out = append(out, grant)
		v.depend(number, grantNumber, grant.ID)
		return nil
	})
	return out, unavailable(err)
}

// Usage is the total of a subject's counter over the buckets from the given one on.
func (v *View) Usage(subject access.Ref, counter string, from int64) (int64, error) {
	const sum = `SELECT CAST(COALESCE(SUM(total), 0) AS BIGINT) FROM usage WHERE subject = $1 AND counter = $2 AND bucket >= $3`
	name := string(v.store.names.of(subject))
	if v.store.cache == nil || v.inside {
		return v.number(sum, name, counter, from)
	}
	rows, err := v.store.cache.counter(usageKey{name, counter}, func() ([]bucketTotal, error) { return v.counted(name, counter) })
	if err != nil {
		return 0, unavailable(err)
	}
	total := int64(0)
	for _, r := range rows {
		if r.bucket < from {
			continue
		}
		if r.total > math.MaxInt64-total {
			return 0, fmt.Errorf("%w: the counter %q is beyond 64 bits", access.ErrUnavailable, counter)
		}
		total += r.total
	}
	v.depend(total, sum, name, counter, from)
	return total, nil
}

func (v *View) counted(name, counter string) (rows []bucketTotal, err error) {
	err = v.on.each(v.ctx, `SELECT bucket, total FROM usage WHERE subject = $1 AND counter = $2`, []any{name, counter}, func(row func(...any) error) error {
		var r bucketTotal
		err := row(&r.bucket, &r.total)
		rows = append(rows, r)
		return err
	})
	return rows, err
}

// Touched lists the labels that an identity has touched since the given time, ordered.
func (v *View) Touched(subject access.Ref, since time.Time) ([]string, error) {
	name := string(v.store.names.of(subject))
	all, err := memo(v, "Touched", name, func() ([]touch, error) { return v.touched(name) })
	var labels []string
	for _, t := range all {
		if !t.at.Before(since) {
			labels = append(labels, t.label)
		}
	}
	return labels, err
}

// touch is when an identity last touched a label.
type touch struct {
	label string
	at    time.Time
}

func (v *View) touched(name string) (list []touch, err error) {
	newest := int64(absent)
	err = v.on.each(v.ctx, `SELECT label, at, version FROM touched WHERE subject = $1 ORDER BY label`, []any{name}, func(row func(...any) error) error {
		var label string
		var at, version int64
		err := row(&label, &at, &version)
		newest = max(newest, version)
		list = append(list, touch{label, fromMicros(at)})
		return err
	})
	v.depend(newest, `SELECT MAX(version) FROM touched WHERE subject = $1`, name)
	return list, unavailable(err)
}

// Precedent is what people answered to the like before.
func (v *View) Precedent(subject, action access.Ref, resourceType, taskType string) (access.Precedent, error) {
	args := []any{string(v.store.names.of(subject)), action.String(), resourceType, taskType}
	return memo(v, "Precedent", fmt.Sprintf("%q", args), func() (access.Precedent, error) { return v.precedent(args) })
}

func (v *View) precedent(args []any) (access.Precedent, error) {
	const where = ` FROM precedents WHERE subject = $1 AND action = $2 AND resource = $3 AND task_type = $4`
	var p access.Precedent
	version := int64(absent)
	err := v.on.row(v.ctx, `SELECT approvals, denials, reversals, version`+where, args, &p.Approvals, &p.Denials, &p.Reversals, &version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, unavailable(err)
	}
	v.depend(version, `SELECT version`+where, args...)
	return p, nil
}

// Remembered is what an idempotency key stands for; ok is false if it is free.
func (v *View) Remembered(subject access.Ref, key string) (r event.Remember, ok bool, err error) {
	name := v.store.names.of(subject)
	var expires int64
	err = v.one(`SELECT version FROM idempotency WHERE subject = $1 AND key = $2`,
		`SELECT version, digest, result, expires FROM idempotency WHERE subject = $1 AND key = $2`, []any{string(name), key}, &r.Digest, &r.Result, &expires)
	if errors.Is(err, access.ErrNotFound) {
		return r, false, nil
	}
	r.Subject, r.Key, r.Expires = name, key, fromMicros(expires)
	return r, err == nil && v.Now().Before(r.Expires), err
}

// DecisionIndex is where a decision stands in the log.
func (v *View) DecisionIndex(id string) (int64, error) {
	index, err := v.number(`SELECT version FROM decisions WHERE id = $1`, id)
	if err == nil && index == absent {
		return 0, access.ErrNotFound
	}
	return index, err
}

// DecisionEvent reads what the entry at an index says was decided; access.ErrPruned if it is no longer there.
func (v *View) DecisionEvent(index int64) (event.DecisionMade, error) {
	var body []byte
	var decided event.DecisionMade
	err := v.one(`SELECT idx FROM entries WHERE idx = $1`, `SELECT idx, body FROM entries WHERE idx = $1`, []any{index}, &body)
	if errors.Is(err, access.ErrNotFound) && index >= 0 && index < v.store.Size() {
		return decided, access.ErrPruned
	}
	if err != nil {
		return decided, err
	}
	var entry struct {
		Type string
		Data json.RawMessage
	}
	if err := json.Unmarshal(body, &entry); err != nil {
		return decided, unavailable(err)
	}
	if entry.Type != decided.EventType() {
		return decided, access.ErrNotFound
	}
	made, _, err := event.Decode(entry.Type, entry.Data)
	if err != nil {
		return decided, unavailable(err)
	}
	return *made.(*event.DecisionMade), nil //nolint:forcetypeassert // of this type
}

// Value reads what lies beside an entry; access.ErrNotFound if it was erased or never there.
func (v *View) Value(index int64, slot string) (json.RawMessage, error) {
	var value []byte
	err := v.one(`SELECT 1 FROM disclosures WHERE idx = $1 AND slot = $2`,
		`SELECT 1, value FROM disclosures WHERE idx = $1 AND slot = $2`, []any{index, slot}, &value)
	return value, err
}

// Input reads the input of the decision at an index.
func (v *View) Input(index int64) (*access.Input, error) {
	value, err := v.Value(index, event.SlotInput)
	if err != nil {
		return nil, err
	}
	in := new(access.Input)
	return in, unavailable(json.Unmarshal(value, in))
}
