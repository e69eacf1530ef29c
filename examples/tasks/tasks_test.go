package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
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

// server returns what serves the page.
func server(t *testing.T) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range open(t).Routes() {
		mux.Handle(route.Pattern, route.Handler)
	}
	return mux
}

// get asks for a file as a browser does that may know it by its ETag already.
func get(h http.Handler, path, etag string) *httptest.ResponseRecorder {
	request := httptest.NewRequest("GET", path, nil)
	request.Header.Set("Accept-Encoding", "gzip")
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, request)
	return answer
}

// parts are the names by which the page knows the files it is made of.
var parts = regexp.MustCompile(`/assets/[\w.-]+`)

func TestPage(t *testing.T) {
	h := server(t)
	files := append(parts.FindAllString(unpack(t, get(h, "/", "")), -1), "/", "/worker.js", "/bench.html", "/assets/bench.js")
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
	for _, file := range files {
		want := cmp.Or(types[path.Ext(file)], "text/html; charset=utf-8")
		answer := get(h, file, "")
		if got := answer.Header().Get("Content-Type"); answer.Code != http.StatusOK || got != want {
			t.Errorf("GET %s: %d with %q, want %q", file, answer.Code, got, want)
		}
		// What has its contents in its name is never asked for again; of the rest a browser asks whether it is the newest.
		if got, want := strings.Contains(answer.Header().Get("Cache-Control"), "immutable"), hashed.MatchString(file); got != want {
			t.Errorf("GET %s: kept for ever: %t, want %t", file, got, want)
		}
		if again := get(h, file, answer.Header().Get("ETag")); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("GET %s again: %d with %d bytes, want %d", file, again.Code, again.Body.Len(), http.StatusNotModified)
		}
	}
}

// The list does not wait for the script of the editor, and what works without a network keeps all parts of the page.
func TestListNeedsNoEditor(t *testing.T) {
	const listBytesMax = 135 << 10 // as they travel
	h := server(t)
	size := 0
	keeps := parts.FindAllString(unpack(t, get(h, "/worker.js", "")), -1)
	for _, at := range parts.FindAllString(unpack(t, get(h, "/", "")), -1) {
		if !slices.Contains(keeps, at) {
			t.Errorf("the page has %s, which the worker does not keep", at)
		}
		answer := get(h, at, "")
		size += answer.Body.Len()
		if strings.Contains(unpack(t, answer), "ProseMirror-") {
			t.Errorf("the page waits for the editor, in %s", at)
		}
	}
	if size > listBytesMax {
		t.Errorf("the page waits for %d bytes, want at most %d", size, listBytesMax)
	}
	editors := 0
	for _, at := range keeps {
		if answer := get(h, at, ""); answer.Code != http.StatusOK {
			t.Errorf("the worker keeps %s, of which the server says %d", at, answer.Code)
		} else if strings.Contains(unpack(t, answer), "ProseMirror-") {
			editors++
		}
	}
	if editors != 1 {
		t.Errorf("the worker keeps %d editors, want one: %q", editors, keeps)
	}
}

// unpack returns the text of an answer.
func unpack(t *testing.T, answer *httptest.ResponseRecorder) string {
	t.Helper()
	if answer.Header().Get("Content-Encoding") != "gzip" {
		return answer.Body.String()
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(answer.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
