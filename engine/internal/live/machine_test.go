package live

import (
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
