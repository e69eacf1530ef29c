package sim

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"strings"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Config says what is simulated.
type Config struct {
	// Seed decides everything.
	Seed uint64
	// Steps is how many events are drawn before everything is brought to its
	// end. Default 300.
	Steps int
	// Trace gets a line for each event and each outcome. Default: nothing.
	Trace io.Writer
}

// Result is what happened in a simulation.
type Result struct {
	// Hash is over everything that was decided and seen: equal for equal seeds.
	Hash      uint64
	Steps     int
	Commits   int // mutations that were acknowledged and wrote something
	Conflicts int // executions that were repeated
	Turns     int // of these, in the committer's turn
	Timeouts  int // calls that took too long, since the clock moved on
	Replays   int // requests that were sent again and not executed again
	Lost      int // mutations that a crash lost, none of them acknowledged
	Rounds    int // that screens were shown
	Slept     int // of these, rounds after the newest commit that was acknowledged
	// Crashes counts the ends of a process by where the newest group was.
	Crashes map[string]int
}

// Add adds what happened in another simulation; Hash is left out.
func (r *Result) Add(o Result) {
	r.Steps += o.Steps
	r.Commits += o.Commits
	r.Conflicts += o.Conflicts
	r.Turns += o.Turns
	r.Timeouts += o.Timeouts
	r.Replays += o.Replays
	r.Lost += o.Lost
	r.Rounds += o.Rounds
	r.Slept += o.Slept
	for place, n := range o.Crashes {
		r.Crashes[place] += n
	}
}

// The places of a crash.
const (
	CrashIdle      = "idle"               // nothing was under way
	CrashRunning   = "while running"      // functions were, no group was
	CrashBeforeLog = "before log"         // a group was applied and not written to the log
	CrashBeforeAck = "before ack"         // a group was durable and not acknowledged
	CrashUnsynced  = "before sync"        // a group was written and not synced
	CrashBetween   = "between two groups" // one of two groups under way was acknowledged, or durable
	CrashBroken    = "broken log"         // the disk had failed
)

// simulation is one run. Its driver is the goroutine that Run was called in.
type simulation struct {
	c       Config
	rng     *rand.Rand
	clock   *enginetest.SteppedClock
	hist    *enginetest.History
	life    *life
	clients []*client
	screens []*screen
	hash    hash.Hash64
	res     Result

	hot     value.ID // the document that everybody increments
	ops     []*op    // all that were started
	shown   uint64   // the newest timestamp anybody was told
	acked   uint64   // the newest commit that was acknowledged
	tokens  map[string]uint64
	crashes int // still to come
	broken  bool
	rounds  []round
	timeMax time.Duration // of a function
}

// life is one process on the folder.
type life struct {
	number int
	fs     *enginetest.Crashable
	db     *engine.DB
	gates  *gates
	fatal  chan error
}

// round is one that a screen was shown.
type round struct {
	at     uint64
	step   int
	screen int
}

// Run executes a simulation. It returns what happened, and an error when
// something happened that must not.
//
// REQUIRES: it is called inside of a bubble of testing/synctest, by the only
// goroutine in it.
func Run(c Config) (Result, error) {
	if c.Steps == 0 {
		c.Steps = 300
	}
	s := &simulation{
		c: c, rng: rand.New(rand.NewPCG(c.Seed, 0x5eed)), hash: fnv.New64a(),
		tokens: map[string]uint64{}, res: Result{Crashes: map[string]int{}},
	}
	s.clock = enginetest.NewSteppedClock(time.Unix(1_800_000_000, 0).Add(time.Duration(s.rng.IntN(1_000_000_000))))
	s.timeMax = []time.Duration{time.Second, time.Hour, time.Hour}[s.rng.IntN(3)]
	s.crashes = []int{0, 1, 1, 2, 3}[s.rng.IntN(5)]
	for i := range 2 + s.rng.IntN(5) {
		s.clients = append(s.clients, &client{number: i})
	}
	err := s.run()
	if err != nil {
		s.trace("failed: %v", err)
	}
	if s.life != nil && s.life.db != nil {
		// Also after an error: the bubble ends when nothing runs any more.
		s.life.gates.set(true, true)
		if e := s.close(); e != nil && err == nil && !s.broken {
			err = fmt.Errorf("close: %w", e)
		}
	}
	s.res.Hash = s.hash.Sum64()
	return s.res, err
}

// close closes the database. It lets time go on meanwhile: after an error calls
// may still be parked, and only a timer wakes them.
func (s *simulation) close() error {
	closed := make(chan error, 1)
	synctest.Wait()
	go func() { closed <- s.life.db.Close() }()
	for {
		synctest.Wait()
		select {
		case err := <-closed:
			return err
		default:
		}
		wait, ok := s.clock.Wait()
		if !ok {
			return <-closed // a deadlock, if it comes to one, says who waits for whom
		}
		s.clock.Advance(max(wait, 0))
		s.clock.Fire()
	}
}

// trace adds a line to the trace.
func (s *simulation) trace(format string, args ...any) {
	line := fmt.Sprintf(format, args...) + "\n"
	_, _ = io.WriteString(s.hash, line) // a hash does not fail
	if s.c.Trace != nil {
		fmt.Fprintf(s.c.Trace, "%4d %s", s.res.Steps, line)
	}
}

func (s *simulation) run() error {
	if err := s.open(enginetest.NewCrashable()); err != nil {
		return err
	}
	if err := s.fill(); err != nil {
		return err
	}
	for s.res.Steps = 1; s.res.Steps <= s.c.Steps && !s.broken; s.res.Steps++ {
		if err := s.stepOnce(false); err != nil {
			return err
		}
	}
	if s.broken {
		return nil
	}
	return s.finish()
}

// options are those of one process, drawn anew for each: caches of nothing and
// of everything, few places and many.
func (s *simulation) options() *engine.Options {
	l := s.life
	return &engine.Options{
		FS:                  errorfs.Wrap(l.fs, errorfs.InjectorFunc(l.gates.inject)),
		Clock:               s.clock,
		Seed:                s.c.Seed | 1,
		RowCacheBytes:       []int{1, 64 << 10, 0}[s.rng.IntN(3)],
		AggregateCacheBytes: []int{1, 0}[s.rng.IntN(2)],
		FunctionTimeMax:     s.timeMax,
		RunningMax:          64,
		CacheBytes:          1 << 20,
		Fatal: func(err error) {
			select {
			case l.fatal <- err:
			default:
			}
		},
	}
}

// open starts a process on a folder.
func (s *simulation) open(fs *enginetest.Crashable) error {
	number := 1
	if s.life != nil {
		number = s.life.number + 1
	}
	s.life = &life{number: number, fs: fs, gates: &gates{}, fatal: make(chan error, 1)}
	s.life.gates.set(true, false)
	db, err := engine.Open("db", schema, s.options())
	if err != nil {
		return fmt.Errorf("open by process %d: %w", number, err)
	}
	s.life.db = db
	synctest.Wait()
	if s.hist == nil {
		s.hist = enginetest.NewHistory(db, schema)
	} else {
		s.hist.Rebase(db)
	}
	s.trace("process %d is open at %d", number, db.Durable())
	if at := uint64(db.Durable()); at <= s.shown {
		return fmt.Errorf("process %d begins at %d, and %d was handed out before", number, at, s.shown)
	}
	s.screens = nil
	for i := range 1 + s.rng.IntN(3) {
		s.screens = append(s.screens, &screen{number: i, Screen: s.hist.NewScreen()})
	}
	return nil
}

// fill stores what the workloads begin with.
func (s *simulation) fill() error {
	_, err := s.hist.Mutate(context.Background(), engine.Call{Name: "fill"}, func(etx *enginetest.Tx) ([]byte, error) {
		x := &tx{Tx: etx, db: s.life.db, rng: rand.New(rand.NewPCG(1, 1)), pause: func() error { return nil }}
		for i := range accounts {
			if err := x.insert("accounts", object("name", accountName(i), "balance", balance)); err != nil {
				return nil, err
			}
		}
		hot, err := x.Insert(x.db.Table("accounts"), object("name", "hot", "n", 0))
		if err != nil {
			return nil, err
		}
		s.hot = hot
		for range 5 {
			if err := x.insert("items", object("kind", kindOf(x.rng), "n", float64(x.rng.IntN(6)), "w", x.rng.IntN(100))); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	synctest.Wait()
	s.life.gates.set(false, false)
	return nil
}

// event is one thing that may happen next.
type event struct {
	name   string
	weight int
	do     func() error
}

// events returns what may happen now, always in the same order. In the end
// nothing new begins.
func (s *simulation) events(ending bool) (out []event) {
	add := func(weight int, name string, do func() error) {
		out = append(out, event{name, weight, do})
	}
	g := s.life.gates
	for _, name := range g.names() {
		weight := 8
		if strings.HasPrefix(name, "log") {
			weight = 6
		}
		add(weight, name, func() error { g.letGo(name); return nil })
	}
	if wait, ok := s.clock.Wait(); ok && wait <= 0 {
		add(8, "a timer", func() error { s.clock.Fire(); return nil })
	}
	if ending {
		return out
	}
	for _, c := range s.clients {
		if c.op == nil {
			add(5, fmt.Sprint("client ", c.number), func() error { return s.begin(c) })
		}
	}
	for _, v := range s.screens {
		add(3, fmt.Sprint("poll ", v.number), func() error { return s.poll(v, s.rng.IntN(3) == 0) })
		add(1, fmt.Sprint("change ", v.number), func() error { s.change(v); return nil })
	}
	add(3, "clock", func() error {
		d := time.Duration(1+s.rng.IntN(20_000)) * time.Microsecond
		switch s.rng.IntN(12) {
		case 0:
			d = time.Duration(1+s.rng.IntN(5)) * time.Second
		case 1, 2:
			d = time.Duration(1+s.rng.IntN(300)) * time.Millisecond
		case 3:
			if wait, ok := s.clock.Wait(); ok && wait > 0 {
				d = wait
			}
		}
		s.clock.Advance(d)
		s.trace("the clock moves by %v", d)
		return nil
	})
	if s.crashes > 0 && s.res.Steps > 20 && s.rng.IntN(s.c.Steps/4) == 0 {
		add(1_000_000, "crash", s.crash)
	}
	if s.crashes > 0 && s.res.Steps > s.c.Steps/2 && s.rng.IntN(s.c.Steps*8) == 0 {
		add(1_000_000, "break the log", s.breakLog)
	}
	return out
}

// stepOnce draws one event, waits until nothing moves any more, and notes what
// has come of it.
func (s *simulation) stepOnce(ending bool) error {
	events := s.events(ending)
	total := 0
	for _, e := range events {
		total += e.weight
	}
	if total == 0 {
		return errors.New("nothing can happen any more, and not everything has ended: " + s.unfinished())
	}
	n := s.rng.IntN(total)
	for _, e := range events {
		if n -= e.weight; n < 0 {
			s.trace("%s", e.name)
			if err := e.do(); err != nil {
				return fmt.Errorf("step %d, %s: %w", s.res.Steps, e.name, err)
			}
			break
		}
	}
	synctest.Wait()
	if err := s.collect(); err != nil {
		return fmt.Errorf("step %d: %w", s.res.Steps, err)
	}
	return nil
}

func (s *simulation) unfinished() string {
	var out []string
	for _, c := range s.clients {
		if c.op != nil {
			out = append(out, c.op.name())
		}
	}
	return strings.Join(out, ", ")
}

// finish brings everything to its end and checks what is there then.
func (s *simulation) finish() error {
	busy := func() bool {
		for _, c := range s.clients {
			if c.op != nil {
				return true
			}
		}
		return len(s.life.gates.names()) > 0
	}
	for limit := s.res.Steps + 10_000; busy(); s.res.Steps++ {
		if s.res.Steps > limit {
			return errors.New("it does not end: " + s.unfinished())
		}
		if err := s.stepOnce(true); err != nil {
			return err
		}
	}
	s.life.gates.set(true, false)
	if err := s.resend(); err != nil {
		return err
	}
	for _, v := range s.screens {
		if err := s.settle(v); err != nil {
			return err
		}
	}
	if err := s.check(); err != nil {
		return err
	}
	s.count()
	return nil
}

// count adds what the process has counted.
func (s *simulation) count() {
	st := s.life.db.Stats()
	s.res.Conflicts += int(st.Conflicts)
	s.res.Turns += int(st.Turns)
}

// check compares all that is there with what must be.
func (s *simulation) check() error {
	if err := s.dump(); err != nil {
		return err
	}
	if err := s.hist.Check(); err != nil {
		return err
	}
	for _, o := range s.ops {
		if o.committed == 0 || o.toldIn != s.life.number {
			continue
		}
		for _, r := range s.rounds {
			if r.at >= o.committed && r.step < o.told {
				return fmt.Errorf("screen %d shows %d in step %d, and %s of %d is answered in step %d only", r.screen, r.at, r.step, o.name(), o.committed, o.told)
			}
		}
	}
	return s.verify()
}

// verify has the database look at itself.
func (s *simulation) verify() error {
	r, err := s.life.db.Verify(context.Background())
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if !r.OK() {
		return fmt.Errorf("verify: %d faults, the first ones %v", r.FaultsTotal, r.Faults[:min(3, len(r.Faults))])
	}
	return nil
}

// dump reads everything, so that the history compares it, and looks for each
// token: every call that has committed is there once, and no other.
func (s *simulation) dump() error {
	found := map[string]int{}
	err := s.hist.Query(context.Background(), "everything", func(etx *enginetest.Tx) error {
		clear(found)
		for _, t := range schema.Tables {
			for d, err := range etx.Scan(s.life.db.Table(t.Name), engine.IndexByID, whole, false) {
				if err != nil {
					return err
				}
				if t.Name == "journal" {
					token, _ := d.Fields.Get("token").AsString()
					found[token]++
				}
			}
			for i, ix := range t.Indexes {
				for _, err := range etx.Scan(s.life.db.Table(t.Name), ix.Name, whole, i%2 == 1) {
					if err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read everything: %w", err)
	}
	for token, n := range found {
		if n != 1 || s.tokens[token] == 0 {
			return fmt.Errorf("%s is there %d times, committed at %d", token, n, s.tokens[token])
		}
	}
	for token, at := range s.tokens {
		if found[token] == 0 {
			return fmt.Errorf("%s has committed at %d and is gone", token, at)
		}
	}
	s.trace("%d calls have committed", len(found))
	return nil
}
