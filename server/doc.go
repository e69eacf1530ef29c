// Package server serves an app to Convex clients: the sync protocol over
// WebSocket, the HTTP API, and the app's own HTTP routes.
//
// [New] makes a [Server] for an open [halcyon.App], and [Server.Serve] runs it
// until its context ends. [Options] holds every limit of what clients may do to
// it, each with its default.
//
// # A connection
//
// Three parties work on a connection. Its reading goroutine handles the client's
// messages (handle.go). A mutation runner, which exists only while mutations
// wait, executes them one at a time in the order they came (mutations.go). And
// one of a few workers sends: whenever the connection has something to send it
// stands in a queue, and the worker that takes it sends what waits and then at
// most one Transition (fanout.go, send.go). So an idle connection has one
// goroutine, which waits for the network.
//
// Nothing that a client does or fails to do holds up others. Its reads pass a
// gate that refuses messages by their headers, before memory is allocated for
// them (gate.go). Writes never wait: what a slow client does not take is kept by
// a goroutine of its own until a deadline drops it, and meanwhile nothing new is
// composed for it, so that it gets the newest results when it is back
// (socket.go).
//
// # What a screen is promised
//
// All results in a Transition are of one durable snapshot, timestamps never go
// back, a mutation's response comes before its effect, and a Transition at or
// after the mutation follows every response. send.go says why this holds.
//
// # Exactly once
//
// A client that comes back sends again what was not answered. The app knows a
// mutation by its session and number and answers a repeated one from memory.
// When a session connects again its older connection is closed, what that had
// waiting is dropped, and what it was running ends before the new one begins
// (server.go, claimSession).
//
// # When something is wrong
//
// A mistake in one call fails that call. A connection that asks for too much is
// closed with a reason that makes its client come back. FatalError, after which
// the npm client never comes back, is only for messages that no client of the
// protocol sends.
package server
