package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/server"
)

// An app with one function, served until its context ends.
func Example() {
	greetings := halcyon.NewModule("greetings")
	greetings.Query("hello", func(tx *halcyon.Tx, args struct {
		Name string `json:"name"`
	}) (string, error) {
		return "Hello, " + args.Name + "!", nil
	})
	app, err := halcyon.NewApp(greetings)
	if err == nil {
		err = app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem()}})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer app.Close()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error)
	go func() { served <- server.New(app, nil).Serve(ctx, listener) }()

	resp, err := http.Post("http://"+listener.Addr().String()+"/api/query", "application/json",
		strings.NewReader(`{"path":"greetings:hello","args":{"name":"world"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)

	stop()
	fmt.Println(<-served)
	// Output:
	// {"status":"success","value":"Hello, world!"} <nil>
	// <nil>
}
