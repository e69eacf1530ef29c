package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/server/token"
)

// signInSockets are handlers of protocols that bring tokens in every way.
func signInSockets(m *halcyon.Module) {
	tell := func(s *halcyon.Socket, c *halcyon.Ctx) error {
		var me string
		if err := c.RunQuery("me", nil, &me); err != nil {
			return err
		}
		seen := "nobody"
		if i, ok := c.Identity(); ok {
			seen = i.Subject
		}
		return s.SendText(seen + " " + me)
	}
	m.Socket("/header", func(s *halcyon.Socket) error {
		if err := tell(s, s.Ctx); err != nil {
			return err
		}
		_, err := s.Receive()
		return err
	})
	m.Socket("/query", func(s *halcyon.Socket) error {
		if t := s.Request().URL.Query().Get("token"); t != "" {
			if err := s.SignIn(t); err != nil {
				return err
			}
		}
		if err := tell(s, s.Ctx); err != nil {
			return err
		}
		_, err := s.Receive()
		return err
	})
	m.Socket("/offered", func(s *halcyon.Socket) error {
		for _, name := range splitTokens(s.Request().Header.Values("Sec-WebSocket-Protocol")) {
			if t, ok := strings.CutPrefix(name, "bearer."); ok {
				if err := s.SignIn(t); err != nil {
					return err
				}
			}
		}
		return errors.Join(s.SendText(s.Subprotocol()), tell(s, s.Ctx))
	}).Subprotocols("chat")
	// Each message signs in: the connection is the last one's.
	m.Socket("/message", func(s *halcyon.Socket) error {
		for {
			message, err := s.Receive()
			if err != nil {
				return err
			}
			if err := s.SignIn(string(message.Data)); err != nil {
				return err
			}
			if err := tell(s, s.Ctx); err != nil {
				return err
			}
		}
	})
	// Each message is "document token"; a token of "-" leaves the document, and that of "?" asks who has it.
	m.Socket("/documents", func(s *halcyon.Socket) error {
		type document struct {
			*halcyon.Ctx
			release func()
		}
		open := map[string]document{}
		for {
			message, err := s.Receive()
			if err != nil {
				return err
			}
			name, t, _ := strings.Cut(string(message.Data), " ")
			d, ok := open[name]
			switch {
			case t == "-":
				d.release()
				if !errors.Is(d.RunQuery("me", nil, nil), d.Err()) && d.Err() == nil {
					return errors.New("a released user goes on")
				}
				err = s.SendText("left")
			case t != "?":
				d.Ctx, d.release, err = s.As(t)
				if err != nil {
					err = s.SendText(err.Error())
					break
				}
				open[name] = d
				s.Go(func() error {
					<-d.Done()
					return s.SendText(fmt.Sprintf("%s ended: %v", name, errors.Unwrap(d.RunQuery("me", nil, nil))))
				})
				err = tell(s, d.Ctx)
			case ok:
				err = tell(s, d.Ctx)
			default:
				err = tell(s, s.Ctx)
			}
			if err != nil {
				return err
			}
		}
	})
	m.Socket("/watch", func(s *halcyon.Socket) error {
		if err := s.SignIn(s.Request().URL.Query().Get("token")); err != nil {
			return err
		}
		for who, err := range halcyon.Watch[string](s.Ctx, "me", nil) {
			if err != nil {
				return err
			}
			if err := s.SendText(who); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *authWorld) dial(t testing.TB, path string, opts *websocket.DialOptions) *websocket.Conn {
	t.Helper()
	return (&socketWorld{testServer: w.testServer}).open(t, path, opts)
}

func TestModuleSocketSignsIn(t *testing.T) {
	w := newAuthWorld(t, Options{})
	key, err := w.app.CreateAdminKey(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	ann := w.token("ann")
	old := w.issuer.Token("ann", -time.Hour, nil)
	header := func(line string) *websocket.DialOptions {
		return &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {line}}}
	}
	for _, tt := range []struct {
		name, path string
		opts       *websocket.DialOptions
		want       []string // messages
		closed     string
	}{
		{"nobody", "/header", nil, []string{"nobody nobody"}, ""},
		{"header", "/header", header("Bearer " + ann), []string{"ann ann"}, ""},
		{"header of an administrator", "/header", header("Convex " + key), []string{"nobody nobody"}, ""},
		{"header with an old token", "/header", header("Bearer " + old), []string{"nobody nobody"}, ""},
		{"header of a proxy", "/header", header("Basic " + ann), []string{"nobody nobody"}, ""},
		{"URL", "/query?token=" + ann, nil, []string{"ann ann"}, ""},
		{"URL, guest", "/query", nil, []string{"nobody nobody"}, ""},
		{"URL, another than the header", "/query?token=" + w.token("bob"), header("Bearer " + ann), []string{"bob bob"}, ""},
		{"URL, old", "/query?token=" + old, nil, nil, "1008 TokenExpired: "},
		{"URL, no token", "/query?token=x", nil, nil, "1008 InvalidAuthHeader: "},
		{"URL, of another issuer", "/query?token=" + w.issuer.Token("ann", time.Hour, map[string]any{"iss": "https://x.test"}), nil, nil, "1008 NoAuthProvider: "},
		{"URL, an admin key", "/query?token=" + key, nil, nil, "1008 InvalidAuthHeader: "},
		{"subprotocol", "/offered", &websocket.DialOptions{Subprotocols: []string{"chat", "bearer." + ann}}, []string{"chat", "ann ann"}, "1000 "},
		{"subprotocol, token first", "/offered", &websocket.DialOptions{Subprotocols: []string{"bearer." + ann, "chat"}}, []string{"chat", "ann ann"}, "1000 "},
		{"watch", "/watch?token=" + ann, nil, []string{"ann"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ws := w.dial(t, tt.path, tt.opts)
			for _, want := range tt.want {
				if got := hear(t, ws); got != want {
					t.Errorf("the handler says %q, want %q", got, want)
				}
			}
			if tt.closed != "" {
				if got := closedWith(t, ws); !strings.HasPrefix(got, tt.closed) {
					t.Errorf("closed with %q, want %q", got, tt.closed)
				}
			}
		})
	}
	ws := w.dial(t, "/message", nil)
	for _, who := range []string{"ann", "bob"} {
		say(t, ws, websocket.MessageText, w.token(who))
		if got := hear(t, ws); got != who+" "+who {
			t.Errorf("%s signed in, and the handler says %q", who, got)
		}
	}
}

// A provider that can't be reached signs nobody out: the client comes back with its token.
func TestModuleSocketProviderDown(t *testing.T) {
	w := newAuthWorld(t, Options{})
	text := w.token("ann")
	w.issuer.SetDown(true)
	broken, err := token.New([]token.Provider{w.issuer.Provider()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.testServer = serve(t, w.app, Options{Verifier: broken})
	if got := closedWith(t, w.dial(t, "/query?token="+text, nil)); got != "1013 AuthProviderUnavailable" {
		t.Errorf("closed with %q", got)
	}
}

// When a token ends, so does what goes on for its user, and nothing else.
func TestModuleSocketTokensEnd(t *testing.T) {
	clock := newFakeClock()
	w := newAuthWorld(t, Options{Clock: clock})
	short := func(who string) string { return w.issuer.Token(who, time.Minute, nil) }
	long := w.issuer.Token("bob", time.Hour, nil)
	const expired = "1008 TokenExpired: The token has ended."

	query := w.dial(t, "/query?token="+short("ann"), nil)
	header := w.dial(t, "/header", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + short("ann")}}})
	watch := w.dial(t, "/watch?token="+short("ann"), nil)
	renewed := w.dial(t, "/message", nil)
	say(t, renewed, websocket.MessageText, short("ann"))
	for _, ws := range []*websocket.Conn{query, header, watch, renewed} {
		if got := hear(t, ws); !strings.HasPrefix(got, "ann") {
			t.Fatalf("the handler says %q", got)
		}
	}
	say(t, renewed, websocket.MessageText, long)
	if got := hear(t, renewed); got != "bob bob" {
		t.Errorf("after a second token: %q", got)
	}
	documents := w.dial(t, "/documents", nil)
	for _, step := range [][2]string{
		{"a " + short("ann"), "ann ann"}, {"b " + long, "bob bob"}, {"c " + short("cy"), "cy cy"}, {"a ?", "ann ann"}, {"? ?", "nobody nobody"},
		{"c -", "left"}, {"d x", "sign in: InvalidAuthHeader: "},
	} {
		say(t, documents, websocket.MessageText, step[0])
		got := hear(t, documents)
		if step[0] == "c -" { // in either order
			got += hear(t, documents)
		}
		if !strings.Contains(got, step[1]) {
			t.Errorf("%q was answered %q, want %q", step[0], got, step[1])
		}
	}

	clock.advance(time.Minute + token.Leeway)
	for _, ws := range []*websocket.Conn{query, header, watch} {
		if got := closedWith(t, ws); got != expired {
			t.Errorf("closed with %q, want %q", got, expired)
		}
	}
	if got := hear(t, documents); got != "a ended: TokenExpired: The token has ended." {
		t.Errorf("%q", got)
	}
	say(t, documents, websocket.MessageText, "b ?")
	if got := hear(t, documents); got != "bob bob" {
		t.Errorf("the user whose token goes on: %q", got)
	}
	say(t, renewed, websocket.MessageText, long)
	if got := hear(t, renewed); got != "bob bob" {
		t.Errorf("the connection whose token was renewed: %q", got)
	}
}

func TestModuleSocketOfARevokedAdministrator(t *testing.T) {
	clock := newFakeClock()
	w := newAuthWorld(t, Options{Clock: clock})
	key, err := w.app.CreateAdminKey(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	dora := "Convex " + key + ":eyJpc3N1ZXIiOiJpIiwic3ViamVjdCI6ImRvcmEifQ==" // {"issuer":"i","subject":"dora"}
	ws := w.dial(t, "/header", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {dora}}})
	if got := hear(t, ws); got != "dora dora" {
		t.Fatalf("the handler says %q", got)
	}
	if err := w.app.RevokeAdminKey(t.Context(), "ops"); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	if got := closedWith(t, ws); got != "1013 "+reasonAuth {
		t.Errorf("closed with %q", got)
	}
}
