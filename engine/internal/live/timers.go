package live

// timer is one entry of a timers heap; it lies in the thing it belongs to.
type timer[T any] struct {
	at  Timestamp
	of  *T
	pos int // its place in the heap plus one, 0 while it is in none
}

func (t *timer[T]) set() bool { return t.pos != 0 }

// timers is a heap of timers, the earliest first. The zero value is empty.
type timers[T any] struct{ heap []*timer[T] }

func (h *timers[T]) len() int { return len(h.heap) }

// next returns the earliest time.
func (h *timers[T]) next() (Timestamp, bool) {
	if len(h.heap) == 0 {
		return 0, false
	}
	return h.heap[0].at, true
}

// due returns the earliest timer if it is at or before now, and leaves it in.
func (h *timers[T]) due(now Timestamp) *timer[T] {
	if len(h.heap) == 0 || h.heap[0].at > now {
		return nil
	}
	return h.heap[0]
}

// add puts t in. REQUIRES: t is in no heap.
func (h *timers[T]) add(t *timer[T], at Timestamp) {
	t.at = at
	h.heap = append(h.heap, t)
	h.up(len(h.heap) - 1)
}

// remove takes t out if it is in.
func (h *timers[T]) remove(t *timer[T]) {
	if t.pos == 0 {
		return
	}
	i, last := t.pos-1, len(h.heap)-1
	moved := h.heap[last]
	h.heap[last] = nil
	h.heap = h.heap[:last]
	if i < last {
		h.place(moved, i)
		h.down(i)
		h.up(moved.pos - 1)
	}
	t.pos = 0
}

func (h *timers[T]) place(t *timer[T], i int) {
	h.heap[i] = t
	t.pos = i + 1
}

func (h *timers[T]) up(i int) {
	t := h.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if h.heap[parent].at <= t.at {
			break
		}
		h.place(h.heap[parent], i)
		i = parent
	}
	h.place(t, i)
}

func (h *timers[T]) down(i int) {
	t := h.heap[i]
	for {
		child := 2*i + 1
		if child >= len(h.heap) {
			break
		}
		if right := child + 1; right < len(h.heap) && h.heap[right].at < h.heap[child].at {
			child = right
		}
		if t.at <= h.heap[child].at {
			break
		}
		h.place(h.heap[child], i)
		i = child
	}
	h.place(t, i)
}
