package wire

import (
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon/yjs"
	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// ErrMalformed marks a frame that can't be read.
var ErrMalformed = yjs.ErrMalformed

// ErrUnexpected marks a frame that may not be sent at this point, or never by
// this side.
var ErrUnexpected = errors.New("unexpected frame")

// SyncKind is a kind of sync message.
type SyncKind uint64

// The sync messages of y-protocols.
const (
	// SyncStep1 carries a state vector and asks for what it lacks.
	SyncStep1 SyncKind = 0
	// SyncStep2 answers with an update.
	SyncStep2 SyncKind = 1
	// SyncUpdate carries a change.
	SyncUpdate SyncKind = 2
)

// Sync is a sync message.
type Sync struct {
	Kind SyncKind
	// Payload is an encoded state vector for SyncStep1 and a V1 update
	// otherwise. It shares the frame.
	Payload []byte
}

// AppendSync appends a sync message.
func AppendSync(dst []byte, m Sync) []byte {
	return lib0.AppendString(lib0.AppendUint(dst, uint64(m.Kind)), m.Payload)
}

func readSync(r *lib0.Reader) Sync {
	m := Sync{Kind: SyncKind(r.Uint())}
	if m.Kind > SyncUpdate {
		r.Fail("unknown sync message")
	}
	m.Payload = []byte(r.Bytes())
	return m
}

// ParseSync reads a sync message.
func ParseSync(b []byte) (Sync, error) {
	r := lib0.NewReader(string(b))
	m := readSync(&r)
	return m, finish(&r, "sync message")
}

func finish(r *lib0.Reader, what string) error {
	if r.Err() == nil && r.Len() > 0 {
		r.Fail("bytes after the " + what)
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

// Replica is the document a state machine answers for: a *yjs.Doc behind
// [Document], or stored updates.
type Replica interface {
	// StateVector says what the replica has.
	StateVector() (yjs.StateVector, error)
	// Missing returns, as a V1 update, what a peer with the given state vector
	// lacks, with all deletions.
	Missing(sv yjs.StateVector) ([]byte, error)
	// Has reports whether an update would bring nothing new.
	Has(update []byte) (bool, error)
}

// Document is the Replica of a document.
type Document struct{ *yjs.Doc }

var _ Replica = Document{}

// StateVector implements Replica.
func (d Document) StateVector() (yjs.StateVector, error) { return d.State(), nil }

// Missing implements Replica.
func (d Document) Missing(sv yjs.StateVector) ([]byte, error) { return d.EncodeState(sv), nil }

// Has implements Replica.
func (d Document) Has(update []byte) (bool, error) { return d.Snapshot().Contains(update, yjs.V1) }

// Update is the Replica of a document stored as one V1 update.
type Update []byte

var _ Replica = Update{}

// StateVector implements Replica.
func (u Update) StateVector() (yjs.StateVector, error) { return yjs.StateVectorFromUpdate(u) }

// Missing implements Replica.
func (u Update) Missing(sv yjs.StateVector) ([]byte, error) { return yjs.DiffUpdate(u, sv) }

// Has implements Replica.
func (u Update) Has(update []byte) (bool, error) {
	m, err := yjs.ParseUpdateMeta(u)
	if err != nil {
		return false, err
	}
	sv, err := u.StateVector()
	if err != nil {
		return false, err
	}
	s := yjs.Snapshot{State: sv, Deleted: m.Deleted}
	return s.Contains(update, yjs.V1)
}

// Reply is what a frame asks for.
type Reply struct {
	// Send are frames to send back at once, in order.
	Send [][]byte
	// Update is a V1 update to apply, store and pass on to others; nil when
	// there is none. It has been checked and is not empty.
	Update []byte
	// Step2 says that the update is an answer to a SyncStep1: with it the
	// sender has given everything it had.
	Step2 bool
	// Ack is to be sent when the update is safe, and Nack when it is refused.
	// They are nil where the protocol has no acknowledgements.
	Ack, Nack []byte
	// Awareness is an awareness update to apply and to pass on to everybody,
	// the sender included: y-websocket clients take silence for a lost
	// connection.
	Awareness []byte
	// QueryAwareness asks for all awareness states; see the Awareness method of
	// the state machine.
	QueryAwareness bool
	// Stateless is a message of the application.
	Stateless *string
	// Token is a new token of an authenticated client.
	Token *string
}

// receive answers a sync message. wrap makes a frame of one.
func receive(m Sync, r Replica, readOnly bool, wrap func(Sync) []byte, reply *Reply) error {
	if m.Kind == SyncStep1 {
		sv, err := yjs.DecodeStateVector(m.Payload)
		if err != nil {
			return err
		}
		missing, err := r.Missing(sv)
		if err != nil {
			return fmt.Errorf("answer sync request: %w", err)
		}
		reply.Send = append(reply.Send, wrap(Sync{SyncStep2, missing}))
		return nil
	}
	meta, err := yjs.ParseUpdateMeta(m.Payload)
	if err != nil {
		return err
	}
	if readOnly {
		has := false
		if m.Kind == SyncStep2 {
			if has, err = r.Has(m.Payload); err != nil {
				return fmt.Errorf("compare with update: %w", err)
			}
		}
		reply.refuse(has)
		return nil
	}
	reply.Step2 = m.Kind == SyncStep2
	if meta.Structs == 0 && meta.Deleted.Empty() {
		reply.refuse(true)
		return nil
	}
	reply.Update = m.Payload
	return nil
}

// refuse answers at once instead of leaving it to whoever stores the update.
func (r *Reply) refuse(ack bool) {
	if ack && r.Ack != nil {
		r.Send = append(r.Send, r.Ack)
	}
	if !ack && r.Nack != nil {
		r.Send = append(r.Send, r.Nack)
	}
	r.Ack, r.Nack = nil, nil
}
