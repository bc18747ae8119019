package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Page is a window of a browser. One goroutine may use it at a time. A step that cannot be done ends the test, and says what the
// page showed.
type Page struct {
	t      testing.TB
	ctx    context.Context
	limit  time.Duration // for one step
	plain  bool          // no script runs
	faults faults
}

// Element is one element of a page, the only one of its kind.
type Element struct{ role, name, css string }

// Role is an element as assistive technology finds it: by its role and its whole accessible name.
func Role(role, name string) Element { return Element{role: role, name: name} }

// CSS is an element that has no role or name to be found by.
func CSS(selector string) Element { return Element{css: selector} }

func (e Element) String() string {
	if e.css != "" {
		return e.css
	}
	return fmt.Sprintf("%s %q", e.role, e.name)
}

// Go opens a URL and waits until it is loaded.
func (p *Page) Go(url string) {
	p.t.Helper()
	do(p, "go to "+url, chromedp.Navigate(url))
}

// URL is where the page is now.
func (p *Page) URL() string {
	p.t.Helper()
	return do(p, "read the URL", chromedp.Evaluate[string]("location.href"))
}

// WaitURL waits until the page's URL starts with this.
func (p *Page) WaitURL(prefix string) {
	p.t.Helper()
	until(p, "wait for "+prefix, func(ctx context.Context, target *chromedp.Target) (string, error) {
		url, err := chromedp.Evaluate[string]("location.href")(ctx, target)
		if err == nil && !strings.HasPrefix(url, prefix) {
			err = errors.New("it is elsewhere")
		}
		return url, err
	})
}

// Wait waits until there is one such element.
func (p *Page) Wait(e Element) {
	p.t.Helper()
	until(p, "wait for "+e.String(), find(e))
}

// WaitText waits until the page shows a text.
func (p *Page) WaitText(text string) {
	p.t.Helper()
	until(p, fmt.Sprintf("wait for the text %q", text), func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		shown, err := chromedp.Evaluate[string](bodyText)(ctx, target)
		if err == nil && !strings.Contains(shown, text) {
			err = errors.New("it is not there")
		}
		return chromedp.Void{}, err
	})
}

// bodyText is the text of a page as people see it; a page that is just being loaded has none.
const bodyText = "document.body ? document.body.innerText : ''"

// Text is the text of an element as people see it.
func (p *Page) Text(e Element) string {
	p.t.Helper()
	return until(p, "read "+e.String(), on[string](e, "function() { return this.innerText }"))
}

// Click presses the mouse in the middle of an element, once it is enabled and nothing covers it.
func (p *Page) Click(e Element) {
	p.t.Helper()
	at := until(p, "click "+e.String(), on[[]float64](e, `function() {
		if (this.matches(':disabled')) throw new Error('it is disabled')
		this.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' })
		const [box] = this.getClientRects()
		if (!box) throw new Error('it is not shown')
		const x = box.x + box.width / 2, y = box.y + box.height / 2, top = document.elementFromPoint(x, y)
		if (!this.contains(top)) throw new Error('it is covered by ' + (top ? top.outerHTML : 'nothing'))
		return [x, y]
	}`))
	do(p, "click "+e.String(), chromedp.MouseClickXY(at[0], at[1]))
}

// Type puts the text in place of what is in a field, key by key.
func (p *Page) Type(e Element, text string) {
	p.t.Helper()
	p.Click(e)
	until(p, "type into "+e.String(), on[chromedp.Void](e, "function() { this.select?.() }"))
	do(p, "type into "+e.String(), chromedp.KeyEvent(text))
}

// Press presses keys one after the other, wherever the focus is: "Tab", "Shift+Tab", "Enter", "Escape", "Space", "ArrowUp",
// "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End", "Backspace", or a character.
func (p *Page) Press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		name, shifted := strings.CutPrefix(key, "Shift+")
		var options []chromedp.KeyOption
		if shifted {
			options = append(options, chromedp.KeyModifiers(chromedp.ModifierShift))
		}
		code := keyCode(name)
		if code == "" {
			p.t.Fatalf("press %q: there is no such key; Press says which there are", key)
		}
		do(p, "press "+key, chromedp.KeyEvent(code, options...))
	}
}

func keyCode(name string) string {
	switch name {
	case "Tab":
		return kb.Tab
	case "Enter":
		return kb.Enter
	case "Escape":
		return kb.Escape
	case "Space":
		return " "
	case "ArrowUp":
		return kb.ArrowUp
	case "ArrowDown":
		return kb.ArrowDown
	case "ArrowLeft":
		return kb.ArrowLeft
	case "ArrowRight":
		return kb.ArrowRight
	case "Home":
		return kb.Home
	case "End":
		return kb.End
	case "Backspace":
		return kb.Backspace
	}
	if len([]rune(name)) == 1 {
		return name
	}
	return ""
}

// Focused is the role and the accessible name of what has the focus; both are empty if nothing has.
func (p *Page) Focused() (role, name string) {
	p.t.Helper()
	node := do(p, "find the focus", func(ctx context.Context, target *chromedp.Target) (*accessibility.Node, error) {
		active, err := chromedp.Evaluate[*runtime.RemoteObject](
			"document.activeElement === document.body ? null : document.activeElement")(ctx, target)
		if err != nil || active.ObjectID == "" {
			return nil, err
		}
		alone := false
		tree, err := cdp.Call(ctx, target, accessibility.GetPartialAXTree,
			accessibility.GetPartialAXTreeParams{ObjectID: active.ObjectID, FetchRelatives: &alone})
		if err != nil || len(tree.Nodes) == 0 {
			return nil, err
		}
		return tree.Nodes[0], nil
	})
	if node == nil {
		return "", ""
	}
	return textOf(node.Role), textOf(node.Name)
}

func textOf(v *accessibility.Value) (text string) {
	if v != nil {
		_ = json.Unmarshal(v.Value, &text) // what is no text is none
	}
	return text
}

// Eval evaluates JavaScript in the page, waits for it if it is a promise, and decodes its value into result, which may be nil.
func (p *Page) Eval(expression string, result any) {
	p.t.Helper()
	value := do(p, "evaluate "+expression, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise))
	if result == nil {
		return
	}
	if err := json.Unmarshal(value, result); err != nil {
		p.t.Fatalf("%s is %s: %v", expression, value, err)
	}
}

// Size sets how much of the page is seen, in pixels. A narrow one is a phone, which shows pages that do not adapt as if it were wide.
func (p *Page) Size(width, height int) {
	p.t.Helper()
	do(p, "set the size", call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(width), Height: int64(height), DeviceScaleFactor: 1, Mobile: width < 600,
	}))
}

// Scheme is a colour scheme that a person prefers.
type Scheme string

// The schemes there are.
const (
	Light Scheme = "light"
	Dark  Scheme = "dark"
)

// Scheme says which colours the person prefers. Whoever looks at pages here prefers stillness too, or would see them half-way.
func (p *Page) Scheme(s Scheme) {
	p.t.Helper()
	do(p, "set the colour scheme", call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: string(s)}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}))
}

// NoScript lets no script of the pages that come run. Steps of the test still do.
func (p *Page) NoScript() {
	p.t.Helper()
	p.plain = true
	p.setScripts(false)
}

func (p *Page) setScripts(on bool) {
	p.t.Helper()
	do(p, "switch scripts", call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on}))
}

// Screenshot is a PNG of the whole page.
func (p *Page) Screenshot() []byte {
	p.t.Helper()
	return do(p, "take a picture", chromedp.FullScreenshot(100))
}

// maxShown bounds how much of a page is in an error.
const maxShown = 4000

// shows says where the page is, what is on it, and what was wrong.
func (p *Page) shows() string {
	ctx, cancel := context.WithTimeout(p.ctx, p.limit)
	defer cancel()
	shown, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + '\\n' + ("+bodyText+")"))
	if err != nil {
		shown = err.Error()
	}
	if len(shown) > maxShown {
		shown = strings.ToValidUTF8(shown[:maxShown], "") + " …"
	}
	unexpected, _ := p.faults.judged()
	return "the page: " + strings.Join(append([]string{shown}, unexpected...), "\n")
}

// find is the element, if it is the only one.
func find(e Element) chromedp.Action[runtime.RemoteObjectID] {
	return func(ctx context.Context, target *chromedp.Target) (runtime.RemoteObjectID, error) {
		if e.css != "" {
			return findCSS(ctx, target, e.css)
		}
		document, err := chromedp.Evaluate[*runtime.RemoteObject]("document")(ctx, target)
		if err != nil {
			return "", err
		}
		found, err := cdp.Call(ctx, target, accessibility.QueryAXTree,
			accessibility.QueryAXTreeParams{ObjectID: document.ObjectID, Role: e.role, AccessibleName: e.name})
		if err != nil {
			return "", err
		}
		if len(found.Nodes) != 1 { // what is hidden has no role
			return "", fmt.Errorf("there are %d such elements", len(found.Nodes))
		}
		element, err := cdp.Call(ctx, target, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: found.Nodes[0].BackendDOMNodeID})
		if err != nil {
			return "", err
		}
		return element.Object.ObjectID, nil
	}
}

func findCSS(ctx context.Context, target *chromedp.Target, selector string) (runtime.RemoteObjectID, error) {
	quoted, err := json.Marshal(selector)
	if err != nil {
		return "", err
	}
	element, err := chromedp.Evaluate[*runtime.RemoteObject](fmt.Sprintf(`(found => {
		if (found.length !== 1) throw new Error('there are ' + found.length + ' such elements')
		return found[0]
	})(document.querySelectorAll(%s))`, quoted), chromedp.EvalIgnoreExceptions)(ctx, target)
	if err != nil {
		return "", err
	}
	return element.ObjectID, nil
}

// on calls a function with the element as this.
func on[T any](e Element, function string) chromedp.Action[T] {
	return func(ctx context.Context, target *chromedp.Target) (none T, err error) {
		id, err := find(e)(ctx, target)
		if err != nil {
			return none, err
		}
		return chromedp.CallFunctionOn[T](function, func(params *runtime.CallFunctionOnParams) { params.ObjectID = id })(ctx, target)
	}
}

// call is a command of the protocol as a step.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[R] {
	return func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	}
}
