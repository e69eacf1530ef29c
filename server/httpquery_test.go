package server

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon/protocol"
)

// queryTS asks for a timestamp.
func queryTS(t *testing.T, s *testServer) string {
	t.Helper()
	resp, body := request(t, s, "POST", "/api/query_ts", "")
	var answer struct{ TS string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if _, err := protocol.ParseTimestamp(answer.TS); err != nil {
		t.Fatal(err)
	}
	return answer.TS
}

func TestQueryAtTS(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	increment := func() { f.call(t, "t:increment", map[string]any{"channel": "a"}, nil) }
	increment()
	ts := queryTS(t, s)
	increment()
	call := `{"path":"t:count","args":{"channel":"a"},"format":"convex_encoded_json","ts":"` + ts + `"}`
	for range 2 { // also after a change in between
		if _, body := request(t, s, "POST", "/api/query_at_ts", call); body != `{"status":"success","value":{"$integer":"AQAAAAAAAAA="}}` {
			t.Errorf("at the timestamp: %s", body)
		}
		increment()
	}
	if _, body := request(t, s, "POST", "/api/query", `{"path":"t:count","args":{"channel":"a"}}`); body != `{"status":"success","value":"4"}` {
		t.Errorf("now: %s", body)
	}
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"never pinned", "POST", "/api/query_at_ts", `{"path":"t:count","args":{"channel":"a"},"ts":"AQAAAAAAAAA="}`, 503, `"OutOfRetention"`},
		{"of the future", "POST", "/api/query_at_ts", `{"path":"t:count","args":{"channel":"a"},"ts":"/////////38="}`, 503, `"OutOfRetention"`},
		{"no timestamp", "POST", "/api/query_at_ts", `{"path":"t:count","args":{"channel":"a"}}`, 400, `"BadJsonBody"`},
		{"bad timestamp", "POST", "/api/query_at_ts", `{"path":"t:count","args":{"channel":"a"},"ts":"x"}`, 400, `"BadJsonBody"`},
		{"a mutation", "POST", "/api/query_at_ts", `{"path":"t:increment","args":{"channel":"a"},"ts":"` + ts + `"}`, 200, `as Query, but it is defined as Mutation`},
		{"GET", "GET", "/api/query_ts", "", 405, `"MethodNotAllowed"`},
		{"GET at", "GET", "/api/query_at_ts", "", 405, `"MethodNotAllowed"`},
	} {
		if resp, body := request(t, s, tt.method, tt.path, tt.body); resp.StatusCode != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, resp.StatusCode, body, tt.status, tt.want)
		}
	}
}

func TestQueryBatch(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	f.call(t, "t:increment", map[string]any{"channel": "a"}, nil)
	count := `{"path":"t:count","args":{"channel":"a"}}`
	many := func(n int) string {
		return `{"queries":[` + strings.TrimSuffix(strings.Repeat(count+",", n), ",") + `]}`
	}
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"none", `{"queries":[]}`, 200, `{"results":[]}`},
		{"several", `{"queries":[` + count + `,{"path":"t:missing","args":[]},{"path":"t:count","args":[{"channel":"b"}],"format":"convex_encoded_json"}]}`, 200,
			`{"results":[{"status":"success","value":"1"},{"status":"error","errorMessage":"Could not find public function for 't:missing'."},{"status":"success","value":{"$integer":"AAAAAAAAAAA="}}]}`},
		{"bad path", `{"queries":[` + count + `,{"path":"a:b:c","args":{}}]}`, 400, `{"code":"BadConvexFunctionIdentifier",...`},
		{"bad arguments", `{"queries":[` + count + `,{"path":"t:count","args":5}]}`, 400, `{"code":"BadArguments",...`},
		{"no queries", `{}`, 400, `{"code":"BadJsonBody",...`},
		{"no call", `{"queries":[5]}`, 400, `{"code":"BadJsonBody",...`},
		{"at the limit", many(1000), 200, `{"results":[{"status":"success","value":"1"},...`},
		{"over the limit", many(1001), 400, `{"code":"BadJsonBody","message":"...`},
	} {
		resp, body := request(t, s, "POST", "/api/query_batch", tt.body)
		prefix, open := strings.CutSuffix(tt.want, "...")
		if resp.StatusCode != tt.status || open && !strings.HasPrefix(body, prefix) || !open && body != tt.want {
			t.Errorf("%s: %d %.300s\nwant %d %s", tt.name, resp.StatusCode, body, tt.status, tt.want)
		}
	}
}

func TestRunAndFunction(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"mutation", "POST", "/api/run/t/increment", `{"args":{"channel":"a"}}`, 200, `{"status":"success","value":"1"}`},
		{"query", "POST", "/api/run/t/count", `{"args":[{"channel":"a"}],"format":"convex_encoded_json"}`, 200, `{"status":"success","value":{"$integer":"AQAAAAAAAAA="}}`},
		{"action", "POST", "/api/run/t/relayFailure", `{"args":{}}`, 200, `"errorData":{"code":"NoLuck"`},
		{"path of several parts", "POST", "/api/run/a/b/f", `{"args":{}}`, 200, `Could not find public function for 'a/b:f'.`},
		{"internal", "POST", "/api/run/t/secret", `{"args":{}}`, 200, `Could not find public function for 't:secret'.`},
		{"no function", "POST", "/api/run/t", `{"args":{}}`, 404, `"NotFound"`},
		{"no arguments", "POST", "/api/run/t/count", `{}`, 400, `"BadJsonBody"`},
		{"GET", "GET", "/api/run/t/count", ``, 405, `"MethodNotAllowed"`},
		{"function without a key", "POST", "/api/function", `{"path":"t:count","args":{"channel":"a"}}`, 0, ``},
		{"telemetry", "POST", "/api/debug_event", `{"eventType":"x"}`, 200, ``},
		{"telemetry that is none", "POST", "/api/debug_event", `x`, 400, `"BadJsonBody"`},
	} {
		resp, body := request(t, s, tt.method, tt.path, tt.body)
		if tt.status == 0 {
			if resp.StatusCode != 401 && resp.StatusCode != 403 || strings.Contains(body, "success") {
				t.Errorf("%s: %d %s", tt.name, resp.StatusCode, body)
			}
			continue
		}
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, resp.StatusCode, body, tt.status, tt.want)
		}
	}
}

func TestFunctionWithAnAdminKey(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	key, err := f.app.CreateAdminKey(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ body, want string }{
		{`{"path":"t:secret","args":{}}`, `{"status":"success","value":null}`}, // internal
		{`{"path":"t:increment","args":{"channel":"a"}}`, `{"status":"success","value":"1"}`},
		{`{"path":"t:count","args":{"channel":"a"},"componentPath":null}`, `{"status":"success","value":"1"}`},
	} {
		if resp, body := request(t, s, "POST", "/api/function", tt.body, "Authorization", "Convex "+key); resp.StatusCode != 200 || body != tt.want {
			t.Errorf("%s: %d %s, want %s", tt.body, resp.StatusCode, body, tt.want)
		}
	}
}

func TestDebugNeedsAnAdminKey(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	key, err := f.app.CreateAdminKey(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path, auth string
		status           int
		want             string
	}{
		{"no key", "/_debug/pprof/", "", 401, `"code"`},
		{"wrong key", "/_debug/pprof/heap", "Convex ops|00", 401, `"code"`},
		{"index", "/_debug/pprof/", "Convex " + key, 200, "goroutine"},
		{"goroutines", "/_debug/pprof/goroutine?debug=1", "Convex " + key, 200, "goroutine profile: total"},
		{"heap", "/_debug/pprof/heap?debug=1", "Convex " + key, 200, "heap profile:"},
		{"command line", "/_debug/pprof/cmdline", "Convex " + key, 404, `"NotFound"`},
		{"unknown", "/_debug/pprof/none", "Convex " + key, 404, "Unknown profile"},
		{"elsewhere", "/_debug/", "Convex " + key, 404, `"NotFound"`},
	} {
		var header []string
		if tt.auth != "" {
			header = []string{"Authorization", tt.auth}
		}
		if resp, body := request(t, s, "GET", tt.path, "", header...); resp.StatusCode != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %.200s, want %d %s", tt.name, resp.StatusCode, body, tt.status, tt.want)
		}
	}
}
