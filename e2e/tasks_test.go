package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"
)

var tasks = newProgram("../examples/tasks")

// todo is what the page of the tasks shows a person.
type todo struct {
	Status string
	Rows   []string // "[x] title | note", with the state behind it unless it is on the server
	Alerts []string
}

// readTasks gives a todo.
const readTasks = `(() => ({
	Status: document.getElementById("status")?.textContent ?? "",
	Rows: [...document.querySelectorAll("#list li")].map((li) =>
		(li.querySelector("input").checked ? "[x] " : "[ ] ") + li.querySelector("span").textContent +
		(li.querySelector("small") ? " | " + li.querySelector("small").textContent : "") +
		(li.querySelector(".dot").dataset.state === "synced" ? "" : " (" + li.querySelector(".dot").dataset.state + ")")),
	Alerts: [...document.querySelectorAll("[role=alert] span")].map((span) => span.textContent),
}))()`

// recordTasks makes the page remember the titles on every list that it shows.
const recordTasks = `(() => {
	window.screens = [];
	const note = () => {
		const now = [...document.querySelectorAll("#list li span")].map((span) => span.textContent);
		if (JSON.stringify(now) !== JSON.stringify(window.screens.at(-1))) window.screens.push(now);
	};
	new MutationObserver(note).observe(document.getElementById("list"), {childList: true, characterData: true, subtree: true});
	note();
	return true;
})()`

// brokenLines gives the texts of the head and the foot of the list that take more than one line, and says so when the page is wider than the screen.
const brokenLines = `(() => {
	const broken = [];
	for (const node of document.querySelectorAll("main > header *, footer span, footer label")) for (const text of node.childNodes) {
		const range = document.createRange();
		range.selectNodeContents(text);
		if (text.nodeType === Node.TEXT_NODE && new Set([...range.getClientRects()].map((r) => r.top)).size > 1) broken.push(text.data);
	}
	if (document.documentElement.scrollWidth > innerWidth) broken.push("the page");
	return broken;
})()`

// addTask makes a function in the page that adds a task by the form, as a
// person does, and gives the milliseconds until it is on the screen.
const addTask = `window.addTask = async (title) => {
	const field = document.querySelector("#add input");
	Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(field, title);
	field.dispatchEvent(new Event("input", {bubbles: true}));
	while (document.querySelector("#add button").disabled) await new Promise((resolve) => setTimeout(resolve));
	const before = document.querySelectorAll("#list li").length;
	const begin = performance.now();
	document.querySelector("#add button").click();
	while (document.querySelectorAll("#list li").length === before) await new Promise((resolve) => { const c = new MessageChannel(); c.port1.onmessage = resolve; c.port2.postMessage(0); });
	return performance.now() - begin;
}, true`

// awaitTasks waits until the page shows what is wanted.
func (b *browser) awaitTasks(want todo) {
	b.t.Helper()
	if want.Rows == nil {
		want.Rows = []string{}
	}
	if want.Alerts == nil {
		want.Alerts = []string{}
	}
	poll(b.t, b.name+" shows it", func() (bool, string) {
		diff := cmp.Diff(want, evaluate[todo](b, readTasks))
		return diff == "", "(-want +got)\n" + diff
	})
}

// add adds a task and returns how many milliseconds it took to show it.
func (b *browser) add(title string) float64 {
	b.t.Helper()
	return act(b, "add "+title, evaluatePromise[float64](fmt.Sprintf("window.addTask(%q)", title)))
}

// evaluatePromise is chromedp.Evaluate for an expression that is a promise.
func evaluatePromise[T any](expression string) chromedp.Action[T] {
	return chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise)
}

// offlineErrors are what the browser writes to the console of a page without a network, or whose service worker dies while it loads something.
const offlineErrors = `^WebSocket connection to .* failed|ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED|ERR_FAILED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET`

// visitTasks opens the page, which from then on can be opened without a network.
func (b *browser) visitTasks(url string) {
	b.t.Helper()
	b.expect(offlineErrors)
	b.visit(url)
	poll(b.t, b.name+" has the page", func() (bool, string) {
		return evaluate[bool](b, `navigator.serviceWorker.controller !== null && document.getElementById("list") !== null`), "no worker, or no list"
	})
	evaluate[bool](b, recordTasks)
	evaluate[bool](b, addTask)
}

// stored returns the titles that the server has, sorted.
func storedTasks(s *server) []string {
	s.t.Helper()
	var got struct {
		Page []struct{ Title string }
	}
	if err := s.call("query", "tasks:material", map[string]any{"numItems": 1000}, &got); err != nil {
		s.t.Fatal(err)
	}
	titles := []string{}
	for _, task := range got.Page {
		titles = append(titles, task.Title)
	}
	slices.Sort(titles)
	return titles
}

// Twenty tasks are added in a row while the server hangs, is killed, is away for
// five seconds and comes back. All are on the screen at once, none ever leaves
// it, and the server has all in the end.
func TestTasksTwentyOfTwenty(t *testing.T) {
	t.Parallel()
	chromium(t)
	noteRun(t)
	s := serve(t, tasks)
	b := openBrowser(t, "clicker")
	b.visitTasks(s.url())
	b.awaitTasks(todo{Status: "Saved"})
	var want []string
	var took []float64
	for i := range 20 {
		switch i {
		case 4: // it hangs, with calls in it
			if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		case 9:
			s.kill()
		case 15:
			// The outage is what is tested, not what the page does in it.
			time.Sleep(5 * time.Second)
			s.launch()
		}
		title := fmt.Sprintf("Task %02d", i)
		want = append(want, title)
		took = append(took, b.add(title))
	}
	t.Logf("ms until each of them was on the screen: %.1f", took)
	s.awaitReady()
	rows := make([]string, len(want))
	for i, title := range want {
		rows[i] = "[ ] " + title
	}
	b.awaitTasks(todo{Status: "Saved", Rows: rows})
	if diff := cmp.Diff(want, storedTasks(s)); diff != "" {
		t.Errorf("what the server has (-want +got):\n%s", diff)
	}
	shown := map[string]bool{}
	for _, now := range evaluate[[][]string](b, `window.screens`) {
		for title := range shown {
			if !slices.Contains(now, title) {
				t.Errorf("%q left the screen: %q", title, now)
			}
		}
		for _, title := range now {
			shown[title] = true
		}
	}
}

// Tabs of one browser are one client. What was not sent survives that a tab
// crashes, and that the page is loaded again without a server.
func TestTasksSurviveCrashesOfTabs(t *testing.T) {
	t.Parallel()
	chromium(t)
	noteRun(t)
	s := serve(t, tasks)
	network := newProxy(t, s)
	first := openBrowser(t, "first tab")
	first.visitTasks(network.url())
	second := first.openTab("second tab")
	second.visitTasks(network.url())
	second.add("One")
	for _, b := range []*browser{first, second} {
		b.awaitTasks(todo{Status: "Saved", Rows: []string{"[ ] One"}})
	}

	network.cut()
	second.awaitTasks(todo{Status: "Offline", Rows: []string{"[ ] One"}})
	second.add("Two")
	first.awaitTasks(todo{Status: "Offline · 1 to send", Rows: []string{"[ ] One", "[ ] Two (pending)"}})
	first.add("Three")
	// The first tab is the one that speaks with the server.
	first.crash()
	rows := []string{"[ ] One", "[ ] Two (pending)", "[ ] Three (pending)"}
	second.awaitTasks(todo{Status: "Offline · 2 to send", Rows: rows})
	act(second, "load again without a network", chromedp.Reload())
	second.awaitTasks(todo{Status: "Offline · 2 to send", Rows: rows})
	evaluate[bool](second, addTask)
	second.add("Four")
	third := first.openTab("third tab")
	third.expect(offlineErrors)
	third.visit(network.url())
	rows = append(rows, "[ ] Four (pending)")
	third.awaitTasks(todo{Status: "Offline · 3 to send", Rows: rows})
	second.crash()
	third.awaitTasks(todo{Status: "Offline · 3 to send", Rows: rows})

	network.restore()
	third.awaitTasks(todo{Status: "Saved", Rows: []string{"[ ] One", "[ ] Two", "[ ] Three", "[ ] Four"}})
	if diff := cmp.Diff([]string{"Four", "One", "Three", "Two"}, storedTasks(s)); diff != "" {
		t.Errorf("what the server has (-want +got):\n%s", diff)
	}
}

// Whoever clicks many times and leaves the page in the same moment finds every click done when it comes back, although the browser has not stored them all
// by then.
func TestTasksLeftInTheMomentOfAClick(t *testing.T) {
	t.Parallel()
	chromium(t)
	noteRun(t)
	const n = 40
	s := serve(t, tasks)
	network := newProxy(t, s)
	b := openBrowser(t, "hasty")
	b.expect(offlineErrors)
	b.visitTasks(network.url())
	var saved, done []string
	for i := range n {
		title := fmt.Sprintf("Task %02d", i)
		b.add(title)
		saved, done = append(saved, "[ ] "+title), append(done, "[x] "+title+" (pending)")
	}
	b.awaitTasks(todo{Status: "Saved", Rows: saved})
	network.cut()
	b.awaitTasks(todo{Status: "Offline", Rows: saved})
	b.loadsAgain(`setTimeout(async () => {
		for (const box of document.querySelectorAll("#list li input")) {
			box.click();
			await null; // each is stored by itself
		}
		location.reload();
	})`)
	b.awaitTasks(todo{Status: fmt.Sprintf("Offline · %d to send", n), Rows: done})
	poll(t, "the database has all that was kept beside it", func() (bool, string) {
		left := evaluate[int](b, `Object.keys(localStorage).filter((key) => key.includes("/rescued/")).length`)
		return left == 0, fmt.Sprintf("%d lists of clicks are left", left)
	})
	network.restore()
	for i := range done {
		done[i] = strings.TrimSuffix(done[i], " (pending)")
	}
	b.awaitTasks(todo{Status: "Saved", Rows: done})
}

// Who has seen the page can open a note without a network, also after loading the page again, though the editor comes after the list.
func TestTasksOpenANoteOffline(t *testing.T) {
	t.Parallel()
	chromium(t)
	noteRun(t)
	s := serve(t, tasks)
	network := newProxy(t, s)
	b := openBrowser(t, "reader")
	b.visitTasks(network.url())
	b.add("Buy milk")
	b.awaitTasks(todo{Status: "Saved", Rows: []string{"[ ] Buy milk"}})
	network.cut()
	b.awaitTasks(todo{Status: "Offline", Rows: []string{"[ ] Buy milk"}})
	act(b, "open the task", chromedp.Click(chromedp.CSS("#list li a")))
	act(b, "write a note", chromedp.SendKeys(chromedp.CSS("#note"), "Two litres"))
	rows := []string{"[ ] Buy milk | Two litres (pending)"}
	b.awaitTasks(todo{Status: "Offline · 1 to send", Rows: rows})
	act(b, "load again", chromedp.Reload())
	b.awaitTasks(todo{Status: "Offline · 1 to send", Rows: rows})
	poll(t, "the note is there", func() (bool, string) {
		got := evaluate[string](b, `document.getElementById("note")?.textContent ?? "no note"`)
		return got == "Two litres", got
	})
	network.restore()
	b.awaitTasks(todo{Status: "Saved", Rows: []string{"[ ] Buy milk | Two litres"}})
}

// Three people in three browsers, one of them on a train.
func TestTasksInThreeWindows(t *testing.T) {
	t.Parallel()
	chromium(t)
	noteRun(t)
	s := serve(t, tasks)
	train := newProxy(t, s)
	ada, bob, eve := openBrowser(t, "Ada"), openBrowser(t, "Bob"), openBrowser(t, "Eve")
	everybody := []*browser{ada, bob, eve}
	for _, b := range everybody {
		url := s.url()
		if b == eve {
			url = train.url()
		}
		b.visitTasks(url)
		b.awaitTasks(todo{Status: "Saved"})
		act(b, "say who it is", chromedp.SendKeys(chromedp.CSS("#name"), b.name))
	}
	ada.look("nothing")
	ada.add("Buy milk")
	bob.add("Water the flowers")
	for _, b := range everybody {
		b.awaitTasks(todo{Status: "Saved", Rows: []string{"[ ] Buy milk", "[ ] Water the flowers"}})
	}

	// All three open the same task, and see each other.
	for _, b := range everybody {
		act(b, "open the task", chromedp.Click(chromedp.CSS("#list li a")))
	}
	act(ada, "write a note", chromedp.SendKeys(chromedp.CSS("#note"), "Two litres"))
	for _, b := range everybody {
		b.awaitTasks(todo{Status: "Saved", Rows: []string{"[ ] Buy milk | Two litres", "[ ] Water the flowers"}})
		poll(t, b.name+" sees the others", func() (bool, string) {
			got := evaluate[[]string](b, `[...document.querySelectorAll("#others li")].map((li) => li.textContent).sort()`)
			want := slices.DeleteFunc([]string{"Ada", "Bob", "Eve"}, func(name string) bool { return name == b.name })
			return slices.Equal(got, want), fmt.Sprintf("%q, want %q", got, want)
		})
	}
	ada.look("three-online")

	// Eve has no network, and goes on. She even loads the page again.
	train.cut()
	eve.awaitTasks(todo{Status: "Offline", Rows: []string{"[ ] Buy milk | Two litres", "[ ] Water the flowers"}})
	eve.add("Call Bob")
	// The editor sets the selection to what it knows 20 ms after it got the focus, also where a key has moved it meanwhile.
	act(eve, "go to the note", chromedp.Focus(chromedp.CSS("#note")))
	act(eve, "let the editor take the focus", evaluatePromise[bool](`new Promise((taken) => setTimeout(() => taken(true), 30))`))
	act(eve, "write on", chromedp.SendKeys(chromedp.CSS("#note"), kb.Control+kb.End))
	act(eve, "write on", chromedp.SendKeys(chromedp.CSS("#note"), " of oat milk"))
	offline := []string{"[ ] Buy milk | Two litres of oat milk (pending)", "[ ] Water the flowers", "[ ] Call Bob (pending)"}
	eve.awaitTasks(todo{Status: "Offline · 2 to send", Rows: offline})
	act(eve, "load again", chromedp.Reload())
	eve.awaitTasks(todo{Status: "Offline · 2 to send", Rows: offline})
	eve.look("one-offline")
	act(eve, "a telephone", chromedp.EmulateViewport(390, 780))
	eve.look("one-offline-telephone")
	act(eve, "back to the list", chromedp.Click(chromedp.CSS(".back")))
	eve.look("one-offline-telephone-list")
	for _, width := range []int64{375, 320} {
		act(eve, "a narrow telephone", chromedp.EmulateViewport(width, 700))
		if broken := evaluate[[]string](eve, brokenLines); len(broken) > 0 {
			t.Errorf("at a width of %d these do not fit into a line: %q", width, broken)
		}
	}
	act(eve, "a desk", chromedp.EmulateViewport(1200, 800))

	// The others go on too, on the same documents.
	act(bob, "done", chromedp.Click(chromedp.CSS("#list li input")))
	act(ada, "begin the note anew", chromedp.SendKeys(chromedp.CSS("#note"), kb.Control+kb.Home))
	act(ada, "begin the note anew", chromedp.SendKeys(chromedp.CSS("#note"), "Cheap: "))
	both := []string{"[x] Buy milk | Cheap: Two litres", "[ ] Water the flowers"}
	for _, b := range []*browser{ada, bob} {
		b.awaitTasks(todo{Status: "Saved", Rows: both})
	}

	// Back in the station, all has been kept, and everybody has the same.
	train.restore()
	for _, b := range everybody {
		b.awaitTasks(todo{Status: "Saved", Rows: []string{"[x] Buy milk | Cheap: Two litres of oat milk", "[ ] Water the flowers", "[ ] Call Bob"}})
	}
	bob.look("all-together")
	act(bob, "back to the list", func(ctx context.Context, target *chromedp.Target) (bool, error) {
		return chromedp.Evaluate[bool](`(location.hash = "", true)`)(ctx, target)
	})

	// What the server refuses stays with who wrote it until they decide.
	long := strings.Repeat("long ", 50)
	bob.add(long)
	refused := "“" + long[:40] + "” is not on the server. A title has at most 200 characters, this has 249."
	rows := []string{"[x] Buy milk | Cheap: Two litres of oat milk", "[ ] Water the flowers", "[ ] Call Bob"}
	bob.awaitTasks(todo{Status: "Refused", Rows: append(slices.Clone(rows), "[ ] "+strings.TrimSpace(long)+" (refused)"), Alerts: []string{refused}})
	bob.look("refused")
	act(bob, "give it up", chromedp.Click(chromedp.CSS("[role=alert] button:last-child")))
	for _, b := range everybody {
		b.awaitTasks(todo{Status: "Saved", Rows: rows})
	}
}
