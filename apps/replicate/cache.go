package replicate

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// docCache keeps documents that were written lately, by the version of their content. Since the version says what the content is, it does
// not matter whether the execution that put a document there ever committed: one that did not is never asked for.
//
// A document is in the hands of one execution at a time: take removes it. When the cache is full the documents that were used longest ago go, and
// those that nobody writes go after some seconds.
type docCache struct {
	bytesMax int

	mu struct {
		sync.Mutex
		byVersion map[string]*list.Element // of *cachedDoc
		order     list.List                // the newest first
		bytes     int
	}
}

type cachedDoc struct {
	version string
	doc     *yjs.Doc
	bytes   int
	used    time.Time
}

// take returns the document of a version, for its caller alone; nil when it is not there.
func (c *docCache) take(version []byte) *yjs.Doc {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.mu.byVersion[string(version)]
	if e == nil {
		return nil
	}
	return c.removeLocked(e).doc
}

// put hands a document over. Of its size only an estimate is known, from the size of its updates and the units in them: a note of 200,000
// characters takes 3 MB, a task with 500 changes of a field 80 KB. Where few bytes make many structs, these are what takes memory.
func (c *docCache) put(version []byte, doc *yjs.Doc, stored int) {
	units := uint64(0)
	for _, clock := range doc.State() {
		units += clock
	}
	e := &cachedDoc{version: string(version), doc: doc, bytes: 4096 + max(3*stored+12*int(units), 100*doc.Structs()) + 1000*doc.SubdocStructs(), used: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.byVersion == nil {
		c.mu.byVersion = map[string]*list.Element{}
	}
	if old := c.mu.byVersion[e.version]; old != nil {
		c.removeLocked(old)
	}
	c.mu.byVersion[e.version] = c.mu.order.PushFront(e)
	c.mu.bytes += e.bytes
	for c.mu.bytes > c.bytesMax {
		c.removeLocked(c.mu.order.Back())
	}
}

// cacheIdle is how long a document that nobody writes is kept.
const cacheIdle = 10 * time.Second

// age removes documents that were not used for a while, until the context ends.
func (c *docCache) age(ctx context.Context, _ *halcyon.App) error {
	tick := time.NewTicker(cacheIdle / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			c.drop(now.Add(-cacheIdle))
		}
	}
}

// drop removes what was last used before a moment.
func (c *docCache) drop(before time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.mu.order.Back(); e != nil && e.Value.(*cachedDoc).used.Before(before); e = c.mu.order.Back() {
		c.removeLocked(e)
	}
}

// headIDsMax is how many documents are known by the ids of their heads: about 100 bytes each.
const headIDsMax = 16_384

// headIDs remembers in which row the head of a document is, for those that were asked for lately: to get a row is cheaper than to look in an
// index. What it says need not be so any more, or not be so yet; the row tells.
type headIDs struct {
	mu struct {
		sync.Mutex
		ids map[string]halcyon.ID[head]
	}
}

// get returns the id that was remembered for a document, or "".
func (c *headIDs) get(document string) halcyon.ID[head] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.ids[document]
}

// put remembers an id, and forgets any other when there are too many.
func (c *headIDs) put(document string, id halcyon.ID[head]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ids == nil {
		c.mu.ids = map[string]halcyon.ID[head]{}
	}
	if len(c.mu.ids) >= headIDsMax {
		for other := range c.mu.ids {
			delete(c.mu.ids, other)
			break
		}
	}
	c.mu.ids[document] = id
}

func (c *docCache) removeLocked(e *list.Element) *cachedDoc {
	d := c.mu.order.Remove(e).(*cachedDoc)
	delete(c.mu.byVersion, d.version)
	c.mu.bytes -= d.bytes
	return d
}
