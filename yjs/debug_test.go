package yjs

import (
	"encoding/json"
	"os"
	"testing"
)

func TestDebugPrefix(t *testing.T) {
	path := os.Getenv("FIX")
	if path == "" {
		t.Skip("no FIX")
	}
	o := startOracle(t)
	raw, _ := os.ReadFile(path)
	var f fixture
	must(t, json.Unmarshal(raw, &f))
	steps := f.Script.Steps
	lo, hi := 0, len(steps)
	check := func(n int) error {
		s := *f.Script
		s.Steps = steps[:n]
		got, _, err := runAll(&s)
		if err != nil {
			return err
		}
		var want outcome
		if err := o.ask(t, &s, &want); err != nil {
			return err
		}
		return compareOutcome(&s, got, &want)
	}
	for lo+1 < hi {
		mid := (lo + hi) / 2
		if check(mid) != nil {
			hi = mid
		} else {
			lo = mid
		}
	}
	js, _ := json.Marshal(steps[hi-1])
	t.Logf("clients %v; step %d: %s\n%v", f.Script.Clients, hi-1, js, check(hi))
	for i := max(0, hi-8); i < hi; i++ {
		js, _ := json.Marshal(steps[i])
		t.Logf("%d %s", i, js)
	}
	if path := os.Getenv("MIN"); path != "" {
		s := *f.Script
		s.Steps = steps[:hi]
		// Drop steps that are not needed.
		bad := func(st [][]any) bool {
			defer func() { recover() }()
			x := s
			x.Steps = st
			got, _, err := runAll(&x)
			if err != nil {
				return false
			}
			var want outcome
			if o.ask(t, &x, &want) != nil {
				return false
			}
			return compareOutcome(&x, got, &want) != nil
		}
		for i := len(s.Steps) - 1; i >= 0; i-- {
			st := append(append([][]any{}, s.Steps[:i]...), s.Steps[i+1:]...)
			if bad(st) {
				s.Steps = st
			}
		}
		for _, st := range s.Steps {
			js, _ := json.Marshal(st)
			t.Logf("MIN %s", js)
		}
		got, _, err := runAll(&s)
		must(t, err)
		var want outcome
		must(t, o.ask(t, &s, &want))
		t.Logf("%v", compareOutcome(&s, got, &want))
	}
}
