package halcyon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// CronRun tells of one run of a cron.
type CronRun struct {
	Name     string // module/name
	Function string
	Due      time.Time
	Next     time.Time // as it was known when this run was scheduled
	Took     time.Duration
	Missed   int   // runs before this one that were skipped: they came due too late, or while the one before had not ended
	Err      error // of the function; the changes of a mutation are undone, the schedule goes on
}

// cron is a declared schedule.
type cron struct {
	name     string // module/name, its key in the table
	schedule Schedule
	function *function
}

// cronTable is the App's own: one document for each cron, with the next time it is due and the scheduled function that is its last run.
// When it is due, one transaction schedules the run and sets the next time.
var cronTable = engine.TableDef{
	Name:    engineName(systemModule, "crons"),
	Indexes: []engine.IndexDef{{Name: "by_name", Fields: []string{"name"}}},
}

// newCron checks a declaration. REQUIRES: the functions of the module are mounted.
func (a *App) newCron(m *Module, d cronDef) (*cron, error) {
	c := &cron{name: m.name + "/" + d.name, schedule: d.schedule, function: a.functions[m.name+":"+d.function]}
	switch {
	case c.function == nil:
		return c, fmt.Errorf("the module has no function %q", d.function)
	case c.function.kind == KindQuery:
		return c, fmt.Errorf("function %q is a query; a cron runs a mutation or an action", d.function)
	case d.schedule.err != nil:
		return c, d.schedule.err
	case d.schedule.text == "":
		return c, errors.New("it has no schedule; use Every, Hourly, Daily, Weekly, Monthly or CronExpr")
	}
	if _, err := decodeArgs(nil, c.function, value.Object()); err != nil {
		return c, fmt.Errorf("function %q can't be called without arguments: %w", d.function, err)
	}
	return c, checkTitle("cron", d.name)
}

// stepCron schedules the run of a cron if it is due, and returns when it is due next.
func (r *runtime) stepCron(ctx context.Context, c *cron) (next time.Time, err error) {
	receipt, err := r.mutate(ctx, engine.Call{Name: "cron " + c.name}, value.ID{}, func(inner *engine.Tx, s *sink) ([]byte, error) {
		step, err := r.cronTransaction(inner, s, c)
		return step.append(nil), err
	})
	if err != nil {
		return next, err
	}
	step, err := decodeCronStep(receipt.Result)
	if err != nil {
		return next, err
	}
	if step.skipped > 0 {
		r.logger.Warn("cron skipped a run: the one before has not ended", "cron", c.name, "next", step.next)
	}
	if step.moved {
		r.logger.Warn("cron comes earlier than it was to: the clock was set back", "cron", c.name, "next", step.next)
	}
	if step.missed > 0 {
		r.logger.Warn("cron skipped runs that came due too late", "cron", c.name, "missed", step.missed, "next", step.next)
	}
	return step.next, nil
}

// cronStep is what one look at a cron found and did.
type cronStep struct {
	next    time.Time
	skipped int  // runs for which another one had not ended
	missed  int  // runs that came due too late
	moved   bool // the clock was set back, and it would have waited until that time comes again
}

func (r *runtime) cronTransaction(inner *engine.Tx, s *sink, c *cron) (step cronStep, err error) {
	row, err := r.readCron(inner, c)
	if err != nil {
		return step, err
	}
	now := inner.Now().UTC().Truncate(time.Millisecond)
	changed := row.schedule != c.schedule.text
	if changed {
		row.schedule, row.due = c.schedule.text, c.schedule.first(now, row.lastRun)
	}
	if latest := c.schedule.latest(now); row.due.After(latest) {
		row.due, step.moved, changed = latest, true, true
	}
	again, err := r.bringForward(inner, s, c, row.job, now)
	if err != nil {
		return step, err
	}
	if again != row.job {
		row.job, row.lastRun, step.moved, changed = again, now, true, true
	}
	if row.due.After(now) {
		if changed {
			err = r.writeCron(inner, c, row)
		}
		step.next = row.due
		return step, err
	}
	due := row.due
	step.next, step.missed = c.schedule.after(due, now)
	row.due = step.next
	busy, err := r.cronBusy(inner, row.job)
	if err != nil {
		return step, err
	}
	row.missed += step.missed
	if busy {
		step.skipped = 1
		row.missed++
		return step, r.writeCron(inner, c, row)
	}
	id, err := r.insertCronJob(inner, s, c, due, step.next, row.missed)
	if err != nil {
		return step, err
	}
	row.job, row.lastRun, row.missed = id.String(), now, 0
	return step, r.writeCron(inner, c, row)
}

// insertCronJob schedules a run of a cron.
func (r *runtime) insertCronJob(inner *engine.Tx, s *sink, c *cron, at, next time.Time, missed int) (value.ID, error) {
	return r.insertJob(inner, s, newJob{
		name: c.function.path, kind: c.function.kind, args: value.Object(), at: at,
		cron: []value.Field{
			{Name: "cron", Value: value.String(c.name)}, {Name: "next", Value: encodeTime(next)},
			{Name: "missed", Value: value.Int64(int64(missed))},
		},
	})
}

// lastRun reads the last run of a cron; ok is false when there was none, or it is no longer kept.
func (r *runtime) lastRun(inner *engine.Tx, last string) (d engine.Document, ok bool, err error) {
	if last == "" {
		return d, false, nil
	}
	id, err := value.ParseID(last)
	if err != nil {
		return d, false, fmt.Errorf("last run of a cron: %w", err)
	}
	return inner.Get(r.jobs, id)
}

// bringForward puts the last run of a cron, where it is waiting for a time that the clock showed once and does not show any more, at the present one.
// It returns the id of the run.
func (r *runtime) bringForward(inner *engine.Tx, s *sink, c *cron, last string, now time.Time) (string, error) {
	d, ok, err := r.lastRun(inner, last)
	if err != nil || !ok || stateOf(d) != ScheduledPending || !storedTime(d, "scheduledTime").After(now) {
		return last, err
	}
	if err := r.endJob(inner, d.ID, ScheduledState{Kind: ScheduledCanceled}); err != nil {
		return last, err
	}
	missed, _ := d.Fields.Get("missed").AsInt64()
	fresh, err := r.insertCronJob(inner, s, c, now, storedTime(d, "next"), int(missed))
	return fresh.String(), err
}

// cronBusy reports whether the last run of a cron has not ended.
func (r *runtime) cronBusy(inner *engine.Tx, last string) (bool, error) {
	d, ok, err := r.lastRun(inner, last)
	if err != nil || !ok {
		return false, err
	}
	state := stateOf(d)
	return state == ScheduledPending || state == ScheduledInProgress, nil
}

// toldCron tells of the end of a scheduled function if it was the run of a cron.
func (r *runtime) toldCron(d engine.Document, function string, took time.Duration, state jobState) {
	name, ok := d.Fields.Get("cron").AsString()
	if !ok {
		return
	}
	run := CronRun{Name: name, Function: function, Due: storedTime(d, "scheduledTime"), Next: storedTime(d, "next"), Took: took}
	missed, _ := d.Fields.Get("missed").AsInt64()
	run.Missed, run.Err = int(missed), state.cause
	r.logger.Debug("cron ran", "cron", run.Name, "due", run.Due, "next", run.Next, "took", run.Took)
	if r.options.OnCron != nil {
		r.options.OnCron(run)
	}
}

// forgetCrons removes the documents of crons that are not declared any more: one that comes back later has missed nothing.
func (r *runtime) forgetCrons(ctx context.Context) error {
	declared := map[string]bool{}
	for _, c := range r.app.crons {
		declared[c.name] = true
	}
	_, err := r.db.Mutate(ctx, engine.Call{Name: "forget crons"}, func(inner *engine.Tx) ([]byte, error) {
		table := r.db.Table(cronTable.Name)
		for d, err := range inner.Scan(table.Index("by_name"), engine.Range{}, false) {
			if err != nil {
				return nil, err
			}
			if name, _ := d.Fields.Get("name").AsString(); declared[name] {
				continue
			}
			if err := inner.Delete(table, d.ID); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("forget crons that are not declared any more: %w", err)
	}
	return nil
}

// cronRow is a document of cronTable.
type cronRow struct {
	id           value.ID // zero: there is none yet
	schedule     string   // as it was when due was set
	due, lastRun time.Time
	job          string // the id of the last run
	missed       int    // runs skipped since then
}

func (r *runtime) readCron(inner *engine.Tx, c *cron) (cronRow, error) {
	byName := r.db.Table(cronTable.Name).Index("by_name")
	for doc, err := range inner.Scan(byName, engine.Range{Eq: []value.Value{value.String(c.name)}}, false) {
		if err != nil {
			return cronRow{}, err
		}
		row := cronRow{id: doc.ID, due: storedTime(doc, "due"), lastRun: storedTime(doc, "lastRun")}
		row.schedule, _ = doc.Fields.Get("schedule").AsString()
		row.job, _ = doc.Fields.Get("job").AsString()
		missed, _ := doc.Fields.Get("missed").AsInt64()
		row.missed = int(missed)
		return row, nil
	}
	return cronRow{}, nil
}

func (r *runtime) writeCron(inner *engine.Tx, c *cron, row cronRow) error {
	fields := []value.Field{
		{Name: "name", Value: value.String(c.name)},
		{Name: "schedule", Value: value.String(row.schedule)},
		{Name: "due", Value: encodeTime(row.due)},
		{Name: "missed", Value: value.Int64(int64(row.missed))},
	}
	if row.job != "" {
		fields = append(fields, value.Field{Name: "lastRun", Value: encodeTime(row.lastRun)}, value.Field{Name: "job", Value: value.String(row.job)})
	}
	_, err := put(inner, r.db.Table(cronTable.Name), row.id, value.Object(fields...))
	return err
}

func storedTime(doc engine.Document, field string) (t time.Time) {
	if ms, ok := doc.Fields.Get(field).AsFloat64(); ok {
		t, _ = decodeTime(ms)
	}
	return t
}

// append encodes the step as the result of the transaction, which may have been executed several times.
func (s cronStep) append(dst []byte) []byte {
	return value.AppendBinary(dst, value.Array(encodeTime(s.next), value.Int64(int64(s.skipped)), value.Int64(int64(s.missed)), value.Bool(s.moved)))
}

func decodeCronStep(b []byte) (s cronStep, err error) {
	v, err := value.DecodeBinary(b)
	if err != nil || v.Len() != 4 {
		return s, fmt.Errorf("outcome of a cron of %d bytes: %w", len(b), errors.Join(err, engine.ErrCorrupt))
	}
	next, _ := v.Index(0).AsFloat64()
	skipped, _ := v.Index(1).AsInt64()
	missed, _ := v.Index(2).AsInt64()
	s.moved, _ = v.Index(3).AsBool()
	s.skipped, s.missed = int(skipped), int(missed)
	s.next, _ = decodeTime(next)
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
