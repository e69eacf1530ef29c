// Package keys builds the keys under which the engine stores everything and
// the ranges of keys that reads and subscriptions are about.
//
// Every key starts with one prefix byte that names what it holds, followed by
// big-endian identifiers, so that bytes.Compare orders keys the way the engine
// scans them. The layout is final on disk; docs/format/keys.md has it byte by
// byte and golden tests keep it.
//
// The package is a leaf: it knows bytes, not documents. Values inside index
// keys are encoded by package value before they come here.
package keys
