package awareness

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func set(t *testing.T, a *Awareness, state string, now time.Time) []byte {
	t.Helper()
	var raw json.RawMessage
	if state != "" {
		raw = json.RawMessage(state)
	}
	u, _, err := a.SetLocal(raw, now)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func apply(t *testing.T, a *Awareness, u []byte, now time.Time) Change {
	t.Helper()
	c, err := a.Apply(u, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestExchange(t *testing.T) {
	a, server := New(1, nil), NewServer(nil)
	first := set(t, a, `{}`, t0) // clock 0, which is news to nobody
	if c := apply(t, server, first, t0); !c.Empty() {
		t.Errorf("the state of clock 0: %+v", c)
	}
	u := set(t, a, `{"name":"Ada","x":1}`, t0)
	if diff := cmp.Diff(Change{Added: []uint64{1}}, apply(t, server, u, t0)); diff != "" {
		t.Error(diff)
	}
	if c := apply(t, server, u, t0); !c.Empty() {
		t.Errorf("the same again: %+v", c)
	}
	renewed := set(t, a, `{"x":1,"name":"Ada"}`, t0)
	if diff := cmp.Diff(Change{Updated: []uint64{1}}, apply(t, server, renewed, t0)); diff != "" {
		t.Error(diff)
	}
	if c := apply(t, server, u, t0); !c.Empty() {
		t.Errorf("an old state: %+v", c)
	}
	moved := set(t, a, `{"name":"Ada","x":2}`, t0)
	if diff := cmp.Diff(Change{Updated: []uint64{1}, Changed: []uint64{1}}, apply(t, server, moved, t0)); diff != "" {
		t.Error(diff)
	}
	if got := string(server.State(1)); got != `{"name":"Ada","x":2}` {
		t.Errorf("state %s", got)
	}
	b := New(2, nil)
	apply(t, b, server.EncodeAll(), t0)
	if diff := cmp.Diff(server.States(), b.States()); diff != "" {
		t.Error(diff)
	}
	// The server removes the client with the clock it has, and everybody accepts.
	if diff := cmp.Diff(Change{Removed: []uint64{1}}, server.Remove(t0, 1)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Change{Removed: []uint64{1}}, apply(t, b, server.Encode(1), t0)); diff != "" {
		t.Error(diff)
	}
	// Except for the client itself, which says it is still there.
	apply(t, a, server.Encode(1), t0)
	if a.State(1) == nil {
		t.Error("others removed the local state")
	}
	apply(t, b, a.Encode(1), t0)
	if b.State(1) == nil {
		t.Error("the local state is not back")
	}
}

func TestTime(t *testing.T) {
	a, b := New(1, nil), New(2, nil)
	set(t, a, `1`, t0)
	apply(t, b, set(t, a, `2`, t0), t0)
	if a.Renew(t0.Add(14*time.Second)) != nil {
		t.Error("renewed too early")
	}
	u := a.Renew(t0.Add(15 * time.Second))
	if u == nil {
		t.Fatal("not renewed")
	}
	if c := b.Expire(t0.Add(29 * time.Second)); !c.Empty() {
		t.Errorf("expired too early: %+v", c)
	}
	apply(t, b, u, t0.Add(16*time.Second))
	if c := b.Expire(t0.Add(45 * time.Second)); !c.Empty() {
		t.Errorf("expired although renewed: %+v", c)
	}
	if diff := cmp.Diff(Change{Removed: []uint64{1}}, b.Expire(t0.Add(46*time.Second))); diff != "" {
		t.Error(diff)
	}
	if c := apply(t, b, u, t0.Add(50*time.Second)); !c.Empty() {
		t.Error("an expired state came back")
	}
	b.Expire(t0.Add(2 * time.Hour))
	if len(b.clients) != 0 {
		t.Error("a client that is gone is remembered for ever")
	}
}

func TestHostile(t *testing.T) {
	deep := strings.Repeat("[", 1e5) + strings.Repeat("]", 1e5)
	for name, u := range map[string][]byte{
		"empty":        {},
		"count":        {255, 255, 255, 255, 31},
		"trailing":     {0, 0},
		"truncated":    {1, 1, 1, 4, 'n'},
		"not JSON":     {1, 1, 1, 1, '{'},
		"not UTF-8":    {1, 1, 1, 3, '"', 0xff, '"'},
		"two values":   {1, 1, 1, 3, '1', ' ', '2'},
		"deep":         Encode([]Entry{{1, 1, json.RawMessage(deep)}}),
		"large":        Encode([]Entry{{1, 1, json.RawMessage(`"` + strings.Repeat("x", 1<<17) + `"`)}}),
		"many clients": Encode(make([]Entry, 1001)),
	} {
		a := NewServer(nil)
		if _, err := a.Apply(u, t0); err == nil {
			t.Errorf("%s is accepted", name)
		} else if name == "large" && !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
		if len(a.clients) > 0 {
			t.Errorf("%s left something behind", name)
		}
	}
}

func TestOwned(t *testing.T) {
	server := NewServer(nil)
	mine, theirs := map[uint64]struct{}{}, map[uint64]struct{}{}
	send := func(owned map[uint64]struct{}, client uint64) bool {
		entries := []Entry{{client, 1, json.RawMessage(`{}`)}}
		if !server.Owned(entries, owned, 2) {
			return false
		}
		_, err := server.ApplyEntries(entries, t0)
		return err == nil
	}
	for i, ok := range []bool{send(mine, 1), send(mine, 1), send(theirs, 2), send(mine, 3)} {
		if !ok {
			t.Errorf("message %d: a connection can't speak for its own clients", i)
		}
	}
	if send(theirs, 1) {
		t.Error("a connection can speak for another's client")
	}
	if send(mine, 4) {
		t.Error("a connection can speak for any number of clients")
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte{0})
	f.Add(Encode([]Entry{{1, 1, json.RawMessage(`{"a":[1,"é"]}`)}, {2, 3, nil}}))
	f.Fuzz(func(t *testing.T, u []byte) {
		a := NewServer(nil)
		if _, err := a.Apply(u, t0); err != nil {
			return
		}
		b := NewServer(nil)
		if _, err := b.Apply(a.EncodeAll(), t0); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a.States(), b.States()); diff != "" {
			t.Fatal(diff)
		}
	})
}
