package main

import "github.com/halcyon-db/halcyon/cli"

func main() { cli.Main(modules()...) }
