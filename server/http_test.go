package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
)

// request sends an HTTP request and returns what came back.
func request(t testing.TB, s *testServer, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+s.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	client := &http.Client{Timeout: waitMax, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
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

func TestHTTPCalls(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	for _, tc := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string // exactly, or a prefix before "..."
	}{
		{"npm client", "POST", "/api/mutation", `{"path":"t:increment","format":"convex_encoded_json","args":[{"channel":"a"}]}`,
			[]string{"Content-Type", "application/json", "Convex-Client", "npm-1.48.0"},
			200, `{"status":"success","value":{"$integer":"AQAAAAAAAAA="}}`},
		{"by hand", "POST", "/api/query", `{"path":"t:count","args":{"channel":"a"}}`, nil, 200, `{"status":"success","value":"1"}`},
		{"named format", "POST", "/api/query", `{"path":"t:count","args":{"channel":"a"},"format":"json"}`, nil, 200, `{"status":"success","value":"1"}`},
		{"old path", "POST", "/api/query", `{"path":"t.js:count","args":{"channel":"a"}}`, nil, 200, `{"status":"success","value":"1"}`},
		{"from a page without preflight", "POST", "/api/mutation", `{"path":"t:send","args":{"channel":"b","body":"x"}}`,
			[]string{"Content-Type", "text/plain;charset=UTF-8", "Origin", "https://a.example"}, 200, `{"status":"success","value":"...`},
		{"log lines", "POST", "/api/mutation", `{"path":"t:send","args":{"channel":"b","body":"x"}}`, nil, 200, `{"status":"success","value":"...`},
		{"clean values", "POST", "/api/query", `{"path":"t:echo","args":{"b":{"$bytes":"AQID"},"f":{"$float":"AAAAAAAA8H8="},"i":{"$integer":"BQAAAAAAAAA="},"n":1.5}}`, nil,
			200, `{"status":"success","value":{"b":"AQID","f":"Infinity","i":"5","n":1.5}}`},
		{"encoded values", "POST", "/api/query", `{"path":"t:echo","format":"convex_encoded_json","args":{"b":{"$bytes":"AQID"},"f":{"$float":"AAAAAAAA8H8="},"i":{"$integer":"BQAAAAAAAAA="},"n":1.5}}`, nil,
			200, `{"status":"success","value":{"b":{"$bytes":"AQID"},"f":{"$float":"AAAAAAAA8H8="},"i":{"$integer":"BQAAAAAAAAA="},"n":1.5}}`},
		{"GET", "GET", `/api/query?path=t:count&args={"channel":"a"}`, "", nil, 200, `{"status":"success","value":"1"}`},
		{"GET in encoded JSON", "GET", `/api/query?path=t:count&args={"channel":"a"}&format=convex_encoded_json`, "", nil, 200, `{"status":"success","value":{"$integer":"AQAAAAAAAAA="}}`},
		{"GET without arguments", "GET", `/api/query?path=t:echo`, "", nil, 200, `{"status":"success","value":{}}`},
		{"GET without path", "GET", `/api/query`, "", nil, 400, `{"code":"BadQueryArgs",...`},
		{"GET with arguments that can't be read", "GET", `/api/query?path=t:echo&args=%7B%22a%22%3A1%7`, "", nil, 400, `{"code":"BadQueryArgs",...`},
		{"GET with a bad format", "GET", `/api/query?path=t:echo&format=xml`, "", nil, 400, `{"code":"BadFormat",...`},

		{"function that fails", "POST", "/api/mutation", `{"path":"t:fail","args":{}}`, nil, 200, `{"status":"error","errorMessage":"[Request ID: ...`},
		{"no such function", "POST", "/api/query", `{"path":"t:missing","args":{}}`, nil, 200, `{"status":"error","errorMessage":"Could not find public function for 't:missing'."}`},
		{"internal function", "POST", "/api/mutation", `{"path":"t:secret","args":{}}`, nil, 200, `{"status":"error","errorMessage":"Could not find public function for 't:secret'."}`},
		{"wrong kind", "POST", "/api/mutation", `{"path":"t:count","args":{"channel":"a"}}`, nil, 200, `{"status":"error","errorMessage":"Trying to execute t:count as Mutation, but it is defined as Query."}`},
		{"wrong arguments", "POST", "/api/query", `{"path":"t:count","args":{}}`, nil, 200, `{"status":"error","errorMessage":"ArgumentValidationError: ...`},
		{"action", "POST", "/api/action", `{"path":"a:run","args":{}}`, nil, 200, `{"status":"error","errorMessage":"Could not find public function for 'a:run'."}`},

		{"no JSON", "POST", "/api/query", `hello`, nil, 400, `{"code":"BadJsonBody",...`},
		{"empty body", "POST", "/api/query", ``, nil, 400, `{"code":"BadJsonBody",...`},
		{"no path", "POST", "/api/query", `{"args":{}}`, nil, 400, `{"code":"BadJsonBody",...`},
		{"bad path", "POST", "/api/query", `{"path":"a:b:c","args":{}}`, nil, 400, `{"code":"BadConvexFunctionIdentifier",...`},
		{"arguments are no object", "POST", "/api/query", `{"path":"t:count","args":5}`, nil, 400, `{"code":"BadArguments",...`},
		{"two arguments", "POST", "/api/query", `{"path":"t:count","args":[{},{}]}`, nil, 400, `{"code":"BadArguments",...`},
		{"bad value", "POST", "/api/query", `{"path":"t:echo","args":{"a":{"$integer":"x"}}}`, nil, 400, `{"code":"BadArguments",...`},
		{"user's token", "POST", "/api/query", `{"path":"t:count","args":{"channel":"a"}}`, []string{"Authorization", "Bearer a.b.c"}, 401, `{"code":"NoAuthProvider",...`},
		{"admin key", "POST", "/api/query", `{"path":"t:count","args":{"channel":"a"}}`, []string{"Authorization", "Convex key"}, 401, `{"code":"BadAdminKey",...`},
		{"password of a proxy", "POST", "/api/query", `{"path":"t:count","args":{"channel":"a"}}`, []string{"Authorization", "Basic eDp5"}, 200, `{"status":"success","value":"1"}`},

		{"wrong method", "PUT", "/api/query", ``, nil, 405, `{"code":"MethodNotAllowed",...`},
		{"GET of a mutation", "GET", `/api/mutation?path=t:increment&args={"channel":"a"}`, "", nil, 405, `{"code":"MethodNotAllowed",...`},
		{"unknown address", "GET", "/api/nothing/here", "", nil, 404, `{"code":"NotFound",...`},
		{"part of the API that is not there", "POST", "/api/storage/upload", `{}`, nil, 404, `{"code":"NotFound",...`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := strings.NewReplacer(`"`, "%22", `{`, "%7B", `}`, "%7D").Replace(tc.path)
			resp, body := request(t, s, tc.method, path, tc.body, tc.header...)
			prefix, open := strings.CutSuffix(tc.want, "...")
			if resp.StatusCode != tc.status || open && !strings.HasPrefix(body, prefix) || !open && body != tc.want {
				t.Errorf("%d %s\nwant %d %s", resp.StatusCode, body, tc.status, tc.want)
			}
			if !json.Valid([]byte(body)) || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s is no JSON", resp.Header.Get("Content-Type"), body)
			}
		})
	}
	_, body := request(t, s, "POST", "/api/mutation", `{"path":"t:send","args":{"channel":"b","body":"x"}}`)
	if !strings.HasSuffix(body, `,"logLines":["[LOG] 'sending' 'x'"]}`) {
		t.Errorf("log lines: %s", body)
	}
	_, body = request(t, s, "POST", "/api/mutation", `{"path":"t:fail","args":{}}`)
	if !strings.HasSuffix(body, `,"errorData":{"code":"NoLuck","message":"It did not work."}}`) {
		t.Errorf("error data: %s", body)
	}
}

func TestIdempotencyKey(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	call := `{"path":"t:increment","args":{"channel":"a"}}`
	for i, tc := range []struct{ key, want string }{
		{"k1", "1"}, {"k1", "1"}, {"k2", "2"}, {"k1", "1"}, {"", "3"}, {"", "4"},
	} {
		header := []string{"Idempotency-Key", tc.key}
		if tc.key == "" {
			header = nil
		}
		_, body := request(t, s, "POST", "/api/mutation", call, header...)
		if want := fmt.Sprintf(`{"status":"success","value":%q}`, tc.want); body != want {
			t.Errorf("call %d with key %q: %s, want %s", i, tc.key, body, want)
		}
	}
}

func TestRequestSizes(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{RequestBytesMax: 200_000, InboundBytesMax: 250_000})
	call := func(n int) string {
		head, tail := `{"path":"t:echo","args":{"a":"`, `"}}`
		return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
	}
	if resp, body := request(t, s, "POST", "/api/query", call(200_000)); resp.StatusCode != 200 {
		t.Errorf("at the limit: %d %.200s", resp.StatusCode, body)
	}
	free := func() { // a part of the budget is put back after the answer
		t.Helper()
		eventually(t, "the budget is free", func() bool { return s.inbound.used.Load() == 0 })
	}
	free()
	if resp, body := request(t, s, "POST", "/api/query", call(200_001)); resp.StatusCode != 413 || !strings.Contains(body, "RequestTooLarge") {
		t.Errorf("over the limit: %d %.200s", resp.StatusCode, body)
	}
	// Without an announced length.
	for n, status := range map[int]int{200_000: 200, 200_001: 413} {
		req, err := http.NewRequest("POST", "http://"+s.address+"/api/query", io.MultiReader(strings.NewReader(call(n))))
		if err != nil {
			t.Fatal(err)
		}
		free()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%d bytes in chunks: status %d, want %d", n, resp.StatusCode, status)
		}
	}
	// A slow request has a part of the budget; another one does not fit.
	free()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	slow := call(199_999)
	fmt.Fprintf(c, "POST /api/query HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(slow), slow[:150_000])
	eventually(t, "the slow request has its part", func() bool { return s.inbound.used.Load() > 150_000 })
	resp, body := request(t, s, "POST", "/api/query", call(199_000))
	if resp.StatusCode != 503 || !strings.Contains(body, reasonBusy) || resp.Header.Get("Retry-After") == "" {
		t.Errorf("over the budget: %d %.200s", resp.StatusCode, body)
	}
	if resp, body := request(t, s, "POST", "/api/query", call(60_000)); resp.StatusCode != 200 {
		t.Errorf("a small request beside a large one: %d %.200s", resp.StatusCode, body)
	}
	_ = c.Close()
	free()
}

// A body that does not arrive is given up, and so is a header.
func TestSlowRequests(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{BodyTimeout: 100 * time.Millisecond, HeaderTimeout: 100 * time.Millisecond})
	for _, text := range []string{"POST /api/query HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{", "POST /api/query HTTP/1.1\r\nHost:"} {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(waitMax)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, text) // the server may have given up before
		if answer, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.30q: %q, %v", text, answer, err)
		}
		_ = c.Close()
	}
}

func TestCORS(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	for _, path := range []string{"/api/query", "/api/mutation", "/api/action", "/api/query_ts", "/api/nothing"} {
		resp, _ := request(t, s, "OPTIONS", path, "", "Origin", "https://a.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,convex-client")
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin":      "https://a.example",
			"Access-Control-Allow-Credentials": "true",
			"Access-Control-Allow-Headers":     "content-type,convex-client",
			"Access-Control-Allow-Methods":     "GET, POST, OPTIONS, PATCH, DELETE, PUT",
			"Access-Control-Max-Age":           "86400",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("preflight of %s: %s = %q, want %q", path, name, got, want)
			}
		}
		if resp.StatusCode != 200 || !strings.Contains(strings.Join(resp.Header.Values("Vary"), ","), "Origin") {
			t.Errorf("preflight of %s: %d, Vary %q", path, resp.StatusCode, resp.Header.Values("Vary"))
		}
	}
	resp, _ := request(t, s, "POST", "/api/query", `{"path":"t:echo","args":{}}`, "Origin", "https://a.example")
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "https://a.example" {
		t.Errorf("call: Access-Control-Allow-Origin = %q", got)
	}
	// Routes of the app may read cookies: pages of others get nothing there.
	for _, tc := range []struct{ method, path string }{{"OPTIONS", "/api/event"}, {"POST", "/api/event"}, {"GET", "/hello"}, {"OPTIONS", "/hello"}, {"GET", "/_health"}} {
		resp, _ := request(t, s, tc.method, tc.path, "", "Origin", "https://a.example", "Access-Control-Request-Method", "POST")
		for name := range resp.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s %s answers with %s", tc.method, tc.path, name)
			}
		}
	}
}

// The URL plan: who answers where. Exact addresses come before prefixes.
func TestURLPlan(t *testing.T) {
	own := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) })
	}
	m := halcyon.NewModule("t")
	for _, pattern := range []string{"GET /stats", "/track.js", "/_dashboard/", "POST /api/event", "/api/geo", "/api/material/", "/yjs/", "/metrics"} {
		m.Handle(pattern, own(pattern))
	}
	m.HTTP("GET", "/a/b", func(_ *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
		return nil // not reached: the app is not open
	})
	site := halcyon.NewModule("site")
	site.Handle("/", own("site"))
	for _, withSite := range []bool{false, true} {
		modules := []*halcyon.Module{m}
		if withSite {
			modules = append(modules, site)
		}
		f := &fixture{}
		var err error
		if f.app, err = halcyon.NewApp(modules...); err != nil {
			t.Fatal(err)
		}
		s := serve(t, f.app, Options{InstanceName: "here", Version: "1.2.3"})
		rest, status := "site", 200
		if !withSite {
			rest, status = "404 page not found\n", 404
		}
		root := runningPage
		if withSite {
			root = "site"
		}
		notFound, notAllowed, noSocket := `"NotFound"`, `"MethodNotAllowed"`, `"ExpectedWebSocket"`
		for _, tc := range []struct {
			method, path string
			status       int
			want         string
		}{
			{"GET", "/", 200, root},
			{"GET", "/version", 200, "1.2.3"},
			{"GET", "/instance_version", 200, "1.2.3"},
			{"GET", "/instance_name", 200, "here"},
			{"HEAD", "/instance_name", 200, ""},
			{"POST", "/version", 405, notAllowed},
			{"GET", "/_health", 200, "ok"},
			{"GET", "/_ready", 200, "ready"},
			{"GET", "/stats", 200, "GET /stats"},
			{"GET", "/track.js", 200, "/track.js"},
			{"GET", "/_dashboard/data", 200, "/_dashboard/"},
			{"GET", "/yjs/doc", 200, "/yjs/"},
			{"GET", "/metrics", 200, "/metrics"},
			{"GET", "/http/a/b", 503, `"Unavailable"`},
			{"POST", "/http/a/b", 405, notAllowed},
			{"GET", "/http/a", 404, notFound},
			{"GET", "/http/", 404, notFound},
			{"POST", "/api/event", 200, "POST /api/event"},
			{"GET", "/api/event", 405, notAllowed},
			{"GET", "/api/geo", 200, "/api/geo"},
			{"GET", "/api/material/x", 200, "/api/material/"},
			{"GET", "/api/sync", 426, noSocket},
			{"GET", "/api/1.48.0/sync", 426, noSocket},
			{"GET", "/api/", 404, notFound},
			{"GET", "/api/x", 404, notFound},
			{"GET", "/api/function", 405, notAllowed},
			{"GET", "/api/run/m/f", 405, notAllowed},
			{"GET", "/api/storage/x", 404, notFound},
			{"GET", "/api/query/x", 404, notFound},
			{"GET", "/anything/else", status, rest},
			{"GET", "/versions", status, rest},
		} {
			resp, body := request(t, s, tc.method, tc.path, "")
			if resp.StatusCode != tc.status || !strings.Contains(body, tc.want) || tc.want == "" && body != "" {
				t.Errorf("site %v: %s %s: %d %q, want %d %q", withSite, tc.method, tc.path, resp.StatusCode, body, tc.status, tc.want)
			}
		}
	}
}

func TestRoutesInTheWrongPlace(t *testing.T) {
	for _, pattern := range []string{"/api/query", "GET /api/sync", "/api/run/x", "POST /api/storage/upload", "/version", "/_health", "example.com/x", "/http/x"} {
		for _, declare := range []func(*halcyon.Module){
			func(m *halcyon.Module) { m.Handle(pattern, http.NotFoundHandler()) },
			func(m *halcyon.Module) {
				m.Socket(pattern[strings.IndexByte(pattern, ' ')+1:], func(*halcyon.Socket) error { return nil })
			},
		} {
			m := halcyon.NewModule("t")
			declare(m)
			if _, err := halcyon.NewApp(m); err == nil || !strings.Contains(err.Error(), pattern[strings.IndexByte(pattern, ' ')+1:]) || !strings.Contains(err.Error(), `module "t"`) {
				t.Errorf("NewApp with a route %q: %v", pattern, err)
			}
		}
	}
	f := newFixture(t)
	for _, r := range serve(t, f.app, Options{}).plan() {
		if !slices.Contains(halcyon.ReservedAddresses(), r.pattern) {
			t.Errorf("%s is the server's and not in halcyon.ReservedAddresses, so that a module may take it", r.pattern)
		}
	}
}
