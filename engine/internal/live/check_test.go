package live

import (
	"errors"
	"fmt"
	"slices"
)

// check returns the invariants of the machine that do not hold. It takes time in proportion to all that is in it.
func (m *Machine) check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	watches := 0
	for id, s := range m.sets {
		if s.id != id {
			fail("set %d is filed under %d", s.id, id)
		}
		pending := int32(0)
		for i, w := range s.slots {
			watches++
			switch {
			case i > 0 && s.slots[i-1].slot >= w.slot:
				fail("set %d: slots out of order", id)
			case w.set != s:
				fail("set %d slot %d: belongs to another set", id, w.slot)
			case w.query.watchers[w.pos] != w:
				fail("set %d slot %d: not among the watchers of %s", id, w.slot, w.query.key)
			case m.queries[w.query.key] != w.query:
				fail("set %d slot %d: watches a forgotten query", id, w.slot)
			case !w.inRound && (w.held != nil || w.wait != nil):
				fail("set %d slot %d: holds something outside a round", id, w.slot)
			case w.inRound && !s.open:
				fail("set %d slot %d: in a round that is not open", id, w.slot)
			case w.inRound && (w.held != nil) == (w.wait != nil):
				fail("set %d slot %d: must hold a result or wait for one", id, w.slot)
			}
			if w.held.open() && w.held != w.query.newest {
				fail("set %d slot %d: holds an open result that nothing can end", id, w.slot)
			}
			if w.wait != nil {
				pending++
				if m.runs[w.wait.id] != w.wait {
					fail("set %d slot %d: waits for a finished run", id, w.slot)
				}
			}
		}
		if pending != s.pending {
			fail("set %d: %d slots wait, %d counted", id, pending, s.pending)
		}
		if s.open {
			if low, high := s.span(); low > high {
				fail("set %d: no timestamp left", id)
			}
			if s.pending == 0 && !s.notified {
				fail("set %d: nobody knows that its round is complete", id)
			}
		}
		if s.pins > pinsMax {
			fail("set %d: pinned %d times", id, s.pins)
		}
		if s.wants() && !s.open && !s.notified && !s.await.set() {
			fail("set %d: lost wake-up", id)
		}
	}
	if watches != m.watches {
		fail("%d watches, %d counted", watches, m.watches)
	}
	points, ranges := 0, 0
	bytes, paid := int64(0), map[*set]int64{}
	for key, q := range m.queries {
		bytes += q.newest.size()
		if q.payer != nil {
			paid[q.payer] += q.newest.size()
		}
		switch {
		case (q.payer == nil) != (len(q.watchers) == 0):
			fail("query %s: %d watchers, counts for %v", key, len(q.watchers), q.payer)
		case q.payer != nil && !slices.ContainsFunc(q.watchers, func(w *watch) bool { return w.set == q.payer }):
			fail("query %s counts for set %d, which does not watch it", key, q.payer.id)
		case q.key != key:
			fail("query %s is filed under %s", q.key, key)
		case len(q.watchers) == 0 && len(q.runs) == 0:
			fail("query %s is not forgotten", key)
		case len(q.watchers) > 0 && q.newest != nil && !q.newest.open() && len(q.runs) == 0 && !q.delay.set():
			fail("query %s: nothing will run it again", key)
		case q.delay.set() && (len(q.runs) > 0 || len(q.watchers) == 0 || q.newest.open()):
			fail("query %s: delayed for nothing", key)
		case q.wake.set() != (q.newest.open() && q.newest.wakeAt != 0):
			fail("query %s: wake-up %v", key, q.wake.set())
		case q.newest != nil && q.newest.through < q.newest.from:
			fail("query %s: valid from %d through %d", key, q.newest.from, q.newest.through)
		}
		points += len(q.reads.Points)
		ranges += len(q.reads.Ranges)
	}
	if points != m.touch.pointCount || ranges != m.touch.rangeCount {
		fail("%d points and %d ranges, %d and %d counted", points, ranges, m.touch.pointCount, m.touch.rangeCount)
	}
	turns := map[*set]int{}
	for _, r := range m.runs {
		turns[r.turn]++
	}
	for id, s := range m.sets {
		if s.runs != turns[s] {
			fail("set %d: %d runs in progress are for it, %d counted", id, turns[s], s.runs)
		}
	}
	n := 0
	for r := m.running.first; r != nil; r = r.next {
		n++
		if m.runs[r.id] != r {
			fail("run %d is not known", r.id)
		}
		if r.next != nil && r.next.at < r.at {
			fail("runs out of order")
		}
	}
	if n != len(m.runs) {
		fail("%d runs listed, %d known", n, len(m.runs))
	}
	if n == 0 && m.history.len() > 0 {
		fail("history without a run")
	}
	if bytes != m.bytes {
		fail("%d bytes of results, %d counted", bytes, m.bytes)
	}
	for id, s := range m.sets {
		if s.bytes != paid[s] {
			fail("set %d: %d bytes of results count for it, %d counted", id, paid[s], s.bytes)
		}
	}
	return errors.Join(errs...)
}
