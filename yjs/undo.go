package yjs

import (
	"slices"
	"time"
)

// UndoOptions are the settings of an UndoManager. The zero value tracks
// changes made without an origin and joins those within half a second.
type UndoOptions struct {
	// CaptureTimeout is how long after a change another one joins it, so that
	// both are undone together; the default is 500 ms, negative means never.
	CaptureTimeout time.Duration
	// Origins are the transaction origins to track besides the manager itself.
	// Nil means changes without an origin.
	Origins []any
	// Capture, when set, is asked whether to track a transaction.
	Capture func(*Transaction) bool
	// KeepInserted, when set, is asked for each type or value that undoing
	// would delete whether it should stay. It gets the ID of the inserted item.
	KeepInserted func(ID) bool
	// IgnoreRemoteMapChanges lets undo set a map key to its old value although
	// a peer has changed it since.
	IgnoreRemoteMapChanges bool
	// Now is the clock; time.Now by default.
	Now func() time.Time
}

// UndoManager undoes and redoes changes of one user: what others did in the
// meantime stays.
type UndoManager struct {
	doc        *Doc
	scope      []*branch // empty means the whole document
	opts       UndoOptions
	undos      []*undoStep
	redos      []*undoStep
	undoing    bool
	redoing    bool
	popped     *undoStep
	lastChange time.Time
	cancel     func()
	listeners  handlers[UndoEvent]
}

// undoStep is what is undone at once.
type undoStep struct {
	inserted, deleted *DeleteSet
	meta              map[any]any
}

// UndoEvent tells about a step of an UndoManager.
type UndoEvent struct {
	// Action is what happened to the step.
	Action UndoAction
	// Redo is whether the step is about redoing.
	Redo bool
	// Origin is that of the transaction; the manager itself while undoing.
	Origin any
	// Meta belongs to the step. A cursor put there when the step is added can
	// be restored when it is undone.
	Meta map[any]any
}

// UndoAction is a kind of UndoEvent.
type UndoAction string

// What can happen to a step.
const (
	StepAdded   UndoAction = "added"
	StepUpdated UndoAction = "updated"
	StepPopped  UndoAction = "popped"
	StepsClear  UndoAction = "cleared"
)

// NewUndoManager returns a manager for changes within the given types; without
// types, for all of the document. Close ends it.
func NewUndoManager(d *Doc, opts *UndoOptions, types ...Type) *UndoManager {
	u := &UndoManager{doc: d}
	if opts != nil {
		u.opts = *opts
	}
	if u.opts.CaptureTimeout == 0 {
		u.opts.CaptureTimeout = 500 * time.Millisecond
	}
	if u.opts.Origins == nil {
		u.opts.Origins = []any{nil}
	}
	if u.opts.Now == nil {
		u.opts.Now = time.Now
	}
	u.AddScope(types...)
	u.cancel = d.OnTransaction(u.captured)
	return u
}

// AddScope adds types to those whose changes are tracked.
func (u *UndoManager) AddScope(types ...Type) {
	for _, t := range types {
		if b := t.base(); !slices.Contains(u.scope, b) {
			u.scope = append(u.scope, b)
		}
	}
}

// Close stops tracking.
func (u *UndoManager) Close() { u.cancel() }

// OnStep calls f when a step is added, joined, undone, redone or cleared.
func (u *UndoManager) OnStep(f func(UndoEvent)) (cancel func()) { return u.listeners.add(f) }

// CanUndo reports whether there is a step to undo.
func (u *UndoManager) CanUndo() bool { return len(u.undos) > 0 }

// CanRedo reports whether there is a step to redo.
func (u *UndoManager) CanRedo() bool { return len(u.redos) > 0 }

// StopCapturing makes the next change a step of its own.
func (u *UndoManager) StopCapturing() { u.lastChange = time.Time{} }

// Undo undoes the newest step that still has an effect. It reports whether
// there was one.
func (u *UndoManager) Undo() bool {
	u.undoing = true
	defer func() { u.undoing = false }()
	return u.pop(&u.undos, false)
}

// Redo redoes what was undone last. It reports whether there was anything.
func (u *UndoManager) Redo() bool {
	u.redoing = true
	defer func() { u.redoing = false }()
	return u.pop(&u.redos, true)
}

// Clear forgets all steps.
func (u *UndoManager) Clear() { u.clear(true, true) }

func (u *UndoManager) clear(undos, redos bool) {
	if !(undos && u.CanUndo()) && !(redos && u.CanRedo()) {
		return
	}
	u.doc.edit(func(tx *Transaction) {
		if undos {
			u.forget(tx, u.undos)
			u.undos = nil
		}
		if redos {
			u.forget(tx, u.redos)
			u.redos = nil
		}
		u.listeners.call(UndoEvent{Action: StepsClear, Redo: redos && !undos, Origin: u})
	})
}

// forget lets what the steps deleted be collected.
func (u *UndoManager) forget(tx *Transaction, steps []*undoStep) {
	for _, s := range steps {
		tx.deletedItems(s.deleted, func(it *item) {
			if !it.isGC() && u.tracks(it) {
				it.setKeep(false)
			}
		})
	}
}

// setKeep keeps an item and what holds it from being collected, or no longer.
func (it *item) setKeep(keep bool) {
	for it != nil && it.keep() != keep {
		it.flags ^= flagKeep
		it = it.parent.item
	}
}

func (u *UndoManager) tracks(it *item) bool {
	return len(u.scope) == 0 || slices.ContainsFunc(u.scope, it.within)
}

func (u *UndoManager) wants(tx *Transaction) bool {
	if u.opts.Capture != nil && !u.opts.Capture(tx) {
		return false
	}
	if tx.Origin != any(u) && !slices.Contains(u.opts.Origins, tx.Origin) {
		return false
	}
	return len(u.scope) == 0 || slices.ContainsFunc(u.scope, tx.changedWithin)
}

// captured makes a transaction a step, or part of the last one.
func (u *UndoManager) captured(tx *Transaction) {
	if !u.wants(tx) {
		return
	}
	stack := &u.undos
	if u.undoing {
		u.StopCapturing()
		stack = &u.redos
	} else if !u.redoing {
		u.clear(false, true)
	}
	now := u.opts.Now()
	action := StepAdded
	if n := len(*stack); n > 0 && !u.undoing && !u.redoing && !u.lastChange.IsZero() && now.Sub(u.lastChange) < u.opts.CaptureTimeout {
		last := (*stack)[n-1]
		last.deleted = unionOf(last.deleted, &tx.deleted)
		last.inserted = unionOf(last.inserted, tx.Inserted())
		action = StepUpdated
	} else {
		*stack = append(*stack, &undoStep{inserted: tx.Inserted(), deleted: tx.deleted.Clone(), meta: map[any]any{}})
	}
	if !u.undoing && !u.redoing {
		u.lastChange = now
	}
	tx.deletedItems(&tx.deleted, func(it *item) {
		if !it.isGC() && u.tracks(it) {
			it.setKeep(true)
		}
	})
	u.listeners.call(UndoEvent{Action: action, Redo: u.undoing, Origin: tx.Origin, Meta: (*stack)[len(*stack)-1].meta})
}

func unionOf(a, b *DeleteSet) *DeleteSet {
	c := a.Clone()
	c.Merge(b)
	c.normalize()
	return c
}

// pop undoes steps until one has an effect.
func (u *UndoManager) pop(stack *[]*undoStep, redo bool) bool {
	u.doc.transact(u, true, func(tx *Transaction) {
		for len(*stack) > 0 && u.popped == nil {
			n := len(*stack) - 1
			s := (*stack)[n]
			*stack = (*stack)[:n]
			if u.reverse(tx, s) {
				u.popped = s
			}
		}
		for _, c := range tx.changed {
			// Positions may have changed in ways the markers did not follow.
			if c.branch != nil && c.list {
				c.branch.dropMarkers()
			}
		}
	})
	s := u.popped
	u.popped = nil
	if s == nil {
		return false
	}
	u.listeners.call(UndoEvent{Action: StepPopped, Redo: redo, Origin: u, Meta: s.meta})
	return true
}

// reverse deletes what a step inserted and inserts again what it deleted.
func (u *UndoManager) reverse(tx *Transaction, s *undoStep) (done bool) {
	st := &tx.doc.store
	var toDelete []*item
	tx.deletedItems(s.inserted, func(it *item) {
		if it.isGC() {
			return
		}
		if _, ok := st.redoneOf(it); ok {
			newest, diff := st.follow(it.id)
			if diff > 0 {
				newest = tx.cleanStart(newest.id + ref(diff))
			}
			it = newest
			if it.isGC() {
				return
			}
		}
		if !it.deleted() && u.tracks(it) {
			toDelete = append(toDelete, it)
		}
	})
	r := &redoing{tx: tx, u: u, step: s, wanted: map[*item]struct{}{}}
	var order []*item
	tx.deletedItems(s.deleted, func(it *item) {
		if !it.isGC() && u.tracks(it) && !s.inserted.Contains(st.id(it.id)) {
			r.wanted[it] = struct{}{}
			order = append(order, it)
		}
	})
	for _, it := range order {
		if r.redo(it) != nil {
			done = true
		}
	}
	for _, it := range slices.Backward(toDelete) {
		if u.opts.KeepInserted == nil || !u.opts.KeepInserted(st.id(it.id)) {
			tx.delete(it)
			done = true
		}
	}
	return done
}

// redoing makes deleted items again.
type redoing struct {
	tx     *Transaction
	u      *UndoManager
	step   *undoStep
	wanted map[*item]struct{}
}

// newest follows an item to its latest copy.
func (r *redoing) newest(it *item) *item {
	for {
		next, ok := r.tx.doc.store.redoneOf(it)
		if !ok {
			return it
		}
		it = r.tx.cleanStart(next)
	}
}

// redo inserts the content of a deleted item again, with what holds it where
// that is to be redone as well, and returns the copy; nil where it can't.
func (r *redoing) redo(it *item) *item {
	tx := r.tx
	st := &tx.doc.store
	if redone, ok := st.redoneOf(it); ok {
		return tx.cleanStart(redone)
	}
	holder := it.parent.item
	if holder != nil && holder.deleted() {
		if _, ok := st.redoneOf(holder); !ok {
			if _, wanted := r.wanted[holder]; !wanted || r.redo(holder) == nil {
				return nil
			}
		}
		holder = r.newest(holder)
	}
	parent := it.parent
	if holder != nil {
		parent = holder.branch()
		if parent == nil {
			return nil
		}
	}
	var left, right *item
	if !it.hasSub() {
		left, right = r.neighbours(it, holder)
	} else {
		var ok bool
		if left, ok = r.keyNeighbour(it, parent, holder); !ok {
			return nil
		}
	}
	client := tx.doc.ownClient()
	fresh := &item{
		id:          makeRef(client, st.state(client)),
		origin:      lastIDOf(left),
		rightOrigin: idOf(right),
		left:        left,
		right:       right,
		parent:      parent,
		sub:         it.sub,
		length:      it.length,
		kind:        it.kind,
		flags:       it.flags & flagSub,
	}
	fresh.copyContent(it)
	st.setRedone(it, fresh.id)
	fresh.setKeep(true)
	tx.integrate(fresh, 0)
	return fresh
}

func (it *item) copyContent(from *item) {
	switch it.kind {
	case kindType:
		b := newBranch(from.branch().kind, from.branch().name)
		b.held = true
		it.data = branchPayload(b)
	case kindDoc:
		sub := from.subdoc()
		it.data = subdocPayload(newSubdoc(sub.doc.GUID(), sub.options))
	default:
		it.data = from.data
		it.data.room = it.data.size // from may grow
	}
}

// neighbours finds, for an item of a list, the nearest items on either side
// that are, or have a copy, in the type that holds the list now.
func (r *redoing) neighbours(it, holder *item) (left, right *item) {
	trace := func(it *item) *item {
		for it != nil && it.parent.item != holder {
			next, ok := r.tx.doc.store.redoneOf(it)
			if !ok {
				return nil
			}
			it = r.tx.cleanStart(next)
		}
		return it
	}
	for left = it.left; left != nil; left = left.left {
		if t := trace(left); t != nil {
			left = t
			break
		}
	}
	for right = it; right != nil; right = right.right {
		if t := trace(right); t != nil {
			right = t
			break
		}
	}
	return left, right
}

// keyNeighbour finds what a map item is to be put after. ok is false when a
// peer has set the key since.
func (r *redoing) keyNeighbour(it *item, parent *branch, holder *item) (left *item, ok bool) {
	st := &r.tx.doc.store
	if it.right == nil || r.u.opts.IgnoreRemoteMapChanges {
		left = parent.keys.get(it.sub)
	} else {
		left = it
		for left.right != nil {
			id := st.id(left.right.id)
			_, redone := st.redoneOf(left.right)
			if !redone && !r.step.inserted.Contains(id) && !r.u.deletedByStep(id) {
				break
			}
			left = r.newest(left.right)
		}
		if left.right != nil {
			return nil, false
		}
	}
	if left != nil && left.parent.item != holder {
		left = parent.keys.get(it.sub)
	}
	return left, true
}

func (u *UndoManager) deletedByStep(id ID) bool {
	has := func(s *undoStep) bool { return s.deleted.Contains(id) }
	return slices.ContainsFunc(u.undos, has) || slices.ContainsFunc(u.redos, has)
}
