package stats_test

import (
	"encoding/json"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine/value"
)

// The page comes with the numbers of the moment, and they are those of the queries.
func TestPageHasItsFirstNumbers(t *testing.T) {
	w := newWorld(t, stats.Options{Visibility: stats.VisiblePublic, Titles: func(_ *halcyon.Tx, slug string) (string, string, bool, error) {
		return "The </title> of " + slug, "blog", slug == "hello", nil
	}})
	mux := w.site().mux
	open := func() string {
		t.Helper()
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest("GET", "/stats", nil))
		return answer.Body.String()
	}
	check := func(page string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(page, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		data := regexp.MustCompile(`(?s) id="first">(.*?)</script>`).FindStringSubmatch(page)
		if data == nil {
			t.Fatal("the page has no data for its script")
		}
		for name, query := range map[string]string{"stats": "stats:getStats", "curve": "stats:getActiveCurve", "sites": "stats:getSites"} {
			var got map[string]any
			var want any
			if err := json.Unmarshal([]byte(data[1]), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(value.AppendJSON(nil, w.ask(query, nil)), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got[name]); diff != "" {
				t.Errorf("%s (-the query +the page):\n%s", name, diff)
			}
		}
	}
	check(open(), `id="active">0<`, `id="since">Not yet<`, `id="start" aria-labelledby="start-title">`, `id="map-none">`)

	w.view("ada", "/hello")
	w.view("bob", "/")
	w.do("stats:heartbeat", object{"sessionId": "ada", "currentPath": "/hello", "country": "PT", "latitude": 38.72, "longitude": -9.14})
	w.do("stats:heartbeat", object{"sessionId": "bob", "currentPath": "/hello", "country": "DE", "latitude": 52.5, "longitude": 13.4})
	w.do("stats:heartbeat", object{"sessionId": "eve", "currentPath": "/<script>alert(1)</script>"})
	page := open()
	check(page, `<title>3 active`, `id="active">3<`, `>The &lt;/title&gt; of hello</span></th><td class="num">2<`, `id="map-note">2 of 3 visitors placed<`,
		`<li><b>1</b></li><li><b>1</b></li>`, `id="views">2<`, `id="visitors">2<`, `id="since">Mar 14, 2026<`)
	if strings.Contains(page, "<script>alert") {
		t.Error("the page has a script of a visitor's path in it")
	}
}
