package live_test

import (
	"fmt"

	"github.com/halcyon-db/halcyon/engine/internal/live"
)

// A driver opens a set, watches a query, polls, and carries out what the machine asks for.
func Example() {
	m := live.New(live.Options{Newest: 100})
	m.Open(1)
	for _, e := range m.Watch(1, 0, "messages of room 7", 100) {
		fmt.Println(e.Kind, e.Set)
	}
	_, ok, effects := m.Poll(1, 0, 101)
	fmt.Println(ok, effects[0].Kind, effects[0].Key, "at", effects[0].At)

	reads := live.ReadSet{Points: [][]byte{[]byte("room 7")}}
	for _, e := range m.Ran(effects[0].Run, []byte("hello"), reads, 0, 50, 160) {
		fmt.Println(e.Kind, e.Set)
	}
	round, ok, _ := m.Poll(1, 0, 161)
	fmt.Println(ok, round.At, string(round.Changes[0].Body))

	for _, e := range m.Committed(200, [][]byte{[]byte("room 7")}, 20_200) {
		fmt.Println(e.Kind, e.Key, "at", e.At)
	}
	// Output:
	// notify 1
	// false start-run messages of room 7 at 100
	// notify 1
	// true 100 hello
	// start-run messages of room 7 at 200
}
