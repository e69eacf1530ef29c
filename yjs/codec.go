package yjs

import (
	"fmt"
)

// Codec works on encoded updates without building a document. The zero Codec
// is V1 with the default limits; the functions of this package with the same
// names are shorthands.
type Codec struct {
	Version Version // V1 when zero
	Limits  Limits
	// FirstWins keeps, where two merged updates hold different content for the
	// same clocks, whatever comes first. Without it the richer content is kept,
	// so that no history is lost when one of the updates comes from a document
	// that has collected its garbage. Npm yjs keeps one or the other.
	FirstWins bool
	// KeepSplit makes Merge write structs as they came instead of joining those
	// that one insertion might have made. Npm yjs joins nothing when it merges.
	KeepSplit bool
}

func (c Codec) version() Version {
	if c.Version == V2 {
		return V2
	}
	return V1
}

// Meta is what an update says about itself.
type Meta struct {
	// From and To are, by client, the first clock the update holds and the
	// clock after its last. What is between may have gaps.
	From, To StateVector
	// Structs is the number of structs.
	Structs int
	// Gaps is the number of skipped ranges. An update with gaps can't be
	// integrated in full until what is missing arrives.
	Gaps int
	// Deleted is what the update deletes.
	Deleted *DeleteSet
}

// Validate reads all of an update and returns what is wrong with it, if
// anything. An update that passes can be read by every Yjs peer.
func (c Codec) Validate(update []byte) error {
	_, err := c.Meta(update)
	return err
}

// Meta reads an update without keeping its content.
func (c Codec) Meta(update []byte) (Meta, error) {
	var d decoder
	d.init(view(update), c.version(), c.Limits)
	m := Meta{From: StateVector{}, To: StateVector{}, Deleted: &DeleteSet{}}
	var b block
	for d.structs > 0 || d.nextClient() {
		client := d.client
		m.From[client] = d.clock
		for d.structs > 0 {
			before := d.structs
			d.skim(clockMax)
			m.Structs += int(before - d.structs)
			if d.structs == 0 {
				break
			}
			if !d.next(&b) {
				break
			}
			m.Structs++
			if b.kind == kindSkip {
				m.Gaps++
			}
		}
		m.To[client] = d.clock
		if d.err != nil {
			break
		}
	}
	if _, _, err := d.finish(m.Deleted); err != nil {
		return Meta{}, fmt.Errorf("read update: %w", err)
	}
	return m, nil
}

// StateVector returns the state a document has that applies only this update:
// of each client what starts at clock zero and has no gap. Use Meta for what
// an update contains.
func (c Codec) StateVector(update []byte) (StateVector, error) {
	var d decoder
	d.init(view(update), c.version(), c.Limits)
	d.keepBody = false
	sv := StateVector{}
	var b block
	for d.structs > 0 || d.nextClient() {
		client, known := d.client, uint64(0)
		for counting := d.clock == 0; d.structs > 0; {
			d.skim(clockMax)
			if counting {
				known = d.clock
			}
			if d.structs == 0 || !d.next(&b) {
				break
			}
			counting = counting && b.kind != kindSkip
			if counting {
				known = b.end()
			}
		}
		if known > 0 {
			sv[client] = known
		}
		if d.err != nil {
			break
		}
	}
	if _, err := d.pass(&DeleteSet{}); err != nil {
		return nil, fmt.Errorf("state vector of update: %w", err)
	}
	return sv, nil
}

// Diff returns what of an update is missing from a peer with the given state
// vector. The deletions are always all there: a state vector does not tell
// which of them the peer knows.
func (c Codec) Diff(update []byte, sv StateVector) ([]byte, error) {
	var d decoder
	d.init(view(update), c.version(), c.Limits)
	e := newEncoder(c.version(), 0)
	e.diff(&d, sv)
	var deleted DeleteSet
	raw, err := d.pass(&deleted)
	if err != nil {
		return nil, fmt.Errorf("diff update: %w", err)
	}
	return e.finishRaw(raw, &deleted)
}

func (e *encoder) diff(d *decoder, sv StateVector) {
	var b block
	for d.structs > 0 || d.nextClient() {
		known := sv[d.client]
		for writing := false; d.structs > 0; {
			from, before := d.rest.Pos(), d.structs
			if writing {
				d.skim(clockMax)
				e.copyRun(d.rest.Since(from), before-d.structs)
			} else {
				d.skim(known)
			}
			if d.structs == 0 {
				break
			}
			from = d.rest.Pos()
			if !d.next(&b) {
				return
			}
			switch {
			case writing:
				e.write(&b, 0)
			case b.kind != kindSkip && b.end() > known:
				if e.cols == nil {
					e.reserve(len(d.rest.Since(from)) + d.rest.Len())
				}
				e.write(&b, max(known, b.clock)-b.clock)
				writing = true
			}
		}
	}
}

// copyRun appends n structs of the open client as V1 has them.
func (e *encoder) copyRun(raw string, n uint64) {
	e.written += n
	e.cur = append(e.cur, raw...)
}

// Convert returns an update in the other version's encoding.
func (c Codec) Convert(update []byte, to Version) ([]byte, error) {
	var d decoder
	d.init(view(update), c.version(), c.Limits)
	e := newEncoder(to, len(update))
	var b block
	for d.next(&b) {
		e.write(&b, 0)
	}
	var deleted DeleteSet
	if _, _, err := d.finish(&deleted); err != nil {
		return nil, fmt.Errorf("convert update: %w", err)
	}
	return e.finish(&deleted)
}

// MergeUpdates merges V1 updates. See Codec.Merge.
func MergeUpdates(updates ...[]byte) ([]byte, error) { return Codec{}.Merge(updates...) }

// MergeUpdatesV2 merges V2 updates.
func MergeUpdatesV2(updates ...[]byte) ([]byte, error) { return Codec{Version: V2}.Merge(updates...) }

// DiffUpdate returns what of a V1 update is missing from a peer with the given
// state vector, and all its deletions.
func DiffUpdate(update []byte, sv StateVector) ([]byte, error) { return Codec{}.Diff(update, sv) }

// DiffUpdateV2 is DiffUpdate for V2.
func DiffUpdateV2(update []byte, sv StateVector) ([]byte, error) {
	return Codec{Version: V2}.Diff(update, sv)
}

// StateVectorFromUpdate returns the state of a document that applies only this
// V1 update.
func StateVectorFromUpdate(update []byte) (StateVector, error) { return Codec{}.StateVector(update) }

// StateVectorFromUpdateV2 is StateVectorFromUpdate for V2.
func StateVectorFromUpdateV2(update []byte) (StateVector, error) {
	return Codec{Version: V2}.StateVector(update)
}

// ParseUpdateMeta reads what a V1 update says about itself.
func ParseUpdateMeta(update []byte) (Meta, error) { return Codec{}.Meta(update) }

// ParseUpdateMetaV2 is ParseUpdateMeta for V2.
func ParseUpdateMetaV2(update []byte) (Meta, error) { return Codec{Version: V2}.Meta(update) }

// ConvertV1ToV2 returns a V1 update as V2.
func ConvertV1ToV2(update []byte) ([]byte, error) { return Codec{}.Convert(update, V2) }

// ConvertV2ToV1 returns a V2 update as V1.
func ConvertV2ToV1(update []byte) ([]byte, error) { return Codec{Version: V2}.Convert(update, V1) }
