package replicate

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// Level is what a caller may do with a document.
type Level uint8

// The levels; each allows what the ones before it do.
const (
	None Level = iota
	Read
	Write
)

// String returns "none", "read" or "write".
func (l Level) String() string {
	switch l {
	case Read:
		return "read"
	case Write:
		return "write"
	}
	return "none"
}

// Options are the settings of a collection. Only Name is required.
type Options struct {
	// Name is the name of the collection and of its module.
	Name string

	// Fields are the fields of a document's material. Others that a document may have are not shown in it. Without any, all are shown as they
	// are.
	Fields []Field

	// Access says what the caller, who is tx.Identity, may do with a document. To write, they need Write for the document as it is, if it
	// exists, and as the update would make it. It must not write. The default is Write for everybody.
	//
	// An *halcyon.Error denies access too, and who wanted to write is told of it. Any other error fails the call.
	Access func(tx *halcyon.Tx, d Document) (Level, error)

	// AccessFields are the fields of the material that Access looks at. When one of them changes, clients that could not see the document
	// before are sent all of it. For what else Access looks at, see Collection.Reopen.
	AccessFields []string

	// OnLoad is called before a document is sent in full or in part to a client that asks for it by its name. An error refuses that.
	OnLoad func(tx *halcyon.Tx, d Document) error

	// OnChange is called in the transaction of a write that changed a document, after it. An error undoes the write and refuses it. It may
	// write, also with Collection.Edit to other documents.
	OnChange func(tx *halcyon.Tx, change Change) error

	// CompactAfter is how many updates are appended to a document before they are merged into one, in the background. The default is 500, the
	// most 5,000. An MiB of updates has the same effect.
	CompactAfter int

	// UpdateBytesMax is the largest update, DocumentBytesMax the largest document, in bytes. The defaults are 4 MiB and 8 MiB, which are also
	// the most.
	UpdateBytesMax, DocumentBytesMax int

	// CacheBytes bounds, by an estimate, the memory for documents that were written lately and are likely to be again. The default is 8 MiB.
	CacheBytes int

	// Sockets are the WebSockets for providers of Yjs.
	Sockets Sockets
}

// The limits of a collection that are no settings.
const (
	// DocumentIDBytesMax is the longest name of a document.
	DocumentIDBytesMax = 256
	// BatchMax is how many writes one call of replicateBatch has, and BatchBytesMax how large they are together.
	BatchMax      = 500
	BatchBytesMax = 8 << 20
	// RecoverMax is how many documents one call of recoverBatch names.
	RecoverMax = 8_192
	// UpdateStructsMax and DocumentStructsMax are of how many structs of Yjs, the pieces of what was inserted and deleted, an update and a document
	// may consist. A struct takes about 100 bytes of memory, and in an update of format V2 a sixteenth of a byte.
	UpdateStructsMax   = 1 << 18
	DocumentStructsMax = 1 << 19
	// SubdocsMax is how many documents within it an update and a document may hold, those that were removed from it included. One takes about a
	// kilobyte of memory: its name, its options and an empty document.
	SubdocsMax = 20_000

	materialBytesMax = 512 << 10 // JSON of a document's material
	partBytesMax     = 512 << 10 // of an update in one row
	pageBytesMax     = 4 << 20   // after which a page of the stream or of a recovery ends
	pageDocumentsMax = 10_000    // the same by documents
	asideMax         = 100       // updates that are set aside for a document
	asideBytesMax    = 512 << 10 // the largest one that is kept
	compactBytes     = 1 << 20   // of updates, that are compacted however few they are
	structsMax       = 1 << 24   // of what is stored of a document: more than DocumentStructsMax, which is checked when it is written
	pageRuledMax     = 1_000     // documents on a page for each of which something is looked up; a function may read 4,096 places
	rangesSpared     = 2_048     // of those, at which a page of the stream ends: a batch of writes is on one page, whatever a rule reads for each
	pageRowsMax      = 12_000    // after which a page ends; a function may read 32,000
)

// Change is what a write did to a document.
type Change struct {
	Before, After Document
	// Update is what is new, in V2.
	Update []byte
}

// Collection is a collection of documents. Its methods may be called in transactions of its own module and of others in the same App.
type Collection struct {
	options Options
	stored  yjs.Codec // of what has been checked
	editor  uint64    // the client id of edits by this process
	loaded  docCache
	known   headIDs
	rooms   rooms
	tables
}

// New returns a collection. It panics when Options are out of their limits, which no input can cause.
func New(o Options) *Collection {
	setDefault(&o.CompactAfter, 500, 5_000)
	setDefault(&o.UpdateBytesMax, 4<<20, 4<<20)
	setDefault(&o.DocumentBytesMax, 8<<20, 8<<20)
	setDefault(&o.CacheBytes, 8<<20, 1<<40)
	c := &Collection{options: o, tables: newTables()}
	c.stored = yjs.Codec{Version: yjs.V2, Limits: yjs.Limits{Structs: structsMax}}
	// An id of its own for each run of the program: after the data was restored from a copy, ids that came later must not come again.
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails on supported systems
	c.editor = uint64(binary.LittleEndian.Uint32(random[:]))
	c.loaded.bytesMax = o.CacheBytes
	return c
}

func setDefault(field *int, otherwise, most int) {
	if *field == 0 {
		*field = otherwise
	}
	if *field < 0 || *field > most {
		panic(fmt.Sprintf("replicate: an option is %d, at most %d", *field, most))
	}
}

// Name returns the name of the collection.
func (c *Collection) Name() string { return c.options.Name }

// Module returns the module that mounts the collection.
func (c *Collection) Module() *halcyon.Module {
	m := halcyon.NewModule(c.options.Name, c.heads, c.deltas, c.asides, c.presences)
	m.Query("material", c.material)
	m.Query("delta", c.delta)
	m.Mutation("replicate", c.replicate)
	m.Mutation("replicateBatch", c.replicateBatch)
	m.Query("recoverBatch", c.recoverBatch)
	m.Query("snapshot", c.snapshot)
	m.Mutation("presence", c.tell)
	m.Query("session", c.sessions)
	m.Background(c.loaded.age)
	m.Internal.Mutation("compact", c.compact)
	m.Internal.Mutation("sweep", c.sweep)
	m.Internal.Query("docsList", c.docsList)
	m.Internal.Query("docsLoad", c.docsLoad)
	m.Internal.Mutation("docsWrite", c.docsWrite)
	m.Internal.Mutation("docsDelete", c.docsDelete)
	m.Internal.Mutation("docsRemove", c.docsRemove)
	m.Internal.Action("docsErase", c.docsErase)
	m.Cron("sweep", halcyon.Every(time.Minute), "sweep")
	c.serveRooms(m)
	return m
}

// Seq is a place in the order of all that was appended to a collection: the timestamp of a commit in microseconds. It is exact as a
// JavaScript number.
type Seq uint64

func (s Seq) time() time.Time { return time.UnixMicro(int64(s)).UTC() }

// seqOf returns the place of a time of commit; 0 for one that is not known because it is to come.
func seqOf(at *time.Time) Seq {
	if at == nil {
		return 0
	}
	return Seq(at.UnixMicro())
}
