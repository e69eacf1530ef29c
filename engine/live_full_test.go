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
	s, other, third := newTold(t, db, clock), newTold(t, db, clock), newTold(t, db, clock)
	s.Add(1, sized("a", limit/2))
	s.until("as much as is left then", s.has(1, "a", limit/2))
	s.Add(2, sized("b", 1))
	s.until("one byte more", func() bool { return s.shown[2] == "full b" })
	other.Add(1, sized("a", limit/2))
	other.until("what is there is shown to others too", other.has(1, "a", limit/2))

	s.Remove(2)
	const quarter = limit / 4
	other.Add(2, sized("c", quarter+1))
	other.until("more than is left then", func() bool { return other.shown[2] == "full c" })
	other.Remove(2)
	other.Add(3, sized("d", quarter))
	other.until("as much as is left then, for another", other.has(3, "d", quarter))
	third.Add(1, sized("e", quarter/2+1))
	third.until("a byte too many", func() bool { return third.shown[1] == "full e" })
	other.Remove(3)
	third.until("there is room again", third.has(1, "e", quarter/2+1))

	// What s had counts for the other one, that watches it still.
	s.Remove(1)
	other.Add(4, sized("f", 1))
	other.until("nothing is left for it", func() bool { return other.shown[4] == "full f" })
	s.Add(5, sized("g", 1))
	s.until("and something for s", s.has(5, "g", 1))
}

// A result that others watch too must not fail on their screens because one of them has filled its share.
func TestFullSetDoesNotHoldUpOthers(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	const limit = 64 << 10
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, LiveResultBytesMax: limit})
	counters := db.Table("counters")
	id := insert(t, db, "counters", fields("name", "x", "n", 1))
	shared := engine.LiveQuery{
		Key: "shared", Full: func() []byte { return []byte("full") },
		Run: func(tx *engine.Tx) []byte {
			d, _, err := tx.Get(counters, id)
			if err != nil {
				return []byte(err.Error())
			}
			name, _ := d.Fields.Get("name").AsString()
			return []byte(name)
		},
	}
	s, other := newTold(t, db, clock), newTold(t, db, clock)
	s.Add(1, shared)
	s.until("it is the first that watches", s.has(1, "x", 1))
	other.Add(1, shared)
	other.until("both watch", other.has(1, "x", 1))
	s.Add(2, engine.LiveQuery{
		Key: "large", Run: func(*engine.Tx) []byte { return bytes.Repeat([]byte("l"), limit/2-1) }, Full: func() []byte { return []byte("full") },
	})
	s.until("it has filled its share", s.has(2, "l", limit/2-1))
	mutate(t, db, func(tx *engine.Tx) error {
		return tx.Replace(counters, id, fields("name", strings.Repeat("x", 1_000), "n", 1))
	})
	other.until("the other sees the change", other.has(1, "x", 1_000))
	s.until("and so does the first", s.has(1, "x", 1_000))
}

// told is a screen with what it shows.
type told struct {
	*screen
	t     *testing.T
	clock *enginetest.Clock
	shown map[uint32]string
}

func newTold(t *testing.T, db *engine.DB, clock *enginetest.Clock) *told {
	s := &told{newScreen(db), t, clock, map[uint32]string{}}
	t.Cleanup(s.Close)
	return s
}

// until takes rounds until what they show holds.
func (s *told) until(what string, holds func() bool) {
	s.t.Helper()
	for min := engine.Timestamp(0); !holds(); min++ {
		r := s.nextMoving(s.clock, min)
		for _, c := range r.Changes {
			s.shown[c.ID] = string(c.Body)
		}
		min = r.At
	}
	s.t.Log(what)
}

func (s *told) has(id uint32, text string, n int) func() bool {
	return func() bool { return s.shown[id] == strings.Repeat(text, n) }
}
