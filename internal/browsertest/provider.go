package browsertest

import (
	"context"
	"embed"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/writ-project/writ/internal/nodetest"
)

//go:embed provider.mjs
var files embed.FS

// Provider is oidc-provider of npm, where people log in under any name. Its clock stands still until the test moves it.
type Provider struct {
	URL    string // the issuer; another site than 127.0.0.1 for a browser, as providers are
	script *nodetest.Script
	clock  atomic.Int64 // milliseconds since 1970
}

// Client is registered with the provider for authorization codes with PKCE. Without a secret it is a public one.
type Client struct {
	ID       string `json:"id"`
	Secret   string `json:"secret"`
	Redirect string `json:"redirect"`
}

// StartProvider starts a provider that ends with the test. The ID tokens of a person have the name typed in as sub, auth_time, and,
// for the scope "groups", the person's groups.
func StartProvider(t testing.TB, groups map[string][]string, clients ...Client) *Provider {
	t.Helper()
	source, err := files.ReadFile("provider.mjs")
	script := filepath.Join(t.TempDir(), "provider.mjs")
	if err := errors.Join(err, os.WriteFile(script, source, 0o600)); err != nil {
		t.Fatal(err)
	}
	p := &Provider{script: nodetest.Start(t, script)}
	p.clock.Store(time.Now().Truncate(time.Second).UnixMilli()) // browsers keep cookies by the true time
	if groups == nil {
		groups = map[string][]string{}
	}
	if err := p.script.Ask("start", map[string]any{"now": p.clock.Load(), "groups": groups, "clients": clients}, &p.URL); err != nil {
		t.Fatal(err)
	}
	return p
}

// Now is the time of the provider's clock.
func (p *Provider) Now() time.Time { return time.UnixMilli(p.clock.Load()).UTC() }

// Advance moves the provider's clock.
func (p *Provider) Advance(t testing.TB, d time.Duration) {
	t.Helper()
	if err := p.script.Ask("time", map[string]any{"now": p.clock.Add(d.Milliseconds())}, nil); err != nil {
		t.Fatal(err)
	}
}

// Login logs a person in on a page that was sent to the provider, consents where the provider asks for it, and waits until the page
// is back where it came from.
func (p *Provider) Login(page *Page, person string) {
	page.t.Helper()
	for _, missing := range []string{"fonts.googleapis.com", p.URL + "/favicon.ico"} { // which the provider's pages want
		page.ignore(missing)
	}
	page.WaitURL(p.URL)
	page.Type(CSS("input[name=login]"), person)
	page.Type(CSS("input[name=password]"), "any will do")
	page.Click(Role("button", "Sign-in"))
	if p.asks(page) {
		page.Click(Role("button", "Continue"))
	}
	until(page, "wait to be sent back by the provider", func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		at, err := chromedp.Evaluate[string]("location.href")(ctx, target)
		if err == nil && p.is(at) {
			err = errors.New("it is still there")
		}
		return chromedp.Void{}, err
	})
}

func (p *Provider) is(url string) bool { return strings.HasPrefix(url, p.URL+"/") }

// asks waits until the provider asks for consent, or sends the page back without asking.
func (p *Provider) asks(page *Page) bool {
	page.t.Helper()
	return until(page, "wait for the provider's answer", func(ctx context.Context, target *chromedp.Target) (bool, error) {
		at, err := chromedp.Evaluate[string]("location.href")(ctx, target)
		if err != nil || !p.is(at) {
			return false, err
		}
		_, err = find(Role("button", "Continue"))(ctx, target)
		return true, err
	})
}
