package server

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// steps records which connections were served.
type steps struct {
	mu     sync.Mutex
	served []int
	ids    map[*conn]int
	busy   map[*conn]bool
	later  map[*conn]bool
	onStep func(*conn)
	t      *testing.T
}

func newSteps(t *testing.T, n int) (*steps, []*conn) {
	r := &steps{t: t, ids: map[*conn]int{}, busy: map[*conn]bool{}, later: map[*conn]bool{}}
	conns := make([]*conn, n)
	for i := range conns {
		conns[i] = &conn{}
		r.ids[conns[i]] = i
	}
	return r, conns
}

func (r *steps) step(c *conn, _ *composer) bool {
	r.mu.Lock()
	if r.busy[c] {
		r.t.Error("a connection is served by two workers at once")
	}
	r.busy[c] = true
	r.served = append(r.served, r.ids[c])
	on, later := r.onStep, r.later[c]
	r.mu.Unlock()
	if on != nil {
		on(c)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy[c] = false
	return later
}

func (r *steps) take() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	served := r.served
	r.served = nil
	return served
}

// served waits until n steps were made.
func (r *steps) wait(n int) []int {
	r.t.Helper()
	var all []int
	eventually(r.t, "the steps are made", func() bool {
		all = append(all, r.take()...)
		return len(all) >= n
	})
	return all
}

func TestFanoutOrder(t *testing.T) {
	r, conns := newSteps(t, 40)
	hold := make(chan struct{})
	entered := make(chan struct{}, 1)
	r.onStep = func(c *conn) {
		if c == conns[0] {
			entered <- struct{}{}
			<-hold
		}
	}
	f := newFanout(newFakeClock(), time.Millisecond, 1, r.step)
	f.mark(conns[0], false)
	<-entered // the only worker is busy
	for _, c := range conns[1:20] {
		f.mark(c, false)
		f.mark(c, false) // once is enough
	}
	for _, c := range conns[20:] {
		f.mark(c, true)
	}
	f.mark(conns[5], true) // becomes urgent where it stands
	close(hold)
	got := r.wait(40)
	f.end()
	got = append(got, r.take()...)
	var want []int
	urgent := []int{20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 5}
	normal := []int{1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}
	want = append(want, 0)
	for len(urgent) > 0 {
		n := min(urgentInRow, len(urgent))
		want = append(want, urgent[:n]...)
		urgent = urgent[n:]
		if len(urgent) > 0 || n == urgentInRow {
			want = append(want, normal[0])
			normal = normal[1:]
		}
	}
	want = append(want, normal...)
	if !slices.Equal(got, want) {
		t.Errorf("served %v\nwant   %v", got, want)
	}
}

func TestFanoutAgain(t *testing.T) {
	r, conns := newSteps(t, 1)
	f := newFanout(newFakeClock(), time.Millisecond, 3, r.step)
	first := true
	r.onStep = func(c *conn) {
		if first { // only the first step is marked in its middle, several times
			first = false
			f.mark(c, false)
			f.mark(c, true)
		}
	}
	f.mark(conns[0], false)
	r.wait(2)
	f.end()
	if extra := r.take(); len(extra) != 0 {
		t.Errorf("%d steps too many", len(extra))
	}
}

func TestFanoutNextTick(t *testing.T) {
	clock := newFakeClock()
	r, conns := newSteps(t, 3)
	f := newFanout(clock, 10*time.Millisecond, 2, r.step)
	defer f.end()
	for _, c := range conns {
		r.later[c] = true
		f.mark(c, false)
	}
	r.wait(3)
	putOffAll := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return !slices.ContainsFunc(conns, func(c *conn) bool { return c.turn.at != putOff })
	}
	eventually(t, "all are put off", putOffAll)
	f.mark(conns[1], false) // changes nothing
	clock.advance(9 * time.Millisecond)
	if got := r.take(); len(got) != 0 {
		t.Errorf("served %v before the tick", got)
	}
	// An urgent one does not wait for the tick.
	f.mark(conns[2], true)
	r.wait(1)
	eventually(t, "it is put off again", putOffAll)
	r.mu.Lock()
	clear(r.later)
	r.mu.Unlock()
	clock.advance(time.Millisecond)
	got := r.wait(3)
	slices.Sort(got)
	if !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("served %v at the tick, want each once", got)
	}
	f.remove(conns[0])
	f.mark(conns[0], true)
	f.mark(conns[1], false)
	if got := r.wait(1); !slices.Equal(got, []int{1}) {
		t.Errorf("served %v after one was removed", got)
	}
}
