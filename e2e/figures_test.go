package e2e

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var (
	figures = flag.Bool("e2e.figures", false, "measure and print figures, which say something on a quiet machine only")
	rounds  = flag.Int("e2e.rounds", 5, "how often a figure of documents in Chromium is measured")
)

// measured are figures by what they say, in the order in which they came first.
type measured struct {
	order  []string
	values map[string][]float64
}

func (m *measured) add(what string, value float64) {
	if m.values == nil {
		m.values = map[string][]float64{}
	}
	if _, ok := m.values[what]; !ok {
		m.order = append(m.order, what)
	}
	m.values[what] = append(m.values[what], value)
}

// print writes the median of each, and the smallest and the largest.
func (m *measured) print(t testing.TB) {
	t.Helper()
	var text strings.Builder
	for _, what := range m.order {
		values := slices.Sorted(slices.Values(m.values[what]))
		fmt.Fprintf(&text, "%9.1f  (%.1f to %.1f)  %s\n", values[len(values)/2], values[0], values[len(values)-1], what)
	}
	t.Logf("median (smallest to largest) of each\n%s", &text)
}

// tasksShown is how many tasks the page shows at first.
const tasksShown = 100

// Prints how fast documents of a collection are in Chromium, and what they take.
func TestTasksFigures(t *testing.T) {
	if !*figures {
		t.Skip("it measures; -e2e.figures has it run")
	}
	s := serve(t, tasks)
	for _, n := range []int{1_000, 10_000} {
		var m measured
		for range *rounds {
			b := openBrowser(t, "bench")
			b.visit(s.url() + "/bench.html")
			empty := heap(b)
			b.visit(fmt.Sprintf("%s/bench.html?n=%d", s.url(), n))
			awaitLong(b, `window.measured !== undefined`)
			for _, figure := range evaluate[[]struct {
				What  string
				Value float64
			}](b, `Object.entries(window.measured).map(([What, Value]) => ({What, Value}))`) {
				m.add(figure.What, figure.Value)
			}
			m.add(fmt.Sprintf("MB for %d documents, above those of the empty page", n), float64(heap(b)-empty)/1e6)
			b.kill()

			for _, since := range []string{"a browser that runs", "a browser that has just been started"} {
				page := openBrowser(t, "page")
				if since == "a browser that runs" {
					page.settle()
				}
				page.before(fmt.Sprintf(`new MutationObserver((_, observer) => {
					if (document.querySelectorAll("#list li").length < %d || !document.querySelector("footer span").textContent.includes(" of %d ")) return;
					observer.disconnect();
					window.begun = performance.now();
				}).observe(document, {childList: true, characterData: true, subtree: true})`, tasksShown, n))
				for _, when := range []string{"first, from the server", "again, from the device"} {
					page.visit(s.url())
					awaitLong(page, `window.begun > 0`)
					m.add(fmt.Sprintf("ms from the address until the page of the tasks shows %d, %s, in %s", n, when, since), evaluate[float64](page, `window.begun`))
					// What it stores yet is not of the next.
					awaitLong(page, `document.getElementById("status").textContent === "Saved"`)
				}
				page.kill()
			}
		}
		m.print(t)
	}
}

// noteAnswers has the page note of each click how long it takes until its task is on the list, and until a frame with it was made; from the moment
// at which the browser got the click.
const noteAnswers = `(() => {
	window.answers = [];
	let click;
	addEventListener("click", (event) => (click = event.timeStamp), {capture: true});
	new MutationObserver((changes) => {
		if (click === undefined || !changes.some(({addedNodes}) => addedNodes.length > 0)) return;
		const [begin, listed] = [click, performance.now()];
		click = undefined;
		requestAnimationFrame(() => {
			const {port1, port2} = new MessageChannel();
			port1.onmessage = () => window.answers.push([listed - begin, performance.now() - begin]);
			port2.postMessage(0);
		});
	}).observe(document.getElementById("list"), {childList: true});
	window.fill = (title) => {
		const field = document.querySelector("#add input");
		Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(field, title);
		field.dispatchEvent(new Event("input", {bubbles: true}));
		return true;
	};
	return true;
})()`

// Prints how soon a click is answered, while the server runs, hangs, is gone and comes back.
func TestTasksAnswers(t *testing.T) {
	if !*figures {
		t.Skip("it measures; -e2e.figures has it run")
	}
	var m measured
	for range *rounds {
		s := serve(t, tasks)
		b := openBrowser(t, "clicker")
		b.settle()
		b.visitTasks(s.url())
		b.awaitTasks(todo{Status: "Saved"})
		evaluate[bool](b, noteAnswers)
		before := processorTime(b)
		for i := range 20 {
			switch i {
			case 4:
				if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			case 9:
				s.kill()
			case 15:
				s.launch()
			}
			evaluate[bool](b, fmt.Sprintf(`window.fill("Task %02d")`, i))
			act(b, "click", chromedp.Click(chromedp.CSS("#add button")))
			poll(t, "the click is answered", func() (bool, string) {
				n := evaluate[int](b, `window.answers.length`)
				return n == i+1, fmt.Sprintf("%d of %d", n, i+1)
			})
		}
		m.add("ms of the page's thread for a click and all that follows, in processor time", (processorTime(b)-before)/20*1000)
		for i, answer := range evaluate[[][2]float64](b, `window.answers`) {
			phase := "running"
			switch {
			case i == 0:
				phase = "running, the first click of the page"
			case i >= 15:
				phase = "started again"
			case i >= 9:
				phase = "killed"
			case i >= 4:
				phase = "hung"
			}
			m.add("ms from a click to its task on the list, the server "+phase, answer[0])
			m.add("ms from a click to a frame with it, the server "+phase, answer[1])
		}
		s.awaitReady()
		b.kill()
		s.kill()
	}
	m.print(t)
}

// processorTime returns how many seconds of a processor the page's own thread has used.
func processorTime(b *browser) float64 {
	b.t.Helper()
	type metrics struct {
		Metrics []struct {
			Name  string  `json:"name"`
			Value float64 `json:"value"`
		} `json:"metrics"`
	}
	call := func(method string, params any) metrics {
		return act(b, method, func(ctx context.Context, _ *chromedp.Target) (metrics, error) {
			return chromedp.Call(ctx, cdp.Command[any, metrics]{Method: method}, params)
		})
	}
	call("Performance.enable", map[string]string{"timeDomain": "threadTicks"})
	for _, metric := range call("Performance.getMetrics", struct{}{}).Metrics {
		if metric.Name == "TaskDuration" {
			return metric.Value
		}
	}
	b.t.Fatal("the browser does not tell how long its tasks took")
	return 0
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
