package live

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestModel drives the machine with random schedules over a small database whose history is known, and holds every
// round it offers against fresh evaluations of the queries at the round's timestamp.
func TestModel(t *testing.T) {
	for _, p := range profiles {
		t.Run(p.name, func(t *testing.T) { rapid.Check(t, p.check) })
	}
}

// profile is a kind of schedule: what happens, by how often it is listed, to which queries.
type profile struct {
	name    string
	kinds   []string
	queries []int // of modelPlans
	ticks   []uint64
}

var profiles = []profile{
	{
		name: "mixed",
		kinds: []string{
			"open", "close", "watch", "watch", "watch", "unwatch",
			"commit", "commit", "commit", "commit", "finish", "finish", "finish", "finish", "finish",
			"poll", "poll", "poll", "poll", "poll", "poll any", "poll min", "poll min",
			"alarm", "alarm", "publish", "publish", "publish skewed", "wait", "wait", "wait long",
		},
		queries: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
		ticks:   []uint64{1, 10_000},
	},
	{
		// Runs are slow and overlap, so that many results have ended when they come and rounds are pinned again.
		name: "contended",
		kinds: []string{
			"open", "watch", "watch", "unwatch", "commit", "commit", "commit", "commit", "commit", "finish", "finish",
			"poll", "poll", "poll", "poll any", "poll min", "poll min", "wait",
		},
		queries: []int{1, 3, 5, 6, 8},
		ticks:   []uint64{1},
	},
	{
		name: "idle",
		kinds: []string{
			"open", "close", "watch", "unwatch", "commit", "finish", "finish", "finish", "poll", "poll", "poll",
			"poll min", "alarm", "publish", "publish", "publish skewed", "wait", "wait long",
		},
		queries: []int{0, 9, 10, 11},
		ticks:   []uint64{10_000},
	},
}

// step is one event. What a and b choose depends on the state it meets.
type step struct {
	kind string
	a, b uint16
}

func (p profile) check(t *rapid.T) {
	o := Options{
		Newest:     1_000_000,
		Tick:       rapid.SampledFrom(p.ticks).Draw(t, "tick"),
		HistoryMax: rapid.SampledFrom([]int{0, 6}).Draw(t, "historyMax"),
	}
	draw := rapid.Custom(func(t *rapid.T) step {
		return step{
			kind: rapid.SampledFrom(p.kinds).Draw(t, "kind"),
			a:    rapid.Uint16().Draw(t, "a"),
			b:    rapid.Uint16().Draw(t, "b"),
		}
	})
	n := rapid.IntRange(1, 300).Draw(t, "n")
	steps := rapid.SliceOfN(draw, n, n).Draw(t, "steps")
	first := simulate(t, o, p.queries, steps)
	if second := simulate(t, o, p.queries, steps); first != second {
		t.Fatalf("the same events gave trace %x, then %x", first, second)
	}
}

// plan is a query of the model: a digest of what it reads, with few distinct values so that it often does not change.
type plan struct {
	points []string
	ranges [][2]string
	then   [2]string // also read when the first point is odd
	modulo int
	period uint64 // the answer also depends on the time in units of it, 0 for not
}

var modelPlans = []plan{
	{points: []string{"r0001a"}, modulo: 100},
	{points: []string{"r0001a", "r0001b", "x0003a"}, modulo: 2},
	{points: []string{"r0002c"}, ranges: [][2]string{{"x0003", "x0004"}}, modulo: 50},
	{ranges: [][2]string{{"x0003b", "x0003d"}, {"x0003d", "x0003f"}}, modulo: 1000},
	{ranges: [][2]string{{"x0003b", "x0003d"}}, modulo: 3},
	{ranges: [][2]string{{"", ""}}, modulo: 7},
	{ranges: [][2]string{{"r0002", "x0003c"}}, modulo: 1000},
	{points: []string{"r0001c"}, then: [2]string{"r0002a", "r0002e"}, modulo: 1000},
	{points: []string{"r0002d"}, then: [2]string{"x0003e", ""}, modulo: 4},
	{points: []string{"w"}, period: 70_000, modulo: 100},
	{ranges: [][2]string{{"r0001b", "r0001d"}}, period: 400_000, modulo: 2},
	{period: 1_000_000, modulo: 1000},
}

var modelKeys = func() (keys []string) {
	for _, bucket := range []string{"r0001", "r0002", "x0003"} {
		for c := 'a'; c <= 'f'; c++ {
			keys = append(keys, bucket+string(c))
		}
	}
	return append(keys, "w")
}()

type version struct {
	at    Timestamp
	value int
}

// modelDB is every version of every key.
type modelDB map[string][]version

func (db modelDB) value(key string, at Timestamp) int {
	for _, v := range slices.Backward(db[key]) {
		if v.at <= at {
			return v.value
		}
	}
	return 0
}

// eval runs a query as of a timestamp.
func (db modelDB) eval(key string, at Timestamp) (returned []byte, reads ReadSet, wakeAt Timestamp) {
	var i int
	fmt.Sscanf(key, "q%d", &i)
	p := modelPlans[i]
	sum := 0
	point := func(k string) int {
		v := db.value(k, at)
		reads.Points = append(reads.Points, []byte(k))
		sum += v
		return v
	}
	scan := func(r [2]string) {
		reads.Ranges = append(reads.Ranges, Range{Start: []byte(r[0]), End: []byte(r[1])})
		for j, k := range modelKeys {
			if k >= r[0] && (r[1] == "" || k < r[1]) {
				sum += (j + 1) * db.value(k, at)
			}
		}
	}
	odd := false
	for j, k := range p.points {
		if v := point(k); j == 0 {
			odd = v%2 == 1
		}
	}
	for _, r := range p.ranges {
		scan(r)
	}
	if p.then != [2]string{} && odd {
		scan(p.then)
	}
	if p.period != 0 {
		sum += int(at / p.period)
		wakeAt = (at/p.period + 1) * p.period
	}
	return fmt.Appendf(nil, "%s=%d", key, sum%p.modulo), reads, wakeAt
}

// modelSlot is what the model knows of a slot: its query, when it came, and what it was last sent.
type modelSlot struct {
	key   string
	since Timestamp
	body  []byte // nil before anything
}

type modelSet struct {
	slots    map[uint32]*modelSlot
	lastAt   Timestamp
	min      Timestamp
	notified bool
}

type modelRun struct {
	id      RunID
	key     string
	at      Timestamp
	started uint64
}

// simulation is a driver for the machine with a database, a clock and clients.
type simulation struct {
	t       *rapid.T
	m       *Machine
	db      modelDB
	now     uint64
	at      Timestamp // the newest watermark
	sets    map[SetID]*modelSet
	order   []SetID // of sets
	runs    []modelRun
	advance int // empty groups asked for
	starts  map[string]uint64
	took    map[string]uint64
	tick    uint64
	queries []int // of modelPlans
	nextSet SetID
	trace   interface {
		Write([]byte) (int, error)
		Sum64() uint64
	}
	log strings.Builder
}

func simulate(t *rapid.T, o Options, queries []int, steps []step) uint64 {
	s := &simulation{
		t: t, m: New(o), db: modelDB{}, now: o.Newest, at: o.Newest, tick: o.Tick, queries: queries,
		sets: map[SetID]*modelSet{}, starts: map[string]uint64{}, took: map[string]uint64{}, trace: fnv.New64a(),
	}
	defer func() {
		if t.Failed() {
			t.Log(s.log.String())
		}
	}()
	for _, st := range steps {
		s.step(st)
	}
	s.settle()
	s.closeAll()
	return s.trace.Sum64()
}

func (s *simulation) note(format string, args ...any) {
	fmt.Fprintf(&s.log, format+"\n", args...)
	fmt.Fprintf(s.trace, format+"\n", args...)
}

func (s *simulation) fail(format string, args ...any) {
	s.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), s.log.String())
}

func (s *simulation) step(st step) {
	a, b := int(st.a), int(st.b)
	var id SetID
	if len(s.order) > 0 {
		id = s.order[a%len(s.order)]
	}
	switch st.kind {
	case "open":
		if len(s.order) < 6 {
			s.nextSet++
			s.note("open %d", s.nextSet)
			s.m.Open(s.nextSet)
			s.sets[s.nextSet] = &modelSet{slots: map[uint32]*modelSlot{}}
			s.order = append(s.order, s.nextSet)
		}
	case "close":
		if len(s.order) > 2 {
			s.close(id)
		}
	case "watch":
		if set := s.sets[id]; set != nil {
			slot, key := uint32(b%5), fmt.Sprintf("q%d", s.queries[b/5%len(s.queries)])
			set.slots[slot] = &modelSlot{key: key, since: s.at}
			s.note("watch %d %d %s", id, slot, key)
			s.carryOut(s.m.Watch(id, slot, key, s.now), false)
		}
	case "unwatch":
		if set := s.sets[id]; set != nil {
			slot := uint32(b % 5)
			delete(set.slots, slot)
			s.note("unwatch %d %d", id, slot)
			s.carryOut(s.m.Unwatch(id, slot), false)
		}
	case "commit":
		s.commit(a, b)
	case "finish":
		if len(s.runs) > 0 {
			s.finish(a%len(s.runs), uint64(b%2000))
		}
	case "poll":
		for i := range s.order {
			if id := s.order[(a+i)%len(s.order)]; s.sets[id].notified {
				s.poll(id, 0)
				break
			}
		}
	case "poll any":
		if id != 0 {
			s.poll(id, 0)
		}
	case "poll min":
		if id != 0 {
			min := s.at
			if b%4 == 0 {
				min += uint64(b % 1000)
			}
			s.poll(id, min)
		}
	case "alarm":
		s.alarm(b%2 == 0)
	case "publish":
		s.publish(false)
	case "publish skewed":
		s.publish(true)
	case "wait":
		s.now += uint64(b % 20_000)
	case "wait long":
		s.now += uint64(b) * 20
	}
	s.check()
}

func (s *simulation) check() {
	if err := s.m.check(); err != nil {
		s.fail("%v", err)
	}
	if at, ok := s.m.NextAlarm(); ok {
		s.note("alarm %d", at)
	}
}

// commit publishes a group of one to three transactions with timestamps of their own, up to that of the group.
func (s *simulation) commit(a, b int) {
	at := max(s.now, s.at+1)
	var keys [][]byte
	for i := range 1 + a%3 {
		key := modelKeys[(b+i*a)%len(modelKeys)]
		ts := at - min(uint64(a%7*(2-i)), at-s.at-1)
		if vs := s.db[key]; len(vs) > 0 && vs[len(vs)-1].at >= ts {
			ts = at
		}
		s.db[key] = append(s.db[key], version{at: ts, value: a/3 + i})
		keys = append(keys, []byte(key))
	}
	s.at = at
	s.note("commit %d %s", at, bytes.Join(keys, []byte(" ")))
	s.carryOut(s.m.Committed(at, keys, s.now), true)
}

// publish answers an AdvanceTime, with a clock that has stepped back if skewed.
func (s *simulation) publish(skewed bool) {
	if s.advance == 0 {
		return
	}
	s.advance--
	at := max(s.now, s.at+1)
	if skewed {
		at = s.at + 1
	}
	s.at = at
	s.note("publish %d", at)
	s.carryOut(s.m.Committed(at, nil, s.now), true)
}

func (s *simulation) finish(i int, took uint64) {
	r := s.runs[i]
	s.runs = slices.Delete(s.runs, i, i+1)
	s.now = max(s.now, r.started+took)
	s.took[r.key] = took
	returned, reads, wakeAt := s.db.eval(r.key, r.at)
	s.note("ran %d %s %s", r.id, r.key, returned)
	s.carryOut(s.m.Ran(r.id, returned, reads, wakeAt, took, s.now), false)
}

func (s *simulation) alarm(jump bool) {
	if at, ok := s.m.NextAlarm(); ok {
		if jump {
			s.now = max(s.now, at)
		}
		s.note("alarm at %d", s.now)
		s.carryOut(s.m.Alarm(s.now), true)
		if next, ok := s.m.NextAlarm(); ok && next <= s.now {
			s.fail("after an alarm at %d the next one is at %d", s.now, next)
		}
	}
}

func (s *simulation) poll(id SetID, min Timestamp) {
	set := s.sets[id]
	set.notified = false
	set.min = max(set.min, min)
	round, ok, effects := s.m.Poll(id, min, s.now)
	s.note("poll %d min %d: %v %d %s", id, min, ok, round.At, round.Changes)
	if ok {
		s.receive(id, round)
	}
	s.carryOut(effects, false)
}

// receive is a client that gets a round.
func (s *simulation) receive(id SetID, round Round) {
	set := s.sets[id]
	if round.At < set.lastAt || round.At > s.at {
		s.fail("set %d: round at %d after %d, watermark %d", id, round.At, set.lastAt, s.at)
	}
	if len(round.Changes) == 0 && (set.min <= set.lastAt || round.At < set.min) {
		s.fail("set %d: empty round at %d after %d, nobody asked for it", id, round.At, set.lastAt)
	}
	set.lastAt = round.At
	for i, c := range round.Changes {
		slot := set.slots[c.Slot]
		switch {
		case i > 0 && round.Changes[i-1].Slot >= c.Slot:
			s.fail("set %d: changes out of order", id)
		case slot == nil:
			s.fail("set %d slot %d: not watched", id, c.Slot)
		case slot.body == nil && round.At < slot.since:
			s.fail("set %d slot %d: came at %d and was sent %d", id, c.Slot, slot.since, round.At)
		case bytes.Equal(slot.body, c.Body):
			s.fail("set %d slot %d: sent %s again", id, c.Slot, c.Body)
		}
		slot.body = bytes.Clone(c.Body)
	}
	for number, slot := range set.slots {
		if slot.body == nil {
			continue
		}
		if want, _, _ := s.db.eval(slot.key, round.At); !bytes.Equal(slot.body, want) {
			s.fail("set %d slot %d at %d: got %s, want %s", id, number, round.At, slot.body, want)
		}
	}
}

// carryOut does what the machine asks for. Starts by a commit or an alarm are eager: they keep their distance.
func (s *simulation) carryOut(effects []Effect, eager bool) {
	for _, e := range slices.Clone(effects) {
		s.note("  %s %d %s %d %d", e.Kind, e.Run, e.Key, e.At, e.Set)
		switch e.Kind {
		case StartRun:
			if e.At != s.at {
				s.fail("run %d at %d, watermark %d", e.Run, e.At, s.at)
			}
			if !s.watched(e.Key) {
				s.fail("run %d: nobody watches %s", e.Run, e.Key)
			}
			for _, r := range s.runs {
				if r.key == e.Key && (r.at == e.At || eager) {
					s.fail("run %d: %s runs already", e.Run, e.Key)
				}
			}
			if since := s.now - s.starts[e.Key]; eager && since < max(s.tick, 2*s.took[e.Key]) {
				s.fail("run %d: %s was started %d ago and took %d", e.Run, e.Key, since, s.took[e.Key])
			}
			s.starts[e.Key] = s.now
			s.runs = append(s.runs, modelRun{id: e.Run, key: e.Key, at: e.At, started: s.now})
		case Notify:
			set := s.sets[e.Set]
			if set == nil || set.notified {
				s.fail("set %d: notified twice, or closed", e.Set)
			}
			set.notified = true
		case AdvanceTime:
			s.advance++
		case Forget:
			if s.watched(e.Key) || slices.ContainsFunc(s.runs, func(r modelRun) bool { return r.key == e.Key }) {
				s.fail("%s forgotten in use", e.Key)
			}
			delete(s.starts, e.Key)
			delete(s.took, e.Key)
		}
	}
}

func (s *simulation) watched(key string) bool {
	for _, set := range s.sets {
		for _, slot := range set.slots {
			if slot.key == key {
				return true
			}
		}
	}
	return false
}

// settle lets everything come to rest, polling only when told to, and expects every client to have the newest results.
func (s *simulation) settle() {
	s.note("settle")
	for n := 0; ; n++ {
		if n > 200 {
			s.fail("does not come to rest: %+v", s.m.Stats())
		}
		for s.advance > 0 {
			s.publish(false)
		}
		for len(s.runs) > 0 {
			s.finish(0, 10)
		}
		polled := false
		for _, id := range s.order {
			if s.sets[id].notified {
				s.poll(id, 0)
				polled = true
			}
		}
		s.check()
		if polled || len(s.runs) > 0 || s.advance > 0 {
			continue
		}
		if st := s.m.Stats(); st.Delays == 0 && st.Awaits == 0 {
			break
		}
		s.alarm(true)
	}
	for id, set := range s.sets {
		for number, slot := range set.slots {
			if want, _, _ := s.db.eval(slot.key, s.at); !bytes.Equal(slot.body, want) {
				s.fail("set %d slot %d at rest: got %s, want %s", id, number, slot.body, want)
			}
		}
		if set.lastAt < set.min {
			s.fail("set %d at rest: at %d, asked for %d", id, set.lastAt, set.min)
		}
	}
}

func (s *simulation) close(id SetID) {
	s.note("close %d", id)
	delete(s.sets, id)
	s.order = slices.Delete(s.order, slices.Index(s.order, id), slices.Index(s.order, id)+1)
	s.carryOut(s.m.Close(id), false)
}

func (s *simulation) closeAll() {
	// Not at rest: with runs in progress, waiting rounds and delays.
	s.commit(2, 0)
	s.commit(2, 7)
	for _, id := range slices.Clone(s.order) {
		s.poll(id, s.at)
		s.commit(1, int(id))
	}
	for len(s.order) > 0 {
		s.close(s.order[0])
		s.check()
	}
	for len(s.runs) > 0 {
		s.finish(len(s.runs)-1, 10)
		s.check()
	}
	if got := s.m.Stats(); got != (Stats{}) {
		s.fail("left over: %+v", got)
	}
	x := &s.m.touch
	if len(x.points) > 0 || len(x.buckets) > 0 || x.wide.root != nil {
		s.fail("left over in the touch index: %d points, %d buckets, wide %v", len(x.points), len(x.buckets), x.wide.root)
	}
}
