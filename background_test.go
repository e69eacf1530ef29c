package halcyon_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

func TestBackgroundRunsBetweenStartAndClose(t *testing.T) {
	started, ended := make(chan string, 2), make(chan error, 1)
	m := halcyon.NewModule("work")
	m.Query("ping", func(*halcyon.Tx) (string, error) { return "pong", nil })
	m.OnStart(func(context.Context, *halcyon.App) error { started <- "hook"; return nil })
	m.Background(func(ctx context.Context, app *halcyon.App) error {
		started <- "background"
		<-ctx.Done()
		// The app still answers: Close waits for this before it closes the database.
		ended <- app.Run(context.Background(), "work:ping", nil, nil)
		return ctx.Err()
	})
	m.Background(func(context.Context, *halcyon.App) error { return errors.New("the folder is gone") })
	app, err := halcyon.NewApp(m)
	if err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), Seed: 1}, Logger: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatal(err)
	}
	if len(started) != 0 {
		t.Error("something runs before Start")
	}
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first, second := <-started, <-started; first != "hook" || second != "background" {
		t.Errorf("started %s, then %s", first, second)
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("a call while the app closes: %v", err)
		}
	default:
		t.Error("Close did not wait")
	}
	if text := log.String(); !strings.Contains(text, "the folder is gone") || strings.Contains(text, "canceled") {
		t.Errorf("got log %s", text)
	}
}
