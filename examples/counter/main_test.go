package main

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

// TestClicksAreCounted clicks two buttons from many sides at once.
func TestClicksAreCounted(t *testing.T) {
	app, err := halcyon.NewApp(module())
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open(t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}()
	want := map[string]int{"red": 60, "blue": 30, "green": 0}
	var clicking sync.WaitGroup
	for button, clicks := range want {
		for range clicks {
			clicking.Go(func() {
				if err := app.Run(t.Context(), "counter:click", Click{Button: button}, nil); err != nil {
					t.Errorf("click %s: %v", button, err)
				}
			})
		}
	}
	clicking.Wait()
	for button, clicks := range want {
		var got int
		if err := app.Run(t.Context(), "counter:count", Click{Button: button}, &got); err != nil || got != clicks {
			t.Errorf("%s was clicked %d times (%v), want %d", button, got, err, clicks)
		}
	}
}

// TestReadmeQuotesTheProgram compares the program in the README of the
// repository with main.go, which has a page besides.
func TestReadmeQuotesTheProgram(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "<!-- the whole of examples/counter/main.go, without its page -->\n```go\n")
	quoted, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("README.md does not quote the program")
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(program), "package main\n")
	code = strings.Replace("package main\n"+code, "cli.Main(module(), page())", "cli.Main(module())", 1)
	if diff := cmp.Diff(code, quoted); diff != "" {
		t.Errorf("README.md quotes another program (-main.go +README.md):\n%s", diff)
	}
}
