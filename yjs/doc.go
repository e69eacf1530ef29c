// Package yjs reads, writes, merges and edits Yjs documents without JavaScript.
//
// Yjs documents are edited by many people at once, also offline, and come
// together the same for everybody. This package speaks their formats to the
// byte: what npm yjs 13 sends for an edit, this package sends for the same
// edit. It needs nothing but the standard library.
//
// # Two layers
//
// Much of what a server does needs no document. An update is a set of changes;
// updates can be merged, cut down to what a peer lacks, and described, as
// bytes:
//
//	merged, err := yjs.MergeUpdates(stored, incoming)
//	missing, err := yjs.DiffUpdate(merged, peerState)
//	meta, err := yjs.ParseUpdateMeta(incoming)
//
// [Codec] has the same with limits and for both encodings. These functions
// integrate nothing, so they drop nothing: an update that depends on one that
// has not arrived keeps its place, with a gap before it. Merging also joins what
// was typed one character at a time, which makes a history many times smaller
// and forgets nothing of it.
//
// A [Doc] is for looking inside and for editing. It holds roots by name, which
// are made by asking for them: [Doc.Text], [Doc.Array], [Doc.Map] and
// [Doc.XMLFragment]. The New functions make types to be stored in others.
//
//	d := yjs.NewDoc(nil)
//	err := d.Apply(update, nil)
//	err = d.Text("notes").Insert(0, "hello ", nil)
//	state := d.EncodeState(peerState)
//
// Every change happens in a transaction, one of its own or one that
// [Doc.Transact] spans over several. At the end of a transaction observers are
// told ([Type], [Event]) and its update is handed to [Doc.OnUpdate] to be sent
// to peers.
//
// # Keeping history
//
// Deleted content stays in a document unless [Options.GC] is set. Without it
// [Doc.Restore] brings back any [Snapshot], and [UndoManager] undoes one
// person's changes. A document that collects its garbage forgets, so its state
// must not replace a stored history; merging the two loses nothing, because
// where updates disagree merging keeps the one that knows more.
//
// # Untrusted input
//
// Everything that reads bytes checks all of them: lengths, numbers, UTF-8,
// JSON, order and depth. What it refuses, it refuses with an error that wraps
// [ErrMalformed] or [ErrLimit], before anything has changed. No allocation is
// sized by a number from the input, and what runs can claim without having the
// bytes for it is bounded by [Limits]. A server should call [Codec.Validate] on
// an update before it stores it: one that other peers can't read makes the
// whole document unreadable for them.
//
// A peer that may write can still delete or spoil everything; Yjs has no
// defence against that. Give access by document and connection.
//
// # Is a peer caught up?
//
// Compare state vectors and delete sets ([StateVector.Covers],
// [DeleteSet.Covers], [Snapshot.Contains]), never sizes: a state vector alone
// says nothing about deletions, and two encodings of the same changes differ in
// length.
//
// # Indexes
//
// Text is measured in UTF-16 code units, as in JavaScript. [UTF16Index],
// [ByteIndex] and [RuneIndex] convert. An edit in the middle of a surrogate
// pair turns each half into U+FFFD, also as in JavaScript.
//
// # Goroutines
//
// A Doc and everything in it is for one goroutine at a time; the functions on
// updates are for any number. Callbacks run on the goroutine that made the
// change.
//
// # Differences from npm yjs
//
//   - Changes that wait for others are tried again until nothing moves. npm yjs
//     may keep some for ever although all they need is there.
//   - Merging joins neighbours, see [Codec.KeepSplit], and keeps the richer of
//     two contents for the same clocks, where npm yjs keeps one or the other, see
//     [Codec.FirstWins]. A single update is checked and written anew, not
//     returned as it is.
//   - A gap in front of a client's first struct is never written. Npm yjs copies
//     one when it converts, and keeps for ever pending what follows it.
//   - An update with two blocks of one client, an empty struct, an unknown
//     shared type or bytes after its end is refused, and so is a format or an
//     embed that is undefined or holds a BigInt: npm yjs reads it from V2, and can
//     never write it as V1.
//   - Receiving a change for the second time changes nothing. Npm yjs still cuts
//     what is at its origins, and so may turn a surrogate pair in text that is
//     deleted into two U+FFFD.
//   - Formatting marks that changes from peers made redundant are only removed
//     with [Options.CleanFormats]; asking an event for its delta never changes
//     the document.
//   - A document embedded in a text is stored as one; npm yjs stores an empty
//     object.
//   - A root may be read as another kind than the one it was first asked for.
//   - Subdocuments that were deleted are reported once.
//   - Clocks end at 2^40.
//
// The subpackages awareness and wire have the rest of what a server speaks:
// who is there, and the protocols of y-websocket and Hocuspocus.
package yjs
