package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/spill"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/value"
)

// loadedPart is where the rows of a load, or its entries of one index or aggregate,
// are put in order.
type loadedPart struct {
	name   string
	prefix []byte // of its keys in the store
	index  *Index
	agg    *Aggregate
	// What an aggregate's tree is kept by: its own, or its ranking's, whose entries
	// come when those of the aggregate are in order.
	id      uint32
	slot    int
	ranking *loadedPart

	sorter *spill.Sorter // nil when keys come in order
	tables *store.Tables
	tree   aggregate.Tree
	key    []byte
}

// plan makes the parts of a load.
func (l *load) plan() {
	t := l.table
	l.rows = &loadedPart{name: "rows", prefix: keys.AppendRows(nil, t.Number)}
	l.parts = []*loadedPart{l.rows}
	for _, ix := range t.indexes {
		if ix.id == 0 || ix.status == statusFailed {
			continue
		}
		l.parts = append(l.parts, &loadedPart{name: fmt.Sprintf("index-%d", ix.id), prefix: keys.AppendIndex(nil, ix.id), index: ix})
	}
	for _, a := range t.aggregates {
		if a.status == statusFailed {
			continue
		}
		l.parts = append(l.parts, &loadedPart{name: fmt.Sprintf("aggregate-%d", a.id), agg: a, id: a.id, slot: a.slot})
	}
	var sorters []*loadedPart
	for _, p := range l.parts {
		p.tables = l.db.store.NewTables(p.name)
		ordered := p == l.rows && !l.withID || p.index != nil && len(p.index.fields) == 0 && !l.withTime
		if !ordered {
			sorters = append(sorters, p)
		}
		if p.agg != nil && p.agg.ranking != nil && p.agg.ranking.status != statusFailed {
			r := p.agg.ranking
			p.ranking = &loadedPart{name: fmt.Sprintf("ranking-%d", r.id), agg: p.agg, id: r.id, slot: r.slot}
			p.ranking.tables = l.db.store.NewTables(p.ranking.name)
			sorters = append(sorters, p.ranking)
		}
	}
	for _, p := range sorters {
		p.sorter = spill.New(l.db.store.FS(), l.db.store.LoadDir(), p.name, l.o.SortBytes/len(sorters))
	}
}

// add takes a key, without the prefix, and a value.
func (p *loadedPart) add(key, val []byte) error {
	if p.sorter != nil {
		return p.sorter.Add(key, val)
	}
	return p.set(key, val)
}

func (p *loadedPart) set(key, val []byte) error {
	p.key = append(append(p.key[:0], p.prefix...), key...)
	return p.tables.Set(p.key, val)
}

func (p *loadedPart) close() error {
	err := p.tables.Close()
	if p.sorter != nil {
		err = errors.Join(err, p.sorter.Close())
	}
	if p.ranking != nil {
		err = errors.Join(err, p.ranking.close())
	}
	return err
}

// loadCount counts the entries that are written.
type loadCount struct {
	sync.Mutex
	done, total int64
}

// write puts the parts in order, some at a time, into their files.
func (l *load) write(ctx context.Context) error {
	for _, p := range l.parts {
		if p.sorter != nil {
			l.entries.total += p.sorter.Len()
		}
	}
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed []error
		places = make(chan struct{}, runtime.GOMAXPROCS(0))
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range l.parts {
		if p.sorter == nil {
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if err := l.writePart(ctx, p); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
				cancel()
			}
		})
	}
	wg.Wait()
	if len(failed) > 0 {
		return failed[0] // the others were most likely told to end
	}
	for _, p := range l.parts {
		if p.ranking != nil {
			l.parts = append(l.parts, p.ranking)
		}
	}
	return nil
}

// each calls f for every entry of a part in order.
func (l *load) each(ctx context.Context, p *loadedPart, f func(key, val []byte) error) error {
	n := 0
	var last []byte
	err := p.sorter.Each(func(key, val []byte) error {
		if n > 0 && bytes.Equal(last, key) {
			return fmt.Errorf("a document with key %x comes twice", key[max(0, len(key)-keys.DocumentKeySize):])
		}
		last = append(last[:0], key...)
		if n++; n%loadStep == 0 {
			if err := l.check(ctx); err != nil {
				return err
			}
			l.entries.Lock()
			defer l.entries.Unlock()
			l.entries.done += loadStep
			l.tell()
		}
		return f(key, val)
	})
	if err == nil {
		err = p.sorter.Close() // its files are as large as what was made of them
	}
	return err
}

func (l *load) writePart(ctx context.Context, p *loadedPart) error {
	switch {
	case p.agg != nil:
		if err := l.writeAggregate(ctx, p); err != nil {
			return fmt.Errorf("aggregate %s: %w", p.agg.Name, err)
		}
		return nil
	case p.index != nil && p.index.unique:
		return l.writeUnique(ctx, p)
	}
	return l.each(ctx, p, p.set)
}

// writeUnique writes an index in which no two documents may have equal values.
func (l *load) writeUnique(ctx context.Context, p *loadedPart) error {
	tail := len(value.AppendOrdered(nil, value.Float64(0))) + keys.DocumentKeySize
	var last []byte
	return l.each(ctx, p, func(key, val []byte) error {
		values := key[:len(key)-tail]
		if last != nil && bytes.Equal(last[:len(last)-tail], values) && bound(values) {
			return &UniqueError{Table: l.table.Name, Index: p.index.Name, ID: value.ID{Table: l.number, Key: [keys.DocumentKeySize]byte(last[len(last)-keys.DocumentKeySize:])}}
		}
		last = append(last[:0], key...)
		return p.set(key, val)
	})
}

// bound reports whether none of the encoded values is undefined.
func bound(values []byte) bool {
	for len(values) > 0 {
		v, rest, err := value.DecodeOrdered(values)
		if err != nil || v.IsUndefined() {
			return false
		}
		values = rest
	}
	return true
}

// builder returns a builder of a part's tree, whose blocks go into its files.
func (l *load) builder(p *loadedPart) *aggregate.Builder {
	var key []byte
	return aggregate.NewBuilder(l.trees[p.slot], uint64(l.at), func(node uint64, block []byte) error {
		key = keys.AppendBlock(key[:0], p.id, node)
		return p.tables.Set(key, block)
	})
}

// writeAggregate writes the blocks of an aggregate, and those of its ranking.
func (l *load) writeAggregate(ctx context.Context, p *loadedPart) error {
	b := l.builder(p)
	var group []byte
	members := int64(0)
	ranked := func() error {
		if p.ranking == nil || members == 0 {
			return nil
		}
		return p.ranking.add(rankKey(members, group), nil)
	}
	err := l.each(ctx, p, func(key, val []byte) error {
		w, err := decodeWeight(val)
		if err != nil {
			return err
		}
		if p.ranking != nil {
			// The values of a group are self-delimiting: what begins with them is in it.
			if members == 0 || !bytes.HasPrefix(key, group) {
				if err := ranked(); err != nil {
					return err
				}
				g, err := p.agg.groupOf(key)
				if err != nil {
					return err
				}
				group, members = append(group[:0], g...), 0
			}
			members++
		}
		return b.Add(key, w)
	})
	if err == nil {
		err = ranked()
	}
	if err == nil {
		p.tree, err = b.Finish()
	}
	if err != nil || p.ranking == nil {
		return err
	}
	b = l.builder(p.ranking)
	if err := l.each(ctx, p.ranking, func(key, _ []byte) error { return b.Add(key, aggregate.Weight{}) }); err != nil {
		return err
	}
	p.ranking.tree, err = b.Finish()
	return err
}
