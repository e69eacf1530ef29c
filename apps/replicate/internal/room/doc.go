// Package room serves documents to Yjs clients in the protocols they speak: that of y-websocket, one document a connection, and that of
// Hocuspocus, many documents on one.
//
// A [Hub] knows who is on which document and nothing of what is in it. Documents lie in a [Store], which is asked when a client joins and
// when it writes, and which tells of every change that is durable, whoever made it. A document that nobody changes costs what the list of its
// clients costs; when the last one has left, nothing of it is left either.
//
// # What a client can rely on
//
// What a client sends is checked, written, and acknowledged when it is durable. Others are told of it by the same change that the store
// tells of: so nobody sees what a crash could take back, and a change that came another way, by a function of the server or by another
// protocol, is seen by the same path.
//
// The changes of one tick go to a client as one update. A client that does not take what it is sent is passed over, and given what it has
// missed, out of the store, when it does; nothing but a position is kept for it meanwhile.
//
// # Awareness
//
// A connection speaks only for those awareness clients that it was the first to speak for: see awareness.go. Their states are kept with the
// connection, and go with it.
//
// # Locks
//
// One lock guards everything that several goroutines touch. Nothing is sent, read or written under it.
package room
