package replicate

import (
	"time"

	"github.com/halcyon-db/halcyon"
)

// head is what is known of a document without its content: one row, which each write of the document reads and changes.
type head struct {
	ID       halcyon.ID[head] `halcyon:"id"`
	Created  time.Time        `halcyon:"creationTime"`
	Document string           `json:"document"`
	// Version names the content: it is a hash of the one before and of what was appended. Equal versions are equal content.
	Version []byte `json:"version"`
	Vector  []byte `json:"vector"` // encoded state vector
	Deleted bool   `json:"deleted"`
	Fields  string `json:"fields"` // the material in JSON
	// Since and SinceBytes count what was appended since the last compaction was scheduled.
	Since      int `json:"since"`
	SinceBytes int `json:"sinceBytes"`
	// Bytes is the size of all that is stored of the document.
	Bytes int `json:"bytes"`
	// Aside is how many gapped updates wait for what they build on.
	Aside int `json:"aside"`
	// Opened is the time of the commit in which who may see the document last changed.
	Opened *time.Time `json:"opened,omitzero"`
	// Updated is the time of the transaction that last wrote it. The place of that in the stream is known by the document's last delta: to have it
	// here too would be one more change of this row, at the commit.
	Updated time.Time `json:"updated"`
}

// delta is an update that was appended to a document, or a part of one that is too large for a row.
type delta struct {
	ID       halcyon.ID[delta] `halcyon:"id"`
	Document string            `json:"document"`
	At       *time.Time        `json:"at,omitzero"` // the time of the commit; left out before, so that nothing has to make way for it
	Part     int               `json:"part,omitzero"`
	Parts    int               `json:"parts,omitzero"` // 0 for an update that is whole
	Gone     bool              `json:"gone,omitzero"`  // the document is marked as deleted after it
	Bytes    []byte            `json:"bytes"`          // V2
}

// aside is an update that was not applied.
type aside struct {
	ID       halcyon.ID[aside] `halcyon:"id"`
	Document string            `json:"document"`
	Hash     []byte            `json:"hash"`
	Code     string            `json:"code"`
	Message  string            `json:"message"`
	Client   string            `json:"client,omitzero"` // token identifier of who sent it
	Time     time.Time         `json:"time"`
	Bytes    []byte            `json:"bytes"` // as it came, in V2
}

// presence is one client at one document.
type presence struct {
	ID       halcyon.ID[presence] `halcyon:"id"`
	Document string               `json:"document"`
	Client   string               `json:"client"`
	User     string               `json:"user,omitzero"`
	Profile  *Profile             `json:"profile"`
	Cursor   *Cursor              `json:"cursor"`
	Seen     time.Time            `json:"seen"`
	Until    time.Time            `json:"until"` // when it counts as gone
}

// tables are a collection's own: two collections share none.
type tables struct {
	heads     *halcyon.Table[head]
	deltas    *halcyon.Table[delta]
	asides    *halcyon.Table[aside]
	presences *halcyon.Table[presence]
}

func newTables() tables {
	return tables{
		heads:     halcyon.NewTable[head]("documents").Unique("by_document", "document").Index("by_updated", "updated"),
		deltas:    halcyon.NewTable[delta]("deltas").Index("by_document", "document", "at").Index("by_at", "at"),
		asides:    halcyon.NewTable[aside]("aside").Unique("by_document", "document", "hash").Index("by_time", "time"),
		presences: halcyon.NewTable[presence]("presence").Unique("by_document", "document", "client").Index("by_until", "until"),
	}
}
