package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
)

var counter = newProgram("../examples/counter")

// recordCount makes the page of the counter remember every number it shows.
const recordCount = `(() => {
	const count = document.getElementById("count");
	window.shown = [Number(count.textContent)];
	new MutationObserver(() => window.shown.push(Number(count.textContent))).observe(count, {childList: true, characterData: true, subtree: true});
	return true;
})()`

// A hundred official clients and two tabs press one button at once. Every click
// is counted, no number goes back, and none is shown that was never true.
func TestHundredClientsHammerTheCounter(t *testing.T) {
	t.Parallel()
	chromium(t)
	if err := installed[clientsDir](); err != nil {
		lacking(t, "npm convex", err)
	}
	const (
		clients = 100
		clicks  = 10 // of each client
		tabs    = 2
		presses = 40 // in each tab
		total   = clients*clicks + tabs*presses
	)
	s := serve(t, counter)
	var pages []*browser
	for i := range tabs {
		b := openBrowser(t, fmt.Sprint("tab ", i))
		b.visit(s.url())
		poll(t, "the tab shows a number", func() (bool, string) {
			text := evaluate[string](b, `document.getElementById("count").textContent`)
			return text == "0", text
		})
		evaluate[bool](b, recordCount)
		pages = append(pages, b)
	}

	noteRun(t)
	node := exec.Command("node", "hammer.mjs", s.url(), fmt.Sprint(clients), fmt.Sprint(clicks), fmt.Sprint(total))
	node.Dir = clientsDir
	var said output
	node.Stderr = &said
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = node.Process.Kill() // it has ended when all went well
		_ = node.Wait()
		if t.Failed() {
			t.Logf("node said:\n%s", &said)
		}
	})
	lines := make(chan string)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(lines)
		r := bufio.NewScanner(out)
		r.Buffer(nil, 16<<20)
		for r.Scan() {
			lines <- r.Text()
		}
	})
	if line, _ := receive(t, lines); line != "ready" {
		t.Fatalf("node said %q, want ready", line)
	}
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	for range presses {
		for _, b := range pages {
			evaluate[bool](b, `(document.getElementById("click").click(), true)`)
		}
	}

	line, _ := receive(t, lines)
	var seen []struct{ Shown, Settled []int }
	if err := json.Unmarshal([]byte(line), &seen); err != nil || len(seen) != clients {
		t.Fatalf("node said %.200q: %v", line, err)
	}
	reading.Wait()
	for i, c := range seen {
		checkShown(t, fmt.Sprint("client ", i), c.Shown, total)
		if len(c.Settled) != clicks {
			t.Errorf("client %d settled %d clicks, want %d", i, len(c.Settled), clicks)
		}
		for n, shown := range c.Settled {
			if shown <= n {
				t.Errorf("client %d showed %d when %d of its own clicks were settled", i, shown, n+1)
			}
		}
	}
	for _, b := range pages {
		poll(t, b.name+" shows all clicks", func() (bool, string) {
			text := evaluate[string](b, `document.getElementById("count").textContent`)
			return text == strconv.Itoa(total), text
		})
		checkShown(t, b.name, evaluate[[]int](b, `window.shown`), total)
	}
	pages[0].look("counter")
	if n := query[int](s, "counter:count", map[string]any{"button": "page"}); n != total {
		t.Errorf("%d clicks were counted, want %d", n, total)
	}
}

// checkShown fails the test when the numbers on a screen went back, began
// elsewhere than at 0, or did not end with all clicks.
func checkShown(t *testing.T, who string, shown []int, total int) {
	t.Helper()
	if !slices.IsSorted(shown) {
		t.Errorf("%s: the number went back: %v", who, shown)
	}
	if len(shown) < 3 || shown[0] != 0 || shown[len(shown)-1] != total {
		t.Errorf("%s was shown %v, want 0 to %d", who, shown, total)
	}
}
