package engine_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// TestTurnsThatOverrun: a function that takes too long in the committer's turn is executed again in parallel, and the goroutine that it had
// ends when it returns: there is one for all turns, however many have overrun.
func TestTurnsThatOverrun(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: time.Second})
	for i := range 5 {
		h := startHang(t, db, fmt.Sprint("overruns ", i))
		<-h.entered
		clock.Advance(100 * time.Millisecond)
		if _, err := db.Mutate(t.Context(), engine.Call{Name: "other"}, increment(db, "other")); err != nil { // it has been given up now
			t.Fatal(err)
		}
		close(h.letGo)
		<-h.after
		<-h.after
		if err := <-h.done; err != nil {
			t.Fatalf("a function that overran its turn: %v", err)
		}
	}
	buf := make([]byte, 4<<20)
	var n int
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); runtime.Gosched() {
		if n = strings.Count(string(buf[:runtime.Stack(buf, true)]), "executeTurns(0x"); n <= 1 {
			break
		}
	}
	if n != 1 {
		t.Errorf("%d goroutines execute turns, want 1", n)
	}
	verify(t, db)
}
