// Package protocol holds the wire messages of the Convex sync protocol and of
// its HTTP API, and their JSON.
//
// It is a leaf: it knows neither values, nor functions, nor sockets. Arguments
// and results stay raw JSON here; package value gives them meaning.
//
// # Messages
//
// A client speaks first with [Connect], keeps its set of live queries with
// [ModifyQuerySet], calls functions with [Mutation] and [Action], and names its
// user with [Authenticate]. The server answers with [Transition] (new results
// of live queries, all of one snapshot; a very large one in several
// [TransitionChunk]), [MutationResponse], [ActionResponse], [AuthError],
// [FatalError] and [Ping]. [DecodeClient] and [DecodeServer] read them, the
// Append methods write them.
//
// # Versions
//
// Both sides start each connection at the zero [Version]. Every Transition
// leads from exactly the version where the last one ended to one that is at
// least as new in each of its three parts. A client that sees a gap freezes
// without a word, so a server must assert this rule and not hope for it.
//
// # Cost
//
// Decoding works on one pass over the text, without reflection, and refers to
// the input where it can: json.RawMessage fields of a decoded message are parts
// of the slice it was decoded from and live as long as that slice is left
// alone. Encoding appends to the caller's slice. For fan-out a Transition can be
// put together from shared parts: see [AppendTransitionStart],
// [AppendModificationStart] and [AppendTransitionEnd].
package protocol
