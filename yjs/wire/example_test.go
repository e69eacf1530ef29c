package wire_test

import (
	"fmt"
	"log"

	"github.com/halcyon-db/halcyon/yjs"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// A y-websocket server answers a client. The frames would go over a WebSocket.
func ExampleSession() {
	stored := yjs.NewDoc(&yjs.Options{ClientID: 1})
	client := yjs.NewDoc(&yjs.Options{ClientID: 2})
	if err := client.Text("t").Insert(0, "hello", nil); err != nil {
		log.Fatal(err)
	}
	server := &wire.Session{Replica: wire.Document{Doc: stored}}
	greeting, err := server.Open(nil)
	if err != nil {
		log.Fatal(err)
	}

	// The client answers the server's request with what the server lacks.
	peer := &wire.Session{Replica: wire.Document{Doc: client}}
	answer, err := peer.Receive(greeting[0])
	if err != nil {
		log.Fatal(err)
	}
	reply, err := server.Receive(answer.Send[0])
	if err != nil {
		log.Fatal(err)
	}
	if err := stored.Apply(reply.Update, "client"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(stored.Text("t"), server.Synced)
	// Output: hello true
}
