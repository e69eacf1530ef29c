package replicate

import "github.com/halcyon-db/halcyon"

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
