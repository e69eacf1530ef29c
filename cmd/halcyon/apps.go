package main

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/authsessions"
	"github.com/halcyon-db/halcyon/apps/site"
	"github.com/halcyon-db/halcyon/apps/stats"
)

// modules returns what ships in the program, wired together.
func modules() []*halcyon.Module {
	pages := site.New(site.Options{})
	return []*halcyon.Module{
		pages.Module(),
		stats.Module(stats.Options{Titles: pages.Titles, Published: pages.Published}),
		authsessions.Module(authsessions.Options{}),
	}
}
