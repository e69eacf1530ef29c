package yjs

import (
	"fmt"
	"strings"
)

// Type is a shared type: Text, Array, Map, XMLFragment, XMLElement, XMLText or
// XMLHook. Values of the same type are equal (==) when they are views of the
// same shared type.
//
// A type made by one of the New functions is detached: it can be filled and
// then stored in a type of a document, once, after which it is part of that
// document. Reading a detached type gives nothing.
type Type interface {
	// Kind tells what the type is.
	Kind() TypeKind
	// Parent returns the type that holds this one; nil for a root.
	Parent() Type
	// Deleted reports whether the type has been deleted.
	Deleted() bool
	// AppendJSON appends the content as JSON, the same bytes for the same
	// content: keys are sorted.
	AppendJSON(dst []byte) []byte
	// Observe calls f after each transaction that changed the type itself. The
	// returned function ends it.
	Observe(f func(*Event)) (cancel func())
	// ObserveDeep calls f after each transaction that changed the type or
	// anything in it, with the outermost changes first.
	ObserveDeep(f func([]*Event)) (cancel func())

	base() *branch
}

var (
	_ Type = Text{}
	_ Type = Array{}
	_ Type = Map{}
	_ Type = XMLFragment{}
	_ Type = XMLElement{}
	_ Type = XMLText{}
	_ Type = XMLHook{}
)

// handle returns the public view of the kind.
func (b *branch) handle() Type {
	if b == nil {
		return nil
	}
	switch b.looksLike() {
	case KindMap:
		return Map{b}
	case KindText:
		return Text{b}
	case KindXMLElement:
		return XMLElement{XMLFragment{b}}
	case KindXMLFragment:
		return XMLFragment{b}
	case KindXMLHook:
		return XMLHook{Map{b}}
	case KindXMLText:
		return XMLText{Text{b}}
	}
	return Array{b}
}

// looksLike guesses what an untyped root is.
func (b *branch) looksLike() TypeKind {
	if b.kind != kindUntyped {
		return b.kind
	}
	for it := b.start; it != nil; it = it.right {
		switch it.kind {
		case kindString, kindFormat, kindEmbed:
			return KindText
		case kindType:
			switch it.branch().kind {
			case KindXMLElement, KindXMLText, KindXMLHook:
				return KindXMLFragment
			}
			return KindArray
		case kindAny, kindJSON, kindBinary, kindDoc:
			return KindArray
		}
	}
	if len(b.keys.items) > 0 {
		return KindMap
	}
	return KindArray
}

func (b *branch) parentType() Type {
	if p := b.parent(); p != nil {
		return p.handle()
	}
	return nil
}

// change runs f on an attached type in a transaction.
func (b *branch) change(f func(tx *Transaction) error) error {
	if b.dead() {
		return fmt.Errorf("change a deleted type: %w", ErrDetached)
	}
	var err error
	b.doc.edit(func(tx *Transaction) { err = f(tx) })
	return err
}

// prelim is what a detached type will hold. Texts keep what was done to them,
// the others the outcome.
type prelim struct {
	list []any
	keys Object
	text []func(tx *Transaction, b *branch)
	size int // of a text
}

func (b *branch) prelimOf() *prelim {
	if b.prelim == nil {
		b.prelim = &prelim{}
	}
	return b.prelim
}

// apply fills a type that has just become part of a document. The content has
// been checked when it was given.
func (p *prelim) apply(tx *Transaction, b *branch) {
	must := func(err error) {
		if err != nil {
			panic(broken("content of a new type: " + err.Error()))
		}
	}
	if len(p.list) > 0 {
		must(tx.insertList(b, 0, p.list))
	}
	for _, m := range p.keys {
		must(tx.setKey(b, m.Key, m.Value))
	}
	for _, f := range p.text {
		f(tx, b)
	}
}

// claim marks the shared types and documents among values as taken: each can
// be stored once. On failure none is.
func claim(values []any) error {
	for i, v := range values {
		ok := true
		switch v := v.(type) {
		case Type:
			b := v.base()
			if ok = b != nil && !b.held; ok {
				b.held = true
			}
		case *Doc:
			if ok = v != nil && v.subState().item == nil && !v.subs.held; ok {
				v.subs.held = true
			}
		}
		if !ok {
			release(values[:i])
			return fmt.Errorf("store a %T twice: %w", v, ErrDetached)
		}
	}
	return nil
}

func release(values []any) {
	for _, v := range values {
		switch v := v.(type) {
		case Type:
			v.base().held = false
		case *Doc:
			v.subs.held = false
		}
	}
}

// place claims values, lets f store them, and gives them back when it fails.
func place(values []any, f func() error) error {
	if err := claim(values); err != nil {
		return err
	}
	err := f()
	if err != nil {
		release(values)
	}
	return err
}

// placeDetached stores values in a detached type.
func placeDetached(values []any, f func()) error {
	return place(values, func() error {
		for _, v := range values {
			switch v.(type) {
			case Type, *Doc, []byte:
				continue
			}
			if _, err := makeContent(v); err != nil {
				return err
			}
		}
		f()
		return nil
	})
}

// clean makes a string valid UTF-8, as everything in a document is.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
