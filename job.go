package halcyon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// runningQueue is the queue of the actions that were started and have not ended.
const runningQueue = "running"

// job is a pending scheduled function as the scheduler knows it. It is a hint: whoever runs it looks at its document first.
type job struct {
	id    value.ID
	lane  FunctionKind
	at    time.Time // to run
	due   time.Time // its place in its queue
	tries int       // that failed in a way that may be retried
}

// sink is what the executions of one call have scheduled. There may be several executions, and all but one come to nothing; a job without
// a document costs one look.
type sink struct {
	parent value.ID // the scheduled action that the call belongs to; zero for none
	mu     sync.Mutex
	jobs   []job
}

// mutate is DB.Mutate for functions that may schedule others: the scheduler learns of them when they are durable, also when nobody waits
// for the call any more.
func (r *runtime) mutate(ctx context.Context, call engine.Call, parent value.ID, fn func(*engine.Tx, *sink) ([]byte, error)) (engine.Receipt, error) {
	s := &sink{parent: parent}
	onCommit := call.OnCommit
	call.OnCommit = func(receipt engine.Receipt) {
		s.mu.Lock()
		jobs := s.jobs
		s.jobs = nil
		s.mu.Unlock()
		if len(jobs) > 0 {
			r.scheduler.offer(jobs...)
		}
		if onCommit != nil {
			onCommit(receipt)
		}
	}
	return r.db.Mutate(ctx, call, func(inner *engine.Tx) ([]byte, error) { return fn(inner, s) })
}

// transact runs f in a transaction for an action, with a Tx that is good for scheduling.
func (c *Ctx) transact(f func(*Tx) error) error {
	if err := c.Err(); err != nil {
		return context.Cause(c)
	}
	_, err := c.run.mutate(c, engine.Call{Name: "schedule by " + c.fn.path}, c.job, func(inner *engine.Tx, s *sink) ([]byte, error) {
		return nil, f(&Tx{inner: inner, run: c.run, fn: c.fn, sink: s})
	})
	return err
}

// newJob is a function to schedule.
type newJob struct {
	name string // canonical path
	kind FunctionKind
	args value.Value
	at   time.Time
	cron []value.Field // of a cron's run
}

// insertJob schedules a function.
//
// Its place in the queue is the time it is due, but never before the mark of its lane, which the transaction reads: so nothing is ever
// added where the scheduler does not look any more, whatever the clock did.
func (r *runtime) insertJob(inner *engine.Tx, s *sink, n newJob) (value.ID, error) {
	state := ScheduledPending
	if !s.parent.IsZero() {
		parent, ok, err := inner.Get(r.jobs, s.parent)
		if err != nil {
			return value.ID{}, err
		}
		if ok && stateOf(parent) == ScheduledCanceled {
			state = ScheduledCanceled
		}
	}
	fields := append([]value.Field{
		{Name: "name", Value: value.String(strings.Replace(n.name, ":", ".js:", 1))},
		{Name: "args", Value: value.Array(n.args)},
		{Name: "scheduledTime", Value: encodeTime(n.at)},
		{Name: "state", Value: encodeState(ScheduledState{Kind: state})},
	}, n.cron...)
	if state == ScheduledCanceled {
		fields = append(fields, value.Field{Name: "completedTime", Value: encodeTime(inner.Now().Truncate(time.Millisecond))})
		return inner.Insert(r.jobs, value.Object(fields...))
	}
	lane := laneNames[n.kind]
	m, err := r.readMark(inner, lane)
	if err != nil {
		return value.ID{}, err
	}
	due := n.at
	if due.Before(m.at) {
		due = m.at
	}
	fields = append(fields, value.Field{Name: "queue", Value: value.String(lane)}, value.Field{Name: "due", Value: encodeTime(due)})
	id, err := inner.Insert(r.jobs, value.Object(fields...))
	if err != nil {
		return value.ID{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs = append(s.jobs, job{id: id, lane: n.kind, at: n.at, due: due})
	return id, nil
}

// endJob puts a job into a final state.
func (r *runtime) endJob(inner *engine.Tx, id value.ID, state ScheduledState) error {
	state.Error = cut(state.Error, logLineBytesMax, logCutMarker)
	return inner.Patch(r.jobs, id, value.Object(
		value.Field{Name: "state", Value: encodeState(state)},
		value.Field{Name: "completedTime", Value: encodeTime(inner.Now().Truncate(time.Millisecond))},
	), "queue", "due")
}

func encodeState(s ScheduledState) value.Value {
	fields := []value.Field{{Name: "kind", Value: value.String(string(s.Kind))}}
	if s.Error != "" {
		fields = append(fields, value.Field{Name: "error", Value: value.String(s.Error)})
	}
	return value.Object(fields...)
}

func stateOf(d engine.Document) ScheduledKind {
	kind, _ := d.Fields.Get("state").Get("kind").AsString()
	return ScheduledKind(kind)
}

// isJob finds a job that is in one state.
func (r *runtime) isJob(inner *engine.Tx, id value.ID, state ScheduledKind) (bool, error) {
	d, ok, err := inner.Get(r.jobs, id)
	return ok && err == nil && stateOf(d) == state, err
}

// jobEnd is what came of looking at a job or of running it.
type jobEnd uint8

const (
	jobOver  jobEnd = iota // nothing to do any more
	jobAgain               // not now: it has had no effect and is tried again
	jobLeft                // the App closes
)

// runJob runs a job if it is pending.
func (r *runtime) runJob(ctx context.Context, j job) jobEnd {
	var d engine.Document
	var pending bool
	if _, err := r.db.Query(ctx, "read scheduled function", func(inner *engine.Tx) (err error) {
		if d, pending, err = inner.Get(r.jobs, j.id); pending {
			pending = stateOf(d) == ScheduledPending
		}
		return err
	}); err != nil {
		return r.putOff(ctx, j, err)
	}
	if !pending {
		return jobOver
	}
	start := r.clock.Now()
	name, _ := d.Fields.Get("name").AsString()
	path, err := canonicalPath(name)
	kind, _ := r.app.Kind(path)
	var end jobEnd
	var state jobState
	switch args := d.Fields.Get("args"); {
	case err != nil || args.Len() != 1:
		wrong := fmt.Errorf("%w: %q and its arguments are not those of a scheduled function", engine.ErrCorrupt, cut(name, nameBytesMax, "..."))
		end, state = r.finishJob(ctx, j, ScheduledPending, failedJob(wrong.Error(), wrong))
	case kind == KindAction:
		end, state = r.runJobAction(ctx, j, path, args.Index(0))
	default:
		end, state = r.runJobMutation(ctx, j, path, args.Index(0))
	}
	if end == jobOver && state.Kind != "" {
		r.logger.Debug("scheduled function ended", "function", path, "id", j.id.String(), "state", string(state.Kind))
		r.toldCron(d, path, r.clock.Now().Sub(start), state)
	}
	return end
}

// jobState is the final state of a job, with the operator's side of an error.
type jobState struct {
	ScheduledState
	cause error
}

// failedJob is the state of a job that failed: with the failure that a client would be told, and with what is behind it.
func failedJob(message string, cause error) jobState {
	return jobState{ScheduledState{Kind: ScheduledFailed, Error: message}, cause}
}

// runJobMutation runs a mutation. Its effect and the end of its job are one commit.
func (r *runtime) runJobMutation(ctx context.Context, j job, path string, given value.Value) (jobEnd, jobState) {
	f, args, refused := r.resolve(path, KindMutation, given, true)
	if refused != nil {
		return r.refuseJob(ctx, j, refused)
	}
	success := jobState{ScheduledState: ScheduledState{Kind: ScheduledSuccess}}
	began := r.clock.Now()
	call := engine.Call{Name: f.path, Relaxed: f.relaxed}
	receipt, err := r.mutate(ctx, call, value.ID{}, func(inner *engine.Tx, s *sink) ([]byte, error) {
		if pending, err := r.isJob(inner, j.id, ScheduledPending); err != nil || !pending {
			return nil, err
		}
		_, logs, err := r.execute(inner, f, args(), nil, s)
		if err != nil {
			return nil, err
		}
		return encodeOutcome(value.Null(), logs), r.endJob(inner, j.id, success.ScheduledState)
	})
	switch {
	case err == nil && !receipt.Wrote:
		return jobOver, jobState{} // it was canceled meanwhile
	case err == nil:
		if out, err := decodeOutcome(receipt); err == nil {
			r.logLines(f, out.Logs)
			r.ended(f, "", began, out, nil)
		}
		return jobOver, success
	case ctx.Err() != nil || errors.Is(err, engine.ErrClosed):
		return jobLeft, jobState{}
	}
	id := randomRequestID()
	out, refusal := r.failed(f, id, refusedOp(err), receipt.At)
	r.ended(f, id, began, out, refusal)
	switch {
	case refusal != nil:
		return r.putOff(ctx, j, refusal), jobState{}
	case out.Failure.Code.Retry():
		return jobAgain, jobState{} // failed has told why
	}
	return r.finishJob(ctx, j, ScheduledPending, failedJob(out.Failure.Message, err))
}

func (r *runtime) refuseJob(ctx context.Context, j job, refused *Failure) (jobEnd, jobState) {
	r.logger.Error("scheduled function can't be run", "id", j.id.String(), "error", refused)
	return r.finishJob(ctx, j, ScheduledPending, failedJob(refused.Message, refused))
}

// runJobAction runs an action. That it is in progress is durable before it starts, and so it is never started again.
func (r *runtime) runJobAction(ctx context.Context, j job, path string, given value.Value) (jobEnd, jobState) {
	f, args, refused := r.resolve(path, KindAction, given, true)
	if refused != nil {
		return r.refuseJob(ctx, j, refused)
	}
	if !r.actions.begin() {
		return jobAgain, jobState{}
	}
	receipt, err := r.db.Mutate(ctx, engine.Call{Name: "start " + path}, func(inner *engine.Tx) ([]byte, error) {
		if pending, err := r.isJob(inner, j.id, ScheduledPending); err != nil || !pending {
			return nil, err
		}
		return nil, inner.Patch(r.jobs, j.id, value.Object(
			value.Field{Name: "state", Value: encodeState(ScheduledState{Kind: ScheduledInProgress})},
			value.Field{Name: "queue", Value: value.String(runningQueue)},
		))
	})
	if err != nil || !receipt.Wrote {
		r.actions.end()
		if err != nil {
			return r.putOff(ctx, j, err), jobState{}
		}
		return jobOver, jobState{} // it was canceled
	}
	out, err := r.actBegun(ctx, &Ctx{run: r, fn: f, job: j.id, requestID: randomRequestID()}, args())
	state := jobState{ScheduledState: ScheduledState{Kind: ScheduledSuccess}}
	switch refusal, ok := errors.AsType[*RequestError](err); {
	case ctx.Err() != nil || ok && refusal.Code == CodeUnavailable:
		return jobLeft, jobState{} // and has failed with interruptedError when the App is started again
	case err != nil:
		state = failedJob(err.Error(), err)
	case out.Failure != nil:
		state = failedJob(out.Failure.Message, out.Failure)
	}
	return r.finishJob(ctx, j, ScheduledInProgress, state)
}

// finishJob ends a job that is in a state. What the job did is done, so this is tried until it works.
func (r *runtime) finishJob(ctx context.Context, j job, from ScheduledKind, state jobState) (jobEnd, jobState) {
	for tries := 0; ; tries++ {
		_, err := r.db.Mutate(ctx, engine.Call{Name: "end scheduled function"}, func(inner *engine.Tx) ([]byte, error) {
			if is, err := r.isJob(inner, j.id, from); err != nil || !is {
				return nil, err
			}
			return nil, r.endJob(inner, j.id, state.ScheduledState)
		})
		if err == nil {
			return jobOver, state
		}
		if r.putOff(ctx, j, err) == jobLeft || !r.pause(ctx, retryAfter(tries)) {
			return jobLeft, jobState{}
		}
	}
}

// putOff tells of an error of the store.
func (r *runtime) putOff(ctx context.Context, j job, err error) jobEnd {
	if ctx.Err() != nil || errors.Is(err, engine.ErrClosed) {
		return jobLeft
	}
	r.logger.Warn("scheduled function put off", "id", j.id.String(), "tries", j.tries+1, "retry_in", retryAfter(j.tries), "error", err)
	return jobAgain
}

// retryAfter is how long a job waits after so many tries before this one.
func retryAfter(tries int) time.Duration {
	return min(scheduledRetryMin<<min(tries, 20), scheduledRetryMax)
}

// pause waits, and reports whether ctx has not ended.
func (r *runtime) pause(ctx context.Context, d time.Duration) bool {
	fired := make(chan struct{})
	stop := r.clock.AfterFunc(d, func() { close(fired) })
	defer stop()
	select {
	case <-fired:
		return true
	case <-ctx.Done():
		return false
	}
}

// mark is a document of markTable: a moment before which there is nothing to find in a queue. The scheduler looks from there on, so that
// it does not go through what was removed before, and whoever adds to the queue reads it and adds behind it.
type mark struct {
	id   value.ID // zero: there is none yet
	name string
	at   time.Time
}

func (r *runtime) readMark(inner *engine.Tx, name string) (mark, error) {
	ix := r.db.Table(markTable.Name).Index("by_name")
	for d, err := range inner.Scan(ix, engine.Range{Eq: []value.Value{value.String(name)}}, false) {
		if err != nil {
			return mark{}, err
		}
		return mark{id: d.ID, name: name, at: storedTime(d, "at")}, nil
	}
	return mark{name: name}, nil
}

func (r *runtime) writeMark(inner *engine.Tx, m mark) error {
	_, err := put(inner, r.db.Table(markTable.Name), m.id, value.Object(
		value.Field{Name: "name", Value: value.String(m.name)}, value.Field{Name: "at", Value: encodeTime(m.at)}))
	return err
}

// queued is the part of a queue from a moment on.
func queued(queue string, from time.Time) engine.Range {
	rg := engine.Range{Eq: []value.Value{value.String(queue)}}
	if !from.IsZero() {
		rg.Lower = &engine.Bound{Value: encodeTime(from), Inclusive: true}
	}
	return rg
}

// moveMark moves the mark of a lane up to its first pending function, but not past the present: what is scheduled next is due now.
func (r *runtime) moveMark(ctx context.Context, lane string) error {
	_, err := r.db.Mutate(ctx, engine.Call{Name: "move mark of scheduler"}, func(inner *engine.Tx) ([]byte, error) {
		m, err := r.readMark(inner, lane)
		if err != nil {
			return nil, err
		}
		to := inner.Now().UTC().Truncate(time.Millisecond)
		for d, err := range inner.Scan(r.jobs.Index(byQueue), queued(lane, m.at), false) {
			if err != nil {
				return nil, err
			}
			if first := storedTime(d, "due"); first.Before(to) {
				to = first
			}
			break
		}
		if !to.After(m.at) {
			return nil, nil
		}
		m.at = to
		return nil, r.writeMark(inner, m)
	})
	return err
}

// sweepMark names the mark before which nothing that has ended is left.
const sweepMark = "ended"

// sweepJobs removes what has ended long ago, and returns whether there may be more.
func (r *runtime) sweepJobs(ctx context.Context) (more bool, err error) {
	receipt, err := r.db.Mutate(ctx, engine.Call{Name: "remove ended scheduled functions"}, func(inner *engine.Tx) ([]byte, error) {
		m, err := r.readMark(inner, sweepMark)
		if err != nil {
			return nil, err
		}
		until := inner.Now().UTC().Add(-scheduledKept)
		rg := engine.Range{Lower: &engine.Bound{Value: encodeTime(m.at), Inclusive: true}, Upper: &engine.Bound{Value: encodeTime(until)}}
		page, err := inner.Page(r.jobs.Index(byCompleted), rg, false, engine.PageRequest{Limit: scheduledSweepBatch, BytesMax: fitBytes})
		if err != nil {
			return nil, err
		}
		for i, d := range page.Documents {
			if i > 0 && inner.HalfSpent() {
				break
			}
			if err := inner.Delete(r.jobs, d.ID); err != nil {
				return nil, err
			}
			m.at = storedTime(d, "completedTime")
		}
		if len(page.Documents) == 0 {
			return nil, nil
		}
		return nil, r.writeMark(inner, m)
	})
	return receipt.Wrote, err
}

// interruptJobs ends the actions that were running when the program stopped.
func (r *runtime) interruptJobs(ctx context.Context) error {
	interrupted := failedJob(interruptedError, errors.New(interruptedError))
	for {
		var ended []engine.Document
		receipt, err := r.db.Mutate(ctx, engine.Call{Name: "end interrupted actions"}, func(inner *engine.Tx) ([]byte, error) {
			page, err := inner.Page(r.jobs.Index(byQueue), queued(runningQueue, time.Time{}), false, engine.PageRequest{Limit: scheduledSweepBatch, BytesMax: fitBytes})
			if err != nil {
				return nil, err
			}
			ended = nil
			for i, d := range page.Documents {
				if i > 0 && inner.HalfSpent() {
					break
				}
				if err := r.endJob(inner, d.ID, interrupted.ScheduledState); err != nil {
					return nil, err
				}
				ended = append(ended, d)
			}
			return nil, nil
		})
		if err != nil {
			return fmt.Errorf("end actions that were interrupted: %w", err)
		}
		if !receipt.Wrote {
			return nil
		}
		for _, d := range ended {
			name, _ := d.Fields.Get("name").AsString()
			path, _ := canonicalPath(name)
			r.logger.Warn("scheduled action was interrupted by the end of the program", "function", path, "id", d.ID.String())
			r.toldCron(d, path, 0, interrupted)
		}
	}
}
