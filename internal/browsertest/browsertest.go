// Package browsertest looks at pages as people do: in headless Chromium, with a mouse, a keyboard and axe-core. It is for tests.
// What cannot be installed or started fails the test, and never skips it.
//
//	page := browsertest.Open(t).NewPage(t)
//	page.Go(url)
//	page.Type(browsertest.Role("textbox", "Reason"), "a refund below the limit")
//	page.Click(browsertest.Role("button", "Approve"))
//	page.WaitText("Approved")
//	page.Accessible(t)
package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	startLimit = time.Minute      // for Chromium to start, and for a window of it to open
	stepLimit  = 30 * time.Second // for one step of a test
	pause      = 20 * time.Millisecond
)

// Browser is a Chromium that runs until its test ends.
type Browser struct{ ctx context.Context }

// Open starts a Chromium.
func Open(t testing.TB) *Browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("there is no Chromium here: run scripts/deps, or put chromium on the PATH: %v", err)
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(program),
		chromedp.Flag("no-proxy-server", true),
		// A page that asks for something of another machine is told that there is none.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"))
	// Not of the test's context, which ends before the cleanup that closes the browser.
	living, end := context.WithCancel(context.WithoutCancel(t.Context()))
	allocated, stop := chromedp.NewExecAllocator(living, options...)
	ctx, closed := chromedp.NewContext(allocated)
	t.Cleanup(func() { end(); closed(); stop() })
	if err := start(ctx, end); err != nil {
		t.Fatalf("%s does not start: %v", program, err)
	}
	return &Browser{ctx}
}

// start lets chromedp make what the context stands for. It lives as long as that context, so no time limit may be in it.
func start(ctx context.Context, end context.CancelFunc) error {
	late := time.AfterFunc(startLimit, end)
	defer late.Stop()
	if err := chromedp.Do(ctx); err != nil {
		return fmt.Errorf("within %s: %w", startLimit, err)
	}
	return nil
}

// NewPage opens a window with a profile of its own, in which nobody is logged in: light, 1440 pixels wide. It is closed with the
// test, and fails it then with every fault of its pages that the test did not Expect: errors and exceptions on the console, what the
// policy forbids, requests that fail or are answered with 400 or above (also for a page itself, and for its icon), dialogs.
func (b *Browser) NewPage(t testing.TB) *Page {
	t.Helper()
	living, end := context.WithCancel(b.ctx)
	p := &Page{t: t, limit: stepLimit}
	ctx, closed := chromedp.NewContext(living, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.faults.hear))
	p.ctx = ctx
	t.Cleanup(func() { p.judge(); closed(); end() })
	if err := start(ctx, end); err != nil {
		t.Fatalf("no window opens: %v", err)
	}
	p.Size(1440, 900)
	p.Scheme(Light)
	return p
}

// do is one step on a page. It ends in time, or the test does.
func do[T any](p *Page, what string, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, p.limit)
	defer cancel()
	got, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", what, err, p.shows())
	}
	return got
}

// until tries a step until it succeeds: a page changes by itself.
func until[T any](p *Page, what string, action chromedp.Action[T]) T {
	p.t.Helper()
	return do(p, what, func(ctx context.Context, target *chromedp.Target) (T, error) {
		wait := time.NewTicker(pause)
		defer wait.Stop()
		var last error
		for {
			got, err := action(ctx, target)
			if err == nil {
				return got, nil
			}
			if ctx.Err() == nil || last == nil {
				last = err
			}
			select {
			case <-ctx.Done():
				return got, errors.Join(last, ctx.Err())
			case <-wait.C:
			}
		}
	})
}
