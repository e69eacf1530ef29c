package replicate

import (
	"context"
	"sync"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate/internal/room"
)

// Rows counts the rows in which a document lies.
func (c *Collection) Rows(tx *halcyon.Tx, document string) (int, error) {
	rows, err := c.deltas.By("by_document").Eq(document).Collect(tx)
	return len(rows), err
}

// Asides returns the codes of the updates that were set aside for a document.
func (c *Collection) Asides(tx *halcyon.Tx, document string) ([]string, error) {
	rows, err := c.asides.By("by_document").Eq(document).Collect(tx)
	var codes []string
	for _, row := range rows {
		codes = append(codes, row.Code)
	}
	return codes, err
}

// WriteEdits writes updates in V1 of one document as sockets do, and returns the codes of what was refused, by place.
func (c *Collection) WriteEdits(ctx context.Context, app *halcyon.App, document string, updates [][]byte) (codes []string, durable int, err error) {
	edits := make([]room.Edit, len(updates))
	for i, u := range updates {
		edits[i].Update = u
	}
	var mu sync.Mutex
	store := &roomStore{c: c, app: app}
	results, err := store.Write(ctx, document, edits, func(_ room.Position, places ...int) {
		mu.Lock()
		defer mu.Unlock()
		durable += len(places)
	})
	for _, r := range results {
		codes = append(codes, r.Code)
	}
	mu.Lock()
	defer mu.Unlock()
	return codes, durable, err
}
