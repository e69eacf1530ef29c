// Command shortstay is Halcyon's program with another setting: a visitor who
// gives no sign of life has left after 5 seconds. A browser that opens one page
// gives one sign and the next after 25 seconds or more.
package main

import (
	"time"

	"github.com/halcyon-db/halcyon/apps/site"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/cli"
)

func main() {
	pages := site.New(site.Options{})
	cli.Main(pages.Module(), stats.Module(stats.Options{
		Titles: pages.Titles, Published: pages.Published,
		VisitorTimeout: 5 * time.Second, BeatWindow: time.Second,
	}))
}
