// Command tasks is a task list that works without a network: a program of its own on Halcyon whose documents are on every device.
package main

import "github.com/halcyon-db/halcyon/cli"

func main() { cli.Main(Modules()...) }
