package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// client sends one call after the other.
type client struct {
	number  int
	request uint32 // the next one's number
	op      *op    // under way
	again   *op    // to be sent again, since its answer was lost
	acked   []*op  // answered, by number; of requests that happen once
}

// op is one call of a client. It may be sent several times, of which one is
// under way at most.
type op struct {
	client  *client
	number  int
	work    work
	once    bool
	request uint32
	seed    uint64
	query   bool

	// Of the sending under way.
	sent      int
	life      int
	since     uint64 // the newest commit that was acknowledged when it began
	begun     time.Time
	done      bool // read by the driver when nothing moves
	receipt   engine.Receipt
	err       error
	told      int // the step in which OnCommit was called, 0 before
	toldIn    int // the process that did
	committed uint64
	answer    string // the first result that was told, of what committed
}

func (o *op) name() string { return fmt.Sprintf("%d/%d %s", o.client.number, o.number, o.work.name) }

func (o *op) token() string { return fmt.Sprintf("%d/%d", o.client.number, o.number) }

// begin starts the next call of an idle client.
func (s *simulation) begin(c *client) error {
	if c.again != nil {
		o := c.again
		c.again = nil
		s.send(o)
		return nil
	}
	if len(c.acked) > 0 && s.rng.IntN(12) == 0 {
		// Its answer has come, and the client does not believe it.
		s.send(c.acked[s.rng.IntN(len(c.acked))])
		return nil
	}
	total := 0
	for _, w := range works {
		total += w.weight
	}
	n := s.rng.IntN(total)
	i := slices.IndexFunc(works, func(w work) bool { n -= w.weight; return n < 0 })
	o := &op{client: c, number: len(s.ops), work: works[i], seed: s.rng.Uint64(), once: s.rng.IntN(3) > 0}
	if o.query = !o.work.writes && s.rng.IntN(2) == 0; o.query {
		o.once = false
	}
	if o.once {
		o.request = c.request
		c.request++
	}
	s.ops = append(s.ops, o)
	s.send(o)
	return nil
}

// send starts a call of the client.
func (s *simulation) send(o *op) {
	l := s.life
	o.client.op = o
	o.sent++
	o.life, o.since, o.begun = l.number, s.acked, s.clock.Now()
	o.done, o.receipt, o.err = false, engine.Receipt{}, nil
	name := o.name()
	if o.sent > 1 {
		name += fmt.Sprint(" again ", o.sent)
	}
	ctx := &call{Context: context.Background(), gates: l.gates, name: name}
	s.trace("%s, once %v, since %d", name, o.once, o.since)
	pause := func() error {
		if !l.gates.pass(name) {
			return errGone
		}
		return nil
	}
	newTx := func(etx *enginetest.Tx) *tx {
		return &tx{Tx: etx, db: l.db, rng: rand.New(rand.NewPCG(o.seed, 2)), token: o.token(), hot: s.hot, pause: pause}
	}
	// The history of this life: by the time a ghost ends, there is another.
	if o.query {
		go func() {
			o.err = s.hist.Query(ctx, name, func(etx *enginetest.Tx) error {
				_, err := o.work.run(newTx(etx))
				o.receipt.At = etx.At()
				return err
			})
			o.done = true
		}()
		return
	}
	c := engine.Call{Name: name, Once: o.once, Request: o.request, OnCommit: func(engine.Receipt) {
		l.gates.pass(fmt.Sprintf("ack of %s", name))
		if o.toldIn != l.number {
			o.told, o.toldIn = s.res.Steps, l.number
		}
	}}
	c.Client[0] = byte(o.client.number + 1)
	go func() {
		o.receipt, o.err = s.hist.Mutate(ctx, c, func(etx *enginetest.Tx) ([]byte, error) {
			x := newTx(etx)
			if o.work.writes {
				if err := x.insert("journal", object("token", x.token)); err != nil {
					return nil, err
				}
			}
			said, err := o.work.run(x)
			return []byte(said), err
		})
		o.done = true
	}()
}

// collect notes what has ended since the last event, and whether it may have.
func (s *simulation) collect() error {
	select {
	case err := <-s.life.fatal:
		if !s.broken {
			return fmt.Errorf("the database gave up: %w", err)
		}
		s.trace("the database gave up")
	default:
	}
	for _, c := range s.clients {
		o := c.op
		if o == nil || !o.done {
			continue
		}
		c.op = nil
		if err := s.ended(o); err != nil {
			return fmt.Errorf("%s: %w", o.name(), err)
		}
	}
	return nil
}

// ended looks at the outcome of a call.
func (s *simulation) ended(o *op) error {
	r := o.receipt
	at := uint64(r.At)
	s.trace("%s ends at %d, %q, replayed %v, %v", o.name(), at, r.Result, r.Replayed, o.err)
	switch {
	case o.err == nil, errors.Is(o.err, errRefused), errors.As(o.err, new(*engine.BoundError)):
	case errors.Is(o.err, engine.ErrTimeout):
		if s.clock.Now().Sub(o.begun) < s.timeMax {
			return fmt.Errorf("%w, though only %v have passed", o.err, s.clock.Now().Sub(o.begun))
		}
		s.res.Timeouts++
		return nil
	case errors.Is(o.err, engine.ErrFailed) && s.broken:
		return nil
	default:
		return o.err
	}
	s.shown = max(s.shown, at)
	if durable := uint64(s.life.db.Durable()); at > durable {
		return fmt.Errorf("it is answered at %d, and only %d is durable", at, durable)
	}
	if o.err != nil || o.query || !o.work.writes {
		if at < o.since && !r.Replayed {
			return fmt.Errorf("it rests on the state at %d, and began when %d was acknowledged", at, o.since)
		}
		return nil
	}
	if o.committed != 0 {
		// It had committed before.
		if !r.Replayed || at != o.committed || string(r.Result) != o.answer {
			return fmt.Errorf("sent again it is answered with %q at %d, replayed %v; it had committed with %q at %d", r.Result, at, r.Replayed, o.answer, o.committed)
		}
		s.res.Replays++
		return nil
	}
	if r.Replayed {
		return fmt.Errorf("it was replayed from %d and has never committed", at)
	}
	if o.toldIn != s.life.number {
		return fmt.Errorf("it was answered before OnCommit")
	}
	if at <= o.since {
		return fmt.Errorf("it commits at %d, and began when %d was acknowledged", at, o.since)
	}
	s.commit(o)
	s.acked = max(s.acked, at)
	s.res.Commits++
	return nil
}

// commit notes that a call is part of the database.
func (s *simulation) commit(o *op) {
	o.committed, o.answer = uint64(o.receipt.At), string(o.receipt.Result)
	s.tokens[o.token()] = o.committed
	if o.once {
		o.client.acked = append(o.client.acked, o)
	}
}

// resend sends every request whose answer is not known once more, with open
// gates, and each client's last one that was answered.
func (s *simulation) resend() error {
	for _, c := range s.clients {
		for _, o := range []*op{c.again, last(c.acked)} {
			if o == nil {
				continue
			}
			s.send(o)
			for c.op != nil {
				before := s.clock.Now()
				if err := s.settleTime(); err != nil {
					return err
				}
				if err := s.collect(); err != nil {
					return err
				}
				if c.op != nil && s.clock.Now().Sub(before) == 0 {
					return fmt.Errorf("%s does not end", o.name())
				}
			}
		}
		c.again = nil
	}
	return nil
}

func last(ops []*op) *op {
	if len(ops) == 0 {
		return nil
	}
	return ops[len(ops)-1]
}
