package value

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// NamesMax is how many field names one dictionary gives numbers to. It bounds what documents with ever new
// field names can make it take: further names are written out where they are used.
const NamesMax = 1000

// Names is the dictionary of one table: it numbers the names of the fields that its documents have, from 1 on
// and for ever. Tuples ([AppendTuple]) hold the numbers. Only identifiers of at most IdentifierBytesMax bytes
// get one, as top-level names of documents are.
//
// It grows by the names that are asked for and never shrinks. Whoever stores a tuple has to store the names
// its numbers stand for with it or before it. The zero Names is empty and usable. It is safe for concurrent use.
type Names struct {
	// Grown, when it is not nil, is incremented for each new name, before Number returns it.
	Grown *atomic.Uint64

	mu   sync.Mutex // of who adds a name
	list atomic.Pointer[nameList]
}

// nameList is one state of a dictionary. It never changes, but names may have spare room that the next one uses.
type nameList struct {
	names   []string // number n is names[n-1]
	numbers map[string]uint32
}

var noNames = &nameList{}

func (n *Names) current() *nameList {
	if l := n.list.Load(); l != nil {
		return l
	}
	return noNames
}

// Number returns the number of a name, a new one if need be. It returns 0 for a name that can't have one: it is
// not an identifier, or the dictionary is full.
func (n *Names) Number(name string) uint32 {
	l := n.current()
	if number, ok := l.numbers[name]; ok {
		return number
	}
	if len(l.names) >= NamesMax || !numbered(name) {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l = n.current()
	if number, ok := l.numbers[name]; ok || len(l.names) >= NamesMax {
		return number
	}
	return n.addLocked(l, name)
}

func (n *Names) addLocked(l *nameList, name string) uint32 {
	next := &nameList{names: append(l.names, name), numbers: make(map[string]uint32, len(l.names)+1)}
	for number, known := range next.names {
		next.numbers[known] = uint32(number + 1)
	}
	n.list.Store(next)
	if n.Grown != nil {
		n.Grown.Add(1)
	}
	return uint32(len(next.names))
}

// numbered reports whether a name may have a number.
func numbered(name string) bool {
	return len(name) <= IdentifierBytesMax && identifierFault(name) == ""
}

// Restore adds a name that has been stored. They come in the order of their numbers; anything else is ErrCorrupt.
func (n *Names) Restore(number uint32, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.current()
	_, twice := l.numbers[name]
	if number != uint32(len(l.names))+1 || number > NamesMax || twice || !numbered(name) {
		return fmt.Errorf("%w: field name %q under number %d, after %d others", ErrCorrupt, name, number, len(l.names))
	}
	n.addLocked(l, name)
	return nil
}

// Len returns how many names there are.
func (n *Names) Len() int { return len(n.current().names) }

// Name returns the name of a number from 1 to Len.
func (n *Names) Name(number uint32) string { return n.current().names[number-1] }
