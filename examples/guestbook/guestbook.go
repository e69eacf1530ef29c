package main

import (
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon"
)

// Entry is what somebody wrote into the guestbook. The struct is the schema of
// the table, and the validator of what is stored in it.
type Entry struct {
	ID   halcyon.ID[Entry] `halcyon:"id"`
	At   time.Time         `halcyon:"creationTime"`
	Name string            `json:"name"`
	Text string            `json:"text"`
}

// Entries is the table. The aggregate counts entries by name, however many there
// are, without reading them.
var Entries = halcyon.NewTable[Entry]("entries").
	Index("by_name", "name").
	Aggregate("count").
	Aggregate("countByName", halcyon.GroupBy("name"))

// Module is the guestbook: its table, its functions, its page and its command.
func Module() *halcyon.Module {
	m := halcyon.NewModule("guestbook", Entries)
	m.Mutation("sign", sign)
	m.Query("latest", latest)
	m.Internal.Mutation("forget", forget)
	m.HandleApp("GET /{$}", page)
	m.HandleApp("POST /sign", signForm)
	m.Command("show", "Print the newest entries, the newest first.", show)
	return m
}

type signArgs struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// sign adds an entry. It may run several times until it is done, so it touches
// nothing but its transaction.
func sign(tx *halcyon.Tx, args signArgs) (halcyon.ID[Entry], error) {
	name, text := strings.TrimSpace(args.Name), strings.TrimSpace(args.Text)
	if name == "" || text == "" {
		return "", &halcyon.Error{Code: "Empty", Message: "A name and a text, please."}
	}
	if utf8.RuneCountInString(name) > 50 || utf8.RuneCountInString(text) > 1000 {
		return "", &halcyon.Error{Code: "TooLong", Message: "At most 50 characters of name and 1,000 of text."}
	}
	return Entries.Insert(tx, Entry{Name: name, Text: text})
}

// Latest is the result of latest.
type Latest struct {
	Total   int     `json:"total"`
	Entries []Entry `json:"entries"` // the newest first
}

// latest returns the newest entries and how many there are. Whoever subscribes
// to it sees new ones as they come.
func latest(tx *halcyon.Tx) (Latest, error) {
	total, err := Entries.Count("count").Count(tx)
	if err != nil {
		return Latest{}, err
	}
	entries, err := Entries.All().Desc().Take(tx, 20)
	return Latest{Total: int(total), Entries: entries}, err
}

type forgetArgs struct {
	Name string `json:"name"`
}

// forget deletes the entries of a name, at most 500 a call, and returns how many
// it deleted. Clients can't call it; `guestbook run guestbook:forget` does.
func forget(tx *halcyon.Tx, args forgetArgs) (int, error) {
	entries, err := Entries.By("by_name").Eq(args.Name).Take(tx, 500)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if err := Entries.Delete(tx, entry.ID); err != nil {
			return 0, err
		}
	}
	return len(entries), nil
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page shows the guestbook.
func page(app *halcyon.App) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var found Latest
		if err := app.Run(r.Context(), "guestbook:latest", nil, &found); err != nil {
			http.Error(w, "The guestbook can't be read right now.", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = pageTemplate.Execute(w, found) // a reader who went away needs no page
	})
}

// signForm takes the page's form.
func signForm(app *halcyon.App) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		args := signArgs{Name: r.PostFormValue("name"), Text: r.PostFormValue("text")}
		if err := app.Run(r.Context(), "guestbook:sign", args, nil); err != nil {
			http.Error(w, "The entry was not taken: a name of at most 50 characters and a text of at most 1,000, please.",
				http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
}

// show is the command `guestbook show`.
func show(ctx context.Context, env *halcyon.CommandEnv, _ []string) error {
	var found Latest
	if err := env.App.Run(ctx, "guestbook:latest", nil, &found); err != nil {
		return err
	}
	for _, entry := range found.Entries {
		if _, err := fmt.Fprintf(env.Stdout, "%s  %s: %s\n", entry.At.Format(time.DateTime), entry.Name, entry.Text); err != nil {
			return err
		}
	}
	return nil
}
