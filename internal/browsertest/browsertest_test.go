package browsertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// judged is a test that may fail.
type judged struct {
	testing.TB
	said     []string
	cleanups []func()
}

func (j *judged) Helper()                      {}
func (j *judged) Failed() bool                 { return len(j.said) > 0 }
func (j *judged) Cleanup(f func())             { j.cleanups = append(j.cleanups, f) }
func (j *judged) Errorf(form string, a ...any) { j.said = append(j.said, fmt.Sprintf(form, a...)) }
func (j *judged) Fatalf(form string, a ...any) { j.Errorf(form, a...); runtime.Goexit() }

// failures is what a test that may fail says.
func failures(t *testing.T, test func(t testing.TB)) []string {
	t.Helper()
	j := &judged{TB: t}
	var running sync.WaitGroup
	running.Go(func() { test(j) })
	running.Wait()
	for _, cleanup := range slices.Backward(j.cleanups) {
		cleanup()
	}
	return j.said
}

// site serves pages by path, under a policy as the console's.
func site(t *testing.T, pages map[string]string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" && r.Header.Get("Sec-Fetch-Dest") == "empty" {
			panic(http.ErrAbortHandler)
		}
		content, ok := pages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		kind := map[string]string{".css": "text/css", ".js": "text/javascript"}[filepath.Ext(r.URL.Path)]
		if kind == "" {
			kind = "text/html; charset=utf-8"
		}
		w.Header().Set("Content-Type", kind)
		policy := "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'"
		if r.URL.Path == "/sealed" {
			policy = "default-src 'none'; require-trusted-types-for 'script'"
		}
		w.Header().Set("Content-Security-Policy", policy)
		fmt.Fprint(w, content)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// document is a whole page without a fault, around a body.
func document(main string) string {
	return `<!doctype html><html lang="en"><head><title>A page</title><meta name="viewport" content="width=device-width">
		<link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/style.css"></head><body><main><h1>A page</h1>` + main + `</main></body></html>`
}

const style = `:root { color-scheme: light dark; background: #fff; color: #111 }
	@media (prefers-color-scheme: dark) { :root { background: #111; color: #eee } }
	.faint { color: #bbb; background: #fff } .tall { height: 2000px }
	.tiny { display: inline-block; width: 8px; height: 8px; overflow: hidden; border: 0; padding: 0; margin: 0 }
	.veil { position: fixed; inset: 0; background: #fff }`

func withStyle(pages map[string]string) map[string]string {
	pages["/style.css"], pages["/icon.svg"] = style, `<svg xmlns="http://www.w3.org/2000/svg"/>`
	return pages
}

// TestAxeJudges has a page for each rule that it breaks, and one that breaks none.
func TestAxeJudges(t *testing.T) {
	cases := map[string]string{
		"":               `<label>Reason <input></label>`,
		"label":          `<input type="text">`,
		"color-contrast": `<p class="faint">Hard to read</p>`,
		"target-size":    `<button class="tiny">a</button><button class="tiny">b</button>`,          // WCAG 2.2
		"heading-order":  `<h4>Too deep</h4>`,                                                       // best practice
		"region":         `</main><p>Where is this?</p><main aria-label="Another"><p>Elsewhere</p>`, // best practice
	}
	pages := withStyle(map[string]string{})
	for rule, body := range cases {
		pages["/"+rule] = document(body)
	}
	url, page := site(t, pages), Open(t).NewPage(t)
	for rule := range cases {
		page.Go(url + "/" + rule)
		said := failures(t, func(t testing.TB) { page.Accessible(t) })
		if rule == "" && len(said) > 0 {
			t.Errorf("a good page: %q", said)
		}
		if rule != "" && !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, ": "+rule+": ") }) {
			t.Errorf("%s: %q", rule, said)
		}
	}
}

// TestAxeRunsWhereNothingMay has a page whose policy forbids everything, and one whose scripts are off.
func TestAxeRunsWhereNothingMay(t *testing.T) {
	bare := `<!doctype html><html lang="en"><title>A page</title><main><h1>A page</h1><input></main>`
	url, browser := site(t, map[string]string{"/sealed": bare, "/bare": bare, "/favicon.ico": ""}), Open(t)
	for _, path := range []string{"/sealed", "/bare"} {
		page := browser.NewPage(t)
		if path == "/bare" {
			page.NoScript()
		}
		page.Go(url + path)
		if said := failures(t, func(t testing.TB) { page.Accessible(t) }); len(said) != 1 || !strings.Contains(said[0], ": label: ") {
			t.Errorf("%s: %q", path, said)
		}
	}
}

func TestFaultsFailTheTest(t *testing.T) {
	cases := []struct{ name, body, want string }{
		{"form", `<form action="http://other.example/"><button>Send</button></form>`, "Content Security Policy"},
		{"dead end", `<a href="http://other.example/">Away</a>`, "request: net::ERR_NAME_NOT_RESOLVED http://other.example/"},
		{"script", `<script src="/error.js"></script>`, "console: \"it is out of order\""},
		{"exception", `<script src="/throw.js"></script>`, "TypeError: no such thing"},
		{"inline script", `<script>document.title = 'x'</script>`, "Content Security Policy"},
		{"inline style", `<p style="color: red">x</p>`, "Content Security Policy"},
		{"foreign image", `<img alt="" src="http://other.example/x.png">`, "Content Security Policy"},
		{"missing", `<img alt="" src="/missing.png">`, "404"},
		{"broken", `<script src="/fetch.js"></script>`, "net::ERR_EMPTY_RESPONSE"},
	}
	pages := withStyle(map[string]string{
		"/error.js": `console.log('all is well'); console.error('it is out of order')`,
		"/throw.js": `throw new TypeError('no such thing')`,
		"/fetch.js": `var tried = fetch('/broken').catch(() => {})`,
	})
	for _, c := range cases {
		pages["/"+c.name] = document(c.body)
	}
	url, browser := site(t, pages), Open(t)
	for _, c := range cases {
		visit := func(expected ...string) []string {
			return failures(t, func(t testing.TB) {
				page := browser.NewPage(t)
				for _, text := range expected {
					page.Expect(text)
				}
				page.Go(url + "/" + c.name)
				page.Eval("window.tried", nil)
				switch c.name {
				case "form":
					page.Click(Role("button", "Send"))
					until(page, "wait for the refusal", func(context.Context, *chromedp.Target) (none chromedp.Void, err error) {
						if unexpected, missing := page.faults.judged(); len(unexpected) == 0 && len(missing) == len(expected) {
							err = errors.New("nothing is wrong")
						}
						return none, err
					})
				case "dead end":
					page.Click(Role("link", "Away"))
					page.WaitURL("chrome-error:")
				}
			})
		}
		if said := visit(); len(said) == 0 || !strings.Contains(strings.Join(said, "\n"), c.want) {
			t.Errorf("%s: %q", c.name, said)
		}
		if said := visit(c.want); len(said) > 0 {
			t.Errorf("%s, and the test expects it: %q", c.name, said)
		}
	}
}

func TestAnExpectedFaultThatDoesNotCome(t *testing.T) {
	url, browser := site(t, withStyle(map[string]string{"/": document("")})), Open(t)
	said := failures(t, func(t testing.TB) {
		page := browser.NewPage(t)
		page.limit = 6 * time.Second
		page.Expect("a miracle")
		page.Go(url)
	})
	if len(said) != 1 || !strings.Contains(said[0], `"a miracle"`) {
		t.Errorf("%q", said)
	}
}

// TestAStepThatCannotBeDoneSaysWhatThePageShows has a page on which nothing can be done.
func TestAStepThatCannotBeDoneSaysWhatThePageShows(t *testing.T) {
	url, browser := site(t, withStyle(map[string]string{
		"/":       document(`<p>Nothing to do</p><button>One</button><button>One</button><button disabled>Off</button>`),
		"/veiled": document(`<button>Under</button><div class="veil">Wait</div>`),
	})), Open(t)
	var running sync.WaitGroup // each waits for the same time
	for name, step := range map[string]struct {
		path string
		do   func(p *Page)
		want string
	}{
		"none":     {"/", func(p *Page) { p.Click(Role("button", "Approve")) }, `click button "Approve": there are 0 such elements`},
		"several":  {"/", func(p *Page) { p.Click(Role("button", "One")) }, "there are 2 such elements"},
		"disabled": {"/", func(p *Page) { p.Click(Role("button", "Off")) }, "it is disabled"},
		"covered":  {"/veiled", func(p *Page) { p.Click(Role("button", "Under")) }, "it is covered by <div"},
		"CSS":      {"/", func(p *Page) { p.Text(CSS("#card")) }, "there are 0 such elements"},
		"text":     {"/", func(p *Page) { p.WaitText("Approved") }, `wait for the text "Approved": it is not there`},
		"URL":      {"/", func(p *Page) { p.WaitURL(url + "/login") }, "it is elsewhere"},
		"key":      {"/", func(p *Page) { p.Press("Any") }, "there is no such key"},
		"script":   {"/", func(p *Page) { p.Eval("nothing.there", nil) }, "ReferenceError"},
	} {
		running.Go(func() {
			said := failures(t, func(t testing.TB) {
				page := browser.NewPage(t)
				page.Go(url + step.path)
				page.limit = 6 * time.Second
				step.do(page)
				t.Errorf("it was done")
			})
			if len(said) != 1 || !strings.Contains(said[0], step.want) {
				t.Errorf("%s: %q", name, said)
			} else if name == "none" && !strings.Contains(said[0], "Nothing to do") {
				t.Errorf("it does not say what the page shows: %q", said)
			}
		})
	}
	running.Wait()
}

// TestWithTheKeyboardAlone fills in a form as somebody without a mouse does.
func TestWithTheKeyboardAlone(t *testing.T) {
	url, browser := site(t, withStyle(map[string]string{
		"/": document(`<form action="/done"><a href="/">Back</a> <label>Reason <input name="reason"></label>
			<fieldset><legend>Time</legend><label><input type="radio" name="time" value="5m" checked> 5 minutes</label>
			<label><input type="radio" name="time" value="1h"> 1 hour</label></fieldset> <button>Approve</button></form>`),
		"/done": document(`<p>Thank you</p>`),
	})), Open(t)
	page := browser.NewPage(t)
	page.Go(url)
	focus := func(role, name string) {
		t.Helper()
		if r, n := page.Focused(); r != role || n != name {
			t.Errorf("the focus is on %s %q, want %s %q", r, n, role, name)
		}
	}
	focus("", "")
	for _, step := range []struct{ key, role, name string }{
		{"Tab", "link", "Back"}, {"Tab", "textbox", "Reason"}, {"Shift+Tab", "link", "Back"}, {"Tab", "textbox", "Reason"},
		{"n", "textbox", "Reason"}, {"o", "textbox", "Reason"}, {"Backspace", "textbox", "Reason"},
		{"Tab", "radio", "5 minutes"}, {"ArrowDown", "radio", "1 hour"}, {"Tab", "button", "Approve"},
	} {
		page.Press(step.key)
		focus(step.role, step.name)
	}
	page.Press("Enter")
	page.WaitText("Thank you")
	if at := page.URL(); at != url+"/done?reason=n&time=1h" {
		t.Errorf("the form was sent as %s", at)
	}
}

func TestTypeReplacesAndClickFollows(t *testing.T) {
	url, browser := site(t, withStyle(map[string]string{
		"/":     document(`<form action="/done"><label>Reason <input name="reason" value="none"></label> <button>Approve</button><button hidden>Approve</button><button aria-hidden="true">Approve</button></form>`),
		"/done": document(`<p id="said">Thank you</p>`),
	})), Open(t)
	page := browser.NewPage(t)
	page.Go(url)
	page.Type(Role("textbox", "Reason"), "Grüße, 世界")
	page.Click(Role("button", "Approve")) // the one that is shown
	page.WaitURL(url + "/done")
	page.Wait(CSS("#said"))
	if got := page.Text(CSS("#said")); got != "Thank you" {
		t.Error(got)
	}
	var reason string
	page.Eval("Promise.resolve(new URL(location).searchParams.get('reason'))", &reason)
	if reason != "Grüße, 世界" {
		t.Errorf("the reason came as %q", reason)
	}
}

// TestDarkAndNarrow reads colours and sizes off the picture of a whole page.
func TestDarkAndNarrow(t *testing.T) {
	url, browser := site(t, withStyle(map[string]string{
		"/":      document(`<p class="tall">Tall</p>`),
		"/fixed": strings.Replace(document(`<p class="tall">Tall</p>`), `<meta name="viewport" content="width=device-width">`, "", 1),
	})), Open(t)
	page := browser.NewPage(t)
	page.Go(url)
	for _, c := range []struct {
		scheme Scheme
		width  int
		want   color.RGBA
	}{{Light, 1440, color.RGBA{255, 255, 255, 255}}, {Dark, 390, color.RGBA{17, 17, 17, 255}}, {Dark, 1440, color.RGBA{17, 17, 17, 255}}} {
		page.Size(c.width, 800)
		page.Scheme(c.scheme)
		picture, err := png.Decode(bytes.NewReader(page.Screenshot()))
		if err != nil {
			t.Fatal(err)
		}
		if size := picture.Bounds().Size(); size.X != c.width || size.Y < 2000 {
			t.Errorf("%s at %d: the picture is %s", c.scheme, c.width, size)
		}
		if got := color.RGBAModel.Convert(picture.At(c.width-2, 1000)); got != c.want {
			t.Errorf("%s at %d: the ground is %v", c.scheme, c.width, got)
		}
	}
	page.Size(390, 800)
	page.Go(url + "/fixed")
	var width int
	if page.Eval("document.documentElement.clientWidth", &width); width <= 390 {
		t.Errorf("a page that does not adapt is %d pixels wide on a phone", width)
	}
}

func TestWithoutScripts(t *testing.T) {
	url, browser := site(t, withStyle(map[string]string{
		"/":          document(`<p id="said">plain</p><noscript>Without scripts</noscript><script src="/script.js"></script><a href="/next">Next</a>`),
		"/next":      document(`<p>The next page</p>`),
		"/script.js": `document.getElementById('said').textContent = 'live'`,
	})), Open(t)
	page := browser.NewPage(t)
	page.Go(url)
	if got := page.Text(CSS("#said")); got != "live" {
		t.Errorf("with scripts: %q", got)
	}
	page.NoScript()
	page.Go(url)
	if got := page.Text(CSS("main")); !strings.Contains(got, "plain") || !strings.Contains(got, "Without scripts") {
		t.Errorf("without scripts: %q", got)
	}
	page.Press("Tab")
	if role, name := page.Focused(); role != "link" || name != "Next" {
		t.Errorf("the focus is on %s %q", role, name)
	}
	page.Click(Role("link", "Next"))
	page.WaitText("The next page")
}

// TestWhatCannotBeStartedFails has no Chromium, and one that does not start.
func TestWhatCannotBeStartedFails(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	open := func(t testing.TB) { Open(t) }
	if said := failures(t, open); len(said) != 1 || !strings.Contains(said[0], "run scripts/deps") {
		t.Errorf("no Chromium: %q", said)
	}
	if err := os.WriteFile(filepath.Join(bin, "chromium"), []byte("#!/bin/sh\necho out of order\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if said := failures(t, open); len(said) != 1 || !strings.Contains(said[0], "out of order") {
		t.Errorf("a failing Chromium: %q", said)
	}
}
