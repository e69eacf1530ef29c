package replicate_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/server"
	"github.com/halcyon-db/halcyon/server/token"
	"github.com/halcyon-db/halcyon/server/token/tokentest"
	"github.com/halcyon-db/halcyon/yjs"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// waitMax bounds every wait for something that must happen.
const waitMax = 60 * time.Second

// house is a collection behind a server, on a network.
type house struct {
	*world
	address string
	issuer  *tokentest.Issuer
	log     logText
}

// logText keeps what is logged.
type logText struct {
	mu struct {
		sync.Mutex
		strings.Builder
	}
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.Builder.String()
}

func newHouse(t testing.TB, o replicate.Options) *house {
	t.Helper()
	h := &house{world: &world{t: t, fs: enginetest.NewCrashable()}, issuer: tokentest.New(t)}
	o.Name = "tasks"
	h.tasks = replicate.New(o)
	h.more = halcyon.NewModule("more")
	h.more.Mutation("edit", func(tx *halcyon.Tx, args struct{ Document, Text string }) error {
		_, err := h.tasks.Edit(tx, args.Document, func(doc *yjs.Doc) error { return doc.Text("t").Insert(0, args.Text, nil) })
		return err
	})
	var err error
	if h.app, err = halcyon.NewApp(h.tasks.Module(), h.more); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if err := h.app.Open("data", &halcyon.Options{ShowErrors: true, Logger: logger, Engine: engine.Options{FS: h.fs, FunctionTimeMax: waitMax}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.app.Close(); err != nil {
			t.Error(err)
		}
		if text := h.log.String(); strings.Contains(text, "level=ERROR") || t.Failed() {
			t.Errorf("the log:\n%s", text)
		}
	})
	if err := h.app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifier, err := token.New([]token.Provider{h.issuer.Provider()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- server.New(h.app, &server.Options{Logger: logger, Verifier: verifier}).Serve(ctx, listener)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return h
}

// line is a Yjs client on a WebSocket.
type line struct {
	h        *house
	ws       *websocket.Conn
	document string
	plain    bool // y-websocket; otherwise Hocuspocus
	doc      *yjs.Doc

	heard chan struct{} // closed when reading has ended, with err
	err   error
	mu    struct {
		sync.Mutex
		more                chan struct{} // closed at each message
		synced              bool
		acks, nacks         int
		scope, denied, shut string
	}
}

// dial opens a document, with a token unless it is empty.
func (h *house) dial(plain bool, document, tok string) *line {
	h.t.Helper()
	address := "ws://" + h.address + "/yjs/tasks"
	if plain {
		address += "/" + document
		if tok != "" {
			address += "?token=" + url.QueryEscape(tok)
		}
	}
	ws, _, err := websocket.Dial(h.t.Context(), address, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	l := &line{h: h, ws: ws, document: document, plain: plain, doc: yjs.NewDoc(nil), heard: make(chan struct{})}
	l.mu.more = make(chan struct{})
	go l.listen()
	h.t.Cleanup(func() {
		_ = ws.CloseNow()
		<-l.heard
	})
	if !plain {
		l.message(wire.Message{Kind: wire.MessageAuth, Text: tok})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sync(wire.Sync{Kind: wire.SyncStep1, Payload: l.doc.State().Encode()})
	return l
}

func (l *line) message(m wire.Message) {
	m.Document = l.document
	_ = l.ws.Write(context.Background(), websocket.MessageBinary, m.Append(nil)) // a lost connection shows in what is heard
}

func (l *line) sync(s wire.Sync) {
	if l.plain {
		_ = l.ws.Write(context.Background(), websocket.MessageBinary, wire.Frame{Kind: wire.FrameSync, Sync: s}.Append(nil))
		return
	}
	l.message(wire.Message{Kind: wire.MessageSync, Sync: s})
}

func (l *line) listen() {
	defer close(l.heard)
	for {
		_, b, err := l.ws.Read(context.Background())
		if err != nil {
			l.err = err
			return
		}
		l.mu.Lock()
		l.hearLocked(b)
		close(l.mu.more)
		l.mu.more = make(chan struct{})
		l.mu.Unlock()
	}
}

func (l *line) hearLocked(b []byte) {
	var s wire.Sync
	if l.plain {
		f, err := wire.ParseFrame(b)
		if err != nil {
			l.h.t.Error(err)
			return
		}
		if f.Kind != wire.FrameSync {
			return
		}
		s = f.Sync
	} else {
		m, err := wire.ParseMessage(b)
		if err != nil {
			l.h.t.Error(err)
			return
		}
		switch m.Kind {
		case wire.MessageSync:
			s = m.Sync
		case wire.MessageSyncStatus:
			if m.Applied {
				l.mu.acks++
			} else {
				l.mu.nacks++
			}
			return
		case wire.MessageAuth:
			l.mu.scope, l.mu.denied = "", ""
			if m.Auth == wire.AuthGranted {
				l.mu.scope = m.Text
			} else {
				l.mu.denied = m.Text
			}
			return
		case wire.MessageClose:
			l.mu.shut = m.Text
			return
		default:
			return
		}
	}
	if s.Kind == wire.SyncStep1 {
		sv, err := yjs.DecodeStateVector(s.Payload)
		if err != nil {
			l.h.t.Error(err)
		}
		l.sync(wire.Sync{Kind: wire.SyncStep2, Payload: l.doc.EncodeState(sv)})
		return
	}
	l.mu.synced = l.mu.synced || s.Kind == wire.SyncStep2
	if err := l.doc.Apply(s.Payload, "server"); err != nil {
		l.h.t.Error(err)
	}
}

// await waits until a condition holds, which is looked at under the lock.
func (l *line) await(what string, ok func() bool) {
	l.h.t.Helper()
	timeout := time.After(waitMax)
	for {
		l.mu.Lock()
		more, done := l.mu.more, ok()
		l.mu.Unlock()
		if done {
			return
		}
		select {
		case <-more:
		case <-l.heard:
			l.h.t.Fatalf("%s: the connection has ended: %v", what, l.err)
		case <-timeout:
			l.h.t.Fatalf("%s: it took too long; there is %q", what, l.text())
		}
	}
}

// text returns what the client has.
func (l *line) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doc.Text("t").String()
}

func (l *line) awaitText(want string) {
	l.h.t.Helper()
	l.await("text "+want, func() bool { return l.doc.Text("t").String() == want })
}

// write inserts text at the end and sends it.
func (l *line) write(text string) {
	l.h.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var update []byte
	stop := l.doc.OnUpdate(func(u yjs.Update) { update = u.Bytes })
	defer stop()
	if err := l.doc.Text("t").Insert(l.doc.Text("t").Len(), text, nil); err != nil {
		l.h.t.Fatal(err)
	}
	l.sync(wire.Sync{Kind: wire.SyncUpdate, Payload: update})
}

// closedWith waits for the end of the connection and returns how it was closed.
func (l *line) closedWith() (int, string) {
	l.h.t.Helper()
	select {
	case <-l.heard:
	case <-time.After(waitMax):
		l.h.t.Fatal("the connection goes on")
	}
	closed, _ := errors.AsType[websocket.CloseError](l.err)
	return int(closed.Code), closed.Reason
}

// TestSocketsAndFunctionsShareDocuments has a document changed over both kinds of socket, by the function of npm @trestleinc/replicate, and by
// the server itself, and sees each change in all places.
func TestSocketsAndFunctionsShareDocuments(t *testing.T) {
	h := newHouse(t, replicate.Options{})
	plain, hocus := h.dial(true, "a", ""), h.dial(false, "a", "")
	plain.await("synced", func() bool { return plain.mu.synced })
	hocus.await("synced", func() bool { return hocus.mu.synced && hocus.mu.scope == wire.ScopeReadWrite })
	plain.write("1")
	hocus.awaitText("1")
	hocus.write("2")
	plain.awaitText("12")
	hocus.await("acknowledged", func() bool { return hocus.mu.acks == 2 }) // with the answer at the begin

	changes, seq := h.stream("", 0)
	if len(changes) != 1 || changes[0].Document != "a" {
		t.Fatalf("the stream has %+v", changes)
	}
	p := newPeer(t, 77)
	p.apply(changes[0].Bytes)
	if got := p.doc.Text("t").String(); got != "12" {
		t.Errorf("the stream brings %q", got)
	}
	h.must("", "a", p.edit(func() error { return p.doc.Text("t").Insert(2, "3", nil) }))
	plain.awaitText("123")
	hocus.awaitText("123")
	h.call("", "more:edit", map[string]any{"document": "a", "text": "0"}, nil)
	plain.awaitText("0123")
	hocus.awaitText("0123")
	if changes, _ := h.stream("", seq); len(changes) != 1 {
		t.Errorf("after %d the stream has %+v", seq, changes)
	}
	// Another document's changes go elsewhere, and a name may have slashes in it.
	other := h.dial(true, "folder/b", "")
	other.await("synced", func() bool { return other.mu.synced })
	other.write("other")
	late := h.dial(false, "folder/b", "")
	late.awaitText("other")
	if got := plain.text(); got != "0123" {
		t.Errorf("the first document has %q", got)
	}
}

// TestRulesOfSockets asks the rule of the collection for whoever the token of a connection or document is of.
func TestRulesOfSockets(t *testing.T) {
	h := newHouse(t, replicate.Options{Access: func(tx *halcyon.Tx, d replicate.Document) (replicate.Level, error) {
		who, _ := tx.Identity()
		switch who.Subject {
		case "writer":
			return replicate.Write, nil
		case "reader":
			return replicate.Read, nil
		case "told":
			return replicate.None, &halcyon.Error{Code: "Unpaid", Message: "pay first"}
		}
		return replicate.None, nil
	}})
	writer, reader, stranger, told := h.issuer.Token("writer", time.Hour, nil), h.issuer.Token("reader", time.Hour, nil), h.issuer.Token("stranger", time.Hour, nil), h.issuer.Token("told", time.Hour, nil)
	for _, plain := range []bool{true, false} {
		w, r := h.dial(plain, "doc", writer), h.dial(plain, "doc", reader)
		w.await("synced", func() bool { return w.mu.synced })
		r.await("synced", func() bool { return r.mu.synced })
		before := w.text()
		w.write("w")
		r.awaitText(before + "w")
		r.write("r")
		if plain {
			w.write("!")
			r.await("the writer's", func() bool {
				return strings.Contains(r.doc.Text("t").String(), "w!") || strings.Contains(r.doc.Text("t").String(), "wr!") || strings.Contains(r.doc.Text("t").String(), "w!r")
			})
		} else {
			r.await("refused", func() bool { return r.mu.nacks == 1 && r.mu.scope == wire.ScopeReadOnly })
		}
		for _, tt := range []struct {
			name, token string
			code        int
		}{
			{"nobody", "", 4401},
			{"a stranger", stranger, 4403},
			{"one who is told why", told, 4403},
			{"a token that is none", "rubbish", 4401},
		} {
			l := h.dial(plain, "doc", tt.token)
			if plain {
				if code, reason := l.closedWith(); code != tt.code {
					t.Errorf("%s: closed with %d %s", tt.name, code, reason)
				}
			} else {
				l.await(tt.name, func() bool { return l.mu.denied != "" })
			}
		}
	}
	late := h.dial(true, "doc", writer)
	late.awaitText("w!w")
}

// TestErasedDocuments: who has a document open when it is erased is sent away, and what is opened anew is empty. Others are left alone.
func TestErasedDocuments(t *testing.T) {
	h := newHouse(t, replicate.Options{})
	plain, hocus, other := h.dial(true, "a", ""), h.dial(false, "a", ""), h.dial(true, "b", "")
	for _, l := range []*line{plain, hocus, other} {
		l.await("synced", func() bool { return l.mu.synced })
	}
	plain.write("old")
	hocus.awaitText("old")
	if _, err := h.docs("", "delete", "--erase", "tasks", "a"); err != nil {
		t.Fatal(err)
	}
	if code, reason := plain.closedWith(); code != 4410 || reason != "Erased" {
		t.Errorf("y-websocket is closed with %d %s", code, reason)
	}
	hocus.await("sent away", func() bool { return hocus.mu.shut == "Erased" })
	again := h.dial(true, "a", "")
	again.await("synced", func() bool { return again.mu.synced })
	again.write("new")
	late := h.dial(false, "a", "")
	late.awaitText("new")
	other.write("b") // its connection is there
	h.dial(true, "b", "").awaitText("b")
}
