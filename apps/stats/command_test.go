package stats_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
)

// command runs a command of the module.
func (w *world) command(name string, args ...string) (stdout string, err error) {
	w.t.Helper()
	return w.commandIn(w.t.Context(), name, args...)
}

func (w *world) commandIn(ctx context.Context, name string, args ...string) (stdout string, err error) {
	w.t.Helper()
	for _, command := range w.app.Commands() {
		if command.Module == "stats" && command.Name == name {
			var out bytes.Buffer
			err := command.Run(ctx, &halcyon.CommandEnv{
				App: w.app, Call: w.app.Run, Stdin: strings.NewReader(""), Stdout: &out, Stderr: new(bytes.Buffer), Logger: w.app.Logger()}, args)
			return out.String(), err
		}
	}
	w.t.Fatalf("there is no command stats %s", name)
	return "", nil
}

func TestExport(t *testing.T) {
	const views = 2500
	w := newWorld(t, stats.Options{})
	w.importRows(views, func(i int) (string, string, time.Time) {
		return fmt.Sprintf("v%d", i), fmt.Sprintf("/%d", i), noon.Add(time.Duration(i-views) * time.Minute)
	})
	s := w.site()
	s.counted(object{"name": "pageview", "url": "https://a.org/?utm_source=a%2C%22b%22%0Ac", "visitor": "ada"})
	s.counted(object{"name": "buy", "url": "https://a.org/", "visitor": "ada", "props": object{"b": "<&>", "a": 1}})

	text, err := w.command("export")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != views+2 {
		t.Fatalf("%d rows, %v; want the names and %d views", len(rows), err, views+1)
	}
	want := []string{"2026-03-14T12:00:00Z", "pageview", "a.org", "/", "home", "ada", "", "Campaign", "a,\"b\"\nc", "", "",
		"desktop", "Firefox", "Linux", "", ""}
	if diff := cmp.Diff(want, rows[views+1]); diff != "" {
		t.Errorf("the last row (-want +got):\n%s", diff)
	}
	text, err = w.command("export", "--format", "jsonl", "--events")
	wantLine := `{"time":"2026-03-14T12:00:00Z","name":"buy","path":"/","visitor":"ada","props":{"a":"1","b":"<&>"},"site":"a.org",` +
		`"channel":"Direct","device":"desktop","browser":"Firefox","system":"Linux"}` + "\n"
	if diff := cmp.Diff(wantLine, text); diff != "" || err != nil {
		t.Errorf("events: %v (-want +got):\n%s", err, diff)
	}
	text, err = w.command("export", "-format=jsonl", "-from", "2026-03-13", "-to", "2026-03-13")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines {
		var read struct{ Time time.Time }
		if err := json.Unmarshal([]byte(line), &read); err != nil || read.Time.Format(time.DateOnly) != "2026-03-13" {
			t.Fatalf("%s: %v, want a line of 13 March", line, err)
		}
	}
	if len(lines) != 24*60 {
		t.Errorf("%d lines of a day with a view a minute", len(lines))
	}
	s.counted(object{"name": "=HYPERLINK(1)", "url": "https://a.org/?utm_source=%2B1&utm_medium=-1&utm_campaign=%40x", "visitor": "ada"})
	text, err = w.command("export", "--events")
	if err != nil || !strings.Contains(text, ",'=HYPERLINK(1),") || !strings.Contains(text, ",'+1,'-1,'@x,") {
		t.Errorf("%v: a spreadsheet takes a cell for a formula:\n%s", err, text)
	}
	for _, args := range [][]string{{"--format", "xml"}, {"--from", "yesterday"}, {"--what"}, {"file"}} {
		_, err := w.command("export", args...)
		if exit, ok := errors.AsType[interface {
			error
			ExitCode() int
		}](err); !ok || exit.ExitCode() != 2 {
			t.Errorf("export %v: %v, want a wrong call", args, err)
		}
	}
}

// Help names flags as they are taken: the command line reads one dash as the beginning of
// several short flags.
func TestCommandsNameTheirFlagsWithTwoDashes(t *testing.T) {
	w := newWorld(t, stats.Options{})
	_, err := w.command("export", "--what")
	if err == nil || !strings.Contains(err.Error(), "\n  --format") || strings.Contains(err.Error(), "\n  -format") {
		t.Errorf("export --what: %v", err)
	}
	for _, command := range w.app.Commands() {
		if command.Module != "stats" || command.Name != "import" {
			continue
		}
		var talk bytes.Buffer
		env := &halcyon.CommandEnv{App: w.app, Call: w.app.Run, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &talk, Logger: w.app.Logger()}
		if err := command.Run(t.Context(), env, []string{"--help"}); err != nil || !strings.Contains(talk.String(), "\n  --transactions\n") || strings.Contains(talk.String(), "\n  -t") {
			t.Errorf("import --help: %v\n%s", err, talk.String())
		}
	}
}

// TestForget: a visitor who is forgotten is as if never come, in every number,
// whether rolled up or not.
func TestForget(t *testing.T) {
	fill := func(visitors ...string) *world {
		w := newWorld(t, stats.Options{}, probe())
		for round := range 4 {
			for _, visitor := range visitors {
				for page := range 250 {
					w.view(visitor, fmt.Sprintf("/%d-%d", round, page))
				}
				w.tell(told{site: "a.org", path: "/", visitor: visitor, country: "CH", browser: "Chrome"})
				w.do("stats:tell", object{"name": "buy", "site": "a.org", "path": "/", "pageType": "page", "sessionId": visitor})
				w.beat(visitor, "/")
			}
			w.clock.advance(20 * time.Hour)
			if round == 2 {
				for w.rollUp() > 0 {
				}
			}
		}
		w.clock.advance(time.Millisecond)
		return w
	}
	w := fill("ada", "bob")
	if _, err := w.command("forget", "bob"); err != nil {
		t.Fatal(err)
	}
	without := fill("ada")
	all := []object{{}, {"site": "a.org"}, {"path": "/1-1"}, {"country": "CH"}}
	for range 2 { // the second time with everything rolled up
		for _, dimension := range stats.Dimension("").Values() {
			for _, args := range all {
				args["dimension"], args["from"], args["to"] = string(dimension), millis(noon), millis(noon.Add(96*time.Hour))
				if diff := cmp.Diff(show(without.ask("stats:getBreakdown", args)), show(w.ask("stats:getBreakdown", args))); diff != "" {
					t.Errorf("getBreakdown(%v) (-never here +forgotten):\n%s", args, diff)
				}
			}
		}
		if diff := cmp.Diff(without.stats(), w.stats()); diff != "" {
			t.Errorf("getStats (-never here +forgotten):\n%s", diff)
		}
		for w.rollUp() > 0 {
		}
		for without.rollUp() > 0 {
		}
	}
	if text, err := w.command("export"); err != nil || strings.Contains(text, "bob") {
		t.Errorf("bob is in the export: %v", err)
	}
	for _, args := range [][]string{{"bob"}, {}, {""}, {"a", "b"}} {
		if _, err := w.command("forget", args...); err == nil {
			t.Errorf("forget %q has done something", args)
		}
	}
	if _, err := w.command("forget", strings.Repeat("x", 200)); err == nil || err.Error() != "forget: sessionId has 200 bytes, 128 are allowed" {
		t.Errorf("of an id that is too long: %v", err)
	}
}
