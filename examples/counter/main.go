// Command counter is the smallest program on Halcyon: it counts clicks, and
// shows everybody who looks the new count at once.
package main

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/cli"
)

type Click struct {
	Button string `json:"button"`
}

var Clicks = halcyon.NewTable[Click]("clicks").Aggregate("byButton", halcyon.GroupBy("button"))

func click(tx *halcyon.Tx, args Click) error {
	_, err := Clicks.Insert(tx, args)
	return err
}

func count(tx *halcyon.Tx, args Click) (int, error) {
	n, err := Clicks.Count("byButton").Eq(args.Button).Count(tx)
	return int(n), err
}

func module() *halcyon.Module {
	m := halcyon.NewModule("counter", Clicks)
	m.Mutation("click", click)
	m.Query("count", count)
	return m
}

func main() { cli.Main(module(), page()) }
