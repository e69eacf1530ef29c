package main

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/halcyon-db/halcyon"
)

//go:embed web/dist
var dist embed.FS

// page is the module of the page: a number and a button. It is built from
// web/src, see README.md.
func page() *halcyon.Module {
	files, err := fs.Sub(dist, "web/dist")
	if err != nil {
		panic(fmt.Sprintf("counter: embedded files: %v", err))
	}
	m := halcyon.NewModule("page")
	for _, path := range []string{"GET /{$}", "GET /counter.js", "GET /counter.css"} {
		m.Handle(path, http.FileServerFS(files))
	}
	return m
}
