package e2e

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asked is what the statistics page shows of its question for the key.
type asked struct {
	Asks, Numbers bool // whether the question, and the numbers, can be seen
	Focus         bool // whether typing goes into the field
	Wrong         string
}

const readKeyQuestion = `(() => {
	const seen = (id) => document.getElementById(id).checkVisibility();
	return {Asks: seen("lock-form"), Numbers: seen("active") || seen("views") || seen("chart"),
		Focus: document.activeElement.id === "lock-key", Wrong: document.getElementById("lock-wrong").textContent};
})()`

func (b *browser) awaitQuestion(want asked) {
	b.t.Helper()
	poll(b.t, b.name+" is asked", func() (bool, string) {
		diff := cmp.Diff(want, evaluate[asked](b, readKeyQuestion))
		return diff == "", "(-want +got)\n" + diff
	})
}

// enterKey types a key in place of what is there, and presses the button.
func (b *browser) enterKey(key string) {
	b.t.Helper()
	evaluate[bool](b, `(document.getElementById("lock-key").value = "", true)`)
	b.write("#lock-form", "input", key)
}

// A page for few asks for the key, and keeps it to itself.
func TestStatisticsAskForTheirKey(t *testing.T) {
	t.Parallel()
	chromium(t)
	axe(t)
	const key = "open, sesame & #1"
	s := serve(t, halcyon, "HALCYON_STATS_VISIBLE=key", "HALCYON_STATS_KEY="+key)
	b := openBrowser(t, "reader")
	b.hideFromTracker()
	b.expect("These statistics are for those who have the key") // the client says what failed
	b.visit(s.url() + "/stats#range=7")
	b.awaitQuestion(asked{Asks: true, Focus: true})
	b.inspect("key")
	b.enterKey("wrong")
	b.awaitQuestion(asked{Asks: true, Focus: true, Wrong: "That is not the key. Try again."})
	b.inspect("key-wrong")
	b.enterKey("wrong")
	b.awaitQuestion(asked{Asks: true, Focus: true, Wrong: "That is not the key. Try again."})
	b.enterKey(key)
	b.awaitQuestion(asked{Numbers: true})
	b.await(shown{Link: "Live", Active: "0", Where: []string{}, Views: "0", Visitors: "0", Top: []string{}})

	// It is known until the tab is closed, and is in no address.
	b.visit("about:blank")
	b.visit(s.url() + "/stats#range=7")
	b.awaitQuestion(asked{Numbers: true})
	const traces = `[location.href, document.cookie, ...Object.values(localStorage), ...performance.getEntries().map((e) => e.name)]`
	for _, trace := range evaluate[[]string](b, traces) {
		if strings.Contains(trace, "sesame") {
			t.Errorf("the key is in %q", trace)
		}
	}

	// A link may bring it where no server is told, and the address forgets it.
	other := openBrowser(t, "other reader")
	other.hideFromTracker()
	other.visit(s.url() + "/stats#range=7&key=open%2C+sesame+%26+%231")
	other.awaitQuestion(asked{Numbers: true})
	poll(t, "the address has forgotten the key", func() (bool, string) {
		address := evaluate[string](other, `location.href`)
		return address == s.url()+"/stats#range=7", address
	})
}

func TestStatisticsThatAreOffSaySo(t *testing.T) {
	t.Parallel()
	chromium(t)
	axe(t)
	s := serve(t, halcyon, "HALCYON_STATS_VISIBLE=off")
	b := openBrowser(t, "reader")
	b.expect("404")
	b.visit(s.url() + "/stats")
	if got := evaluate[string](b, `document.body.innerText`); !strings.Contains(got, "shown to nobody") {
		t.Errorf("the page says %q", got)
	}
	b.inspect("off")
}
