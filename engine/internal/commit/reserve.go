package commit

import (
	"bytes"
	"slices"
	"sort"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// reservationsMax is how many attempts may have something reserved at once;
// more wait for one of them to end.
const reservationsMax = 4

// reserveAllTries is after how many lost executions everything is reserved:
// then nothing commits that the next one may read, whatever it reads.
const reserveAllTries = 3

// reservation keeps what an attempt has read from being written until its owner
// has executed again, on a state that has all that was accepted before.
//
// Reservations are ordered by their age. An attempt waits only for older ones
// than its owner's, so that two of them never wait for each other.
type reservation struct {
	owner any
	reads coverage
	all   bool
	tries int
	// writes is what the execution that lost would have written, and so probably
	// what the next one will.
	writes *txn.Overlay
	until  uint64
}

// holds reports whether a writes something that is reserved, and what, unless
// everything is.
func (r *reservation) holds(a *Attempt) (key string, held bool) {
	if r.all {
		return "", true
	}
	held = a.Writes.Any(func(k string) bool {
		key = k
		return r.reads.contains(k)
	})
	return key, held
}

// expects reports whether a has read something the owner will probably write.
func (r *reservation) expects(a *Attempt) bool {
	return r.all || r.writes.Any(a.Reads.Contains)
}

// coverage is a set of keys and ranges that is quick to look keys up in.
type coverage struct {
	points map[string]struct{}
	ranges []keys.Range // disjoint, in order
}

func (c *coverage) add(r *txn.ReadSet) {
	if c.points == nil {
		c.points = map[string]struct{}{}
	}
	r.EachPoint(func(k string) bool {
		c.points[k] = struct{}{}
		return true
	})
	all := append(c.ranges, r.Ranges()...)
	slices.SortFunc(all, func(a, b keys.Range) int { return bytes.Compare(a.Start, b.Start) })
	c.ranges = nil
	for _, rg := range all {
		if n := len(c.ranges); n > 0 {
			last := &c.ranges[n-1]
			if last.End == nil {
				break
			}
			if bytes.Compare(rg.Start, last.End) <= 0 {
				if rg.End == nil || bytes.Compare(rg.End, last.End) > 0 {
					last.End = rg.End
				}
				continue
			}
		}
		c.ranges = append(c.ranges, rg)
	}
}

func (c *coverage) contains(key string) bool {
	if _, ok := c.points[key]; ok {
		return true
	}
	// The last range that begins at or before the key.
	i := sort.Search(len(c.ranges), func(i int) bool { return string(c.ranges[i].Start) > key })
	return i > 0 && (c.ranges[i-1].End == nil || key < string(c.ranges[i-1].End))
}

// reservationOf returns an owner's reservation and its place in the order of
// age, or nil and the number of reservations.
func (m *Machine) reservationOf(owner any) (*reservation, int) {
	for i, r := range m.reservations {
		if r.owner == owner {
			return r, i
		}
	}
	return nil, len(m.reservations)
}

// heldBack reports whether an attempt that is not in the way of anybody who
// committed has to wait for a reservation.
func (m *Machine) heldBack(a *Attempt) bool {
	_, older := m.reservationOf(a.Owner)
	for _, r := range m.reservations[:older] {
		if key, held := r.holds(a); held {
			m.met = Met{Key: key, Owner: r.owner}
			return true
		}
	}
	return false
}

// reserve reserves what a lost attempt has read. It reports false when the
// attempt has to wait first: for somebody who will probably write what it
// reads, or because there are too many reservations.
func (m *Machine) reserve(a *Attempt, now uint64) bool {
	own, older := m.reservationOf(a.Owner)
	if slices.ContainsFunc(m.reservations[:older], func(r *reservation) bool { return r.expects(a) }) {
		return false
	}
	if own == nil {
		if len(m.reservations) == reservationsMax {
			return false
		}
		own = &reservation{owner: a.Owner}
		m.reservations = append(m.reservations, own)
	}
	own.tries++
	own.all = own.tries >= reserveAllTries
	own.reads.add(a.Reads)
	own.writes = a.Writes
	own.until = now + m.o.ReserveMax
	return true
}

// Park parks an attempt of which Judge has said Free, when it will write what is
// reserved: its writes are only known now. It reports whether it did.
func (m *Machine) Park(a *Attempt, writes *txn.Overlay) bool {
	if len(m.reservations) == 0 || !m.heldBack(&Attempt{Writes: writes, Owner: a.Owner}) {
		return false
	}
	m.park(a)
	return true
}

func (m *Machine) park(a *Attempt) Verdict {
	m.parked = append(m.parked, a)
	m.stats.Parked++
	return Parked
}

// Release ends the reservation of an owner, if it has one. Its driver calls it
// when a call ends without an attempt that is accepted.
func (m *Machine) Release(owner any) {
	if _, i := m.reservationOf(owner); i < len(m.reservations) {
		m.reservations = slices.Delete(m.reservations, i, i+1)
		m.wake()
	}
}

// Expire ends the reservations whose time is over. Their owners go on without.
func (m *Machine) Expire(now uint64) {
	n := len(m.reservations)
	m.reservations = slices.DeleteFunc(m.reservations, func(r *reservation) bool { return r.until <= now })
	if len(m.reservations) < n {
		m.wake()
	}
}

// NextExpiry returns when the next reservation ends by itself.
func (m *Machine) NextExpiry() (at uint64, ok bool) {
	for _, r := range m.reservations {
		if !ok || r.until < at {
			at, ok = r.until, true
		}
	}
	return at, ok
}

func (m *Machine) wake() {
	m.woken = append(m.woken, m.parked...)
	m.parked = nil
}

// Woken returns a parked attempt to be judged again, in the order in which they
// were parked, or nil.
func (m *Machine) Woken() *Attempt {
	if len(m.woken) == 0 {
		return nil
	}
	a := m.woken[0]
	m.woken[0] = nil
	m.woken = m.woken[1:]
	return a
}

// Parked returns the number of attempts that wait for a reservation to end.
func (m *Machine) Parked() int { return len(m.parked) }
