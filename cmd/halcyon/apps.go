package main

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/authsessions"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/apps/site"
	"github.com/halcyon-db/halcyon/apps/stats"
)

// modules returns what ships in the program, wired together.
func modules() []*halcyon.Module {
	pages := site.New(site.Options{})
	documents := tasks()
	return append(pages.Modules(),
		stats.Module(stats.Options{Titles: pages.Titles, Published: pages.Published}),
		authsessions.Module(authsessions.Options{}),
		documents.Module(), replicate.Docs(documents),
	)
}

// tasks is the collection of documents that ships: a task list with notes.
func tasks() *replicate.Collection {
	return replicate.New(replicate.Options{Name: "tasks", Fields: []replicate.Field{
		{Name: "title", Kind: replicate.String},
		{Name: "done", Kind: replicate.Boolean},
		{Name: "note", Kind: replicate.RichText, Optional: true},
	}})
}
