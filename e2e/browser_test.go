package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
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
	ctx, end := chromedp.NewContext(ctx)
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

// evaluate returns the value of an expression in the page.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	return act(b, expression, chromedp.Evaluate[T](expression))
}

// await waits until the statistics page shows what is wanted.
func (b *browser) await(want shown) {
	b.t.Helper()
	poll(b.t, b.name+" shows it", func() (bool, string) {
		diff := cmp.Diff(want, evaluate[shown](b, readPage))
		return diff == "", "(-want +got)\n" + diff
	})
}

// hideFromTracker makes the pages that are opened from now on no visits: the
// tracker believes that it runs already.
func (b *browser) hideFromTracker() {
	b.t.Helper()
	act(b, "turn the tracker off", func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument,
			page.AddScriptToEvaluateOnNewDocumentParams{Source: `window.halcyonTracker = true`})
		return chromedp.Void{}, err
	})
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

// recordActive makes the page remember when its number of active visitors
// changed, in milliseconds since 1970.
const recordActive = `(() => {
	window.activeChanges = [];
	const active = document.getElementById("active");
	const note = () => window.activeChanges.push({At: Date.now(), Active: active.textContent});
	new MutationObserver(note).observe(active, {childList: true, characterData: true, subtree: true});
	return true;
})()`

// activeChange is one entry of what recordActive remembers.
type activeChange struct {
	At     int64
	Active string
}

// beatTime gives when the heartbeat of the page's tracker was sent and when its
// answer came; End is 0 until it has. A visit makes two calls, of which the
// heartbeat is the second.
const beatTime = `(() => {
	const calls = performance.getEntriesByType("resource").filter((e) => e.name.endsWith("/api/event"));
	if (calls.length < 2 || calls.some((e) => e.responseEnd === 0)) return {Begin: 0, End: 0};
	const beat = calls.sort((x, y) => x.startTime - y.startTime)[1];
	return {Begin: performance.timeOrigin + beat.startTime, End: performance.timeOrigin + beat.responseEnd};
})()`

type span struct{ Begin, End float64 }

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
	watcher.screenshot("reconnecting")
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

// A visitor who is gone without a word leaves every open page at the end of the
// timeout, although nothing is written then.
func TestBrowserLeavesAtTheTimeout(t *testing.T) {
	t.Parallel()
	t.Run("after 5 seconds", func(t *testing.T) {
		t.Parallel()
		leaveAtTheTimeout(t, fixture, 5*time.Second)
	})
	t.Run("after 2 minutes", func(t *testing.T) {
		t.Parallel()
		if !*long {
			t.Skip("takes 2 minutes; -e2e.long has it run")
		}
		leaveAtTheTimeout(t, halcyon, 2*time.Minute)
	})
}

func leaveAtTheTimeout(t *testing.T, p program, timeout time.Duration) {
	chromium(t)
	s := serve(t, p)
	watcher := openBrowser(t, "watcher")
	watcher.hideFromTracker()
	watcher.visit(s.url() + "/stats")
	watcher.await(shown{Link: "Live", Active: "0", Where: []string{}, Views: "0", Visitors: "0", Top: []string{}})
	evaluate[bool](watcher, recordActive)

	visitor := openBrowser(t, "visitor")
	visitor.visit(s.url() + "/about")
	var beat span
	poll(t, "the visitor has beaten", func() (bool, string) {
		beat = evaluate[span](visitor, beatTime)
		return beat.End != 0, "not yet"
	})
	visitor.kill()
	watcher.screenshot("still-here")

	// Nothing else runs on this server: no other page is open, and the cleanup
	// of old rows comes 5 minutes after the start. What changes now changes by
	// time alone.
	left := time.NewTimer(timeout + patience)
	defer left.Stop()
	var changes []activeChange
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for len(changes) == 0 || changes[len(changes)-1].Active != "0" {
		select {
		case <-again.C:
			changes = evaluate[[]activeChange](watcher, `window.activeChanges`)
		case <-left.C:
			t.Fatalf("the visitor is still there; the number of active visitors was %+v", changes)
		}
	}
	var numbers []string
	for _, c := range changes {
		numbers = append(numbers, c.Active)
	}
	if got := strings.Join(numbers, " "); got != "1 0" {
		t.Errorf("the number of active visitors was %s, want 1 0", got)
	}
	gone := float64(changes[len(changes)-1].At)
	mark := float64(timeout.Milliseconds())
	earliest, latest := gone-beat.End-mark, gone-beat.Begin-mark // after the mark; the beat was between Begin and End
	t.Logf("gone between %.0f and %.0f ms after %v", earliest, latest, timeout)
	if latest < -20 || earliest > 1000 { // the clocks of two browsers are not quite one
		t.Errorf("gone between %.0f and %.0f ms after the mark, want within a second of it", earliest, latest)
	}
	if calls := evaluate[int](watcher, `performance.getEntriesByType("resource").filter((e) => e.name.includes("/api/event")).length`); calls != 0 {
		t.Errorf("the watcher wrote %d times", calls)
	}
	watcher.screenshot("gone")
}
