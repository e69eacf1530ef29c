package awareness

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// ErrMalformed marks bytes that are not an awareness update.
var ErrMalformed = lib0.ErrMalformed

// ErrLimit marks an update beyond the limits, or one that would take an
// Awareness beyond them.
var ErrLimit = errors.New("awareness limit exceeded")

// Timeout is how long a state lasts without being renewed. Clients renew theirs
// after half of it.
const Timeout = 30 * time.Second

// Options are the limits of an Awareness. The zero value means the defaults.
type Options struct {
	// Clients is how many clients may have a state; the default is 1000.
	Clients int
	// StateBytes is the size of one state as JSON; the default is 64 KiB.
	StateBytes int
	// Memory is how long the clock of a client is remembered after its state
	// is gone, so that an old state can't return; the default is an hour.
	Memory time.Duration
}

func (o Options) withDefaults() Options {
	if o.Clients == 0 {
		o.Clients = 1000
	}
	if o.StateBytes == 0 {
		o.StateBytes = 64 << 10
	}
	if o.Memory == 0 {
		o.Memory = time.Hour
	}
	return o
}

// Entry is one client's part of an update. A nil state means that it is gone.
type Entry struct {
	Client uint64
	Clock  uint64
	State  json.RawMessage
}

// Change lists the clients an update concerned.
type Change struct {
	Added, Updated, Removed []uint64
	// Changed are those of Updated whose state is not what it was before; the
	// others were only renewed.
	Changed []uint64
}

// Empty reports whether nothing happened.
func (c Change) Empty() bool { return len(c.Added)+len(c.Updated)+len(c.Removed) == 0 }

// Clients returns all clients of the change: those whose states are to be sent
// on.
func (c Change) Clients() []uint64 { return slices.Concat(c.Added, c.Updated, c.Removed) }

type client struct {
	state json.RawMessage // nil when it has none
	clock uint64
	seen  time.Time
}

// Awareness holds the states of the clients of one document. It is for one
// goroutine at a time.
type Awareness struct {
	local   uint64
	hasOwn  bool
	opts    Options
	clients map[uint64]*client
	states  int
}

// New returns an Awareness for a client.
func New(clientID uint64, opts *Options) *Awareness {
	a := NewServer(opts)
	a.local, a.hasOwn = clientID, true
	return a
}

// NewServer returns an Awareness that has no state of its own.
func NewServer(opts *Options) *Awareness {
	if opts == nil {
		opts = &Options{}
	}
	return &Awareness{opts: opts.withDefaults(), clients: map[uint64]*client{}}
}

// State returns the state of a client, or nil.
func (a *Awareness) State(clientID uint64) json.RawMessage {
	if c := a.clients[clientID]; c != nil {
		return c.state
	}
	return nil
}

// States returns all states by client.
func (a *Awareness) States() map[uint64]json.RawMessage {
	out := make(map[uint64]json.RawMessage, a.states)
	for id, c := range a.clients {
		if c.state != nil {
			out[id] = c.state
		}
	}
	return out
}

// Clients returns the clients that have a state, in ascending order.
func (a *Awareness) Clients() []uint64 {
	ids := make([]uint64, 0, a.states)
	for _, id := range slices.Sorted(maps.Keys(a.clients)) {
		if a.clients[id].state != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// set stores a state and counts.
func (a *Awareness) set(c *client, state json.RawMessage) {
	if c.state != nil {
		a.states--
	}
	if c.state = state; state != nil {
		a.states++
	}
}

// SetLocal sets the client's own state, a JSON value; nil says that it leaves.
// It returns the update to send.
func (a *Awareness) SetLocal(state json.RawMessage, now time.Time) ([]byte, Change, error) {
	if !a.hasOwn {
		return nil, Change{}, errors.New("awareness: a server has no state of its own")
	}
	if state != nil {
		if err := checkState(state, a.opts.StateBytes); err != nil {
			return nil, Change{}, err
		}
		if string(state) == "null" {
			state = nil
		}
	}
	c := a.clients[a.local]
	if c == nil {
		c = &client{}
		a.clients[a.local] = c
	} else {
		c.clock++
	}
	before := c.state
	a.set(c, slices.Clone(state))
	c.seen = now
	var change Change
	switch {
	case state == nil:
		change.Removed = []uint64{a.local}
	case before == nil:
		change.Added = []uint64{a.local}
	default:
		change.Updated = []uint64{a.local}
		if !sameJSON(before, state) {
			change.Changed = change.Updated
		}
	}
	return a.Encode(a.local), change, nil
}

// Renew repeats the client's own state when half of the timeout has passed. It
// returns the update to send, or nil.
func (a *Awareness) Renew(now time.Time) []byte {
	c := a.clients[a.local]
	if !a.hasOwn || c == nil || c.state == nil || now.Sub(c.seen) < Timeout/2 {
		return nil
	}
	c.clock++
	c.seen = now
	return a.Encode(a.local)
}

// Apply takes in an update. Entries that are not newer than what is known are
// passed over. An update that is malformed or beyond the limits changes
// nothing.
func (a *Awareness) Apply(update []byte, now time.Time) (Change, error) {
	entries, err := Decode(update, &a.opts)
	if err != nil {
		return Change{}, err
	}
	return a.ApplyEntries(entries, now)
}

// ApplyEntries is Apply for a decoded update.
func (a *Awareness) ApplyEntries(entries []Entry, now time.Time) (Change, error) {
	fresh := 0
	for _, e := range entries {
		if c := a.clients[e.Client]; e.State != nil && (c == nil || c.state == nil) {
			fresh++
		}
	}
	if fresh > 0 && a.states+fresh > a.opts.Clients {
		return Change{}, fmt.Errorf("%w: %d clients, at most %d allowed", ErrLimit, a.states+fresh, a.opts.Clients)
	}
	var change Change
	for _, e := range entries {
		a.apply(e, now, &change)
	}
	return change, nil
}

func (a *Awareness) apply(e Entry, now time.Time, change *Change) {
	c := a.clients[e.Client]
	known := c != nil
	if !known {
		// A client nobody knows is at clock zero without a state: what it says
		// with that clock is not news.
		if e.Clock == 0 || e.State == nil && len(a.clients) >= 10*a.opts.Clients {
			return
		}
		c = &client{}
		a.clients[e.Client] = c
	} else if e.Clock < c.clock || e.Clock == c.clock && (e.State != nil || c.state == nil) {
		return
	}
	before := c.state
	c.clock, c.seen = e.Clock, now
	if e.State == nil && a.hasOwn && e.Client == a.local && before != nil {
		// Others can't remove our state: say it again with a newer clock.
		c.clock++
	} else {
		a.set(c, slices.Clone(e.State))
	}
	switch {
	case e.State == nil && known:
		change.Removed = append(change.Removed, e.Client)
	case e.State == nil:
	case !known:
		change.Added = append(change.Added, e.Client)
	default:
		if !sameJSON(before, e.State) {
			change.Changed = append(change.Changed, e.Client)
		}
		change.Updated = append(change.Updated, e.Client)
	}
}

// Remove removes the states of clients, as when their connection ends. The
// update to send on is Encode of the removed clients: the clock stays, and a
// null of an equal clock is accepted by everybody.
func (a *Awareness) Remove(now time.Time, clientIDs ...uint64) Change {
	var change Change
	for _, id := range clientIDs {
		c := a.clients[id]
		if c == nil || c.state == nil {
			continue
		}
		a.set(c, nil)
		if a.hasOwn && id == a.local {
			c.clock++
			c.seen = now
		}
		change.Removed = append(change.Removed, id)
	}
	return change
}

// Expire removes the states of other clients that were not renewed in time,
// and forgets clients that have been gone for long.
func (a *Awareness) Expire(now time.Time) Change {
	var late []uint64
	for id, c := range a.clients {
		if a.hasOwn && id == a.local {
			continue
		}
		idle := now.Sub(c.seen)
		switch {
		case c.state != nil && idle >= Timeout:
			late = append(late, id)
		case c.state == nil && idle >= a.opts.Memory:
			delete(a.clients, id)
		}
	}
	slices.Sort(late)
	return a.Remove(now, late...)
}

// Encode returns an update with what is known of some clients.
func (a *Awareness) Encode(clientIDs ...uint64) []byte {
	entries := make([]Entry, 0, len(clientIDs))
	for _, id := range clientIDs {
		if c := a.clients[id]; c != nil {
			entries = append(entries, Entry{id, c.clock, c.state})
		}
	}
	return Encode(entries)
}

// EncodeAll returns an update with all states, to greet a new client with.
func (a *Awareness) EncodeAll() []byte { return a.Encode(a.Clients()...) }

// Encode returns an update of entries.
func Encode(entries []Entry) []byte {
	dst := lib0.AppendUint(nil, uint64(len(entries)))
	for _, e := range entries {
		dst = lib0.AppendUint(dst, e.Client)
		dst = lib0.AppendUint(dst, e.Clock)
		if e.State == nil {
			dst = lib0.AppendString(dst, "null")
		} else {
			dst = lib0.AppendString(dst, e.State)
		}
	}
	return dst
}

// Decode reads an update. Every state is checked to be JSON of moderate size
// and depth. Nil options mean the defaults.
func Decode(update []byte, opts *Options) ([]Entry, error) {
	if opts == nil {
		opts = &Options{}
	}
	o := opts.withDefaults()
	r := lib0.NewReader(string(update))
	n := r.Uint()
	if n > uint64(r.Len()/3) {
		r.Fail("more clients than bytes")
		n = 0
	}
	if n > uint64(o.Clients) {
		return nil, fmt.Errorf("decode awareness update: %w: %d clients, at most %d allowed", ErrLimit, n, o.Clients)
	}
	var entries []Entry
	for ; n > 0 && r.Err() == nil; n-- {
		e := Entry{Client: r.Uint(), Clock: r.Uint()}
		state := r.String()
		if r.Err() != nil {
			break
		}
		if err := checkState(json.RawMessage(state), o.StateBytes); err != nil {
			return nil, fmt.Errorf("decode awareness update: client %d: %w", e.Client, err)
		}
		if state != "null" {
			e.State = json.RawMessage(state)
		}
		entries = append(entries, e)
	}
	if r.Err() == nil && r.Len() > 0 {
		r.Fail("bytes after the update")
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("decode awareness update: %w", err)
	}
	return entries, nil
}

// Owned reports whether all entries are about clients a connection may speak
// for: those it has spoken for before, and new ones as long as there are at
// most max of them, which are added to owned. A server calls it for what a
// connection sends so that nobody moves the cursors of others.
func (a *Awareness) Owned(entries []Entry, owned map[uint64]struct{}, max int) bool {
	fresh := map[uint64]struct{}{}
	for _, e := range entries {
		if _, ok := owned[e.Client]; ok {
			continue
		}
		if c := a.clients[e.Client]; c != nil && c.state != nil {
			return false // another connection speaks for it
		}
		fresh[e.Client] = struct{}{}
	}
	if len(owned)+len(fresh) > max {
		return false
	}
	maps.Copy(owned, fresh)
	return true
}

func checkState(state json.RawMessage, max int) error {
	if len(state) > max {
		return fmt.Errorf("%w: a state of %d bytes, at most %d allowed", ErrLimit, len(state), max)
	}
	if err := lib0.ValidJSON(string(state)); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// sameJSON compares values, not texts.
func sameJSON(a, b json.RawMessage) bool {
	if string(a) == string(b) {
		return true
	}
	x, errX := lib0.ParseJSON(string(a))
	y, errY := lib0.ParseJSON(string(b))
	return errX == nil && errY == nil && reflect.DeepEqual(unordered(x), unordered(y))
}

// unordered makes objects comparable.
func unordered(v any) any {
	switch v := v.(type) {
	case lib0.Object:
		m := make(map[string]any, len(v))
		for _, e := range v {
			m[e.Key] = unordered(e.Value)
		}
		return m
	case []any:
		for i := range v {
			v[i] = unordered(v[i])
		}
	}
	return v
}
