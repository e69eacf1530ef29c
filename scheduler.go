package halcyon

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// laneNames are the queues of pending functions. Actions may take long, and so have one of their own.
var laneNames = map[FunctionKind]string{KindMutation: "mutation", KindAction: "action"}

// never is later than all that is scheduled.
var never = time.Unix(1<<42, 0)

// lane is one kind of pending functions, in memory: those that are due up to the horizon, the next ones first. What is due later, and what
// had no room at the horizon itself, lies only in the store, and is read when all the others have been started.
type lane struct {
	name    string
	max     int // that run at once
	waiting jobHeap
	fresh   int // of those that wait: they have not been tried
	running int
	horizon time.Time // never: nothing lies only in the store
	ended   int       // since the mark moved
}

// scheduler runs scheduled functions and crons when they are due. Its state is a picture of what is stored: it is filled from the store at
// the start, is told of new jobs when they are durable, and drops what it has no room for.
//
// One goroutine decides (loop) and starts one for each run; another one sweeps. App.Start starts them, and App.Close ends them and waits for
// all.
type scheduler struct {
	run  *runtime
	room int           // jobs that a lane keeps in memory; twice as many for a moment
	wake chan struct{} // something may have to be started
	jobs sync.WaitGroup

	mu struct {
		sync.Mutex
		started bool
		lanes   map[FunctionKind]*lane
		known   map[value.ID]bool   // waits in a lane or runs
		crons   map[*cron]time.Time // when each is due; never while one is looked at
	}
}

func newScheduler(r *runtime) *scheduler {
	s := &scheduler{run: r, room: scheduledInMemory, wake: make(chan struct{}, 1)}
	s.mu.known = map[value.ID]bool{}
	s.mu.crons = map[*cron]time.Time{}
	s.mu.lanes = map[FunctionKind]*lane{
		KindMutation: {name: laneNames[KindMutation], max: scheduledMutations},
		KindAction:   {name: laneNames[KindAction], max: scheduledActions},
	}
	return s
}

// start reads what is pending and begins to run what is due, until ctx ends; s.jobs is done when all of it has ended.
func (s *scheduler) start(ctx context.Context) error {
	if err := s.run.interruptJobs(ctx); err != nil {
		return err
	}
	if err := s.run.forgetCrons(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.mu.started = true
	for _, l := range s.mu.lanes {
		l.horizon = never
	}
	s.mu.Unlock()
	for kind, l := range s.mu.lanes {
		if _, err := s.read(ctx, l, kind); err != nil {
			return fmt.Errorf("read what is scheduled: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.run.app.crons {
		s.mu.crons[c] = time.Time{}
	}
	s.jobs.Go(func() { s.loop(ctx) })
	s.jobs.Go(func() { s.sweep(ctx) })
	return nil
}

func (s *scheduler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// offer tells the scheduler of jobs that are durable. It is quick, for it is called while a commit is published.
func (s *scheduler) offer(jobs ...job) {
	s.mu.Lock()
	if s.mu.started { // or else the start will find them
		for _, j := range jobs {
			s.addLocked(j)
		}
	}
	s.mu.Unlock()
	s.signal()
}

func (s *scheduler) addLocked(j job) {
	l := s.mu.lanes[j.lane]
	if j.due.After(l.horizon) || s.mu.known[j.id] {
		return
	}
	s.mu.known[j.id] = true
	heap.Push(&l.waiting, j)
	l.fresh++
	if len(l.waiting) > 2*s.room {
		slices.SortFunc(l.waiting, func(a, b job) int { return a.due.Compare(b.due) })
		s.keepLocked(l, l.waiting[:s.room], l.waiting[s.room-1].due)
	}
}

// keepLocked forgets all waiting jobs of a lane but these, the first of its waiting ones. The others will be read again.
func (s *scheduler) keepLocked(l *lane, jobs []job, horizon time.Time) {
	for _, gone := range l.waiting[len(jobs):] {
		delete(s.mu.known, gone.id)
	}
	l.waiting, l.horizon, l.fresh = slices.Clone(jobs), horizon, 0
	for _, j := range l.waiting {
		if j.tries == 0 {
			l.fresh++
		}
	}
	heap.Init(&l.waiting)
}

// loop decides what to start.
func (s *scheduler) loop(ctx context.Context) {
	for {
		for kind := range laneNames {
			if !s.fill(ctx, kind) {
				return
			}
		}
		next := s.startDue(ctx)
		stop := func() {}
		if next.Before(never) {
			wait := next.Sub(s.run.clock.Now())
			if wait <= 0 {
				continue
			}
			stop = s.run.clock.AfterFunc(wait, s.signal)
		}
		select {
		case <-s.wake:
			stop()
		case <-ctx.Done():
			stop()
			return
		}
	}
}

// startDue starts what is due, and returns when something is due next.
func (s *scheduler) startDue(ctx context.Context) (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.run.clock.Now()
	next = never
	later := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	for _, l := range s.mu.lanes {
		for len(l.waiting) > 0 && l.running < l.max && !l.waiting[0].at.After(now) {
			j := heap.Pop(&l.waiting).(job)
			l.running++
			if j.tries == 0 {
				l.fresh--
			}
			s.jobs.Go(func() { s.runOne(ctx, l, j) })
		}
		if len(l.waiting) > 0 && l.running < l.max {
			later(l.waiting[0].at)
		}
		if l.ended >= scheduledMarkEvery {
			l.ended = 0
			s.jobs.Go(func() { s.moveMark(ctx, l.name) })
		}
	}
	for c, due := range s.mu.crons {
		if due.After(now) {
			later(due)
			continue
		}
		s.mu.crons[c] = never
		s.jobs.Go(func() { s.lookAtCron(ctx, c) })
	}
	return next
}

// runOne runs a job and puts it back if it must be tried again.
func (s *scheduler) runOne(ctx context.Context, l *lane, j job) {
	end := s.run.runJob(ctx, j)
	s.mu.Lock()
	l.running--
	switch end {
	case jobAgain: // it stays known
		j.at = s.run.clock.Now().Add(retryAfter(j.tries))
		j.tries++
		heap.Push(&l.waiting, j)
	case jobOver:
		delete(s.mu.known, j.id)
		l.ended++
	}
	s.mu.Unlock()
	s.signal()
}

func (s *scheduler) lookAtCron(ctx context.Context, c *cron) {
	next, err := s.run.stepCron(ctx, c)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, engine.ErrClosed) {
			return
		}
		next = s.run.clock.Now().Add(cronRetryAfter)
		s.run.logger.Warn("cron put off", "cron", c.name, "retry_in", cronRetryAfter, "error", err)
	}
	s.mu.Lock()
	s.mu.crons[c] = next
	s.mu.Unlock()
	s.signal()
}

func (s *scheduler) moveMark(ctx context.Context, lane string) {
	if err := s.run.moveMark(ctx, lane); err != nil && ctx.Err() == nil {
		s.run.logger.Warn("mark of scheduled functions not moved", "queue", lane, "error", err)
	}
}

// sweep removes what has ended long ago, every now and then until ctx ends.
func (s *scheduler) sweep(ctx context.Context) {
	for {
		more, err := s.run.sweepJobs(ctx)
		if err != nil && ctx.Err() == nil {
			s.run.logger.Warn("ended scheduled functions not removed", "retry_in", scheduledSweepEvery, "error", err)
		}
		if (err != nil || !more) && !s.run.pause(ctx, scheduledSweepEvery) {
			return
		}
	}
}

// fill reads pending functions from the store when all of a lane that were known have been started. It reports false when ctx has ended.
// Those that wait to be tried again stay; as long as they take all the room, the others wait.
//
// No job is missed: from the moment the horizon is never, jobs that become durable are offered to the lane, and all that were durable
// before are in the snapshots that are read after it.
func (s *scheduler) fill(ctx context.Context, kind FunctionKind) bool {
	s.mu.Lock()
	l := s.mu.lanes[kind]
	if l.horizon.Equal(never) || l.fresh > 0 || len(l.waiting) >= s.room {
		s.mu.Unlock()
		return true
	}
	l.horizon = never
	s.mu.Unlock()
	for failures := 0; ; failures++ {
		more, err := s.read(ctx, l, kind)
		if err == nil {
			if more {
				s.signal() // all of it may be known by now, and there may be nothing else to wake up for
			}
			return true
		}
		if ctx.Err() != nil || errors.Is(err, engine.ErrClosed) {
			return false
		}
		s.run.logger.Warn("scheduled functions not read", "retry_in", retryAfter(failures), "error", err)
		if !s.run.pause(ctx, retryAfter(failures)) {
			return false
		}
	}
}

// read adds up to s.room pending functions that are not known to a lane, in the order of their queue, and sets its horizon to the
// last of them when there are more.
func (s *scheduler) read(ctx context.Context, l *lane, kind FunctionKind) (more bool, err error) {
	r := s.run
	var m mark
	if _, err := r.db.Query(ctx, "read scheduled functions", func(inner *engine.Tx) (err error) {
		m, err = r.readMark(inner, l.name)
		return err
	}); err != nil {
		return false, err
	}
	added, last := 0, time.Time{}
	for from := (engine.PageRequest{Limit: 1_000, BytesMax: fitBytes}); ; {
		var page engine.Page
		if _, err := r.db.Query(ctx, "read scheduled functions", func(inner *engine.Tx) (err error) {
			page, err = inner.Page(r.jobs.Index(byQueue), queued(l.name, m.at), false, from)
			return err
		}); err != nil {
			return false, err
		}
		s.mu.Lock()
		for _, d := range page.Documents {
			j := job{id: d.ID, lane: kind, at: storedTime(d, "scheduledTime"), due: storedTime(d, "due")}
			if s.mu.known[j.id] {
				continue
			}
			if added == s.room {
				slices.SortFunc(l.waiting, func(a, b job) int { return a.due.Compare(b.due) })
				n := 0
				for n < len(l.waiting) && !l.waiting[n].due.After(last) {
					n++
				}
				s.keepLocked(l, l.waiting[:n], last)
				s.mu.Unlock()
				return true, nil
			}
			s.addLocked(j)
			added, last = added+1, j.due
		}
		s.mu.Unlock()
		if page.Done {
			return false, nil
		}
		from.Cursor = page.Next
	}
}

// jobHeap has the job to run next first.
type jobHeap []job

func (h jobHeap) Len() int { return len(h) }
func (h jobHeap) Less(i, j int) bool {
	return cmp.Or(h[i].at.Compare(h[j].at), h[i].due.Compare(h[j].due)) < 0
}
func (h jobHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *jobHeap) Push(x any)   { *h = append(*h, x.(job)) }
func (h *jobHeap) Pop() any {
	old := *h
	j := old[len(old)-1]
	*h = old[:len(old)-1]
	return j
}
