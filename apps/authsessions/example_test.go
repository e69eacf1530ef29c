package authsessions_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/authsessions"
	"github.com/halcyon-db/halcyon/engine"
)

// A row is made when a user signs in, and touched on every request after that.
func Example() {
	app, err := halcyon.NewApp(authsessions.Module(authsessions.Options{}))
	if err != nil {
		log.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem()}}); err != nil {
		log.Fatal(err)
	}
	defer app.Close()

	ctx := context.Background()
	seen := map[string]any{"sessionId": "s-1", "lastSeenAt": time.Now(), "userAgent": "Browser/1"}
	if err := app.Run(ctx, "authSessions:create", seen, nil); err != nil {
		log.Fatal(err)
	}
	var touched authsessions.TouchResult
	if err := app.Run(ctx, "authSessions:touchSession", seen, &touched); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", touched)
	// Output: {Success:true Skipped:true}
}
