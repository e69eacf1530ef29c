package sim

import (
	"fmt"
	"math/rand/v2"
	"testing/synctest"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// screen is what one viewer watches.
type screen struct {
	*enginetest.Screen
	number int
	seen   uint64 // the newest round
}

// change adds a query to a screen or removes one.
func (s *simulation) change(v *screen) {
	slot := s.rng.Uint32N(4)
	if s.rng.IntN(4) == 0 {
		s.trace("screen %d removes %d", v.number, slot)
		v.Remove(slot)
		return
	}
	w := watched[s.rng.IntN(len(watched))]
	s.trace("screen %d watches %s as %d", v.number, w.name, slot)
	l := s.life
	v.Add(slot, w.name, func(etx *enginetest.Tx) error {
		gate := fmt.Sprintf("query %s at %d", w.name, etx.At())
		return w.run(&tx{Tx: etx, db: l.db, rng: rand.New(rand.NewPCG(3, 3)), pause: func() error {
			if !l.gates.pass(gate) {
				return errGone
			}
			return nil
		}})
	})
}

// poll takes the next round of a screen, if there is one. One that catches up
// asks for all that is durable.
func (s *simulation) poll(v *screen, catchUp bool) error {
	min := engine.Timestamp(0)
	if catchUp {
		min = s.life.db.Durable()
	}
	before := s.acked
	at, ok, err := v.Poll(min)
	if err != nil {
		return err
	}
	if !ok {
		return nil
	}
	s.trace("screen %d shows %d", v.number, at)
	if durable := s.life.db.Durable(); at > durable {
		return fmt.Errorf("screen %d shows %d, and only %d is durable", v.number, at, durable)
	}
	if v.seen = uint64(at); v.seen > before {
		s.res.Slept++
	}
	s.shown = max(s.shown, uint64(at))
	s.res.Rounds++
	s.rounds = append(s.rounds, round{at: uint64(at), step: s.res.Steps, screen: v.number})
	return nil
}

// settle polls a screen until it shows the newest state, with open gates.
func (s *simulation) settle(v *screen) error {
	want := uint64(s.life.db.Durable())
	for range 1000 {
		if err := s.poll(v, true); err != nil {
			return err
		}
		if v.seen >= want {
			return nil
		}
		if err := s.settleTime(); err != nil {
			return err
		}
	}
	return fmt.Errorf("screen %d stays at %d, the newest state is at %d", v.number, v.seen, want)
}

// settleTime lets what is under way go on, and the clock when that waits for it.
func (s *simulation) settleTime() error {
	synctest.Wait()
	if wait, ok := s.clock.Wait(); ok {
		if wait > 0 {
			s.clock.Advance(min(wait, time.Second))
		}
		s.clock.Fire()
	}
	synctest.Wait()
	return nil
}
