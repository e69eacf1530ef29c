package yjs

import (
	"math"
	"unsafe"
)

// payload is the content of an item: bytes, or a pointer to what the item's
// kind says. It takes two words instead of the five of a slice and an
// interface, and a document is mostly items.
type payload struct {
	p          unsafe.Pointer
	size, room uint32 // length and capacity of bytes; both zero for a pointer
}

// bytesPayload keeps b. What lies between its length and capacity belongs to
// the payload from here on.
func bytesPayload(b []byte) payload {
	if len(b) > math.MaxUint32 {
		panic(broken("content larger than an update can be"))
	}
	return payload{unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)), uint32(min(cap(b), math.MaxUint32))}
}

func (p payload) bytes() []byte {
	if p.p == nil {
		return nil
	}
	return unsafe.Slice((*byte)(p.p), p.room)[:p.size]
}

func branchPayload(b *branch) payload { return payload{p: unsafe.Pointer(b)} }

func formatPayload(f *format) payload { return payload{p: unsafe.Pointer(f)} }

func subdocPayload(s *subdoc) payload { return payload{p: unsafe.Pointer(s)} }

// text is the content of an item that is bytes.
func (it *item) text() []byte { return it.data.bytes() }

// branch is the shared type an item holds, or nil.
func (it *item) branch() *branch {
	if it.kind != kindType {
		return nil
	}
	return (*branch)(it.data.p)
}

// format is the content of a Format item. REQUIRES: the kind is kindFormat.
func (it *item) format() *format { return (*format)(it.data.p) }

// subdoc is the document an item holds, or nil.
func (it *item) subdoc() *subdoc {
	if it.kind != kindDoc {
		return nil
	}
	return (*subdoc)(it.data.p)
}
