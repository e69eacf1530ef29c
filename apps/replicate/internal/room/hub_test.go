package room

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// inBubble runs a test in a bubble of synctest, once for each protocol where it is said so.
func inBubble(t *testing.T, opts *Options, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, opts)
		defer w.end()
		test(t, w)
	})
}

func inBoth(t *testing.T, opts *Options, test func(t *testing.T, w *world, kind string)) {
	t.Helper()
	for _, kind := range protocols {
		t.Run(kind, func(t *testing.T) {
			inBubble(t, opts, func(t *testing.T, w *world) { test(t, w, kind) })
		})
	}
}

func TestClientsOfBothProtocolsShareADocument(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		a := w.peer("websocket", "doc", "").connect()
		b := w.peer("hocuspocus", "doc", "").connect()
		other := w.peer("websocket", "another", "").connect()
		w.settle()
		a.insert("from a. ")
		b.insert("from b. ")
		w.settle()
		late := w.peer("hocuspocus", "doc", "").connect()
		w.settle()
		if a.text() != b.text() || a.text() != late.text() || len(a.text()) != len("from a. from b. ") {
			t.Errorf("texts %q, %q, and %q of one who came late", a.text(), b.text(), late.text())
		}
		if other.text() != "" || other.updates != 1 {
			t.Errorf("another document has %q after %d updates", other.text(), other.updates)
		}
		// The answer to what the server asked for at the begin, and the edit.
		if !a.synced || !b.synced || !late.synced || b.acks != 2 || b.nacks != 0 || late.acks != 1 {
			t.Errorf("synced: %t %t %t; %d and %d acknowledgements, %d refusals", a.synced, b.synced, late.synced, b.acks, late.acks, b.nacks)
		}
	})
}

func TestOfflineEditsComeTogether(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a, b := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		w.settle()
		a.insert("both ")
		w.settle()
		a.drop()
		a.insert("offline ")
		b.insert("online ")
		w.settle()
		if got := b.text(); got != "both online " {
			t.Errorf("b has %q", got)
		}
		a.connect()
		w.settle()
		if a.text() != b.text() || !strings.Contains(a.text(), "offline ") || !strings.Contains(a.text(), "online ") {
			t.Errorf("after the reconnect %q and %q", a.text(), b.text())
		}
	})
}

func TestNobodySeesOrIsToldWhatIsNotDurable(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a, b := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		w.settle()
		w.store.hold = make(chan struct{})
		acks := a.acks
		a.insert("held")
		w.settle()
		time.Sleep(time.Second)
		late := w.peer(kind, "doc", "").connect()
		w.settle()
		if b.text() != "" || late.text() != "" || a.acks != acks {
			t.Errorf("before it is durable others see %q and %q, and there are %d acknowledgements more", b.text(), late.text(), a.acks-acks)
		}
		close(w.store.hold)
		w.settle()
		if b.text() != "held" || late.text() != "held" || kind == "hocuspocus" && a.acks != acks+1 {
			t.Errorf("when it is durable others see %q and %q, and there are %d acknowledgements more", b.text(), late.text(), a.acks-acks)
		}
	})
}

// TestOneMessageATick has many write at once and counts what each is sent.
func TestOneMessageATick(t *testing.T) {
	inBoth(t, &Options{Tick: 100 * time.Millisecond}, func(t *testing.T, w *world, kind string) {
		const writers = 50
		for range writers {
			w.peer(kind, "doc", "").connect()
		}
		w.settle()
		before := make([]int, writers)
		for i, p := range w.peers {
			before[i] = p.updates
		}
		for range 10 {
			for _, p := range w.peers {
				p.insert("x")
			}
			synctest.Wait()
		}
		w.settle()
		for i, p := range w.peers {
			if got := p.updates - before[i]; got < 1 || got > 3 {
				t.Fatalf("client %d was sent %d messages for 500 edits within a tick", i, got)
			}
			if n := len(p.text()); n != 10*writers {
				t.Fatalf("client %d has %d characters", i, n)
			}
			if kind == "hocuspocus" && p.acks != 11 {
				t.Fatalf("client %d has %d acknowledgements", i, p.acks)
			}
		}
	})
}

func TestWritersAreNotToldWhatTheyWrote(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a, b := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		w.settle()
		before := a.updates
		for range 5 {
			a.insert("x")
			w.settle()
		}
		if a.updates != before || b.text() != "xxxxx" {
			t.Errorf("the writer was sent %d messages; the other has %q", a.updates-before, b.text())
		}
	})
}

func TestReadersReadAndAreTold(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		w.store.access = func(user, _ string) Access { return map[string]Access{"writer": Write, "reader": Read}[user] }
		writer := w.peer(kind, "doc", "writer").connect()
		reader := w.peer(kind, "doc", "reader").connect()
		w.settle()
		writer.insert("news")
		w.settle()
		acks := reader.acks
		reader.insert("mine")
		w.settle()
		if writer.text() != "news" || !strings.Contains(reader.text(), "news") {
			t.Errorf("the writer has %q, the reader %q", writer.text(), reader.text())
		}
		switch kind {
		case "websocket":
			if reader.warned != ReasonReadOnly {
				t.Errorf("the reader was warned of %q", reader.warned)
			}
		case "hocuspocus":
			if reader.scope != wire.ScopeReadOnly || writer.scope != wire.ScopeReadWrite || reader.nacks != 1 || reader.acks != acks {
				t.Errorf("scopes %q and %q; %d refusals, %d acknowledgements more", reader.scope, writer.scope, reader.nacks, reader.acks-acks)
			}
		}
	})
}

func TestAccessChangesWhileConnected(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		var access atomic.Int32
		access.Store(int32(Read))
		w.store.access = func(user, _ string) Access {
			if user == "a" {
				return Access(access.Load())
			}
			return Write
		}
		a, b := w.peer(kind, "doc", "a").connect(), w.peer(kind, "doc", "b").connect()
		a.show(`{"here":true}`)
		b.show(`{"here":true}`)
		w.settle()
		a.insert("refused at first")
		w.settle()
		if b.text() != "" {
			t.Fatalf("the reader wrote %q", b.text())
		}
		access.Store(int32(Write))
		time.Sleep(2 * w.hub.opts.Recheck)
		w.settle()
		if kind == "websocket" { // its client is back by itself
			if got := a.code(); got.Code != CloseReset || got.Reason != ReasonAccess {
				t.Fatalf("closed with %v", got)
			}
			a.connect()
			w.settle()
		}
		if got := b.text(); got != "refused at first" {
			t.Errorf("what could not be written before is %q", got)
		}
		access.Store(int32(None))
		time.Sleep(2 * w.hub.opts.Recheck)
		w.settle()
		b.insert(" secret")
		w.settle()
		if kind == "websocket" && a.code().Code != CloseForbidden || kind == "hocuspocus" && a.closed != ReasonForbidden {
			t.Errorf("closed with %v, the document with %q", a.code(), a.closed)
		}
		if strings.Contains(a.text(), "secret") {
			t.Errorf("one without access was sent %q", a.text())
		}
	})
}

// TestWritesAreRefusedByTheStore has the rules change between the opening and the write, where only the store sees it.
func TestWritesAreRefusedByTheStore(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a, b := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		w.settle()
		w.store.refuse = func(e Edit) (Result, bool) {
			return Result{Refused, "TooFull", "no more"}, bytes.Contains(e.Update, []byte("bad"))
		}
		a.insert("bad")
		b.insert("good")
		w.settle()
		if b.text() != "good" {
			t.Errorf("the other has %q", b.text())
		}
		if kind == "websocket" {
			if got := a.code(); got != (halcyon.SocketClosed{Code: CloseTooLarge, Reason: "TooFull: no more"}) {
				t.Errorf("closed with %v", got)
			}
		} else if a.nacks != 1 || a.ended != nil {
			t.Errorf("%d refusals, ended with %v", a.nacks, a.ended)
		}
	})
}

// TestGapsAreAskedFor has an update arrive without the one before it.
func TestGapsAreAskedFor(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a, b := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		w.settle()
		acks := a.acks
		lost := a.scope
		a.scope = "" // what it sends now is lost
		if kind == "websocket" {
			a.kind = "lost"
		}
		a.insert("lost ")
		a.scope, a.kind = lost, kind
		a.insert("found")
		w.settle()
		if got := b.text(); got != "lost found" {
			t.Errorf("the other has %q", got)
		}
		// The update with the gap and the answer that fills it.
		if kind == "hocuspocus" && a.acks != acks+2 {
			t.Errorf("%d acknowledgements, want 2", a.acks-acks)
		}
	})
}

func TestWhoIsNotLetIn(t *testing.T) {
	for _, tt := range []struct {
		name, kind, document, user, token string
		code                              int
		denied                            string
	}{
		{"nobody", "websocket", "mine", "", "", CloseUnauthorized, ""},
		{"another", "websocket", "mine", "you", "", CloseForbidden, ""},
		{"no document", "websocket", "", "me", "", CloseMalformed, ""},
		{"a long name", "websocket", strings.Repeat("n", 513), "me", "", CloseMalformed, ""},
		{"nobody", "hocuspocus", "mine", "", "", 0, ReasonForbidden},
		{"the connection's user", "hocuspocus", "mine", "me", "", 0, ""},
		{"a token for a document", "hocuspocus", "mine", "", "me", 0, ""},
		{"another's token", "hocuspocus", "mine", "me", "you", 0, ReasonForbidden},
		{"a token that is not good", "hocuspocus", "mine", "me", "bad", 0, "TokenInvalid: no"},
		{"a long name", "hocuspocus", strings.Repeat("n", 513), "me", "", 0, ReasonName},
	} {
		t.Run(tt.kind+" "+tt.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				w.store.access = func(user, document string) Access {
					if document == "mine" && user == "me" {
						return Write
					}
					return None
				}
				p := w.peer(tt.kind, tt.document, tt.user)
				p.token = tt.token
				p.connect()
				w.settle()
				if p.code().Code != tt.code || p.denied != tt.denied {
					t.Errorf("closed with %v, denied for %q", p.code(), p.denied)
				}
				if in := tt.code == 0 && tt.denied == ""; p.synced != in {
					t.Errorf("synced: %t", p.synced)
				}
			})
		})
	}
}

func TestBadMessagesEndTheirConnection(t *testing.T) {
	big := yjs.NewDoc(nil)
	if err := big.Text("t").Insert(0, strings.Repeat("x", 5000), nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		send   func(p *peer)
		code   int
		reason string
		closed string // of Hocuspocus: the document alone is closed
	}{
		{"no update", func(p *peer) { p.update([]byte{9, 9, 9}) }, CloseMalformed, ReasonMalformed, ""},
		{"no state vector", func(p *peer) { p.sync(wire.Sync{Kind: wire.SyncStep1, Payload: []byte{5}}) }, CloseMalformed, ReasonMalformed, ""},
		{"no awareness", func(p *peer) { p.speak([]byte{1}) }, CloseMalformed, ReasonMalformed, ""},
		{"no frame", func(p *peer) { p.raw([]byte{0xff, 0xff}) }, CloseMalformed, ReasonMalformed, ""},
		{"nothing", func(p *peer) { p.raw(nil) }, CloseMalformed, ReasonMalformed, ""},
		{"text", func(p *peer) { p.conn.in <- halcyon.SocketMessage{Data: []byte("hello")} }, CloseMalformed, ReasonText, ""},
		{"a large update", func(p *peer) { p.update(big.EncodeState(nil)) }, CloseTooLarge, ReasonUpdateTooLarge, ReasonUpdateTooLarge},
		{"a large awareness state", func(p *peer) { p.show(`"` + strings.Repeat("y", 200) + `"`) }, CloseTooLarge, ReasonAwarenessTooLarge, ReasonAwarenessTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, &Options{UpdateBytesMax: 4096, StateBytesMax: 100}, func(t *testing.T, w *world, kind string) {
				witness, p := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
				w.settle()
				tt.send(p)
				w.settle()
				if kind == "hocuspocus" && tt.closed != "" {
					if p.closed != tt.closed || p.ended != nil {
						t.Errorf("the document was closed with %q, the connection with %v", p.closed, p.code())
					}
				} else if got := p.code(); got.Code != tt.code || got.Reason != tt.reason {
					t.Errorf("closed with %v, want %d %s", got, tt.code, tt.reason)
				}
				witness.insert("still here")
				w.settle()
				late := w.peer(kind, "doc", "").connect()
				w.settle()
				if late.text() != "still here" {
					t.Errorf("one who came late has %q; the witness ended with %v", late.text(), witness.ended)
				}
			})
		})
	}
}

func TestSeveralDocumentsOnOneConnection(t *testing.T) {
	inBubble(t, &Options{DocumentsMax: 3}, func(t *testing.T, w *world) {
		a := w.peer("hocuspocus", "one", "").connect()
		w.settle()
		open := func(name string) string {
			a.raw(wire.Message{Document: name, Kind: wire.MessageAuth}.Append(nil))
			synctest.Wait()
			m, err := wire.ParseMessage(a.conn.take()[0])
			if err != nil || m.Document != name {
				t.Fatalf("%+v, %v", m, err)
			}
			return m.Text
		}
		for _, tt := range []struct{ name, want string }{
			{"two", wire.ScopeReadWrite}, {"two\x00session", wire.ScopeReadWrite}, {"four", ReasonTooManyDocuments},
		} {
			name, session, _ := strings.Cut(tt.name, "\x00")
			if session == "" {
				if got := open(name); got != tt.want {
					t.Errorf("%s: %q, want %q", name, got, tt.want)
				}
				continue
			}
			a.raw(wire.Message{Document: name, Session: session, Kind: wire.MessageAuth}.Append(nil))
			synctest.Wait()
			m, err := wire.ParseMessage(a.conn.take()[0])
			if err != nil || m.Session != session || m.Text != tt.want {
				t.Errorf("a session: %+v, %v", m, err)
			}
		}
		if connections, documents, channels := w.hub.Size(); connections != 1 || documents != 2 || channels != 3 {
			t.Errorf("%d connections, %d documents, %d channels", connections, documents, channels)
		}
		// One is closed; the others go on.
		a.raw(wire.Message{Document: "two", Session: "session", Kind: wire.MessageClose}.Append(nil))
		a.raw(wire.Message{Document: "two", Kind: wire.MessageClose}.Append(nil))
		synctest.Wait()
		a.conn.take()
		b := w.peer("websocket", "one", "").connect()
		w.settle()
		b.insert("on")
		w.settle()
		if _, documents, channels := w.hub.Size(); documents != 1 || channels != 2 || a.text() != "on" {
			t.Errorf("%d documents, %d channels, %q", documents, channels, a.text())
		}
	})
}

func TestStatelessMessages(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.tells = func(m *Stateless) error {
			m.Answers = append(m.Answers, "heard "+m.Payload)
			m.ToAll = append(m.ToAll, m.Document+": "+m.Payload)
			return nil
		}
		a, b := w.peer("hocuspocus", "doc", "").connect(), w.peer("hocuspocus", "doc", "").connect()
		c := w.peer("websocket", "doc", "").connect()
		other := w.peer("hocuspocus", "other", "").connect()
		w.settle()
		a.message(wire.Message{Kind: wire.MessageStateless, Text: "ping"})
		w.settle()
		if diff := cmp.Diff([]string{"heard ping", "doc: ping"}, a.stateless); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"doc: ping"}, b.stateless); diff != "" || len(other.stateless) != 0 || c.ended != nil {
			t.Error(diff, other.stateless, c.ended)
		}
		// What only servers send to each other ends the connection.
		b.message(wire.Message{Kind: wire.MessageBroadcastStateless, Text: "forged"})
		w.settle()
		if got := b.code(); got.Code != CloseReset || len(a.stateless) != 2 {
			t.Errorf("closed with %v; %q", got, a.stateless)
		}
	})
}

// TestSlowClientsAreCaughtUpFromTheStore has a client take nothing while much is written.
func TestSlowClientsAreCaughtUpFromTheStore(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		slow, quick := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		w.settle()
		slow.conn.stall(true)
		slow.insert("while it takes nothing ")
		for range 100 {
			quick.insert("x")
			w.settle()
		}
		if slow.text() != "while it takes nothing " || len(quick.text()) != 100+len(slow.text()) {
			t.Fatalf("the slow one has %q, the quick one %d characters", slow.text(), len(quick.text()))
		}
		w.hub.mu.Lock()
		for c := range w.hub.mu.clients {
			for _, ch := range c.channels {
				if len(ch.held) > 0 || len(c.late) > 1 {
					t.Errorf("%d updates and %d messages are kept for a client", len(ch.held), len(c.late))
				}
			}
		}
		w.hub.mu.Unlock()
		before, acks := slow.updates, slow.acks
		slow.conn.stall(false)
		w.settle()
		if slow.text() != quick.text() || slow.updates != before+1 || kind == "hocuspocus" && slow.acks != acks+1 {
			t.Errorf("caught up: %t, with %d messages and %d acknowledgements", slow.text() == quick.text(), slow.updates-before, slow.acks-acks)
		}
		quick.insert("!")
		w.settle()
		if !strings.Contains(slow.text(), "!") {
			t.Error("it is not told of what comes after")
		}
	})
}

// TestFastClientsAreNotReadAhead has a client send more than may wait to be written.
func TestFastClientsAreNotReadAhead(t *testing.T) {
	inBoth(t, &Options{UnwrittenMax: 10}, func(t *testing.T, w *world, kind string) {
		a := w.peer(kind, "doc", "").connect()
		w.settle()
		w.store.hold = make(chan struct{})
		for range 100 {
			a.insert("x")
		}
		synctest.Wait()
		if n := len(a.conn.in); n < 85 {
			t.Errorf("only %d of 100 messages wait to be read", n)
		}
		close(w.store.hold)
		w.settle()
		if b := w.peer(kind, "doc", "").connect(); true {
			w.settle()
			if len(b.text()) != 100 {
				t.Errorf("%d of 100 characters were written", len(b.text()))
			}
		}
	})
}

func TestAFailedWriteHasClientsComeAgain(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a, b := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		w.settle()
		acks := a.acks
		w.store.failWrites(errors.New("no room"))
		a.insert("again")
		w.settle()
		if got := a.code(); got.Code != halcyon.SocketTryAgain || got.Reason != ReasonWrite || a.acks != acks || b.ended != nil {
			t.Fatalf("closed with %v, %d acknowledgements; the other ended with %v", got, a.acks-acks, b.ended)
		}
		w.store.failWrites(nil)
		a.connect()
		w.settle()
		if b.text() != "again" {
			t.Errorf("the other has %q", b.text())
		}
	})
}

func TestClientsComeAgainWhenChangesAreNotFollowed(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a := w.peer(kind, "doc", "").connect()
		w.settle()
		w.store.breakDown()
		w.settle()
		if got := a.code(); got.Code != halcyon.SocketTryAgain {
			t.Fatalf("closed with %v", got)
		}
		w.store.mu.Lock()
		w.store.mu.broken = nil
		w.store.mu.Unlock()
		a.connect()
		b := w.peer(kind, "doc", "").connect()
		w.settle()
		a.insert("on")
		w.settle()
		if b.text() != "on" {
			t.Errorf("the other has %q", b.text())
		}
	})
}

// TestQuietClientsHearSomething: both providers give up a connection on which nothing came for 30 s.
func TestQuietClientsHearSomething(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a := w.peer(kind, "doc", "").connect()
		w.settle()
		for range 20 {
			before := a.awarenesses
			time.Sleep(20 * time.Second)
			if w.settle(); a.awarenesses == before {
				t.Fatal("nothing came for 20 s")
			}
		}
	})
}

// TestHistories has clients of both protocols edit, show themselves, lose their connections, stall and come back, and compares them all with
// one another and with the store in the end.
func TestHistories(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) { history(t, w, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func history(t *testing.T, w *world, rnd *rand.Rand) {
	documents := []string{"a", "b"}
	stalled := map[*peer]bool{}
	for i := range 8 {
		w.peer(protocols[i%2], documents[i/2%2], "").connect()
	}
	for range 150 {
		p := w.peers[rnd.IntN(len(w.peers))]
		on := p.conn != nil && p.ended == nil
		switch rnd.IntN(10) {
		case 0:
			if on && !stalled[p] {
				p.drop()
			}
		case 1:
			if !on {
				p.connect()
			}
		case 2:
			if on && !stalled[p] {
				stalled[p] = true
				p.conn.stall(true)
			}
		case 3:
			if stalled[p] {
				delete(stalled, p)
				p.conn.stall(false)
			}
		case 4:
			p.show(fmt.Sprintf(`{"at":%d}`, rnd.IntN(100)))
		case 5:
			w.settle()
		case 6:
			if n := p.doc.Text("t").Len(); n > 0 {
				if err := p.doc.Text("t").Delete(rnd.IntN(n), 1); err != nil {
					t.Fatal(err)
				}
			}
		case 7:
			synctest.Wait()
			p.pump()
		default:
			p.insert(string(rune('a' + rnd.IntN(26))))
		}
	}
	for p := range stalled {
		p.conn.stall(false)
	}
	w.settle()
	for _, p := range w.peers {
		if p.ended != nil {
			p.connect()
		}
	}
	w.settle()
	for _, document := range documents {
		all, _ := w.store.read(document, 0)
		want := yjs.NewDoc(nil)
		if err := want.Apply(all, nil); err != nil {
			t.Fatal(err)
		}
		for _, p := range w.peers {
			if p.document == document && (p.text() != want.Text("t").String() || p.doc.Pending() != nil) {
				t.Errorf("%s: a client of %s has %q, the store %q; pending: %v", document, p.kind, p.text(), want.Text("t"), p.doc.Pending())
			}
		}
	}
}
