package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// open returns the program on an empty database.
func open(t *testing.T) *halcyon.App {
	t.Helper()
	app, err := halcyon.NewApp(Modules()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open(t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return app
}

// written is what the server says to a write.
type written struct {
	Results []struct {
		ID      string  `json:"id"`
		Status  string  `json:"status"`
		Code    *string `json:"code"`
		Message *string `json:"message"`
	} `json:"results"`
}

// write sends the document of a title, as a client does.
func write(t *testing.T, app *halcyon.App, document, title string) (status, message string) {
	t.Helper()
	doc := yjs.NewDoc(nil)
	fields := doc.Map("fields")
	if err := errors.Join(fields.Set("title", title), fields.Set("done", false)); err != nil {
		t.Fatal(err)
	}
	var got written
	args := map[string]any{"writes": []map[string]any{{"id": "1", "document": document, "bytes": doc.EncodeStateV2(nil)}}}
	if err := app.Run(t.Context(), "tasks:replicateBatch", args, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Results) != 1 {
		t.Fatalf("%d results, want 1", len(got.Results))
	}
	if got.Results[0].Message != nil {
		message = *got.Results[0].Message
	}
	return got.Results[0].Status, message
}

func TestTitlesAreChecked(t *testing.T) {
	app := open(t)
	for _, tt := range []struct {
		name, title, status, message string
	}{
		{"at the limit", strings.Repeat("ü", titleRunesMax), "applied", ""},
		{"past it", strings.Repeat("ü", titleRunesMax+1), "refused", "A title has at most 200 characters, this has 201."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if status, message := write(t, app, tt.name, tt.title); status != tt.status || message != tt.message {
				t.Errorf("%s %q, want %s %q", status, message, tt.status, tt.message)
			}
		})
	}
}

func TestPage(t *testing.T) {
	app := open(t)
	mux := http.NewServeMux()
	for _, route := range app.Routes() {
		mux.Handle(route.Pattern, route.Handler)
	}
	for path, want := range map[string]string{
		"/":                 "text/html; charset=utf-8",
		"/assets/tasks.js":  "text/javascript; charset=utf-8",
		"/assets/tasks.css": "text/css; charset=utf-8",
	} {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
		if got := answer.Header().Get("Content-Type"); answer.Code != http.StatusOK || got != want {
			t.Errorf("GET %s: %d with %q, want %q", path, answer.Code, got, want)
		}
		// A browser that has it asks whether it is the newest.
		again := httptest.NewRequest("GET", path, nil)
		again.Header.Set("If-None-Match", answer.Header().Get("ETag"))
		answer = httptest.NewRecorder()
		if mux.ServeHTTP(answer, again); answer.Code != http.StatusNotModified || answer.Body.Len() > 0 {
			t.Errorf("GET %s again: %d with %d bytes, want %d", path, answer.Code, answer.Body.Len(), http.StatusNotModified)
		}
	}
}
