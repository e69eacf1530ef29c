// Command counter serves counters that tell whether anything was lost or done
// twice. Every mutation has a mark, and each time it is executed a row with the
// mark is added.
package main

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/cli"
)

// Counter is a number that everybody adds to.
type Counter struct {
	ID    halcyon.ID[Counter] `halcyon:"id"`
	Name  string              `json:"name"`
	Value int                 `json:"value"`
}

// Mark is one execution of add.
type Mark struct {
	ID    halcyon.ID[Mark] `halcyon:"id"`
	Name  string           `json:"name"`
	Value int              `json:"value"` // of the counter, after
	Mark  string           `json:"mark"`
}

// The tables. by_mark is no unique index, so that a second execution is seen.
var (
	Counters = halcyon.NewTable[Counter]("counters").
			Index("by_name", "name")
	Marks = halcyon.NewTable[Mark]("marks").
		Index("by_place", "name", "value")
)

func main() {
	m := halcyon.NewModule("counter", Counters, Marks)
	m.Mutation("add", add)
	m.Query("get", get)
	m.Query("marks", marks)
	cli.Main(m)
}

type addArgs struct {
	Name string `json:"name"`
	Mark string `json:"mark"`
}

// add adds 1 to a counter and returns what it is then.
func add(tx *halcyon.Tx, args addArgs) (int, error) {
	counter, found, err := Counters.By("by_name").Eq(args.Name).First(tx)
	if err != nil {
		return 0, err
	}
	counter.Name = args.Name
	counter.Value++
	if found {
		err = Counters.Replace(tx, counter.ID, counter)
	} else {
		_, err = Counters.Insert(tx, counter)
	}
	if err != nil {
		return 0, err
	}
	_, err = Marks.Insert(tx, Mark{Name: args.Name, Value: counter.Value, Mark: args.Mark})
	return counter.Value, err
}

type getArgs struct {
	Name string `json:"name"`
}

// get returns a counter.
func get(tx *halcyon.Tx, args getArgs) (int, error) {
	counter, _, err := Counters.By("by_name").Eq(args.Name).First(tx)
	return counter.Value, err
}

type marksArgs struct {
	Name  string `json:"name"`
	After int    `json:"after"`
}

// marks returns the executions after a value of the counter, at most 2,000, in
// the order of the values they made.
func marks(tx *halcyon.Tx, args marksArgs) ([]Mark, error) {
	return Marks.By("by_place").Eq(args.Name).Gt(args.After).Take(tx, 2000)
}
