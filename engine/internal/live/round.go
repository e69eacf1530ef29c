package live

import (
	"bytes"
	"slices"
)

// Round is all results of a set at one timestamp, as the difference to the previous round.
type Round struct {
	At      Timestamp
	Changes []Change // by slot
}

// Change is a new result in a slot. The body is shared and must not be modified.
type Change struct {
	Slot uint32
	Body []byte
}

// pinsMax is the number of times a round is pinned; the last pin waits for no run that began below it.
const pinsMax = 3

// set is what one client watches.
//
// Invariant: a set with something to offer (wants) has been notified since its last poll, has a round open, or is in
// Machine.awaits.
type set struct {
	id     SetID
	slots  []*watch  // by slot
	lastAt Timestamp // of the last round handed out
	min    Timestamp // the highest minimum ever asked for
	rise   Timestamp // a wake-up that was due before the round was complete; see receive
	await  timer[set]
	bytes  int64 // of the results that count for it, see Machine.Room
	runs   int   // in progress that were started for it

	floor    Timestamp // the open round is at or above it
	pending  int32     // slots of the open round that wait for a run
	pins     uint8     // how often the open round has been pinned
	open     bool      // a round is open; it is complete when pending is 0
	risen    bool      // rise has been used since the last round
	notified bool      // since the last poll
}

// watch is one slot of a set.
type watch struct {
	set       *set
	query     *query
	delivered *body     // nil before the first round it was in
	held      *result   // in the open round
	wait      *run      // in the open round, while held is nil
	since     Timestamp // the newest watermark when it was added
	slot      uint32
	pos       int32 // in query.watchers
	inRound   bool
}

func (s *set) find(slot uint32) (int, bool) {
	return slices.BinarySearchFunc(s.slots, slot, func(w *watch, slot uint32) int {
		switch {
		case w.slot < slot:
			return -1
		case w.slot > slot:
			return 1
		}
		return 0
	})
}

func (s *set) insert(i int, w *watch) { s.slots = slices.Insert(s.slots, i, w) }

func (s *set) delete(i int) { s.slots = slices.Delete(s.slots, i, i+1) }

// wants reports whether a round would have anything to offer.
func (s *set) wants() bool {
	if s.min > s.lastAt {
		return true
	}
	for _, w := range s.slots {
		if w.delivered == nil || w.query.newest != nil && !w.seen(w.query.newest.body) {
			return true
		}
	}
	return false
}

// seen reports whether b equals what was last delivered.
func (w *watch) seen(b *body) bool {
	if w.delivered == b {
		return true
	}
	if w.delivered == nil || !bytes.Equal(w.delivered.bytes, b.bytes) {
		return false
	}
	w.delivered = b // The next comparison is one of pointers, and the older copy can go.
	return true
}

// lowest returns the least timestamp the next round may have.
func (s *set) lowest() Timestamp {
	t := max(s.lastAt, s.min, s.rise)
	for _, w := range s.slots {
		if w.delivered == nil {
			t = max(t, w.since)
		}
	}
	return t
}

// prompt keeps the invariant of a set that may have something to offer.
func (m *Machine) prompt(s *set, now uint64) {
	switch {
	case s.open || s.notified || !s.wants():
	case s.lowest() > m.newest:
		m.awaitWatermark(s, now)
	default:
		m.notify(s)
	}
}

// awaitWatermark has the set notified once its next round can be.
func (m *Machine) awaitWatermark(s *set, now uint64) {
	m.awaits.remove(&s.await)
	if m.awaits.len() == 0 {
		m.patience = now + m.opts.Tick
	}
	m.awaits.add(&s.await, s.lowest())
	m.advanceIfDue(now)
}

// Poll returns the next round of a set if it is complete. Otherwise it begins one when there is something to offer, and
// a Notify follows when it is complete. A round comes when a slot was never delivered or its query has a newer body, or
// when atLeast is above the last round, then also without changes; it is remembered until a round has reached it. A
// round that was already open when it was asked for may be below it, and the one that reaches it follows. Unknown sets
// have no rounds.
func (m *Machine) Poll(id SetID, atLeast Timestamp, now uint64) (Round, bool, []Effect) {
	m.begin()
	s := m.sets[id]
	if s == nil {
		return Round{}, false, nil
	}
	s.notified = false
	s.min = max(s.min, atLeast)
	if !s.open {
		if !s.wants() {
			return Round{}, false, m.effects
		}
		if s.lowest() > m.newest {
			m.awaitWatermark(s, now)
			return Round{}, false, m.effects
		}
		m.awaits.remove(&s.await)
		s.open, s.floor = true, s.lowest()
		for _, w := range s.slots {
			w.inRound = true
		}
		if !s.agree() {
			m.pin(s, now)
		}
	}
	if s.pending > 0 {
		return Round{}, false, m.effects
	}
	round, ok := m.take(s)
	m.prompt(s, now)
	return round, ok, m.effects
}

// pin decides where each slot of an open round gets a result from that is valid at the newest watermark, or may be.
func (m *Machine) pin(s *set, now uint64) {
	if s.pins >= pinsMax {
		broken("round of set %d ended without a common timestamp", s.id)
	}
	s.pins++
	if low := s.lowest(); low <= m.newest {
		s.floor = low // At a later pin it may have risen.
	}
	s.pending = 0
	for _, w := range s.slots {
		if !w.inRound {
			continue
		}
		w.held, w.wait = nil, nil
		q := w.query
		if q.newest != nil && q.newest.through >= m.newest {
			w.held = q.newest
			continue
		}
		var r *run
		if n := len(q.runs); n > 0 && (q.runs[n-1].at == m.newest || s.pins < pinsMax) {
			r = q.runs[n-1]
		} else {
			r = m.start(q, now)
		}
		w.wait = r
		r.waiters = append(r.waiters, w)
		s.pending++
	}
}

// agree completes an open round with the newest result of every slot if these have a timestamp in common that the round
// may have.
func (s *set) agree() bool {
	low, high := s.floor, open
	for _, w := range s.slots {
		if !w.inRound {
			continue
		}
		r := w.query.newest
		if r == nil {
			return false
		}
		low, high = max(low, r.from), min(high, r.through)
	}
	if low > high {
		return false
	}
	for _, w := range s.slots {
		if w.inRound {
			w.held, w.wait = w.query.newest, nil
		}
	}
	s.pending = 0
	return true
}

// span returns the timestamps an open round may still have: none when low is above high.
func (s *set) span() (low, high Timestamp) {
	low, high = s.floor, open
	for _, w := range s.slots {
		switch {
		case !w.inRound:
		case w.held != nil:
			low, high = max(low, w.held.from), min(high, w.held.through)
		default:
			low = max(low, w.wait.at)
		}
	}
	return low, high
}

// receive gives a slot the result it has waited for.
func (m *Machine) receive(w *watch, res *result, now uint64) {
	s := w.set
	w.wait, w.held = nil, res
	s.pending--
	// After a quiet time the newest watermark may be long past, and a first answer that holds there may not hold now.
	// Such an answer is not shown: the round begins again when time has moved on. Once a round, or a query that
	// changes faster than it runs would never be shown.
	if w.delivered == nil && !s.risen && res.open() && res.wakeAt != 0 && res.wakeAt <= now {
		s.risen, s.rise = true, res.wakeAt
		m.drop(s)
		m.prompt(s, now)
		return
	}
	m.settle(s, now)
}

// settle completes an open round if it can be, and pins it again if its results cannot agree any more.
func (m *Machine) settle(s *set, now uint64) {
	if !s.agree() {
		if low, high := s.span(); low > high {
			m.pin(s, now)
		}
	}
	if s.pending == 0 {
		m.notify(s)
	}
}

// leaveRound takes a slot that its set no longer lists out of the open round. The others have no fewer timestamps in
// common without it, so the round is never pinned again for that.
func (m *Machine) leaveRound(w *watch) {
	if !w.inRound {
		return
	}
	w.inRound, w.held = false, nil
	if w.wait != nil {
		w.wait = nil
		w.set.pending--
	}
	if w.set.pending == 0 {
		m.notify(w.set)
	}
}

// drop closes the open round without handing it out.
func (m *Machine) drop(s *set) {
	for _, w := range s.slots {
		w.inRound, w.held, w.wait = false, nil, nil
	}
	s.open, s.pending, s.pins, s.floor = false, 0, 0, 0
}

// take closes a complete round and returns it, false when it has nothing that was asked for.
func (m *Machine) take(s *set) (Round, bool) {
	if s.pins > 0 {
		s.agree() // Newer results may have come since it was complete.
	}
	_, high := s.span()
	round := Round{At: min(high, m.newest)}
	for _, w := range s.slots {
		if w.inRound && !w.seen(w.held.body) {
			round.Changes = append(round.Changes, Change{Slot: w.slot, Body: w.held.body.bytes})
			w.delivered = w.held.body
		}
	}
	m.drop(s)
	if len(round.Changes) == 0 && (s.min <= s.lastAt || round.At < s.min) {
		return Round{}, false
	}
	s.lastAt = round.At
	s.risen, s.rise = false, 0
	return round, true
}
