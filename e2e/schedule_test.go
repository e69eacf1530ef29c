package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// What was scheduled before the server is killed, again and again, while much of it is due, happens once.
func TestScheduledFunctionsSurviveKills(t *testing.T) {
	t.Parallel()
	const kills, clients = 6, 8
	random := newRand(t)
	s := serve(t, fixture)
	acknowledged := map[string]bool{}
	var made atomic.Int64
	for kill := range kills {
		var mu sync.Mutex
		var killed atomic.Bool
		var working sync.WaitGroup
		some := make(chan struct{}, 1)
		for i := range clients {
			working.Go(func() {
				for n := 0; ; n++ {
					mark := fmt.Sprintf("%d-%d-%d", kill, i, n)
					made.Add(1)
					args := map[string]any{"name": hot, "mark": mark, "after": n * 7 % 300}
					if err := s.call("mutation", "counter:addLater", args, new(any)); err != nil {
						if !killed.Load() {
							t.Errorf("%s: %v", mark, err)
						}
						return
					}
					mu.Lock()
					acknowledged[mark] = true
					mu.Unlock()
					select {
					case some <- struct{}{}:
					default:
					}
				}
			})
		}
		for range 50 + random.IntN(200) {
			if _, ok := receive(t, some); !ok || t.Failed() {
				t.FailNow()
			}
		}
		killed.Store(true)
		s.kill()
		working.Wait()
		s.launch()
		s.awaitReady()
	}
	poll(t, "all that is scheduled to have happened", func() (bool, string) {
		n := query[int](s, "counter:pending", map[string]any{})
		return n == 0, fmt.Sprintf("%d are pending", n)
	})
	executed := map[string]int{}
	for _, m := range marksOf(s, hot) {
		executed[m.Mark]++
	}
	for mark, times := range executed {
		if times != 1 {
			t.Errorf("%s was executed %d times", mark, times)
		}
	}
	for mark := range acknowledged {
		if executed[mark] == 0 {
			t.Errorf("%s was scheduled and never executed", mark)
		}
	}
	t.Logf("%d kills: %d were scheduled, %d of them acknowledged, %d executed", kills, made.Load(), len(acknowledged), len(executed))
}
