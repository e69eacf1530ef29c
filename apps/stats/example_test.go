package stats_test

import (
	"context"
	"fmt"
	"log"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine"
)

// A program mounts the module beside its own. Functions are called by clients,
// or as here by the program itself.
func Example() {
	app, err := halcyon.NewApp(stats.Module(stats.Options{}))
	if err != nil {
		log.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem()}}); err != nil {
		log.Fatal(err)
	}
	defer app.Close()

	ctx := context.Background()
	for _, path := range []string{"/", "/about", "/about?ref=mail"} {
		view := map[string]string{"path": path, "pageType": "page", "sessionId": "a visitor"}
		if err := app.Run(ctx, "stats:recordPageView", view, nil); err != nil {
			log.Fatal(err)
		}
	}
	var found stats.Stats
	if err := app.Run(ctx, "stats:getStats", nil, &found); err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.TotalPageViews, "views of", found.TotalPaths, "paths by", found.UniqueVisitors, "visitor")
	// Output: 2 views of 2 paths by 1 visitor
}
