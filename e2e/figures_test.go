package e2e

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/runtime"
)

var figures = flag.Bool("e2e.figures", false, "measure and print figures, which say something on a quiet machine only")

// Prints how fast documents of a collection are in Chromium, and what they take.
func TestTasksFigures(t *testing.T) {
	if !*figures {
		t.Skip("it measures; -e2e.figures has it run")
	}
	s := serve(t, tasks)
	b := openBrowser(t, "bench")
	b.visit(s.url() + "/bench.html")
	empty := heap(b)
	for _, n := range []int{1_000, 10_000} {
		b.visit(fmt.Sprintf("%s/bench.html?n=%d", s.url(), n))
		awaitLong(b, `window.measured !== undefined`)
		got := evaluate[map[string]float64](b, `window.measured`)
		for _, what := range slices.Sorted(maps.Keys(got)) {
			t.Logf("%7.1f  %s", got[what], what)
		}
		t.Logf("%7.1f  MB for %d documents, above those of the empty page", float64(heap(b)-empty)/1e6, n)

		page := openBrowser(t, "page")
		page.before(fmt.Sprintf(`new MutationObserver((_, observer) => {
			if (document.querySelectorAll("#list li").length < %d || !document.querySelector("footer span").textContent.includes(" of %d ")) return;
			observer.disconnect();
			window.begun = performance.now();
		}).observe(document, {childList: true, characterData: true, subtree: true})`, min(n, 200), n))
		for _, when := range []string{"first, from the server", "again, from the device"} {
			page.visit(s.url())
			awaitLong(page, `window.begun > 0`)
			t.Logf("%7.1f  ms until the page of the tasks shows %d, %s", evaluate[float64](page, `window.begun`), n, when)
		}
	}
}

// awaitLong waits for something that takes minutes on a busy machine.
func awaitLong(b *browser, condition string) {
	b.t.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for !evaluate[bool](b, condition) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: %s: %v", b.name, condition, errLate)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// heap returns how many bytes the page uses for JavaScript, buffers included.
func heap(b *browser) int64 {
	b.t.Helper()
	send(b, heapprofiler.CollectGarbage, cdp.Empty{})
	use := send(b, runtime.GetHeapUsage, cdp.Empty{})
	return int64(use.UsedSize + use.BackingStorageSize)
}
