package engine_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// A set that watches a thousand queries holds up another one for as long as it takes to run a few of them, not all.
func TestManyQueriesOfOneSetDoNotHoldUpOthers(t *testing.T) {
	db := enginetest.OpenWith(t, schema, engine.Options{FunctionTimeMax: time.Hour})
	const many = 1_000
	entered, proceed := make(chan string, many+1), make(chan struct{})
	held := func(key string) engine.LiveQuery {
		return engine.LiveQuery{Key: key, Run: func(*engine.Tx) []byte {
			entered <- key
			<-proceed
			return []byte(key)
		}}
	}
	greedy, good := newScreen(db), newScreen(db)
	defer greedy.Close()
	defer good.Close()
	for i := range uint32(many) {
		greedy.Add(i, held(fmt.Sprint("greedy ", i)))
	}
	if r, ok := greedy.Poll(0); ok {
		t.Fatalf("a round before anything has run: %v", r)
	}
	good.Add(0, held("good"))
	if r, ok := good.Poll(0); ok {
		t.Fatalf("a round before anything has run: %v", r)
	}
	for before := 0; ; before++ {
		var key string
		select {
		case key = <-entered:
		case <-t.Context().Done():
			t.Fatal("no run begins")
		}
		if key == "good" {
			break
		}
		// Each worker has one to finish, and takes another one of the greedy set at most.
		if most := 2 * runtime.GOMAXPROCS(0); before >= most {
			t.Errorf("more than %d runs of another set come first", most)
			break
		}
		proceed <- struct{}{}
	}
	close(proceed)
	if r := good.next(t, 0); len(r.Changes) != 1 || string(r.Changes[0].Body) != "good" {
		t.Errorf("the round is %v", r)
	}
}
