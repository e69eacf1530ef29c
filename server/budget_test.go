package server

import (
	"sync"
	"testing"
)

// What there is no room for is refused, and takes nothing from others meanwhile: one that fits is never refused beside it.
func TestBudgetRefusesOnlyWhatDoesNotFit(t *testing.T) {
	b := &budget{max: 100}
	if !b.take(100) || b.take(1) || b.used.Load() != 100 {
		t.Fatalf("at the limit %d of 100 are used", b.used.Load())
	}
	b.put(100)
	done := make(chan struct{})
	var large sync.WaitGroup
	for range 4 {
		large.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if b.take(101) {
					t.Error("101 of 100 were given")
					return
				}
			}
		})
	}
	var fits sync.WaitGroup
	for range 10 { // ten have 10 each, which is all there is
		fits.Go(func() {
			for range 20_000 {
				if !b.take(10) {
					t.Error("10 that were there were refused")
					return
				}
				b.put(10)
			}
		})
	}
	fits.Wait()
	close(done)
	large.Wait()
	if n := b.used.Load(); n != 0 {
		t.Errorf("%d are used at the end", n)
	}
}
