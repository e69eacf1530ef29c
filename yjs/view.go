package yjs

import "unsafe"

// view returns a string that shares the bytes of b. The byte layer reads its
// input through it and keeps no part of it: what it returns is copied. A
// document that keeps parts of its input copies the input first.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// frozen returns bytes that share s. They must never be written; their
// capacity equals their length, so that append copies them.
func frozen(s string) []byte {
	if s == "" {
		return nil
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
