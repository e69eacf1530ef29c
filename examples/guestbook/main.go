// Command guestbook is a program of its own on Halcyon: one module, with every
// verb that Halcyon's own binary has.
package main

import "github.com/halcyon-db/halcyon/cli"

func main() { cli.Main(Module()) }
