package room

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// memory is a Store in memory. Its documents are logs of updates, as a database keeps them.
type memory struct {
	// access says what a caller may do; nil: everything.
	access func(caller, document string) Access
	// hold, when it is not nil, is received from before a write is made durable.
	hold chan struct{}
	// refuse says which edits are refused; nil: none.
	refuse func(e Edit) (Result, bool)

	mu struct {
		sync.Mutex
		log    []Change
		more   chan struct{} // closed at each write
		fail   error         // of Write
		broken error         // of Follow
		writes int
	}
}

var _ Store = (*memory)(nil)

func newMemory() *memory {
	m := &memory{}
	m.mu.more = make(chan struct{})
	return m
}

func (m *memory) may(caller *halcyon.Identity, document string) Access {
	name := ""
	if caller != nil {
		name = caller.TokenIdentifier
	}
	if m.access == nil {
		return Write
	}
	return m.access(name, document)
}

func (m *memory) Access(_ context.Context, caller *halcyon.Identity, document string) (Access, error) {
	return m.may(caller, document), nil
}

// read returns all of a document after a position.
func (m *memory) read(document string, after Position) ([]byte, Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var updates [][]byte
	at := after
	for _, c := range m.mu.log {
		if c.Document == document && c.At > after {
			updates = append(updates, c.Update)
			at = c.At
		}
	}
	merged, err := yjs.MergeUpdates(updates...)
	if err != nil {
		panic(err)
	}
	return merged, at
}

func (m *memory) Load(_ context.Context, caller *halcyon.Identity, document string, have yjs.StateVector) (State, error) {
	if m.may(caller, document) == None {
		return State{}, nil
	}
	all, at := m.read(document, 0)
	sv, err := yjs.StateVectorFromUpdate(all)
	if err != nil {
		return State{}, err
	}
	missing, err := yjs.DiffUpdate(all, have)
	return State{Access: m.may(caller, document), Missing: missing, Vector: sv, At: at}, err
}

func (m *memory) Since(_ context.Context, _ *halcyon.Identity, document string, after Position) ([]byte, Position, error) {
	update, at := m.read(document, after)
	return update, at, nil
}

func (m *memory) Write(ctx context.Context, document string, edits []Edit, durable func(Position, ...int)) ([]Result, error) {
	if m.hold != nil {
		select {
		case <-m.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	results := make([]Result, len(edits))
	var updates [][]byte
	var applied []int
	for i, e := range edits {
		if m.may(e.Caller, document) != Write {
			results[i] = Result{Refused, CodeForbidden, "you may not write this document"}
			continue
		}
		if m.refuse != nil {
			if result, refused := m.refuse(e); refused {
				results[i] = result
				continue
			}
		}
		all, _ := m.read(document, 0)
		before, err := yjs.MergeUpdates(append(slices.Clone(updates), all)...)
		if err != nil {
			return nil, err
		}
		after, err := yjs.MergeUpdates(before, e.Update)
		if err != nil {
			return nil, err
		}
		if meta, err := yjs.ParseUpdateMeta(after); err != nil || meta.Gaps > 0 || starts(meta) {
			results[i] = Result{Fate: Gapped}
			continue
		}
		updates = append(updates, e.Update)
		applied = append(applied, i)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.fail != nil {
		return nil, m.mu.fail
	}
	if len(updates) == 0 {
		return results, nil
	}
	merged, err := yjs.MergeUpdates(updates...)
	if err != nil {
		return nil, err
	}
	m.mu.writes++
	at := Position(1)
	if n := len(m.mu.log); n > 0 {
		at = m.mu.log[n-1].At + 1
	}
	durable(at, applied...)
	m.mu.log = append(m.mu.log, Change{document, at, merged})
	close(m.mu.more)
	m.mu.more = make(chan struct{})
	return results, nil
}

// starts reports whether an update misses the begin of a client.
func starts(m yjs.Meta) bool {
	for _, from := range m.From {
		if from > 0 {
			return true
		}
	}
	return false
}

func (m *memory) Follow(ctx context.Context, ready func(), _ func(string) bool, told func([]Change, Position)) error {
	m.mu.Lock()
	n := len(m.mu.log)
	m.mu.Unlock()
	ready()
	for {
		m.mu.Lock()
		news, more, err := slices.Clone(m.mu.log[n:]), m.mu.more, m.mu.broken
		n = len(m.mu.log)
		m.mu.Unlock()
		if err != nil {
			return err
		}
		if len(news) > 0 {
			told(news, news[len(news)-1].At)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// breakDown has Follow fail.
func (m *memory) breakDown() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.broken = errors.New("out of order")
	close(m.mu.more)
	m.mu.more = make(chan struct{})
}

// failWrites has writes fail; nil ends that.
func (m *memory) failWrites(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.fail = err
}
