package yjs

import "github.com/halcyon-db/halcyon/yjs/internal/lib0"

// Values of shared types are Go values: nil is null, numbers are read as
// float64 and written from every integer and float type, and strings, bool,
// []byte, []any, Object and map[string]any are what they look like. Undefined
// and BigInt stand for the JavaScript values without a Go counterpart. A shared
// type or a *Doc can be stored wherever a value can, except inside of another
// value.

// Undefined is JavaScript's undefined, which Yjs keeps apart from null. In JSON
// it is dropped from objects and null in arrays.
type Undefined = lib0.Undefined

// BigInt is a JavaScript BigInt of at most 64 bits. In JSON it is a string of
// digits.
type BigInt = lib0.BigInt

// Object is a JavaScript object: its members in order. Objects are read as
// this type; a map[string]any is written with its keys sorted.
type Object = lib0.Object

// Member is one entry of an Object.
type Member = lib0.Member
