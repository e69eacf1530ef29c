package halcyon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine/value"
)

// HTTPPrefix is where the HTTP routes of modules stand below the address of the server.
const HTTPPrefix = "/http"

// HTTPHandler answers requests of an HTTP route. It is an action: c runs queries and mutations, and w and r are net/http's. The URL of r is
// that of the route, without HTTPPrefix, and the context of r is c.
//
// An error is answered for the handler, as JSON {code, message}, if it has not begun an answer itself: an [*Error] with status 400, one of a
// function that it ran with that error's own, a body over the limit with 413, and every other with 500 and a request id that the
// operator's log has too. After the answer has begun, an error ends the connection, so that the client sees that something is missing.
type HTTPHandler func(c *Ctx, w http.ResponseWriter, r *http.Request) error

// HTTPRoute is an HTTP route of a module. Its methods declare more about it and return it.
type HTTPRoute struct {
	module       string
	method, path string
	handler      HTTPHandler
	fn           *function // by which the route is known in logs, and from which paths of functions are resolved
	bodyBytesMax int64
	timeMax      time.Duration // 0: Options.ActionTimeMax
	cors         *CORS
	mistakes     []error
}

// HTTP declares an HTTP route: requests with that method for /http and path. The path is exact, or stands for all below it if it ends in
// "/", and may have the wildcards of [net/http.ServeMux]: "/users/{id}". The exact one goes before the one that stands for many. Paths
// below "/.files/" are reserved.
//
// A route for GET answers HEAD too, without the body. OPTIONS is answered with the methods there are where no route is declared for it. A
// path without a route gets status 404, and one with a route for another method 405.
//
// The context of c ends with the connection of the client, after [HTTPRoute.TimeMax], and when the App closes. A handler that does not look
// at it goes on, answers nobody, and takes one of Options.ActionsMax places until it ends.
func (m *Module) HTTP(method, path string, handler HTTPHandler) *HTTPRoute {
	r := &HTTPRoute{module: m.name, method: method, path: path, handler: handler, bodyBytesMax: httpBodyBytesMax}
	name := method + " " + path
	r.fn = &function{module: m.name, name: name, path: m.name + ":" + name, kind: KindAction, internal: true}
	m.httpRoutes = append(m.httpRoutes, r)
	return r
}

// BodyMax sets the size of the largest body in bytes; a larger one gets status 413. Default 20 MiB.
func (r *HTTPRoute) BodyMax(sizeBytes int64) *HTTPRoute {
	if r.bodyBytesMax = sizeBytes; sizeBytes < 0 {
		r.mistakes = append(r.mistakes, fmt.Errorf("a body may have %d bytes", sizeBytes))
	}
	return r
}

// TimeMax sets how long the handler may run before its context ends and the client gets status 503. Default Options.ActionTimeMax.
func (r *HTTPRoute) TimeMax(d time.Duration) *HTTPRoute {
	if r.timeMax = d; d <= 0 {
		r.mistakes = append(r.mistakes, fmt.Errorf("the handler may run for %v", d))
	}
	return r
}

// CORS lets pages of other origins use the route, and has the server answer their preflight requests. Without it browsers keep them away.
func (r *HTTPRoute) CORS(c CORS) *HTTPRoute {
	if err := c.check(); err != nil {
		r.mistakes = append(r.mistakes, fmt.Errorf("CORS: %w", err))
	}
	r.cors = &c
	return r
}

// CORS says which pages of other origins may use an HTTP route.
type CORS struct {
	// Origins are those that may, such as "https://app.example.com". "*" stands for all of them, and can't be combined with Credentials: a
	// page of anybody could then act for whoever looks at it.
	Origins []string
	// Credentials lets these pages send the cookies of their visitors along.
	Credentials bool
	// Headers are those that a page may send besides the simple ones, such as "Authorization".
	Headers []string
	// Expose are headers of the answer that a page may read besides the simple ones.
	Expose []string
	// MaxAge is how long a browser may remember the answer to a preflight. Default 0: its own choice, 5 s with most.
	MaxAge time.Duration
}

func (c *CORS) check() error {
	if len(c.Origins) == 0 {
		return errors.New("no origin is listed")
	}
	for _, o := range c.Origins {
		if o == "*" {
			if c.Credentials {
				return errors.New(`the origin "*" with Credentials: list the origins whose pages may act for their visitors`)
			}
			continue
		}
		if err := checkOrigin(o); err != nil {
			return err
		}
	}
	return nil
}

// allow writes the headers that let a page of that origin read the answer, and reports whether it may.
func (c *CORS) allow(h http.Header, origin string) bool {
	anyone := slices.Contains(c.Origins, "*")
	if !anyone {
		h.Add("Vary", "Origin")
	}
	switch {
	case origin == "":
		return false
	case slices.Contains(c.Origins, origin):
		h.Set("Access-Control-Allow-Origin", origin)
	case anyone:
		h.Set("Access-Control-Allow-Origin", "*")
	default:
		return false
	}
	if c.Credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if len(c.Expose) > 0 {
		h.Set("Access-Control-Expose-Headers", strings.Join(c.Expose, ", "))
	}
	return true
}

// preflight answers whether a page may send a request with some method.
func (c *CORS) preflight(h http.Header, r *http.Request, methods []string) {
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	if !c.allow(h, r.Header.Get("Origin")) {
		return
	}
	h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
	if len(c.Headers) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(c.Headers, ", "))
	}
	if c.MaxAge > 0 {
		h.Set("Access-Control-Max-Age", strconv.Itoa(int(c.MaxAge.Seconds())))
	}
}

// httpMethods are those that a route may have. HEAD belongs to GET.
var httpMethods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

func (r *HTTPRoute) pattern() string { return r.method + " " + HTTPPrefix + r.path }

// check finds the mistakes in one route.
func (r *HTTPRoute) check() error {
	errs := slices.Clone(r.mistakes)
	switch {
	case r.method == http.MethodHead:
		errs = append(errs, errors.New("a route for GET answers HEAD too"))
	case !slices.Contains(httpMethods, r.method):
		errs = append(errs, fmt.Errorf("the method is not one of %s", strings.Join(httpMethods, ", ")))
	}
	switch {
	case !strings.HasPrefix(r.path, "/"):
		errs = append(errs, errors.New(`the path does not begin with "/"`))
	case r.path == "/.files" || strings.HasPrefix(r.path, "/.files/"):
		errs = append(errs, errors.New(`paths below "/.files/" are reserved`))
	}
	if r.handler == nil {
		errs = append(errs, errors.New("it has no handler"))
	}
	return errors.Join(errs...)
}

// HTTPHandler returns the handler of all HTTP routes of the modules, which serves URLs below HTTPPrefix.
func (a *App) HTTPHandler() http.Handler {
	router := &httpRouter{app: a, mux: http.NewServeMux(), routes: map[string]*HTTPRoute{}}
	for _, m := range a.modules {
		for _, r := range m.httpRoutes {
			router.mux.Handle(r.pattern(), router.serve(r))
			router.routes[r.pattern()] = r
		}
	}
	return router
}

// httpRouter finds the route of a request.
type httpRouter struct {
	app    *App
	mux    *http.ServeMux
	routes map[string]*HTTPRoute // by pattern
}

var _ http.Handler = (*httpRouter)(nil)

// ServeHTTP has the route answer, and answers itself where there is none.
func (h *httpRouter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := h.mux.Handler(r); pattern != "" {
		h.mux.ServeHTTP(w, r) // sets the wildcards, and redirects what only lacks a slash
		return
	}
	methods := h.methods(r)
	if len(methods) == 0 {
		writeHTTPError(w, http.StatusNotFound, "NotFound", fmt.Sprintf("No HttpAction routed for %.200s", strings.TrimPrefix(r.URL.Path, HTTPPrefix)))
		return
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	if r.Method != http.MethodOptions {
		writeHTTPError(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "Allowed methods: "+strings.Join(methods, ", ")+".")
		return
	}
	if wanted := h.find(r, r.Header.Get("Access-Control-Request-Method")); wanted != nil && wanted.cors != nil {
		wanted.cors.preflight(w.Header(), r, []string{r.Header.Get("Access-Control-Request-Method")})
	}
	w.WriteHeader(http.StatusNoContent)
}

// find returns the route for the URL of a request with another method.
func (h *httpRouter) find(r *http.Request, method string) *HTTPRoute {
	other := new(http.Request)
	*other = *r
	other.Method = method
	_, pattern := h.mux.Handler(other)
	return h.routes[pattern]
}

// methods returns those that the URL of a request can be asked with, and none when it has no route.
func (h *httpRouter) methods(r *http.Request) (methods []string) {
	for _, method := range httpMethods {
		if h.find(r, method) == nil {
			continue
		}
		if methods = append(methods, method); method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	if len(methods) > 0 && !slices.Contains(methods, http.MethodOptions) {
		methods = append(methods, http.MethodOptions)
	}
	return methods
}

// serve is the handler of one route.
func (h *httpRouter) serve(route *HTTPRoute) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if route.cors != nil {
			route.cors.allow(w.Header(), r.Header.Get("Origin"))
		}
		run := h.app.running.Load()
		switch {
		case run == nil:
			writeHTTPRefusal(w, requestError(CodeUnavailable, "", ErrNotOpen))
		case r.ContentLength > route.bodyBytesMax:
			writeHTTPError(w, http.StatusRequestEntityTooLarge, "RequestTooLarge", tooLarge(route.bodyBytesMax))
		case !run.actions.begin():
			writeHTTPRefusal(w, requestError(CodeOverloaded, "", nil))
		default:
			run.serveHTTP(route, w, r)
		}
	})
}

func tooLarge(max int64) string {
	return fmt.Sprintf("The body of this request may have %d bytes.", max)
}

// serveHTTP runs a handler that has its place. It runs on a goroutine of its own, since it can't be stopped: when its time is over the client
// is answered without it.
func (r *runtime) serveHTTP(route *HTTPRoute, w http.ResponseWriter, request *http.Request) {
	c := &Ctx{run: r, fn: route.fn, requestID: RequestID(request.Context())}
	c.identity.Store(identityOf(request.Context()))
	began := r.clock.Now()
	inner, cancel := context.WithCancelCause(context.WithoutCancel(request.Context()))
	timeMax := route.timeMax
	setDefault(&timeMax, r.options.ActionTimeMax)
	c.timeMax = timeMax
	stopTimer := r.clock.AfterFunc(timeMax, func() { cancel(errActionTimeout) })
	stopClosing := context.AfterFunc(r.closing, func() { cancel(ErrNotOpen) })
	body := &httpBody{ReadCloser: http.MaxBytesReader(w, request.Body, route.bodyBytesMax)}
	stopWaiting := context.AfterFunc(request.Context(), func() { body.afterRead(func() { cancel(context.Canceled) }) })
	defer func() {
		stopTimer()
		stopClosing()
		stopWaiting()
		cancel(context.Canceled)
	}()
	c.Context = inner
	mine := request.WithContext(c)
	mine.URL = withoutPrefix(request.URL)
	mine.Body = body
	answer := newAnswer(inner, w)
	type result struct {
		stack []byte
		err   error
	}
	done := make(chan result, 1)
	go func() { // App.Close waits for it, within Options.ActionGrace
		d := result{err: errors.New("the handler ended its goroutine")} // by runtime.Goexit, as a failing test does
		defer func() {
			r.actions.end()
			done <- d
		}()
		d.stack, d.err = route.invoke(c, answer, mine)
	}()
	var d result
	select {
	case d = <-done:
	case <-inner.Done():
		select {
		case d = <-done: // both at once
		default:
			d.err = context.Cause(inner)
		}
	}
	begun, cut := answer.end()
	if d.err == nil && cut { // it was told so, and need not have passed it on
		d.err = context.Cause(inner)
	}
	if errors.Is(d.err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	if d.err == nil {
		lines := c.takeLogs()
		r.logLines(c.fn, lines)
		r.ended(c.fn, c.requestID, began, Outcome{Logs: lines}, nil)
		if !begun {
			answer.header(w, http.StatusOK)
		}
		return
	}
	if bodyErr := body.failed(); bodyErr != nil {
		// The handler can't have done what it was asked, and need not say so: it is nothing that the operator could change.
		r.logger.Debug("the body of a request could not be read", "route", route.fn.path, "error", bodyErr)
		r.logLines(c.fn, c.takeLogs())
		if begun {
			panic(http.ErrAbortHandler)
		}
		refuseHTTPBody(w, bodyErr)
		return
	}
	out, err := c.outcome(value.Value{}, d.stack, d.err)
	r.ended(c.fn, c.requestID, began, out, err)
	refused, isRefused := errors.AsType[*RequestError](err)
	switch {
	case err != nil && !isRefused:
		return // the client has gone
	case begun:
		panic(http.ErrAbortHandler) // the one way to tell the client that its answer is not whole
	case isRefused:
		writeHTTPRefusal(w, refused)
	case out.Failure.Code != "":
		writeHTTPRefusal(w, requestError(out.Failure.Code, messageOf(out.Failure), nil))
	case !out.Failure.Data.IsUndefined():
		writeHTTPJSON(w, http.StatusBadRequest, value.AppendCleanJSON(nil, out.Failure.Data))
	default:
		writeHTTPError(w, http.StatusInternalServerError, string(CodeInternal), out.Failure.Message)
	}
}

// messageOf returns the message of a failure of the system, without its code.
func messageOf(f *Failure) string {
	message, _ := f.Data.Get("message").AsString()
	return message
}

// httpBody is the body of a request. It remembers how reading it has failed.
type httpBody struct {
	io.ReadCloser

	mu struct {
		sync.Mutex
		reading bool
		after   func() // what waits for the end of the read; nil for nothing
		err     error
	}
}

// Read reads a part of the body. One goroutine may read.
func (b *httpBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.mu.reading = true
	b.mu.Unlock()
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	b.mu.reading = false
	after := b.mu.after
	b.mu.after = nil
	if err != nil && !errors.Is(err, io.EOF) && b.mu.err == nil {
		b.mu.err = err
	}
	b.mu.Unlock()
	if after != nil {
		after()
	}
	return n, err
}

// afterRead calls f when no read is in progress. net/http ends the context of a request before it returns from a read that failed, and how it
// failed is what the client should be told.
func (b *httpBody) afterRead(f func()) {
	b.mu.Lock()
	if b.mu.reading {
		b.mu.after = f
		f = nil
	}
	b.mu.Unlock()
	if f != nil {
		f()
	}
}

func (b *httpBody) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.err
}

// refuseHTTPBody answers a request whose body could not be read.
func refuseHTTPBody(w http.ResponseWriter, err error) {
	refused, isRefused := errors.AsType[*RequestError](err) // the server around this had no room for it
	large, isLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isRefused:
		writeHTTPRefusal(w, refused)
	case isLarge:
		writeHTTPError(w, http.StatusRequestEntityTooLarge, "RequestTooLarge", tooLarge(large.Limit))
	default:
		writeHTTPError(w, http.StatusRequestTimeout, "RequestTimeout", "The body of the request did not arrive.")
	}
}

// withoutPrefix returns the URL as the route has it.
func withoutPrefix(u *url.URL) *url.URL {
	own := *u
	own.Path = strings.TrimPrefix(u.Path, HTTPPrefix)
	own.RawPath = strings.TrimPrefix(u.RawPath, HTTPPrefix)
	return &own
}

// invoke calls the handler. A panic becomes an error here, at its boundary, and nowhere else.
func (r *HTTPRoute) invoke(c *Ctx, w http.ResponseWriter, request *http.Request) (stack []byte, err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler: // how net/http's handlers say that an answer can't be finished
			err = http.ErrAbortHandler
		default:
			stack, err = debug.Stack(), fmt.Errorf("panic: %v", p)
		}
	}()
	return nil, r.handler(c, w, request)
}

// answer is the [http.ResponseWriter] of a handler that may be left behind: after end it takes nothing more. It can be flushed and given
// deadlines by a [http.ResponseController].
type answer struct {
	ctx context.Context // of the handler: once it has ended, nothing more is written, even before the end of the request is noticed
	own http.Header     // of the handler; what the outer has is replaced by it when the answer begins

	mu struct {
		sync.Mutex
		w     http.ResponseWriter
		begun bool
		ended bool
		cut   bool // something of it was refused, since its time was over
	}
}

var _ http.Flusher = (*answer)(nil)

func newAnswer(ctx context.Context, w http.ResponseWriter) *answer {
	a := &answer{ctx: ctx, own: w.Header().Clone()}
	if a.own == nil {
		a.own = http.Header{}
	}
	a.mu.w = w
	return a
}

// Header returns the headers of the answer.
func (a *answer) Header() http.Header { return a.own }

// WriteHeader begins the answer.
func (a *answer) WriteHeader(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.beginLocked(status)
}

func (a *answer) beginLocked(status int) {
	if a.overLocked() || a.mu.begun {
		return
	}
	a.header(a.mu.w, status)
	a.mu.begun = status >= 200 || status == http.StatusSwitchingProtocols // others come before the answer
}

// header writes the headers of the handler.
func (a *answer) header(w http.ResponseWriter, status int) {
	outer := w.Header()
	clear(outer)
	for name, values := range a.own {
		outer[name] = values
	}
	w.WriteHeader(status)
}

// Write writes a part of the body. The lock is held while the client takes it: the one who could want it is the end of the request.
func (a *answer) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.overLocked() {
		return 0, http.ErrHandlerTimeout
	}
	if !a.mu.begun {
		a.beginLocked(http.StatusOK)
	}
	return a.mu.w.Write(p)
}

// overLocked reports whether the handler may not write any more, for one that wants to.
func (a *answer) overLocked() bool {
	if a.mu.ended || a.ctx.Err() != nil {
		a.mu.cut = true
	}
	return a.mu.cut
}

// Flush sends what was written.
func (a *answer) Flush() { _ = a.FlushError() }

// FlushError is Flush for a [http.ResponseController].
func (a *answer) FlushError() error {
	return a.control(func(c *http.ResponseController) error {
		if !a.mu.begun {
			a.beginLocked(http.StatusOK)
		}
		return c.Flush()
	})
}

// SetReadDeadline is for a [http.ResponseController].
func (a *answer) SetReadDeadline(t time.Time) error {
	return a.control(func(c *http.ResponseController) error { return c.SetReadDeadline(t) })
}

// SetWriteDeadline is for a [http.ResponseController].
func (a *answer) SetWriteDeadline(t time.Time) error {
	return a.control(func(c *http.ResponseController) error { return c.SetWriteDeadline(t) })
}

func (a *answer) control(f func(*http.ResponseController) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.overLocked() {
		return http.ErrHandlerTimeout
	}
	return f(http.NewResponseController(a.mu.w))
}

// end takes the answer from the handler. It reports whether it has begun it, and whether it wanted to write more than it could.
func (a *answer) end() (begun, cut bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.ended = true
	return a.mu.begun, a.mu.cut
}

// writeHTTPRefusal answers a request that was not served for a reason of the system's.
func writeHTTPRefusal(w http.ResponseWriter, refused *RequestError) {
	if refused.Code.Retry() {
		w.Header().Set("Retry-After", "1")
	}
	writeHTTPError(w, refused.Status, string(refused.Code), refused.Message)
}

func writeHTTPError(w http.ResponseWriter, status int, code, message string) {
	body := value.Object(value.Field{Name: "code", Value: value.String(code)}, value.Field{Name: "message", Value: value.String(message)})
	writeHTTPJSON(w, status, value.AppendCleanJSON(nil, body))
}

func writeHTTPJSON(w http.ResponseWriter, status int, text []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may be gone
}
