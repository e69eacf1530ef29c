package engine

import (
	"sync"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
)

// state is the database as of one group of commits: a snapshot of the store
// with the aggregates' trees of that moment. It is immutable; holders are
// counted by the states it belongs to.
type state struct {
	at      Timestamp
	snap    *store.Snapshot
	catalog *catalog
	builds  map[uint32]progress // of the parts that are building, never changed
	trees   []aggregate.Tree    // by Aggregate.slot

	refs     int // guarded by states.mu
	attempts int // of these, attempts at mutations; guarded by states.mu
}

// Block implements aggregate.Blocks on the state's snapshot.
func (s *state) Block(agg uint32, node uint64) ([]byte, bool, error) {
	return s.snap.Get(keys.AppendBlock(nil, agg, node))
}

var _ aggregate.Blocks = (*state)(nil)

// states holds the two newest states of the pipeline: applied is what the next
// mutation reads, durable is what may be shown.
type states struct {
	mu struct {
		sync.Mutex
		applied, durable *state
		order            []*state // those that may still have attempts, oldest first
		waiting          []waiter // for durable to reach a timestamp, in no order
	}
}

type waiter struct {
	at   Timestamp
	done chan struct{}
}

// reset makes s both the applied and the durable state.
func (ss *states) reset(s *state) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.refs = 2
	ss.mu.applied, ss.mu.durable = s, s
	ss.mu.order = []*state{s}
}

// apply makes s the applied state. It comes with one reference, which moves to
// applied, and keeps another until it is superseded as the durable one.
func (ss *states) apply(s *state) {
	ss.mu.Lock()
	s.refs = 2
	over := ss.releaseLocked(ss.mu.applied)
	ss.mu.applied = s
	ss.mu.order = append(ss.mu.order, s)
	ss.mu.Unlock()
	over.release()
}

// publish makes s, applied before, the durable state and wakes who waited for it.
func (ss *states) publish(s *state) {
	ss.mu.Lock()
	over := ss.releaseLocked(ss.mu.durable)
	ss.mu.durable = s
	var wake []chan struct{}
	kept := ss.mu.waiting[:0]
	for _, w := range ss.mu.waiting {
		if w.at <= s.at {
			wake = append(wake, w.done)
		} else {
			kept = append(kept, w)
		}
	}
	ss.mu.waiting = kept
	ss.mu.Unlock()
	for _, done := range wake {
		close(done)
	}
	over.release()
}

// oldest returns the timestamp of the oldest state an attempt still uses.
func (ss *states) oldest() Timestamp {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	n := 0
	for n < len(ss.mu.order)-1 && ss.mu.order[n].attempts == 0 && ss.mu.order[n] != ss.mu.applied {
		ss.mu.order[n] = nil
		n++
	}
	ss.mu.order = ss.mu.order[n:]
	return ss.mu.order[0].at
}

// beginAttempt returns the applied state with a reference; end it with endAttempt.
func (ss *states) beginAttempt() *state {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s := ss.mu.applied
	s.refs++
	s.attempts++
	return s
}

func (ss *states) endAttempt(s *state) {
	ss.mu.Lock()
	s.attempts--
	over := ss.releaseLocked(s)
	ss.mu.Unlock()
	over.release()
}

// newestApplied returns the applied state without a reference, for the committer, the
// only one that replaces it.
func (ss *states) newestApplied() *state {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.mu.applied
}

// acquireDurable returns the durable state with a reference; end it with release.
func (ss *states) acquireDurable() *state {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.mu.durable.refs++
	return ss.mu.durable
}

func (ss *states) retain(s *state) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s.refs++
}

func (ss *states) release(s *state) {
	ss.mu.Lock()
	over := ss.releaseLocked(s)
	ss.mu.Unlock()
	over.release()
}

// releaseLocked drops a reference. The caller releases what it returns once it
// holds the lock no more.
func (ss *states) releaseLocked(s *state) forsaken {
	if s.refs--; s.refs == 0 {
		return forsaken{s.snap}
	}
	return forsaken{}
}

// forsaken is the snapshot of a state that nobody holds any more, or nothing. To
// close it may wait for the disk: Pebble then looks for something to compact, and
// waits while it writes its list of files. Under the lock of the states that
// would stop everybody.
type forsaken struct{ snap *store.Snapshot }

func (f forsaken) release() {
	if f.snap != nil {
		f.snap.Release()
	}
}

func (ss *states) durableAt() Timestamp {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.mu.durable.at
}

// reached returns a channel that is closed once the durable state is at or
// after at; nil when it is so already.
func (ss *states) reached(at Timestamp) <-chan struct{} {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.mu.durable.at >= at {
		return nil
	}
	done := make(chan struct{})
	ss.mu.waiting = append(ss.mu.waiting, waiter{at, done})
	return done
}

// close drops both states. REQUIRES: the pipeline has ended.
func (ss *states) close() {
	ss.mu.Lock()
	applied, durable := ss.releaseLocked(ss.mu.applied), ss.releaseLocked(ss.mu.durable)
	ss.mu.Unlock()
	applied.release()
	durable.release()
}
