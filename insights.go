package halcyon

import (
	"cmp"
	"container/heap"
	"errors"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine"
)

// Insights are what an App noticed about its functions in the last hour, or since it was opened.
type Insights struct {
	Since, Now time.Time
	Functions  []FunctionInsights // of what was called, by path
	// Documents are those over which transactions met most often, the most frequent first. At most 50 are listed. Where transactions met over
	// more than 512 in five minutes, those with few conflicts may be missing or counted too high.
	Documents []DocumentInsights
	// Contention counts the calls that failed because others wrote, by Convex's code for it, OptimisticConcurrencyControlFailure. Nothing here
	// fails with it; the count is there to show it.
	Contention int64
}

// FunctionInsights are those of one function.
type FunctionInsights struct {
	Function string
	Kind     FunctionKind
	Calls    int64 // that ended, whoever called: clients, HTTP, schedules, crons
	Failures int64
	Codes    map[Code]int64 // of the failures: "" for errors of the function itself
	Runs     int64          // of a query, for those who watch it; they are not in Calls
	// How long calls took, from the call to the answer, and runs; the quantiles within 7 %.
	P50, P95, Max time.Duration
	// What became of executions that lost to another transaction: executed again in the committer's turn, or in parallel with what they read
	// reserved; or held up by such a reservation.
	Conflicts, InTurn, Retried, Parked int64
	Slow                               int64              // executions of more than a quarter of the time limit
	Stray                              int64              // executions that went on after their time
	Limits                             map[string]float64 // those that were used to 80 % and more, and how much at most: 1 is the limit
}

// DocumentInsights are those of one document, or of an index or aggregate of its table in which it was read.
type DocumentInsights struct {
	Table, Index, ID string
	Conflicts        int64
	Function, Writer string // of the last conflict: who lost, and who wrote
}

// Insights are kept in steps, of which the oldest is dropped.
const (
	insightSteps     = 12
	insightStep      = 5 * time.Minute
	hotDocumentsMax  = 512
	hotDocumentsTold = 50
)

// codeContention is Convex's code for a call that was given up because others wrote.
const codeContention Code = "OptimisticConcurrencyControlFailure"

// insights collects what is noticed. It is safe for concurrent use, and its memory is bounded by the number of functions.
type insights struct {
	clock engine.Clock
	since time.Time
	calls map[string]*functionInsights // by path; never changes

	hot struct {
		sync.Mutex
		steps [insightSteps]*hotStep // nil until something happens in it
	}
}

func newInsights(a *App, clock engine.Clock) *insights {
	in := &insights{clock: clock, since: clock.Now(), calls: map[string]*functionInsights{}}
	for path, f := range a.functions {
		in.calls[path] = &functionInsights{kind: f.kind}
	}
	for _, m := range a.modules {
		for _, route := range m.httpRoutes {
			in.calls[route.fn.path] = &functionInsights{kind: route.fn.kind}
		}
	}
	return in
}

// functionInsights are the steps of one function.
type functionInsights struct {
	kind FunctionKind
	mu   struct {
		sync.Mutex
		steps [insightSteps]*insightSlot // nil until something happens in it
	}
}

// insightSlot is one step.
type insightSlot struct {
	step int64 // since 1970
	FunctionInsights
	took durations
}

// note changes the step of now.
func (in *insights) note(path string, f func(s *insightSlot)) {
	fi := in.calls[path]
	if fi == nil {
		return // what the App does for itself
	}
	step := in.clock.Now().UnixNano() / int64(insightStep)
	fi.mu.Lock()
	defer fi.mu.Unlock()
	slot := &fi.mu.steps[step%insightSteps]
	if *slot == nil || (*slot).step != step {
		*slot = &insightSlot{step: step}
	}
	f(*slot)
}

// called notes the end of a call.
func (in *insights) called(path string, took time.Duration, out Outcome, err error) {
	in.note(path, func(s *insightSlot) {
		s.Calls++
		s.took.add(took)
		code, failed := failureCode(out, err)
		if !failed {
			return
		}
		s.Failures++
		if s.Codes == nil {
			s.Codes = map[Code]int64{}
		}
		s.Codes[code]++
	})
}

func failureCode(out Outcome, err error) (code Code, failed bool) {
	switch {
	case err != nil:
		if refused, ok := errors.AsType[*RequestError](err); ok {
			return refused.Code, true
		}
		return CodeUnavailable, true
	case out.Failure != nil:
		return out.Failure.Code, true
	}
	return "", false
}

// ran notes a run of a query that is watched.
func (in *insights) ran(path string, took time.Duration) {
	in.note(path, func(s *insightSlot) {
		s.Runs++
		s.took.add(took)
	})
}

// events are what the engine tells.
func (in *insights) events() engine.Events {
	return engine.Events{
		Conflict: in.conflict,
		Slow:     func(e engine.SlowEvent) { in.note(e.Function, func(s *insightSlot) { s.Slow++ }) },
		Stray:    func(e engine.StrayEvent) { in.note(e.Function, func(s *insightSlot) { s.Stray++ }) },
		Limit: func(e engine.LimitEvent) {
			in.note(e.Function, func(s *insightSlot) {
				if s.Limits == nil {
					s.Limits = map[string]float64{}
				}
				s.Limits[e.Limit] = max(s.Limits[e.Limit], float64(e.Used)/float64(e.Max))
			})
		},
	}
}

func (in *insights) conflict(e engine.ConflictEvent) {
	in.note(e.Function, func(s *insightSlot) {
		switch e.Path {
		case engine.PathParked:
			s.Parked++
			return
		case engine.PathTurn:
			s.InTurn++
		case engine.PathRetry:
			s.Retried++
		}
		s.Conflicts++
	})
	step := in.clock.Now().UnixNano() / int64(insightStep)
	in.hot.Lock()
	defer in.hot.Unlock()
	slot := &in.hot.steps[step%insightSteps]
	if *slot == nil || (*slot).step != step {
		*slot = &hotStep{step: step, byKey: map[hotKey]*hotDocument{}}
	}
	(*slot).count(e)
}

// hotStep counts conflicts by document in one step: those of the most frequent, by the space saving algorithm of Metwally, Agrawal and El
// Abbadi, 2005. When a new document comes and there is no room, the one with the fewest gives it its place and its count. A conflict costs
// O(log hotDocumentsMax): the committer waits for it.
type hotStep struct {
	step  int64 // since 1970
	byKey map[hotKey]*hotDocument
	heap  []*hotDocument // the one with the fewest first
}

type hotKey struct{ table, index, id string }

type hotDocument struct {
	DocumentInsights
	place int // in the heap
}

func (d *DocumentInsights) key() hotKey { return hotKey{d.Table, d.Index, d.ID} }

func (h *hotStep) count(e engine.ConflictEvent) {
	key := hotKey{e.Table, e.Index, e.ID}
	d := h.byKey[key]
	switch {
	case d != nil:
	case len(h.heap) < hotDocumentsMax:
		d = &hotDocument{DocumentInsights: DocumentInsights{Table: e.Table, Index: e.Index, ID: e.ID}}
		h.byKey[key] = d
		heap.Push(h, d)
	default:
		d = h.heap[0]
		delete(h.byKey, d.key())
		d.Table, d.Index, d.ID = e.Table, e.Index, e.ID
		h.byKey[key] = d
	}
	d.Conflicts++
	d.Function, d.Writer = e.Function, e.Writer
	heap.Fix(h, d.place)
}

func (h *hotStep) Len() int           { return len(h.heap) }
func (h *hotStep) Less(i, j int) bool { return h.heap[i].Conflicts < h.heap[j].Conflicts }
func (h *hotStep) Swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].place, h.heap[j].place = i, j
}

func (h *hotStep) Push(x any) {
	d := x.(*hotDocument)
	d.place = len(h.heap)
	h.heap = append(h.heap, d)
}

func (h *hotStep) Pop() any { // for heap.Interface; nothing is taken out
	last := len(h.heap) - 1
	d := h.heap[last]
	h.heap = h.heap[:last]
	return d
}

// documents adds up the steps since the oldest.
func (in *insights) documents(oldest int64) []DocumentInsights {
	sums := map[hotKey]*DocumentInsights{}
	newest := map[hotKey]int64{}
	in.hot.Lock()
	for _, s := range in.hot.steps {
		if s == nil || s.step < oldest {
			continue
		}
		for _, d := range s.heap {
			key := d.key()
			sum := sums[key]
			if sum == nil {
				sum = &DocumentInsights{Table: d.Table, Index: d.Index, ID: d.ID}
				sums[key] = sum
			}
			sum.Conflicts += d.Conflicts
			if s.step >= newest[key] {
				newest[key], sum.Function, sum.Writer = s.step, d.Function, d.Writer
			}
		}
	}
	in.hot.Unlock()
	out := make([]DocumentInsights, 0, len(sums))
	for _, d := range sums {
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b DocumentInsights) int {
		return cmp.Or(-cmp.Compare(a.Conflicts, b.Conflicts), cmp.Compare(a.Table, b.Table), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Index, b.Index))
	})
	return out[:min(len(out), hotDocumentsTold)]
}

// Insights returns what was noticed. An App that is not open has none.
func (a *App) Insights() Insights {
	r := a.running.Load()
	if r == nil {
		return Insights{}
	}
	return r.insights.read()
}

func (in *insights) read() Insights {
	now := in.clock.Now()
	oldest := now.UnixNano()/int64(insightStep) - insightSteps + 1
	out := Insights{Now: now, Since: in.since}
	if begin := time.Unix(0, oldest*int64(insightStep)); begin.After(out.Since) {
		out.Since = begin
	}
	for _, path := range slices.Sorted(maps.Keys(in.calls)) {
		f := in.calls[path].sum(oldest)
		if f.Calls+f.Runs+f.Conflicts+f.Parked+f.Stray == 0 {
			continue
		}
		f.Function = path
		out.Contention += f.Codes[codeContention]
		out.Functions = append(out.Functions, f)
	}
	out.Documents = in.documents(oldest)
	return out
}

// sum adds up the steps since the oldest.
func (fi *functionInsights) sum(oldest int64) FunctionInsights {
	fi.mu.Lock()
	defer fi.mu.Unlock()
	out := FunctionInsights{Kind: fi.kind, Codes: map[Code]int64{}, Limits: map[string]float64{}}
	var took durations
	for _, s := range fi.mu.steps {
		if s == nil || s.step < oldest {
			continue
		}
		out.Calls += s.Calls
		out.Failures += s.Failures
		out.Runs += s.Runs
		out.Conflicts += s.Conflicts
		out.InTurn += s.InTurn
		out.Retried += s.Retried
		out.Parked += s.Parked
		out.Slow += s.Slow
		out.Stray += s.Stray
		for code, n := range s.Codes {
			out.Codes[code] += n
		}
		for limit, share := range s.Limits {
			out.Limits[limit] = max(out.Limits[limit], share)
		}
		took.merge(&s.took)
	}
	out.P50, out.P95, out.Max = took.quantile(0.5), took.quantile(0.95), took.max
	return out
}

// durations counts durations in buckets whose width is an eighth of what they begin with: the middle of one is within 7 % of all in it.
type durations struct {
	buckets [durationBuckets]uint32
	n       uint64
	max     time.Duration
}

const durationBuckets = 8 * 34 // to two hours, in microseconds

func durationBucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < 8 {
		return int(us)
	}
	e := bits.Len64(us) - 4 // us>>e is 8 to 15
	return min(8*(e+1)+int(us>>e)-8, durationBuckets-1)
}

// bucketMiddle is the middle of a bucket.
func bucketMiddle(i int) time.Duration {
	if i < 8 {
		return time.Duration(i) * time.Microsecond
	}
	e := i/8 - 1
	us := (uint64(8+i%8) << e) + (uint64(1)<<e)/2
	return time.Duration(us) * time.Microsecond
}

func (d *durations) add(took time.Duration) {
	d.buckets[durationBucket(took)]++
	d.n++
	d.max = max(d.max, took)
}

func (d *durations) merge(o *durations) {
	for i, n := range o.buckets {
		d.buckets[i] += n
	}
	d.n += o.n
	d.max = max(d.max, o.max)
}

// quantile returns a duration that the part q of all does not exceed, and 0 when there is none.
func (d *durations) quantile(q float64) time.Duration {
	rank, seen := uint64(q*float64(d.n)), uint64(0)
	for i, n := range d.buckets {
		if seen += uint64(n); seen > rank {
			return min(bucketMiddle(i), d.max)
		}
	}
	return d.max
}
