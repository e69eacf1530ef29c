package halcyon_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// A route that writes what it is sent into a table.
func ExampleModule_HTTP() {
	m := halcyon.NewModule("todo", Tasks)
	m.Internal.Mutation("add", add)
	m.HTTP("POST", "/tasks", func(c *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		if err := c.RunMutation("add", AddArgs{Text: string(text)}, nil); err != nil {
			return err
		}
		w.WriteHeader(http.StatusCreated)
		return nil
	}).BodyMax(1 << 10)

	app, err := halcyon.NewApp(m)
	if err == nil {
		err = app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem()}})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer app.Close()
	server := httptest.NewServer(app.HTTPHandler()) // package server has it among all else
	defer server.Close()
	for _, text := range []string{"water the plants", ""} {
		resp, err := http.Post(server.URL+"/http/tasks", "text/plain", strings.NewReader(text))
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, string(body), err, resp.Body.Close())
	}
	// Output:
	// 201  <nil> <nil>
	// 400 {"code":"Empty","message":"A task needs a text."} <nil> <nil>
}
