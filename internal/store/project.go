package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/access/event"
)

// projection turns one entry into rows. It is the only code that writes the authoritative tables; verification runs
// the same code over the whole log and compares (verify.go). It may use nothing but the event, its index and its time.
type projection struct {
	ctx   context.Context
	on    session
	index int64
	at    time.Time
	task  string
}

func (p *projection) exec(text string, args ...any) error {
	return p.on.exec(p.ctx, text, args...)
}

func (p *projection) project(e event.Event) error {
	if p.task != "" {
		err := p.exec(`INSERT INTO task_log (task, seq, last) VALUES ($1, 1, $2)
			ON CONFLICT (task) DO UPDATE SET seq = task_log.seq + 1, last = excluded.last`, p.task, p.index)
		if err != nil {
			return err
		}
	}
	switch e := e.(type) {
	case *event.UseDecided:
		return p.used(e)
	case *event.CatalogChanged:
		return p.catalogChanged(e)
	case *event.PolicyActivated:
		return p.exec(`INSERT INTO catalog_version (one, version, bundle) VALUES (1, $1, $2)
			ON CONFLICT (one) DO UPDATE SET version = excluded.version, bundle = excluded.bundle`, p.index, e.Bundle)
	case *event.IdentityChanged:
		return p.identity(e.Identity, e.Status, 1)
	case *event.AwayChanged:
		return p.away(e)
	case *event.FactsReported:
		return p.facts(e)
	case *event.DecisionMade:
		return p.decision(e)
	case *event.ApprovalAnswered:
		return p.answer(e)
	case *event.ApprovalCommented:
		return p.comment(e)
	case *event.ApprovalLapsed:
		return p.exec(`UPDATE approvals SET status = $1, version = $2 WHERE id = $3`, string(access.ApprovalExpired), p.index, e.Approval)
	case *event.TaskOpened:
		return p.exec(`INSERT INTO tasks (id, type, subject, principal, trace, status, reason, opened_at, expires_at, ended_at, heartbeat, opened, version)
			VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, 0, $9, $10, $10)`,
			e.ID, e.Type, string(e.Subject), string(e.Principal), e.Trace, string(access.TaskOpen), micros(p.at), micros(e.ExpiresAt), int64(e.Heartbeat), p.index)
	case *event.TaskChanged:
		return p.taskChanged(e)
	case *event.TaskSealed:
		return p.exec(`UPDATE tasks SET status = $1, version = $2 WHERE id = $3`, string(access.TaskSealed), p.index, e.ID)
	case *event.GrantEnded:
		return p.endGrant(e.ID, e.Reason)
	case *event.GrantReissued:
		return p.reissued(e)
	case *event.ValueErased:
		if slices.Contains(e.Slots, event.SlotDocument) {
			return p.touchCatalog() // an object of the catalog is unknown from here on
		}
		return nil // the values themselves lie outside the projected tables
	case *event.CredentialIssued:
		return p.touches(e.Labels, e.Subject)
	case *event.Installed, *event.LogPruned, *event.LogRestored, *event.ActionReported:
		return nil // a record, and no state
	default:
		return fmt.Errorf("no projection for %T", e)
	}
}

func (p *projection) used(e *event.UseDecided) error {
	for _, id := range e.Counted {
		if err := p.exec(`UPDATE grants SET uses = uses + 1, version = $1 WHERE id = $2`, p.index, id); err != nil {
			return err
		}
	}
	return nil
}

// touchCatalog makes every decision that read the catalog, or who is active, look again.
func (p *projection) touchCatalog() error {
	return p.exec(`INSERT INTO catalog_version (one, version, bundle) VALUES (1, $1, '')
		ON CONFLICT (one) DO UPDATE SET version = excluded.version`, p.index)
}

func (p *projection) catalogChanged(e *event.CatalogChanged) error {
	if err := p.touchCatalog(); err != nil {
		return err
	}
	if e.Op == event.OpRemoved {
		if e.Kind == event.KindIdentity {
			if err := p.identity(e.Object, access.Retired, 0); err != nil {
				return err
			}
		}
		return p.exec(`DELETE FROM catalog WHERE kind = $1 AND object = $2`, e.Kind, string(e.Object))
	}
	if e.Kind == event.KindIdentity && e.Op == event.OpAdded {
		if err := p.declared(e.Object); err != nil {
			return err
		}
	}
	return p.exec(`INSERT INTO catalog (kind, object, version) VALUES ($1, $2, $3)
		ON CONFLICT (kind, object) DO UPDATE SET version = excluded.version`, e.Kind, string(e.Object), p.index)
}

// identity sets a status; declared is 0 if the catalog no longer has it.
func (p *projection) identity(identity event.Pseudonym, status access.Status, declared int64) error {
	if err := p.touchCatalog(); err != nil {
		return err
	}
	return p.exec(`INSERT INTO identities (identity, status, was, since, declared, version) VALUES ($1, $2, '', $3, $4, $5)
		ON CONFLICT (identity) DO UPDATE SET status = excluded.status, was = identities.status, since = excluded.since, declared = excluded.declared, version = excluded.version`,
		string(identity), string(status), micros(p.at), declared, p.index)
}

// declared makes an identity active. One that the catalog had dropped stands again where it stood: else dropping and declaring
// it would undo what suspended or retired it. One that the catalog still has, because only its document was erased, stands where it stands.
func (p *projection) declared(identity event.Pseudonym) error {
	return p.exec(`INSERT INTO identities (identity, status, was, since, declared, version) VALUES ($1, 'active', '', $2, 1, $3)
		ON CONFLICT (identity) DO UPDATE SET status = CASE WHEN identities.was IN ('suspended', 'retired') THEN identities.was ELSE excluded.status END,
		was = identities.status, since = excluded.since, declared = 1, version = excluded.version WHERE identities.declared = 0`, string(identity), micros(p.at), p.index)
}

// away moves a person's roles to their substitute, or back.
func (p *projection) away(e *event.AwayChanged) error {
	if err := p.touchCatalog(); err != nil {
		return err
	}
	return p.exec(`UPDATE identities SET away = $1, version = $2 WHERE identity = $3`, micros(e.Until), p.index, string(e.Identity))
}

func (p *projection) facts(e *event.FactsReported) error {
	for i, entity := range e.Entities {
		if err := p.fact(entity, e, strconv.Itoa(i)); err != nil {
			return err
		}
	}
	for _, entity := range e.Gone { // the row stays, without a value, so that nothing older brings the entity back
		if err := p.fact(entity, e, ""); err != nil {
			return err
		}
	}
	return nil
}

func (p *projection) fact(entity event.Pseudonym, e *event.FactsReported, slot string) error {
	return p.exec(`INSERT INTO facts (entity, source, observed_at, slot, version) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (entity) DO UPDATE SET source = excluded.source, observed_at = excluded.observed_at,
		slot = excluded.slot, version = excluded.version`, string(entity), e.Source, micros(e.ObservedAt), slot, p.index)
}

func (p *projection) decision(e *event.DecisionMade) error {
	if err := p.exec(`INSERT INTO decisions (id, version) VALUES ($1, $2)`, e.ID, p.index); err != nil {
		return err
	}
	if e.Grant != nil {
		err := p.grant(e.ID, grantRow{
			decided: p.index, parent: e.Grant.Parent, task: p.task, subject: string(e.Subject), mode: string(e.Grant.Mode),
			depth: e.Grant.Depth, expires: micros(e.Grant.ExpiresAt), maxUses: e.Grant.MaxUses,
		})
		if err != nil {
			return err
		}
	}
	if e.Asked != nil {
		err := p.exec(`INSERT INTO approvals (id, kind, decided, task, subject, asker, status, asked_at, expires_at, approved_until, version)
			VALUES ($1, $9, $2, $3, $4, $5, $6, $7, $8, 0, $2)`,
			e.ID, p.index, p.task, string(e.Subject), string(cmp.Or(e.Lender, e.Subject)), string(access.ApprovalPending), micros(p.at), micros(e.Asked.ExpiresAt), string(e.Asked.Kind))
		if err != nil {
			return err
		}
	}
	if e.Consumed != "" {
		if err := p.exec(`UPDATE approvals SET status = $1, version = $2 WHERE id = $3`, string(access.ApprovalConsumed), p.index, e.Consumed); err != nil {
			return err
		}
	}
	if e.Replaces != "" {
		if err := p.endGrant(e.Replaces, access.EndReissued); err != nil {
			return err
		}
	}
	return p.traces(e)
}

const (
	usageForget = `DELETE FROM usage WHERE subject = $1 AND counter = $2 AND bucket < $3`
	usageAdd    = `INSERT INTO usage (subject, counter, bucket, total, version) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (subject, counter, bucket) DO UPDATE SET total = usage.total + excluded.total, version = excluded.version`
)

// traces are what a decision leaves for later ones: counters and labels.
func (p *projection) traces(e *event.DecisionMade) error {
	counts := string(cmp.Or(e.Lender, e.Subject))
	for _, u := range e.Usage {
		err := p.exec(usageForget, counts, u.Counter, u.Bucket-2*int64(u.Window))
		if err != nil {
			return err
		}
		err = p.exec(usageAdd, counts, u.Counter, u.Bucket, u.Add, p.index)
		if err != nil {
			return err
		}
	}
	toucher := e.Subject
	if e.Lender != "" {
		toucher = "" // who is lent something has not touched it yet
	}
	return p.touches(e.Labels, toucher)
}

// touches notes labels for the task, and for the identity that touched them, if one did.
func (p *projection) touches(labels []string, identity event.Pseudonym) error {
	for _, label := range labels {
		err := p.exec(`INSERT INTO task_labels (task, label, version) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, p.task, label, p.index)
		if err != nil {
			return err
		}
		if identity == "" {
			continue
		}
		err = p.exec(`INSERT INTO touched (subject, label, at, version) VALUES ($1, $2, $3, $4)
			ON CONFLICT (subject, label) DO UPDATE SET at = excluded.at, version = excluded.version`, string(identity), label, micros(p.at), p.index)
		if err != nil {
			return err
		}
	}
	return nil
}

type grantRow struct {
	decided               int64
	parent, task, subject string
	mode                  string
	depth                 int
	expires, maxUses      int64
}

func (p *projection) grant(id string, g grantRow) error {
	return p.exec(`INSERT INTO grants (id, decided, parent, task, subject, mode, depth, status, reason, granted_at, expires_at, ended_at, max_uses, uses, version)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', $9, $10, 0, $11, 0, $12)`,
		id, g.decided, g.parent, g.task, g.subject, g.mode, g.depth, string(access.GrantActive), micros(p.at), g.expires, g.maxUses, p.index)
}

func (p *projection) endGrant(id string, reason access.EndReason) error {
	return p.exec(`UPDATE grants SET status = $1, reason = $2, ended_at = $3, version = $4 WHERE id = $5`,
		string(access.GrantEnded), string(reason), micros(p.at), p.index, id)
}

// reissued copies the former grant under a new id, with what is left of its uses and the same end.
func (p *projection) reissued(e *event.GrantReissued) error {
	err := p.exec(`INSERT INTO grants (id, decided, parent, task, subject, mode, depth, status, reason, granted_at, expires_at, ended_at, max_uses, uses, version)
		SELECT CAST($1 AS TEXT), decided, parent, task, subject, mode, depth, status, reason, CAST($2 AS BIGINT), expires_at, ended_at, max_uses, uses, CAST($3 AS BIGINT) FROM grants WHERE id = $4`,
		e.ID, micros(p.at), p.index, e.Replaces)
	if err != nil {
		return err
	}
	return p.endGrant(e.Replaces, access.EndReissued)
}

func (p *projection) answer(e *event.ApprovalAnswered) error {
	approve := 0
	if e.Approve {
		approve = 1
	}
	err := p.exec(`INSERT INTO answers (approval, person, approve, ttl, uses, at, card, shown, surface, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		e.Approval, string(e.By), approve, int64(e.TTL), e.MaxUses, micros(p.at), e.Card, micros(e.ShownAt), e.Surface, p.index)
	if err != nil {
		return err
	}
	err = p.exec(`UPDATE approvals SET status = $1, approved_until = $2, version = $3 WHERE id = $4`,
		string(e.Status), micros(e.ApprovedUntil), p.index, e.Approval)
	if err != nil || e.Precedent == nil {
		return err
	}
	denied := 1 - approve
	return p.exec(`INSERT INTO precedents (subject, action, resource, task_type, approvals, denials, reversals, version)
		VALUES ($1, $2, $3, $4, $5, $6, 0, $7)
		ON CONFLICT (subject, action, resource, task_type) DO UPDATE SET approvals = precedents.approvals + excluded.approvals,
		denials = precedents.denials + excluded.denials, version = excluded.version`,
		string(e.Precedent.Subject), e.Precedent.Action.String(), e.Precedent.Resource, e.Precedent.TaskType, approve, denied, p.index)
}

// comment makes everybody who judges by the card look again.
func (p *projection) comment(e *event.ApprovalCommented) error {
	if err := p.exec(`INSERT INTO comments (approval, version, person, at) VALUES ($1, $2, $3, $4)`, e.Approval, p.index, string(e.By), micros(p.at)); err != nil {
		return err
	}
	return p.exec(`UPDATE approvals SET version = $1 WHERE id = $2`, p.index, e.Approval)
}

func (p *projection) taskChanged(e *event.TaskChanged) error {
	ended := int64(0)
	if e.Status == access.TaskEnded {
		ended = micros(p.at)
	}
	return p.exec(`UPDATE tasks SET status = $1, reason = $2, ended_at = $3, version = $4 WHERE id = $5`,
		string(e.Status), string(e.Reason), ended, p.index, e.ID)
}
