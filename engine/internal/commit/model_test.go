package commit_test

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// TestValidationAgainstModel remembers every write for ever and compares each
// verdict with what that says.
func TestValidationAgainstModel(t *testing.T) {
	key := rapid.SampledFrom([]string{"a", "b", "ba", "bb", "c", "d", "da", "e"})
	rapid.Check(t, func(t *rapid.T) {
		const reserveMax = 300
		type write struct {
			key string
			at  uint64
		}
		var (
			last    = rapid.Uint64Range(0, 1000).Draw(t, "last")
			m       = commit.New(commit.Options{GroupAttemptsMax: 1 << 20, ReserveMax: reserveMax, Lease: rapid.Uint64Range(2, 50).Draw(t, "lease")}, last)
			now     = last
			writes  []write
			visible = []uint64{last} // timestamps of sealed groups, which attempts may read from
			floor   = last
			lease   = last
			flying  int
			pending int
			holds   []*held // the oldest first
			parked  []*commit.Attempt
			owners  int
		)
		// judge gives an attempt to the machine and compares the verdict.
		judge := func(t *rapid.T, a *commit.Attempt) {
			own := slices.IndexFunc(holds, func(h *held) bool { return h.owner == a.Owner })
			older := holds
			if own >= 0 {
				older = holds[:own]
			}
			conflict := a.Snapshot < floor || slices.ContainsFunc(writes, func(w write) bool { return w.at > a.Snapshot && reads(a, w.key) })
			want := commit.Free
			switch {
			case slices.ContainsFunc(older, func(h *held) bool {
				return h.all || anyKey(a.Writes, func(k string) bool { return readsAny(h.lost, k) })
			}):
				want = commit.Parked
			case conflict && a.Cost < time.Millisecond:
				want = commit.Turn
			case conflict && (slices.ContainsFunc(older, func(h *held) bool {
				return h.all || anyKey(h.lost[len(h.lost)-1].Writes, func(k string) bool { return reads(a, k) })
			}) || own < 0 && len(holds) == 4):
				want = commit.Parked
			case conflict:
				want = commit.Reserved
			}
			got := m.Judge(a, now)
			if got != want {
				t.Fatalf("verdict %d on an attempt at %d, want %d", got, a.Snapshot, want)
			}
			switch got {
			case commit.Parked:
				parked = append(parked, a)
			case commit.Reserved:
				if own < 0 {
					holds = append(holds, &held{owner: a.Owner})
					own = len(holds) - 1
				}
				h := holds[own]
				h.lost, h.until = append(h.lost, a), now+reserveMax
				h.all = len(h.lost) >= 3
			case commit.Free:
				before := m.Last()
				at := m.Accept(a, now)
				if at <= before || at < now {
					t.Fatalf("timestamp %d after %d, now %d", at, before, now)
				}
				a.Writes.EachWrite(func(k string, w txn.Write) bool {
					if w.Stamped && binary.BigEndian.Uint64(w.Value[txn.StampOffset:]) != at {
						t.Fatalf("%s is stamped %x, want %d", k, w.Value, at)
					}
					writes = append(writes, write{k, at})
					return true
				})
				pending++
				if own >= 0 {
					holds = slices.Delete(holds, own, own+1)
				}
			}
		}
		woken := func(t *rapid.T) {
			var back []*commit.Attempt
			for a := m.Woken(); a != nil; a = m.Woken() {
				back = append(back, a)
			}
			if !slices.Equal(back, parked) {
				t.Fatalf("%d attempts were woken of %d parked", len(back), len(parked))
			}
			parked = nil
			for _, a := range back {
				judge(t, a)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"submit": func(t *rapid.T) {
				a := &commit.Attempt{Reads: new(txn.ReadSet), Writes: new(txn.Overlay)}
				a.Snapshot = rapid.SampledFrom(visible).Draw(t, "snapshot")
				a.Cost = time.Duration(rapid.IntRange(0, 2000).Draw(t, "cost")) * time.Microsecond
				owners++
				a.Owner = owners
				if len(holds) > 0 && rapid.Bool().Draw(t, "again") {
					a.Owner = rapid.SampledFrom(holds).Draw(t, "owner").owner
					if slices.ContainsFunc(parked, func(p *commit.Attempt) bool { return p.Owner == a.Owner }) {
						t.Skip("it is parked")
					}
				}
				for range rapid.IntRange(0, 2).Draw(t, "points") {
					a.Reads.AddPoint([]byte(key.Draw(t, "point")))
				}
				for range rapid.IntRange(0, 2).Draw(t, "ranges") {
					r := keys.Range{Start: []byte(key.Draw(t, "start"))}
					if rapid.Bool().Draw(t, "bounded") {
						r.End = []byte(key.Draw(t, "end"))
					}
					a.Reads.AddRange(r)
				}
				for range rapid.IntRange(1, 3).Draw(t, "writes") {
					k := key.Draw(t, "write")
					switch rapid.IntRange(0, 2).Draw(t, "kind") {
					case 0:
						a.Writes.Set([]byte(k), txn.Write{Value: make([]byte, txn.StampOffset+txn.StampSize), Stamped: true})
					case 1:
						a.Writes.Delete([]byte(k))
					case 2:
						a.Writes.Touch([]byte(k))
					}
				}
				judge(t, a)
				if len(parked) > 0 && m.Parked() == 0 {
					woken(t)
				}
			},
			"release": func(t *rapid.T) {
				if len(holds) == 0 {
					t.Skip("nothing is reserved")
				}
				n := rapid.IntRange(0, len(holds)-1).Draw(t, "n")
				m.Release(holds[n].owner)
				holds = slices.Delete(holds, n, n+1)
				woken(t)
			},
			"expire": func(t *rapid.T) {
				m.Expire(now)
				n := len(holds)
				if holds = slices.DeleteFunc(holds, func(h *held) bool { return h.until <= now }); len(holds) < n {
					woken(t)
				}
			},
			"seal": func(t *rapid.T) {
				if m.CanSeal() != (flying < 2) {
					t.Fatalf("CanSeal is %v with %d in flight", m.CanSeal(), flying)
				}
				if flying >= 2 {
					t.Skip("two in flight")
				}
				if m.Pending() != pending {
					t.Fatalf("%d pending, want %d", m.Pending(), pending)
				}
				g := m.Seal(now)
				if g.At <= visible[len(visible)-1] || g.At < now || len(g.Attempts) > 0 && g.At < g.Attempts[len(g.Attempts)-1].At {
					t.Fatalf("group at %d after %d, now %d", g.At, visible[len(visible)-1], now)
				}
				if g.Lease != 0 {
					if g.Lease <= lease {
						t.Fatalf("lease %d after %d", g.Lease, lease)
					}
					lease = g.Lease
				}
				if g.At > lease {
					t.Fatalf("group at %d is above the lease %d that is durable with it", g.At, lease)
				}
				visible = append(visible, g.At)
				flying++
				pending = 0
			},
			"durable": func(t *rapid.T) {
				if flying == 0 {
					t.Skip("nothing in flight")
				}
				flying--
				n := rapid.IntRange(0, len(visible)-1).Draw(t, "oldest")
				m.Durable(visible[n])
				floor = max(floor, visible[n])
				visible = visible[max(0, n-2):] // some attempts are older than what is said to be the oldest
			},
			"clock": func(t *rapid.T) {
				now = uint64(max(0, int64(now)+rapid.Int64Range(-20, 100).Draw(t, "step")))
			},
		})
	})
}

// held is a reservation with the attempts it is for.
type held struct {
	owner any
	lost  []*commit.Attempt
	all   bool
	until uint64
}

func reads(a *commit.Attempt, k string) bool {
	return slices.ContainsFunc(a.Reads.Points(), func(p []byte) bool { return string(p) == k }) ||
		slices.ContainsFunc(a.Reads.Ranges(), func(r keys.Range) bool { return r.Contains([]byte(k)) })
}

func readsAny(as []*commit.Attempt, k string) bool {
	return slices.ContainsFunc(as, func(a *commit.Attempt) bool { return reads(a, k) })
}

func anyKey(o *txn.Overlay, f func(string) bool) (found bool) {
	o.EachWrite(func(k string, _ txn.Write) bool {
		found = found || f(k)
		return true
	})
	return found
}

// trace runs a machine by a seed and returns a hash over everything it said.
func trace(seed uint64) uint64 {
	rng := rand.New(rand.NewPCG(seed, 7))
	h := fnv.New64a()
	m := commit.New(commit.Options{GroupAttemptsMax: 1 + rng.IntN(8)}, 0)
	now, flying := uint64(0), 0
	visible := []uint64{0}
	for range 3000 {
		now += uint64(rng.IntN(3))
		switch rng.IntN(8) {
		default:
			a := &commit.Attempt{
				Snapshot: visible[max(0, len(visible)-1-rng.IntN(3))], Reads: new(txn.ReadSet), Writes: new(txn.Overlay),
				Cost: time.Duration(rng.IntN(2000)) * time.Microsecond, Owner: rng.IntN(40),
			}
			for range rng.IntN(4) {
				a.Reads.AddPoint(fmt.Appendf(nil, "k%02d", rng.IntN(30)))
			}
			if n := rng.IntN(30); rng.IntN(2) == 0 {
				a.Reads.AddRange(keys.Range{Start: fmt.Appendf(nil, "k%02d", n), End: fmt.Appendf(nil, "k%02d", n+rng.IntN(5))})
			}
			for range 1 + rng.IntN(3) {
				a.Writes.Set(fmt.Appendf(nil, "k%02d", rng.IntN(30)), txn.Write{Value: make([]byte, 9), Stamped: true})
			}
			v := m.Judge(a, now)
			fmt.Fprintln(h, v)
			if v == commit.Free || v == commit.Turn {
				fmt.Fprintln(h, m.Accept(a, now))
			}
			for a := m.Woken(); a != nil; a = m.Woken() {
				fmt.Fprintln(h, a.Owner)
			}
		case 0:
			if m.CanSeal() {
				g := m.Seal(now)
				flying++
				visible = append(visible, g.At)
				fmt.Fprintln(h, g.At, g.Lease, len(g.Attempts))
				for _, k := range g.Touched() {
					fmt.Fprintf(h, "%s ", k)
				}
			}
		case 1:
			if flying > 0 {
				flying--
				m.Durable(visible[max(0, len(visible)-1-rng.IntN(4))])
			}
		}
		fmt.Fprintln(h, m.Last(), m.Full(), m.Stats())
	}
	return h.Sum64()
}

// TestSameEventsSameOrder: the order of commits depends on the events alone.
func TestSameEventsSameOrder(t *testing.T) {
	seen := map[uint64]bool{}
	for seed := range uint64(20) {
		a, b := trace(seed), trace(seed)
		if a != b {
			t.Errorf("seed %d gave traces %x and %x", seed, a, b)
		}
		seen[a] = true
	}
	if len(seen) != 20 {
		t.Errorf("20 seeds gave %d different traces: the hash sees too little", len(seen))
	}
}
