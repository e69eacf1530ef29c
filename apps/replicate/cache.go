package replicate

import (
	"container/list"
	"sync"

	"github.com/halcyon-db/halcyon/yjs"
)

// docCache keeps documents that were written lately, by the version of their content. Since the version says what the content is, it does
// not matter whether the execution that put a document there ever committed: one that did not is never asked for.
//
// A document is in the hands of one execution at a time: take removes it. When the cache is full the documents that were used longest ago go.
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

// put hands a document over. stored is the size of its updates; in memory it takes several times that.
func (c *docCache) put(version []byte, doc *yjs.Doc, stored int) {
	e := &cachedDoc{version: string(version), doc: doc, bytes: 4096 + 12*stored}
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

func (c *docCache) removeLocked(e *list.Element) *cachedDoc {
	d := c.mu.order.Remove(e).(*cachedDoc)
	delete(c.mu.byVersion, d.version)
	c.mu.bytes -= d.bytes
	return d
}
