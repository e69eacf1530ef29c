package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

// open returns the chat on an empty database.
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

// call calls a function that has to succeed.
func call[T any](t *testing.T, app *halcyon.App, path string, args any) T {
	t.Helper()
	var result T
	if err := app.Run(t.Context(), path, args, &result); err != nil {
		t.Fatalf("%s %+v: %v", path, args, err)
	}
	return result
}

func TestOneRoomOfAName(t *testing.T) {
	app := open(t)
	var group sync.WaitGroup
	ids := make([]halcyon.ID[Room], 20)
	for i := range ids {
		group.Go(func() {
			if err := app.Run(t.Context(), "chat:openRoom", openRoomArgs{Name: " lobby "}, &ids[i]); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	call[halcyon.ID[Room]](t, app, "chat:openRoom", openRoomArgs{Name: "attic"})
	call[halcyon.ID[Message]](t, app, "chat:send", sendArgs{Room: ids[0], Author: "Ada", Body: "Hello"})
	got := call[[]RoomOnList](t, app, "chat:rooms", nil)
	if len(got) != 2 || got[0].Name != "attic" {
		t.Fatalf("rooms %+v, want the attic and one lobby", got)
	}
	for _, id := range ids {
		if id != got[1].ID {
			t.Errorf("openRoom returned %s, the room is %s", id, got[1].ID)
		}
	}
	if got[0].Messages != 0 || got[1].Messages != 1 {
		t.Errorf("rooms %+v, want none and one message", got)
	}
}

func TestMessagesArePagedFromTheNewest(t *testing.T) {
	app := open(t)
	lobby := call[halcyon.ID[Room]](t, app, "chat:openRoom", openRoomArgs{Name: "lobby"})
	attic := call[halcyon.ID[Room]](t, app, "chat:openRoom", openRoomArgs{Name: "attic"})
	var want []string
	for i := range 7 {
		want = append([]string{fmt.Sprint(i)}, want...)
		call[halcyon.ID[Message]](t, app, "chat:send", sendArgs{Room: lobby, Author: "Ada", Body: fmt.Sprint(i)})
		call[halcyon.ID[Message]](t, app, "chat:send", sendArgs{Room: attic, Author: "Bob", Body: "elsewhere"})
	}
	var got []string
	args := messagesArgs{Room: lobby, Page: halcyon.PageOptions{NumItems: 3}}
	for range 5 {
		page := call[halcyon.Page[Message]](t, app, "chat:messages", args)
		for _, m := range page.Page {
			got = append(got, m.Body)
		}
		if page.IsDone {
			break
		}
		args.Page.Cursor = halcyon.NotNull(page.ContinueCursor)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestWhatPeopleWriteIsChecked(t *testing.T) {
	app := open(t)
	lobby := call[halcyon.ID[Room]](t, app, "chat:openRoom", openRoomArgs{Name: "lobby"})
	for _, tt := range []struct {
		name, path string
		args       any
		want       string // the code; empty when it is taken
	}{
		{"room without a name", "chat:openRoom", openRoomArgs{Name: " "}, "Empty"},
		{"room's name at the limit", "chat:openRoom", openRoomArgs{Name: strings.Repeat("ü", nameRunesMax)}, ""},
		{"room's name past it", "chat:openRoom", openRoomArgs{Name: strings.Repeat("ü", nameRunesMax+1)}, "TooLong"},
		{"no author", "chat:send", sendArgs{lobby, "", "Hello"}, "Empty"},
		{"author past the limit", "chat:send", sendArgs{lobby, strings.Repeat("ü", nameRunesMax+1), "Hello"}, "TooLong"},
		{"no body", "chat:send", sendArgs{lobby, "Ada", "\n"}, "Empty"},
		{"body at the limit", "chat:send", sendArgs{lobby, "Ada", strings.Repeat("ü", bodyRunesMax)}, ""},
		{"body past it", "chat:send", sendArgs{lobby, "Ada", strings.Repeat("ü", bodyRunesMax+1)}, "TooLong"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := app.Run(t.Context(), tt.path, tt.args, nil)
			got := ""
			var failure *halcyon.Failure
			if errors.As(err, &failure) {
				got, _ = failure.Data.Get("code").AsString()
			}
			if got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("code %q (%v), want %q", got, err, tt.want)
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
		"/":                "text/html; charset=utf-8",
		"/assets/chat.js":  "text/javascript; charset=utf-8",
		"/assets/chat.css": "text/css; charset=utf-8",
	} {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
		if got := answer.Header().Get("Content-Type"); answer.Code != http.StatusOK || got != want {
			t.Errorf("GET %s: %d with %q, want %q", path, answer.Code, got, want)
		}
	}
}
