package yjs

import (
	"fmt"
	"iter"
	"slices"
)

// Array is a list of values.
type Array struct{ b *branch }

// NewArray returns a detached array of values.
func NewArray(values ...any) (Array, error) {
	a := Array{newBranch(KindArray, "")}
	return a, a.Insert(0, values...)
}

func (a Array) base() *branch { return a.b }

// Kind returns KindArray.
func (a Array) Kind() TypeKind { return KindArray }

// Parent returns the type that holds this one.
func (a Array) Parent() Type { return a.b.parentType() }

// Deleted reports whether the array has been deleted.
func (a Array) Deleted() bool { return a.b.dead() }

// Len is the number of elements.
func (a Array) Len() int { return a.b.length() }

func (b *branch) length() int {
	if b.detached() && b.prelim != nil {
		return len(b.prelim.list)
	}
	return b.size
}

// Insert inserts values at an index.
func (a Array) Insert(index int, values ...any) error {
	if err := a.b.insert(index, values); err != nil {
		return fmt.Errorf("insert into array: %w", err)
	}
	return nil
}

func (b *branch) insert(index int, values []any) error {
	if b.detached() {
		if index < 0 || index > b.length() {
			return rangeError(index, b.length())
		}
		return placeDetached(values, func() {
			p := b.prelimOf()
			p.list = slices.Insert(p.list, index, values...)
		})
	}
	return place(values, func() error {
		return b.change(func(tx *Transaction) error { return tx.insertList(b, index, values) })
	})
}

// Push appends values.
func (a Array) Push(values ...any) error {
	if a.b.detached() {
		return a.Insert(a.Len(), values...)
	}
	err := place(values, func() error {
		return a.b.change(func(tx *Transaction) error { return tx.pushList(a.b, values) })
	})
	if err != nil {
		return fmt.Errorf("append to array: %w", err)
	}
	return nil
}

// Delete deletes n elements from an index on.
func (a Array) Delete(index, n int) error {
	if err := a.b.deleteRange(index, n); err != nil {
		return fmt.Errorf("delete from array: %w", err)
	}
	return nil
}

func (b *branch) deleteRange(index, n int) error {
	if b.detached() {
		if index < 0 || n < 0 || n > b.length()-index {
			return rangeError(index+n, b.length())
		}
		if p := b.prelim; p != nil {
			p.list = slices.Delete(p.list, index, index+n)
		}
		return nil
	}
	return b.change(func(tx *Transaction) error { return tx.deleteList(b, index, n) })
}

// Get returns the element at an index; ok is false where there is none.
func (a Array) Get(index int) (v any, ok bool) { return a.b.at(index) }

// All iterates over the elements.
func (a Array) All() iter.Seq2[int, any] {
	return func(yield func(int, any) bool) {
		i := -1
		a.b.each(func(v any) bool {
			i++
			return yield(i, v)
		})
	}
}

// Values returns the elements.
func (a Array) Values() []any {
	out := make([]any, 0, a.b.size)
	a.b.each(func(v any) bool {
		out = append(out, v)
		return true
	})
	return out
}

// AppendJSON appends the elements as a JSON array.
func (a Array) AppendJSON(dst []byte) []byte { return a.b.appendListJSON(dst) }

// Observe calls f after each transaction that changed the array itself.
func (a Array) Observe(f func(*Event)) (cancel func()) { return a.b.observe(f) }

// ObserveDeep calls f after each transaction that changed the array or
// anything in it.
func (a Array) ObserveDeep(f func([]*Event)) (cancel func()) { return a.b.observeDeep(f) }
