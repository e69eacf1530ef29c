package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// Evolve brings the tables, indexes and aggregates of an open database in line
// with another schema, in one commit, while everything else goes on. It returns
// when that is durable. What is new on a table with documents is built after
// that, in the background: see Building and WaitBuilt. What is no longer declared
// is gone; a table that is no longer declared keeps its documents and can't be
// used until it is declared again.
//
// Documents are not looked at. When ctx ends first the outcome is unknown. Error:
// ErrDiskFull, with which nothing changes.
func (db *DB) Evolve(ctx context.Context, schema Schema) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.exit()
	if err := schema.check(); err != nil {
		return err
	}
	if err := db.disk.refuse(db.o.Clock.Now()); err != nil {
		return fmt.Errorf("change the schema: %w", err)
	}
	err := db.reshape(ctx, func(base *state) (*revision, error) {
		rev, err := revise(base.snap, db.names, schema)
		if err == nil {
			rev.touch(base.catalog)
		}
		return rev, err
	})
	if err != nil {
		return fmt.Errorf("change the schema: %w", err)
	}
	db.builder.look()
	return nil
}

// touch makes queries run again that used what the catalog before has and this
// one lacks, or the other way round, also where a table is not declared for a
// while and its catalog entries stay as they are.
func (r *revision) touch(before *catalog) {
	was, is := before.metas(), r.catalog.metas()
	for _, m := range []map[string]bool{was, is} {
		for meta := range m {
			if !was[meta] || !is[meta] {
				r.writes.Touch([]byte(meta))
			}
		}
	}
}

// metas returns the keys of the catalog entries of all tables and parts.
func (c *catalog) metas() map[string]bool {
	out := map[string]bool{}
	for _, t := range c.tables {
		out[string(metaKey(metaTable+t.Name))] = true
		for _, ix := range t.indexes {
			if ix.id != 0 {
				out[ix.meta] = true
			}
		}
		for _, a := range t.aggregates {
			out[a.meta] = true
			if a.ranking != nil {
				out[a.ranking.meta] = true
			}
		}
	}
	return out
}

// catalog returns the newest catalog that is applied.
func (db *DB) catalog() *catalog { return db.newest.Load() }

// reshaping is a change of the catalog on its way to the committer.
type reshaping struct {
	// plan says what changes, given the newest state, after which nothing has
	// been accepted. The committer waits for it, so it is quick. A nil revision
	// changes nothing.
	plan    func(base *state) (*revision, error)
	verdict chan verdict
}

// reshape changes the catalog and waits until that is durable. REQUIRES: the
// caller is counted in.
func (db *DB) reshape(ctx context.Context, plan func(base *state) (*revision, error)) error {
	_, err := db.reshapeAt(ctx, plan)
	return err
}

// reshapeAt is reshape for who wants to know the timestamp of the commit.
func (db *DB) reshapeAt(ctx context.Context, plan func(base *state) (*revision, error)) (Timestamp, error) {
	if err := ctx.Err(); err != nil { // of ready cases a select takes any
		return 0, err
	}
	r := &reshaping{plan: plan, verdict: make(chan verdict, 1)}
	select {
	case db.reshapings <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case v := <-r.verdict:
		return v.at, v.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// reshape commits a revision of the catalog as a group of its own. Attempts that
// were executed under the catalog before it are not accepted after it, since
// they lack entries of what is new; see submit.
func (c *committer) reshape(r *reshaping) {
	for c.failed == nil && c.m.Pending() > 0 {
		c.awaitRoom()
		c.seal()
	}
	if c.failed != nil {
		r.verdict <- verdict{err: c.failed}
		return
	}
	c.awaitRoom()
	rev, err := r.plan(c.db.states.newestApplied())
	if err != nil || rev == nil {
		r.verdict <- verdict{err: err}
		return
	}
	label := "change of the schema"
	c.m.Accept(&commit.Attempt{
		Snapshot: c.m.Last(), Reads: new(txn.ReadSet), Writes: rev.writes,
		Owner: &mutation{Call: Call{Name: label}, verdict: r.verdict}, Label: &label,
	}, c.now())
	c.revision = rev
	c.seal()
	c.revision = nil
}

// awaitRoom waits until another group may be sealed.
func (c *committer) awaitRoom() {
	for !c.m.CanSeal() {
		<-c.durable
		c.m.Durable(uint64(c.db.states.oldest()))
	}
}

// revise makes next the state after a revision: with its catalog, its builds and
// the trees that it has.
func (c *committer) revise(b *store.Batch, rev *revision, base, next *state) error {
	if rev == nil {
		return nil
	}
	for _, r := range rev.drops {
		if err := b.DeleteRange(r.Start, r.End); err != nil {
			return err
		}
	}
	next.catalog, next.builds = rev.catalog, rev.builds
	// Stored roots are those of base: a tree changes with its root record.
	trees, err := rev.catalog.readTrees(base.snap)
	next.trees = trees
	if rev.load == nil || err != nil {
		return err
	}
	for slot, t := range rev.load.trees {
		next.trees[slot] = t
		err = errors.Join(err, b.Set(keys.AppendBlock(nil, t.Agg, 0), t.AppendBinary(nil)))
	}
	return err
}

// emptyTrees returns the trees of a state without documents.
func (c *catalog) emptyTrees() []aggregate.Tree {
	trees := make([]aggregate.Tree, c.slots)
	for _, a := range c.aggregates {
		trees[a.slot] = a.empty()
		if a.ranking != nil {
			trees[a.ranking.slot] = a.ranking.empty()
		}
	}
	return trees
}

// progressed notes in a state how far its commit says that a build has come.
func (c *committer) progressed(next *state, key []byte, w txn.Write) error {
	if c.revision != nil || w.Deleted {
		return nil
	}
	p, err := decodeProgress(w.Value)
	next.setBuild(binary.BigEndian.Uint32(key[len(key)-4:]), p)
	return err
}
