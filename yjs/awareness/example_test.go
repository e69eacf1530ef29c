package awareness_test

import (
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/halcyon-db/halcyon/yjs/awareness"
)

func Example() {
	now := time.Now()
	server := awareness.NewServer(nil)
	ada := awareness.New(1, nil)
	if _, _, err := ada.SetLocal(json.RawMessage(`{}`), now); err != nil {
		log.Fatal(err)
	}
	update, _, err := ada.SetLocal(json.RawMessage(`{"name":"Ada"}`), now)
	if err != nil {
		log.Fatal(err)
	}
	change, err := server.Apply(update, now)
	fmt.Println("added", change.Added, err)

	// Ada's connection ends. What the server sends to the others says so.
	change = server.Remove(now, 1)
	fmt.Println("removed", change.Removed, server.Clients())
	// Output:
	// added [1] <nil>
	// removed [1] []
}
