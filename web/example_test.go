package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/halcyon-db/halcyon/web"
)

func Example() {
	mux := http.NewServeMux()
	mux.Handle("GET /track.js", web.TrackHandler())
	mux.Handle("GET /stats", web.StatsHandler(nil))
	mux.Handle("GET /stats/", web.StatsHandler(nil))

	for _, path := range []string{"/track.js", "/stats", "/stats/icon.svg"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(path, w.Code, w.Header().Get("Content-Type"))
	}
	// Output:
	// /track.js 200 text/javascript; charset=utf-8
	// /stats 200 text/html; charset=utf-8
	// /stats/icon.svg 200 image/svg+xml
}
