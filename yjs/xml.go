package yjs

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// XMLFragment is a list of XML nodes: elements, texts and hooks.
type XMLFragment struct{ b *branch }

// NewXMLFragment returns a detached fragment holding nodes.
func NewXMLFragment(nodes ...Type) (XMLFragment, error) {
	x := XMLFragment{newBranch(KindXMLFragment, "")}
	return x, x.Insert(0, nodes...)
}

func (x XMLFragment) base() *branch { return x.b }

// Kind returns KindXMLFragment or KindXMLElement.
func (x XMLFragment) Kind() TypeKind { return x.b.looksLike() }

// Parent returns the type that holds this one.
func (x XMLFragment) Parent() Type { return x.b.parentType() }

// Deleted reports whether the node has been deleted.
func (x XMLFragment) Deleted() bool { return x.b.dead() }

// Len is the number of children.
func (x XMLFragment) Len() int { return x.b.length() }

// Insert inserts nodes at an index.
func (x XMLFragment) Insert(index int, nodes ...Type) error {
	values, err := nodeValues(nodes)
	if err == nil {
		err = x.b.insert(index, values)
	}
	if err != nil {
		return fmt.Errorf("insert XML: %w", err)
	}
	return nil
}

func nodeValues(nodes []Type) ([]any, error) {
	values := make([]any, len(nodes))
	for i, n := range nodes {
		if n == nil {
			return nil, fmt.Errorf("no node: %w", ErrDetached)
		}
		values[i] = n
	}
	return values, nil
}

// InsertAfter inserts nodes after a child, or first when the child is nil.
func (x XMLFragment) InsertAfter(child Type, nodes ...Type) error {
	values, err := nodeValues(nodes)
	if err != nil {
		return fmt.Errorf("insert XML: %w", err)
	}
	if child != nil && (x.b.detached() || child.base().parent() != x.b) {
		return fmt.Errorf("insert XML after a node: %w", ErrDetached)
	}
	if x.b.detached() {
		return x.Insert(0, nodes...)
	}
	return place(values, func() error {
		contents, err := makeContents(values)
		if err != nil {
			return err
		}
		var left *item
		if child != nil {
			left = child.base().item
		}
		return x.b.change(func(tx *Transaction) error {
			tx.insertAfter(x.b, left, contents)
			return nil
		})
	})
}

// Push appends nodes.
func (x XMLFragment) Push(nodes ...Type) error { return x.Insert(x.Len(), nodes...) }

// Delete deletes n children from an index on.
func (x XMLFragment) Delete(index, n int) error {
	if err := x.b.deleteRange(index, n); err != nil {
		return fmt.Errorf("delete XML: %w", err)
	}
	return nil
}

// Get returns the child at an index; nil where there is none.
func (x XMLFragment) Get(index int) Type {
	v, _ := x.b.at(index)
	t, _ := v.(Type)
	return t
}

// Children iterates over the children.
func (x XMLFragment) Children() iter.Seq[Type] {
	return func(yield func(Type) bool) {
		x.b.each(func(v any) bool {
			t, ok := v.(Type)
			return !ok || yield(t)
		})
	}
}

// Walk iterates over everything below the node, parents before children.
func (x XMLFragment) Walk() iter.Seq[Type] {
	return func(yield func(Type) bool) {
		stack := []*item{x.b.start}
		for len(stack) > 0 {
			it := stack[len(stack)-1]
			if it == nil {
				stack = stack[:len(stack)-1]
				continue
			}
			stack[len(stack)-1] = it.right
			if it.deleted() || it.kind != kindType {
				continue
			}
			b := it.branch()
			if !yield(b.handle()) {
				return
			}
			if b.kind == KindXMLElement || b.kind == KindXMLFragment {
				stack = append(stack, b.start)
			}
		}
	}
}

// String returns the markup as npm yjs prints it: nothing is escaped, so it
// must never be handed to a browser.
func (x XMLFragment) String() string {
	var s strings.Builder
	x.b.writeXML(&s, 0)
	return s.String()
}

// AppendJSON appends the markup as a JSON string, as npm yjs does. See AppendTree.
func (x XMLFragment) AppendJSON(dst []byte) []byte { return lib0.AppendJSONString(dst, x.String()) }

// AppendTree appends the node as structured JSON: an element is an object with
// name, attributes and children, a text its delta, a fragment an array.
func (x XMLFragment) AppendTree(dst []byte) []byte { return x.b.appendTree(dst, 0) }

// Observe calls f after each transaction that changed the node itself.
func (x XMLFragment) Observe(f func(*Event)) (cancel func()) { return x.b.observe(f) }

// ObserveDeep calls f after each transaction that changed the node or anything
// in it.
func (x XMLFragment) ObserveDeep(f func([]*Event)) (cancel func()) { return x.b.observeDeep(f) }

// XMLElement is an XML element: a name, attributes and children.
type XMLElement struct{ XMLFragment }

// NewXMLElement returns a detached element holding nodes.
func NewXMLElement(name string, nodes ...Type) (XMLElement, error) {
	x := XMLElement{XMLFragment{newBranch(KindXMLElement, clean(name))}}
	return x, x.Insert(0, nodes...)
}

// Name is the name of the element.
func (x XMLElement) Name() string { return x.b.name }

// SetAttribute sets an attribute.
func (x XMLElement) SetAttribute(name string, v any) error { return setAttribute(x.b, name, v) }

// RemoveAttribute removes an attribute.
func (x XMLElement) RemoveAttribute(name string) error { return removeAttribute(x.b, name) }

// Attribute returns an attribute.
func (x XMLElement) Attribute(name string) (v any, ok bool) { return x.b.key(name) }

// Attributes returns all attributes, sorted by name.
func (x XMLElement) Attributes() Object { return x.b.attributes() }

func (b *branch) attributes() Object {
	keys := b.liveKeys()
	slices.Sort(keys)
	o := make(Object, 0, len(keys))
	for _, k := range keys {
		v, _ := b.key(k)
		o = append(o, Member{Key: k, Value: v})
	}
	return o
}

// XMLText is a text node.
type XMLText struct{ Text }

// NewXMLText returns a detached text node.
func NewXMLText(s string) XMLText {
	t := XMLText{Text{newBranch(KindXMLText, "")}}
	if s != "" {
		_ = t.Insert(0, s, nil) // a detached text takes anything
	}
	return t
}

// String returns the markup as npm yjs prints it: attributes become elements
// around the text, and nothing is escaped.
func (t XMLText) String() string {
	var s strings.Builder
	t.b.writeXML(&s, 0)
	return s.String()
}

// AppendJSON appends the markup as a JSON string.
func (t XMLText) AppendJSON(dst []byte) []byte { return lib0.AppendJSONString(dst, t.String()) }

// XMLHook is a map in the place of an XML node, for content of another kind.
type XMLHook struct{ Map }

// NewXMLHook returns a detached hook.
func NewXMLHook(name string) XMLHook { return XMLHook{Map{newBranch(KindXMLHook, clean(name))}} }

// Name is the name of the hook.
func (x XMLHook) Name() string { return x.b.name }

func (b *branch) writeXML(s *strings.Builder, depth int) {
	if depth > nestedMax {
		return
	}
	switch b.looksLike() {
	case KindXMLText:
		b.writeXMLText(s, depth)
		return
	case KindText:
		s.WriteString(Text{b}.String())
		return
	case KindArray, KindMap, KindXMLHook:
		s.WriteString("[object Object]")
		return
	}
	name := strings.ToLower(b.name)
	element := b.kind == KindXMLElement
	if element {
		s.WriteByte('<')
		s.WriteString(name)
		for _, m := range b.attributes() {
			s.WriteByte(' ')
			s.WriteString(m.Key)
			s.WriteString(`="`)
			writeJSString(s, m.Value, depth)
			s.WriteByte('"')
		}
		s.WriteByte('>')
	}
	for it := b.start; it != nil; it = it.right {
		if !it.visible() {
			continue
		}
		if it.kind == kindType {
			it.branch().writeXML(s, depth+1)
			continue
		}
		for _, v := range it.values() {
			writeJSString(s, v, depth)
		}
	}
	if element {
		s.WriteString("</")
		s.WriteString(name)
		s.WriteByte('>')
	}
}

func (b *branch) writeXMLText(s *strings.Builder, depth int) {
	for _, op := range b.delta(nil) {
		nodes := lib0.FromMap(op.Attributes)
		for _, n := range nodes {
			s.WriteByte('<')
			s.WriteString(n.Key)
			attrs := enumerate(n.Value)
			slices.SortStableFunc(attrs, func(x, y Member) int { return strings.Compare(x.Key, y.Key) })
			for _, a := range attrs {
				s.WriteByte(' ')
				s.WriteString(a.Key)
				s.WriteString(`="`)
				writeJSString(s, a.Value, depth)
				s.WriteByte('"')
			}
			s.WriteByte('>')
		}
		writeJSString(s, op.Insert, depth)
		for _, n := range slices.Backward(nodes) {
			s.WriteString("</")
			s.WriteString(n.Key)
			s.WriteByte('>')
		}
	}
}

// enumerate returns what a JavaScript for-in loop finds in a value.
func enumerate(v any) Object {
	var o Object
	switch v := v.(type) {
	case Object:
		o = slices.Clone(v)
	case []any:
		for i, e := range v {
			o = append(o, Member{Key: strconv.Itoa(i), Value: e})
		}
	case string:
		for i, u := range utf16.Encode([]rune(v)) {
			o = append(o, Member{Key: strconv.Itoa(i), Value: string(rune(u))})
		}
	}
	return o
}

// writeJSString writes a value as JavaScript's String() does.
func writeJSString(s *strings.Builder, v any, depth int) {
	switch v := v.(type) {
	case Type:
		v.base().writeXML(s, depth+1)
	case string:
		s.WriteString(v)
	case nil:
		s.WriteString("null")
	case Undefined:
		s.WriteString("undefined")
	case Object, *Doc:
		s.WriteString("[object Object]")
	case BigInt:
		fmt.Fprint(s, int64(v))
	case []any:
		for i, e := range v {
			if i > 0 {
				s.WriteByte(',')
			}
			if _, undefined := e.(Undefined); e != nil && !undefined {
				writeJSString(s, e, depth)
			}
		}
	case []byte:
		for i, e := range v {
			if i > 0 {
				s.WriteByte(',')
			}
			fmt.Fprint(s, e)
		}
	default:
		s.Write(lib0.AppendJSON(nil, v, lib0.BytesAsObject))
	}
}

func (b *branch) appendTree(dst []byte, depth int) []byte {
	if depth > nestedMax {
		return append(dst, "null"...)
	}
	kind := b.looksLike()
	switch kind {
	case KindXMLText, KindText:
		return b.delta(nil).AppendJSON(dst)
	case KindXMLElement:
		dst = append(dst, `{"name":`...)
		dst = lib0.AppendJSONString(dst, b.name)
		dst = append(dst, `,"attributes":`...)
		dst = b.appendMapJSON(dst)
		dst = append(dst, `,"children":`...)
	case KindXMLHook:
		dst = append(dst, `{"hook":`...)
		dst = lib0.AppendJSONString(dst, b.name)
		dst = append(dst, `,"value":`...)
		return append(b.appendMapJSON(dst), '}')
	case KindXMLFragment:
	default:
		return b.handle().AppendJSON(dst)
	}
	dst = append(dst, '[')
	first := true
	for it := b.start; it != nil; it = it.right {
		if !it.visible() {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if it.kind == kindType {
			dst = it.branch().appendTree(dst, depth+1)
		} else {
			dst = appendValueJSON(dst, it.lastValue())
		}
	}
	dst = append(dst, ']')
	if kind == KindXMLElement {
		dst = append(dst, '}')
	}
	return dst
}
