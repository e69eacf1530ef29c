package yjs

import (
	"cmp"
	"slices"
)

// EncodeState returns, as a V1 update, what a peer with the given state vector
// is missing: items it does not have, all deletions, and what is pending. With
// a nil state vector it is the whole document.
func (d *Doc) EncodeState(sv StateVector) []byte { return d.encodeState(V1, sv) }

// EncodeStateV2 is EncodeState in the encoding V2.
func (d *Doc) EncodeStateV2(sv StateVector) []byte { return d.encodeState(V2, sv) }

func (d *Doc) encodeState(v Version, sv StateVector) []byte {
	e := &encoder{}
	e.init(v, 0)
	clients := make([]int, len(d.store.clients))
	for i := range clients {
		clients[i] = i
	}
	d.encodeItems(e, func(client int) (uint64, bool) {
		return sv[d.store.clients[client].client], true
	}, clients)
	out, err := e.finish(d.store.deleteSet())
	if err == nil && d.pending != nil {
		out, err = d.pending.mergeInto(out, v, sv)
	}
	if err != nil {
		panic(broken(err.Error()))
	}
	return out
}

// encodeItems writes the items of some clients from a clock on.
func (d *Doc) encodeItems(e *encoder, from func(client int) (uint64, bool), clients []int) {
	s := &d.store
	slices.SortFunc(clients, func(a, b int) int { return cmp.Compare(s.clients[b].client, s.clients[a].client) })
	var b block
	for _, client := range clients {
		c := &s.clients[client]
		clock, ok := from(client)
		if !ok || c.state() <= clock {
			continue
		}
		i := c.index(clock)
		for k, it := range c.items[i:] {
			d.block(it, &b)
			if k == 0 {
				e.write(&b, clock-it.clock())
			} else {
				e.write(&b, 0)
			}
		}
	}
}

// block describes an item as the byte layer sees it.
func (d *Doc) block(it *item, b *block) {
	s := &d.store
	b.client, b.clock, b.length, b.kind = s.clients[it.id.client()].client, it.clock(), uint64(it.length), it.kind
	b.info, b.body, b.json = 0, "", false
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
	if it.hasSub() {
		b.info |= infoSub
		b.sub = it.sub
	}
	if it.origin == noRef && it.rightOrigin == noRef {
		if holder := it.parent.item; holder != nil {
			b.parentKind, b.parent = parentItem, s.id(holder.id)
		} else {
			b.parentKind, b.root = parentRoot, it.parent.name
		}
	}
	it.content(b)
}

// content fills in the content of a block. Its strings share the item.
func (it *item) content(b *block) {
	switch it.kind {
	case kindString:
		b.text = view(it.text())
	case kindAny, kindJSON, kindBinary, kindEmbed:
		b.value = view(it.text())
	case kindFormat:
		f := it.format()
		b.text, b.value = f.key, f.value.bytes()
	case kindType:
		t := it.branch()
		b.typeRef = t.kind
		b.text = t.name
	case kindDoc:
		sub := it.subdoc()
		b.text, b.value = sub.doc.GUID(), sub.options
	}
}
