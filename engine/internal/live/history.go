package live

import "sort"

// history remembers the groups published since the oldest run in progress began, so that a run can be told when it
// ends how long its result was valid. It is empty while nothing runs.
type history struct {
	groups  []group // the live ones are groups[head:], by watermark
	head    int
	size    int // keys in the live groups, plus one for each group
	sizeMax int
	lost    Timestamp // the watermark of the newest group that was dropped for sizeMax, 0 for none
}

// group is one published group.
type group struct {
	before Timestamp // the watermark it has replaced
	at     Timestamp
	keys   [][]byte
}

func (h *history) len() int { return len(h.groups) - h.head }

// add appends a group, and drops the oldest ones while they are larger than sizeMax.
func (h *history) add(before, at Timestamp, keys [][]byte) {
	h.groups = append(h.groups, group{before: before, at: at, keys: keys})
	h.size += len(keys) + 1
	for h.size > h.sizeMax {
		h.lost = h.groups[h.head].at
		h.drop()
	}
	h.compact()
}

// lose drops everything, for a group that wrote more than its keys say: no run that began before it is certain of more
// than its snapshot.
func (h *history) lose() {
	for h.len() > 0 {
		h.lost = h.groups[h.head].at
		h.drop()
	}
	h.compact()
}

// trim drops the groups at or below the snapshot of the oldest run in progress.
func (h *history) trim(oldest Timestamp) {
	for h.len() > 0 && h.groups[h.head].at <= oldest {
		h.drop()
	}
	h.compact()
}

func (h *history) drop() {
	h.size -= len(h.groups[h.head].keys) + 1
	h.groups[h.head] = group{}
	h.head++
}

// compact moves the live groups to the front when at least as many have been dropped since that was last done.
func (h *history) compact() {
	if h.head > 32 && h.head >= h.len() {
		n := copy(h.groups, h.groups[h.head:])
		clear(h.groups[n:])
		h.groups, h.head = h.groups[:n], 0
	}
}

// reset drops everything. Nothing runs, so nothing has been lost to anyone either.
func (h *history) reset() {
	clear(h.groups)
	h.groups, h.head, h.size, h.lost = h.groups[:0], 0, 0, 0
	if cap(h.groups) > 1024 {
		h.groups = nil
	}
}

// validThrough returns the last watermark at which a result is valid that was computed at snapshot from: the one before
// the first group that wrote something it has read or that reached wakeAt, open if there is none yet. When groups above
// the snapshot are gone, only the snapshot itself is certain. REQUIRES: reads is normalized.
func (h *history) validThrough(from Timestamp, reads *ReadSet, wakeAt Timestamp) Timestamp {
	if from < h.lost {
		return from
	}
	live := h.groups[h.head:]
	for _, g := range live[sort.Search(len(live), func(i int) bool { return live[i].at > from }):] {
		if wakeAt != 0 && g.at >= wakeAt {
			return g.before
		}
		for _, k := range g.keys {
			if reads.contains(k) {
				return g.before
			}
		}
	}
	return open
}
