// Package awareness keeps what the users of a document show each other and
// nobody stores: names, cursors, selections.
//
// It speaks the awareness protocol of y-protocols: each client owns one state,
// a JSON value with a clock; a higher clock replaces the state, and null removes
// it. [Awareness] is a state machine without goroutines, timers or a network:
// the caller passes updates and the time in and sends what comes out.
//
// A client announces its state with [Awareness.SetLocal] and repeats it when
// [Awareness.Renew] says so. A server keeps one Awareness without a local state
// for each document, applies what its clients send after checking that they
// speak for themselves ([Decode], [Owned]), and calls [Awareness.Remove] when a
// connection ends. Both call [Awareness.Expire] every few seconds.
package awareness
