// Package replicate keeps collections of Yjs documents that many edit at once, also offline, so that nothing is lost and nothing is rolled
// back.
//
// A collection is a [Collection], made by [New] and mounted as the [halcyon.Module] it gives. It publishes the functions of npm
// @trestleinc/replicate, which works with them as it is:
//
//	material  query    {numItems?, cursor?} -> {page, isDone, continueCursor} or {documents, count}
//	delta     query    {seq?, limit?} -> {mode: "stream", changes, seq, more}
//	                   {document, vector} -> {mode: "recovery", diff, vector}
//	replicate mutation {document, bytes, type, material?} -> {success, seq}
//	presence  mutation {document, client, action, ...} -> null
//	session   query    {document?, connected?, exclude?} -> [{client, document, user?, profile?, cursor?, seen}]
//
// and, for clients that have more than one document to tell or to ask for:
//
//	replicateBatch mutation {writes: [{id, document, bytes}]} -> {results: [{id, status, code?, message?}]}
//	recoverBatch   query    {documents: [{document, vector?}], cursor?} -> {documents: [{document, bytes, vector, exists, access}], cursor?}
//	snapshot       query    {cursor?, limit?, material?} -> {documents: [{document, bytes, material?, exists, access?}], seq, cursor?}
//
// A client that has nothing yet asks for all pages of snapshot, and then for delta from the seq of the first one: 10,000 small documents are one or
// two pages, and come with their material, so that no document need be made of them to show them.
//
// # Storage
//
// All that reads and writes documents goes through methods of Collection that take a [halcyon.Tx]: the functions above, sockets, and an app's
// own mutations. [Collection.Load] returns a whole document, [Collection.Diff] what a peer lacks by its state vector, [Collection.Since] what
// came after a [Seq]. [Collection.Write] takes an update as the caller's: it checks that the bytes decode, their size, that nothing they
// build on is missing, and what [Options.Access] says of the document as it is and as it would be; then it appends what is new in them, and
// keeps the fields of the document, its material, which are computed from the CRDT and never taken from a client. [Collection.Edit] changes
// a document with no regard to access. [Collection.List] lists documents. Several updates of one document in one transaction cost little
// more than one, so who has many should bring them together.
//
// A write is idempotent without a key: an update that brings nothing new changes nothing, and its [Result] is Known. A refused or gapped one
// changes nothing of the document either and is set aside, with its reason; a gapped one is applied as soon as what it builds on is there.
//
// The order of what was appended is that of the commits, by their timestamp, which is the Seq. There is no counter, so that writers of
// two documents never meet. [Collection.Stream] pages through it and never ends a page inside of one timestamp.
//
// # Encoding
//
// Updates are stored in Yjs' format V2. The clients of the functions speak it, so that what they send and are sent is not converted; merged
// documents are half as large as in V1, and load faster. State vectors are the same in both.
package replicate
