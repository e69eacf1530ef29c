// Package wire speaks the protocols Yjs clients use: the sync messages of
// y-protocols, the frames of y-websocket, and those of Hocuspocus, which put
// many documents on one connection.
//
// Nothing here touches a network, a timer or a goroutine. The Append functions
// write frames and the Parse functions read them; [Session] and [Connection]
// are state machines that take a frame that arrived and return what to send and
// what to do. What a client changes is handed out as an update together with
// the acknowledgement to send once the update is safe; the state machines keep
// no document, only what a [Replica] tells them when they ask.
//
// All frames are binary messages of a WebSocket, one frame a message.
package wire
