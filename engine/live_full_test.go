package engine_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// The newest results of live queries are bounded, to the byte. A query for whose result there is no room shows so, and shows its result once
// there is.
func TestLiveResultsAreBounded(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	const limit = 64 << 10
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, LiveResultBytesMax: limit})
	sized := func(key string, n int) engine.LiveQuery {
		return engine.LiveQuery{
			Key: key, Run: func(*engine.Tx) []byte { return bytes.Repeat([]byte{key[0]}, n) },
			Full: func() []byte { return []byte("full " + key) },
		}
	}
	s := newScreen(db)
	defer s.Close()
	shown := map[uint32]string{}
	until := func(what string, holds func() bool) {
		t.Helper()
		for min := engine.Timestamp(0); !holds(); min++ {
			r := s.nextMoving(clock, min)
			for _, c := range r.Changes {
				shown[c.ID] = string(c.Body)
			}
			min = r.At
		}
		t.Log(what)
	}
	has := func(id uint32, key string, n int) bool { return shown[id] == strings.Repeat(key, n) }

	s.Add(1, sized("a", limit/2))
	s.Add(2, sized("b", limit/2-10))
	until("two fit", func() bool { return has(1, "a", limit/2) && has(2, "b", limit/2-10) })
	s.Add(3, sized("c", 11))
	until("one byte too many", func() bool { return shown[3] == "full c" })
	other := newScreen(db) // what is there already is shown to others too
	defer other.Close()
	other.Add(1, sized("a", limit/2))
	if r := other.nextMoving(clock, 0); len(r.Changes) != 1 || len(r.Changes[0].Body) != limit/2 {
		t.Errorf("another screen was shown %d changes", len(r.Changes))
	}
	s.Remove(2)
	until("there is room again", func() bool { return has(3, "c", 11) })
	s.Add(4, sized("d", limit/2-11))
	until("as much as there is room for", func() bool { return has(4, "d", limit/2-11) })
	s.Add(5, sized("e", 1))
	until("and not one more", func() bool { return shown[5] == "full e" })
}
