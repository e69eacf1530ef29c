package engine

import (
	"runtime"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/live"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// LiveQuery is a query that is kept up to date. Two with the same Key must be
// the same query: they are run once for everybody, by the Run of the first one
// for as long as anybody watches it.
type LiveQuery struct {
	Key string
	// Name is the function's, for events.
	Name string
	// Run computes the result. It gets a read-only Tx and must handle its own
	// errors, including a Tx that fails in the middle: what it returns is
	// compared byte by byte and shown. The slice is shared afterwards.
	Run func(tx *Tx) []byte
	// Full is the result in the place of one for which there is no room, see Options.LiveResultBytesMax. It should be small and is shared like
	// one of Run. Nil: the result is kept whatever its size.
	Full func() []byte
}

// liveFullRetry is when a query is run again for whose result there was no room.
const liveFullRetry = 5 * time.Second

// Change is the new result of one query of a set.
type Change struct {
	ID   uint32
	Body []byte // what Run returned; shared, not to be modified
}

// Round is the results of a set's queries at one timestamp, those that changed.
type Round struct {
	At      Timestamp
	Changes []Change
}

// QuerySet is the live queries of one screen, always seen at one timestamp.
type QuerySet struct {
	hub    *hub
	id     live.SetID
	notify func()
}

// NewQuerySet returns an empty set. notify is called, from any goroutine, when
// Poll may have something; it must be quick and must not call the database.
func (db *DB) NewQuerySet(notify func()) *QuerySet {
	h := db.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.lastSet++
	s := &QuerySet{hub: h, id: h.mu.lastSet, notify: notify}
	if !h.mu.closed {
		h.mu.sets[s.id] = s
		h.mu.machine.Open(s.id)
	}
	return s
}

// Add begins to watch a query under an id; one that has the id is replaced.
func (s *QuerySet) Add(id uint32, q LiveQuery) {
	s.hub.step(func(m *live.Machine, now uint64) []live.Effect {
		if s.hub.mu.sets[s.id] == nil {
			return nil
		}
		if _, known := s.hub.mu.queries[q.Key]; !known {
			s.hub.mu.queries[q.Key] = q
		}
		return m.Watch(s.id, id, q.Key, now)
	})
}

// Remove ends to watch the query with that id.
func (s *QuerySet) Remove(id uint32) {
	s.hub.step(func(m *live.Machine, _ uint64) []live.Effect { return m.Unwatch(s.id, id) })
}

// Poll returns the next round, whose timestamp is never before that of an
// earlier one. It does not wait: when it returns false, nothing is new or a
// query is still running, and notify will be called when that changes. A query
// added since the last round is in it. With a min above the last round's
// timestamp a round at or after min comes even if nothing changed; one that
// had begun before may still come first.
func (s *QuerySet) Poll(min Timestamp) (r Round, ok bool) {
	s.hub.step(func(m *live.Machine, now uint64) []live.Effect {
		round, ready, effects := m.Poll(s.id, uint64(min), now)
		if ready {
			ok, r.At = true, Timestamp(round.At)
			if len(round.Changes) > 0 {
				r.Changes = make([]Change, len(round.Changes))
			}
			for i, c := range round.Changes {
				r.Changes[i] = Change{ID: c.Slot, Body: c.Body}
			}
		}
		return effects
	})
	return r, ok
}

// Close stops watching everything and frees it.
func (s *QuerySet) Close() {
	s.hub.step(func(m *live.Machine, _ uint64) []live.Effect {
		delete(s.hub.mu.sets, s.id)
		return m.Close(s.id)
	})
}

// hub drives the live machine: it runs queries, tells sets, and wakes the
// machine when time alone changes an answer.
type hub struct {
	db      *DB
	workers sync.WaitGroup
	mu      struct {
		sync.Mutex
		machine *live.Machine
		current *state // the machine's newest watermark
		sets    map[live.SetID]*QuerySet
		lastSet live.SetID
		queries map[string]LiveQuery
		jobs    turns // waiting for a worker; bounded by the queries watched
		more    *sync.Cond
		alarm   uint64 // when the armed alarm goes off, 0 when none is
		disarm  func()
		strays  int // workers that hang in a query
		closed  bool
	}
}

// job is one run of a query on a state it holds a reference to.
type job struct {
	run   live.RunID
	query LiveQuery
	state *state
}

// turns are jobs by the sets that they are for. The sets take turns: one whose queries are many or slow holds up its own.
type turns struct {
	order []live.SetID // those with jobs, the next first
	jobs  map[live.SetID][]job
}

func (t *turns) empty() bool { return len(t.order) == 0 }

func (t *turns) push(set live.SetID, j job) {
	if t.jobs == nil {
		t.jobs = map[live.SetID][]job{}
	}
	if len(t.jobs[set]) == 0 {
		t.order = append(t.order, set)
	}
	t.jobs[set] = append(t.jobs[set], j)
}

// pop returns the next job. REQUIRES: there is one.
func (t *turns) pop() job {
	set := t.order[0]
	t.order = t.order[1:]
	waiting := t.jobs[set]
	j := waiting[0]
	waiting[0] = job{}
	if len(waiting) == 1 {
		delete(t.jobs, set)
		return j
	}
	t.jobs[set] = waiting[1:]
	t.order = append(t.order, set)
	return j
}

func newHub(db *DB, s *state) *hub {
	h := &hub{db: db}
	h.mu.machine = live.New(live.Options{Newest: uint64(s.at)})
	h.mu.sets = map[live.SetID]*QuerySet{}
	h.mu.queries = map[string]LiveQuery{}
	h.mu.more = sync.NewCond(&h.mu.Mutex)
	db.states.retain(s)
	h.mu.current = s
	for range runtime.GOMAXPROCS(0) {
		h.startWorker()
	}
	return h
}

func (h *hub) now() uint64 { return micros(h.db.o.Clock.Now()) }

// step gives the machine one event and carries out what follows.
func (h *hub) step(event func(m *live.Machine, now uint64) []live.Effect) {
	h.mu.Lock()
	if h.mu.closed {
		h.mu.Unlock()
		return
	}
	told := h.effectsLocked(event(h.mu.machine, h.now()))
	h.armLocked()
	h.mu.Unlock()
	for _, s := range told {
		s.notify()
	}
}

// effectsLocked queues runs and returns the sets to be told.
func (h *hub) effectsLocked(effects []live.Effect) (told []*QuerySet) {
	for _, e := range effects {
		switch e.Kind {
		case live.StartRun:
			h.db.states.retain(h.mu.current)
			h.mu.jobs.push(e.Set, job{run: e.Run, query: h.mu.queries[e.Key], state: h.mu.current})
			h.mu.more.Signal()
		case live.Notify:
			if s := h.mu.sets[e.Set]; s != nil {
				told = append(told, s)
			}
		case live.AdvanceTime:
			h.db.advance()
		case live.Forget:
			delete(h.mu.queries, e.Key)
		}
	}
	return told
}

// armLocked keeps one timer on the machine's next alarm.
func (h *hub) armLocked() {
	at, ok := h.mu.machine.NextAlarm()
	if !ok {
		at = 0
	}
	if at == h.mu.alarm {
		return
	}
	if h.mu.disarm != nil {
		h.mu.disarm()
		h.mu.disarm = nil
	}
	if h.mu.alarm = at; !ok {
		return
	}
	wait := time.Duration(0)
	if now := h.now(); at > now {
		wait = time.Duration(at-now) * time.Microsecond
	}
	h.mu.disarm = h.db.o.Clock.AfterFunc(wait, func() {
		h.step(func(m *live.Machine, now uint64) []live.Effect {
			h.mu.alarm = 0 // so that it is armed again
			return m.Alarm(now)
		})
	})
}

// committed makes s the newest watermark. The publisher calls it, in order,
// after the callers of the group's mutations have been answered.
func (h *hub) committed(s *state, touched [][]byte) {
	h.advance(s, func(m *live.Machine, now uint64) []live.Effect { return m.Committed(uint64(s.at), touched, now) })
}

// replaced is committed for a group that loaded a table.
func (h *hub) replaced(s *state) {
	h.advance(s, func(m *live.Machine, now uint64) []live.Effect { return m.Replaced(uint64(s.at), now) })
}

func (h *hub) advance(s *state, event func(m *live.Machine, now uint64) []live.Effect) {
	h.db.states.retain(s)
	release := s // unless it becomes the newest
	h.step(func(m *live.Machine, now uint64) []live.Effect {
		release, h.mu.current = h.mu.current, s
		return event(m, now)
	})
	h.db.states.release(release)
}

// startWorker adds a worker. REQUIRES: workers.Wait has not returned.
func (h *hub) startWorker() {
	h.workers.Add(1)
	go func() {
		if !h.work() {
			h.workers.Done()
		}
	}()
}

// work runs queries until the hub closes. It reports whether this worker was
// given up and counted out then, together with the query it hung in.
func (h *hub) work() (stray bool) {
	h.mu.Lock()
	for {
		for h.mu.jobs.empty() && !h.mu.closed {
			h.mu.more.Wait()
		}
		if h.mu.closed {
			h.mu.Unlock()
			return false
		}
		j := h.mu.jobs.pop()
		h.mu.Unlock()
		stray := h.run(j)
		h.mu.Lock()
		if stray {
			h.mu.strays--
			h.mu.Unlock()
			return true
		}
	}
}

// liveStraysMax is how many hanging queries get a worker in their place.
const liveStraysMax = 16

// run executes a query. It reports whether the query was given up.
func (h *hub) run(j job) (stray bool) {
	start := h.db.o.Clock.Now()
	tx := h.db.newTx(j.state, nil, false, h.db.queryTime(j.state))
	tx.name = j.query.Name
	g := h.db.guard(tx.name, tx, func() {
		h.db.states.release(j.state)
		h.mu.Lock()
		if h.mu.strays++; h.mu.strays <= liveStraysMax && !h.mu.closed {
			h.startWorker()
		}
		h.mu.Unlock()
		h.workers.Done()
	})
	var body []byte
	// A panic is the query's own outcome to show; the caller of Run turns it into
	// one. Here it only must not end the process.
	_, err := tx.call(func(tx *Tx) ([]byte, error) {
		body = j.query.Run(tx)
		return nil, nil
	})
	if stray = g.end(); !stray {
		h.db.states.release(j.state)
	}
	if err != nil {
		h.db.o.Logger.Error("a live query failed outside of its own handling", "function", j.query.Name, "error", err)
	}
	took := uint64(h.db.o.Clock.Now().Sub(start).Microseconds())
	var full []byte
	for {
		tooMuch := false // a step does nothing once the hub is closed
		// Of a stray too: it may come back after all, and screens wait for it.
		h.step(func(m *live.Machine, now uint64) []live.Effect {
			wake := tx.wake()
			if j.query.Full != nil && !m.Room(j.run, len(body), h.db.o.LiveResultBytesMax) {
				if tooMuch = full == nil; tooMuch {
					return nil // it is made without the lock
				}
				body = full
				if again := now + uint64(liveFullRetry.Microseconds()); wake == 0 || wake > again {
					wake = again
				}
			}
			return m.Ran(j.run, body, readSet(&tx.mu.reads), wake, took, now)
		})
		if !tooMuch {
			return stray
		}
		full = append([]byte{}, j.query.Full()...)
	}
}

func readSet(r *txn.ReadSet) live.ReadSet {
	out := live.ReadSet{Points: r.Points()}
	for _, rg := range r.Ranges() {
		out.Ranges = append(out.Ranges, live.Range{Start: rg.Start, End: rg.End})
	}
	return out
}

// close ends every set and waits for running queries.
func (h *hub) close() {
	h.mu.Lock()
	h.mu.closed = true
	if h.mu.disarm != nil {
		h.mu.disarm()
	}
	for !h.mu.jobs.empty() {
		h.db.states.release(h.mu.jobs.pop().state)
	}
	h.mu.more.Broadcast()
	h.mu.Unlock()
	h.workers.Wait()
}

// end drops the hub's hold on the newest state. REQUIRES: the publisher ended.
func (h *hub) end() { h.db.states.release(h.mu.current) }
