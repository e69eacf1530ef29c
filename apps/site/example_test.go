package site_test

import (
	"fmt"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/site"
)

func ExampleNew() {
	s := site.New(site.Options{Dir: "content"})
	app, err := halcyon.NewApp(s.Modules()...)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, route := range app.Routes() {
		fmt.Println(route.Pattern)
	}
	// Output: /
}
