package server

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-jose/go-jose/v4"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/protocol"
	"github.com/halcyon-db/halcyon/server/token"
	"github.com/halcyon-db/halcyon/server/token/tokentest"
)

// authNote is a row that says who wrote it.
type authNote struct {
	Who  string `json:"who"`
	Text string `json:"text"`
}

// authWorld is a server that knows an issuer, with functions that say who calls.
type authWorld struct {
	*testServer
	app     *halcyon.App
	issuer  *tokentest.Issuer
	entered chan string
	release chan struct{}
	let     func()
}

func newAuthWorld(t testing.TB, opts Options) *authWorld {
	t.Helper()
	w := &authWorld{issuer: tokentest.New(t), entered: make(chan string, 10), release: make(chan struct{})}
	w.let = sync.OnceFunc(func() { close(w.release) })
	notes := halcyon.NewTable[authNote]("notes")
	who := func(i halcyon.Identity, ok bool) string {
		if !ok {
			return "nobody"
		}
		return i.Subject
	}
	m := halcyon.NewModule("u", notes)
	m.Query("me", func(tx *halcyon.Tx) (string, error) { return who(tx.Identity()), nil })
	m.Query("viewer", func(tx *halcyon.Tx) (*halcyon.Identity, error) {
		if i, ok := tx.Identity(); ok {
			return &i, nil
		}
		return nil, nil
	})
	all := func(tx *halcyon.Tx) ([]string, error) {
		out := []string{}
		for n, err := range notes.All().Each(tx) {
			if err != nil {
				return nil, err
			}
			out = append(out, n.Who+": "+n.Text)
		}
		return out, nil
	}
	m.Query("notes", all)
	m.Internal.Query("secret", all)
	type args struct {
		Text string `json:"text"`
	}
	note := func(tx *halcyon.Tx, a args) (string, error) {
		by := who(tx.Identity())
		if a.Text == "held" {
			w.entered <- by
			<-w.release
		}
		_, err := notes.Insert(tx, authNote{by, a.Text})
		return by, err
	}
	m.Mutation("note", note)
	m.Internal.Mutation("secretNote", note)
	m.Action("act", func(c *halcyon.Ctx, a args) (string, error) {
		var by string
		err := c.RunMutation("secretNote", a, &by)
		return who(c.Identity()) + " " + by, err
	})
	m.HTTP("GET", "/me", func(c *halcyon.Ctx, rw http.ResponseWriter, _ *http.Request) error {
		_, err := fmt.Fprint(rw, who(c.Identity()))
		return err
	})
	// token signs in, as the page of a provider would.
	m.HTTP("GET", "/token", func(_ *halcyon.Ctx, rw http.ResponseWriter, r *http.Request) error {
		lasts, err := time.ParseDuration(r.FormValue("lasts"))
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(rw, w.issuer.Token(r.FormValue("sub"), lasts, nil))
		return err
	})
	signInSockets(m)
	app, err := halcyon.NewApp(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: waitMax}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	o := &token.Options{}
	if opts.Clock != nil {
		o.Now = opts.Clock.Now
		if apart, ok := opts.Clock.(interface{ Wall() time.Time }); ok {
			o.Now = apart.Wall
		}
		w.issuer.Now = o.Now
	}
	if opts.Verifier, err = token.New([]token.Provider{w.issuer.Provider()}, o); err != nil {
		t.Fatal(err)
	}
	w.app = app
	w.testServer = serve(t, app, opts)
	t.Cleanup(w.let)
	return w
}

func (w *authWorld) token(subject string) string { return w.issuer.Token(subject, time.Hour, nil) }

func (c *client) authenticate(base uint32, text string) {
	c.t.Helper()
	c.send(&protocol.Authenticate{Base: base, TokenType: "User", Token: text})
}

// transition returns the next Transition that answers an Authenticate.
func (c *client) identityAt(version uint32) *protocol.Transition {
	c.t.Helper()
	for {
		m, err := c.read()
		if err != nil {
			c.t.Fatal(err)
		}
		if tr, ok := m.(*protocol.Transition); ok && tr.End.Identity != tr.Start.Identity {
			if tr.End.Identity != version {
				c.t.Fatalf("identity version %d, want %d", tr.End.Identity, version)
			}
			return tr
		}
	}
}

func TestAuthenticate(t *testing.T) {
	w := newAuthWorld(t, Options{})
	c := connect(t, w.testServer)
	c.add(0, "u:me", `{}`)
	c.add(1, "u:notes", `{}`)
	c.until("the first results", func() bool { return len(c.results) == 2 })
	if c.results[0] != `"nobody"` {
		t.Errorf("before: %v", c.results)
	}
	c.authenticate(0, w.token("ann"))
	tr := c.identityAt(1)
	if len(tr.Modifications) != 1 || c.results[0] != `"ann"` || tr.ServerTS == nil {
		t.Errorf("ann: %s", tr.Append(nil))
	}
	// The same user with a new token: nothing is told again.
	c.authenticate(1, w.token("ann"))
	if tr := c.identityAt(2); len(tr.Modifications) != 0 {
		t.Errorf("ann again: %s", tr.Append(nil))
	}
	c.authenticate(2, w.token("bob"))
	if c.identityAt(3); c.results[0] != `"bob"` {
		t.Errorf("bob: %v", c.results)
	}
	c.send(&protocol.Authenticate{Base: 3, TokenType: "None"})
	if c.identityAt(4); c.results[0] != `"nobody"` {
		t.Errorf("signed out: %v", c.results)
	}
	// Two at once come to the last one.
	c.authenticate(4, w.token("ann"))
	c.authenticate(5, w.token("bob"))
	c.until("bob", func() bool { return c.version.Identity == 6 })
	if c.results[0] != `"bob"` {
		t.Errorf("ann and bob: %v", c.results)
	}
	// On a new connection all comes together, of the new user alone.
	c = c.again(w.testServer)
	c.authenticate(0, w.token("cy"))
	c.add(0, "u:me", `{}`)
	c.until("the result", func() bool { return len(c.results) > 0 })
	if c.results[0] != `"cy"` || c.version.Identity != 1 {
		t.Errorf("a new connection at %+v: %v", c.version, c.results)
	}
}

// No Transition has a result of one user under the identity version of another, while everything changes at once.
func TestTransitionsAreOfOneUser(t *testing.T) {
	w := newAuthWorld(t, Options{Tick: time.Millisecond})
	c := connect(t, w.testServer)
	users := []string{"nobody"}
	for i := range 8 {
		c.add(uint32(2*i), "u:me", `{}`)
		c.add(uint32(2*i+1), "u:viewer", `{}`)
	}
	for i := range 50 {
		name := fmt.Sprintf("user%d", i%3)
		c.authenticate(uint32(i), w.token(name))
		users = append(users, name)
		c.mutate("u:note", fmt.Sprintf(`{"text":"%d"}`, i))
		c.remove(uint32(2 * (i % 8)))
		c.add(uint32(100+i), "u:me", `{}`)
	}
	for c.version.Identity < 50 || c.version.QuerySet < c.querySet {
		if _, err := c.read(); err != nil {
			t.Fatal(err)
		}
		if c.version.QuerySet == 0 {
			continue
		}
		for id, result := range c.results {
			if who := users[c.version.Identity]; !strings.Contains(result, who) && !(who == "nobody" && result == "null") {
				t.Fatalf("at %+v, of %s, query %d shows %s", c.version, who, id, result)
			}
		}
	}
}

func TestRefusedTokenEndsTheConnection(t *testing.T) {
	w := newAuthWorld(t, Options{})
	key, err := w.app.CreateAdminKey(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		message protocol.Authenticate
		want    string
	}{
		{"malformed", protocol.Authenticate{TokenType: "User", Token: "h.e.s"}, "InvalidAuthHeader: "},
		{"ended", protocol.Authenticate{TokenType: "User", Token: w.issuer.Token("ann", -time.Minute, nil)}, "TokenExpired: "},
		{"another issuer", protocol.Authenticate{TokenType: "User", Token: w.issuer.Token("ann", time.Hour, map[string]any{"iss": "https://x.test"})}, "NoAuthProvider: "},
		{"no admin key", protocol.Authenticate{TokenType: "Admin", Token: "ops|00"}, "BadAdminKey: "},
		{"user's token as admin key", protocol.Authenticate{TokenType: "Admin", Token: w.token("ann")}, "BadAdminKey: "},
		{"admin key as user's token", protocol.Authenticate{TokenType: "User", Token: key}, "InvalidAuthHeader: "},
		{"acts as nobody", protocol.Authenticate{TokenType: "Admin", Token: key, Impersonating: []byte(`{"name":"x"}`)}, "InvalidAuthHeader: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, w.testServer)
			c.authenticate(0, w.token("ann"))
			c.identityAt(1)
			tt.message.Base = 1
			c.send(&tt.message)
			c.mutate("u:note", `{"text":"after a refusal"}`)
			e := next[*protocol.AuthError](c)
			if e.Base != 1 || !e.UpdateAttempted || !strings.HasPrefix(e.Message, tt.want) {
				t.Errorf("%s; want %s", e.Append(nil), tt.want)
			}
			if closed := c.closed(); closed.Code != closeNormal {
				t.Errorf("closed with %d %q", closed.Code, closed.Reason)
			}
		})
	}
	var notes []string
	if err := w.app.Run(t.Context(), "u:notes", nil, &notes); err != nil || len(notes) > 0 {
		t.Errorf("what was sent after the refusal was run: %q, %v", notes, err)
	}
	c := connect(t, w.testServer)
	c.authenticate(7, w.token("ann"))
	if e := next[*protocol.FatalError](c); !strings.Contains(e.Message, "BaseVersionMismatch") {
		t.Errorf("wrong version: %s", e.Append(nil))
	}
}

// A provider that can't be reached signs nobody out: the client comes back with its token.
func TestProviderDown(t *testing.T) {
	w := newAuthWorld(t, Options{})
	text := w.token("ann")
	w.issuer.SetDown(true)
	broken, err := token.New([]token.Provider{w.issuer.Provider()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, w.app, Options{Verifier: broken})
	c := connect(t, s)
	c.authenticate(0, text)
	if closed := c.closed(); closed.Code != closeTryAgain || !strings.HasPrefix(closed.Reason, reasonInternal) {
		t.Errorf("closed with %d %q", closed.Code, closed.Reason)
	}
	resp, body := request(t, s, "POST", "/api/query", `{"path":"u:me","args":{}}`, "Authorization", "Bearer "+text)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.HasPrefix(body, `{"code":"AuthProviderUnavailable"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	eventually(t, "the log names the issuer", func() bool {
		return strings.Contains(s.log.String(), "AuthProviderUnavailable")
	})
}

// When its token ends, a user's connection shows and does nothing more for them.
func TestTokenEndsOnOpenConnection(t *testing.T) {
	clock := newFakeClock()
	w := newAuthWorld(t, Options{Clock: clock})
	c := connect(t, w.testServer)
	c.authenticate(0, w.issuer.Token("ann", time.Minute, nil))
	c.add(0, "u:me", `{}`)
	c.identityAt(1)
	clock.advance(time.Minute + token.Leeway - time.Second)
	c.mutate("u:note", `{"text":"in time"}`)
	if r := c.response(); !r.Success || string(r.Value) != `"ann"` {
		t.Errorf("in time: %s", r.Append(nil))
	}
	clock.advance(time.Second)
	e := &protocol.AuthError{}
	for e.Message == "" {
		m, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := m.(*protocol.AuthError); ok {
			e = got
		}
	}
	if e.Base != 1 || e.UpdateAttempted || !strings.HasPrefix(e.Message, "TokenExpired: ") {
		t.Errorf("%s", e.Append(nil))
	}
	if closed := c.closed(); closed.Code != closeNormal {
		t.Errorf("closed with %d %q", closed.Code, closed.Reason)
	}
}

// Mutations are run in the order and for the users in which they were sent, also when they are sent again on a new connection.
func TestMutationsKeepTheirUserAndOrder(t *testing.T) {
	w := newAuthWorld(t, Options{})
	c := connect(t, w.testServer)
	c.authenticate(0, w.token("ann"))
	c.modify()
	first := c.mutate("u:note", `{"text":"held"}`)
	if who := <-w.entered; who != "ann" {
		t.Errorf("held by %s", who)
	}
	c.mutate("u:note", `{"text":"1"}`)
	c.authenticate(1, w.token("bob"))
	c.mutate("u:note", `{"text":"2"}`)
	c.until("bob", func() bool { return c.version.Identity == 2 })
	_ = c.ws.CloseNow()

	again := c.again(w.testServer)
	again.authenticate(0, w.token("bob"))
	again.add(0, "u:notes", `{}`)
	again.requests = first
	for _, text := range []string{"held", "1", "2", "3"} {
		again.mutate("u:note", fmt.Sprintf(`{"text":%q}`, text))
	}
	again.barrier() // so what waited on the connection of before is dropped
	w.let()
	want := `["ann: held","bob: 1","bob: 2","bob: 3"]` // the first ran once, for ann; the others had not begun
	again.until("all notes", func() bool { return again.results[0] == want })
}

func TestAdministratorOnConnection(t *testing.T) {
	w := newAuthWorld(t, Options{})
	key, err := w.app.CreateAdminKey(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, w.testServer)
	c.add(0, "u:secret", `{}`)
	c.add(1, "u:me", `{}`)
	c.until("the first results", func() bool { return len(c.results) == 2 })
	if !strings.Contains(c.results[0], "Could not find public function") {
		t.Errorf("internal query for nobody: %v", c.results)
	}
	c.send(&protocol.Authenticate{Base: 0, TokenType: "Admin", Token: key, Impersonating: []byte(`{"issuer":"i","subject":"dora"}`)})
	c.identityAt(1)
	if c.results[0] != `[]` || c.results[1] != `"dora"` {
		t.Errorf("as administrator: %v", c.results)
	}
	c.mutate("u:secretNote", `{"text":"x"}`)
	if r := c.response(); !r.Success || string(r.Value) != `"dora"` {
		t.Errorf("internal mutation: %s", r.Append(nil))
	}
	c.send(&protocol.Authenticate{Base: 1, TokenType: "Admin", Token: key})
	if c.identityAt(2); c.results[1] != `"nobody"` {
		t.Errorf("for nobody: %v", c.results)
	}
	if err := w.app.RevokeAdminKey(t.Context(), "ops"); err != nil {
		t.Fatal(err)
	}
	c.mutate("u:secretNote", `{"text":"revoked"}`)
	if closed := c.closed(); closed.Code != closeTryAgain {
		t.Errorf("closed with %d %q", closed.Code, closed.Reason)
	}
	var notes []string
	if err := w.app.Run(t.Context(), "u:notes", nil, &notes); err != nil || len(notes) != 1 {
		t.Errorf("notes: %q, %v", notes, err)
	}
}

func TestHTTPIdentity(t *testing.T) {
	w := newAuthWorld(t, Options{})
	key, err := w.app.CreateAdminKey(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	ann := "Bearer " + w.token("ann")
	acting := func(attributes string) string {
		return "Convex " + key + ":" + base64.StdEncoding.EncodeToString([]byte(attributes))
	}
	for _, tt := range []struct {
		name, path, body, header string
		status                   int
		want                     string
	}{
		{"nobody", "/api/query", `{"path":"u:me","args":{}}`, "", 200, `{"status":"success","value":"nobody"}`},
		{"query", "/api/query", `{"path":"u:me","args":{}}`, ann, 200, `{"status":"success","value":"ann"}`},
		{"mutation", "/api/mutation", `{"path":"u:note","args":{"text":"a"}}`, ann, 200, `{"status":"success","value":"ann"}`},
		{"action", "/api/action", `{"path":"u:act","args":{"text":"b"}}`, ann, 200, `{"status":"success","value":"ann ann"}`},
		{"user and internal function", "/api/mutation", `{"path":"u:secretNote","args":{"text":"a"}}`, ann, 200, `{"status":"error","errorMessage":"Could not find public function for 'u:secretNote'."}`},
		{"administrator", "/api/mutation", `{"path":"u:secretNote","args":{"text":"c"}}`, "Convex " + key, 200, `{"status":"success","value":"nobody"}`},
		{"administrator as user", "/api/query", `{"path":"u:me","args":{}}`, acting(`{"issuer":"i","subject":"dora"}`), 200, `{"status":"success","value":"dora"}`},
		{"administrator as nobody", "/api/query", `{"path":"u:me","args":{}}`, acting(`{"name":"x"}`), 401, `{"code":"InvalidAuthHeader",`},
		{"administrator as garbage", "/api/query", `{"path":"u:me","args":{}}`, "Convex " + key + ":?", 401, `{"code":"InvalidAuthHeader",`},
		{"wrong admin key", "/api/query", `{"path":"u:me","args":{}}`, "Convex ops|" + strings.Repeat("0", 64), 401, `{"code":"BadAdminKey",`},
		{"malformed token", "/api/query", `{"path":"u:me","args":{}}`, "Bearer x", 401, `{"code":"InvalidAuthHeader",`},
		{"no token", "/api/query", `{"path":"u:me","args":{}}`, "Bearer", 401, `{"code":"InvalidAuthHeader",`},
		{"ended token", "/api/query", `{"path":"u:me","args":{}}`, "Bearer " + w.issuer.Token("ann", -time.Minute, nil), 401, `{"code":"TokenExpired",`},
		{"token of another application", "/api/query", `{"path":"u:me","args":{}}`, "Bearer " + w.issuer.Token("ann", time.Hour, map[string]any{"aud": "x"}), 401, `{"code":"NoAuthProvider",`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.header != "" {
				header = []string{"Authorization", tt.header}
			}
			resp, body := request(t, w.testServer, "POST", tt.path, tt.body, header...)
			if resp.StatusCode != tt.status || !strings.HasPrefix(body, tt.want) {
				t.Errorf("%d %s\nwant %d %s", resp.StatusCode, body, tt.status, tt.want)
			}
		})
	}
	// Keys rotate while the server runs; a route of a module takes a token, and does not mind a bad one.
	w.issuer.Rotate(jose.EdDSA)
	for header, want := range map[string]string{ann: "ann", "Bearer x": "nobody", "Basic eDp5": "nobody"} {
		if resp, body := request(t, w.testServer, "GET", "/http/me", "", "Authorization", header); resp.StatusCode != 200 || body != want {
			t.Errorf("route with %.20s: %d %s, want %s", header, resp.StatusCode, body, want)
		}
	}
	// One user's key for a repeated mutation is not another's.
	for _, who := range []string{"ann", "bob", "ann"} {
		_, body := request(t, w.testServer, "POST", "/api/mutation", `{"path":"u:note","args":{"text":"once"}}`, "Authorization", "Bearer "+w.token(who), "Idempotency-Key", "k")
		if want := fmt.Sprintf(`{"status":"success","value":%q}`, who); body != want {
			t.Errorf("%s with a key: %s", who, body)
		}
	}
	var notes []string
	if err := w.app.Run(t.Context(), "u:notes", nil, &notes); err != nil || len(notes) != 5 {
		t.Errorf("notes: %q, %v", notes, err)
	}
}

// A client that signs out and removes what it watched, all at once, is told that it is signed out: there is nothing to wait for.
func TestSignOutWithoutQueries(t *testing.T) {
	w := newAuthWorld(t, Options{})
	c := connect(t, w.testServer)
	c.authenticate(0, w.token("ann"))
	c.add(0, "u:me", `{}`)
	c.until("ann", func() bool { return c.results[0] == `"ann"` && c.version.Identity == 1 })
	for i := range uint32(20) {
		c.send(&protocol.Authenticate{Base: 2*i + 1, TokenType: "None"})
		c.remove(i)
		c.authenticate(2*i+2, w.token("ann"))
		c.add(i+1, "u:me", `{}`)
		c.until("ann again", func() bool { return c.results[i+1] == `"ann"` && c.version.Identity == 2*i+3 })
	}
	c.send(&protocol.Authenticate{Base: 41, TokenType: "None"})
	c.remove(20)
	c.until("nobody", func() bool { return c.version.Identity == 42 && c.version.QuerySet == c.querySet })
}
