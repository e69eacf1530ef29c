package cli_test

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/cli"
)

// A whole program: `greeter serve` serves greeter:hello to every Convex client,
// and `greeter run greeter:hello` prints it.
func Example() {
	greeter := halcyon.NewModule("greeter")
	greeter.Query("hello", func(*halcyon.Tx) (string, error) { return "Hello!", nil })
	cli.Main(greeter)
}
