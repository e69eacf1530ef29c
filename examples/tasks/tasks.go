package main

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
)

// titleRunesMax is how long a title is at most, in characters.
const titleRunesMax = 200

// Tasks returns the collection of tasks. Their title is checked; what is too long is refused, and stays with whoever wrote it.
func Tasks() *replicate.Collection {
	return replicate.New(replicate.Options{
		Name: "tasks",
		Fields: []replicate.Field{
			{Name: "title", Kind: replicate.String},
			{Name: "done", Kind: replicate.Boolean},
			{Name: "note", Kind: replicate.RichText, Optional: true},
		},
		OnChange: func(_ *halcyon.Tx, change replicate.Change) error {
			if n := utf8.RuneCountInString(change.After.String("title")); n > titleRunesMax {
				return &halcyon.Error{Code: "TitleTooLong", Message: fmt.Sprintf("A title has at most %d characters, this has %d.", titleRunesMax, n)}
			}
			return nil
		},
	})
}

// Modules are the tasks and the page that shows them.
func Modules() []*halcyon.Module {
	m := halcyon.NewModule("page")
	m.Handle("GET /{$}", page())
	m.Handle("GET /worker.js", page())
	m.Handle("GET /bench.html", page())
	m.Handle("GET /assets/", page())
	return []*halcyon.Module{Tasks().Module(), m}
}

//go:embed web/dist
var dist embed.FS

// page serves the page and its files.
func page() http.Handler {
	files, err := fs.Sub(dist, "web/dist")
	if err != nil {
		panic(fmt.Sprintf("tasks: embedded files: %v", err))
	}
	return http.FileServerFS(files)
}
