package commit_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// TestStories drives a machine by the commands of testdata/story and compares
// what it answers. Rewrite them with -rewrite and read the difference.
//
//	new last=N [attempts-max= bytes-max= in-flight= turn-cost= reserve-max= lease=]
//	submit NAME snapshot=N now=N [cost=]   with lines of reads and writes: judged, and accepted if it is free
//	release NAME                           the call ended
//	expire now=N
//	woken now=N                            judges again what is woken
//	seal now=N
//	durable oldest=N
//
// Lines: read K, range FROM TO (TO may be -), set K V, stamped K, delete K,
// touch K, add K and remove K (entries of an aggregate).
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/story", func(t *testing.T, path string) {
		var m *commit.Machine
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			switch d.Cmd {
			case "new":
				m = newMachine(t, d)
			case "submit":
				fmt.Fprintln(&out, judge(m, attempt(t, d), number(t, d, "now")))
			case "release":
				m.Release(d.CmdArgs[0].Key)
			case "expire":
				m.Expire(number(t, d, "now"))
			case "woken":
				for a := m.Woken(); a != nil; a = m.Woken() {
					fmt.Fprintf(&out, "%s %s\n", a.Owner, judge(m, a, number(t, d, "now")))
				}
			case "seal":
				if !m.CanSeal() {
					return "cannot seal\n"
				}
				fmt.Fprintln(&out, show(m.Seal(number(t, d, "now"))))
			case "durable":
				m.Durable(number(t, d, "oldest"))
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			s := m.Stats()
			fmt.Fprintf(&out, "last=%d pending=%d full=%v can-seal=%v accepted=%d conflicts=%d turns=%d groups=%d\n",
				m.Last(), m.Pending(), m.Full(), m.CanSeal(), s.Accepted, s.Conflicts, s.Turns, s.Groups)
			if at, ok := m.NextExpiry(); ok || m.Parked() > 0 {
				fmt.Fprintf(&out, "parked=%d next-expiry=%d\n", m.Parked(), at)
			}
			return out.String()
		})
	})
}

func judge(m *commit.Machine, a *commit.Attempt, now uint64) string {
	switch v := m.Judge(a, now); v {
	case commit.Free:
		return fmt.Sprintf("accepted at %d%s", m.Accept(a, now), stamps(a.Writes))
	case commit.Turn:
		return "turn"
	case commit.Reserved:
		return "reserved"
	default:
		return "parked"
	}
}

func number(t *testing.T, d *datadriven.TestData, name string) (n uint64) {
	t.Helper()
	d.ScanArgs(t, name, &n)
	return n
}

func newMachine(t *testing.T, d *datadriven.TestData) *commit.Machine {
	var o commit.Options
	for _, a := range d.CmdArgs {
		var err error
		switch a.Key {
		case "attempts-max":
			_, err = fmt.Sscan(a.Vals[0], &o.GroupAttemptsMax)
		case "bytes-max":
			_, err = fmt.Sscan(a.Vals[0], &o.GroupBytesMax)
		case "in-flight":
			_, err = fmt.Sscan(a.Vals[0], &o.GroupsInFlight)
		case "turn-cost":
			o.TurnCost, err = time.ParseDuration(a.Vals[0])
		case "reserve-max":
			_, err = fmt.Sscan(a.Vals[0], &o.ReserveMax)
		case "lease":
			_, err = fmt.Sscan(a.Vals[0], &o.Lease)
		}
		if err != nil {
			d.Fatalf(t, "%s: %v", a.Key, err)
		}
	}
	return commit.New(o, number(t, d, "last"))
}

func attempt(t *testing.T, d *datadriven.TestData) *commit.Attempt {
	a := &commit.Attempt{Reads: new(txn.ReadSet), Writes: new(txn.Overlay), Owner: d.CmdArgs[0].Key}
	d.MaybeScanArgs(t, "snapshot", &a.Snapshot)
	var cost string
	if d.MaybeScanArgs(t, "cost", &cost); cost != "" {
		var err error
		if a.Cost, err = time.ParseDuration(cost); err != nil {
			d.Fatalf(t, "%v", err)
		}
	}
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		k := []byte(f[1])
		switch f[0] {
		case "read":
			a.Reads.AddPoint(k)
		case "range":
			r := keys.Range{Start: k}
			if f[2] != "-" {
				r.End = []byte(f[2])
			}
			a.Reads.AddRange(r)
		case "set":
			a.Writes.Set(k, txn.Write{Value: []byte(f[2])})
		case "stamped":
			a.Writes.Set(k, txn.Write{Value: make([]byte, txn.StampOffset+txn.StampSize), Stamped: true})
		case "delete":
			a.Writes.Delete(k)
		case "touch":
			a.Writes.Touch(k)
		case "add":
			a.Writes.Entry(k, txn.Entry{Delta: +1})
		case "remove":
			a.Writes.Entry(k, txn.Entry{Delta: -1})
		default:
			d.Fatalf(t, "unknown line %s", line)
		}
	}
	return a
}

// stamps shows the stamped values of an attempt.
func stamps(o *txn.Overlay) string {
	var out strings.Builder
	o.EachWrite(func(k string, w txn.Write) bool {
		if w.Stamped {
			fmt.Fprintf(&out, ", %s=%x", k, w.Value)
		}
		return true
	})
	return out.String()
}

func show(g commit.Group) string {
	var out strings.Builder
	fmt.Fprintf(&out, "group at %d", g.At)
	if g.Lease != 0 {
		fmt.Fprintf(&out, ", lease %d", g.Lease)
	}
	for _, a := range g.Attempts {
		fmt.Fprintf(&out, "\n  %v at %d", a.Owner, a.At)
	}
	g.Writes.EachWrite(func(k string, w txn.Write) bool {
		switch {
		case w.Deleted:
			fmt.Fprintf(&out, "\n  delete %s", k)
		case w.Touched:
			fmt.Fprintf(&out, "\n  touch %s", k)
		case w.Stamped:
			fmt.Fprintf(&out, "\n  set %s %x", k, w.Value)
		default:
			fmt.Fprintf(&out, "\n  set %s %s", k, w.Value)
		}
		return true
	})
	g.Writes.EachEntry(keys.Range{}, func(k string, e txn.Entry) bool {
		fmt.Fprintf(&out, "\n  entry %s %+d", k, e.Delta)
		return true
	})
	fmt.Fprint(&out, "\n  touched:")
	for _, k := range g.Touched() {
		fmt.Fprintf(&out, " %s", k)
	}
	return out.String()
}
