package logtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/halcyon-db/halcyon/engine"
)

// Memory is a commit log in memory that several handles share, as processes
// would share a replicated one. It is made by NewMemory and safe for concurrent
// use.
type Memory struct {
	mu struct {
		sync.Mutex
		term    engine.Term
		records [][]byte // encoded
		chain   []engine.LogPosition
		floor   engine.LogPosition
		holds   map[*engine.Timestamp]struct{}
		late    []func() // deliveries that are still under way
	}
}

// NewMemory returns an empty log.
func NewMemory() *Memory {
	m := &Memory{}
	m.mu.holds = map[*engine.Timestamp]struct{}{}
	return m
}

// Fault is what happens to one append on its way.
type Fault int

// The faults.
const (
	None           Fault = iota
	LoseRequest          // it never arrives, and the caller does not know
	LoseAnswer           // it arrives, and the caller does not know
	Late                 // the caller gets no answer, and later it arrives
	DeliverTwice         // it arrives, is answered, and arrives again later
	faultsByNumber       // how many there are
)

// Handle is a process's connection to a Memory.
type Handle struct {
	m     *Memory
	fault func() Fault
}

var _ engine.CommitLog = (*Handle)(nil)

// Handle returns a connection on which fault is asked what happens to each
// append; nil means nothing does.
func (m *Memory) Handle(fault func() Fault) *Handle {
	if fault == nil {
		fault = func() Fault { return None }
	}
	return &Handle{m, fault}
}

// Seeded returns a source of faults: percent of all appends have one.
func Seeded(seed uint64, percent int) func() Fault {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	return func() Fault {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(100) >= percent {
			return None
		}
		return Fault(1 + rng.IntN(int(faultsByNumber)-1))
	}
}

// Deliver lets everything arrive that is still under way, in the order in which
// it was sent.
func (m *Memory) Deliver() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deliverLocked()
}

func (m *Memory) deliverLocked() {
	late := m.mu.late
	m.mu.late = nil
	for _, f := range late {
		f()
	}
}

func (m *Memory) headLocked() engine.LogPosition {
	if n := len(m.mu.chain); n > 0 {
		return m.mu.chain[n-1]
	}
	return m.mu.floor
}

// appendLocked is what happens to a record that arrives. It is one step, as the
// transaction of a replicated log is.
func (m *Memory) appendLocked(r engine.LogRecord) error {
	switch head := m.headLocked(); {
	case r.Position.Term != m.mu.term:
		return fmt.Errorf("%w: term %d, it was ours in %d", engine.ErrDeposed, m.mu.term, r.Position.Term)
	case r.Position == head:
		return nil
	case r.Previous != head || r.Position.At <= head.At:
		return fmt.Errorf("%w: %s after %s, the newest is %s", engine.ErrNotHead, r.Position, r.Previous, head)
	}
	m.mu.records = append(m.mu.records, append([]byte(nil), r.Bytes()...))
	m.mu.chain = append(m.mu.chain, r.Position)
	return nil
}

// Lead implements engine.CommitLog.
func (h *Handle) Lead(ctx context.Context) (engine.Term, engine.LogPosition, error) {
	if err := ctx.Err(); err != nil {
		return 0, engine.LogPosition{}, err
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	h.m.mu.term++
	return h.m.mu.term, h.m.headLocked(), nil
}

// Append implements engine.CommitLog.
func (h *Handle) Append(ctx context.Context, r engine.LogRecord, _ engine.LocalBatch) (engine.LogAppend, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fault := h.fault()
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	copied, err := engine.DecodeLogRecord(append([]byte(nil), r.Bytes()...))
	if err != nil {
		return nil, err
	}
	arrive := func() { _ = h.m.appendLocked(copied) } // nobody waits for the answer
	switch fault {
	case LoseRequest:
		return answer{engine.ErrUnknownOutcome}, nil
	case Late:
		h.m.mu.late = append(h.m.mu.late, arrive)
		return answer{engine.ErrUnknownOutcome}, nil
	case LoseAnswer:
		arrive()
		return answer{engine.ErrUnknownOutcome}, nil
	case DeliverTwice:
		h.m.mu.late = append(h.m.mu.late, arrive)
	}
	return answer{h.m.appendLocked(copied)}, nil
}

type answer struct{ err error }

func (a answer) Wait(context.Context) error { return a.err }

// Head implements engine.CommitLog. Half of what is under way arrives before
// the answer, half after, as it may.
func (h *Handle) Head(ctx context.Context) (engine.LogPosition, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if len(h.m.mu.chain)%2 == 0 {
		h.m.deliverLocked()
		return h.m.headLocked(), ctx.Err()
	}
	head := h.m.headLocked()
	h.m.deliverLocked()
	return head, ctx.Err()
}

// Read implements engine.CommitLog.
func (h *Handle) Read(ctx context.Context, after engine.Timestamp, bytesMax int) ([]engine.LogRecord, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if after < h.m.mu.floor.At {
		return nil, fmt.Errorf("read after %d: %w", after, engine.ErrOutOfRetention)
	}
	var out []engine.LogRecord
	size := 0
	for i, p := range h.m.mu.chain {
		if p.At <= after {
			continue
		}
		if size += len(h.m.mu.records[i]); len(out) > 0 && size > bytesMax {
			break
		}
		r, err := engine.DecodeLogRecord(append([]byte(nil), h.m.mu.records[i]...))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Hold implements engine.CommitLog.
func (h *Handle) Hold(ctx context.Context, after engine.Timestamp) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if after < h.m.mu.floor.At {
		return nil, fmt.Errorf("hold after %d: %w", after, engine.ErrOutOfRetention)
	}
	hold := &after
	h.m.mu.holds[hold] = struct{}{}
	return func() {
		h.m.mu.Lock()
		defer h.m.mu.Unlock()
		delete(h.m.mu.holds, hold)
	}, nil
}

// Truncate implements engine.CommitLog.
func (h *Handle) Truncate(ctx context.Context, upTo engine.Timestamp) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	for hold := range h.m.mu.holds {
		upTo = min(upTo, *hold)
	}
	n := 0
	for n < len(h.m.mu.chain) && h.m.mu.chain[n].At <= upTo {
		h.m.mu.floor = h.m.mu.chain[n]
		n++
	}
	h.m.mu.records, h.m.mu.chain = h.m.mu.records[n:], h.m.mu.chain[n:]
	return nil
}
