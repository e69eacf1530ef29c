package yjs

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
)

// Options are the settings of a document. The zero value is a good default for
// a server: nothing is collected and nothing is changed by reading.
type Options struct {
	// ClientID names what this document inserts. It must never be used by two
	// documents at a time, nor again after changes were lost; zero, the
	// default, picks a random one.
	ClientID uint64
	// GUID is the name of the document among others; random when empty.
	GUID string
	// GC forgets the content of what is deleted. Snapshots can't be restored
	// then, and the encoded state must not replace a stored history.
	GC bool
	// CleanFormats removes, after changes from peers, formatting marks that
	// became redundant, as npm yjs does. It makes the document delete things on
	// its own, which a server should not.
	CleanFormats bool
	// Limits bounds the updates Apply takes.
	Limits Limits
	// PendingMax is how many bytes of changes Apply keeps that can't be
	// integrated yet because something is missing; the default is 16 MiB.
	PendingMax int
	// AutoLoad and Meta matter for a document stored inside of another: whether
	// peers should load it at once, and what its options say besides.
	AutoLoad bool
	Meta     any
	// NoPeerGC asks peers not to collect garbage in a document stored inside of
	// another.
	NoPeerGC bool
	// ShouldLoad says that a document stored inside of another is wanted. It is
	// set by Load.
	ShouldLoad bool
}

const pendingMax = 16 << 20

// Doc is a Yjs document: named shared types and the history that made them.
//
// A Doc and everything in it is for one goroutine at a time.
type Doc struct {
	store store
	roots []*branch
	// rootBy finds roots by name once there are many.
	rootBy   map[string]*branch
	clientID uint64
	own      int // index of clientID in the store, -1 until it is needed
	tx       *Transaction
	queue    []*Transaction // committing, or about to
	first    [1]*Transaction
	pending  *pending
	hooks    *hooks
	settings *Options
	subs     *subdocState
	watched  bool // whether a type of the document has ever been observed
	named    bool // by who made it, also if the name is empty
	// markerClock orders the uses of position markers.
	markerClock uint64
}

var defaultOptions = Options{}

// NewDoc returns an empty document. A nil opts means the defaults.
func NewDoc(opts *Options) *Doc {
	d := &Doc{own: -1, settings: &defaultOptions}
	if opts != nil {
		o := *opts
		d.settings = &o
		d.clientID = o.ClientID
	}
	return d
}

// newClientID returns a random client id of the size npm yjs 13 uses.
func newClientID() uint64 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return uint64(binary.LittleEndian.Uint32(b[:]))
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ClientID is the id under which this document inserts.
func (d *Doc) ClientID() uint64 {
	if d.clientID == 0 {
		d.clientID = newClientID()
	}
	return d.clientID
}

// SetClientID changes the id under which this document inserts.
func (d *Doc) SetClientID(id uint64) { d.clientID, d.own = id, -1 }

// GUID is the name of the document.
func (d *Doc) GUID() string {
	if d.settings.GUID == "" && !d.named {
		o := *d.settings
		o.GUID = newGUID()
		d.settings = &o
	}
	return d.settings.GUID
}

func (d *Doc) ownClient() int {
	if d.own < 0 {
		d.own = d.store.intern(d.ClientID())
	}
	return d.own
}

func (d *Doc) findRoot(name string) *branch {
	if d.rootBy != nil {
		return d.rootBy[name]
	}
	for _, b := range d.roots {
		if b.name == name {
			return b
		}
	}
	return nil
}

// root returns a root, making it if there is none of the name.
func (d *Doc) root(name string, kind TypeKind) *branch {
	b := d.findRoot(name)
	if b == nil {
		b = newBranch(kind, name)
		b.doc, b.held = d, true
		d.roots = append(d.roots, b)
		if d.rootBy != nil {
			d.rootBy[name] = b
		} else if len(d.roots) > manyClients {
			d.rootBy = make(map[string]*branch, 2*len(d.roots))
			for _, b := range d.roots {
				d.rootBy[b.name] = b
			}
		}
	}
	if b.kind == kindUntyped {
		b.kind = kind
	}
	return b
}

// dropRoots forgets the roots made last.
func (d *Doc) dropRoots(keep int) {
	for _, b := range d.roots[keep:] {
		delete(d.rootBy, b.name)
	}
	clear(d.roots[keep:])
	d.roots = d.roots[:keep]
}

// Text returns the root text of the name. The wire does not tell what a root
// is: the first kind it is asked for stays, and asking for another gives a view
// of the same content.
func (d *Doc) Text(name string) Text { return Text{d.root(name, KindText)} }

// Array returns the root array of the name.
func (d *Doc) Array(name string) Array { return Array{d.root(name, KindArray)} }

// Map returns the root map of the name.
func (d *Doc) Map(name string) Map { return Map{d.root(name, KindMap)} }

// XMLFragment returns the root XML fragment of the name.
func (d *Doc) XMLFragment(name string) XMLFragment {
	return XMLFragment{d.root(name, KindXMLFragment)}
}

// Roots iterates over the names of the roots and what they hold. A root that
// nobody asked for by kind is shown as what its content looks like.
func (d *Doc) Roots() iter.Seq2[string, Type] {
	return func(yield func(string, Type) bool) {
		for _, b := range slices.Clone(d.roots) {
			if !yield(b.name, b.handle()) {
				return
			}
		}
	}
}

// State returns how much of each client's changes the document has. Changes
// that are pending are not part of it.
func (d *Doc) State() StateVector { return d.store.stateVector() }

// Structs returns the number of structs in which the content of the document
// lies, and what was deleted of it. Each takes about 100 bytes of memory.
func (d *Doc) Structs() (n int) {
	for i := range d.store.clients {
		n += len(d.store.clients[i].items)
	}
	return n
}

// Deleted returns what the document has deleted.
func (d *Doc) Deleted() *DeleteSet { return d.store.deleteSet() }

// Transact runs f and sends what it changes as one update. Changes made
// outside of Transact are a transaction each. A Transact inside of another, or
// of an observer, joins or follows it. What f did before it returned an error
// stays: there is no rollback.
func (d *Doc) Transact(origin any, f func(tx *Transaction) error) error {
	var err error
	d.transact(origin, true, func(tx *Transaction) { err = f(tx) })
	return err
}

// edit runs f in the open transaction or in one of its own.
func (d *Doc) edit(f func(tx *Transaction)) {
	if d.tx != nil {
		f(d.tx)
		return
	}
	d.transact(nil, true, f)
}

func (d *Doc) transact(origin any, local bool, f func(tx *Transaction)) {
	if d.tx != nil {
		f(d.tx)
		return
	}
	tx := &Transaction{doc: d, Origin: origin, Local: local}
	tx.grown, tx.changed = tx.grownRoom[:0], tx.changeRoom[:0]
	d.tx = tx
	if d.queue == nil {
		d.queue = d.first[:0]
	}
	d.queue = append(d.queue, tx)
	defer func() {
		d.tx = nil
		if d.queue[0] == tx {
			d.commitAll()
		}
	}()
	f(tx)
}
