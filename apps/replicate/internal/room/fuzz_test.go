package room

import (
	"testing"
	"testing/synctest"

	"github.com/halcyon-db/halcyon/yjs"
	"github.com/halcyon-db/halcyon/yjs/awareness"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// FuzzServe sends messages to the hub that clients made up: the input is cut into some, by a byte of length each. Whatever they are, another
// client of the same document goes on, all that is stored can be read, and nothing is left when they have gone.
func FuzzServe(f *testing.F) {
	d := yjs.NewDoc(&yjs.Options{ClientID: 7})
	if err := d.Text("t").Insert(0, "seed", nil); err != nil {
		f.Fatal(err)
	}
	states := awareness.Encode([]awareness.Entry{{Client: 7, Clock: 1, State: []byte(`{"a":1}`)}})
	cut := func(frames ...[]byte) (in []byte) {
		for _, b := range frames {
			in = append(append(in, byte(len(b))), b...)
		}
		return in
	}
	plain := func(s wire.Sync) []byte { return wire.Frame{Kind: wire.FrameSync, Sync: s}.Append(nil) }
	named := func(m wire.Message) []byte { m.Document = "doc"; return m.Append(nil) }
	step1, step2 := wire.Sync{Kind: wire.SyncStep1, Payload: d.State().Encode()}, wire.Sync{Kind: wire.SyncStep2, Payload: d.EncodeState(nil)}
	f.Add(cut(plain(step1), plain(step2), plainAwareness(states), plainUpdate(d.EncodeState(nil)), wire.Frame{Kind: wire.FrameQueryAwareness}.Append(nil)))
	f.Add(cut(named(wire.Message{Kind: wire.MessageAuth, Text: "t"}), named(wire.Message{Kind: wire.MessageSync, Sync: step1}),
		named(wire.Message{Kind: wire.MessageSync, Sync: step2}), named(wire.Message{Kind: wire.MessageAwareness, Awareness: states}),
		named(wire.Message{Kind: wire.MessageStateless, Text: "hello"}), named(wire.Message{Kind: wire.MessageQueryAwareness}),
		named(wire.Message{Kind: wire.MessageClose}), []byte{9}))
	f.Add(cut(named(wire.Message{Kind: wire.MessageSync, Sync: step1}), named(wire.Message{Kind: wire.MessageAuth, Text: "bad"})))
	f.Fuzz(func(t *testing.T, in []byte) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			defer w.end()
			w.tells = func(m *Stateless) error { m.ToAll = []string{m.Payload}; return nil }
			witness, other := w.peer("websocket", "doc", "").connect(), w.peer("hocuspocus", "doc", "").connect()
			w.settle()
			conn := w.peer("websocket", "doc", "")
			conn.kind = "raw"
			conn.connect()
			for len(in) > 0 && len(conn.conn.in) < 100 {
				n := min(int(in[0]), len(in)-1)
				conn.raw(in[1 : 1+n])
				in = in[1+n:]
			}
			synctest.Wait()
			conn.conn.take()
			conn.drop()
			w.settle()
			witness.insert("witness")
			w.settle()
			late := w.peer("hocuspocus", "doc", "").connect()
			w.settle()
			if witness.ended != nil || other.ended != nil || late.text() != witness.text() || other.text() != witness.text() {
				t.Errorf("others ended with %v and %v, and have %q, %q and %q", witness.ended, other.ended, witness.text(), other.text(), late.text())
			}
		})
	})
}
