// Command webhook is a program that takes signed deliveries of somebody else's
// service over HTTP, asks a second service about each, and shows what came of
// them as it happens.
package main

import "github.com/halcyon-db/halcyon/cli"

func main() { cli.Main(Module()) }
