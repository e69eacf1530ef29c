package server

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/server/token"
)

// Options are the settings and the limits of a Server. The zero value of each
// field stands for its default, and a nil *Options for all of them.
type Options struct {
	// Logger receives what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Clock is the source of time for pings, ticks and timeouts of connections.
	// Deadlines of reads and writes are the network's and follow real time.
	// Default: the system's clock at start, carried on by its monotonic part: a
	// step of the wall clock silences nobody.
	Clock engine.Clock
	// InstanceName and Version are what /instance_name and /version answer.
	// Default: "halcyon" and "unknown".
	InstanceName string
	Version      string

	// Verifier verifies the tokens of users; the server has it keep its keys fresh. Default: one without providers, which refuses all tokens.
	Verifier *token.Verifier

	// ConnectionsMax is the number of WebSocket connections; one more is
	// answered with status 503. Default 20,000. Serve lowers it where the process
	// may not have so many descriptors open.
	ConnectionsMax int
	// HTTPConnectionsMax is the number of network connections of Serve that are no
	// WebSockets, those of handshakes included. A request, or the rest of it, may be
	// awaited of half of them: when one more comes, the one is closed whose
	// request has been awaited for longest. Default 4,096, lowered like
	// ConnectionsMax.
	HTTPConnectionsMax int
	// LiveQueryBytesMax bounds what the live queries of all connections take, each
	// counted as 1 KiB and four times the text of its name, arguments and journal;
	// one more fails alone. LiveQueryBytesPerConnectionMax does so for each
	// connection. Results are the database's to bound, see
	// engine.Options.LiveResultBytesMax. Defaults 1 GiB and 64 MiB.
	LiveQueryBytesMax              int64
	LiveQueryBytesPerConnectionMax int64
	// QueriesPerConnectionMax is the number of live queries of a connection;
	// one more fails alone. Default 4,096.
	QueriesPerConnectionMax int
	// MutationsQueuedMax is the number of mutations a connection may have
	// waiting; one more closes it, and its client comes back. Default 1,000.
	MutationsQueuedMax int
	// MutationsQueuedBytesMax bounds the text of the waiting mutations of a
	// connection, with the same consequence. Default 32 MiB.
	MutationsQueuedBytesMax int

	// ActionsPerConnectionMax is the number of actions a connection may have
	// running; one more closes it, and its client comes back. Default 1,000.
	ActionsPerConnectionMax int

	// MessageBytesMax is the size of the largest message of a client; a larger
	// one closes its connection before it is read. Default 17 MiB: arguments
	// may have 16.
	MessageBytesMax int
	// FirstMessageBytesMax is the same for connections that did not send
	// Connect yet. Default 64 KiB.
	FirstMessageBytesMax int
	// InboundBytesMax bounds the bytes of all messages and HTTP requests of all
	// clients that are being read or wait to be executed. The first 64 KiB of
	// a message being read, and of a request, are free. Past it a connection
	// is closed, its client comes back, and a request gets status 503.
	// Default 256 MiB.
	InboundBytesMax int64
	// OutboundBytesMax bounds the bytes that WebSocket clients have been sent and
	// have yet to take, as far as the operating system does not hold them. The
	// first 64 KiB of each connection are free. Past it a connection is dropped,
	// and its client comes back. Default 256 MiB.
	OutboundBytesMax int64
	// RequestBytesMax is the size of the largest body of an API request; a
	// larger one gets status 413. Default 17 MiB.
	RequestBytesMax int
	// HeaderBytesMax is the size of the header of a request. Default 64 KiB.
	HeaderBytesMax int

	// HeaderTimeout is how long the header of a request may take, and
	// BodyTimeout how long its body and how long a WebSocket message over
	// 64 KiB. IdleTimeout is how long an HTTP connection is kept without a
	// request. Defaults 10 s, 60 s, 120 s.
	HeaderTimeout, BodyTimeout, IdleTimeout time.Duration
	// WriteTimeout is how long a client may take for the next 64 KiB of what
	// it is sent before its connection is dropped. Default 10 s.
	WriteTimeout time.Duration
	// PingAfter is how long a connection may go without a message to its client
	// before it is sent a Ping. The npm client gives up after 60 s, others
	// after 30 s. Default 15 s.
	PingAfter time.Duration
	// ProbeAfter is how long a client may be silent before it gets a WebSocket
	// ping, which it must answer. Default 30 s.
	ProbeAfter time.Duration
	// SilenceMax is how long a client may be silent before its connection is
	// dropped. Default 120 s.
	SilenceMax time.Duration
	// CloseTimeout is how long a closed connection waits for the client's own
	// close. Default 2 s.
	CloseTimeout time.Duration
	// ShutdownTimeout bounds the graceful end of Serve. Default 10 s.
	ShutdownTimeout time.Duration
	// Tick is the least time between two Transitions of one connection.
	// Default 10 ms.
	Tick time.Duration

	// Workers is the number of goroutines that compose and send messages.
	// Default: one per processor.
	Workers int
	// Compression lets clients negotiate permessage-deflate, without context
	// takeover. It saves bandwidth for processor time and memory: one message a
	// worker is inflated at once, and each keeps up to twice MessageBytesMax.
	// Messages are held to their limits, and counted, as they are inflated. Default off.
	Compression bool
}

// withDefaults returns the options with every default filled in. It panics on
// negative limits, which are mistakes in the program.
func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Clock == nil {
		d.Clock = newSystemClock()
	}
	if d.Verifier == nil {
		d.Verifier, _ = token.New(nil, nil) // nothing is wrong with no providers
	}
	if d.InstanceName == "" {
		d.InstanceName = "halcyon"
	}
	if d.Version == "" {
		d.Version = "unknown"
	}
	fill("ConnectionsMax", &d.ConnectionsMax, 20_000)
	fill("HTTPConnectionsMax", &d.HTTPConnectionsMax, 4_096)
	fill("LiveQueryBytesMax", &d.LiveQueryBytesMax, 1<<30)
	fill("LiveQueryBytesPerConnectionMax", &d.LiveQueryBytesPerConnectionMax, 64<<20)
	fill("OutboundBytesMax", &d.OutboundBytesMax, 256<<20)
	fill("QueriesPerConnectionMax", &d.QueriesPerConnectionMax, 4_096)
	fill("MutationsQueuedMax", &d.MutationsQueuedMax, 1_000)
	fill("MutationsQueuedBytesMax", &d.MutationsQueuedBytesMax, 32<<20)
	fill("ActionsPerConnectionMax", &d.ActionsPerConnectionMax, 1_000)
	fill("MessageBytesMax", &d.MessageBytesMax, 17<<20)
	fill("FirstMessageBytesMax", &d.FirstMessageBytesMax, 64<<10)
	fill("InboundBytesMax", &d.InboundBytesMax, 256<<20)
	fill("RequestBytesMax", &d.RequestBytesMax, 17<<20)
	fill("HeaderBytesMax", &d.HeaderBytesMax, 64<<10)
	fill("HeaderTimeout", &d.HeaderTimeout, 10*time.Second)
	fill("BodyTimeout", &d.BodyTimeout, 60*time.Second)
	fill("IdleTimeout", &d.IdleTimeout, 120*time.Second)
	fill("WriteTimeout", &d.WriteTimeout, 10*time.Second)
	fill("PingAfter", &d.PingAfter, 15*time.Second)
	fill("ProbeAfter", &d.ProbeAfter, 30*time.Second)
	fill("SilenceMax", &d.SilenceMax, 120*time.Second)
	fill("CloseTimeout", &d.CloseTimeout, 2*time.Second)
	fill("ShutdownTimeout", &d.ShutdownTimeout, 10*time.Second)
	fill("Tick", &d.Tick, 10*time.Millisecond)
	fill("Workers", &d.Workers, runtime.GOMAXPROCS(0))
	return d
}

func fill[T int | int64 | time.Duration](name string, field *T, otherwise T) {
	switch {
	case *field == 0:
		*field = otherwise
	case *field < 0:
		panic(fmt.Sprintf("server: Options.%s is %v", name, *field))
	}
}

// systemClock is the clock of the operating system at start, carried on by its
// monotonic part. By the wall clock alone a step of an hour forward would have
// everybody dropped for an hour of silence, and one back would have nobody pinged
// for an hour.
type systemClock struct {
	start time.Time
	wall  func() time.Time
}

func newSystemClock() systemClock { return systemClock{time.Now(), time.Now} }

var _ engine.Clock = systemClock{}

func (c systemClock) Now() time.Time { return c.start.Add(time.Since(c.start)) }

// behind returns how much later it is by the wall clock.
func (c systemClock) behind() time.Duration { return c.wall().Round(0).Sub(c.Now().Round(0)) }

func (systemClock) AfterFunc(d time.Duration, f func()) (stop func()) {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}
