package live

import (
	"fmt"
	"maps"
	"slices"
)

// Timestamp is a point in the commit order: microseconds since the Unix epoch, strictly increasing from one group to
// the next. The clock the driver passes as now has the same scale.
type Timestamp = uint64

// SetID names a query set: what one client watches. The driver chooses it.
type SetID uint64

// QueryID names a query for as long as it is known to the machine; it is never used again afterwards.
type QueryID uint64

// RunID names one run of a query; it is never used again.
type RunID uint64

// EffectKind says what the driver has to do.
type EffectKind uint8

const (
	// StartRun asks for a run of query Key at snapshot At, which is the newest watermark. The driver answers with Ran,
	// also when the run has failed or was given up: sets wait for it, and history is kept until then. It is asked for
	// on behalf of Set, so that the driver can give each set its turn; 0 when nobody watches the query.
	StartRun EffectKind = iota + 1
	// Notify asks to have Poll called for Set: it may have a round now.
	Notify
	// AdvanceTime asks for an empty group at the present time, which comes back as Committed without keys.
	AdvanceTime
	// Forget says that query Key has neither watchers nor runs left: what it takes to run it can be freed.
	Forget
)

// String returns the kind's name, as traces show it.
func (k EffectKind) String() string {
	switch k {
	case StartRun:
		return "start-run"
	case Notify:
		return "notify"
	case AdvanceTime:
		return "advance-time"
	case Forget:
		return "forget"
	}
	return fmt.Sprintf("effect(%d)", uint8(k))
}

// Effect is one thing for the driver to do. Only the fields that belong to its kind are set: Run, Query, Key, At and Set for
// StartRun, Set for Notify, Query and Key for Forget, none for AdvanceTime.
type Effect struct {
	Kind  EffectKind
	Run   RunID
	Query QueryID
	Key   string
	At    Timestamp
	Set   SetID
}

// Options adjust a machine. The zero value of each field means its default.
type Options struct {
	// Tick is the least time between two eager starts of one query, in microseconds. Default 10,000.
	Tick uint64
	// Newest is the watermark to begin with: that of the newest durable group. Default 0.
	Newest Timestamp
	// HistoryMax bounds the written keys, plus one for each group, that are remembered for runs in progress. Beyond it
	// the oldest groups are dropped, and a run that began below a dropped one yields a result that is valid at its
	// snapshot only. Default 262,144.
	HistoryMax int
	// AdvanceRetry is the time after which an AdvanceTime that moved nothing is asked for again, in microseconds; that
	// happens when the wall clock steps backwards. Default 1,000,000.
	AdvanceRetry uint64
}

func (o Options) withDefaults() Options {
	if o.Tick == 0 {
		o.Tick = 10_000
	}
	if o.HistoryMax == 0 {
		o.HistoryMax = 1 << 18
	}
	if o.AdvanceRetry == 0 {
		o.AdvanceRetry = 1_000_000
	}
	return o
}

// Machine is the state of all live queries of a database. It is made by New; its zero value is not usable. No method
// may be called while another one runs.
type Machine struct {
	opts    Options
	newest  Timestamp // the newest watermark
	bytes   int64     // of the newest results, see Room
	sets    map[SetID]*set
	queries map[string]*query
	runs    map[RunID]*run
	lastQID QueryID
	lastRun RunID

	touch   touchIndex
	history history
	running runList // runs in progress by start, hence by snapshot

	wakes  timers[query] // open results, by the moment they end
	delays timers[query] // ended results, by the moment their query may start again
	awaits timers[set]   // sets that need a newer watermark, by that watermark
	// Until patience has passed, awaits alone ask for no AdvanceTime: whoever was just told of a commit and asks for its
	// timestamp may be faster than Committed, and an empty group for each of them would double the commits.
	patience uint64
	advance  struct {
		asked bool      // an AdvanceTime is under way
		at    Timestamp // when it was asked for, which is also the watermark it must reach
	}

	watches int
	effects []Effect
	hits    []*query // scratch of Committed
}

// New returns a machine that watches nothing.
func New(o Options) *Machine {
	o = o.withDefaults()
	return &Machine{
		opts:    o,
		newest:  o.Newest,
		sets:    make(map[SetID]*set),
		queries: make(map[string]*query),
		runs:    make(map[RunID]*run),
		touch:   newTouchIndex(),
		history: history{sizeMax: o.HistoryMax},
	}
}

// Newest returns the newest watermark: the snapshot of any run that starts now.
func (m *Machine) Newest() Timestamp { return m.newest }

// Open begins the life of a set that watches nothing. Opening an open set does nothing.
func (m *Machine) Open(id SetID) {
	if m.sets[id] != nil {
		return
	}
	s := &set{id: id}
	s.await.of = s
	m.sets[id] = s
}

// Close ends the life of a set and everything it watches. Closing an unknown set does nothing.
func (m *Machine) Close(id SetID) []Effect {
	m.begin()
	s := m.sets[id]
	if s == nil {
		return nil
	}
	delete(m.sets, id)
	m.awaits.remove(&s.await)
	for _, w := range s.slots {
		w.wait = nil // A run that still lists w as a waiter will skip it.
		m.detach(w)
	}
	s.slots = nil
	return m.effects
}

// Watch adds a slot to a set. Equal keys mean the same query. A slot that exists is replaced, and counts as never
// delivered. Unknown sets are ignored.
func (m *Machine) Watch(id SetID, slot uint32, key string, now uint64) []Effect {
	m.begin()
	s := m.sets[id]
	if s == nil {
		return nil
	}
	q := m.queries[key]
	if q == nil {
		m.lastQID++
		q = &query{id: m.lastQID, key: key}
		q.wake.of, q.delay.of = q, q
		m.queries[key] = q
	}
	w := &watch{set: s, query: q, slot: slot, since: m.newest, pos: int32(len(q.watchers))}
	q.watchers = append(q.watchers, w)
	if q.payer == nil {
		m.pay(q, s)
	}
	m.watches++
	i, found := s.find(slot)
	if found {
		old := s.slots[i]
		s.slots[i] = w
		m.leaveRound(old)
		m.detach(old)
	} else {
		s.insert(i, w)
	}
	m.prompt(s, now)
	return m.effects
}

// Unwatch removes a slot from a set. Unknown sets and slots are ignored.
func (m *Machine) Unwatch(id SetID, slot uint32) []Effect {
	m.begin()
	s := m.sets[id]
	if s == nil {
		return nil
	}
	i, found := s.find(slot)
	if !found {
		return nil
	}
	w := s.slots[i]
	s.delete(i)
	m.leaveRound(w)
	m.detach(w)
	return m.effects
}

// Committed reports a durable group: at is the newest watermark from now on, and keys are all encoded keys it wrote,
// none when only time has moved. REQUIRES: at is above every earlier watermark. The keys belong to the machine
// afterwards.
func (m *Machine) Committed(at Timestamp, keys [][]byte, now uint64) []Effect {
	return m.committed(at, keys, false, now)
}

// Replaced is Committed for a group that wrote more keys than can be listed, as when a table was loaded: every query
// runs again.
func (m *Machine) Replaced(at Timestamp, now uint64) []Effect { return m.committed(at, nil, true, now) }

func (m *Machine) committed(at Timestamp, keys [][]byte, all bool, now uint64) []Effect {
	m.begin()
	if at <= m.newest {
		if at == m.newest && len(keys) == 0 {
			return nil
		}
		broken("watermark %d does not follow %d", at, m.newest)
	}
	before := m.newest
	m.newest = at
	if !m.running.empty() {
		if m.history.add(before, at, keys); all {
			m.history.lose()
		}
	}
	if m.advance.asked && at >= m.advance.at {
		m.advance.asked = false
	}

	ended := m.hits[:0]
	for _, k := range keys {
		from := len(ended)
		ended = m.touch.appendHits(ended, k)
		// Keep only the queries this key ends. The others have ended before, some by this very key.
		n := from
		for _, q := range ended[from:] {
			if q.newest.open() {
				m.end(q, before)
				ended[n] = q
				n++
			}
		}
		ended = ended[:n]
	}
	if all {
		for _, key := range slices.Sorted(maps.Keys(m.queries)) {
			if q := m.queries[key]; q.newest != nil && q.newest.open() {
				m.end(q, before)
				ended = append(ended, q)
			}
		}
	}
	for t := m.wakes.due(at); t != nil; t = m.wakes.due(at) {
		m.end(t.of, before)
		ended = append(ended, t.of)
	}
	for _, q := range ended {
		m.schedule(q, now)
	}
	clear(ended)
	m.hits = ended[:0]

	m.patience = now + m.opts.Tick
	for t := m.awaits.due(at); t != nil; t = m.awaits.due(at) {
		m.awaits.remove(t)
		m.notify(t.of)
	}
	return m.effects
}

// Alarm starts what has become due. The driver calls it at NextAlarm or later; calling it early does no harm.
func (m *Machine) Alarm(now uint64) []Effect {
	m.begin()
	for t := m.delays.due(now); t != nil; t = m.delays.due(now) {
		m.start(t.of, now)
	}
	m.advanceIfDue(now)
	return m.effects
}

// NextAlarm returns when Alarm has to be called next, and false when there is nothing to wait for. It may have changed
// after any event.
func (m *Machine) NextAlarm() (Timestamp, bool) {
	next, ok := m.nextAdvance()
	if ok && m.advance.asked {
		next = max(next, m.advance.at+m.opts.AdvanceRetry)
	}
	if t, some := m.delays.next(); some && (!ok || t < next) {
		next, ok = t, true
	}
	return next, ok
}

// nextAdvance returns the earliest time at which something waits for a watermark that is due then.
func (m *Machine) nextAdvance() (Timestamp, bool) {
	next, ok := m.wakes.next()
	if t, some := m.awaits.next(); some {
		if t = max(t, m.patience); !ok || t < next {
			return t, true
		}
	}
	return next, ok
}

// advanceIfDue asks for the present time when something waits for a watermark that is due.
func (m *Machine) advanceIfDue(now uint64) {
	next, ok := m.nextAdvance()
	if !ok || next > now || m.advance.asked && now < m.advance.at+m.opts.AdvanceRetry {
		return
	}
	m.advance.asked, m.advance.at = true, now
	m.emit(Effect{Kind: AdvanceTime})
}

// Stats counts what a machine holds. All fields are zero once every set is closed and every run reported.
type Stats struct {
	Sets    int // open sets
	Watches int // slots of all sets
	Queries int // distinct queries, watched or still running
	Runs    int // runs in progress
	Points  int // point reads in the touch index
	Ranges  int // range reads in the touch index
	History int // groups remembered for the runs in progress
	Wakes   int // results that end at a known time
	Delays  int // queries that wait for their turn to run again
	Awaits  int // sets that wait for a newer watermark
}

// Stats returns what the machine holds at the moment.
func (m *Machine) Stats() Stats {
	return Stats{
		Sets: len(m.sets), Watches: m.watches, Queries: len(m.queries), Runs: len(m.runs),
		Points: m.touch.pointCount, Ranges: m.touch.rangeCount,
		History: m.history.len(),
		Wakes:   m.wakes.len(), Delays: m.delays.len(), Awaits: m.awaits.len(),
	}
}

func (m *Machine) begin() { m.effects = m.effects[:0] }

func (m *Machine) emit(e Effect) { m.effects = append(m.effects, e) }

// notify tells the driver to poll a set, unless it has been told since the last poll.
func (m *Machine) notify(s *set) {
	if !s.notified {
		s.notified = true
		m.emit(Effect{Kind: Notify, Set: s.id})
	}
}

// broken panics: the named invariant does not hold, so nothing computed from here on could be trusted.
func broken(format string, args ...any) {
	panic("live: broken invariant: " + fmt.Sprintf(format, args...))
}
