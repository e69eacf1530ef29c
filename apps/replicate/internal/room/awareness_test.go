package room

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/yjs/awareness"
)

func TestAwarenessComesAndGoes(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a, b := w.peer(kind, "doc", "").connect(), w.peer("websocket", "doc", "").connect()
		elsewhere := w.peer(kind, "other", "").connect()
		w.settle()
		a.show(`{"name":"a"}`)
		b.show(`{"name":"b"}`)
		w.settle()
		late := w.peer(kind, "doc", "").connect()
		w.settle()
		want := map[uint64]string{a.doc.ClientID(): `{"name":"a"}`, b.doc.ClientID(): `{"name":"b"}`}
		if diff := cmp.Diff(want, late.others()); diff != "" {
			t.Errorf("one who came late sees (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[uint64]string{b.doc.ClientID(): `{"name":"b"}`}, a.others()); diff != "" {
			t.Errorf("a sees (-want +got):\n%s", diff)
		}
		if len(elsewhere.others()) != 0 {
			t.Errorf("on another document %v is seen", elsewhere.others())
		}
		b.drop()
		w.settle()
		if len(a.others()) != 0 {
			t.Errorf("after b has gone a sees %v", a.others())
		}
		// With the same clock as before.
		b.connect()
		w.settle()
		if diff := cmp.Diff(map[uint64]string{b.doc.ClientID(): `{"name":"b"}`}, a.others()); diff != "" {
			t.Errorf("after b has come back a sees (-want +got):\n%s", diff)
		}
		b.show("")
		w.settle()
		if len(a.others()) != 0 {
			t.Errorf("after b has taken its state back a sees %v", a.others())
		}
		b.show(`"again"`)
		w.settle()
		if diff := cmp.Diff(map[uint64]string{b.doc.ClientID(): `"again"`}, a.others()); diff != "" {
			t.Errorf("a sees (-want +got):\n%s", diff)
		}
	})
}

// TestAwarenessOfThoseWhoComeTogether has clients say who they are before others have begun: npm's provider of Hocuspocus asks for the document
// only when it has been told that it may have it, which is a way there and back later.
func TestAwarenessOfThoseWhoComeTogether(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		var all []*peer
		for range 3 {
			p := w.peer("hocuspocus", "doc", "")
			p.waits = true
			all = append(all, p.connect())
		}
		plain := w.peer("websocket", "doc", "").connect()
		w.settle()
		all[2].conn.stall(true) // takes nothing until the others have begun
		for i, p := range all[:2] {
			p.begin()
			p.show(fmt.Sprintf(`{"i":%d}`, i))
			w.settle()
		}
		plain.insert("text")
		w.settle()
		all[2].conn.stall(false)
		w.settle()
		if got := all[2].text(); got != "" {
			t.Errorf("one that has not asked for the document was sent %q", got)
		}
		all[2].begin()
		all[2].show(`{"i":2}`)
		plain.show(`{"i":3}`)
		w.settle()
		want := map[uint64]string{}
		for i, p := range append(all, plain) {
			want[p.doc.ClientID()] = fmt.Sprintf(`{"i":%d}`, i)
		}
		for i, p := range append(all, plain) {
			seen := p.others()
			seen[p.doc.ClientID()] = fmt.Sprintf(`{"i":%d}`, i)
			if diff := cmp.Diff(want, seen); diff != "" || p.text() != "text" {
				t.Errorf("client %d has %q and sees (-want +got):\n%s", i, p.text(), diff)
			}
		}
	})
}

// TestAwarenessCannotBeSpoofed has a client say things about another one.
func TestAwarenessCannotBeSpoofed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		entry awareness.Entry // the client is the victim
	}{
		{"a newer state", awareness.Entry{Clock: 100, State: []byte(`{"name":"not a"}`)}},
		{"that it has gone, with a newer clock", awareness.Entry{Clock: 100}},
		{"that it has gone, with its clock", awareness.Entry{Clock: 1}},
		{"its own state again", awareness.Entry{Clock: 1, State: []byte(`{"name":"a"}`)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, nil, func(t *testing.T, w *world, kind string) {
				a, b := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
				witness := w.peer(kind, "doc", "").connect()
				w.settle()
				a.show(`{"name":"a"}`)
				b.show(`{"name":"b"}`)
				w.settle()
				e := tt.entry
				e.Client = a.doc.ClientID()
				b.speak(awareness.Encode([]awareness.Entry{e}))
				w.settle()
				want := map[uint64]string{a.doc.ClientID(): `{"name":"a"}`, b.doc.ClientID(): `{"name":"b"}`}
				if diff := cmp.Diff(want, witness.others()); diff != "" {
					t.Errorf("seen (-want +got):\n%s", diff)
				}
				if b.ended != nil {
					t.Errorf("what clients pass on ended a connection: %v", b.ended)
				}
				// What it has not said is not taken back when it goes.
				b.drop()
				w.settle()
				delete(want, b.doc.ClientID())
				if diff := cmp.Diff(want, witness.others()); diff != "" {
					t.Errorf("when it has gone there is (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestEchoesDoNotBringBackWhoHasGone has a client pass on the last state of another that has gone.
func TestEchoesDoNotBringBackWhoHasGone(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a, b := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		witness := w.peer(kind, "doc", "").connect()
		a.show(`1`)
		a.show(`2`)
		b.show(`"b"`)
		w.settle()
		echo := a.aware.Encode(a.doc.ClientID())
		a.drop()
		synctest.Wait()
		b.speak(echo)
		w.settle()
		if _, there := witness.others()[a.doc.ClientID()]; there {
			t.Errorf("seen: %v", witness.others())
		}
	})
}

func TestTheSameUserTakesAnAwarenessClientOver(t *testing.T) {
	for _, tt := range []struct {
		name, old, fresh string
		at               time.Duration // when the new connection's state is seen, at the latest
	}{
		{"the same user", "ada", "ada", time.Second},
		{"another user", "ada", "bob", 2 * awareness.Timeout},
		{"nobody", "", "", 2 * awareness.Timeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBoth(t, nil, func(t *testing.T, w *world, kind string) {
				// The first connection is lost, which only its client knows.
				lost := w.peer(kind, "doc", tt.old).connect()
				witness := w.peer(kind, "doc", "witness").connect()
				lost.show(`"before"`)
				w.settle()
				back := w.peer(kind, "doc", tt.fresh)
				back.doc, back.aware = lost.doc, lost.aware
				back.connect()
				w.settle()
				began := time.Now()
				for i := 0; witness.others()[back.doc.ClientID()] != fmt.Sprintf(`"after %d"`, i-1); i++ {
					if time.Since(began) > tt.at {
						t.Fatalf("after %v there is %v", time.Since(began), witness.others())
					}
					if i > 0 {
						time.Sleep(awareness.Timeout / 3)
					}
					back.show(fmt.Sprintf(`"after %d"`, i))
					w.settle()
				}
				if tt.at > awareness.Timeout && time.Since(began) < awareness.Timeout/2 {
					t.Errorf("taken over after %v", time.Since(began))
				}
				// The end of the old connection takes nothing away.
				lost.drop()
				w.settle()
				if len(witness.others()) != 1 {
					t.Errorf("seen: %v", witness.others())
				}
			})
		})
	}
}

func TestAwarenessStatesEndUnlessRenewed(t *testing.T) {
	inBoth(t, nil, func(t *testing.T, w *world, kind string) {
		a, b := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		a.show(`1`)
		b.show(`2`)
		w.settle()
		w.peers = []*peer{b} // a hears nothing more: it would say that it is still there
		for range 12 {
			time.Sleep(5 * time.Second)
			if update := b.aware.Renew(time.Now()); update != nil {
				b.speak(update)
			}
			w.settle()
		}
		late := w.peer(kind, "doc", "").connect()
		w.settle()
		w.peers = append(w.peers, a)
		if diff := cmp.Diff(map[uint64]string{b.doc.ClientID(): `2`}, late.others()); diff != "" {
			t.Errorf("after a minute (-want +got):\n%s", diff)
		}
	})
}

func TestAwarenessLimits(t *testing.T) {
	inBoth(t, &Options{SpeakerMax: 4, StatesMax: 8}, func(t *testing.T, w *world, kind string) {
		a, b, c := w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect(), w.peer(kind, "doc", "").connect()
		w.settle()
		claim := func(p *peer, first uint64) {
			for i := range uint64(5) {
				p.speak(awareness.Encode([]awareness.Entry{{Client: first + i, Clock: 1, State: []byte(`{}`)}}))
			}
			w.settle()
		}
		claim(a, 10)
		if n := len(c.others()); n != 3 {
			t.Errorf("one connection speaks for %d clients", n)
		}
		claim(b, 20)
		if n := len(c.others()); n != 5 {
			t.Errorf("a document has %d states", n)
		}
		if a.ended != nil || b.ended != nil {
			t.Errorf("ended: %v, %v", a.ended, b.ended)
		}
		a.drop()
		w.settle()
		claim(b, 30)
		if n := len(c.others()); n != 3 {
			t.Errorf("when one has gone there are %d", n)
		}
	})
}

// TestAwarenessIsToldOnceATick has many clients move at once.
func TestAwarenessIsToldOnceATick(t *testing.T) {
	inBoth(t, &Options{Tick: 100 * time.Millisecond}, func(t *testing.T, w *world, kind string) {
		for range 30 {
			w.peer(kind, "doc", "").connect()
		}
		w.settle()
		before := w.peers[0].awarenesses
		for i, p := range w.peers {
			for j := range 10 {
				p.show(fmt.Sprintf(`{"i":%d,"j":%d}`, i, j))
			}
		}
		w.settle()
		if n := w.peers[0].awarenesses - before; n < 1 || n > 3 {
			t.Errorf("%d messages for 300 states", n)
		}
		if n := len(w.peers[0].others()); n != 29 {
			t.Errorf("%d others are seen", n)
		}
	})
}
