package wire

import (
	"fmt"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// FrameKind is a kind of y-websocket frame.
type FrameKind uint64

// The frames of y-websocket.
const (
	FrameSync           FrameKind = 0
	FrameAwareness      FrameKind = 1
	FrameAuth           FrameKind = 2 // server to client: permission denied
	FrameQueryAwareness FrameKind = 3
)

// Frame is a y-websocket frame.
type Frame struct {
	Kind      FrameKind
	Sync      Sync   // of a FrameSync
	Awareness []byte // of a FrameAwareness
	Reason    string // of a FrameAuth: why permission is denied
}

// Append appends the frame.
func (f Frame) Append(dst []byte) []byte {
	dst = lib0.AppendUint(dst, uint64(f.Kind))
	switch f.Kind {
	case FrameSync:
		dst = AppendSync(dst, f.Sync)
	case FrameAwareness:
		dst = lib0.AppendString(dst, f.Awareness)
	case FrameAuth:
		dst = lib0.AppendString(lib0.AppendUint(dst, 0), f.Reason)
	}
	return dst
}

// ParseFrame reads a y-websocket frame.
func ParseFrame(b []byte) (Frame, error) {
	r := lib0.NewReader(string(b))
	f := Frame{Kind: FrameKind(r.Uint())}
	switch f.Kind {
	case FrameSync:
		f.Sync = readSync(&r)
	case FrameAwareness:
		f.Awareness = []byte(r.Bytes())
	case FrameAuth:
		if r.Uint() != 0 {
			r.Fail("unknown auth message")
		}
		f.Reason = r.String()
	case FrameQueryAwareness:
	default:
		r.Fail("unknown frame")
	}
	return f, finish(&r, "frame")
}

// Session is either side of a y-websocket connection, which is for one
// document. The zero Session is not useful: set Replica.
type Session struct {
	Replica Replica
	// ReadOnly refuses updates: a server's reader.
	ReadOnly bool
	// Synced says that the other side has given everything it had.
	Synced bool
}

func wrapFrame(m Sync) []byte { return Frame{Kind: FrameSync, Sync: m}.Append(nil) }

// Open returns what to send when the connection is open: a request for what we
// lack, and the known awareness states unless there are none.
func (s *Session) Open(awareness []byte) ([][]byte, error) {
	sv, err := s.Replica.StateVector()
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	send := [][]byte{wrapFrame(Sync{SyncStep1, sv.Encode()})}
	if len(awareness) > 0 {
		send = append(send, s.Awareness(awareness))
	}
	return send, nil
}

// Update returns the frame that passes on an update.
func (s *Session) Update(update []byte) []byte { return wrapFrame(Sync{SyncUpdate, update}) }

// Awareness returns the frame that passes on an awareness update.
func (s *Session) Awareness(update []byte) []byte {
	return Frame{Kind: FrameAwareness, Awareness: update}.Append(nil)
}

// Denied returns the frame that tells a client that it has no access.
func Denied(reason string) []byte { return Frame{Kind: FrameAuth, Reason: reason}.Append(nil) }

// DeniedError is returned by a client's Receive when the server denies access.
type DeniedError struct{ Reason string }

func (e *DeniedError) Error() string { return "permission denied: " + e.Reason }

// Receive takes in a frame that arrived.
func (s *Session) Receive(frame []byte) (Reply, error) {
	f, err := ParseFrame(frame)
	if err != nil {
		return Reply{}, err
	}
	var reply Reply
	switch f.Kind {
	case FrameSync:
		if err := receive(f.Sync, s.Replica, s.ReadOnly, wrapFrame, &reply); err != nil {
			return Reply{}, err
		}
		s.Synced = s.Synced || f.Sync.Kind == SyncStep2
	case FrameAwareness:
		reply.Awareness = f.Awareness
	case FrameAuth:
		return Reply{}, &DeniedError{f.Reason}
	case FrameQueryAwareness:
		reply.QueryAwareness = true
	}
	return reply, nil
}
