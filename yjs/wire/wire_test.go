package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/halcyon-db/halcyon/yjs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func doc(t testing.TB, client uint64, text string) *yjs.Doc {
	t.Helper()
	d := yjs.NewDoc(&yjs.Options{ClientID: client})
	must(t, d.Text("t").Insert(0, text, nil))
	return d
}

// TestSessions connects two documents that both have changes.
func TestSessions(t *testing.T) {
	a, b := doc(t, 1, "client"), doc(t, 2, "server")
	client, server := &Session{Replica: Document{a}}, &Session{Replica: Document{b}}
	type frame struct {
		to   *Session
		data []byte
	}
	var wire []frame
	open := func(from, to *Session) {
		frames, err := from.Open(nil)
		must(t, err)
		for _, f := range frames {
			wire = append(wire, frame{to, f})
		}
	}
	open(server, client)
	open(client, server)
	for len(wire) > 0 {
		f := wire[0]
		wire = wire[1:]
		reply, err := f.to.Receive(f.data)
		must(t, err)
		d, other := a, server
		if f.to == server {
			d, other = b, client
		}
		if reply.Update != nil {
			must(t, d.Apply(reply.Update, "wire"))
		}
		for _, s := range reply.Send {
			wire = append(wire, frame{other, s})
		}
	}
	if !client.Synced || !server.Synced || a.Text("t").String() != b.Text("t").String() || a.Text("t").Len() != 12 {
		t.Errorf("client %v %q, server %v %q", client.Synced, a.Text("t"), server.Synced, b.Text("t"))
	}
	// A document stored as an update answers the same.
	stored := &Session{Replica: Update(b.EncodeState(nil))}
	frames, err := stored.Open([]byte{0})
	must(t, err)
	want, err := server.Open([]byte{0})
	must(t, err)
	if diff := cmp.Diff(want, frames); diff != "" {
		t.Error(diff)
	}
}

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame Frame
		want  []byte
	}{
		{"step 1", Frame{Kind: FrameSync, Sync: Sync{SyncStep1, []byte{1, 1, 5}}}, []byte{0, 0, 3, 1, 1, 5}},
		{"update", Frame{Kind: FrameSync, Sync: Sync{SyncUpdate, []byte{0, 0}}}, []byte{0, 2, 2, 0, 0}},
		{"awareness", Frame{Kind: FrameAwareness, Awareness: []byte{0}}, []byte{1, 1, 0}},
		{"denied", Frame{Kind: FrameAuth, Reason: "no"}, []byte{2, 0, 2, 'n', 'o'}},
		{"query", Frame{Kind: FrameQueryAwareness}, []byte{3}},
	} {
		got := c.frame.Append(nil)
		if !bytes.Equal(got, c.want) {
			t.Errorf("%s is %x, want %x", c.name, got, c.want)
		}
		back, err := ParseFrame(got)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.frame, back); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		for n := range got {
			if _, err := ParseFrame(got[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut to %d bytes: %v", c.name, n, err)
			}
		}
		if _, err := ParseFrame(append(got, 0)); err == nil {
			t.Errorf("%s with a byte after it is accepted", c.name)
		}
	}
}

func TestMessages(t *testing.T) {
	for _, c := range []struct {
		name    string
		message Message
		want    string
	}{
		{"token", Message{Document: "d", Kind: MessageAuth, Text: "t"}, "\x01d\x02\x00\x01t"},
		{"token and version", Message{Document: "d", Session: "s", Kind: MessageAuth, Text: "t", Version: "4.8"}, "\x03d\x00s\x02\x00\x01t\x034.8"},
		{"token request", Message{Document: "d", Kind: MessageAuth, Request: true}, "\x01d\x02\x00"},
		{"denied", Message{Document: "d", Kind: MessageAuth, Auth: AuthDenied, Text: "no"}, "\x01d\x02\x01\x02no"},
		{"granted", Message{Document: "d", Kind: MessageAuth, Auth: AuthGranted, Text: ScopeReadOnly}, "\x01d\x02\x02\x08readonly"},
		{"sync", Message{Document: "d", Kind: MessageSync, Sync: Sync{SyncStep1, []byte{0}}}, "\x01d\x00\x00\x01\x00"},
		{"status", Message{Document: "d", Kind: MessageSyncStatus, Applied: true}, "\x01d\x08\x01"},
		{"close", Message{Document: "d", Kind: MessageClose}, "\x01d\x07"},
		{"closed", Message{Document: "d", Kind: MessageClose, Text: "bye"}, "\x01d\x07\x03bye"},
		{"stateless", Message{Document: "d", Kind: MessageStateless, Text: "x"}, "\x01d\x05\x01x"},
		{"ping", Message{Kind: MessagePing}, "\x09"},
	} {
		got := c.message.Append(nil)
		if string(got) != c.want {
			t.Errorf("%s is %q, want %q", c.name, got, c.want)
		}
		back, err := ParseMessage(got)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.message, back); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func hocus(m Message) []byte {
	m.Document = "doc"
	return m.Append(nil)
}

func TestConnection(t *testing.T) {
	at := Address{Document: "doc"}
	d := doc(t, 2, "server")
	mine := doc(t, 1, "client")
	c := NewConnection(nil)
	step1 := hocus(Message{Kind: MessageSync, Sync: Sync{SyncStep1, mine.State().Encode()}})
	if e, err := c.Receive(step1); err != nil || e.Authenticate || len(e.Send) > 0 {
		t.Fatalf("a message before the token: %+v, %v", e, err)
	}
	e, err := c.Receive(hocus(Message{Kind: MessageAuth, Text: "secret"}))
	if err != nil || !e.Authenticate || e.Credentials != "secret" || e.At != at {
		t.Fatalf("the token: %+v, %v", e, err)
	}
	send, events, err := c.Grant(at, Document{d}, false, nil)
	must(t, err)
	if len(send) != 1 || len(events) != 1 || len(events[0].Send) != 2 {
		t.Fatalf("granted: %d to send, events %+v", len(send), events)
	}
	answer, err := ParseMessage(events[0].Send[0])
	must(t, err)
	if answer.Kind != MessageSync || answer.Sync.Kind != SyncStep2 {
		t.Fatalf("the answer: %+v", answer)
	}
	must(t, mine.Apply(answer.Sync.Payload, nil))
	request, err := ParseMessage(events[0].Send[1])
	must(t, err)
	if request.Kind != MessageSync || request.Sync.Kind != SyncStep1 {
		t.Fatalf("the request: %+v", request)
	}
	sv, err := yjs.DecodeStateVector(request.Sync.Payload)
	must(t, err)
	e, err = c.Receive(hocus(Message{Kind: MessageSync, Sync: Sync{SyncStep2, mine.EncodeState(sv)}}))
	must(t, err)
	if e.Update == nil || !e.Step2 || !bytes.Equal(e.Ack, hocus(Message{Kind: MessageSyncStatus, Applied: true})) || e.Nack == nil {
		t.Fatalf("the client's changes: %+v", e)
	}
	must(t, d.Apply(e.Update, nil))
	if d.Text("t").String() != mine.Text("t").String() {
		t.Errorf("%q and %q", d.Text("t"), mine.Text("t"))
	}
	// What brings nothing is acknowledged at once.
	if e, err = c.Receive(hocus(Message{Kind: MessageSync, Sync: Sync{SyncUpdate, []byte{0, 0}}})); err != nil || e.Update != nil || len(e.Send) != 1 {
		t.Errorf("an empty update: %+v, %v", e, err)
	}
	if e, err = c.Receive(hocus(Message{Kind: MessageClose})); err != nil || !e.Closed || len(c.Open()) != 0 {
		t.Errorf("close: %+v, %v", e, err)
	}
	for _, m := range []Message{{Kind: MessageBroadcastStateless, Text: "x"}, {Kind: MessageSyncStatus}, {Kind: MessageAuth, Auth: AuthGranted, Text: "x"}} {
		c := NewConnection(nil)
		_, err := c.Receive(hocus(Message{Kind: MessageAuth, Text: "secret"}))
		must(t, err)
		_, _, err = c.Grant(at, Document{d}, false, nil)
		must(t, err)
		if _, err := c.Receive(hocus(m)); !errors.Is(err, ErrUnexpected) {
			t.Errorf("message %d from a client: %v", m.Kind, err)
		}
	}
}

// TestReaders checks that a reader changes nothing, and is told so, but that
// an answer without news is accepted.
func TestReaders(t *testing.T) {
	at := Address{Document: "doc"}
	for _, r := range []Replica{Document{doc(t, 2, "server")}, Update(doc(t, 2, "server").EncodeState(nil))} {
		c := NewConnection(nil)
		_, err := c.Receive(hocus(Message{Kind: MessageAuth, Text: "secret"}))
		must(t, err)
		send, _, err := c.Grant(at, r, true, []byte{0})
		must(t, err)
		if !bytes.Equal(send[0], hocus(Message{Kind: MessageAuth, Auth: AuthGranted, Text: ScopeReadOnly})) || len(send) != 2 {
			t.Errorf("granted: %q", send)
		}
		known, err := r.Missing(nil)
		must(t, err)
		for _, c2 := range []struct {
			name    string
			sync    Sync
			applied bool
		}{
			{"an answer without news", Sync{SyncStep2, known}, true},
			{"an answer with news", Sync{SyncStep2, doc(t, 9, "x").EncodeState(nil)}, false},
			{"an update", Sync{SyncUpdate, known}, false},
		} {
			e, err := c.Receive(hocus(Message{Kind: MessageSync, Sync: c2.sync}))
			must(t, err)
			want := [][]byte{hocus(Message{Kind: MessageSyncStatus, Applied: c2.applied})}
			if e.Update != nil || !cmp.Equal(e.Send, want) {
				t.Errorf("%s: %+v", c2.name, e)
			}
		}
	}
}

func TestQueueLimits(t *testing.T) {
	c := NewConnection(&ConnectionOptions{QueueMessages: 2, Pending: 2})
	query := hocus(Message{Kind: MessageQueryAwareness})
	for range 2 {
		_, err := c.Receive(query)
		must(t, err)
	}
	if _, err := c.Receive(query); !errors.Is(err, ErrQueueFull) {
		t.Errorf("a third message: %v", err)
	}
	c.Deny(Address{Document: "doc"}, "no")
	if c.messages != 0 || c.queued != 0 || c.pending != 0 {
		t.Errorf("after denial: %+v", c)
	}
	for _, name := range []string{"a", "b"} {
		_, err := c.Receive(Message{Document: name, Kind: MessageAuth, Text: "t"}.Append(nil))
		must(t, err)
	}
	if _, err := c.Receive(Message{Document: "c", Kind: MessageAuth, Text: "t"}.Append(nil)); !errors.Is(err, ErrQueueFull) {
		t.Errorf("a third document: %v", err)
	}
}

func FuzzReceive(f *testing.F) {
	d := doc(f, 1, "abc")
	f.Add(wrapFrame(Sync{SyncStep1, d.State().Encode()}))
	f.Add(wrapFrame(Sync{SyncStep2, d.EncodeState(nil)}))
	f.Add(Denied("no"))
	f.Add(hocus(Message{Kind: MessageAuth, Text: "secret", Version: "4"}))
	f.Add(hocus(Message{Kind: MessageSync, Sync: Sync{SyncUpdate, d.EncodeState(nil)}}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		s := &Session{Replica: Document{d}}
		if reply, err := s.Receive(frame); err == nil && reply.Update != nil {
			must(t, yjs.Codec{}.Validate(reply.Update))
		}
		c := NewConnection(nil)
		_, err := c.Receive(hocus(Message{Kind: MessageAuth, Text: "secret"}))
		must(t, err)
		_, _, err = c.Grant(Address{Document: "doc"}, Document{d}, false, nil)
		must(t, err)
		if _, err := c.Receive(frame); err == nil {
			m, err := ParseMessage(frame)
			must(t, err)
			back, err := ParseMessage(m.Append(nil))
			must(t, err)
			if diff := cmp.Diff(m, back); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
