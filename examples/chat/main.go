// Command chat is a chat with rooms: a program of its own on Halcyon whose page
// is React with the official Convex hooks.
package main

import "github.com/halcyon-db/halcyon/cli"

func main() { cli.Main(Module()) }
