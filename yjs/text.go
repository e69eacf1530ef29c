package yjs

import (
	"fmt"
	"strings"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// Text is rich text: characters with attributes, and embedded values between
// them. Indexes and lengths are in UTF-16 code units, as in JavaScript; an
// embed counts as one. See UTF16Len and UTF16Index for going between them and
// Go strings.
type Text struct{ b *branch }

// NewText returns a detached text.
func NewText(s string) Text {
	t := Text{newBranch(KindText, "")}
	if s != "" {
		_ = t.Insert(0, s, nil) // a detached text takes anything
	}
	return t
}

func (t Text) base() *branch { return t.b }

// Kind returns KindText, or KindXMLText for the text part of an XMLText.
func (t Text) Kind() TypeKind { return t.b.looksLike() }

// Parent returns the type that holds this one.
func (t Text) Parent() Type { return t.b.parentType() }

// Deleted reports whether the text has been deleted.
func (t Text) Deleted() bool { return t.b.dead() }

// Len is the length in UTF-16 code units, embeds counting one.
func (t Text) Len() int { return t.b.size }

// String returns the characters without formatting and embeds.
func (t Text) String() string {
	n := 0
	for it := t.b.start; it != nil; it = it.right {
		if it.kind == kindString && !it.deleted() {
			n += len(it.text())
		}
	}
	var s strings.Builder
	s.Grow(n)
	for it := t.b.start; it != nil; it = it.right {
		if it.kind == kindString && !it.deleted() {
			s.Write(it.text())
		}
	}
	return s.String()
}

// later does something to a detached text when it becomes part of a document.
func (t Text) later(f func(tx *Transaction, b *branch) error) error {
	p := t.b.prelimOf()
	p.text = append(p.text, f)
	return nil
}

func (t Text) do(f func(tx *Transaction, b *branch) error) error {
	if t.b.detached() {
		return t.later(f)
	}
	return t.b.change(func(tx *Transaction) error { return f(tx, t.b) })
}

// Insert inserts s at an index. Nil attrs give it the attributes of what is
// left of it; otherwise it has exactly attrs. Invalid UTF-8 becomes U+FFFD.
func (t Text) Insert(index int, s string, attrs Attributes) error {
	if s == "" {
		return nil
	}
	want, err := makeAttrs(attrs)
	if err != nil {
		return fmt.Errorf("insert text: %w", err)
	}
	c := stringContent(clean(s))
	return t.do(func(tx *Transaction, b *branch) error {
		if index < 0 || index > b.size {
			return fmt.Errorf("insert text: %w", rangeError(index, b.size))
		}
		p := tx.textPosition(b, index, attrs == nil)
		if attrs == nil {
			want = append(attrMap(nil), p.attrs...)
		}
		tx.insertText(b, p, c, want)
		return nil
	})
}

// InsertEmbed inserts a value, a shared type or a document at an index. Unlike
// text it takes no attributes from its neighbours.
func (t Text) InsertEmbed(index int, v any, attrs Attributes) error {
	want, err := makeAttrs(attrs)
	if err != nil {
		return fmt.Errorf("insert embed: %w", err)
	}
	return place([]any{v}, func() error {
		c, err := embedOrType(v)
		if err != nil {
			return fmt.Errorf("insert embed: %w", err)
		}
		return t.do(func(tx *Transaction, b *branch) error {
			if index < 0 || index > b.size {
				return fmt.Errorf("insert embed: %w", rangeError(index, b.size))
			}
			tx.insertText(b, tx.textPosition(b, index, attrs == nil), c, want)
			return nil
		})
	})
}

func embedOrType(v any) (content, error) {
	switch v := v.(type) {
	case Type:
		return typeContent(v.base()), nil
	case *Doc:
		return makeContent(v)
	}
	return embedContent(v)
}

// Delete deletes n units from an index on.
func (t Text) Delete(index, n int) error {
	if n == 0 {
		return nil
	}
	return t.do(func(tx *Transaction, b *branch) error {
		if index < 0 || n < 0 || n > b.size-index {
			return fmt.Errorf("delete text: %w", rangeError(index+n, b.size))
		}
		tx.deleteText(b, tx.textPosition(b, index, true), n)
		return nil
	})
}

// Format sets attributes on n units from an index on; a nil value removes one.
func (t Text) Format(index, n int, attrs Attributes) error {
	want, err := makeAttrs(attrs)
	if err != nil {
		return fmt.Errorf("format text: %w", err)
	}
	if n == 0 {
		return nil
	}
	return t.do(func(tx *Transaction, b *branch) error {
		if index < 0 || n < 0 || n > b.size-index {
			return fmt.Errorf("format text: %w", rangeError(index+n, b.size))
		}
		p := tx.textPosition(b, index, false)
		if p.right != nil {
			tx.formatText(b, p, n, want)
		}
		return nil
	})
}

// Apply applies a delta, as a rich text editor makes them.
func (t Text) Apply(d Delta) error {
	type step struct {
		op      Op
		content content
		attrs   attrMap
	}
	steps := make([]step, 0, len(d))
	var embeds []any
	for _, op := range d {
		s := step{op: op}
		var err error
		if s.attrs, err = makeAttrs(op.Attributes); err != nil {
			return fmt.Errorf("apply delta: %w", err)
		}
		switch v := op.Insert.(type) {
		case nil:
		case string:
			s.content = stringContent(clean(v))
		case Type, *Doc:
			embeds = append(embeds, v)
		default:
			if s.content, err = embedContent(v); err != nil {
				return fmt.Errorf("apply delta: %w", err)
			}
		}
		steps = append(steps, s)
	}
	return place(embeds, func() error {
		return t.do(func(tx *Transaction, b *branch) error {
			p := &textPos{right: b.start}
			for _, s := range steps {
				switch op := s.op; {
				case op.Insert != nil:
					if s.content.length == 0 {
						if _, ok := op.Insert.(string); ok {
							continue
						}
						c, err := embedOrType(op.Insert)
						if err != nil {
							return err
						}
						s.content = c
					}
					tx.insertText(b, p, s.content, s.attrs)
				case op.Retain > 0:
					tx.formatText(b, p, op.Retain, s.attrs)
				case op.Delete > 0:
					tx.deleteText(b, p, op.Delete)
				}
			}
			return nil
		})
	})
}

// SetAttribute sets an attribute of the text as a whole.
func (t Text) SetAttribute(name string, v any) error {
	return setAttribute(t.b, name, v)
}

// RemoveAttribute removes an attribute of the text as a whole.
func (t Text) RemoveAttribute(name string) error { return removeAttribute(t.b, name) }

// Attribute returns an attribute of the text as a whole.
func (t Text) Attribute(name string) (v any, ok bool) { return t.b.key(name) }

// AppendJSON appends the characters as a JSON string.
func (t Text) AppendJSON(dst []byte) []byte { return lib0.AppendJSONString(dst, t.String()) }

// Observe calls f after each transaction that changed the text.
func (t Text) Observe(f func(*Event)) (cancel func()) { return t.b.observe(f) }

// ObserveDeep calls f after each transaction that changed the text or what is
// embedded in it.
func (t Text) ObserveDeep(f func([]*Event)) (cancel func()) { return t.b.observeDeep(f) }

// UTF16Len is the length of a string in UTF-16 code units.
func UTF16Len(s string) int { return int(lib0.Units(clean(s))) }

// UTF16Index returns the UTF-16 index of a byte offset in s.
func UTF16Index(s string, offset int) int { return UTF16Len(s[:offset]) }

// ByteIndex returns the byte offset of a UTF-16 index in s; the start of the
// rune where the index is in the middle of a surrogate pair.
func ByteIndex(s string, index int) int {
	i, _ := lib0.Offset(s, lib0.Units(s), uint64(index))
	return i
}

// RuneIndex returns the number of runes before a UTF-16 index in s.
func RuneIndex(s string, index int) int {
	n := 0
	for range s[:ByteIndex(s, index)] {
		n++
	}
	return n
}
