package halcyon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

// handled is what a route of hookModule was asked.
func handled(c *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL, r.PathValue("id"), body)
	return err
}

// hookModule has HTTP routes over the functions of counterModule.
func hookModule(route func(*halcyon.Module)) *halcyon.Module {
	m, _ := counterModule()
	m.Internal.Mutation("refuse", func(tx *halcyon.Tx, args nameArgs) error {
		return &halcyon.Error{Code: "NoLuck", Message: "not " + args.Name, Data: map[string]any{"big": int64(5)}}
	})
	route(m)
	return m
}

// serveHooks serves the HTTP routes of an app.
func serveHooks(t *testing.T, opts halcyon.Options, route func(*halcyon.Module)) *httptest.Server {
	t.Helper()
	app := openApp(t, opts, hookModule(route))
	s := httptest.NewServer(app.HTTPHandler())
	t.Cleanup(s.Close)
	return s
}

// ask sends a request and returns what came back.
func ask(t *testing.T, s *httptest.Server, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	client := s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestHTTPRoutes(t *testing.T) {
	s := serveHooks(t, halcyon.Options{}, func(m *halcyon.Module) {
		for _, r := range []string{"GET /exact", "POST /exact", "GET /below/", "POST /below/deep/", "GET /below/deep/{$}", "PUT /users/{id}", "DELETE /files/{id...}", "OPTIONS /asked", "GET /asked"} {
			method, path, _ := strings.Cut(r, " ")
			m.HTTP(method, path, handled)
		}
		m.HTTP("POST", "/count", func(c *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
			var n int
			for range 2 {
				if err := c.RunMutation("add", nameArgs{"a"}, nil); err != nil {
					return err
				}
			}
			if err := c.RunQuery("counters:get", nameArgs{"a"}, &n); err != nil {
				return err
			}
			w.Header().Set("X-Count", fmt.Sprint(n))
			w.WriteHeader(http.StatusCreated)
			return nil
		})
		m.HTTP("GET", "/nothing", func(c *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("X-Id", c.RequestID())
			return nil
		})
	})
	for _, tt := range []struct {
		name, method, path string
		status             int
		want               string
		header             map[string]string
	}{
		{"exact", "GET", "/http/exact?a=b%20c", 200, "GET /exact?a=b%20c  ", nil},
		{"another method", "POST", "/http/exact", 200, "POST /exact  body", nil},
		{"HEAD is a GET without a body", "HEAD", "/http/exact", 200, "", nil},
		{"below", "GET", "/http/below/x/y", 200, "GET /below/x/y  ", nil},
		{"exact goes before prefix", "GET", "/http/below/deep/", 200, "GET /below/deep/  ", nil},
		{"longer prefix goes before shorter", "POST", "/http/below/deep/x", 200, "POST /below/deep/x  body", nil},
		{"wildcard", "PUT", "/http/users/7", 200, "PUT /users/7 7 body", nil},
		{"rest", "DELETE", "/http/files/a/b%2Fc", 200, "DELETE /files/a/b%2Fc a/b/c body", nil},
		{"own OPTIONS", "OPTIONS", "/http/asked", 200, "OPTIONS /asked  body", nil},
		{"functions", "POST", "/http/count", 201, "", map[string]string{"X-Count": "2"}},
		{"no answer", "GET", "/http/nothing", 200, "", nil},
		{"a slash is missing", "POST", "/http/below/deep", 307, "", map[string]string{"Location": "/http/below/deep/"}},
		{"wrong method", "PATCH", "/http/exact", 405, `{"code":"MethodNotAllowed","message":"Allowed methods: GET, HEAD, POST, OPTIONS."}`, map[string]string{"Allow": "GET, HEAD, POST, OPTIONS"}},
		{"OPTIONS", "OPTIONS", "/http/exact", 204, "", map[string]string{"Allow": "GET, HEAD, POST, OPTIONS"}},
		{"HEAD of a POST", "HEAD", "/http/count", 405, "", map[string]string{"Allow": "POST, OPTIONS"}},
		{"no route", "GET", "/http/none", 404, `{"code":"NotFound","message":"No HttpAction routed for /none"}`, nil},
		{"OPTIONS of no route", "OPTIONS", "/http/none", 404, `{"code":"NotFound","message":"No HttpAction routed for /none"}`, nil},
		{"outside", "GET", "/exact", 404, `{"code":"NotFound","message":"No HttpAction routed for /exact"}`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := "body"
			if tt.method == "GET" || tt.method == "HEAD" {
				body = ""
			}
			resp, got := ask(t, s, tt.method, tt.path, body)
			if resp.StatusCode != tt.status || got != tt.want {
				t.Errorf("%d %q, want %d %q", resp.StatusCode, got, tt.status, tt.want)
			}
			for name, want := range tt.header {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("a route without CORS answers with %s", name)
				}
			}
		})
	}
}

func TestHTTPFailures(t *testing.T) {
	log := &logBuffer{}
	s := serveHooks(t, halcyon.Options{
		Logger:    slog.New(slog.NewTextHandler(log, nil)),
		LookupEnv: func(name string) (string, bool) { return "hunter22", name == "KEY" },
	}, func(m *halcyon.Module) {
		fail := func(name string, f func(c *halcyon.Ctx, w http.ResponseWriter) error) {
			m.HTTP("GET", "/"+name, func(c *halcyon.Ctx, w http.ResponseWriter, _ *http.Request) error { return f(c, w) })
		}
		fail("told", func(*halcyon.Ctx, http.ResponseWriter) error {
			return fmt.Errorf("wrapped: %w", &halcyon.Error{Code: "Bad", Message: "no signature", Data: 5})
		})
		fail("passed", func(c *halcyon.Ctx, _ http.ResponseWriter) error {
			return c.RunMutation("refuse", nameArgs{"you"}, nil)
		})
		fail("untold", func(c *halcyon.Ctx, w http.ResponseWriter) error {
			key, err := c.Secret("KEY")
			return errors.Join(err, fmt.Errorf("the key is %s", key))
		})
		fail("panics", func(*halcyon.Ctx, http.ResponseWriter) error { panic("oh no") })
		fail("ends", func(*halcyon.Ctx, http.ResponseWriter) error { panic(http.ErrAbortHandler) })
		fail("late", func(_ *halcyon.Ctx, w http.ResponseWriter) error {
			_, err := io.WriteString(w, "half")
			return errors.Join(err, http.NewResponseController(w).Flush(), errors.New("and then it broke"))
		})
		fail("answered", func(_ *halcyon.Ctx, w http.ResponseWriter) error {
			http.Error(w, "not here", http.StatusTeapot)
			return nil
		})
	})
	for _, tt := range []struct {
		path   string
		status int
		want   string // a pattern
		logged string
	}{
		{"told", 400, `^{"code":"Bad","data":5,"message":"no signature"}$`, ""},
		{"passed", 400, `^{"code":"NoLuck","data":{"big":"5"},"message":"not you"}$`, ""},
		{"untold", 500, `^{"code":"InternalServerError","message":"\[Request ID: ([0-9a-f]{16})\] Server Error"}$`, `level=ERROR msg="function failed" function="counters:GET /untold" request_id=ID error="the key is \[secret\]"`},
		{"panics", 500, `^{"code":"InternalServerError","message":"\[Request ID: ([0-9a-f]{16})\] Server Error"}$`, `level=ERROR msg="function failed" function="counters:GET /panics" request_id=ID error="panic: oh no" stack=.*http_test.go`},
		{"answered", 418, "^not here\n$", ""},
	} {
		t.Run(tt.path, func(t *testing.T) {
			log.take()
			resp, got := ask(t, s, "GET", "/http/"+tt.path, "")
			found := regexp.MustCompile(tt.want).FindStringSubmatch(got)
			if resp.StatusCode != tt.status || found == nil {
				t.Fatalf("%d %q, want %d %s", resp.StatusCode, got, tt.status, tt.want)
			}
			logged := tt.logged
			if len(found) > 1 {
				logged = strings.ReplaceAll(logged, "ID", found[1])
			}
			if text := log.String(); logged == "" && text != "" || !regexp.MustCompile(logged).MatchString(text) {
				t.Errorf("logged %q, want %s", text, logged)
			}
		})
	}
	for _, path := range []string{"ends", "late"} {
		resp, err := s.Client().Get(s.URL + "/http/" + path)
		if err != nil {
			continue // the connection ended before an answer
		}
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: the answer is whole", path)
		}
		_ = resp.Body.Close()
	}
	if !strings.Contains(log.String(), "and then it broke") {
		t.Errorf("logged %q", log.String())
	}
}

func TestHTTPBodies(t *testing.T) {
	log := &logBuffer{}
	s := serveHooks(t, halcyon.Options{Logger: slog.New(slog.NewTextHandler(log, nil))}, func(m *halcyon.Module) {
		m.HTTP("POST", "/small", handled).BodyMax(10)
		m.HTTP("POST", "/large", handled)
	})
	for _, tt := range []struct {
		path      string
		sizeBytes int
		status    int
	}{
		{"/http/small", 10, 200}, {"/http/small", 11, 413}, {"/http/large", 20 << 20, 200}, {"/http/large", 20<<20 + 1, 413},
	} {
		for _, announced := range []bool{true, false} {
			body := io.Reader(strings.NewReader(strings.Repeat("x", tt.sizeBytes)))
			if !announced {
				body = io.MultiReader(body)
			}
			resp, err := s.Client().Post(s.URL+tt.path, "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != tt.status || tt.status == 413 && !strings.Contains(string(text), `"RequestTooLarge"`) {
				t.Errorf("%d bytes to %s, announced %v: %d %.100s, %v; want %d", tt.sizeBytes, tt.path, announced, resp.StatusCode, text, err, tt.status)
			}
		}
	}
	if log.String() != "" {
		t.Errorf("logged %q", log.String())
	}
}

func TestHTTPTime(t *testing.T) {
	clock := newFakeClock(time.UnixMilli(1_700_000_000_000))
	entered, ended := make(chan *halcyon.Ctx), make(chan error, 1)
	wait := func(begin bool) halcyon.HTTPHandler {
		return func(c *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
			if begin {
				fmt.Fprint(w, "half")
				_ = http.NewResponseController(w).Flush()
			}
			entered <- c
			<-r.Context().Done()
			_, err := w.Write([]byte("late"))
			ended <- errors.Join(err, c.RunMutation("add", nameArgs{"late"}, nil))
			return nil
		}
	}
	serve := func(t *testing.T, actionsMax int) *httptest.Server {
		opts := halcyon.Options{ActionsMax: actionsMax}
		opts.Engine.Clock = clock
		return serveHooks(t, opts, func(m *halcyon.Module) {
			m.HTTP("GET", "/wait", wait(false)).TimeMax(time.Minute)
			m.HTTP("GET", "/begin", wait(true))
			m.HTTP("GET", "/quick", handled)
		})
	}
	t.Run("over", func(t *testing.T) {
		s := serve(t, 1)
		answers := make(chan string, 1)
		go func() {
			resp, err := s.Client().Get(s.URL + "/http/wait")
			if err != nil {
				answers <- err.Error()
				return
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			answers <- fmt.Sprint(resp.StatusCode, " ", string(text))
		}()
		<-entered
		if resp, got := ask(t, s, "GET", "/http/quick", ""); resp.StatusCode != 503 || !strings.Contains(got, `"Overloaded"`) || resp.Header.Get("Retry-After") == "" {
			t.Errorf("one more than may run: %d %s", resp.StatusCode, got)
		}
		clock.set(clock.Now().Add(time.Minute))
		const want = `503 {"code":"ActionTimeout","message":"The action ran longer than 1m0s and was told to stop. What it did until then stays done."}`
		if got := <-answers; got != want {
			t.Errorf("answer %s, want %s", got, want)
		}
		if err := <-ended; !errors.Is(err, http.ErrHandlerTimeout) || !strings.Contains(err.Error(), "longer than actions may") {
			t.Errorf("after its time the handler got %v", err)
		}
	})
	t.Run("over in the middle of the answer", func(t *testing.T) {
		s := serve(t, 0)
		errs := make(chan error, 1)
		go func() {
			resp, err := s.Client().Get(s.URL + "/http/begin")
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			errs <- err
		}()
		<-entered
		clock.set(clock.Now().Add(10 * time.Minute))
		if err := <-errs; err == nil {
			t.Error("the answer is whole")
		}
		<-ended
	})
	t.Run("client goes", func(t *testing.T) {
		s := serve(t, 0)
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/http/wait", nil)
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 1)
		go func() {
			resp, err := s.Client().Do(r)
			if err == nil {
				_ = resp.Body.Close()
			}
			errs <- err
		}()
		c := <-entered
		cancel()
		<-c.Done()
		<-ended
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("the client got %v", err)
		}
	})
}

func TestHTTPOfAClosedApp(t *testing.T) {
	app, err := halcyon.NewApp(hookModule(func(m *halcyon.Module) { m.HTTP("GET", "/quick", handled) }))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(app.HTTPHandler())
	defer s.Close()
	if resp, got := ask(t, s, "GET", "/http/quick", ""); resp.StatusCode != 503 || !strings.Contains(got, `"Unavailable"`) {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
}

func TestHTTPCORS(t *testing.T) {
	s := serveHooks(t, halcyon.Options{}, func(m *halcyon.Module) {
		m.HTTP("PUT", "/listed", handled).CORS(halcyon.CORS{
			Origins: []string{"https://a.example", "http://localhost:5173"}, Credentials: true,
			Headers: []string{"Content-Type", "X-Mine"}, Expose: []string{"X-Count"}, MaxAge: time.Hour,
		})
		m.HTTP("GET", "/listed", handled)
		m.HTTP("GET", "/open", handled).CORS(halcyon.CORS{Origins: []string{"*"}})
	})
	const preflight = "Access-Control-Request-Method"
	for _, tt := range []struct {
		name, method, path, origin, wants string
		status                            int
		want                              map[string]string
	}{
		{"listed", "PUT", "/http/listed", "https://a.example", "", 200, map[string]string{"Vary": "Origin", "Access-Control-Allow-Origin": "https://a.example", "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "X-Count"}},
		{"not listed", "PUT", "/http/listed", "https://a.example.evil", "", 200, map[string]string{"Vary": "Origin"}},
		{"not a browser", "PUT", "/http/listed", "", "", 200, map[string]string{"Vary": "Origin"}},
		{"another method", "GET", "/http/listed", "https://a.example", "", 200, nil},
		{"open", "GET", "/http/open", "https://b.example", "", 200, map[string]string{"Access-Control-Allow-Origin": "*"}},
		{"preflight", "OPTIONS", "/http/listed", "http://localhost:5173", "PUT", 204, map[string]string{
			"Vary":                        "Access-Control-Request-Method, Access-Control-Request-Headers, Origin",
			"Access-Control-Allow-Origin": "http://localhost:5173", "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "X-Count",
			"Access-Control-Allow-Methods": "PUT", "Access-Control-Allow-Headers": "Content-Type, X-Mine", "Access-Control-Max-Age": "3600",
		}},
		{"preflight of one not listed", "OPTIONS", "/http/listed", "https://b.example", "PUT", 204, map[string]string{"Vary": "Access-Control-Request-Method, Access-Control-Request-Headers, Origin"}},
		{"preflight of another method", "OPTIONS", "/http/listed", "https://a.example", "GET", 204, nil},
		{"preflight of no route", "OPTIONS", "/http/listed", "https://a.example", "DELETE", 204, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.origin != "" {
				header = append(header, "Origin", tt.origin)
			}
			if tt.wants != "" {
				header = append(header, preflight, tt.wants)
			}
			resp, _ := ask(t, s, tt.method, tt.path, "", header...)
			got := map[string]string{}
			for name := range resp.Header {
				if name == "Vary" || strings.HasPrefix(name, "Access-Control-") {
					got[name] = strings.Join(resp.Header.Values(name), ", ")
				}
			}
			if tt.want == nil {
				tt.want = map[string]string{}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || resp.StatusCode != tt.status {
				t.Errorf("status %d, want %d; headers (-want +got):\n%s", resp.StatusCode, tt.status, diff)
			}
		})
	}
}

func TestHTTPCaching(t *testing.T) {
	const content = "hello"
	s := serveHooks(t, halcyon.Options{}, func(m *halcyon.Module) {
		m.HTTP("GET", "/page", func(_ *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Cache-Control", halcyon.CacheControl{Public: true, MaxAge: time.Minute}.String())
			w.Header().Set("Content-Type", "text/plain")
			if halcyon.NotModified(w, r, halcyon.ETag([]byte(content))) {
				return nil
			}
			_, err := io.WriteString(w, content)
			return err
		})
		m.HTTP("POST", "/page", func(_ *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
			if halcyon.NotModified(w, r, halcyon.ETag([]byte(content))) {
				return errors.New("a POST is not answered from a cache")
			}
			return nil
		})
	})
	etag := halcyon.ETag([]byte(content))
	if etag == halcyon.ETag([]byte("hello!")) || len(etag) != 22 {
		t.Errorf("ETag %s", etag)
	}
	for _, tt := range []struct {
		name, method, ifNoneMatch string
		status                    int
		body                      string
	}{
		{"first", "GET", "", 200, content},
		{"same", "GET", etag, 304, ""},
		{"same of HEAD", "HEAD", etag, 304, ""},
		{"weak", "GET", "W/" + etag, 304, ""},
		{"one of several", "GET", `"a,b", W/"c" ,` + etag, 304, ""},
		{"any", "GET", "*", 304, ""},
		{"another", "GET", `"x"`, 200, content},
		{"part", "GET", etag[:10] + `"`, 200, content},
		{"no quotes", "GET", strings.Trim(etag, `"`), 200, content},
		{"no end", "GET", strings.TrimSuffix(etag, `"`), 200, content},
		{"POST", "POST", etag, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.ifNoneMatch != "" {
				header = []string{"If-None-Match", tt.ifNoneMatch}
			}
			resp, body := ask(t, s, tt.method, "/http/page", "", header...)
			if resp.StatusCode != tt.status || body != tt.body || resp.Header.Get("ETag") != etag {
				t.Errorf("%d %q, ETag %s; want %d %q, %s", resp.StatusCode, body, resp.Header.Get("ETag"), tt.status, tt.body, etag)
			}
			if got := resp.Header.Get("Cache-Control"); tt.method != "POST" && got != "public, max-age=60" {
				t.Errorf("Cache-Control %q", got)
			}
		})
	}
	for want, c := range map[string]halcyon.CacheControl{
		"":                     {},
		"no-store":             {NoStore: true, MaxAge: time.Hour},
		"private, no-cache":    {Private: true, Public: true, NoCache: true},
		"public, max-age=3600": {Public: true, MaxAge: time.Hour},
		"max-age=31536000, immutable": {
			MaxAge: 365 * 24 * time.Hour, Immutable: true,
		},
		"max-age=1, s-maxage=60, stale-while-revalidate=30, must-revalidate": {
			MaxAge: 1999 * time.Millisecond, SharedMaxAge: time.Minute, StaleWhileRevalidate: 30 * time.Second, MustRevalidate: true,
		},
	} {
		if got := c.String(); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}

func FuzzNotModified(f *testing.F) {
	f.Add(`"a"`, `W/"a"`)
	f.Add(`"a"`, `"b", "a`)
	f.Add(`W/"a"`, `*`)
	f.Fuzz(func(t *testing.T, etag, header string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["If-None-Match"] = []string{header}
		w := httptest.NewRecorder()
		hit := halcyon.NotModified(w, r, etag)
		if hit != (w.Code == http.StatusNotModified) {
			t.Errorf("%q, %q: %v with status %d", etag, header, hit, w.Code)
		}
		if strong := strings.TrimPrefix(etag, "W/"); hit && !strings.Contains(header, strong) && !strings.Contains(header, "*") {
			t.Errorf("%q was found in %q", etag, header)
		}
	})
}

func TestHTTPRouteMistakes(t *testing.T) {
	module := func(name string, f func(m *halcyon.Module)) *halcyon.Module {
		m := halcyon.NewModule(name)
		f(m)
		return m
	}
	for _, tt := range []struct {
		name    string
		modules []*halcyon.Module
		want    string
	}{
		{"method", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.HTTP("FETCH", "/x", handled) })}, `HTTP route "FETCH /x" of module "a": the method is not one of GET, POST, PUT, PATCH, DELETE, OPTIONS`},
		{"HEAD", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.HTTP("HEAD", "/x", handled) })}, "a route for GET answers HEAD too"},
		{"path", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.HTTP("GET", "x", handled) })}, `the path does not begin with "/"`},
		{"pattern", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.HTTP("GET", "/{x", handled) })}, `HTTP route "GET /{x" of module "a": parsing`},
		{"reserved", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.HTTP("GET", "/.files/x", handled) })}, `paths below "/.files/" are reserved`},
		{"handler", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.HTTP("GET", "/x", nil) })}, "it has no handler"},
		{"body", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.HTTP("GET", "/x", handled).BodyMax(-1) })}, "a body may have -1 bytes"},
		{"time", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.HTTP("GET", "/x", handled).TimeMax(0) })}, "the handler may run for 0s"},
		{"everybody's cookies", []*halcyon.Module{module("a", func(m *halcyon.Module) {
			m.HTTP("GET", "/x", handled).CORS(halcyon.CORS{Origins: []string{"*"}, Credentials: true})
		})}, `CORS: the origin "*" with Credentials`},
		{"no origin", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.HTTP("GET", "/x", handled).CORS(halcyon.CORS{}) })}, "no origin is listed"},
		{"bad origin", []*halcyon.Module{module("a", func(m *halcyon.Module) {
			m.HTTP("GET", "/x", handled).CORS(halcyon.CORS{Origins: []string{"https://a.example/"}})
		})}, `"https://a.example/" is not an origin`},
		{"null origin", []*halcyon.Module{module("a", func(m *halcyon.Module) {
			m.HTTP("GET", "/x", handled).CORS(halcyon.CORS{Origins: []string{"null"}, Credentials: true})
		})}, `"null" is not an origin`},
		{"the same twice", []*halcyon.Module{
			module("a", func(m *halcyon.Module) { m.HTTP("GET", "/x", handled) }),
			module("b", func(m *halcyon.Module) { m.HTTP("POST", "/x", handled); m.HTTP("GET", "/x", handled) }),
		}, `HTTP route "GET /x" of module "b" stands where the HTTP route "GET /x" of module "a" does`},
		{"overlap", []*halcyon.Module{
			module("a", func(m *halcyon.Module) { m.HTTP("GET", "/{a}/x", handled) }),
			module("b", func(m *halcyon.Module) { m.HTTP("GET", "/x/{b}", handled) }),
		}, `HTTP route "GET /x/{b}" of module "b" stands where the HTTP route "GET /{a}/x" of module "a" does`},
		{"outside of Module.HTTP", []*halcyon.Module{module("a", func(m *halcyon.Module) { m.Handle("GET /http/x", http.NotFoundHandler()) })}, `route "GET /http/x" of module "a": addresses below /http/ are for Module.HTTP`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := halcyon.NewApp(tt.modules...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}
