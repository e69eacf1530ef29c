package halcyon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Schedule says when a cron runs.
type Schedule struct {
	text  string // its declaration, by which a changed one is noticed
	every time.Duration
	at    time.Duration // after the begin of an hour or a day in UTC; negative: from the first run on
	err   error
}

// Every runs at once, and then again each d after that.
func Every(d time.Duration) Schedule {
	s := Schedule{text: "every " + d.String(), every: d, at: -1}
	if d < cronIntervalMin {
		s.err = fmt.Errorf("an interval is at least %v, not %v", cronIntervalMin, d)
	}
	return s
}

// Hourly runs at that minute of each hour.
func Hourly(minute int) Schedule {
	s := Schedule{text: fmt.Sprintf("hourly at minute %d", minute), every: time.Hour, at: time.Duration(minute) * time.Minute}
	if minute < 0 || minute > 59 {
		s.err = fmt.Errorf("a minute is from 0 to 59, not %d", minute)
	}
	return s
}

// Daily runs at that time of each day, in UTC.
func Daily(hour, minute int) Schedule {
	s := Schedule{text: fmt.Sprintf("daily at %02d:%02d UTC", hour, minute), every: 24 * time.Hour}
	if s.at = time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute; hour < 0 || hour > 23 || minute < 0 || minute > 59 {
		s.err = fmt.Errorf("a time of day is from 00:00 to 23:59, not %d:%d", hour, minute)
	}
	return s
}

// String returns the schedule in words.
func (s Schedule) String() string { return s.text }

// first returns the first time to run, for a cron that is new, or has a new schedule and ran last at lastRun.
func (s Schedule) first(now, lastRun time.Time) time.Time {
	if s.at < 0 && lastRun.IsZero() {
		return now
	}
	if s.at < 0 {
		return lastRun.Add(s.every)
	}
	t := now.Truncate(s.every).Add(s.at)
	if t.Before(now) {
		t = t.Add(s.every)
	}
	return t
}

// after returns the first time to run after now, when due was one before, and how many there were between.
func (s Schedule) after(due, now time.Time) (next time.Time, missed int) {
	missed = int(now.Sub(due) / s.every)
	return due.Add(time.Duration(missed+1) * s.every), missed
}

// CronRun tells of one run of a cron.
type CronRun struct {
	Name     string // module/name
	Function string
	Due      time.Time
	Next     time.Time
	Took     time.Duration
	Missed   int   // runs skipped because they came due too late
	Err      error // of the function; its changes are undone, the schedule goes on
}

// cron is a declared schedule.
type cron struct {
	name     string // module/name, its key in the table
	schedule Schedule
	function *function
}

// cronTable is the App's own: one document for each cron, with the next time it is due. A cron reads and writes its document in the
// transaction of its function, so that a run and the end of its being due are one commit.
var cronTable = engine.TableDef{
	Name:    engineName("_system", "crons"),
	Indexes: []engine.IndexDef{{Name: "by_name", Fields: []string{"name"}}},
}

// newCron checks a declaration. REQUIRES: the functions of the module are mounted.
func (a *App) newCron(m *Module, d cronDef) (*cron, error) {
	c := &cron{name: m.name + "/" + d.name, schedule: d.schedule, function: a.functions[m.name+":"+d.function]}
	switch {
	case c.function == nil:
		return c, fmt.Errorf("the module has no function %q", d.function)
	case c.function.kind != KindMutation:
		return c, fmt.Errorf("function %q is not a mutation", d.function)
	case d.schedule.every == 0:
		return c, errors.New("it has no schedule; use Every, Hourly or Daily")
	case d.schedule.err != nil:
		return c, d.schedule.err
	}
	if _, err := decodeArgs(nil, c.function, value.Object()); err != nil {
		return c, fmt.Errorf("function %q can't be called without arguments: %w", d.function, err)
	}
	return c, checkTitle("cron", d.name)
}

// runCron runs a cron whenever it is due, until ctx ends. App.Start starts it and App.Close waits for it.
func (r *runtime) runCron(ctx context.Context, c *cron) {
	for {
		wait := cronRetryAfter
		due, err := r.stepCron(ctx, c)
		switch {
		case ctx.Err() != nil || errors.Is(err, engine.ErrClosed):
			return
		case err != nil:
			r.logger.Warn("cron put off", "cron", c.name, "retry_in", wait, "error", err)
		default:
			wait = max(due.Sub(r.clock.Now()), time.Millisecond)
		}
		fired := make(chan struct{})
		stop := r.clock.AfterFunc(wait, func() { close(fired) })
		select {
		case <-fired:
		case <-ctx.Done():
			stop()
			return
		}
	}
}

// stepCron runs a cron if it is due and returns when it is due next. The error is the store's; that of the function is recorded and told
// to OnCron, and the schedule goes on.
func (r *runtime) stepCron(ctx context.Context, c *cron) (next time.Time, err error) {
	start := r.clock.Now()
	state, err := r.commitCron(ctx, c, nil)
	var failure error
	if err != nil {
		failure = err
		if _, refusal := r.failed(c.function, randomRequestID(), err, 0); refusal != nil {
			return next, refusal
		}
		if state, err = r.commitCron(ctx, c, failure); err != nil {
			return next, err
		}
	}
	if !state.ran {
		return state.next, nil
	}
	run := CronRun{
		Name: c.name, Function: c.function.path, Due: state.due, Next: state.next,
		Took: r.clock.Now().Sub(start), Missed: state.missed, Err: failure,
	}
	r.logger.Debug("cron ran", "cron", run.Name, "due", run.Due, "next", run.Next, "took", run.Took)
	if run.Missed > 0 {
		r.logger.Warn("cron skipped runs that came due too late", "cron", run.Name, "missed", run.Missed, "next", run.Next)
	}
	if r.options.OnCron != nil {
		r.options.OnCron(run)
	}
	return state.next, nil
}

// cronState is what one transaction of a cron found and did.
type cronState struct {
	due, next time.Time
	missed    int
	ran       bool
}

// commitCron is one transaction of a cron: it looks whether the cron is due, and if so runs its function and sets the next time. With
// failure set the function is not run: it has failed, and its failure is recorded instead.
func (r *runtime) commitCron(ctx context.Context, c *cron, failure error) (cronState, error) {
	receipt, err := r.db.Mutate(ctx, engine.Call{Name: c.function.path}, func(inner *engine.Tx) ([]byte, error) {
		row, err := r.readCron(inner, c)
		if err != nil {
			return nil, err
		}
		now := inner.Now().UTC().Truncate(time.Millisecond)
		state := cronState{due: row.due}
		if row.schedule != c.schedule.text {
			state.due = c.schedule.first(now, row.lastRun)
		}
		state.next = state.due
		lastError := row.lastError
		if state.ran = !state.due.After(now); state.ran {
			state.next, state.missed = c.schedule.after(state.due, now)
			row.lastRun, lastError = now, ""
			if failure != nil {
				lastError = failure.Error()
			} else if err := r.executeCron(inner, c); err != nil {
				return nil, err
			}
		}
		if state.ran || row.schedule != c.schedule.text {
			row.schedule, row.due, row.lastError = c.schedule.text, state.next, lastError
			if err := r.writeCron(inner, c, row); err != nil {
				return nil, err
			}
		}
		return state.append(nil), nil
	})
	if err != nil {
		return cronState{}, err
	}
	return decodeCronState(receipt.Result)
}

func (r *runtime) executeCron(inner *engine.Tx, c *cron) error {
	args, invalid := decodeArgs(moduleTables{r, c.function.module}, c.function, value.Object())
	if invalid != nil {
		return invalid
	}
	_, logs, err := r.execute(inner, c.function, args)
	r.logLines(c.function, logs)
	return err
}

// cronRow is a document of cronTable.
type cronRow struct {
	id           value.ID // zero: there is none yet
	schedule     string   // as it was when due was set
	due, lastRun time.Time
	lastError    string
}

func (r *runtime) readCron(inner *engine.Tx, c *cron) (cronRow, error) {
	byName := r.db.Table(cronTable.Name).Index("by_name")
	for doc, err := range inner.Scan(byName, engine.Range{Eq: []value.Value{value.String(c.name)}}, false) {
		if err != nil {
			return cronRow{}, err
		}
		row := cronRow{id: doc.ID, due: storedTime(doc, "due"), lastRun: storedTime(doc, "lastRun")}
		row.schedule, _ = doc.Fields.Get("schedule").AsString()
		row.lastError, _ = doc.Fields.Get("lastError").AsString()
		return row, nil
	}
	return cronRow{}, nil
}

func (r *runtime) writeCron(inner *engine.Tx, c *cron, row cronRow) error {
	fields := []value.Field{
		{Name: "name", Value: value.String(c.name)},
		{Name: "schedule", Value: value.String(row.schedule)},
		{Name: "due", Value: encodeTime(row.due)},
	}
	if !row.lastRun.IsZero() {
		fields = append(fields, value.Field{Name: "lastRun", Value: encodeTime(row.lastRun)})
	}
	if row.lastError != "" {
		fields = append(fields, value.Field{Name: "lastError", Value: value.String(cut(row.lastError, logLineBytesMax, logCutMarker))})
	}
	table := r.db.Table(cronTable.Name)
	if !row.id.IsZero() {
		return inner.Replace(table, row.id, value.Object(fields...))
	}
	_, err := inner.Insert(table, value.Object(fields...))
	return err
}

func storedTime(doc engine.Document, field string) (t time.Time) {
	if ms, ok := doc.Fields.Get(field).AsFloat64(); ok {
		t, _ = decodeTime(ms)
	}
	return t
}

// append encodes the state as the result of the transaction, which may have been executed several times.
func (s cronState) append(dst []byte) []byte {
	return value.AppendBinary(dst, value.Array(encodeTime(s.due), encodeTime(s.next), value.Int64(int64(s.missed)), value.Bool(s.ran)))
}

func decodeCronState(b []byte) (s cronState, err error) {
	v, err := value.DecodeBinary(b)
	if err != nil || v.Len() != 4 {
		return s, fmt.Errorf("outcome of a cron of %d bytes: %w", len(b), errors.Join(err, engine.ErrCorrupt))
	}
	due, _ := v.Index(0).AsFloat64()
	next, _ := v.Index(1).AsFloat64()
	missed, _ := v.Index(2).AsInt64()
	s.missed = int(missed)
	s.due, _ = decodeTime(due)
	s.next, _ = decodeTime(next)
	s.ran, _ = v.Index(3).AsBool()
	return s, nil
}

// systemClock is the wall clock at its creation carried on by monotonic time, so that a step of the wall clock moves no cron.
type systemClock struct{ start time.Time }

func newSystemClock() systemClock { return systemClock{time.Now()} }

func (c systemClock) Now() time.Time { return c.start.Add(time.Since(c.start)) }

func (c systemClock) AfterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}
