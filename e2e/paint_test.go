package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// paints are moments of the opening of a page, in milliseconds after it was asked for.
type paints struct {
	First   float64 // something with contents is on the screen
	Numbers float64 // the live numbers are
	Shift   float64 // how much of the page moved about after that, see CLS
	Moved   []string
	Said    []string // what was on the screen as numbers, one after the other
	Bytes   int      // of scripts, as they travelled
}

// watchPaints makes the page remember when its numbers came.
const watchPaints = `
	window.shifts = 0; window.moved = []; window.said = [];
	new PerformanceObserver((list) => list.getEntries().forEach((e) => {
		window.shifts += e.value;
		window.moved.push(...e.sources.map((s) => [s.node?.id || s.node?.className || s.node?.nodeName, JSON.stringify(s.previousRect), JSON.stringify(s.currentRect)].join(" ")));
	})).observe({type: "layout-shift", buffered: true});
	new MutationObserver(() => {
		if (!document.getElementById("since")?.textContent) return; // it is the last of them in the page
		const now = ["active", "map-note", "views", "visitors", "since"].map((id) => document.getElementById(id).textContent).join(" | ") + " | " +
			[...document.querySelectorAll("#where tbody tr")].map((row) => row.textContent).join(" | ");
		if (now !== window.said.at(-1)) window.said.push(now);
		if (/^\d/.test(now)) window.numbersAt ??= performance.now();
	}).observe(document, {childList: true, subtree: true, characterData: true});`

const readPaints = `({
	First: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0, Numbers: window.numbersAt ?? 0, Shift: window.shifts,
	Moved: window.moved, Said: window.said,
	Bytes: performance.getEntriesByType("resource").filter((e) => /\.js/.test(e.name)).reduce((sum, e) => sum + e.encodedBodySize, 0),
})`

// The page is there at once, with its numbers, and neither they nor anything else moves
// when the script comes. How fast is for a machine that does nothing else, so it is
// checked with -e2e.long alone.
func TestStatisticsAreThereAtOnce(t *testing.T) {
	loads := 12
	if !*long {
		t.Parallel()
		loads = 3
	}
	chromium(t)
	s := serveFull(t, 60)
	b := openBrowser(t, "reader")
	b.hideFromTracker()
	if *long {
		b.settle()
	}
	b.before(watchPaints)
	var all []paints
	for i := range loads {
		b.through([]glass{{"light", 1200, 1400}, {"dark", 1280, 900}, {"light", 375, 800}}[i%3])
		b.visit("about:blank")
		s.stay()
		b.visit(s.url() + "/stats")
		var p paints
		poll(t, "the page is painted", func() (bool, string) {
			p = evaluate[paints](b, readPaints)
			return p.First > 0 && p.Numbers > 0, fmt.Sprint(p)
		})
		b.awaitFull()
		p = evaluate[paints](b, readPaints)
		t.Logf("first paint after %.0f ms, numbers in the page after %.0f", p.First, p.Numbers)
		if p.Shift > 0.0001 {
			t.Errorf("the page moves by %f: %q", p.Shift, p.Moved)
		}
		if len(p.Said) != 1 {
			t.Errorf("the numbers change, and nobody has come: %q", p.Said)
		}
		all = append(all, p)
	}
	const scriptsBytesMax = 60<<10 + 1536
	if n := all[0].Bytes; n == 0 || n > scriptsBytesMax {
		t.Errorf("%d bytes of scripts travelled, want at most %d", n, scriptsBytesMax)
	}
	slices.SortFunc(all, func(x, y paints) int { return int(x.First - y.First) })
	median := all[len(all)/2]
	t.Logf("first paint after %.0f ms, numbers after %.0f ms in the median; first paint after %.0f ms at the latest", median.First, median.Numbers, all[len(all)-1].First)
	if *long && median.First > 200 {
		t.Errorf("the first paint is after %.0f ms, want at most 200", median.First)
	}
}

// sampleFrames makes the page remember what its numbers were in each frame, and how
// much of it moved.
const sampleFrames = `(() => {
	window.frames_ = []; window.moved = [];
	const text = (id) => document.getElementById(id).textContent;
	const look = () => {
		const now = [text("active"), text("views"), getComputedStyle(document.getElementById("active")).opacity,
			String(document.querySelectorAll("#dots li").length), String(document.getElementById("main").ariaBusy)].join(" ");
		if (now !== window.frames_.at(-1)) window.frames_.push(now);
		requestAnimationFrame(look);
	};
	requestAnimationFrame(look);
	new PerformanceObserver((list) => list.getEntries().forEach((e) => window.moved.push(...e.sources
		.filter((s) => !s.node?.parentElement?.closest("#countries-now, tbody")) // what is in order of its numbers may change places
		.map((s) => [s.node?.id || s.node?.className || s.node?.nodeName, "from", JSON.stringify(s.previousRect), "to", JSON.stringify(s.currentRect)].join(" ")))))
		.observe({type: "layout-shift"});
	window.oldest = document.querySelector("#dots li");
	return true;
})()`

// Numbers move without a flash: in no frame is one missing, goes back or fades, nothing
// jumps about, and what is on the map stays the same thing.
func TestNumbersMoveWithoutAFlash(t *testing.T) {
	t.Parallel()
	chromium(t)
	const before, come = 30, 25
	s := serveFull(t, before)
	b := openBrowser(t, "reader")
	b.hideFromTracker()
	b.visit(s.url() + "/stats")
	b.awaitFull()
	poll(t, "everybody is here", func() (bool, string) {
		s.stay()
		active := evaluate[shown](b, readPage).Active
		return active == strconv.Itoa(before), active
	})
	evaluate[bool](b, sampleFrames)
	for i := range come {
		page := s.url() + readPaths[0]
		s.tell(1000+i, cities[i%len(cities)], map[string]any{"name": "pageview", "url": page})
		beat := func() { s.tell(1000+i, cities[i%len(cities)], map[string]any{"name": "heartbeat", "url": page}) }
		beat()
		s.beats = append(s.beats, beat)
		want := strconv.Itoa(before + i + 1)
		poll(t, "one more is here", func() (bool, string) {
			s.stay()
			active := evaluate[shown](b, readPage).Active
			return active == want, active
		})
	}
	frames := evaluate[[]string](b, `window.frames_`)
	if len(frames) < come {
		t.Errorf("%d different frames for %d visitors who came: %q", len(frames), come, frames)
	}
	last := [3]int{}
	for _, frame := range frames {
		var now [3]int
		var opacity, busy string
		if _, err := fmt.Sscan(strings.ReplaceAll(frame, ",", ""), &now[0], &now[1], &opacity, &now[2], &busy); err != nil || opacity != "1" || busy != "false" {
			t.Errorf("a frame shows %q", frame)
		}
		for i := range now {
			if now[i] < last[i] {
				t.Errorf("a number goes back in %q, after %v", frame, last)
			}
		}
		last = now
	}
	if moved := evaluate[[]string](b, `window.moved`); len(moved) > 0 {
		t.Errorf("moved about: %q", moved)
	}
	if !evaluate[bool](b, `window.oldest.isConnected`) {
		t.Error("the map was drawn anew")
	}
}

// focused is what has the keyboard.
type focused struct {
	Name string
	Seen bool // it is on the screen, with a ring
	Top  int  // of the card it is in
}

const readFocus = `(() => {
	const e = document.activeElement;
	const box = e.getBoundingClientRect(), style = getComputedStyle(e), part = e.closest(".card, .filters, .bar") ?? e;
	return {Name: e === document.body ? "" : (e.id || e.dataset.range || e.textContent.trim()), Top: Math.round(part.getBoundingClientRect().top + scrollY),
		Seen: box.top >= -1 && box.left >= 0 && box.bottom <= innerHeight + 1 && box.width > 0 && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2};
})()`

func (b *browser) press(key string) {
	b.t.Helper()
	act(b, "press a key", chromedp.KeyEvent(key))
}

// All of the page can be reached and used with the keyboard alone, from top to bottom.
func TestStatisticsByKeyboard(t *testing.T) {
	t.Parallel()
	chromium(t)
	s := serveFull(t, 30)
	b := openBrowser(t, "reader")
	b.hideFromTracker()
	b.through(glass{"light", 1280, 900})
	b.visit(s.url() + "/stats")
	b.awaitFull()
	var order []string
	last := -1
	for {
		b.press(kb.Tab)
		at := evaluate[focused](b, readFocus)
		if at.Name == "" || len(order) > 80 {
			break
		}
		if !at.Seen {
			t.Errorf("%q has the focus and can't be seen", at.Name)
		}
		if at.Top < last {
			t.Errorf("the focus goes up to %q", at.Name)
		}
		last = at.Top
		order = append(order, at.Name)
	}
	for i, name := range []string{"Skip to the numbers", "Halcyon", "Home", "Live statistics", "wall"} {
		if i >= len(order) || order[i] != name {
			t.Errorf("the focus goes through %q, want %q at %d", order, name, i)
		}
	}
	for _, name := range []string{"today", "all", "dates", "chart", "sources-channel", "devices-device"} {
		if !slices.Contains(order, name) {
			t.Errorf("%q is not reached by the keyboard: %q", name, order)
		}
	}

	evaluate[bool](b, `(document.getElementById("chart").focus(), true)`)
	b.press(kb.ArrowLeft)
	if got := evaluate[string](b, `document.getElementById("readout").textContent`); !strings.Contains(got, "so far") {
		t.Errorf("an arrow key in the chart shows %q, want today", got)
	}
	evaluate[bool](b, `(document.getElementById("sources-channel").focus(), true)`)
	b.press(kb.ArrowRight)
	if got := evaluate[string](b, `document.activeElement.id`); got != "sources-referrer" {
		t.Errorf("an arrow key in the tabs goes to %q", got)
	}
	wall := func() bool { return evaluate[bool](b, `document.documentElement.classList.contains("wall")`) }
	b.press("f")
	if !wall() {
		t.Error("f does not make the page the wall")
	}
	b.press("f")
	poll(t, "the wall ends", func() (bool, string) { return !wall(), "it is there" })
}
