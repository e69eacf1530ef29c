package yjs

import (
	"encoding/json"
	"fmt"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// RelativePosition is a place in a list or text that stays with its
// neighbours when others edit: a cursor, or the end of a selection.
type RelativePosition struct {
	// Item is the unit the position stays with; nil at the ends.
	Item *ID
	// Root or Type is the shared type, when there is no item; one of them.
	Root *string
	Type *ID
	// Assoc is negative when the position stays with the unit to its left, and
	// otherwise with the one to its right.
	Assoc int
}

// Position is a place in a list or text as an index.
type Position struct {
	Type  Type
	Index int
	Assoc int
}

// NewRelativePosition returns the place at an index of a text, array or XML node.
// With a negative assoc it stays with the unit left of it, otherwise with the
// unit right of it.
func NewRelativePosition(t Type, index, assoc int) (RelativePosition, error) {
	b := t.base()
	if b.detached() {
		return RelativePosition{}, fmt.Errorf("position in a detached type: %w", ErrDetached)
	}
	if index < 0 || index > b.size {
		return RelativePosition{}, fmt.Errorf("position: %w", rangeError(index, b.size))
	}
	s := &b.doc.store
	p := RelativePosition{Assoc: assoc}
	stay := func(r ref) (RelativePosition, error) {
		id := s.id(r)
		p.Item = &id
		return p, nil
	}
	atEnd := func() (RelativePosition, error) {
		if b.item == nil {
			name := b.name
			p.Root = &name
		} else {
			id := s.id(b.item.id)
			p.Type = &id
		}
		return p, nil
	}
	if assoc < 0 {
		if index == 0 {
			return atEnd()
		}
		index--
	}
	for it := b.start; it != nil; it = it.right {
		if it.visible() {
			if int(it.length) > index {
				return stay(it.id + ref(index))
			}
			index -= int(it.length)
		}
		if it.right == nil && assoc < 0 {
			return stay(it.lastID())
		}
	}
	return atEnd()
}

// Resolve finds where a relative position is now. It returns false when the
// document does not know what the position stays with, or no longer.
func (d *Doc) Resolve(p RelativePosition) (Position, bool) {
	if p.Item != nil {
		return d.resolveItem(*p.Item, p.Assoc)
	}
	var b *branch
	switch {
	case p.Root != nil:
		b = d.root(*p.Root, kindUntyped)
	case p.Type != nil:
		r, ok := d.known(*p.Type)
		if !ok {
			return Position{}, false
		}
		it, _ := d.store.follow(r)
		if it.kind != kindType {
			return Position{}, false
		}
		b = it.branch()
	default:
		return Position{}, false
	}
	pos := Position{Type: b.handle(), Assoc: p.Assoc}
	if p.Assoc >= 0 {
		pos.Index = b.size
	}
	return pos, true
}

// known returns the reference of an ID that is in the document.
func (d *Doc) known(id ID) (ref, bool) {
	client := d.store.lookup(id.Client)
	if client < 0 || id.Clock >= d.store.state(client) {
		return noRef, false
	}
	return makeRef(client, id.Clock), true
}

func (d *Doc) resolveItem(id ID, assoc int) (Position, bool) {
	r, ok := d.known(id)
	if !ok {
		return Position{}, false
	}
	it, diff := d.store.follow(r)
	if it.isGC() {
		return Position{}, false
	}
	pos := Position{Type: it.parent.handle(), Assoc: assoc}
	if it.parent.dead() {
		return pos, true
	}
	if it.visible() {
		pos.Index = int(diff)
		if assoc < 0 {
			pos.Index++
		}
	}
	pos.Index += it.indexBefore()
	return pos, true
}

// Encode returns the position as bytes.
func (p RelativePosition) Encode() []byte {
	var dst []byte
	switch {
	case p.Item != nil:
		dst = appendID(append(dst, 0), *p.Item)
	case p.Root != nil:
		dst = lib0.AppendString(append(dst, 1), *p.Root)
	case p.Type != nil:
		dst = appendID(append(dst, 2), *p.Type)
	}
	if p.Assoc < 0 {
		return lib0.AppendInt(dst, true, uint64(-p.Assoc))
	}
	return lib0.AppendInt(dst, false, uint64(p.Assoc))
}

func appendID(dst []byte, id ID) []byte {
	return lib0.AppendUint(lib0.AppendUint(dst, id.Client), id.Clock)
}

// DecodeRelativePosition reads an encoded position.
func DecodeRelativePosition(b []byte) (RelativePosition, error) {
	r := lib0.NewReader(string(b))
	var p RelativePosition
	switch kind := r.Uint(); kind {
	case 0:
		p.Item = &ID{r.Uint(), r.Uint()}
	case 1:
		name := r.String()
		p.Root = &name
	case 2:
		p.Type = &ID{r.Uint(), r.Uint()}
	default:
		r.Fail("unknown kind of position")
	}
	if r.Err() == nil && r.Len() > 0 {
		neg, n := r.Int()
		p.Assoc = int(n)
		if neg {
			p.Assoc = -p.Assoc
		}
	}
	if r.Err() == nil && r.Len() > 0 {
		r.Fail("bytes after the position")
	}
	if err := r.Err(); err != nil {
		return RelativePosition{}, fmt.Errorf("decode relative position: %w", err)
	}
	return p, nil
}

// positionJSON is the form npm yjs gives a position in JSON.
type positionJSON struct {
	Type  *idJSON `json:"type,omitempty"`
	Root  *string `json:"tname,omitempty"`
	Item  *idJSON `json:"item,omitempty"`
	Assoc int     `json:"assoc"`
}

type idJSON struct {
	Client uint64 `json:"client"`
	Clock  uint64 `json:"clock"`
}

// MarshalJSON implements json.Marshaler with the form of npm yjs.
func (p RelativePosition) MarshalJSON() ([]byte, error) {
	return json.Marshal(positionJSON{Type: (*idJSON)(p.Type), Root: p.Root, Item: (*idJSON)(p.Item), Assoc: p.Assoc})
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *RelativePosition) UnmarshalJSON(data []byte) error {
	var j positionJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("parse relative position: %w", err)
	}
	*p = RelativePosition{Type: (*ID)(j.Type), Root: j.Root, Item: (*ID)(j.Item), Assoc: j.Assoc}
	return nil
}
