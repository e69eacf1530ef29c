package main

import (
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/web"
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
	for at, file := range page() {
		m.Handle("GET "+at, file)
	}
	return []*halcyon.Module{Tasks().Module(), m}
}

//go:embed web/dist
var dist embed.FS

// hashed matches paths that say what is in the file: there is never anything else under them.
var hashed = regexp.MustCompile(`^/assets/\w+-[0-9A-Z]{8}\.`)

// page returns the page and its files by their paths. They are packed once, and who has one is told so.
func page() map[string]http.Handler {
	files := map[string]http.Handler{}
	err := fs.WalkDir(dist, "web/dist", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(dist, name)
		if err != nil {
			return err
		}
		at := strings.TrimPrefix(name, "web/dist")
		if at == "/index.html" {
			at = "/{$}"
		}
		file := web.NewFile(mime.TypeByExtension(path.Ext(name)), body)
		if hashed.MatchString(at) {
			file.Header.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		files[at] = file
		return nil
	})
	if err != nil {
		panic(fmt.Sprintf("tasks: embedded files: %v", err))
	}
	return files
}
