package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/halcyon-db/halcyon/engine"
)

// Log is a log under test.
type Log struct {
	// Open returns another process's handle on the same log.
	Open func(t testing.TB) engine.CommitLog
	// Restart ends every handle as a crash of all processes would and lets Open
	// return new ones on what is durable. It is nil for a log without a life of
	// its own.
	Restart func(t testing.TB)
}

// Run holds a kind of log to what engine.CommitLog promises. open makes an empty
// one for each test.
func Run(t *testing.T, open func(t testing.TB) Log) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, l Log)
	}{
		{"Empty", testEmpty},
		{"AppendsInOrder", testAppendsInOrder},
		{"RefusesWhatDoesNotContinue", testRefuses},
		{"AppendedTwice", testAppendedTwice},
		{"DeposedLeader", testDeposedLeader},
		{"DeposedInTheMiddle", testDeposedInTheMiddle},
		{"ReadsFromAnyTimestamp", testReads},
		{"ReadsWhileAppending", testReadsWhileAppending},
		{"Truncate", testTruncate},
		{"TruncateKeepsWhatIsHeld", testHolds},
		{"TruncateWhileReading", testTruncateWhileReading},
		{"KeepsNoMemoryOfCallers", testMemory},
		{"EndedContext", testContext},
		{"Restart", testRestart},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// leader is one process that leads, and what it has appended.
type leader struct {
	t    testing.TB
	log  engine.CommitLog
	term engine.Term
	head engine.LogPosition
}

func lead(t testing.TB, log engine.CommitLog) *leader {
	t.Helper()
	term, head, err := log.Lead(context.Background())
	if err != nil {
		t.Fatalf("lead: %v", err)
	}
	return &leader{t, log, term, head}
}

// record returns a record after the leader's head.
func (l *leader) record(step engine.Timestamp, effects string) engine.LogRecord {
	return engine.NewLogRecord(l.term, l.head, l.head.At+step, []byte(effects))
}

// try appends a record and waits for it.
func (l *leader) try(r engine.LogRecord) error {
	p, err := l.log.Append(context.Background(), r, nil)
	if err != nil {
		return err
	}
	return p.Wait(context.Background())
}

// append appends n records, or fails the test.
func (l *leader) append(n int) []engine.LogRecord {
	l.t.Helper()
	var out []engine.LogRecord
	for i := range n {
		r := l.record(engine.Timestamp(1+i%3*10), fmt.Sprintf("record %d of term %d", i, l.term))
		if err := l.try(r); err != nil {
			l.t.Fatalf("append %s: %v", r.Position, err)
		}
		l.head = r.Position
		out = append(out, r)
	}
	return out
}

// readAll returns everything after a timestamp, page by page.
func readAll(t testing.TB, log engine.CommitLog, after engine.Timestamp, bytesMax int) []engine.LogRecord {
	t.Helper()
	var out []engine.LogRecord
	for {
		page, err := log.Read(context.Background(), after, bytesMax)
		if err != nil {
			t.Fatalf("read after %d: %v", after, err)
		}
		if len(page) == 0 {
			return out
		}
		out = append(out, page...)
		after = page[len(page)-1].Position.At
	}
}

// same reports whether the log holds these records, in a chain.
func same(t testing.TB, what string, got, want []engine.LogRecord) {
	t.Helper()
	for i, r := range got {
		if i >= len(want) || r.Position != want[i].Position || r.Previous != want[i].Previous || !bytes.Equal(r.Bytes(), want[i].Bytes()) {
			t.Fatalf("%s: record %d is %s after %s, %q; want %d records like %s", what, i, r.Position, r.Previous, r.Bytes(), len(want), at(want, i))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: there are %d records, want %d; the next were %s", what, len(got), len(want), at(want, len(got)))
	}
}

func at(records []engine.LogRecord, i int) string {
	if i >= len(records) {
		return "none"
	}
	return records[i].Position.String()
}

func head(t testing.TB, log engine.CommitLog) engine.LogPosition {
	t.Helper()
	p, err := log.Head(context.Background())
	if err != nil {
		t.Fatalf("head: %v", err)
	}
	return p
}

func testEmpty(t *testing.T, l Log) {
	log := l.Open(t)
	if h := head(t, log); h != (engine.LogPosition{}) {
		t.Errorf("the head of an empty log is %s", h)
	}
	same(t, "an empty log", readAll(t, log, 0, 1000), nil)
	a := lead(t, log)
	if a.term == 0 || a.head != (engine.LogPosition{}) {
		t.Errorf("leading an empty log gives term %d at %s", a.term, a.head)
	}
	if b := lead(t, l.Open(t)); b.term <= a.term {
		t.Errorf("the terms of two leaders are %d and then %d", a.term, b.term)
	}
	if err := log.Truncate(context.Background(), 1000); err != nil {
		t.Errorf("truncating an empty log: %v", err)
	}
}

func testAppendsInOrder(t *testing.T, l Log) {
	a := lead(t, l.Open(t))
	// In flight together where the log allows it.
	var want []engine.LogRecord
	var waits []engine.LogAppend
	for i := range 20 {
		r := a.record(1, fmt.Sprint("pipelined ", i))
		p, err := a.log.Append(context.Background(), r, nil)
		if err != nil {
			t.Fatal(err)
		}
		a.head = r.Position
		want, waits = append(want, r), append(waits, p)
	}
	for _, p := range waits {
		if err := p.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	want = append(want, a.append(20)...)
	for _, log := range []engine.CommitLog{a.log, l.Open(t)} {
		same(t, "after appending", readAll(t, log, 0, 500), want)
		if h := head(t, log); h != a.head {
			t.Errorf("the head is %s, want %s", h, a.head)
		}
	}
	if b := lead(t, l.Open(t)); b.head != a.head {
		t.Errorf("the next leader begins at %s, want %s", b.head, a.head)
	}
}

func testRefuses(t *testing.T, l Log) {
	a := lead(t, l.Open(t))
	want := a.append(3)
	h := a.head
	old, sum, term, later := want[0].Position, h, h, h
	sum.Sum++
	term.Term++
	later.At++
	for name, r := range map[string]engine.LogRecord{
		"after an older one":       engine.NewLogRecord(a.term, old, h.At+5, []byte("x")),
		"after the beginning":      engine.NewLogRecord(a.term, engine.LogPosition{}, h.At+5, []byte("x")),
		"after one of another sum": engine.NewLogRecord(a.term, sum, h.At+5, []byte("x")),
		"after another leader's":   engine.NewLogRecord(a.term, term, h.At+5, []byte("x")),
		"after one to come":        engine.NewLogRecord(a.term, later, h.At+5, []byte("x")),
		"at the same time":         engine.NewLogRecord(a.term, h, h.At, []byte("x")),
		"at an earlier time":       engine.NewLogRecord(a.term, h, h.At-1, []byte("x")),
	} {
		if err := a.try(r); !errors.Is(err, engine.ErrNotHead) {
			t.Errorf("a record %s gives %v, want ErrNotHead", name, err)
		}
		if p := head(t, a.log); p != h {
			t.Fatalf("after a record %s the head is %s, it was %s", name, p, h)
		}
	}
	if err := a.try(engine.NewLogRecord(a.term+7, h, h.At+5, []byte("x"))); !errors.Is(err, engine.ErrDeposed) {
		t.Errorf("a record of a term that nobody has gives %v, want ErrDeposed", err)
	}
	same(t, "after what was refused", readAll(t, a.log, 0, 1000), want)
	more := a.append(2)
	same(t, "going on", readAll(t, a.log, h.At, 1000), more)
}

func testAppendedTwice(t *testing.T, l Log) {
	a := lead(t, l.Open(t))
	want := a.append(3)
	for range 3 {
		if err := a.try(want[2]); err != nil {
			t.Errorf("the newest record again: %v", err)
		}
	}
	same(t, "a record that was sent again", readAll(t, a.log, 0, 1000), want)
	// The same but for what it carries is another one.
	other := engine.NewLogRecord(a.term, want[2].Previous, want[2].Position.At, []byte("other"))
	if err := a.try(other); !errors.Is(err, engine.ErrNotHead) {
		t.Errorf("another record in the place of the newest gives %v", err)
	}
	want = append(want, a.append(1)...)
	if err := a.try(want[2]); !errors.Is(err, engine.ErrNotHead) {
		t.Errorf("an older record again gives %v", err)
	}
	same(t, "in the end", readAll(t, a.log, 0, 1000), want)
}

// testDeposedLeader is what a log that compares a number alone does not pass:
// the first of ten appends fails, and the others find the number they expect.
func testDeposedLeader(t *testing.T, l Log) {
	a, other := lead(t, l.Open(t)), l.Open(t)
	want := a.append(3)
	b := lead(t, other)
	if b.head != a.head {
		t.Fatalf("the new leader begins at %s, the old one was at %s", b.head, a.head)
	}
	for _, intruded := range []bool{false, true} {
		if intruded {
			want = append(want, b.append(1)...)
		}
		// Ten in a row, each after the one before, all sent before any is answered.
		pipelined := &leader{t, a.log, a.term, a.head}
		errs := make([]error, 10)
		waits := make([]engine.LogAppend, 10)
		for i := range 10 {
			r := pipelined.record(1, fmt.Sprint("deposed ", i))
			waits[i], errs[i] = a.log.Append(context.Background(), r, nil)
			pipelined.head = r.Position
		}
		for i := range 10 {
			if errs[i] == nil {
				errs[i] = waits[i].Wait(context.Background())
			}
			if !errors.Is(errs[i], engine.ErrDeposed) {
				t.Errorf("append %d of 10 of a deposed leader gives %v, want ErrDeposed; intruded: %v", i, errs[i], intruded)
			}
		}
		// Also one that guesses the new head.
		if err := a.try(engine.NewLogRecord(a.term, b.head, b.head.At+1, nil)); !errors.Is(err, engine.ErrDeposed) {
			t.Errorf("an append of a deposed leader at the newest position gives %v, want ErrDeposed", err)
		}
		same(t, "after the deposed leader", readAll(t, b.log, 0, 1000), want)
		want = append(want, b.append(2)...)
	}
	same(t, "in the end", readAll(t, a.log, 0, 1000), want)
}

// testDeposedInTheMiddle takes the log over while its leader appends: what the
// old one was told is there is there, up to where the new one begins.
func testDeposedInTheMiddle(t *testing.T, l Log) {
	rng := rand.New(rand.NewPCG(1, 2))
	current := lead(t, l.Open(t))
	var want []engine.LogRecord
	for range 10 {
		n := 1 + rng.IntN(10)
		reached, stopped := make(chan struct{}), make(chan struct{})
		var acked []engine.LogRecord
		var failures []error
		go func() {
			defer close(stopped)
			for i := range 60 {
				r := current.record(1, fmt.Sprint("append ", i))
				err := current.try(r)
				current.head = r.Position // as one does that does not wait
				if err == nil && len(failures) == 0 {
					acked = append(acked, r)
				} else if err == nil {
					failures = append(failures, fmt.Errorf("append %d is in after an earlier one failed", i))
				} else {
					failures = append(failures, err)
				}
				if i == n {
					close(reached)
				}
			}
		}()
		<-reached
		next := lead(t, l.Open(t))
		<-stopped
		for _, err := range failures {
			if !errors.Is(err, engine.ErrDeposed) {
				t.Errorf("a leader that was deposed while it appended got %v", err)
			}
		}
		want = append(want, acked...)
		if last := want[len(want)-1].Position; next.head != last {
			t.Fatalf("the new leader begins at %s, the old one was told that %s is in", next.head, last)
		}
		same(t, "after the change of leaders", readAll(t, next.log, 0, 2000), want)
		want = append(want, next.append(1)...)
		current = next
	}
}

func testReads(t *testing.T, l Log) {
	a := lead(t, l.Open(t))
	want := a.append(12)
	size := len(want[0].Bytes())
	for after := engine.Timestamp(0); after <= a.head.At+2; after++ {
		i, _ := slices.BinarySearchFunc(want, after+1, func(r engine.LogRecord, at engine.Timestamp) int { return int(r.Position.At) - int(at) })
		same(t, fmt.Sprint("after ", after), readAll(t, a.log, after, 3*size+size/2), want[i:])
		for _, bytesMax := range []int{0, 1, size, 4 * size} {
			page, err := a.log.Read(context.Background(), after, bytesMax)
			if err != nil {
				t.Fatal(err)
			}
			bytes := 0
			for _, r := range page {
				bytes += len(r.Bytes())
			}
			if rest := len(want) - i; (len(page) == 0) != (rest == 0) || len(page) > 1 && bytes > bytesMax {
				t.Errorf("after %d a page of at most %d bytes has %d records, %d bytes, of %d", after, bytesMax, len(page), bytes, rest)
			}
		}
	}
}

// testReadsWhileAppending has readers that see every record once, in order, and
// no record before it is durable or after it was refused.
func testReadsWhileAppending(t *testing.T, l Log) {
	a := lead(t, l.Open(t))
	const n = 100
	var wg sync.WaitGroup
	for range 3 {
		log := l.Open(t)
		wg.Go(func() {
			var last engine.LogPosition
			for seen := 0; seen < n; {
				page, err := log.Read(context.Background(), last.At, 300)
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range page {
					if r.Previous != last {
						t.Errorf("a reader gets %s after %s, it was at %s", r.Position, r.Previous, last)
						return
					}
					last = r.Position
					seen++
				}
				if h, err := log.Head(context.Background()); err != nil || h.At < last.At {
					t.Errorf("the head is %s after %s was read, %v", h, last, err)
				}
			}
		})
	}
	a.append(n)
	wg.Wait()
}

func testTruncate(t *testing.T, l Log) {
	ctx := context.Background()
	a := lead(t, l.Open(t))
	want := a.append(10)
	other := l.Open(t)
	cut := want[3].Position.At
	if err := a.log.Truncate(ctx, want[4].Position.At-1); err != nil { // between two
		t.Fatal(err)
	}
	for _, log := range []engine.CommitLog{a.log, other} {
		same(t, "after truncation", readAll(t, log, cut, 1000), want[4:])
		for after := range cut {
			if page, err := log.Read(ctx, after, 1000); !errors.Is(err, engine.ErrOutOfRetention) {
				t.Fatalf("after truncation to %d, reading after %d gives %d records, %v", cut, after, len(page), err)
			}
			if _, err := log.Hold(ctx, after); !errors.Is(err, engine.ErrOutOfRetention) {
				t.Fatalf("after truncation to %d, holding after %d gives %v", cut, after, err)
			}
		}
	}
	if err := a.log.Truncate(ctx, want[1].Position.At); err != nil { // gone already
		t.Error(err)
	}
	want = append(want, a.append(1)...)
	if err := a.log.Truncate(ctx, a.head.At+1_000_000); err != nil { // all of it
		t.Fatal(err)
	}
	same(t, "after all is removed", readAll(t, a.log, a.head.At, 1000), nil)
	if h := head(t, a.log); h != a.head {
		t.Errorf("after all is removed the head is %s, it was %s", h, a.head)
	}
	if b := lead(t, other); b.head != a.head {
		t.Errorf("after all is removed a new leader begins at %s, want %s", b.head, a.head)
	} else {
		more := b.append(2)
		same(t, "going on", readAll(t, other, a.head.At, 1000), more)
	}
	if _, err := a.log.Read(ctx, want[9].Position.At, 1000); !errors.Is(err, engine.ErrOutOfRetention) {
		t.Errorf("reading after the last but one of what was removed gives %v", err)
	}
}

func testHolds(t *testing.T, l Log) {
	ctx := context.Background()
	a := lead(t, l.Open(t))
	want := a.append(10)
	hold := func(after engine.Timestamp) func() {
		t.Helper()
		release, err := a.log.Hold(ctx, after)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	late, early := hold(want[6].Position.At), hold(want[2].Position.At)
	truncate := func() {
		t.Helper()
		if err := a.log.Truncate(ctx, a.head.At); err != nil {
			t.Fatal(err)
		}
	}
	truncate()
	same(t, "with two holds", readAll(t, a.log, want[2].Position.At, 1000), want[3:])
	early()
	early() // once more does nothing
	truncate()
	same(t, "with one hold", readAll(t, a.log, want[6].Position.At, 1000), want[7:])
	if _, err := a.log.Read(ctx, want[5].Position.At, 1000); !errors.Is(err, engine.ErrOutOfRetention) {
		t.Errorf("what nobody holds is still there: %v", err)
	}
	late()
	truncate()
	if _, err := a.log.Read(ctx, want[6].Position.At, 1000); !errors.Is(err, engine.ErrOutOfRetention) {
		t.Errorf("what nobody holds any more is still there: %v", err)
	}
}

// testTruncateWhileReading has readers that go from a hold to the end while
// the log is cut behind them: a page is never short of its beginning.
func testTruncateWhileReading(t *testing.T, l Log) {
	ctx := context.Background()
	a := lead(t, l.Open(t))
	const n = 100
	var wg sync.WaitGroup
	release, err := a.log.Hold(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		var last engine.LogPosition
		for seen := 0; seen < n; {
			page, err := a.log.Read(ctx, last.At, 500)
			if err != nil {
				t.Errorf("reading after %s, which is held: %v", last, err)
				break
			}
			for _, r := range page {
				if r.Previous != last {
					t.Errorf("a reader gets %s after %s, it was at %s", r.Position, r.Previous, last)
				}
				last = r.Position
				seen++
			}
			next, err := a.log.Hold(ctx, last.At)
			if err != nil {
				t.Errorf("moving the hold to %s: %v", last, err)
				break
			}
			release()
			release = next
		}
		release()
	})
	wg.Go(func() {
		for range n {
			a.append(1)
			if err := a.log.Truncate(ctx, a.head.At); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

func testMemory(t *testing.T, l Log) {
	a := lead(t, l.Open(t))
	r := a.record(5, "what was appended")
	again, err := engine.DecodeLogRecord(bytes.Clone(r.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.try(again); err != nil {
		t.Fatal(err)
	}
	clear(again.Bytes())
	got := readAll(t, a.log, 0, 1000)
	same(t, "after the caller reused its record", got, []engine.LogRecord{r})
	clear(got[0].Bytes())
	same(t, "after a reader wrote into a record", readAll(t, a.log, 0, 1000), []engine.LogRecord{r})
}

func testContext(t *testing.T, l Log) {
	a := lead(t, l.Open(t))
	want := a.append(1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, leadErr := a.log.Lead(ctx)
	_, appendErr := a.log.Append(ctx, a.record(1, "x"), nil)
	_, headErr := a.log.Head(ctx)
	_, readErr := a.log.Read(ctx, 0, 1000)
	_, holdErr := a.log.Hold(ctx, 0)
	for name, err := range map[string]error{
		"Lead": leadErr, "Append": appendErr, "Head": headErr, "Read": readErr, "Hold": holdErr, "Truncate": a.log.Truncate(ctx, a.head.At),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a context that has ended gives %v", name, err)
		}
	}
	same(t, "after calls with a context that has ended", readAll(t, a.log, 0, 1000), want)
	a.append(1) // it leads still
}

func testRestart(t *testing.T, l Log) {
	if l.Restart == nil {
		t.Skip("this log lives as long as the process")
	}
	a := lead(t, l.Open(t))
	want := a.append(8)
	if err := a.log.Truncate(context.Background(), want[2].Position.At); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		l.Restart(t)
		log := l.Open(t)
		same(t, fmt.Sprint("after restart ", round), readAll(t, log, want[2].Position.At, 1000), want[3:])
		if _, err := log.Read(context.Background(), want[1].Position.At, 1000); !errors.Is(err, engine.ErrOutOfRetention) {
			t.Errorf("after restart %d, reading what was removed gives %v", round, err)
		}
		if h := head(t, log); h != a.head {
			t.Errorf("after restart %d the head is %s, it was %s", round, h, a.head)
		}
		next := lead(t, log)
		before := &leader{t, log, a.term, a.head}
		if err := before.try(before.record(1, "from before")); !errors.Is(err, engine.ErrDeposed) {
			t.Errorf("the leader of before restart %d gets %v once another leads", round, err)
		}
		if next.term <= a.term || next.head != a.head {
			t.Errorf("after restart %d a leader begins in term %d at %s, the last one was in %d at %s", round, next.term, next.head, a.term, a.head)
		}
		a = next
		want = append(want, a.append(2)...)
	}
	if err := a.log.Truncate(context.Background(), a.head.At); err != nil {
		t.Fatal(err)
	}
	l.Restart(t)
	if b := lead(t, l.Open(t)); b.head != a.head {
		t.Errorf("after all was removed and a restart a leader begins at %s, want %s", b.head, a.head)
	}
}
