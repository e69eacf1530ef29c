package server

import (
	"net/http"
	"net/http/pprof"
	"runtime"
	"strings"
	"time"
)

// profileTimeMax is how long the client of a profile or a trace may have it run.
const profileTimeMax = 5 * time.Minute

// serveDebug serves net/http/pprof below /_debug/pprof/ to who has an admin key: a profile names functions and a heap may hold anything.
func (s *Server) serveDebug(w http.ResponseWriter, r *http.Request) {
	if _, err := s.AdminKey(r); err != nil {
		s.refuse(w, err)
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/_debug/pprof/")
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.serveNothing(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(profileTimeMax)) // a test's writer may have none
	switch name {
	case "profile":
		pprof.Profile(w, r)
	case "trace":
		pprof.Trace(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "cmdline":
		s.serveNothing(w, r) // a command line may have secrets in it
	case "heap":
		if r.URL.Query().Get("gc") == "" {
			runtime.GC() // what is garbage says nothing
		}
		pprof.Handler(name).ServeHTTP(w, r)
	case "":
		index := r.Clone(r.Context())
		index.URL.Path = "/debug/pprof/" // what Index expects; its links are relative
		pprof.Index(w, index)
	default:
		pprof.Handler(name).ServeHTTP(w, r)
	}
}
