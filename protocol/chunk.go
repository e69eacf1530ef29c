package protocol

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// TransitionChunk is a part of the JSON text of a Transition. A client counts
// every message as a sign of life: in parts, a Transition that takes minutes to
// arrive over a slow network is not taken for a server that has gone. The parts
// of one Transition come in order, with nothing between them.
type TransitionChunk struct {
	Chunk string
	// Part counts from 0 to one less than Parts, the same in all parts.
	Part, Parts uint32
	// TransitionID is any text that is the same in all parts of a Transition.
	TransitionID string
}

func (*TransitionChunk) serverMessage() {}

// Append appends the JSON text of m to dst.
func (m *TransitionChunk) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"TransitionChunk","chunk":`...)
	dst = AppendString(dst, m.Chunk)
	dst = append(dst, `,"partNumber":`...)
	dst = appendUint(dst, m.Part)
	dst = append(dst, `,"totalParts":`...)
	dst = appendUint(dst, m.Parts)
	dst = append(dst, `,"transitionId":`...)
	return append(AppendString(dst, m.TransitionID), '}')
}

func decodeTransitionChunk(s *scanner) (ServerMessage, error) {
	m := &TransitionChunk{}
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "chunk":
			seen |= 1
			m.Chunk, err = s.string()
		case "partNumber":
			seen |= 2
			m.Part, err = s.uint32()
		case "totalParts":
			seen |= 4
			m.Parts, err = s.uint32()
		case "transitionId":
			seen |= 8
			m.TransitionID, err = s.short(ReasonBytesMax)
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = seen.require(s, "chunk", "partNumber", "totalParts", "transitionId")
	}
	if err == nil && m.Part >= m.Parts {
		err = s.fail("part %d of %d", m.Part, m.Parts)
	}
	return m, err
}

// SplitText cuts text into parts of at most size bytes, at least 4, without
// cutting through a character. There is always one part. The parts are parts of
// text.
func SplitText(text []byte, size int) [][]byte {
	parts := make([][]byte, 0, len(text)/size+1)
	for len(text) > size {
		n := size
		for n > size-(utf8.UTFMax-1) && !utf8.RuneStart(text[n]) {
			n--
		}
		parts = append(parts, text[:n:n])
		text = text[n:]
	}
	return append(parts, text)
}

// ErrChunk is wrapped by all errors of an Assembler.
var ErrChunk = errors.New("the parts of a Transition do not fit together")

// Assembler puts the parts of Transitions together again, for clients written
// in Go. The zero value is ready. It holds the text of one Transition at most.
type Assembler struct {
	text  []byte
	id    string
	parts uint32
	next  uint32
}

// Add takes the next message of the server. It returns the message, or the
// Transition that it completes, or nil if parts are still missing. After an
// error, which wraps ErrChunk or ErrSyntax, the connection is of no more use.
func (a *Assembler) Add(m ServerMessage) (ServerMessage, error) {
	c, ok := m.(*TransitionChunk)
	switch {
	case !ok && a.next == 0:
		return m, nil
	case !ok:
		return nil, fmt.Errorf("%w: a %T came after part %d of %d", ErrChunk, m, a.next, a.parts)
	case c.Part != a.next:
		return nil, fmt.Errorf("%w: part %d came, want %d", ErrChunk, c.Part, a.next)
	case a.next > 0 && (c.Parts != a.parts || c.TransitionID != a.id):
		return nil, fmt.Errorf("%w: part %d is of %q in %d, want %q in %d", ErrChunk, c.Part, c.TransitionID, c.Parts, a.id, a.parts)
	}
	a.id, a.parts = c.TransitionID, c.Parts
	a.text = append(a.text, c.Chunk...)
	if a.next++; a.next < a.parts {
		return nil, nil
	}
	text := a.text
	*a = Assembler{}
	whole, err := DecodeServer(text)
	if err != nil {
		return nil, err
	}
	if _, ok := whole.(*Transition); !ok {
		return nil, fmt.Errorf("%w: together they are a %T", ErrChunk, whole)
	}
	return whole, nil
}
