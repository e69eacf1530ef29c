package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// effect is one change of a document, as the change records tell it.
type effect struct {
	group engine.Timestamp
	what  string
}

func effects(db *engine.DB) (out []effect, err error) {
	for g, err := range db.Changes(context.Background(), 0) {
		if err != nil {
			return nil, err
		}
		for _, c := range g.Changes {
			out = append(out, effect{g.At, fmt.Sprintf("%d %d %s %s %v %s", g.At, c.At, c.Table, c.ID, c.Deleted, value.AppendJSON(nil, c.Fields))})
		}
	}
	return out, nil
}

// place says where the newest groups are.
func (s *simulation) place() string {
	g := s.life.gates
	var ack, other bool
	for _, name := range g.names() {
		switch {
		case strings.HasPrefix(name, "ack of"):
			ack = true
		case !strings.HasPrefix(name, "log"):
			other = true
		}
	}
	logs := g.waits(gateWrite) || g.waits(gateSync)
	switch {
	case s.broken:
		return CrashBroken
	case ack && logs:
		return CrashBetween
	case ack:
		return CrashBeforeAck
	case g.waits(gateWrite):
		return CrashBeforeLog
	case g.waits(gateSync):
		return CrashUnsynced
	case other:
		return CrashRunning
	}
	return CrashIdle
}

// crash ends the process, and begins another with what the disk has.
func (s *simulation) crash() error {
	s.crashes--
	where := s.place()
	s.res.Crashes[where]++
	disk, err := s.disk()
	if err != nil {
		return err
	}
	shown := s.shown
	s.trace("the process ends %s, %d was shown", where, shown)
	s.count()

	// The ghost ends what it has begun.
	ghost := s.life
	ghost.gates.set(true, true)
	synctest.Wait()
	for _, c := range s.clients {
		if c.op != nil && !c.op.done {
			return fmt.Errorf("%s does not end when its process does", c.op.name())
		}
	}
	order, err := effects(ghost.db)
	if err != nil {
		return fmt.Errorf("change records of the ghost: %w", err)
	}
	if err := ghost.db.Close(); err != nil && !s.broken {
		return fmt.Errorf("close the ghost: %w", err)
	}
	ghost.db = nil
	s.clock.Reset()
	if !s.broken {
		if err := s.hist.Check(); err != nil {
			return fmt.Errorf("up to the crash: %w", err)
		}
	}

	if err := s.open(disk); err != nil {
		return err
	}
	got, err := effects(s.life.db)
	if err != nil {
		return fmt.Errorf("change records after the crash: %w", err)
	}
	if s.broken {
		return s.afterBreaking(got, order, shown)
	}
	if len(got) > len(order) || !slices.Equal(got, order[:len(got)]) {
		return fmt.Errorf("the %d effects recovered are not the first of the %d there were", len(got), len(order))
	}
	if n := len(got); n < len(order) {
		lost := order[n]
		if n > 0 && got[n-1].group == lost.group {
			return fmt.Errorf("the group at %d is there in part: %s is not", lost.group, lost.what)
		}
		if uint64(lost.group) <= shown {
			return fmt.Errorf("%d was shown, and what was committed at %d is gone: %s", shown, lost.group, lost.what)
		}
	}
	recovered := engine.Timestamp(0)
	if n := len(got); n > 0 {
		recovered = got[n-1].group
	}
	// What was under way has either happened or not, and nobody was told.
	cut := engine.Timestamp(0)
	for _, c := range s.clients {
		o := c.op
		c.op = nil
		if o == nil {
			continue
		}
		switch {
		case o.err == nil && !o.query && o.work.writes && !o.receipt.Replayed && o.receipt.At <= recovered:
			s.commit(o)
			s.trace("%s had committed at %d", o.name(), o.committed)
		case o.err == nil && !o.query && o.work.writes && !o.receipt.Replayed:
			s.res.Lost++ // not in the trace: a ghost decides nothing by the seed
			if cut == 0 || o.receipt.At < cut {
				cut = o.receipt.At
			}
		}
		if o.once {
			c.again = o
		}
	}
	if cut != 0 {
		s.hist.Cut(cut)
	}
	if err := s.verify(); err != nil {
		return fmt.Errorf("after the crash: %w", err)
	}
	if err := s.dump(); err != nil {
		return fmt.Errorf("after the crash: %w", err)
	}
	s.acked = max(s.acked, shown)
	s.rounds = nil
	s.life.gates.set(false, false)
	return nil
}

// disk returns what a crash leaves: all that was synced, and of the rest
// nothing, all, or any part.
func (s *simulation) disk() (*enginetest.Crashable, error) {
	synced := s.life.fs.CrashClone(vfs.CrashCloneCfg{})
	kind, seed := s.rng.IntN(3), s.rng.Uint64()
	if kind == 0 {
		return synced, nil
	}
	// What is drawn here must not depend on what Pebble has left to delete.
	all := s.life.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(seed, 1))})
	if kind == 1 {
		return all, nil
	}
	// Not by CrashClone, which goes through files in no order.
	names, err := all.List("db")
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".log") })
	if len(names) == 0 {
		return synced, nil
	}
	// The newest is the one that is written to. It is found by its place, since
	// the numbers of files are Pebble's own affair.
	name := "db/" + slices.Max(names)
	if err := mix(synced, all, name, rand.New(rand.NewPCG(seed, 2))); err != nil {
		return nil, fmt.Errorf("part of %s: %w", name, err)
	}
	return synced, nil
}

// mix puts some of the blocks of a file that were not synced where a crash
// finds them.
func mix(synced, all *enginetest.Crashable, name string, rng *rand.Rand) error {
	const block = 512
	to, err := synced.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil // the file itself was not synced
	}
	from, err := all.Open(name)
	if err != nil {
		return errors.Join(err, to.Close())
	}
	info, err := from.Stat()
	if err == nil {
		b := make([]byte, block)
		for at := int64(0); at < info.Size() && err == nil; at += block {
			n := min(block, info.Size()-at)
			if _, err = from.ReadAt(b[:n], at); err == nil && rng.IntN(2) == 0 {
				_, err = to.WriteAt(b[:n], at)
			}
		}
	}
	return errors.Join(err, to.Sync(), from.Close(), to.Close())
}

// breakLog has the disk fail, and then the process end. What was under way may
// be on the disk or not; all that was told is.
func (s *simulation) breakLog() error {
	s.broken = true
	failure := []error{syscall.EIO, syscall.ENOSPC}[s.rng.IntN(2)]
	s.life.gates.breakLog(failure)
	s.trace("writes to the log fail: %v", failure)
	for range 200 {
		if err := s.stepOnce(false); err != nil {
			return err
		}
		if s.crashes == 0 { // one of the events was a crash
			return nil
		}
	}
	return s.crash()
}

// afterBreaking checks what a process recovers after another's disk had failed.
func (s *simulation) afterBreaking(got, order []effect, shown uint64) error {
	for i, e := range order {
		if i >= len(got) || got[i] != e {
			return fmt.Errorf("effect %d was durable and is gone: %s", i+1, e.what)
		}
	}
	if err := s.verify(); err != nil {
		return fmt.Errorf("after the disk had failed: %w", err)
	}
	for _, c := range s.clients {
		c.op = nil // whatever has become of it, nobody is told
	}
	tokens := map[string]int{}
	for _, e := range got {
		if strings.Contains(e.what, " journal ") {
			tokens[e.what[strings.Index(e.what, "{"):]]++
		}
	}
	for _, o := range s.ops {
		n := tokens[fmt.Sprintf(`{"token":%q}`, o.token())]
		if n > 1 || o.committed != 0 && n == 0 {
			return fmt.Errorf("%s, acknowledged at %d, is there %d times", o.name(), o.committed, n)
		}
	}
	s.trace("%d of %d effects, %d was shown", len(got), len(order), shown)
	return nil
}
