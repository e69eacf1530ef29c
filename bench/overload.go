package main

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// overloadConnections is how many connections overload uses, each with one
	// mutation on its way at most.
	overloadConnections = 4000
	// overloadCallers is how many of them find the capacity, all the time with one on its way.
	overloadCallers = 256
	overloadTimes   = 4
)

// overload finds how many durable mutations a second are answered over WebSockets,
// then has four times as many come, from as many connections as that takes, and
// tells what becomes of those that are admitted.
func overload(s settings) error {
	c, err := startChild(s)
	if err != nil {
		return err
	}
	defer c.stop()
	pool := &overloadPool{free: make(chan *overloadConn, overloadConnections)}
	for i := range overloadConnections {
		if err := pool.open(c.addr, i); err != nil {
			return err
		}
	}
	defer pool.close()

	// With nobody refused, and every caller waiting for an answer before the next
	// call, what is answered is what can be.
	pool.limit.Store(overloadCallers)
	capacityTime := max(s.length, 3*time.Second)
	pool.run(time.Second, 0)
	found := pool.run(capacityTime, 0)
	capacity := float64(found.admitted) / found.took.Seconds()
	if found.refused > 0 || capacity == 0 {
		return fmt.Errorf("%d of %d calls of %d callers were refused", found.refused, found.admitted+found.refused, overloadCallers)
	}
	fmt.Printf("%-52s %10.0f a second, %.0f ms p50, %.0f ms p99\n", fmt.Sprintf("%d callers over WebSockets, nobody refused", overloadCallers), capacity,
		percentile(found.latencies, 0.5), percentile(found.latencies, 0.99))

	pool.limit.Store(overloadConnections)
	cpu, err := c.processor()
	if err != nil {
		return err
	}
	got := pool.run(s.overload, overloadTimes*capacity)
	used, err := c.processor()
	if err != nil {
		return err
	}
	rss, err := c.memory("VmRSS")
	if err != nil {
		return err
	}
	seconds := got.took.Seconds()
	offered := float64(got.admitted+got.refused) / seconds
	line := func(name, format string, a ...any) { fmt.Printf("%-52s "+format+"\n", append([]any{name}, a...)...) }
	line(fmt.Sprintf("%d times that, for %s", overloadTimes, s.overload), "%10.0f a second sent, %d more had no free connection", offered, got.missed)
	line("  admitted", "%10.0f a second, %.0f ms p50, %.0f ms p99", float64(got.admitted)/seconds, percentile(got.latencies, 0.5), percentile(got.latencies, 0.99))
	line("  refused", "%10.0f a second, %.0f ms p50, %.0f ms p99", float64(got.refused)/seconds, percentile(got.refusals, 0.5), percentile(got.refusals, 0.99))
	line("  admitted, as a part of the capacity", "%10.2f", float64(got.admitted)/seconds/capacity)
	line("  server: processor time, resident memory", "%10.2f of one processor, %.0f MiB", (used-cpu)/seconds, rss/1024)
	reachedAtMost("p99 of those admitted, ms", percentile(got.latencies, 0.99), 1000)
	return nil
}

// overloadConn is a connection that waits for the answer to its mutation.
type overloadConn struct {
	*client
	pool *overloadPool
	name string
	sent time.Time
}

// overloadPool is connections without a call on its way, and what came of calls.
type overloadPool struct {
	free  chan *overloadConn
	all   []*overloadConn
	limit atomic.Int64 // calls on their way at once
	busy  atomic.Int64
	mu    sync.Mutex
	got   overloadResult
	err   atomic.Pointer[error]
}

// overloadResult is what came of calls in a while.
type overloadResult struct {
	took                time.Duration
	admitted, refused   int
	missed              int
	latencies, refusals []time.Duration
}

func (p *overloadPool) open(addr string, i int) error {
	oc := &overloadConn{pool: p, name: fmt.Sprintf("overload %d", i)}
	var err error
	oc.client, err = connect(addr, oc.frame)
	if err != nil {
		return err
	}
	p.all = append(p.all, oc)
	if err := oc.client.send(`{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[]}`); err != nil {
		return err
	}
	p.free <- oc
	return nil
}

func (p *overloadPool) close() {
	for _, c := range p.all {
		_ = c.conn.NetConn().Close()
	}
}

// frame takes what the server sends.
func (oc *overloadConn) frame(frame []byte) {
	if !bytes.Contains(frame, []byte(`"MutationResponse"`)) {
		return
	}
	took := time.Since(oc.sent)
	p := oc.pool
	p.mu.Lock()
	switch {
	case bytes.Contains(frame, []byte(`"success":true`)):
		p.got.admitted++
		p.got.latencies = append(p.got.latencies, took)
	case bytes.Contains(frame, []byte(`"code":"Overloaded"`)):
		p.got.refused++
		p.got.refusals = append(p.got.refusals, took)
	default:
		err := fmt.Errorf("a mutation failed: %.300s", frame)
		p.err.Store(&err)
	}
	p.mu.Unlock()
	p.busy.Add(-1)
	p.free <- oc
}

// run has calls come for a while, so many a second, or with 0 as many as the
// limit of those on their way allows, and waits for their answers. The time of an
// answer counts from when its call was sent.
func (p *overloadPool) run(length time.Duration, perSecond float64) overloadResult {
	p.mu.Lock()
	p.got = overloadResult{}
	p.mu.Unlock()
	start := time.Now()
	sent, missed := 0, 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for time.Since(start) < length && p.err.Load() == nil {
		due := int(perSecond*time.Since(start).Seconds()) - sent - missed
		for perSecond == 0 || due > 0 {
			if p.busy.Load() >= p.limit.Load() {
				if perSecond > 0 {
					missed += due
				}
				break
			}
			oc := <-p.free
			p.busy.Add(1)
			oc.sent = time.Now()
			if err := oc.increment(oc.name); err != nil {
				p.err.Store(&err)
				break
			}
			sent++
			due--
		}
		<-tick.C
	}
	took := time.Since(start)
	for p.busy.Load() > 0 && p.err.Load() == nil && time.Since(start) < length+20*time.Second {
		time.Sleep(time.Millisecond)
	}
	if err := p.err.Load(); err != nil {
		fmt.Println("  failed:", *err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	got.took, got.missed = took, missed
	sortDurations(got.latencies)
	sortDurations(got.refusals)
	return got
}
