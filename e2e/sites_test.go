package e2e

import "testing"

// A page that is narrowed to a site shows who is there and what was read there, and
// nothing of the others, from the address or the list alike.
func TestStatisticsFollowASite(t *testing.T) {
	t.Parallel()
	chromium(t)
	s := serve(t, halcyon, "HALCYON_STATS_TRUSTED_PROXIES=127.0.0.1")
	for i, page := range []string{"https://one.example/", "https://one.example/about", "https://two.example/"} {
		s.tell(i, cities[i], map[string]any{"name": "pageview", "url": page})
		s.tell(i, cities[i], map[string]any{"name": "heartbeat", "url": page})
	}
	one := shown{Link: "Live", Active: "2", Where: []string{"Home 1", "About 1"}, Views: "2", Visitors: "2", Top: []string{"Home 1", "About 1"}}
	all := shown{Link: "Live", Active: "3", Where: []string{"Home 1", "About 1", "Home 1"}, Views: "3", Visitors: "3", Top: []string{"Home 2", "About 1"}}
	two := shown{Link: "Live", Active: "1", Where: []string{"Home 1"}, Views: "1", Visitors: "1", Top: []string{"Home 1"}}
	b := openBrowser(t, "reader")
	b.hideFromTracker()
	b.visit(s.url() + "/stats")
	b.await(all)
	choose := func(site string) {
		t.Helper()
		evaluate[bool](b, `(() => {
			const sites = document.getElementById("site");
			sites.value = "`+site+`";
			return sites.dispatchEvent(new Event("change"));
		})()`)
	}
	choose("one.example")
	b.await(one)
	b.awaitMap("Germany: 1 visitor", "Portugal: 1 visitor")
	choose("two.example")
	b.await(two)
	b.visit("about:blank")
	b.visit(s.url() + "/stats#site=two.example")
	b.await(two)
	if evaluate[bool](b, `document.getElementById("start").checkVisibility()`) {
		t.Error("a site that is counted is told how to be")
	}
	choose("")
	b.await(all)
}
