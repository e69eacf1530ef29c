package live

import (
	"fmt"
	"strings"
	"testing"
)

func TestBrokenInvariants(t *testing.T) {
	for _, c := range []struct {
		name, want string
		do         func()
	}{
		{"watermark below", "watermark 90 does not follow 100", func() {
			New(Options{Newest: 100}).Committed(90, nil, 100)
		}},
		{"keys at the same watermark", "watermark 100 does not follow 100", func() {
			New(Options{Newest: 100}).Committed(100, [][]byte{[]byte("k")}, 100)
		}},
		{"unknown range", "is not in the touch index", func() {
			var t intervals
			t.remove(Range{Start: []byte("a")}, &entry{})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				if got, _ := recover().(string); !strings.Contains(got, c.want) {
					t.Errorf("panic: got %q, want %q", got, c.want)
				}
			}()
			c.do()
		})
	}
}

// TestNothingToDo covers events about things that are not there, which come from calls that have crossed.
func TestNothingToDo(t *testing.T) {
	m := New(Options{Newest: 100})
	m.Open(1)
	m.Watch(1, 0, "q", 100)
	m.Open(1)
	if got := m.Stats().Watches; got != 1 {
		t.Errorf("watches after a second Open: got %d, want 1", got)
	}
	if _, ok, effects := m.Poll(9, 0, 100); ok || len(effects) > 0 {
		t.Errorf("poll of an unknown set: %v, %v", ok, effects)
	}
	for name, effects := range map[string][]Effect{
		"watch":     m.Watch(9, 0, "q", 100),
		"unwatch":   m.Unwatch(9, 0),
		"slot":      m.Unwatch(1, 9),
		"close":     m.Close(9),
		"ran":       m.Ran(9, nil, ReadSet{}, 0, 0, 100),
		"committed": m.Committed(100, nil, 100),
		"alarm":     m.Alarm(1 << 50),
	} {
		if len(effects) > 0 {
			t.Errorf("%s: got %v, want nothing", name, effects)
		}
	}
	if at, ok := m.NextAlarm(); ok {
		t.Errorf("alarm: got %d, want none", at)
	}
	if m.Newest() != 100 {
		t.Errorf("newest: got %d, want 100", m.Newest())
	}
}

// A query that many watch is run on behalf of one that has little else to run.
func TestRunsAreForTheIdlest(t *testing.T) {
	m := New(Options{Newest: 1})
	started := map[string]SetID{}
	runs := map[string]RunID{}
	note := func(effects []Effect) {
		for _, e := range effects {
			if e.Kind == StartRun {
				started[e.Key], runs[e.Key] = e.Set, e.Run
			}
		}
	}
	poll := func(id SetID) {
		_, _, effects := m.Poll(id, 0, 0)
		note(effects)
	}
	m.Open(1)
	m.Open(2)
	note(m.Watch(1, 0, "shared", 0))
	poll(1)
	note(m.Ran(runs["shared"], []byte("a"), ReadSet{Points: [][]byte{[]byte("k")}}, 0, 0, 0))
	poll(1)
	for i := range uint32(10) {
		note(m.Watch(1, i+1, fmt.Sprint("own ", i), 0))
	}
	poll(1)
	note(m.Watch(2, 0, "shared", 0))
	poll(2)
	if started["shared"] != 1 || started["own 9"] != 1 {
		t.Fatalf("started for %v", started)
	}
	const later = 1_000_000
	note(m.Committed(2, [][]byte{[]byte("k")}, later))
	if started["shared"] != 2 {
		t.Errorf("what both watch is run again for set %d, want 2", started["shared"])
	}
	note(m.Close(2))
	note(m.Close(1))
	for _, id := range runs {
		note(m.Ran(id, nil, ReadSet{}, 0, 0, later))
	}
	if s := m.Stats(); s != (Stats{}) {
		t.Errorf("left is %+v", s)
	}
}
