package catalog

import (
	"maps"
	"slices"
	"strings"

	"github.com/writ-project/writ/internal/access"
)

// match is one way in which an identity is known.
type match struct {
	at       place
	identity access.Ref
	access.Match
}

// claims are everything a token must hold: the subject is a claim like any other.
func (m *match) claims() map[string]access.Claim {
	out := maps.Clone(m.Claims)
	if out == nil {
		out = map[string]access.Claim{}
	}
	if !m.Subject.IsZero() {
		out["sub"] = m.Subject
	}
	return out
}

// exactly are the values of claims that leave no choice; ok is false if one does.
func exactly(claims map[string]access.Claim) (values map[string]string, ok bool) {
	values = make(map[string]string, len(claims))
	for name, claim := range claims {
		value, exact := claim.Exact()
		if !exact {
			return nil, false
		}
		values[name] = value
	}
	return values, true
}

// meet reports whether one token could hold what both ask for.
func meet(a, b map[string]access.Claim) bool {
	for name, claim := range a {
		if other, ok := b[name]; ok && !claim.Meets(other) {
			return false
		}
	}
	return true
}

// shaped are the matches of one issuer that ask for the same claims.
type shaped struct {
	names   []string // ordered
	matches []int    // into the parser's, ascending
}

// ambiguous finds identities that one token could belong to: two matches of one issuer that contradict each other
// on no claim both ask for. A caller who could be either would be refused as unknown when it calls (access.Index).
func (p *parser) ambiguous() {
	p.looselyAmbiguous()
	claims := make([]map[string]string, len(p.matches))
	issuers := map[string][]shaped{}
	index := map[string]int{}
	var order []string
	for i := range p.matches {
		m := &p.matches[i]
		var exact bool
		if claims[i], exact = exactly(m.claims()); !exact {
			continue
		}
		names := slices.Sorted(maps.Keys(claims[i]))
		groups, ok := issuers[m.Issuer]
		if !ok {
			order = append(order, m.Issuer)
		}
		key := join(append([]string{m.Issuer}, names...))
		at, ok := index[key]
		if !ok {
			at = len(groups)
			index[key] = at
			groups = append(groups, shaped{names: names})
		}
		groups[at].matches = append(groups[at].matches, i)
		issuers[m.Issuer] = groups
	}
	for _, issuer := range order {
		p.ambiguousAt(issuers[issuer], claims)
	}
}

// ambiguousAt joins every two groups of an issuer on the claims they share, so the cost is groups × matches, not matches².
func (p *parser) ambiguousAt(groups []shaped, claims []map[string]string) {
	if len(groups) > MaxClaimSets {
		at := p.matches[groups[MaxClaimSets].matches[0]].at
		p.add(at, "more than %d different sets of claim names for one issuer: tell its identities apart by the same claims", MaxClaimSets)
		return
	}
	earliest := map[int]int{} // match → the first one it cannot be told from
	for _, a := range groups {
		for _, b := range groups {
			p.join(a, b, claims, earliest)
		}
	}
	for _, i := range slices.Sorted(maps.Keys(earliest)) {
		p.ambiguousPair(i, earliest[i])
	}
}

func (p *parser) ambiguousPair(i, earlier int) {
	m, other := &p.matches[i], &p.matches[earlier]
	p.add(m.at, "%s and %s (%s) could both be meant by one token of %s: give both the subject, or different values of one claim",
		m.identity, other.identity, other.at, m.Issuer)
}

// looselyAmbiguous compares the matches that leave a claim a choice, of which there are few, with every other of their issuer.
func (p *parser) looselyAmbiguous() {
	claims, exact := make([]map[string]access.Claim, len(p.matches)), make([]bool, len(p.matches))
	byIssuer, loose := map[string][]int{}, map[string][]int{}
	for i := range p.matches {
		issuer := p.matches[i].Issuer
		claims[i] = p.matches[i].claims()
		byIssuer[issuer] = append(byIssuer[issuer], i)
		if _, exact[i] = exactly(claims[i]); !exact[i] {
			if loose[issuer] = append(loose[issuer], i); len(loose[issuer]) == MaxLooseMatches+1 {
				p.add(p.matches[i].at, "more than %d matches of one issuer with prefix or in: tell its identities apart by exact values", MaxLooseMatches)
				return
			}
		}
	}
	for _, issuer := range slices.Sorted(maps.Keys(loose)) {
		for _, i := range loose[issuer] {
			for _, other := range byIssuer[issuer] {
				if p.matches[i].identity != p.matches[other].identity && (exact[other] || other < i) && meet(claims[i], claims[other]) {
					p.ambiguousPair(max(i, other), min(i, other))
					break
				}
			}
		}
	}
}

// join notes for each match of a the first of another identity in b that stands before it and contradicts it nowhere.
func (p *parser) join(a, b shaped, claims []map[string]string, earliest map[int]int) {
	var common []string
	for _, name := range a.names {
		if slices.Contains(b.names, name) {
			common = append(common, name)
		}
	}
	// An identity's matches follow each other, so if the first of a bucket is its own, no other stands before it.
	first := map[string]int{}
	for _, i := range b.matches {
		key := project(claims[i], common)
		if _, ok := first[key]; !ok {
			first[key] = i
		}
	}
	for _, i := range a.matches {
		other, ok := first[project(claims[i], common)]
		if !ok || other >= i || p.matches[other].identity == p.matches[i].identity {
			continue
		}
		if known, ok := earliest[i]; !ok || other < known {
			earliest[i] = other
		}
	}
}

func project(claims map[string]string, names []string) string {
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = claims[name]
	}
	return join(values)
}

// join makes one key of several texts; none of them holds a control character.
func join(parts []string) string { return strings.Join(parts, "\x00") }
