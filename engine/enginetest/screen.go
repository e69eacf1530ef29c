package enginetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/halcyon-db/halcyon/engine"
)

// Screen is a set of live queries whose rounds a History checks: whatever the
// set shows at a timestamp must be what its queries read at that timestamp. It
// is made by History.NewScreen and is not safe for concurrent use.
type Screen struct {
	h     *History
	set   *engine.QuerySet
	told  chan struct{}
	shown map[uint32][]byte
	last  engine.Timestamp
}

// ran is what runs of live queries have read, by the bodies that tell it.
type ran struct {
	sync.Mutex
	ops map[string][]op
}

// NewScreen returns a screen that shows nothing.
func (h *History) NewScreen() *Screen {
	s := &Screen{h: h, told: make(chan struct{}, 1), shown: map[uint32][]byte{}}
	s.set = h.db.NewQuerySet(func() {
		select {
		case s.told <- struct{}{}:
		default:
		}
	})
	return s
}

// Add begins to watch a query under an id. Queries of equal keys must read the
// same. The reads of f are the answer. An error of it must not be shown, except
// that it has run out of time.
func (s *Screen) Add(id uint32, key string, f func(*Tx) error) {
	h := s.h
	delete(s.shown, id)
	s.set.Add(id, engine.LiveQuery{Key: key, Run: func(etx *engine.Tx) []byte {
		tx := &Tx{Tx: etx, schema: h.schema}
		body := key + "\n"
		switch err := f(tx); {
		case errors.Is(err, engine.ErrTimeout):
			tx.ops, body = nil, body+err.Error() // it has no answer, and shows that
		case err != nil:
			return fmt.Append(nil, "error: ", err)
		default:
			body += describe(tx.ops)
		}
		h.ran.Lock()
		defer h.ran.Unlock()
		if h.ran.ops == nil {
			h.ran.ops = map[string][]op{}
		}
		h.ran.ops[body] = tx.ops
		return []byte(body)
	}})
}

// Remove ends to watch the query with that id.
func (s *Screen) Remove(id uint32) {
	s.set.Remove(id)
	delete(s.shown, id)
}

// Close stops watching everything.
func (s *Screen) Close() { s.set.Close() }

// Told is sent to when Poll may have a round.
func (s *Screen) Told() <-chan struct{} { return s.told }

// Poll takes the next round, if there is one, and has the history remember it.
// An error is a round that no order of commits allows.
func (s *Screen) Poll(min engine.Timestamp) (at engine.Timestamp, ok bool, err error) {
	r, ok := s.set.Poll(min)
	if !ok {
		return 0, false, nil
	}
	if r.At < s.last {
		return r.At, true, fmt.Errorf("a round at %d after one at %d", r.At, s.last)
	}
	s.last = r.At
	for _, c := range r.Changes {
		s.shown[c.ID] = c.Body
	}
	for id, body := range s.shown {
		s.h.ran.Lock()
		ops, known := s.h.ran.ops[string(body)]
		s.h.ran.Unlock()
		if !known {
			return r.At, true, fmt.Errorf("query %d shows %q at %d, which no run returned", id, body, r.At)
		}
		s.h.add(transaction{at: r.At, live: true, name: fmt.Sprint("live query ", id), ops: ops})
	}
	return r.At, true, nil
}

// describe returns what a transaction got, so that equal texts are equal
// answers.
func describe(ops []op) string {
	var out strings.Builder
	for _, o := range ops {
		fmt.Fprintln(&out, o.kind, o.scan, o.ok, o.n, show(o.doc), o.doc.CreationTime, showGroups(o.groups), showTotal(o.total), o.until)
	}
	return out.String()
}
