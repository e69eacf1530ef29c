package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/systeminfo"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// browser is Chromium with a profile of its own and one open page.
type browser struct {
	t    testing.TB
	name string
	ctx  context.Context

	mu struct {
		sync.Mutex
		killed   bool
		expected *regexp.Regexp // errors on the console that are no failure
	}
}

// visitorAgent is what the browsers say they are.
const visitorAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"

// openBrowser starts a browser. What its pages write to the console as an error
// fails the test.
func openBrowser(t testing.TB, name string) *browser {
	t.Helper()
	path := chromium(t)
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.WindowSize(1200, 1400),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		// One that says it has no screen is counted as a robot.
		chromedp.UserAgent(visitorAgent),
	}
	ctx, free := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(free)
	return openPage(t, ctx, name)
}

// openTab opens another page in the browser, which shares all it stores with it.
func (b *browser) openTab(name string) *browser {
	b.t.Helper()
	return openPage(b.t, b.ctx, name)
}

// openPage opens a page, in a browser of its own unless the context has one.
func openPage(t testing.TB, parent context.Context, name string) *browser {
	t.Helper()
	ctx, end := chromedp.NewContext(parent)
	t.Cleanup(end)
	b := &browser{t: t, name: name, ctx: ctx}
	console := chromedp.Console(ctx) // starts the browser
	var reading sync.WaitGroup
	reading.Go(func() {
		for m, err := range console {
			if err != nil {
				if ctx.Err() == nil && !b.isKilled() {
					t.Errorf("%s: read the console: %v", name, err)
				}
				return
			}
			switch m.Type {
			case chromedp.ConsoleError, chromedp.ConsoleException:
				if b.expects(m.Text) {
					continue
				}
				t.Errorf("%s: console: %s: %s (%s:%d)", name, m.Type, m.Text, m.URL, m.Line)
			case chromedp.ConsoleWarning:
				t.Logf("%s: console: %s: %s", name, m.Type, m.Text)
			}
		}
	})
	t.Cleanup(func() {
		end()
		reading.Wait()
	})
	return b
}

// chromium returns the program, or skips the test where there is none.
func chromium(t testing.TB) string {
	t.Helper()
	var err error
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "headless-shell", "chrome"} {
		var path string
		if path, err = exec.LookPath(name); err == nil {
			return path
		}
	}
	lacking(t, "Chromium", err)
	return ""
}

// crash ends the process of the page, as when the memory is short. The browser lives on.
func (b *browser) crash() {
	b.t.Helper()
	b.mu.Lock()
	b.mu.killed = true
	b.mu.Unlock()
	// Nobody answers: the process that would is gone.
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	_, _ = chromedp.Run(ctx, chromedp.Action[chromedp.Void](func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, page.Crash, cdp.Empty{})
		return chromedp.Void{}, err
	}))
}

func (b *browser) isKilled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.killed
}

// expect names errors on the console that are no failure from now on.
func (b *browser) expect(pattern string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.expected = regexp.MustCompile(pattern)
}

func (b *browser) expects(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.expected != nil && b.mu.expected.MatchString(text)
}

// settle waits until the browser has done what it does after its start, which goes on for a second or two after its first page: a person's browser
// runs when they open an address. It is for what is measured, and says nothing of how long the start took.
func (b *browser) settle() {
	b.t.Helper()
	b.visit(`data:text/html,<body style="font-family: system-ui"><h1>Another page</h1><p>has text <small>of other sizes</small>, <b>bold</b> and <code>plain</code>.`)
	const looks, restMax = 50, 0.15 // so many looks take a second or more, and cost the browser a part of that
	var used []float64              // seconds of a processor, at each look
	poll(b.t, b.name+" is at rest", func() (bool, string) {
		info := act(b, "ask for the processes", func(ctx context.Context, _ *chromedp.Target) (systeminfo.GetProcessInfoResult, error) {
			return chromedp.CallBrowser(ctx, systeminfo.GetProcessInfo, cdp.Empty{})
		})
		sum := 0.0
		for _, process := range info.ProcessInfo {
			sum += process.CPUTime
		}
		used = append(used, sum)
		if len(used) <= looks {
			return false, "it has just begun"
		}
		busy := sum - used[len(used)-1-looks]
		return busy < restMax, fmt.Sprintf("%.3f s of a processor were used during %d looks", busy, looks)
	})
}

// kill ends the browser at once, as when a laptop's battery is empty.
func (b *browser) kill() {
	b.t.Helper()
	b.mu.Lock()
	b.mu.killed = true
	b.mu.Unlock()
	if err := chromedp.FromContext(b.ctx).Browser.Process().Kill(); err != nil {
		b.t.Fatalf("%s: kill: %v", b.name, err)
	}
}

// act runs an action in the page.
func act[T any](b *browser, what string, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeoutCause(b.ctx, patience, errLate)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%s: %s: %v", b.name, what, err)
	}
	return v
}

// visit opens an address.
func (b *browser) visit(url string) {
	b.t.Helper()
	act(b, "open "+url, chromedp.Navigate(url))
}

// evaluate returns the value of an expression in the page, or of its promise.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	return act(b, expression, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// loadsAgain does what has the page load itself again a little later, and waits until it
// has: in between there is nobody to be asked.
func (b *browser) loadsAgain(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeoutCause(b.ctx, patience, errLate)
	defer cancel()
	loads := chromedp.Events(ctx, page.LoadEventFired)
	evaluate[float64](b, expression)
	for _, err := range loads {
		if err != nil {
			b.t.Fatalf("%s: wait until the page has loaded itself again: %v", b.name, err)
		}
		return
	}
	b.t.Fatalf("%s: the page has not loaded itself again: %v", b.name, context.Cause(ctx))
}

// await waits until the statistics page shows what is wanted.
func (b *browser) await(want shown) {
	b.t.Helper()
	poll(b.t, b.name+" shows it", func() (bool, string) {
		diff := cmp.Diff(want, evaluate[shown](b, readPage))
		return diff == "", "(-want +got)\n" + diff
	})
}

// send has the browser do a command of the DevTools protocol for the page.
func send[P, R any](b *browser, cmd cdp.Command[P, R], params P) R {
	b.t.Helper()
	return act(b, cmd.Method, func(ctx context.Context, _ *chromedp.Target) (R, error) {
		return chromedp.Call(ctx, cmd, params)
	})
}

// hideFromTracker makes the pages that are opened from now on no visits: the
// tracker believes that it runs already.
func (b *browser) hideFromTracker() {
	b.t.Helper()
	b.before(`window.halcyonTracker = true`)
}

// screenshot keeps a picture of the page.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	picture := act(b, "screenshot", chromedp.FullScreenshot(100))
	path := filepath.Join(b.t.ArtifactDir(), name+".png")
	if err := os.WriteFile(path, picture, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("screenshot %s", path)
}

// shown is what the statistics page tells a person.
type shown struct {
	Link     string // the state of the connection, in words
	Active   string
	Where    []string // "path count", in the order shown
	Views    string
	Visitors string
	Top      []string // "path views"
}

// readPage gives a shown.
const readPage = `(() => {
	const text = (id) => document.getElementById(id).textContent;
	const rows = (id, title, column) => document.getElementById(id).hidden ? [] :
		[...document.querySelectorAll("#" + id + " tbody tr")].map((row) => row.querySelector(title).textContent + " " + row.cells[column].textContent);
	return {
		Link: text("link-text"), Active: text("active"), Views: text("views"), Visitors: text("visitors"),
		Where: rows("where", ".title", 1), Top: rows("top", ".title", 2),
	};
})()`

func TestBrowsersSeeEachOther(t *testing.T) {
	t.Parallel()
	chromium(t)
	s := serve(t, halcyon)
	watcher := openBrowser(t, "watcher")
	watcher.visit(s.url() + "/stats")
	// The page counts its own reader.
	watcher.await(shown{Link: "Live", Active: "1", Where: []string{"Stats 1"}, Views: "1", Visitors: "1", Top: []string{"Stats 1"}})
	evaluate[bool](watcher, `window.stays = true`)

	first := openBrowser(t, "first")
	first.visit(s.url() + "/")
	watcher.await(shown{Link: "Live", Active: "2", Where: []string{"Home 1", "Stats 1"}, Views: "2", Visitors: "2", Top: []string{"Home 1", "Stats 1"}})
	watcher.screenshot("two-visitors")

	first.visit(s.url() + "/about")
	watcher.await(shown{Link: "Live", Active: "2", Where: []string{"About 1", "Stats 1"}, Views: "3", Visitors: "2", Top: []string{"Home 1", "About 1", "Stats 1"}})

	// A visit again within half an hour is no view. It says where the visitor is.
	first.visit(s.url() + "/")
	watcher.await(shown{Link: "Live", Active: "2", Where: []string{"Home 1", "Stats 1"}, Views: "3", Visitors: "2", Top: []string{"Home 1", "About 1", "Stats 1"}})

	second := openBrowser(t, "second")
	second.visit(s.url() + "/")
	watcher.await(shown{Link: "Live", Active: "3", Where: []string{"Home 2", "Stats 1"}, Views: "4", Visitors: "3", Top: []string{"Home 2", "About 1", "Stats 1"}})
	watcher.screenshot("three-visitors")

	// A page that moves without loading is a page too.
	evaluate[bool](second, `(history.pushState(null, "", "/moved/by/script"), true)`)
	watcher.await(shown{Link: "Live", Active: "3", Where: []string{"Home 1", "/moved/by/script 1", "Stats 1"}, Views: "5", Visitors: "3",
		Top: []string{"Home 2", "About 1", "/moved/by/script 1", "Stats 1"}})

	// Who is gone without a word stays for the two minutes, and disturbs nobody.
	second.kill()
	first.visit(s.url() + "/about")
	watcher.await(shown{Link: "Live", Active: "3", Where: []string{"About 1", "/moved/by/script 1", "Stats 1"}, Views: "5", Visitors: "3",
		Top: []string{"Home 2", "About 1", "/moved/by/script 1", "Stats 1"}})
	if !evaluate[bool](watcher, `window.stays === true`) {
		t.Error("the page of the watcher was loaded again")
	}
	watcher.screenshot("after-one-was-killed")
}

// A server that restarts is a pause for an open page, not an end.
func TestBrowserComesBackAfterARestart(t *testing.T) {
	t.Parallel()
	chromium(t)
	axe(t)
	s := serve(t, halcyon)
	watcher := openBrowser(t, "watcher")
	watcher.visit(s.url() + "/stats")
	watcher.await(shown{Link: "Live", Active: "1", Where: []string{"Stats 1"}, Views: "1", Visitors: "1", Top: []string{"Stats 1"}})
	evaluate[bool](watcher, `window.stays = true`)
	watcher.expect("^WebSocket connection to .* failed: .*ERR_CONNECTION_REFUSED")
	if status := s.terminate(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	poll(t, "the page says so", func() (bool, string) {
		got := evaluate[shown](watcher, readPage)
		return got.Link == "Reconnecting" && got.Views == "1", fmt.Sprintf("%+v", got)
	})
	for _, g := range glasses {
		watcher.through(g)
		watcher.inspect("reconnecting-" + g.String())
	}
	s.launch()
	s.awaitReady()
	if err := s.call("mutation", "stats:recordPageView", map[string]any{"path": "/", "pageType": "home", "sessionId": "x"}, new(any)); err != nil {
		t.Fatal(err)
	}
	watcher.await(shown{Link: "Live", Active: "1", Where: []string{"Stats 1"}, Views: "2", Visitors: "2", Top: []string{"Home 1", "Stats 1"}})
	if !evaluate[bool](watcher, `window.stays === true`) {
		t.Error("the page was loaded again")
	}
}
