package catalog

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/internal/access"
)

// Each of the readers below adds one object to the catalog, remembers what it refers to,
// and reports whether the object's own name could be read.

func (r *reader) identity(n *yaml.Node) bool {
	o, ok := r.object(n, "an identity", "id", "owner", "purpose", "principal", "substitute", "match", "review_by", "attributes")
	if !ok {
		return false
	}
	id, ok := o.id(`Agent::"some-name"`, identityType)
	standard := []string{"owner", "purpose", "status"}
	if id.Type != access.TypeHuman {
		standard = append(standard, "review_by")
	}
	v := access.Identity{
		ID:         id,
		Purpose:    o.prose("purpose"),
		ReviewBy:   o.date("review_by"),
		Attributes: o.attributes(standard...),
	}
	switch {
	case !ok: // what it must have depends on its type
	case id.Type == access.TypeHuman:
		o.absent("owner", "humans answer for themselves")
		o.absent("principal", "a human acts in its own name")
		v.Substitute = o.ref("substitute", wantHuman)
		if v.Substitute == id {
			r.add(r.at(o.values["substitute"]), "substitute is this person: name another one, or nobody")
		}
	default:
		if n, ok := o.values["substitute"]; ok {
			r.add(r.at(n), "substitute is for people, who are asked, and away at times: remove it")
		}
		v.Owner = o.owner()
		v.Principal = o.ref("principal", wantHuman)
		o.require("purpose", "what it is for, in words")
		o.require("review_by", "the date by which its owner looks at it again, such as 2027-06-30")
	}
	v.Match = o.match(id)
	return o.keep(ok, KindIdentity, id.String(), func() { r.catalog.Identities = append(r.catalog.Identities, v) })
}

func (r *reader) team(n *yaml.Node) bool {
	o, ok := r.object(n, "a team", "name", "owner", "members", "ask_first", "next_after")
	if !ok {
		return false
	}
	v := access.Team{
		Name: o.name(), Owner: o.owner(), AskFirst: o.number("ask_first", MaxMembers), NextAfter: o.duration("next_after", minNext, maxNext),
	}
	if v.NextAfter > 0 && v.AskFirst == 0 {
		r.add(r.at(o.values["next_after"]), "next_after needs ask_first: else all are asked at once, and nobody is left")
	}
	members := o.refs("members", wantParty, MaxMembers)
	v.Members = values(members)
	return o.keep(v.Name != "", KindTeam, v.Name, func() {
		r.members.add(access.Ref{Type: access.TypeTeam, ID: v.Name}, members)
		r.catalog.Teams = append(r.catalog.Teams, v)
	})
}

func (r *reader) resource(n *yaml.Node) bool {
	o, ok := r.object(n, "a resource", "id", "owner", "sensitivity", "environment", "labels", "parents", "target", "attributes")
	if !ok {
		return false
	}
	id, ok := o.id(`Database::"some-name"`, resourceType)
	v := access.Resource{
		ID:          id,
		Owner:       o.owner(),
		Sensitivity: o.label("sensitivity"),
		Environment: o.label("environment"),
		Labels:      o.labels(),
		Target:      o.text("target", MaxTextLength),
		Attributes:  o.attributes("owner", "sensitivity", "environment", "labels"),
	}
	parents := o.refs("parents", wantResource, MaxParents)
	v.Parents = values(parents)
	return o.keep(ok, KindResource, id.String(), func() {
		r.parents.add(id, parents)
		r.catalog.Resources = append(r.catalog.Resources, v)
	})
}

func (r *reader) collection(n *yaml.Node) bool {
	o, ok := r.object(n, "a collection", "type", "owner", "source", "sensitivity", "environment", "labels", "target")
	if !ok {
		return false
	}
	o.require("type", "the entity type of its members, such as Order")
	o.require("source", "the name of the fact source that tells its members")
	v := access.Collection{
		Type:        o.text("type", MaxTypeLength),
		Owner:       o.owner(),
		Source:      o.matching("source", MaxNameLength, namePattern, nameRule),
		Sensitivity: o.label("sensitivity"),
		Environment: o.label("environment"),
		Labels:      o.labels(),
		Target:      o.text("target", MaxTextLength),
	}
	ok = v.Type != "" && o.entityType(o.values["type"], "type", v.Type)
	return o.keep(ok, KindCollection, v.Type, func() {
		if v.Source != "" {
			r.sourced = append(r.sourced, sourced{o.at(o.values["source"]), v.Type, v.Source})
		}
		r.catalog.Collections = append(r.catalog.Collections, v)
	})
}

func (r *reader) taskType(n *yaml.Node) bool {
	o, ok := r.object(n, "a task type", "name", "owner", "openers", "actions", "labels", "max_duration", "heartbeat", "max_open")
	if !ok {
		return false
	}
	o.require("openers", `the identities and teams that may open it, such as [Team::"support-bots"]`)
	o.require("max_duration", "how long a task may last, such as 1h")
	v := access.TaskType{
		Name:        o.name(),
		Owner:       o.owner(),
		Openers:     values(o.refs("openers", wantParty, MaxMembers)),
		Actions:     values(o.refs("actions", wantAction, MaxMembers)),
		Labels:      o.labels(),
		MaxDuration: o.duration("max_duration", minDuration, maxDuration),
		Heartbeat:   o.duration("heartbeat", minHeartbeat, maxDuration),
		MaxOpen:     o.number("max_open", maxOpen),
	}
	if v.MaxDuration != 0 && v.Heartbeat > v.MaxDuration {
		r.add(r.at(o.values["heartbeat"]), "heartbeat is longer than max_duration %s: shorten it, or no silence is ever noticed", span(v.MaxDuration.Duration()))
	}
	return o.keep(v.Name != "", KindTaskType, v.Name, func() { r.catalog.TaskTypes = append(r.catalog.TaskTypes, v) })
}

func (r *reader) factSource(n *yaml.Node) bool {
	o, ok := r.object(n, "a fact source", "name", "identity", "owner", "provides", "freshness")
	if !ok {
		return false
	}
	o.require("identity", `the identity that tells the facts, such as Workload::"orders"`)
	o.require("provides", "the entity types it tells of, such as [Order]")
	v := access.FactSource{
		Name:      o.name(),
		Identity:  o.ref("identity", wantIdentity),
		Owner:     o.owner(),
		Freshness: o.duration("freshness", minDuration, maxFreshness),
	}
	v.Provides = o.set("provides", MaxProvides, MaxTypeLength, func(n *yaml.Node, typ string) bool {
		if !o.entityType(n, "provides", typ) {
			r.unread[KindFactSource] = true
			return false
		}
		return o.provide(n, typ, v.Name)
	})
	if n := o.values["provides"]; n == nil || n.Kind != yaml.SequenceNode {
		r.unread[KindFactSource] = true
	}
	return o.keep(v.Name != "", KindFactSource, v.Name, func() { r.catalog.FactSources = append(r.catalog.FactSources, v) })
}

func (r *reader) enforcementPoint(n *yaml.Node) bool {
	o, ok := r.object(n, "an enforcement point", "identity", "owner", "subjects", "targets")
	if !ok {
		return false
	}
	o.require("identity", `the identity that enforces, such as Workload::"gateway"`)
	if _, guards := o.values["targets"]; !guards {
		o.require("subjects", `the identities and teams it may speak for, such as [Team::"support-bots"], or targets, whose credentials it checks`)
	}
	v := access.EnforcementPoint{
		Identity: o.ref("identity", wantIdentity),
		Owner:    o.owner(),
		Subjects: values(o.refs("subjects", wantParty, MaxMembers)),
		Targets: o.set("targets", MaxTargets, MaxTextLength, func(n *yaml.Node, target string) bool {
			r.guarded = append(r.guarded, guarded{o.at(n), target})
			return true
		}),
	}
	return o.keep(!v.Identity.IsZero(), KindEnforcementPoint, v.Identity.String(), func() {
		r.catalog.EnforcementPoints = append(r.catalog.EnforcementPoints, v)
	})
}

// keep adds an object under its name if that could be read and is free.
func (o object) keep(named bool, kind, name string, add func()) bool {
	if named && o.declare(o.node, kind, name) {
		add()
	}
	return named
}

// absent names a key that has no meaning here.
func (o object) absent(key, why string) {
	if n, ok := o.values[key]; ok {
		o.add(o.at(n), "%s has no meaning for a human: remove it, %s", key, why)
	}
}

func (o object) owner() access.Ref {
	o.require("owner", `the human who answers for it, such as Human::"ada"`)
	return o.ref("owner", wantHuman)
}

// id reads the object's own id; typeFault says what is wrong with its type, or "".
func (o object) id(example string, typeFault func(typ string) string) (access.Ref, bool) {
	o.require("id", example)
	n, ok := o.values["id"]
	if !ok {
		return access.Ref{}, false
	}
	ref, ok := o.parseRef(n, "id")
	if !ok {
		return access.Ref{}, false
	}
	if fault := typeFault(ref.Type); fault != "" {
		o.add(o.at(n), "id %s: %s", shown(ref), fault)
		return access.Ref{}, false
	}
	return ref, true
}

func (r *reader) parseRef(n *yaml.Node, key string) (access.Ref, bool) {
	text, ok := r.textOf(n, key, 2*access.MaxIDLength+MaxTypeLength+4)
	if !ok {
		return access.Ref{}, false
	}
	ref, err := access.ParseRef(text)
	switch {
	case err != nil:
		r.add(r.at(n), "%s: %v", key, err)
	case len(ref.Type) > MaxTypeLength:
		r.add(r.at(n), "%s: the type has %d bytes: shorten it to at most %d", key, len(ref.Type), MaxTypeLength)
	default:
		return ref, true
	}
	return access.Ref{}, false
}

// ref reads an optional reference and remembers it.
func (o object) ref(key string, w want) access.Ref {
	n, ok := o.values[key]
	if !ok {
		return access.Ref{}
	}
	ref, _ := o.refer(n, key, w)
	return ref
}

// refer reads one reference of the wanted sort; whether it exists is checked when all files are read.
func (r *reader) refer(n *yaml.Node, key string, w want) (access.Ref, bool) {
	ref, ok := r.parseRef(n, key)
	if !ok {
		return access.Ref{}, false
	}
	if fault := w.fault(ref); fault != "" {
		r.add(r.at(n), "%s names %s: %s", key, shown(ref), fault)
		return access.Ref{}, false
	}
	if w != wantAction {
		r.uses = append(r.uses, use{r.at(n), key, ref})
	}
	return ref, true
}

// refs reads an optional list of distinct references, ordered.
func (o object) refs(key string, w want, most int) []edge {
	n, ok := o.values[key]
	if !ok {
		return nil
	}
	items, _ := o.items(n, key, most)
	var out []edge
	seen := make(map[access.Ref]bool, len(items))
	for _, item := range items {
		ref, ok := o.refer(item, key, w)
		switch {
		case !ok:
		case seen[ref]:
			o.add(o.at(item), "%s names %s twice: remove one", key, shown(ref))
		default:
			seen[ref] = true
			out = append(out, edge{ref, o.at(item)})
		}
	}
	slices.SortFunc(out, func(a, b edge) int { return a.to.Compare(b.to) })
	return out
}

func values(edges []edge) []access.Ref {
	var out []access.Ref
	for _, e := range edges {
		out = append(out, e.to)
	}
	return out
}

// entityType checks the type of things that are not declared one by one.
func (r *reader) entityType(n *yaml.Node, key, typ string) bool {
	if ref, err := access.ParseRef(typ + `::"x"`); err != nil || ref.Type != typ {
		r.add(r.at(n), "%s %s is not an entity type: write a name such as Order or Shop::Order", key, quote(typ))
		return false
	}
	if fault := resourceType(typ); fault != "" {
		r.add(r.at(n), "%s %s: %s", key, quote(typ), fault)
		return false
	}
	return true
}

// provide registers the fact source of a type.
func (r *reader) provide(n *yaml.Node, typ, source string) bool {
	if other, ok := r.provider[typ]; ok && other != source { // two sources of one name are told already
		r.add(r.at(n), "%s is already provided by fact source %s: a type has one source", typ, quote(other))
		return false
	}
	r.provider[typ] = source
	return true
}

// match reads how an identity is known.
func (o object) match(id access.Ref) []access.Match {
	n, ok := o.values["match"]
	if !ok {
		return nil
	}
	items, _ := o.items(n, "match", MaxMatches)
	var out []access.Match
	for _, item := range items {
		m, ok := o.oneMatch(item)
		if !ok {
			continue
		}
		out = append(out, m)
		if !id.IsZero() {
			o.matches = append(o.matches, match{o.at(item), id, m})
		}
	}
	return out
}

func (r *reader) oneMatch(n *yaml.Node) (access.Match, bool) {
	o, ok := r.object(n, "a match", "issuer", "subject", "claims")
	if !ok {
		return access.Match{}, false
	}
	before := len(r.collector.list) + r.more
	o.require("issuer", "the URL of the token's issuer, such as https://id.example.com")
	m := access.Match{Issuer: o.text("issuer", MaxTextLength), Subject: o.subject(), Claims: o.claims()}
	if fault := issuerFault(m.Issuer); m.Issuer != "" && fault != "" {
		r.add(r.at(o.values["issuer"]), "issuer %s: %s", quote(m.Issuer), fault)
	}
	if o.values["subject"] == nil && o.values["claims"] == nil && !o.damaged {
		r.add(r.at(n), "the match fits every token of the issuer: add a subject or claims")
	}
	return m, len(r.collector.list)+r.more == before && !o.damaged
}

func issuerFault(issuer string) string {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Hostname() == "":
		return "write a URL such as https://id.example.com"
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return "an issuer has no user, query or fragment: remove it"
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return ""
	case u.Scheme == "spiffe" && (u.Path != "" || u.Port() != "" || u.Host != strings.ToLower(u.Host)):
		return "a trust domain is written spiffe:// and its name in lower case, and nothing else; the workload is the subject"
	case u.Scheme == "spiffe":
		return ""
	default:
		return "use https; http is for loopback hosts only"
	}
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (o object) subject() (c access.Claim) {
	if n, ok := o.values["subject"]; ok {
		c, _ = o.claim(n, "subject")
	}
	return c
}

// claim reads what a value must be: a text, {prefix: text} or {in: [texts]}.
func (r *reader) claim(n *yaml.Node, what string) (access.Claim, bool) {
	if n.Kind != yaml.MappingNode {
		text, ok := r.textOf(n, what, MaxTextLength)
		return access.Exactly(text), ok
	}
	o, ok := r.object(n, what, "prefix", "in")
	if !ok || o.damaged {
		return access.Claim{}, false
	}
	prefix, hasPrefix := o.values["prefix"]
	in, hasIn := o.values["in"]
	switch {
	case hasPrefix == hasIn:
		r.add(r.at(n), "%s is a text, or a mapping with either prefix or in", what)
		return access.Claim{}, false
	case hasPrefix:
		text, ok := r.textOf(prefix, what+" prefix", MaxTextLength)
		return access.Claim{Prefix: text}, ok
	}
	items, ok := r.items(in, what+" in", MaxClaimValues)
	out := access.Claim{}
	for _, item := range items {
		text, read := r.textOf(item, what+" in", MaxTextLength)
		if read && slices.Contains(out.In, text) {
			r.add(r.at(item), "%s in names %s twice", what, quote(text))
			read = false
		}
		ok = ok && read
		out.In = append(out.In, text)
	}
	return out, ok
}

func (o object) claims() map[string]access.Claim {
	n, ok := o.values["claims"]
	if !ok || o.bad[n] {
		return nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 || len(n.Content) > 2*MaxClaims {
		o.add(o.at(n), "claims is a mapping of 1 to %d claim names to what their values must be", MaxClaims)
		return nil
	}
	out := make(map[string]access.Claim, len(n.Content)/2)
	for key, value := range pairs(n) {
		name, ok := o.textOf(key, "a claim name", MaxNameLength)
		if !ok {
			continue
		}
		if name == "iss" || name == "sub" {
			o.add(o.at(key), "claim %s has a key of its own: write it as issuer or subject of the match", name)
			continue
		}
		if strings.HasPrefix(name, "/") && !pointer.MatchString(name) {
			o.add(o.at(key), "claim %s is no JSON Pointer: write ~0 for ~ and ~1 for a slash in a name", clipName(name))
			continue
		}
		if want, ok := o.claim(value, "claim "+clipName(name)); ok {
			out[name] = want
		}
	}
	return out
}
