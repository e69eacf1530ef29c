package yjs

// brokenInvariant is what this package panics with when its own bookkeeping is
// wrong; no input should be able to cause it.
type brokenInvariant string

func (b brokenInvariant) Error() string { return "yjs: broken invariant: " + string(b) }

func broken(what string) brokenInvariant { return brokenInvariant(what) }
