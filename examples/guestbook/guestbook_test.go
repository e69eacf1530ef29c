package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/halcyon-db/halcyon"
)

// open returns the guestbook on an empty database.
func open(t *testing.T) *halcyon.App {
	t.Helper()
	app, err := halcyon.NewApp(Module())
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

func TestEverybodySignsAtOnce(t *testing.T) {
	app := open(t)
	const guests = 50
	var group sync.WaitGroup
	for i := range guests {
		group.Go(func() {
			err := app.Run(t.Context(), "guestbook:sign", signArgs{Name: fmt.Sprintf("Guest %d", i%5), Text: "Hello!"}, nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var found Latest
	if err := app.Run(t.Context(), "guestbook:latest", nil, &found); err != nil {
		t.Fatal(err)
	}
	if found.Total != guests || len(found.Entries) != 20 {
		t.Errorf("%d entries, %d of them shown; want %d and 20", found.Total, len(found.Entries), guests)
	}
	var forgotten int
	if err := app.Run(t.Context(), "guestbook:forget", forgetArgs{Name: "Guest 3"}, &forgotten); err != nil || forgotten != guests/5 {
		t.Errorf("forgot %d entries, %v; want %d", forgotten, err, guests/5)
	}
}

func TestEntriesAreChecked(t *testing.T) {
	app := open(t)
	for name, tt := range map[string]struct {
		args signArgs
		want string
	}{
		"no name":   {signArgs{" ", "Hello!"}, "Empty"},
		"no text":   {signArgs{"Ada", ""}, "Empty"},
		"long name": {signArgs{strings.Repeat("ü", 51), "Hello!"}, "TooLong"},
		"long text": {signArgs{"Ada", strings.Repeat("ü", 1001)}, "TooLong"},
	} {
		t.Run(name, func(t *testing.T) {
			err := app.Run(t.Context(), "guestbook:sign", tt.args, nil)
			var failure *halcyon.Failure
			if !errors.As(err, &failure) {
				t.Fatalf("error %v, want a failure", err)
			}
			if code, _ := failure.Data.Get("code").AsString(); code != tt.want {
				t.Errorf("code %q, want %q", code, tt.want)
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
	server := httptest.NewServer(mux)
	defer server.Close()
	answer, err := server.Client().PostForm(server.URL+"/sign", url.Values{"name": {"Ada"}, "text": {"<b>Hello!</b>"}})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var page strings.Builder
	if err := answer.Write(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 entry", "<strong>Ada</strong>", "&lt;b&gt;Hello!&lt;/b&gt;"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, page.String())
		}
	}
}
