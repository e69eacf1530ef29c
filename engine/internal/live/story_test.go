package live

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestStories runs the scripts in testdata/story. Each line of a script's input is one event; the output repeats it and lists
// what came of it. A word like now=120 sets the clock and stays.
//
//	new newest=N tick=N history=N            a new machine
//	open|close SET
//	watch SET SLOT KEY     unwatch SET SLOT
//	commit AT KEY...       replace AT
//	ran RUN BODY [points=A,B] [ranges=A..B,C..] [wake=N] [took=N]
//	poll SET [min=N]
//	alarm                  only what NextAlarm says is due
//	stats
//
// The machine's invariants are checked after every event, and NextAlarm is shown when it has changed.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/story", func(t *testing.T, path string) {
		s := &story{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "story" {
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				line = strings.TrimSpace(line)
				if line == "" || strings.HasPrefix(line, "#") {
					continue
				}
				fmt.Fprintf(&out, "> %s\n", line)
				if err := s.step(&out, line); err != nil {
					d.Fatalf(t, "%s: %v", line, err)
				}
				if err := s.m.check(); err != nil {
					d.Fatalf(t, "after %s: %v", line, err)
				}
			}
			return out.String()
		})
	})
}

type story struct {
	m     *Machine
	now   uint64
	alarm string
}

func (s *story) step(out *strings.Builder, line string) error {
	var words []string
	named := map[string]string{}
	for _, w := range strings.Fields(line) {
		if k, v, ok := strings.Cut(w, "="); ok {
			named[k] = v
		} else {
			words = append(words, w)
		}
	}
	number := func(name string) (n uint64) {
		if v := named[name]; v != "" {
			var err error
			if n, err = strconv.ParseUint(v, 10, 64); err != nil {
				panic(err)
			}
		}
		return n
	}
	arg := func(i int) uint64 {
		n, err := strconv.ParseUint(words[i], 10, 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	if n := number("now"); n != 0 {
		s.now = n
	}
	var effects []Effect
	switch words[0] {
	case "new":
		s.m = New(Options{Newest: number("newest"), Tick: number("tick"), HistoryMax: int(number("history"))})
	case "open":
		s.m.Open(SetID(arg(1)))
	case "close":
		effects = s.m.Close(SetID(arg(1)))
	case "watch":
		effects = s.m.Watch(SetID(arg(1)), uint32(arg(2)), words[3], s.now)
	case "unwatch":
		effects = s.m.Unwatch(SetID(arg(1)), uint32(arg(2)))
	case "commit":
		var keys [][]byte
		for _, k := range words[2:] {
			keys = append(keys, []byte(k))
		}
		effects = s.m.Committed(arg(1), keys, s.now)
	case "replace":
		effects = s.m.Replaced(arg(1), s.now)
	case "ran":
		var reads ReadSet
		for p := range strings.SplitSeq(named["points"], ",") {
			if p != "" {
				reads.Points = append(reads.Points, []byte(p))
			}
		}
		for r := range strings.SplitSeq(named["ranges"], ",") {
			if start, end, ok := strings.Cut(r, ".."); ok {
				reads.Ranges = append(reads.Ranges, Range{Start: []byte(start), End: []byte(end)})
			}
		}
		effects = s.m.Ran(RunID(arg(1)), []byte(words[2]), reads, number("wake"), number("took"), s.now)
	case "poll":
		var round Round
		var ok bool
		round, ok, effects = s.m.Poll(SetID(arg(1)), number("min"), s.now)
		if ok {
			fmt.Fprintf(out, "round at %d:", round.At)
			for _, c := range round.Changes {
				fmt.Fprintf(out, " %d=%s", c.Slot, c.Body)
			}
			fmt.Fprintln(out)
		} else {
			fmt.Fprintln(out, "no round")
		}
	case "alarm":
		effects = s.m.Alarm(s.now)
	case "stats":
		fmt.Fprintf(out, "%+v\n", s.m.Stats())
	default:
		return fmt.Errorf("unknown event %q", words[0])
	}
	for _, e := range effects {
		switch e.Kind {
		case StartRun:
			fmt.Fprintf(out, "start run %d of %s at %d\n", e.Run, e.Key, e.At)
		case Notify:
			fmt.Fprintf(out, "notify %d\n", e.Set)
		case Forget:
			fmt.Fprintf(out, "forget %s\n", e.Key)
		default:
			fmt.Fprintf(out, "%s\n", e.Kind)
		}
	}
	alarm := "none"
	if at, ok := s.m.NextAlarm(); ok {
		alarm = fmt.Sprint(at)
	}
	if alarm != s.alarm && (s.alarm != "" || alarm != "none") {
		fmt.Fprintf(out, "next alarm: %s\n", alarm)
	}
	s.alarm = alarm
	return nil
}
