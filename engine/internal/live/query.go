package live

import (
	"bytes"
	"math"
	"slices"
)

// open is the end of a result that is still valid.
const open Timestamp = math.MaxUint64

// body is what a run returned. Results with equal bytes share one, so that comparing pointers mostly does.
type body struct{ bytes []byte }

// result is what one run found. Only through ever changes, once, from open to a watermark.
type result struct {
	body    *body
	from    Timestamp // the snapshot it was computed at
	through Timestamp // the last watermark it is known to be valid at
	wakeAt  Timestamp // the first watermark it cannot be valid at, 0 for none
}

// open reports whether r is valid at the newest watermark. A nil result is not.
func (r *result) open() bool { return r != nil && r.through == open }

// size is the bytes of the body. A nil result has none.
func (r *result) size() int64 {
	if r == nil {
		return 0
	}
	return int64(len(r.body.bytes))
}

// query is what sets watch, shared by all that give the same key.
//
// Invariant: a watched query whose newest result has ended is running or in Machine.delays. A query without a result
// has not been asked for by any round yet, or is running.
type query struct {
	id       QueryID
	key      string
	watchers []*watch
	payer    *set    // of a watcher, the one that the newest result counts for; nil while nobody watches
	runs     []*run  // in progress, by snapshot
	newest   *result // of the highest snapshot
	reads    ReadSet // what the touch index holds for this query; of an older result when newest has ended
	entries  []entry // one for each point, then one for each range in reads

	started uint64 // the last start, by the driver's clock
	took    uint64 // the last run time

	wake  timer[query] // in Machine.wakes while newest is open and ends at a known time
	delay timer[query] // in Machine.delays while newest has ended and the query is watched and not running
}

// run is a run in progress.
type run struct {
	id         RunID
	query      *query
	at         Timestamp
	turn       *set     // that it is started for, nil when nobody watches
	waiters    []*watch // those still waiting have wait set to this run
	prev, next *run     // in Machine.running
}

// runList is a list of runs in the order they were started, which is that of their snapshots.
type runList struct{ first, last *run }

func (l *runList) empty() bool { return l.first == nil }

func (l *runList) push(r *run) {
	r.prev = l.last
	if l.last == nil {
		l.first = r
	} else {
		l.last.next = r
	}
	l.last = r
}

func (l *runList) remove(r *run) {
	if r.prev == nil {
		l.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		l.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
}

// start begins a run of q at the newest watermark.
func (m *Machine) start(q *query, now uint64) *run {
	m.delays.remove(&q.delay)
	m.lastRun++
	r := &run{id: m.lastRun, query: q, at: m.newest, turn: q.idlest()}
	q.runs = append(q.runs, r)
	q.started = now
	m.runs[r.id] = r
	m.running.push(r)
	e := Effect{Kind: StartRun, Run: r.id, Query: q.id, Key: q.key, At: r.at}
	if r.turn != nil {
		r.turn.runs++
		e.Set = r.turn.id
	}
	m.emit(e)
	return r
}

// turnLooksMax is how many of those who watch a query are looked at for one to start it for.
const turnLooksMax = 64

// idlest returns the set, of some that watch q, for which the fewest runs are in progress: a query that is run for everybody must not wait for all that
// one of them watches besides.
func (q *query) idlest() (least *set) {
	for _, w := range q.watchers[:min(len(q.watchers), turnLooksMax)] {
		if least == nil || w.set.runs < least.runs {
			least = w.set
		}
		if least.runs == 0 {
			break
		}
	}
	return least
}

// end closes the newest result of q at watermark through.
func (m *Machine) end(q *query, through Timestamp) {
	q.newest.through = through
	m.wakes.remove(&q.wake)
}

// schedule starts q again, or sets its alarm, when its newest result has ended and nothing else will start it.
func (m *Machine) schedule(q *query, now uint64) {
	if q.newest == nil || q.newest.open() || len(q.watchers) == 0 || len(q.runs) > 0 || q.delay.set() {
		return
	}
	if due := q.started + max(m.opts.Tick, 2*q.took); due > now {
		m.delays.add(&q.delay, due)
		return
	}
	m.start(q, now)
}

// Ran reports the end of a run: what it returned, what it read at its snapshot, the time at which its answer changes by
// itself (0 or a time not above its snapshot for none) and how long it took. Unknown runs are ignored. The body and the
// read set belong to the machine afterwards.
func (m *Machine) Ran(id RunID, returned []byte, reads ReadSet, wakeAt Timestamp, took, now uint64) []Effect {
	m.begin()
	r := m.runs[id]
	if r == nil {
		return nil
	}
	q := r.query
	if wakeAt <= r.at {
		wakeAt = 0
	}
	reads.normalize()
	res := &result{from: r.at, wakeAt: wakeAt}
	res.through = m.history.validThrough(r.at, &reads, wakeAt)
	m.finish(r)
	q.took = took

	old := q.newest
	if old != nil && bytes.Equal(old.body.bytes, returned) {
		res.body = old.body
	} else {
		res.body = &body{bytes: returned}
	}
	switch {
	case old != nil && old.from >= r.at:
		// A later run overtook this one. Only the touch index could tell how long an open result stays valid.
		if res.open() {
			res.through = m.newest
		}
	default:
		if old.open() {
			m.end(q, m.newest)
		}
		q.newest = res
		m.grow(q, res.size()-old.size())
		if res.open() {
			m.touch.install(q, reads)
			if wakeAt != 0 {
				m.wakes.add(&q.wake, wakeAt)
			}
		}
		if old == nil || old.body != res.body {
			m.changed(q)
		}
	}

	// Rounds go first: one that is pinned again may start q for all others too.
	for _, w := range r.waiters {
		if w.wait == r {
			m.receive(w, res, now)
		}
	}
	m.schedule(q, now)
	m.forgetIfIdle(q)
	return m.effects
}

// Room reports whether so many bytes may be what a run returned, where the newest results of all queries may take so many. (What a set is shown
// at the moment may be an older one.) A result counts for one of the sets that watch its query, and none may come to hold more than is left for
// all others: one alone gets half of it, and those who take as much as they can leave as much as each of them has. A result that is not larger
// than the one before it always has room.
func (m *Machine) Room(id RunID, returned int, most int64) bool {
	r := m.runs[id]
	if r == nil {
		return true
	}
	q := r.query
	growth := int64(returned) - q.newest.size()
	left := most - m.bytes - growth
	switch {
	case growth <= 0:
		return true
	case left < 0:
		return false
	case q.payer == nil || q.payer.bytes+growth <= left:
		return true
	}
	// What one set has filled its share with must not be missing on the screens of others.
	for _, w := range q.watchers {
		if w.set != q.payer && w.set.bytes+q.newest.size()+growth <= left {
			m.pay(q, w.set)
			return true
		}
	}
	return false
}

// grow counts a change of the size of the newest result of q.
func (m *Machine) grow(q *query, by int64) {
	m.bytes += by
	if q.payer != nil {
		q.payer.bytes += by
	}
}

// pay has the newest result of q count for another set, or for none.
func (m *Machine) pay(q *query, payer *set) {
	if q.payer != nil {
		q.payer.bytes -= q.newest.size()
	}
	if q.payer = payer; payer != nil {
		payer.bytes += q.newest.size()
	}
}

// finish removes a run and the history only it needed.
func (m *Machine) finish(r *run) {
	delete(m.runs, r.id)
	if r.turn != nil {
		r.turn.runs--
	}
	m.running.remove(r)
	q := r.query
	i := slices.Index(q.runs, r)
	q.runs = slices.Delete(q.runs, i, i+1)
	if m.running.empty() {
		m.history.reset()
	} else {
		m.history.trim(m.running.first.at)
	}
}

// changed notifies the sets that have not seen the newest body of q. A set that has a round open finds out when it has
// been handed that one, a set that waits for a watermark when it is reached.
func (m *Machine) changed(q *query) {
	for _, w := range q.watchers {
		if s := w.set; !s.open && !s.await.set() && w.delivered != q.newest.body {
			m.notify(s)
		}
	}
}

// detach ends the relation of a slot to its query.
func (m *Machine) detach(w *watch) {
	q := w.query
	last := len(q.watchers) - 1
	q.watchers[w.pos] = q.watchers[last]
	q.watchers[w.pos].pos = w.pos
	q.watchers[last] = nil
	q.watchers = q.watchers[:last]
	m.watches--
	switch {
	case last == 0:
		m.pay(q, nil)
	case q.payer == w.set:
		m.pay(q, q.watchers[0].set)
	}
	if last == 0 {
		m.delays.remove(&q.delay)
		m.forgetIfIdle(q)
	}
}

// forgetIfIdle frees q when nobody watches it and it does not run. A query that runs is kept until it has finished, so
// that a set that comes in the meantime can use the result.
func (m *Machine) forgetIfIdle(q *query) {
	if len(q.watchers) > 0 || len(q.runs) > 0 {
		return
	}
	m.wakes.remove(&q.wake)
	m.touch.uninstall(q)
	m.bytes -= q.newest.size()
	delete(m.queries, q.key)
	m.emit(Effect{Kind: Forget, Query: q.id, Key: q.key})
}
