package halcyon

import (
	"reflect"
	"sync/atomic"

	"github.com/halcyon-db/halcyon/engine/value"
)

// A Shared is a T that many results have in them, such as a long list that stays the same from one call to the next. What it is as a
// Convex value is worked out with the first of these results and kept, so that it costs the others nothing. To validators, clients and
// generated types it is a T. The T, and what it refers to, must not change after Share.
type Shared[T any] struct{ kept *shared[T] }

type shared[T any] struct {
	value   T
	encoded atomic.Pointer[value.Value]
}

// Share returns v as a Shared.
func Share[T any](v T) Shared[T] { return Shared[T]{&shared[T]{value: v}} }

// Value returns what was shared, of the zero Shared the zero T.
func (s Shared[T]) Value() T {
	if s.kept == nil {
		var zero T
		return zero
	}
	return s.kept.value
}

// sharedValue and sharedTarget are how codecs deal with any Shared, whatever its T.
type (
	sharedValue interface {
		sharedType() reflect.Type
		content() reflect.Value
		encodeOnce(c *codec) (value.Value, error)
	}
	sharedTarget interface{ receive(content reflect.Value) }
)

func (Shared[T]) sharedType() reflect.Type { return reflect.TypeFor[T]() }

func (s Shared[T]) content() reflect.Value {
	v := s.Value()
	return reflect.ValueOf(&v).Elem()
}

// encodeOnce encodes with the codec of T what has not been encoded before.
func (s Shared[T]) encodeOnce(c *codec) (value.Value, error) {
	if s.kept == nil {
		return c.encode(s.content())
	}
	if v := s.kept.encoded.Load(); v != nil {
		return *v, nil
	}
	v, err := c.encode(s.content())
	if err == nil {
		s.kept.encoded.Store(&v)
	}
	return v, err
}

func (s *Shared[T]) receive(content reflect.Value) { *s = Share(content.Interface().(T)) }
