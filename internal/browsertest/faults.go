package browsertest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// faults is what was wrong with the pages of a window: errors on the console, violations of their policy, failed requests.
type faults struct {
	mu       sync.Mutex
	found    []string
	expected []string // text of faults, each of which must come
	ignored  []string // text of faults that may come
	urls     map[network.RequestID]string
}

// hear is called with each event of the window, by the only goroutine that reads them.
func (f *faults) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		f.add("exception", (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeAssert {
			f.add("console", said(e.Args))
		}
	case *log.EventEntryAdded: // of the browser: violations of the policy, answers of 400 and above
		if e.Entry.Level == log.EntryLevelError {
			f.add(string(e.Entry.Source), e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		f.sent(e.RequestID, e.Request.URL)
	case *network.EventLoadingFailed:
		// Who went to another page cancels; what the policy blocks is in the log too.
		if !e.Canceled && e.BlockedReason != network.BlockedReasonCsp {
			f.add("request", e.ErrorText+" "+f.url(e.RequestID))
		}
	case *page.EventJavascriptDialogOpening: // it stops the page
		f.add("dialog", e.Message)
	}
}

// said is what was written to the console.
func said(args []*runtime.RemoteObject) string {
	var words []string
	for _, arg := range args {
		if arg.Description != "" {
			words = append(words, arg.Description)
		} else {
			words = append(words, string(arg.Value))
		}
	}
	return strings.Join(words, " ")
}

func (f *faults) add(kind, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault := kind + ": " + strings.TrimSpace(text); !slices.Contains(f.found, fault) {
		f.found = append(f.found, fault)
	}
}

func (f *faults) sent(id network.RequestID, url string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.urls == nil {
		f.urls = map[network.RequestID]string{}
	}
	f.urls[id] = url
}

func (f *faults) url(id network.RequestID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.urls[id]
}

// judged are the faults that nobody expected, and the expected ones that did not come.
func (f *faults) judged() (unexpected, missing []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	missing = slices.Clone(f.expected)
	for _, fault := range f.found {
		is := func(text string) bool { return strings.Contains(fault, text) }
		if !slices.ContainsFunc(f.expected, is) && !slices.ContainsFunc(f.ignored, is) {
			unexpected = append(unexpected, fault)
		}
		missing = slices.DeleteFunc(missing, is)
	}
	return unexpected, missing
}

// Expect says that faults with this text are right: at least one must come, before or after this call.
func (p *Page) Expect(text string) {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	p.faults.expected = append(p.faults.expected, text)
}

// ignore is for the pages of others.
func (p *Page) ignore(text string) {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	p.faults.ignored = append(p.faults.ignored, text)
}

// judge fails the test with the faults of the page. What its last step has yet to bring about is seen only if the test waited for it.
func (p *Page) judge() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, p.limit)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Evaluate[int]("0")) // the answer comes after all that the page said before
	unexpected, missing := p.faults.judged()
	for err == nil && len(missing) > 0 && !p.t.Failed() && ctx.Err() == nil {
		time.Sleep(pause)
		unexpected, missing = p.faults.judged()
	}
	for _, fault := range unexpected {
		p.t.Errorf("a fault of the page, which the test does not Expect: %s", fault)
	}
	if !p.t.Failed() {
		for _, text := range missing {
			p.t.Errorf("no fault of the page says %q, as the test does Expect", text)
		}
	}
	if err != nil && !p.t.Failed() {
		p.t.Errorf("the page does not answer any more: %v", err)
	}
}
