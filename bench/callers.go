package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/writ-project/writ/internal/control"
)

// callers is how those who call prove who they are.
type callers string

const (
	plain   callers = "plain" // a bearer token of an OIDC issuer
	dpop    callers = "dpop"  // that, and a proof of possession with every request (RFC 9449), ES256
	byToken callers = "tls"   // a bearer token, over TLS
	mtls    callers = "mtls"  // an X.509-SVID as client certificate, on a connection of its own, and no token
)

func (c callers) overTLS() bool { return c == byToken || c == mtls }

// proof is what callers need to prove who they are: a key each, or a certificate each.
type proof struct {
	*authority // nil: nobody speaks TLS

	keys []jose.Signer // for proofs of possession
	ids  []string      // thumbprints of the keys (RFC 7638)
}

// prove makes keys and certificates for the callers of a run.
func prove(s settings, folder string) (*proof, error) {
	p := &proof{}
	for _, how := range s.callers {
		if how.overTLS() && p.authority == nil {
			made, err := newAuthority(folder, s.identities)
			if err != nil {
				return nil, err
			}
			p.authority = made
		}
		if how != dpop {
			continue
		}
		for range s.identities {
			if err := p.addKey(); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func (p *proof) addKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public := jose.JSONWebKey{Key: key.Public()}
	sum, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	p.keys, p.ids = append(p.keys, signer), append(p.ids, base64.RawURLEncoding.EncodeToString(sum))
	return err
}

// proofs are those of one identity for one kind of request, each of which a server takes once.
type proofs struct {
	key         jose.Signer
	method, url string
	sum         string // of the token

	at   int // where they stand in the request
	size int
	made [][]byte
	next atomic.Int64
}

func (p *proofs) make() ([]byte, error) {
	claims, err := json.Marshal(map[string]any{"jti": rand.Text(), "htm": p.method, "htu": p.url, "iat": time.Now().Unix(), "ath": p.sum})
	if err != nil {
		return nil, err
	}
	signed, err := p.key.Sign(claims)
	if err != nil {
		return nil, err
	}
	text, err := signed.CompactSerialize()
	return []byte(text), err
}

// put writes the next proof into a request; when those made before are used up it makes one, and late is 1.
func (p *proofs) put(raw []byte) (late int64, err error) {
	var next []byte
	if n := p.next.Add(1) - 1; n < int64(len(p.made)) {
		next = p.made[n]
	} else if next, err = p.make(); err != nil {
		return 1, err
	} else {
		late = 1
	}
	if len(next) != p.size {
		return late, errors.New("the proofs of an identity are not of one size")
	}
	copy(raw[p.at:], next)
	return late, nil
}

// makeProofs makes so many proofs altogether before time is taken, and tells what one cost in CPU: both are the callers' work, and
// theirs are no machines of the server's. It says 0 where nothing is to be proven.
func makeProofs(requests []prepared, most int64) (micros float64, err error) {
	if requests[0].proofs == nil {
		return 0, nil
	}
	before, err := ownCPU()
	if err != nil {
		return 0, err
	}
	each := int(most)/len(requests) + 1
	workers := runtime.GOMAXPROCS(0)
	failed := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for n := w; n < len(requests); n += workers {
				p := requests[n].proofs
				p.made = make([][]byte, each)
				p.next.Store(0)
				for i := range p.made {
					if p.made[i], failed[w] = p.make(); failed[w] != nil {
						return
					}
				}
			}
		})
	}
	group.Wait()
	after, err := ownCPU()
	return (after - before) * 1e6 / float64(each*len(requests)), errors.Join(append(failed, err)...)
}

// ownCPU is the seconds of CPU that this process, which is all callers, has used.
func ownCPU() (float64, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0, err
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds(), nil
}

// shown are the lines of a request's header that say who calls; what else an identity shows goes into out.
func (i *installation) shown(n int, how callers, method, url string, out *prepared) (string, error) {
	if how == mtls {
		out.certificate = &i.proof.svids[n]
		return "", nil
	}
	shown := "Authorization: Bearer " + i.tokens[n] + "\r\n"
	if how != dpop {
		return shown, nil
	}
	sum := sha256.Sum256([]byte(i.tokens[n]))
	out.proofs = &proofs{key: i.proof.keys[n], method: method, url: url, sum: base64.RawURLEncoding.EncodeToString(sum[:])}
	first, err := out.proofs.make()
	if err != nil {
		return "", err
	}
	out.proofs.size = len(first)
	return fmt.Sprintf("%sDPoP: %s\r\n", shown, first), nil
}

// bound is what the server must say that the first identity's credentials are bound to.
func (i *installation) bound(how callers) string {
	switch how {
	case dpop:
		return i.proof.ids[0]
	case mtls:
		sum := sha256.Sum256(i.proof.svids[0].Certificate[0])
		return control.ByCertificate + base64.RawURLEncoding.EncodeToString(sum[:])
	default:
		return ""
	}
}

// checkBound asks a server what credentials are bound to, lest something else is measured.
func (i *installation) checkBound(ctx context.Context, server *process, how callers) error {
	const path = "/v1/whoami"
	requests := make([]prepared, 1)
	shown, err := i.shown(0, how, http.MethodGet, server.url()+path, &requests[0])
	if err != nil {
		return err
	}
	open, err := connect(ctx, server.target, requests, pass{connections: 1})
	if err != nil {
		return err
	}
	defer open.close()
	if err := open.deadline(time.Now().Add(startLimit)); err != nil {
		return err
	}
	status, body, err := exchange(open.of(0, 0), fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, server.address, shown), make([]byte, maxAnswer))
	if err != nil {
		return err
	}
	var me struct {
		BoundTo string `json:"bound_to"`
	}
	if err := json.Unmarshal(body, &me); err != nil || status != http.StatusOK || me.BoundTo != i.bound(how) {
		return fmt.Errorf("%s: status %d, want credentials bound to %q: %.300s", path, status, i.bound(how), body)
	}
	return nil
}

// place is where proofs stand in a request.
func (p *proofs) place(raw []byte) {
	const field = "\r\nDPoP: "
	p.at = bytes.Index(raw, []byte(field)) + len(field)
}

func readCallers(text string) ([]callers, error) {
	var out []callers
	for _, name := range strings.Split(text, ",") {
		how := callers(name)
		switch how {
		case plain, dpop, byToken, mtls:
		default:
			return nil, fmt.Errorf("-callers: %q is none of %s, %s, %s, %s", name, plain, dpop, byToken, mtls)
		}
		for _, other := range out {
			if other == how {
				return nil, fmt.Errorf("-callers: %q twice", name)
			}
		}
		out = append(out, how)
	}
	return out, nil
}
