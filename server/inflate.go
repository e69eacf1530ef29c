package server

import (
	"encoding/binary"
	"strings"
)

// A compressed message may become a thousand times as large as it is on the wire, where the gate counts it. What becomes of it is bounded in
// three places:
//
//   - The WebSocket library stops inflating a message at MessageBytesMax. It inflates one at a time for each of its inflaters, of which there
//     are about as many as workers, and each keeps at most twice that.
//   - A message that has been inflated must be within the limit of its connection, which is a smaller one before Connect and for a module that
//     asks for it, and what it has more than on the wire comes out of the budget for all clients. See inflated.
//   - A library that could not inflate a message calls that an error of its own. Clients are told what it is. See closeFrame.

// inflated takes what a message of n bytes has more than it had on the wire out of the budget, and adds it to the claim of the message.
// Messages that were not compressed need nothing more.
func (s *socket) inflated(n int, claim *int64) error {
	if int64(n) > s.gate.limit {
		return errMessageTooLarge
	}
	if more := int64(n) - freeBytes - *claim; more > 0 {
		if !s.gate.budget.take(more) {
			return errInboundFull
		}
		*claim += more
	}
	return nil
}

// What the library says when it closes a connection whose message it could not inflate, with code 1011: the beginnings of its reasons.
const (
	inflatesTooLarge = "gws: message too large"
	inflatesNothing  = "flate: "
	inflatesNoEnd    = "unexpected EOF"
)

// notInflated returns what to close a connection with for a message of which the library says that it could not be inflated, and 0 where it
// says something else.
func notInflated(why string) (code uint16, reason string) {
	switch {
	case strings.HasPrefix(why, inflatesTooLarge):
		return closeTooLarge, reasonTooLarge
	case strings.HasPrefix(why, inflatesNothing), why == inflatesNoEnd:
		return closeInvalid, reasonProtocol
	}
	return 0, ""
}

// closeFrame returns what is to be sent in place of a frame: the frame itself, save a close frame of the library that calls what its client
// sent an internal error.
func closeFrame(frame []byte) []byte {
	if len(frame) < 4 || frame[0] != 0x88 || int(frame[1]) != len(frame)-2 || binary.BigEndian.Uint16(frame[2:]) != closeInternal {
		return frame
	}
	code, reason := notInflated(string(frame[4:]))
	if code == 0 {
		return frame
	}
	told := binary.BigEndian.AppendUint16([]byte{0x88, byte(2 + len(reason))}, code)
	return append(told, reason...)
}
