package commit

import (
	"encoding/binary"
	"time"

	"github.com/tidwall/btree"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// Options are the limits of a Machine. Zero fields take the defaults.
type Options struct {
	GroupAttemptsMax int           // attempts in one group; default 512
	GroupBytesMax    int           // bytes of values in one group; default 1 MiB
	GroupsInFlight   int           // sealed groups not yet durable; default 2
	TurnCost         time.Duration // attempts cheaper than this are executed again in turn; default 1 ms
	ReserveMax       uint64        // microseconds for which an attempt may hold back others; default 1 s
	Lease            uint64        // microseconds that a lease reaches ahead; default 2 s
}

func (o *Options) setDefaults() {
	if o.GroupAttemptsMax == 0 {
		o.GroupAttemptsMax = 512
	}
	if o.GroupBytesMax == 0 {
		o.GroupBytesMax = 1 << 20
	}
	if o.GroupsInFlight == 0 {
		o.GroupsInFlight = 2
	}
	if o.TurnCost == 0 {
		o.TurnCost = time.Millisecond
	}
	if o.ReserveMax == 0 {
		o.ReserveMax = 1_000_000
	}
	if o.Lease == 0 {
		o.Lease = 2_000_000
	}
}

// Attempt is one finished execution of a function.
type Attempt struct {
	Snapshot uint64 // the applied timestamp it read from
	Reads    *txn.ReadSet
	Writes   *txn.Overlay
	Cost     time.Duration
	Owner    any // the driver's own, the same for all attempts of one call
	// Label names the function, for who meets its writes later; nil is "".
	Label *string
}

// Verdict is what becomes of an attempt.
type Verdict uint8

// The verdicts.
const (
	// Free says that nothing hinders it: Accept it before anything else.
	Free Verdict = iota
	// Turn says that it lost, and is quick enough to be executed again now, on
	// the open group's overlay.
	Turn
	// Reserved says that it lost and that what it read is reserved now: execute
	// it again in parallel, on a state that has everything accepted so far.
	Reserved
	// Parked says that it waits for somebody's reservation. Woken gives it back.
	Parked
)

// Committed is an accepted attempt with its timestamp.
type Committed struct {
	At    uint64
	Owner any
}

// Group is a sealed group: what is written together.
type Group struct {
	At       uint64 // when it was sealed, at or after the last attempt; the watermark once durable
	Attempts []Committed
	Writes   *txn.Overlay
	Lease    uint64 // non-zero: the new lease to write in the same batch
}

// Touched returns the keys that reads of the group's result may depend on.
func (g *Group) Touched() [][]byte {
	out := make([][]byte, 0, g.Writes.Len())
	g.Writes.EachWrite(func(k string, _ txn.Write) bool {
		out = append(out, []byte(k))
		return true
	})
	g.Writes.EachEntry(keys.Range{}, func(k string, _ txn.Entry) bool {
		out = append(out, []byte(k))
		return true
	})
	return out
}

// Stats counts what happened since the machine was made.
type Stats struct {
	Accepted  uint64
	Conflicts uint64 // attempts that failed validation
	Turns     uint64 // of these, executed again in turn
	Parked    uint64 // times that an attempt waited for a reservation
	Groups    uint64
}

// Machine orders commits. It is not safe for concurrent use. The zero value is
// not usable; see New.
type Machine struct {
	o        Options
	last     uint64 // newest timestamp handed out
	lease    uint64 // durable bound on timestamps
	window   window
	open     Group
	bytes    int
	inFlight int
	stats    Stats

	met          Met
	reservations []*reservation // the oldest first
	parked       []*Attempt     // wait for a reservation to end
	woken        []*Attempt     // to be judged again
}

// New returns a machine whose timestamps start above last, the largest one that
// may ever have been handed out before.
func New(o Options, last uint64) *Machine {
	o.setDefaults()
	m := &Machine{o: o, last: last, lease: last}
	m.open.Writes = new(txn.Overlay)
	m.window.floor = last
	return m
}

// Last returns the newest timestamp handed out.
func (m *Machine) Last() uint64 { return m.last }

// Overlay returns the open group's changes, for an execution in turn.
func (m *Machine) Overlay() *txn.Overlay { return m.open.Writes }

// Stats returns the counts so far.
func (m *Machine) Stats() Stats { return m.stats }

// Judge validates an attempt that wrote something. now is the wall clock in
// microseconds.
func (m *Machine) Judge(a *Attempt, now uint64) Verdict {
	if len(m.reservations) > 0 && m.heldBack(a) {
		return m.park(a)
	}
	key, by, lost := m.window.conflicts(a)
	if !lost {
		return Free
	}
	m.met = Met{Key: key}
	if by != nil {
		m.met.By = *by
	}
	m.stats.Conflicts++
	switch {
	case a.Cost < m.o.TurnCost:
		m.stats.Turns++
		return Turn
	case m.reserve(a, now):
		return Reserved
	}
	return m.park(a)
}

// Next returns the timestamp that Accept gives at that time.
func (m *Machine) Next(now uint64) uint64 { return max(now, m.last+1) }

// Met is what an attempt met that was not free.
type Met struct {
	Key   string // what was read and written, or is reserved; empty when that is everything
	By    string // the label of who wrote it, or
	Owner any    // the owner of the reservation
}

// Met tells what the attempt met of which Judge or Park has just said that it is
// not free.
func (m *Machine) Met() Met { return m.met }

// Accept puts an attempt into the open group and returns its timestamp. A
// reservation of its owner ends. REQUIRES: Judge has just said Free.
func (m *Machine) Accept(a *Attempt, now uint64) uint64 {
	at := m.Next(now)
	m.last = at
	a.Writes.EachWrite(func(k string, w txn.Write) bool {
		if w.Stamped {
			binary.BigEndian.PutUint64(w.Value[txn.StampOffset:], at)
		}
		m.bytes += len(k) + len(w.Value)
		m.window.add(k, at, a.Label)
		return true
	})
	a.Writes.EachEntry(keys.Range{}, func(k string, _ txn.Entry) bool {
		m.bytes += len(k)
		m.window.add(k, at, a.Label)
		return true
	})
	m.open.Writes.Merge(a.Writes)
	m.open.Attempts = append(m.open.Attempts, Committed{At: at, Owner: a.Owner})
	m.stats.Accepted++
	if len(m.reservations) > 0 {
		m.Release(a.Owner)
	}
	return at
}

// Full reports whether the open group takes no further attempts.
func (m *Machine) Full() bool {
	return len(m.open.Attempts) >= m.o.GroupAttemptsMax || m.bytes >= m.o.GroupBytesMax
}

// CanSeal reports whether another group may be in flight.
func (m *Machine) CanSeal() bool { return m.inFlight < m.o.GroupsInFlight }

// Pending returns the number of attempts in the open group.
func (m *Machine) Pending() int { return len(m.open.Attempts) }

// Seal closes the open group, which may be empty: then the group moves time
// only. REQUIRES: CanSeal.
func (m *Machine) Seal(now uint64) Group {
	g := m.open
	if len(g.Attempts) == 0 {
		m.last = max(now, m.last+1)
	}
	// Also with attempts: who waits for time to reach now need not wait for
	// another group.
	m.last = max(now, m.last)
	g.At = m.last
	// After a crash timestamps begin at the old lease, ahead of the clock. There
	// they advance by one a commit, so a small step is enough: a whole lease
	// would carry them further ahead with each crash in a row.
	if now+m.o.Lease/2 > m.lease || g.At+m.o.Lease/200 > m.lease {
		m.lease = max(now+m.o.Lease, g.At+max(m.o.Lease/100, 1))
		g.Lease = m.lease
	}
	m.open = Group{Writes: new(txn.Overlay)}
	m.bytes = 0
	m.inFlight++
	m.stats.Groups++
	return g
}

// Durable says that the oldest group in flight is durable, and that no attempt
// uses a snapshot older than oldest any more.
func (m *Machine) Durable(oldest uint64) {
	m.inFlight--
	m.window.evict(oldest)
}

// window remembers which keys were written when, back to a floor.
type window struct {
	floor uint64
	keys  btree.Map[string, written] // key -> the newest write of it
	order []stamp                    // every addition, oldest first
}

type written struct {
	at uint64
	by *string // the label of who wrote
}

type stamp struct {
	key string
	at  uint64
}

func (w *window) add(k string, at uint64, by *string) {
	w.keys.Set(k, written{at, by})
	w.order = append(w.order, stamp{k, at})
}

// evict forgets writes at or before ts.
func (w *window) evict(ts uint64) {
	n := 0
	for n < len(w.order) && w.order[n].at <= ts {
		s := w.order[n]
		if newest, ok := w.keys.Get(s.key); ok && newest.at == s.at {
			w.keys.Delete(s.key)
		}
		w.order[n] = stamp{}
		n++
	}
	w.order = w.order[n:]
	w.floor = max(w.floor, ts)
}

// conflicts reports whether something the attempt read was written after its
// snapshot, and what and by whom. An attempt older than the window cannot be
// judged and counts as one.
func (w *window) conflicts(a *Attempt) (key string, by *string, lost bool) {
	if a.Snapshot < w.floor {
		return "", nil, true
	}
	a.Reads.EachPoint(func(k string) bool {
		newest, ok := w.keys.Get(k)
		if lost = ok && newest.at > a.Snapshot; lost {
			key, by = k, newest.by
		}
		return !lost
	})
	for _, r := range a.Reads.Ranges() {
		if lost {
			break
		}
		end := string(r.End)
		w.keys.Ascend(string(r.Start), func(k string, newest written) bool {
			if r.End != nil && k >= end {
				return false
			}
			if lost = newest.at > a.Snapshot; lost {
				key, by = k, newest.by
			}
			return !lost
		})
	}
	return key, by, lost
}
