// Package value owns document values: their types, their order, their encodings and the ids of documents.
//
// A [Value] is one immutable datum of Convex's model: null, a 64-bit integer, a 64-bit float, a boolean, a
// string, bytes, an array or an object. The zero Value is undefined: the absence of a value, which sorts
// below everything else and is what a missing field reads as.
//
// There is one total order over all values, [Compare]: first by kind in the order of the Kind constants,
// then within the kind. Integers and floats are different kinds and never compare by number; floats follow
// the total order of IEEE 754, so -0 sorts before +0 and every NaN has a place.
//
// A value has four encodings:
//
//   - [AppendOrdered] is the key encoding: comparing encodings bytewise compares the values. It is final.
//   - [AppendBinary] is the record encoding, compact. It is version 1; the caller stores the version.
//   - [AppendTuple] is the form of it that rows have: an object whose field names are numbers in a
//     dictionary, [Names]. [DecodeTuple] makes an object of it that stays encoded and decodes a field when it
//     is asked for.
//   - [AppendJSON] is the wire form of the Convex clients ($integer, $float, $bytes), and [AppendCleanJSON]
//     the lossy form of its HTTP API. [ParseJSON] reads the wire form.
//
// The first three and the id form are specified byte by byte in docs/format/values.md and docs/format/ids.md.
//
// # Lifetimes
//
// A Value is 24 bytes and may be copied and shared between goroutines freely. Scalars hold no pointer.
// Constructors that say so take ownership of the slice they are given; accessors return slices that share
// memory with the value and must not be modified. Decoders copy what they keep, so the input may be reused
// (DecodeTuple keeps it instead);
// the strings of one decoded value share one allocation, which lives as long as any of them.
//
// Strings and field names are always valid UTF-8: the constructors replace invalid bytes with U+FFFD and the
// decoders refuse them.
//
// Two values must be compared with [Equal] or [Compare]; the operator == does not compile on them, and
// reflect.DeepEqual compares addresses.
package value
