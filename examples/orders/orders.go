// Package orders is an example of a target: a server of orders that lets nobody read one without a live grant for exactly that.
package orders

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/writ-project/writ/client"
)

// Audience is what tokens for this server are made out to: the target of orders in the catalog.
const Audience = "https://orders.example.com"

// New serves GET /orders/{id}. It asks Writ about every token, as the enforcement point that guards Audience in the catalog: so a
// grant that is over is over here at the next call, whatever the token's expiry says. It must be served over TLS that asks for client
// certificates, since tokens that are bound to one are checked against it. Reading takes no arguments and is not counted: a server
// whose actions do would compare args_digest, and ask client.CountUse before each use.
func New(writ *client.Client) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		if strings.ContainsAny(r.PathValue("id"), `"\`) { // what would have to be escaped in a reference names no order here
			http.NotFound(w, r)
			return
		}
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 { // before Writ is asked: its answers are for those who can hold a token
			http.Error(w, "call with the certificate that your token is bound to", http.StatusUnauthorized)
			return
		}
		order := `Order::"` + r.PathValue("id") + `"`
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "send the token that Writ gave you", http.StatusUnauthorized)
			return
		}
		known, err := writ.Introspect(r.Context(), token)
		switch {
		case err != nil: // without an answer nobody is let in
			http.Error(w, "who may do this cannot be found out now", http.StatusServiceUnavailable)
		case !known.Active || known.Audience != Audience || !holds(r, known.Confirmation):
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			http.Error(w, "the token is not good, not for here, or not yours", http.StatusUnauthorized)
		case !covers(known, `Action::"read_order"`, order):
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
			http.Error(w, "the token is for something else", http.StatusForbidden)
		default:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = fmt.Fprintf(w, "%s was delivered; read by %s for %s\n", order, known.ClientID, known.Subject)
		}
	})
	return mux
}

// holds reports whether the call proves what the token is bound to (RFC 8705 section 3). A token that is bound to nothing, or to a key
// whose proofs this server does not check, is nobody's: whoever stole it could use it.
func holds(r *http.Request, cnf client.Confirmation) bool {
	if cnf.Certificate == "" {
		return false
	}
	shown := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(shown[:])), []byte(cnf.Certificate)) == 1
}

func covers(known *client.Introspection, action, resource string) bool {
	return len(known.Details) == 1 && known.Details[0].Action == action && known.Details[0].Resource == resource
}
