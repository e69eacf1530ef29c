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

// do changes the text by f, which can't fail: fits checks beforehand whether
// the change is possible at the text's size and returns the size after it. A
// detached text remembers f for when it becomes part of a document.
func (t Text) do(fits func(size int) (int, error), f func(tx *Transaction, b *branch)) error {
	if !t.b.detached() {
		if _, err := fits(t.b.size); err != nil {
			return err
		}
		return t.b.change(func(tx *Transaction) error {
			f(tx, t.b)
			return nil
		})
	}
	p := t.b.prelimOf()
	size, err := fits(p.size)
	if err != nil {
		return err
	}
	p.size = size
	p.text = append(p.text, f)
	return nil
}

// insertFits is for inserting n units at an index.
func insertFits(index, n int) func(size int) (int, error) {
	return func(size int) (int, error) {
		if index < 0 || index > size {
			return 0, rangeError(index, size)
		}
		return size + n, nil
	}
}

// rangeFits is for changing n units from an index on, of which removed go.
func rangeFits(index, n, removed int) func(size int) (int, error) {
	return func(size int) (int, error) {
		if index < 0 || n < 0 || n > size-index {
			return 0, rangeError(index+n, size)
		}
		return size - removed, nil
	}
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
	err = t.do(insertFits(index, int(c.length)), func(tx *Transaction, b *branch) {
		p := tx.textPosition(b, index, attrs == nil)
		if attrs == nil {
			want = append(attrMap(nil), p.attrs...)
		}
		tx.insertText(b, p, c, want)
	})
	if err != nil {
		return fmt.Errorf("insert text: %w", err)
	}
	return nil
}

// InsertEmbed inserts a value, a shared type or a document at an index. Unlike
// text it takes no attributes from its neighbours.
func (t Text) InsertEmbed(index int, v any, attrs Attributes) error {
	want, err := makeAttrs(attrs)
	if err != nil {
		return fmt.Errorf("insert embed: %w", err)
	}
	err = place([]any{v}, func() error {
		c, err := embedOrType(v)
		if err != nil {
			return err
		}
		return t.do(insertFits(index, 1), func(tx *Transaction, b *branch) {
			tx.insertText(b, tx.textPosition(b, index, attrs == nil), c, want)
		})
	})
	if err != nil {
		return fmt.Errorf("insert embed: %w", err)
	}
	return nil
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
	err := t.do(rangeFits(index, n, n), func(tx *Transaction, b *branch) {
		tx.deleteText(b, tx.textPosition(b, index, true), n)
	})
	if err != nil {
		return fmt.Errorf("delete text: %w", err)
	}
	return nil
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
	err = t.do(rangeFits(index, n, 0), func(tx *Transaction, b *branch) {
		p := tx.textPosition(b, index, false)
		if p.right != nil {
			tx.formatText(b, p, n, want)
		}
	})
	if err != nil {
		return fmt.Errorf("format text: %w", err)
	}
	return nil
}

// deltaStep is an Op made ready.
type deltaStep struct {
	Op
	content content
	attrs   attrMap
}

// Apply applies a delta, as a rich text editor makes them. Where it retains
// more than there is, newlines are added; what it deletes beyond the end is
// passed over.
func (t Text) Apply(d Delta) error {
	var embeds []any
	for _, op := range d {
		switch op.Insert.(type) {
		case Type, *Doc:
			embeds = append(embeds, op.Insert)
		}
	}
	err := place(embeds, func() error {
		steps, err := d.steps()
		if err != nil {
			return err
		}
		return t.do(func(size int) (int, error) { return sizeAfter(steps, size), nil }, func(tx *Transaction, b *branch) {
			p := &textPos{right: b.start}
			for _, s := range steps {
				switch {
				case s.content.length > 0:
					tx.insertText(b, p, s.content, s.attrs)
				case s.Insert != nil:
				case s.Retain > 0:
					tx.formatText(b, p, s.Retain, s.attrs)
				case s.Delete > 0:
					tx.deleteText(b, p, s.Delete)
				}
			}
		})
	})
	if err != nil {
		return fmt.Errorf("apply delta: %w", err)
	}
	return nil
}

func (d Delta) steps() ([]deltaStep, error) {
	steps := make([]deltaStep, 0, len(d))
	for _, op := range d {
		s := deltaStep{Op: op}
		var err error
		if s.attrs, err = makeAttrs(op.Attributes); err != nil {
			return nil, err
		}
		switch v := op.Insert.(type) {
		case nil:
		case string:
			s.content = stringContent(clean(v))
		default:
			if s.content, err = embedOrType(v); err != nil {
				return nil, err
			}
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// sizeAfter is the size of a text after the steps.
func sizeAfter(steps []deltaStep, size int) int {
	at := 0
	for _, s := range steps {
		switch {
		case s.Insert != nil:
			at += int(s.content.length)
			size += int(s.content.length)
		case s.Retain > 0:
			at += s.Retain
			size = max(size, at)
		case s.Delete > 0:
			size -= min(s.Delete, size-at)
		}
	}
	return size
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
