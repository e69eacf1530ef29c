package yjs

import "slices"

// A marker remembers the index of an item, so that a position near it need not
// be counted from the start. Which markers exist decides next to which of
// several deleted items something is inserted; npm yjs makes the same choice
// only if the markers are kept exactly as it keeps them. Reading an element of
// an array by index moves markers too.
type marker struct {
	item  *item
	index int
	used  uint64
}

const markersMax = 80

func (b *branch) useMarker(m *marker, it *item, index int) {
	m.item.flags &^= flagMarked
	m.item, m.index = it, index
	it.flags |= flagMarked
	b.touchMarker(m)
}

func (b *branch) touchMarker(m *marker) {
	b.doc.markerClock++
	m.used = b.doc.markerClock
}

func (b *branch) addMarker(it *item, index int) *marker {
	if len(b.markers) >= markersMax {
		oldest := b.markers[0]
		for _, m := range b.markers[1:] {
			if m.used < oldest.used {
				oldest = m
			}
		}
		b.useMarker(oldest, it, index)
		return oldest
	}
	m := &marker{item: it, index: index}
	it.flags |= flagMarked
	b.touchMarker(m)
	b.markers = append(b.markers, m)
	return m
}

func abs(n int) int { return max(n, -n) }

// findMarker returns a marker at or close before the index, or nil where there
// is no use for one.
func (b *branch) findMarker(index int) *marker {
	if b.start == nil || index == 0 || !b.cached() {
		return nil
	}
	var near *marker
	for _, m := range b.markers {
		if near == nil || abs(index-m.index) <= abs(index-near.index) {
			near = m
		}
	}
	it, at := b.start, 0
	if near != nil {
		it, at = near.item, near.index
		b.touchMarker(near)
	}
	for it.right != nil && at < index {
		if it.visible() {
			if index < at+int(it.length) {
				break
			}
			at += int(it.length)
		}
		it = it.right
	}
	for it.left != nil && at > index {
		it = it.left
		if it.visible() {
			at -= int(it.length)
		}
	}
	// An item that may be joined with its left neighbour is no good place.
	for it.left != nil && it.left.id+ref(it.left.length) == it.id {
		it = it.left
		if it.visible() {
			at -= int(it.length)
		}
	}
	if near != nil && abs(near.index-at)*markersMax < b.size {
		b.useMarker(near, it, at)
		return near
	}
	return b.addMarker(it, at)
}

// moveMarkers follows an insertion (n > 0) or a deletion at an index.
func (b *branch) moveMarkers(index, n int) {
	for i := len(b.markers) - 1; i >= 0; i-- {
		m := b.markers[i]
		if n > 0 {
			it := m.item
			it.flags &^= flagMarked
			for it != nil && !it.visible() {
				it = it.left
				if it != nil && it.visible() {
					m.index -= int(it.length)
				}
			}
			if it == nil || it.flags&flagMarked != 0 {
				b.markers = slices.Delete(b.markers, i, i+1)
				continue
			}
			m.item = it
			it.flags |= flagMarked
		}
		if index < m.index || n > 0 && index == m.index {
			m.index = max(index, m.index+n)
		}
	}
}

func (b *branch) dropMarkers() {
	// The marks on the items stay, as they do in npm yjs.
	clear(b.markers)
	b.markers = b.markers[:0]
}
