package room

import (
	"context"
	"time"

	"github.com/halcyon-db/halcyon/yjs"
)

// pulse tells clients what has happened, at most once a tick, and does what time asks for. There is one while there are clients.
func (h *Hub) pulse(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	rest := time.NewTimer(time.Hour)
	defer rest.Stop()
	var b beat
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			h.sweep(ctx)
			continue
		case <-h.wake:
		}
		began := time.Now()
		for h.take(&b) {
			h.beat(&b)
		}
		b = beat{}
		// As long as telling everybody takes, so long is the next tick: with very many clients fewer messages say more.
		rest.Reset(max(h.opts.Tick, time.Since(began)))
		select {
		case <-ctx.Done():
			return
		case <-rest.C:
		}
	}
}

// beat is what is told about one document at one tick, and to whom.
type beat struct {
	document string
	news     []news
	stirred  []byte // awareness update; nil for none
	to       []*channel
}

// take moves what is to be told about the next document into b. It reports false when there is none.
func (h *Hub) take(b *beat) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.mu.due) == 0 {
		return false
	}
	r := h.mu.due[0]
	if h.mu.due = h.mu.due[1:]; len(h.mu.due) == 0 {
		h.mu.due = nil
	}
	r.due = false
	*b = beat{document: r.document, news: r.news, to: append(b.to[:0], r.channels...)}
	r.news = nil
	if len(r.stirred) > 0 {
		b.stirred = r.tell(r.stirred)
		r.stirred = nil
	}
	return true
}

// beat tells the clients of a document what has happened.
func (h *Hub) beat(b *beat) {
	var m message
	if len(b.news) > 0 {
		m.at = b.news[len(b.news)-1].At
		m.author = b.news[0].author
		updates := make([][]byte, 0, len(b.news))
		for _, n := range b.news {
			updates = append(updates, n.Update)
			if n.author != m.author {
				m.author = nil
			}
		}
		m.update = updates[0]
		if len(updates) > 1 {
			merged, err := yjs.MergeUpdates(updates...)
			if err != nil {
				// What the store has can't be read. Those who come anew find out what is wrong with it.
				h.logger.Error("changes of a document can't be merged", "document", b.document, "error", err)
				for _, ch := range b.to {
					ch.expel(CloseReset, ReasonUnexpected)
				}
				return
			}
			m.update = merged
		}
	}
	m.awareness = b.stirred
	var wrap wrapping
	for _, ch := range b.to {
		h.deliver(ch, &m, &wrap)
	}
}

// message is what the clients of a document are told at a beat.
type message struct {
	update    []byte // V1; nil for none
	at        Position
	author    *channel // of all of update; nil for none or several
	awareness []byte   // nil for none
}

// deliver sends a message to a channel, or notes that it is owed it.
func (h *Hub) deliver(ch *channel, m *message, wrap *wrapping) {
	h.mu.Lock()
	if !ch.joined {
		h.mu.Unlock()
		return
	}
	if ch.client.lagging {
		ch.behind = true
		h.mu.Unlock()
		return
	}
	update, before := m.update, ch.from
	switch {
	case ch.phase == fresh:
		// It asks for the whole document when it begins, but for nobody's state: it was given those with its access, and is told what changes from
		// then on.
		update = nil
	case update == nil || m.at <= ch.from:
		update = nil
	case ch.phase == loading:
		ch.held = append(ch.held, held{update, m.at})
		update = nil
	default:
		ch.from = m.at
		if ch == m.author {
			update = nil
		}
	}
	h.mu.Unlock()
	if update != nil && !h.try(ch, wrap.update(ch, update), before) {
		return
	}
	if m.awareness != nil {
		h.try(ch, wrap.awareness(ch, m.awareness), max(before, m.at))
	}
}

// sweep does what time asks for: it ends awareness states that were not renewed, gives quiet clients a sign of life, and asks again what
// clients may do.
func (h *Hub) sweep(ctx context.Context) {
	now := time.Now()
	var quiet []*client
	var recheck []*roster
	h.mu.Lock()
	for _, r := range h.mu.rosters {
		if r.expire(h, now) {
			h.wakeLocked(r)
		}
		if now.Sub(r.checked) >= h.opts.Recheck {
			r.checked = now
			recheck = append(recheck, r)
		}
	}
	for c := range h.mu.clients {
		if !c.lagging && now.UnixNano()-c.sentAt.Load() >= int64(silentMax-sweepEvery) && len(c.channels) > 0 {
			quiet = append(quiet, c)
		}
	}
	h.mu.Unlock()
	for _, c := range quiet {
		c.signOfLife()
	}
	if len(recheck) > 0 && h.rechecking.CompareAndSwap(false, true) {
		h.begin(func() {
			defer h.rechecking.Store(false)
			for _, r := range recheck {
				h.recheck(ctx, r)
			}
		})
	}
}
