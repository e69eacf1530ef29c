package yjs

import (
	"fmt"
	"slices"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// subdoc is the content of an item that holds a document: only its name and
// options, its content travels apart.
type subdoc struct {
	doc     *Doc
	options string // in the any format, as they are on the wire
}

// subdocState is what a document knows as part of another or as the holder of
// others.
type subdocState struct {
	held   bool
	item   *item // what holds it
	parent *Doc
	subs   []*Doc
	ever   int // documents that were within, removed ones included
	// added and removed are the transactions that last did that to it; at is
	// its place in the list of the first.
	added, removed *Transaction
	at             int
}

// SubdocsEvent says which documents within a document a transaction added and
// removed, and which are now wanted.
type SubdocsEvent struct {
	Added, Removed, Loaded []*Doc
	Transaction            *Transaction
}

// OnSubdocs calls f after each transaction that changed the documents within.
func (d *Doc) OnSubdocs(f func(SubdocsEvent)) (cancel func()) { return d.hook().subdocs.add(f) }

// Subdocs returns the documents within, in the order they were added.
func (d *Doc) Subdocs() []*Doc {
	if d.subs == nil {
		return nil
	}
	return slices.Clone(d.subs.subs)
}

// Holder returns the document that holds this one, or nil.
func (d *Doc) Holder() *Doc {
	if d.subs == nil {
		return nil
	}
	return d.subs.parent
}

// Options returns the settings of the document.
func (d *Doc) Options() Options { return *d.settings }

// SubdocStructs returns how many documents within the history of the document
// holds, those that were removed included. Each takes about a kilobyte of memory.
func (d *Doc) SubdocStructs() int {
	if d.subs == nil {
		return 0
	}
	return d.subs.ever
}

func (d *Doc) subState() *subdocState {
	if d.subs == nil {
		d.subs = &subdocState{}
	}
	return d.subs
}

func (d *Doc) change(f func(*Options)) {
	o := *d.settings
	f(&o)
	d.settings = &o
}

// asSubdoc returns the document as content of another.
func (d *Doc) asSubdoc() (*subdoc, error) {
	var o Object
	if d.settings.NoPeerGC {
		o = append(o, Member{Key: "gc", Value: false})
	}
	if d.settings.AutoLoad {
		o = append(o, Member{Key: "autoLoad", Value: true})
	}
	if d.settings.Meta != nil {
		o = append(o, Member{Key: "meta", Value: d.settings.Meta})
	}
	raw, err := lib0.AppendAny(nil, o)
	if err != nil {
		return nil, fmt.Errorf("options of a document: %w", err)
	}
	return &subdoc{doc: d, options: string(raw)}, nil
}

// newSubdoc makes the document an item of an update holds. The options have
// been checked to be an object.
func newSubdoc(guid, options string) *subdoc {
	r := lib0.NewReader(options)
	o, _ := r.ReadAny().(Object)
	var opts Options
	opts.GUID = guid
	if v, ok := o.Get("gc"); ok {
		opts.NoPeerGC = v == false
	}
	if v, ok := o.Get("autoLoad"); ok {
		opts.AutoLoad = v == true
	}
	opts.Meta, _ = o.Get("meta")
	if v, ok := o.Get("shouldLoad"); ok {
		opts.ShouldLoad = v == true
	}
	opts.ShouldLoad = opts.ShouldLoad || opts.AutoLoad
	d := NewDoc(&opts)
	d.named = true
	d.subState().held = true
	return &subdoc{doc: d, options: options}
}

func (tx *Transaction) subdocInserted(it *item) {
	d := it.subdoc().doc
	s := d.subState()
	s.item, s.parent = it, tx.doc
	tx.doc.subState().ever++
	tx.addSubdoc(d)
	if d.settings.ShouldLoad {
		tx.subdocsLoaded = append(tx.subdocsLoaded, d)
	}
}

func (tx *Transaction) subdocDeleted(d *Doc) {
	if s := d.subState(); s.added == tx {
		tx.subdocsAdded[s.at] = nil
		s.added = nil
		return
	}
	tx.removeSubdoc(d)
}

func (tx *Transaction) addSubdoc(d *Doc) {
	s := d.subState()
	s.added, s.at = tx, len(tx.subdocsAdded)
	tx.subdocsAdded = append(tx.subdocsAdded, d)
}

func (tx *Transaction) removeSubdoc(d *Doc) {
	if s := d.subState(); s.removed != tx {
		s.removed = tx
		tx.subdocsRemoved = append(tx.subdocsRemoved, d)
	}
}

func (tx *Transaction) commitSubdocs() {
	if len(tx.subdocsAdded)+len(tx.subdocsRemoved)+len(tx.subdocsLoaded) == 0 {
		return
	}
	tx.subdocsAdded = slices.DeleteFunc(tx.subdocsAdded, func(d *Doc) bool { return d == nil })
	d := tx.doc
	s := d.subState()
	for _, sub := range tx.subdocsAdded {
		sub.SetClientID(d.ClientID())
		sub.change(func(o *Options) {
			o.GC = d.settings.GC && !o.NoPeerGC
			o.CleanFormats, o.Limits, o.PendingMax = d.settings.CleanFormats, d.settings.Limits, d.settings.PendingMax
		})
		sub.subs.added = nil
		s.subs = append(s.subs, sub)
	}
	if len(tx.subdocsRemoved) > 0 {
		s.subs = slices.DeleteFunc(s.subs, func(x *Doc) bool { return x.subState().removed == tx })
	}
	for _, sub := range tx.subdocsRemoved {
		sub.subState().removed = nil
	}
	if d.hooks != nil && !d.hooks.subdocs.empty() {
		d.hooks.subdocs.call(SubdocsEvent{tx.subdocsAdded, tx.subdocsRemoved, tx.subdocsLoaded, tx})
	}
	for _, sub := range tx.subdocsRemoved {
		sub.Destroy()
	}
}

// Load says that a document within another is wanted: the holder's OnSubdocs
// callbacks are told once.
func (d *Doc) Load() {
	if s := d.subs; s != nil && s.item != nil && !d.settings.ShouldLoad {
		s.parent.edit(func(tx *Transaction) { tx.subdocsLoaded = append(tx.subdocsLoaded, d) })
	}
	d.change(func(o *Options) { o.ShouldLoad = true })
}

// Destroy ends the use of a document. One within another is replaced there by
// an unloaded document of the same name.
func (d *Doc) Destroy() {
	if s := d.subs; s != nil {
		for _, sub := range slices.Clone(s.subs) {
			sub.Destroy()
		}
		if it := s.item; it != nil {
			parent := s.parent
			s.item, s.parent = nil, nil
			d.replaceWithin(parent, it)
		}
	}
	if d.hooks != nil {
		d.hooks.destroy.call(d)
		d.hooks = nil
	}
}

func (d *Doc) replaceWithin(parent *Doc, it *item) {
	c := it.subdoc()
	if c == nil || it.deleted() {
		return
	}
	fresh := newSubdoc(d.GUID(), c.options)
	fresh.doc.change(func(o *Options) { o.ShouldLoad = false })
	s := fresh.doc.subState()
	s.item, s.parent = it, parent
	c.doc = fresh.doc
	parent.edit(func(tx *Transaction) {
		tx.addSubdoc(fresh.doc)
		tx.removeSubdoc(d)
	})
}
