package main

import (
	"sync"
	"testing"

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
