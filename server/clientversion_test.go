package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon/protocol"
)

func TestParseClientVersion(t *testing.T) {
	for _, tc := range []struct {
		header, path string
		want         string // name and number
		bad          bool
	}{
		{"", "", " 0.0.0", false},
		{"", "1.48.0", "npm 1.48.0", false},
		{"", "1.31.4-alpha.0", "npm 1.31.4", false},
		{"", "latest", "", true},
		{"", "1.48", "", true},
		{"", "1.48.0.1", "", true},
		{"", "1.-2.0", "", true},
		{"", "99999999999999999999.0.0", "", true},
		{"rust-0.9.0", "", "rust 0.9.0", false},
		{"rust-unknown", "", " 0.0.0", false},
		{"python-convex-0.7.0", "", "python-convex 0.7.0", false},
		{"python-0.7.0", "1.48.0", "python 0.7.0", false},
		{"my-own-program-1.2.3-beta-4", "latest", "my-own-program 1.2.3", false},
		{"-", "", " 0.0.0", false},
	} {
		v, err := parseClientVersion(tc.header, tc.path)
		if got := v.name + " " + v.version(); (err != nil) != tc.bad || err == nil && got != tc.want {
			t.Errorf("parseClientVersion(%q, %q) = %q, %v, want %q", tc.header, tc.path, got, err, tc.want)
		}
	}
}

// FuzzClientVersion checks that what is accepted says the same when it is written again.
func FuzzClientVersion(f *testing.F) {
	f.Add("", "1.48.0")
	f.Add("rust-0.9.0", "")
	f.Add("a-1.2.3-b-4.5.6", "x")
	f.Fuzz(func(t *testing.T, header, path string) {
		v, err := parseClientVersion(header, path)
		if err != nil || v.name == "" {
			return
		}
		again, err := parseClientVersion(v.name+"-"+v.version(), "")
		if err != nil || again != v {
			t.Fatalf("parseClientVersion(%q, %q) = %+v, and read again %+v, %v", header, path, v, again, err)
		}
		if least, old := v.tooOld(); old {
			if newer, err := parseClientVersion(v.name+"-"+least, ""); err != nil || v.compare(newer) >= 0 {
				t.Fatalf("%+v is told that it needs %s", v, least)
			}
		}
	})
}

func TestOldClientsAreRefused(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	for _, tc := range []struct {
		header, path string
		status       int
		says         string
	}{
		{"", "/api/0.19.1/sync", 400, "needs 0.19.2 or newer"},
		{"", "/api/0.19.2/sync", 101, ""},
		{"", "/api/latest/sync", 400, "InvalidVersion"},
		{"rust-0.0.1", "/api/sync", 400, "needs 0.0.2 or newer"},
		{"rust-0.0.2", "/api/sync", 101, ""},
		{"rust-0.0.2", "/api/latest/sync", 101, ""},
		{"python-0.0.2", "/api/sync", 400, "needs 0.0.3 or newer"},
		{"swift-0.0.1", "/api/sync", 101, ""},
		{"rust-unknown", "/api/sync", 101, ""},
	} {
		header := http.Header{}
		if tc.header != "" {
			header.Set("Convex-Client", tc.header)
		}
		ws, resp, err := websocket.Dial(t.Context(), "ws://"+s.address+tc.path, &websocket.DialOptions{HTTPHeader: header})
		if err == nil {
			_ = ws.CloseNow()
		}
		if resp == nil {
			t.Errorf("%s with %q: %v", tc.path, tc.header, err)
			continue
		}
		var body []byte
		if err != nil {
			if body, err = io.ReadAll(resp.Body); err != nil { // at most 1,024 bytes, which Dial has read
				t.Fatal(err)
			}
		}
		if resp.StatusCode != tc.status || !strings.Contains(string(body), tc.says) {
			t.Errorf("%s with %q: %d %s, want %d %q", tc.path, tc.header, resp.StatusCode, body, tc.status, tc.says)
		}
		if old := strings.Contains(tc.says, "needs"); old != (resp.Header.Get("X-Convex-Deprecation-Message") != "") {
			t.Errorf("%s with %q: headers %v", tc.path, tc.header, resp.Header)
		}
	}
}

// A Transition over 5 MB comes in parts to those who know them, and is whole for all others.
func TestLargeTransitionsComeInParts(t *testing.T) {
	for _, tc := range []struct {
		path, header string
		queries      int // of 256 KiB each
		parts        bool
	}{
		{"/api/1.48.0/sync", "", 24, true},
		{"/api/1.48.0/sync", "", 45, true},
		{"/api/1.48.0/sync", "", 10, false},
		{"/api/1.28.0/sync", "", 24, true},
		{"/api/1.27.5/sync", "", 24, false},
		{"/api/sync", "", 24, false},
		{"/api/sync", "rust-0.9.0", 24, false},
	} {
		t.Run(fmt.Sprintf("%s%s %d", tc.path, tc.header, tc.queries), func(t *testing.T) {
			f := newFixture(t)
			s := serve(t, f.app, Options{})
			c := dialAs(t, s, tc.path, tc.header)
			c.send(&protocol.Connect{SessionID: c.session})
			mods := make([]protocol.Modification, tc.queries)
			for i := range mods {
				mods[i] = protocol.Modification{QueryID: uint32(i), Path: "t:big", Args: json.RawMessage(fmt.Sprintf(`[{"channel":"%d"}]`, i))}
			}
			c.modify(mods...)
			tr := next[*protocol.Transition](c)
			if len(tr.Modifications) != tc.queries {
				t.Fatalf("%d results, want %d", len(tr.Modifications), tc.queries)
			}
			for id, result := range c.results {
				if want := `"` + strings.Repeat("0", 256<<10) + `"`; result != want {
					t.Errorf("result %d has %d bytes: %.40s", id, len(result), result)
				}
			}
			size := tc.queries*(256<<10) + tc.queries*100
			if want := size/chunkBytesMax + 1; tc.parts && c.chunks != want || !tc.parts && c.chunks != 0 {
				t.Errorf("it came in %d parts, want %d if in any", c.chunks, want)
			}
			// What comes next is whole.
			c.mutate("t:increment", `{"channel":"0"}`)
			r := c.response()
			c.until("the increment shows", func() bool { return c.version.TS >= r.TS })
			if want := `"` + strings.Repeat("1", 256<<10) + `"`; c.results[0] != want {
				t.Errorf("after the increment: %.40s", c.results[0])
			}
		})
	}
}
