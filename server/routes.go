package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/halcyon-db/halcyon"
)

// route is one entry of the URL plan.
type route struct {
	// pattern is one of http.ServeMux without a method. An exact one wins over a
	// prefix, and a longer prefix over a shorter one.
	pattern string
	// api: the route is part of the Convex API, and gets its CORS headers.
	api     bool
	handler http.HandlerFunc
}

// plan is the URL plan: what belongs to the server, all of it reserved by
// halcyon.ReservedAddresses. Everything else belongs to the app's own routes,
// which may also stand under /api/ where the server has nothing. Without a route
// of the app, / tells that the server runs.
func (s *Server) plan() []route {
	return []route{
		{"/api/sync", true, s.serveSync},
		{"/api/query", true, s.serveQuery},
		{"/api/mutation", true, s.serveMutation},
		{"/api/action", true, s.serveAction},
		{"/api/function", true, s.serveFunction},
		{"/api/run/", true, s.serveRun},
		{"/api/query_ts", true, s.serveQueryTS},
		{"/api/query_at_ts", true, s.serveQueryAtTS},
		{"/api/query_batch", true, s.serveQueryBatch},
		{"/api/debug_event", true, s.serveDebugEvent},
		// Names of the Convex API that this server does not have are not for
		// apps either: a client would take their answer for the API's.
		{"/api/storage/", true, s.serveNothing},
		{OperatorPrefix, false, s.serveOperator(s.operator)},
		{halcyon.HTTPPrefix + "/", false, s.serveHTTPRoutes(s.app.HTTPHandler())},
		{"/version", false, serveText(s.o.Version)},
		{"/instance_name", false, serveText(s.o.InstanceName)},
		{"/instance_version", false, serveText(s.o.Version)},
		{"/_debug/", false, s.serveDebug},
		{"/_health", false, serveText("ok")},
		{"/_ready", false, s.serveReady},
	}
}

// running is the page of a server without a page of its own. Tools look for this
// text.
const runningPage = "This Convex deployment is running. See https://docs.convex.dev/."

// routes builds the handler of every URL.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.plan() {
		handler := http.Handler(r.handler)
		if r.api {
			handler = withCORS(handler)
		}
		mux.Handle(r.pattern, handler)
	}
	// What is left of /api/ is the sync address of npm clients, which have their
	// version in it, and what the app has there: this must not get the answer to
	// a preflight from here. A pattern with a wildcard for the version would be
	// in conflict with every prefix of the app.
	ofApp := http.NewServeMux()
	known := map[string]bool{}
	nothing := withCORS(http.HandlerFunc(s.serveNothing))
	versioned := withCORS(http.HandlerFunc(s.serveSync))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		if version, ok := strings.CutSuffix(r.URL.Path[len("/api/"):], "/sync"); ok && !strings.Contains(version, "/") {
			r.SetPathValue("version", version)
			versioned.ServeHTTP(w, r)
			return
		}
		if _, pattern := ofApp.Handler(r); pattern != "" {
			writeError(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "This address does not have this method.")
			return
		}
		nothing.ServeHTTP(w, r)
	})
	root := false
	for _, r := range s.app.Routes() {
		path := r.Pattern[strings.IndexByte(r.Pattern, ' ')+1:]
		if strings.HasPrefix(path, "/api/") && !known[path] {
			known[path] = true
			ofApp.HandleFunc(path, s.serveNothing)
		}
		root = root || path == "/" || path == "/{$}"
		mux.Handle(r.Pattern, s.withBodyTime(r.Handler))
	}
	for _, endpoint := range s.app.Sockets() {
		mux.HandleFunc("GET "+endpoint.Path, s.serveModuleSocket(endpoint))
	}
	if !root {
		mux.HandleFunc("/{$}", serveText(runningPage))
	}
	return withRequestID(withCompression(mux))
}

// withCORS lets pages of every origin use a handler, as Convex does. The API
// reads no cookies, so this gives a page nothing that it could not get without a
// browser; routes of apps, which may read some, never get these headers.
func withCORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); origin != "" {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Credentials", "true")
		}
		if r.Method != http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		h.Add("Vary", "Access-Control-Request-Headers")
		h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS, PATCH, DELETE, PUT")
		h.Set("Access-Control-Max-Age", "86400")
		if wanted := r.Header.Get("Access-Control-Request-Headers"); wanted != "" {
			h.Set("Access-Control-Allow-Headers", wanted)
		}
		w.WriteHeader(http.StatusOK)
	})
}

func serveText(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			methodNotAllowed(w, "GET, HEAD")
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, text) // the client may be gone
	}
}

// serveReady tells whether the server takes new work.
func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		w.Header().Set("Retry-After", "3")
		writeError(w, http.StatusServiceUnavailable, "Stopping", "The server is stopping.")
		return
	}
	serveText("ready")(w, r)
}

func (s *Server) serveNothing(w http.ResponseWriter, r *http.Request) {
	writeError(w, http.StatusNotFound, "NotFound", fmt.Sprintf("There is nothing at %.100s.", r.URL.Path))
}
