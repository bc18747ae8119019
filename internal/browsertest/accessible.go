package browsertest

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/writ-project/writ/internal/nodetest"
)

// rules are those of WCAG 2.2, levels A and AA, and what axe holds to be best practice.
const rules = `{ type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa', 'best-practice'] }`

// breach is where a page breaks a rule of axe.
type breach struct{ Rule, Selector, Help, Summary string }

type axeResult struct{ Broken, Unclear []breach }

// Accessible fails the test with each rule that the page breaks as it is now, and goes on. What axe cannot tell, it logs.
func (p *Page) Accessible(t testing.TB) {
	t.Helper()
	if p.plain { // axe waits with timers, which are scripts; those of the page were not loaded
		p.setScripts(true)
		defer p.setScripts(false)
	}
	found := do(p, "run axe", axe(string(nodetest.File(t, "axe-core/axe.min.js"))))
	for _, b := range found.Unclear {
		t.Logf("axe cannot tell: %s: %s: %s", b.Rule, b.Selector, b.Help)
	}
	for _, b := range found.Broken {
		t.Errorf("%s is not accessible: %s: %s: %s\n%s", p.URL(), b.Rule, b.Selector, b.Help, b.Summary)
	}
}

// axe runs in a world of its own: the page's policy does not hold there, and the page does not see it.
func axe(source string) chromedp.Action[axeResult] {
	run := fmt.Sprintf(`%s
	;axe.run(document, { runOnly: %s }).then(found => {
		const breaches = rules => rules.flatMap(({ id, help, nodes }) => nodes.map(node => (
			{ rule: id, selector: node.target.flat().join(' '), help, summary: node.failureSummary ?? '' })))
		return { broken: breaches(found.violations), unclear: breaches(found.incomplete) }
	})`, source, rules)
	return func(ctx context.Context, target *chromedp.Target) (none axeResult, err error) {
		tree, err := cdp.Call(ctx, target, page.GetFrameTree, cdp.Empty{})
		if err != nil {
			return none, err
		}
		world, err := cdp.Call(ctx, target, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: tree.FrameTree.Frame.ID, WorldName: "axe"})
		if err != nil {
			return none, err
		}
		return chromedp.Evaluate[axeResult](run, chromedp.EvalAwaitPromise, func(params *runtime.EvaluateParams) {
			params.ContextID = world.ExecutionContextID
		})(ctx, target)
	}
}
