package yjs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Apply integrates a V1 update. What depends on changes that have not arrived
// is kept and integrated when they do; see Pending. A malformed update changes
// nothing. When more would have to be kept than PendingMax allows, what fits is
// integrated, the rest is dropped, and the error wraps ErrLimit. The document keeps no reference to the bytes.
func (d *Doc) Apply(update []byte, origin any) error { return d.apply(update, V1, origin) }

// ApplyV2 is Apply for V2.
func (d *Doc) ApplyV2(update []byte, origin any) error { return d.apply(update, V2, origin) }

func (d *Doc) apply(update []byte, v Version, origin any) error {
	dec := &decodedUpdate{doc: d}
	if err := dec.decode(string(update), v, d.settings.Limits); err != nil {
		return fmt.Errorf("apply update: %w", err)
	}
	var err error
	d.transact(origin, false, func(tx *Transaction) {
		tx.Local = false
		err = tx.applyDecoded(dec)
	})
	if err != nil {
		return fmt.Errorf("apply update: %w", err)
	}
	return nil
}

// pending is what arrived before something it depends on.
type pending struct {
	// structs are V2 updates without deletions, the oldest first. Each is more than
	// twice as long as the next, so that what comes is merged into little.
	structs [][]byte
	// waits are units of which one must arrive before any of it fits: of each
	// client the first, in the order of clients.
	waits   []ref
	deleted *DeleteSet
}

// PendingInfo describes what a document has received and can't integrate yet.
type PendingInfo struct {
	// Bytes is the size of the changes that wait for others.
	Bytes int
	// Missing is what they wait for: for each client the first missing clock.
	Missing StateVector
	// Deleted is what has been deleted before it was inserted.
	Deleted *DeleteSet
}

// Pending describes what waits for changes that have not arrived; nil when
// there is nothing. A provider that sees something pending should ask its peer
// for what is missing.
func (d *Doc) Pending() *PendingInfo {
	p := d.pending
	if p == nil {
		return nil
	}
	info := &PendingInfo{Bytes: p.size(), Missing: StateVector{}, Deleted: &DeleteSet{}}
	for _, r := range p.waits {
		client := d.store.clients[r.client()].client
		info.Missing[client] = d.store.state(r.client())
	}
	if p.deleted != nil {
		info.Deleted = p.deleted.Clone()
	}
	return info
}

// mergeInto adds what is pending to an encoded state, so that nothing is lost
// when the document is stored or sent on.
func (p *pending) mergeInto(state []byte, v Version, sv StateVector) ([]byte, error) {
	updates := [][]byte{state}
	c := Codec{Version: v, Limits: Limits{Structs: 1 << 62, Run: clockMax}, FirstWins: true, KeepSplit: true}
	if p.deleted != nil {
		e := newEncoder(v, 0)
		u, err := e.finish(p.deleted)
		if err != nil {
			return nil, err
		}
		updates = append(updates, u)
	}
	if p.structs != nil {
		c2 := c
		c2.Version = V2
		u, err := c2.Diff(p.whole(), sv)
		if err == nil && v == V1 {
			u, err = c2.Convert(u, V1)
		}
		if err != nil {
			return nil, err
		}
		updates = append(updates, u)
	}
	return c.Merge(updates...)
}

// decodedUpdate are the items of an update, made but not integrated.
type decodedUpdate struct {
	doc     *Doc
	clients []incomingClient
	deleted DeleteSet
}

// slabMax bounds how many items are allocated at a time: a count in an update
// is only a claim.
const slabMax = 256

// decode makes the items of an update. When it fails the document is as it
// was, but for having learned the ids of some clients.
func (u *decodedUpdate) decode(update string, v Version, limits Limits) error {
	roots := len(u.doc.roots)
	err := u.decodeItems(update, v, limits)
	if err != nil {
		u.doc.dropRoots(roots)
	}
	return err
}

func (u *decodedUpdate) decodeItems(update string, v Version, limits Limits) error {
	var dec decoder
	dec.init(update, v, limits)
	dec.keepBody = false
	s := &u.doc.store
	var b block
	var slab []item
	var cur *incomingClient
	for dec.next(&b) {
		left := int(min(dec.structs+1, slabMax))
		if cur == nil || s.clients[cur.client].client != b.client {
			if len(s.clients) >= clientsMax-3 {
				return &LimitError{"Clients", uint64(len(s.clients)), clientsMax}
			}
			u.clients = append(u.clients, incomingClient{client: s.intern(b.client), items: make([]incoming, 0, left)})
			cur = &u.clients[len(u.clients)-1]
		}
		in := incoming{id: makeRef(cur.client, b.clock), length: b.length, parent: noRef, at: len(cur.items)}
		if b.kind != kindSkip {
			if len(slab) == cap(slab) {
				slab = make([]item, 0, left)
			}
			slab = append(slab, item{})
			in.it = &slab[len(slab)-1]
			u.fill(&in, &b)
		}
		cur.items = append(cur.items, in)
	}
	_, _, err := dec.finish(&u.deleted)
	return err
}

func (u *decodedUpdate) ref(id ID) ref { return makeRef(u.doc.store.intern(id.Client), id.Clock) }

func (u *decodedUpdate) fill(in *incoming, b *block) {
	it := in.it
	it.id, it.length, it.kind = in.id, uint32(b.length), b.kind
	it.origin, it.rightOrigin = noRef, noRef
	if b.kind == kindGC {
		it.flags = flagDeleted
		return
	}
	if b.info&infoOrigin != 0 {
		it.origin = u.ref(b.origin)
	}
	if b.info&infoRight != 0 {
		it.rightOrigin = u.ref(b.right)
	}
	switch b.parentKind {
	case parentRoot:
		it.parent = u.doc.root(b.root, kindUntyped)
	case parentItem:
		in.parent = u.ref(b.parent)
	}
	if b.info&infoSub != 0 {
		it.sub = b.sub
		it.flags |= flagSub
	}
	switch b.kind {
	case kindString:
		it.data = bytesPayload(frozen(b.text))
	case kindAny, kindJSON, kindBinary:
		it.data = bytesPayload(frozen(b.value))
	case kindEmbed:
		raw, _ := b.anyValue() // checked by the decoder
		it.data = bytesPayload(frozen(raw))
	case kindFormat:
		raw, _ := b.anyValue()
		it.data = formatPayload(&format{key: b.text, value: newAttr(raw)})
	case kindType:
		it.data = branchPayload(newBranch(b.typeRef, b.text))
	case kindDoc:
		it.data = subdocPayload(newSubdoc(b.text, b.value))
	}
}

// applyDecoded integrates an update and then, as long as that lets anything
// in, what was pending.
func (tx *Transaction) applyDecoded(dec *decodedUpdate) error {
	d := tx.doc
	rest := tx.integrateAll(dec.clients)
	deleted := &dec.deleted
	if d.pending != nil && d.pending.deleted != nil {
		deleted = deleted.Clone()
		deleted.Merge(d.pending.deleted)
		deleted.normalize()
	}
	tooMuch := tx.keepPending(rest)
	for d.pending != nil && d.pending.awake(d) {
		p := d.pending
		again := &decodedUpdate{doc: d}
		if err := again.decode(string(p.whole()), V2, Limits{Structs: 1 << 62, Run: clockMax}); err != nil {
			panic(broken(err.Error()))
		}
		p.structs, p.waits = nil, nil
		tooMuch = errors.Join(tooMuch, tx.keepPending(tx.integrateAll(again.clients)))
	}
	left := tx.applyDeletes(deleted)
	if p := d.pending; p != nil {
		p.deleted = left
		if p.structs == nil && left == nil {
			d.pending = nil
		}
	} else if left != nil {
		d.pending = &pending{deleted: left}
	}
	return tooMuch
}

func (p *pending) awake(d *Doc) bool {
	for _, r := range p.waits {
		if d.store.has(r) {
			return true
		}
	}
	return false
}

// integrateAll integrates what it can and returns the rest. Parking one client
// may leave others behind whose turn came too early, so it goes on until
// nothing moves.
func (tx *Transaction) integrateAll(clients []incomingClient) []incomingClient {
	s := &tx.doc.store
	for len(clients) > 0 {
		slices.SortFunc(clients, func(a, b incomingClient) int {
			return cmp.Compare(s.clients[a.client].client, s.clients[b.client].client)
		})
		u := &incomingUpdate{tx: tx, clients: clients}
		if len(clients) > manyClients {
			u.byIndex = make(map[int]int, len(clients))
			for i := range clients {
				u.byIndex[clients[i].client] = i
			}
		}
		for i := range clients {
			c := &s.clients[clients[i].client]
			c.items = slices.Grow(c.items, len(clients[i].items)-clients[i].next)
		}
		u.run()
		if !u.took {
			return u.rest
		}
		for i := range u.rest {
			for k := range u.rest[i].items {
				u.rest[i].items[k].at = k
			}
		}
		clients = u.rest
	}
	return nil
}

// keepPending stores what could not be integrated.
func (tx *Transaction) keepPending(rest []incomingClient) error {
	d := tx.doc
	if len(rest) == 0 {
		return nil
	}
	update := tx.encodeIncoming(rest)
	if d.pending == nil {
		d.pending = &pending{}
	}
	p := d.pending
	limit := d.settings.PendingMax
	if limit == 0 {
		limit = pendingMax
	}
	if size := p.size() + len(update); size > limit {
		// Parts of it may be there already.
		if whole := len(mergePending(p.whole(), update)); whole > limit {
			return &LimitError{"PendingMax", uint64(whole), uint64(limit)}
		}
	}
	p.structs = append(p.structs, update)
	p.settle(2)
	for _, r := range tx.waits(rest) {
		i, _ := slices.BinarySearchFunc(p.waits, r, func(have, r ref) int { return cmp.Compare(have.client(), r.client()) })
		if i == len(p.waits) || p.waits[i].client() != r.client() {
			p.waits = slices.Insert(p.waits, i, r)
		} else {
			p.waits[i] = min(p.waits[i], r)
		}
	}
	return nil
}

// size is about the number of bytes that are pending.
func (p *pending) size() (n int) {
	for _, u := range p.structs {
		n += len(u)
	}
	return n
}

// whole merges all that is pending into one update, nil for nothing.
func (p *pending) whole() []byte {
	p.settle(0)
	if len(p.structs) == 0 {
		return nil
	}
	return p.structs[0]
}

// settle merges the newest updates until each is more than factor times as long
// as the next, or with 0 until there is only one.
func (p *pending) settle(factor int) {
	for n := len(p.structs); n > 1 && (factor == 0 || len(p.structs[n-2]) <= factor*len(p.structs[n-1])); n-- {
		p.structs[n-2] = mergePending(p.structs[n-2], p.structs[n-1])
		p.structs[n-1] = nil
		p.structs = p.structs[:n-1]
	}
}

func mergePending(updates ...[]byte) []byte {
	if updates[0] == nil {
		return updates[1]
	}
	merged, err := Codec{Version: V2, Limits: Limits{Structs: 1 << 62, Run: clockMax}, KeepSplit: true}.Merge(updates...)
	if err != nil {
		panic(broken(err.Error()))
	}
	return merged
}

// waits returns, for each parked client, a unit that must be there before its
// first item can be integrated.
func (tx *Transaction) waits(rest []incomingClient) []ref {
	s := &tx.doc.store
	u := &incomingUpdate{tx: tx}
	var out []ref
	for _, c := range rest {
		head := c.items[0]
		for _, in := range c.items {
			if in.it != nil {
				head = in
				break
			}
		}
		if head.id.clock() > s.state(c.client) {
			out = append(out, head.id-1)
			continue
		}
		if m := u.missing(&head); m >= 0 {
			for _, r := range [...]ref{head.it.origin, head.it.rightOrigin, head.parent} {
				if r != noRef && r.client() == m && !s.has(r) {
					out = append(out, r)
					break
				}
			}
		}
	}
	return out
}

// encodeIncoming writes parked items as a V2 update.
func (tx *Transaction) encodeIncoming(rest []incomingClient) []byte {
	d := tx.doc
	slices.SortFunc(rest, func(a, b incomingClient) int {
		return cmp.Compare(d.store.clients[b.client].client, d.store.clients[a.client].client)
	})
	e := newEncoder(V2, 0)
	var b block
	for _, c := range rest {
		for i, in := range c.items {
			if in.it == nil {
				if i > 0 && i < len(c.items)-1 {
					e.write(&block{client: d.store.clients[c.client].client, clock: in.id.clock(), length: in.length, kind: kindSkip}, 0)
				}
				continue
			}
			d.incomingBlock(&in, &b)
			e.write(&b, 0)
		}
	}
	out, err := e.finish(&DeleteSet{})
	if err != nil {
		panic(broken(err.Error()))
	}
	return out
}

func (d *Doc) incomingBlock(in *incoming, b *block) {
	it, s := in.it, &d.store
	*b = block{client: s.clients[it.id.client()].client, clock: it.clock(), length: uint64(it.length), kind: it.kind}
	if it.isGC() {
		return
	}
	if it.origin != noRef {
		b.info |= infoOrigin
		b.origin = s.id(it.origin)
	}
	if it.rightOrigin != noRef {
		b.info |= infoRight
		b.right = s.id(it.rightOrigin)
	}
	if b.info == 0 {
		if it.hasSub() {
			b.info |= infoSub
			b.sub = it.sub
		}
		if in.parent != noRef {
			b.parentKind, b.parent = parentItem, s.id(in.parent)
		} else {
			b.parentKind, b.root = parentRoot, it.parent.name
		}
	}
	it.content(b)
}

// applyDeletes deletes what is there of a set and returns the rest.
func (tx *Transaction) applyDeletes(ds *DeleteSet) *DeleteSet {
	s := &tx.doc.store
	var left *DeleteSet
	keep := func(client, clock, n uint64) {
		if left == nil {
			left = &DeleteSet{}
		}
		left.Add(client, clock, n)
	}
	for _, dc := range ds.clients {
		client := s.lookup(dc.client)
		state := uint64(0)
		if client >= 0 {
			state = s.state(client)
		}
		within := dc.ranges
		if len(within) > manyRanges {
			tx.deleteRanges(client, within, state)
			i, _ := findRange(within, state)
			within = within[i:]
			if len(within) > 0 && within[0].Clock < state {
				keep(dc.client, state, within[0].End()-state)
				within = within[1:]
			}
		}
		for _, r := range within {
			if r.Clock >= state {
				keep(dc.client, r.Clock, r.Len)
				continue
			}
			end := r.End()
			if end > state {
				keep(dc.client, state, end-state)
				end = state
			}
			tx.deleteRange(client, r.Clock, end)
		}
	}
	return left
}

// deleteRanges deletes many ranges of a client, going through its items once:
// every split would move all items behind it otherwise.
func (tx *Transaction) deleteRanges(client int, ranges []Range, state uint64) {
	if client < 0 || len(ranges) == 0 || ranges[0].Clock >= state {
		return
	}
	c := &tx.doc.store.clients[client]
	first := c.index(ranges[0].Clock)
	out := make([]*item, 0, len(c.items)-first+len(ranges))
	var gone []*item
	k := 0
	for _, it := range c.items[first:] {
		for it != nil {
			for k < len(ranges) && ranges[k].End() <= it.clock() {
				k++
			}
			if k == len(ranges) || it.deleted() || ranges[k].Clock >= it.end() {
				out = append(out, it)
				break
			}
			r := ranges[k]
			var rest *item
			switch {
			case r.Clock > it.clock():
				rest = tx.split(it, r.Clock-it.clock())
			case r.End() < it.end():
				rest = tx.split(it, r.End()-it.clock())
				gone = append(gone, it)
			default:
				gone = append(gone, it)
			}
			out = append(out, it)
			it = rest
		}
	}
	c.items = append(c.items[:first], out...)
	// Only now, when the sequence is whole again.
	for _, it := range gone {
		tx.delete(it)
	}
}

func (tx *Transaction) deleteRange(client int, clock, end uint64) {
	s := &tx.doc.store
	i := s.clients[client].index(clock)
	if it := s.clients[client].items[i]; !it.deleted() {
		i = tx.cleanIndex(client, i, clock)
	}
	for ; i < len(s.clients[client].items); i++ {
		it := s.clients[client].items[i]
		if it.clock() >= end {
			return
		}
		if it.deleted() {
			continue
		}
		if end < it.end() {
			tx.cleanIndex(client, i, end)
		}
		tx.delete(it)
	}
}
