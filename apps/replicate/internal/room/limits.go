package room

import (
	"time"

	"github.com/halcyon-db/halcyon/yjs/wire"
)

// Options are the limits and times of a Hub. Zero fields have the defaults.
type Options struct {
	// UpdateBytesMax is the size of one update of a client. The default is 8 MiB.
	UpdateBytesMax int
	// StateBytesMax is the size of one awareness state as JSON. The default is 16 KiB.
	StateBytesMax int
	// StatesMax is how many awareness states a document has. One more is passed over. The default is 1,000.
	StatesMax int
	// SpeakerMax is for how many awareness clients one client of a document speaks. The default is 16.
	SpeakerMax int
	// DocumentsMax is how many documents are open on one Hocuspocus connection. The default is 2,000.
	DocumentsMax int
	// NameBytesMax is the length of a document's name. The default is 512.
	NameBytesMax int
	// UnwrittenMax is how many updates of one client may wait to become durable, and UnwrittenBytesMax their size. Past either the
	// connection is not read. The defaults are 1,000 and 8 MiB.
	UnwrittenMax      int
	UnwrittenBytesMax int
	// WritesMax is how many documents are written at a time. The default is 64.
	WritesMax int
	// Tick is the shortest time between two messages with changes to one client; it is stretched to what the last ones took. The
	// default is 10 ms.
	Tick time.Duration
	// Recheck is how often it is asked again what a client may do with a document. The default is a minute.
	Recheck time.Duration
}

// The times and sizes that are not options.
const (
	// silentMax is the longest time without a message to a client: y-websocket and Hocuspocus give up a connection after 30 s.
	silentMax = 15 * time.Second
	// sweepEvery is how often it is looked for what time has changed.
	sweepEvery = 5 * time.Second
	// batchMax and batchBytesMax bound one write. A single update may be larger.
	batchMax      = 4096
	batchBytesMax = 4 << 20
)

func (o Options) withDefaults() Options {
	setDefault(&o.UpdateBytesMax, 8<<20)
	setDefault(&o.StateBytesMax, 16<<10)
	setDefault(&o.StatesMax, 1_000)
	setDefault(&o.SpeakerMax, 16)
	setDefault(&o.DocumentsMax, 2_000)
	setDefault(&o.NameBytesMax, 512)
	setDefault(&o.UnwrittenMax, 1_000)
	setDefault(&o.UnwrittenBytesMax, 8<<20)
	setDefault(&o.WritesMax, 64)
	setDefault(&o.Tick, 10*time.Millisecond)
	setDefault(&o.Recheck, time.Minute)
	return o
}

func setDefault[T int | time.Duration](field *T, otherwise T) {
	if *field == 0 {
		*field = otherwise
	}
}

// The codes that connections are closed with, besides those of [halcyon.Socket]. Clients of y-websocket stay away after one between 4400 and
// 4499, and come back after any other.
const (
	CloseMalformed    = 4400
	CloseUnauthorized = int(wire.CloseUnauthorized) // 4401
	CloseForbidden    = int(wire.CloseForbidden)    // 4403
	CloseGone         = 4410                        // the document was erased, and is not wanted back
	CloseTooLarge     = 4413
	CloseReset        = int(wire.CloseReset) // 4205: to be opened anew
)

// CodeForbidden is the code of a [Result] that is refused because the caller may not write the document.
const CodeForbidden = "AccessDenied"

// The reasons that connections and documents are closed with, and access is denied.
const (
	ReasonMalformed         = "Malformed"
	ReasonUnexpected        = "Unexpected"
	ReasonText              = "TextMessage"
	ReasonForbidden         = "Forbidden"
	ReasonGone              = "Erased"
	ReasonAccess            = "AccessChanged"
	ReasonToken             = "TokenExpired"
	ReasonReadOnly          = "ReadOnly"
	ReasonUpdateTooLarge    = "UpdateTooLarge"
	ReasonAwarenessTooLarge = "AwarenessTooLarge"
	ReasonTooManyDocuments  = "TooManyDocuments"
	ReasonTooMuch           = "TooMuchBeforeAuthentication"
	ReasonName              = "DocumentName"
	ReasonWrite             = "WriteFailed"
)
