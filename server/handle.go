package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/lxzan/gws"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// replayHoldMax is how long the first Transition of a client that came back
// waits for the mutations it sent again.
const replayHoldMax = 2 * time.Second

// events receives what the WebSocket library reads, on the goroutine that reads
// the connection.
type events struct{}

var _ gws.Event = events{}

func owner(ws *gws.Conn) *conn { return ws.NetConn().(*socket).owner }

func (events) OnOpen(*gws.Conn) {}

// OnClose is called when reading has ended, for whatever reason.
func (events) OnClose(ws *gws.Conn, _ error) { owner(ws).end() }

func (events) OnPing(ws *gws.Conn, payload []byte) {
	c := owner(ws)
	c.out.Lock()
	c.out.pong = append([]byte{}, payload...) // only the newest ping needs an answer
	c.out.Unlock()
	c.wake(true)
}

func (events) OnPong(*gws.Conn, []byte) {} // that something came has been noted

func (events) OnMessage(ws *gws.Conn, m *gws.Message) {
	c := owner(ws)
	c.messageAt.Store(0)
	claim := c.socket.gate.hand()
	if err := c.socket.inflated(m.Data.Len(), &claim); err != nil {
		c.refuse(err)
	}
	if !c.stopped.Load() && !c.server.draining.Load() { // else the client sends it again on its next connection
		// Handling goes deep, and the stack of a goroutine that reads does not
		// shrink again while it waits for the network: on one of its own it
		// costs a microsecond, and saves an idle connection 4 KiB.
		c.handling.Go(func() { c.handle(m.Opcode, m.Bytes(), &claim) })
		c.handling.Wait()
	}
	c.server.inbound.put(claim)
	_ = m.Close() // returns the buffer to its pool
}

// handle handles one message of the client. claim is what the message has of
// the budget for inbound bytes; who takes it sets it to 0.
func (c *conn) handle(opcode gws.Opcode, text []byte, claim *int64) {
	defer func() {
		if p := recover(); p != nil {
			c.server.log.Error("handling a message panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			c.closeNow(closeInternal, reasonInternal)
		}
	}()
	if opcode != gws.OpcodeText {
		c.fatal("Messages must be text, not binary.")
		return
	}
	message, err := protocol.DecodeClient(text)
	if err != nil {
		c.fatal("Could not read a message: %v", err)
		return
	}
	if m, ok := message.(*protocol.Connect); ok {
		c.handleConnect(m)
		return
	}
	if !c.connected {
		c.fatal("The first message must be Connect.")
		return
	}
	switch m := message.(type) {
	case *protocol.ModifyQuerySet:
		c.handleModifyQuerySet(m)
	case *protocol.Mutation:
		c.handleMutation(m, len(text), claim)
	case *protocol.Action:
		c.handleAction(m, len(text), claim)
	case *protocol.Authenticate:
		c.handleAuthenticate(m)
	case *protocol.Event: // telemetry that nobody asked for
	}
}

func (c *conn) handleConnect(m *protocol.Connect) {
	if c.connected {
		c.fatal("Connect was sent twice.")
		return
	}
	session, err := parseUUID(m.SessionID)
	if err != nil {
		c.fatal("The sessionId is not a UUID.")
		return
	}
	if newest := c.server.app.Durable(); m.MaxObserved != nil && engine.Timestamp(*m.MaxObserved) > newest {
		// It has seen a state that this store does not have, say because an
		// older backup was restored. To show it an older state would break what
		// it relies on; when the store has caught up, all is well again.
		c.server.behindOnce.Do(func() {
			c.server.log.Warn("a client has seen timestamps that are newer than this store's; it will come back until the store has caught up (logged once)",
				slog.Time("client_at", engine.Timestamp(*m.MaxObserved).Time()), slog.Time("store_at", newest.Time()))
		})
		c.closeNow(closeTryAgain, reasonInternal+": this server's data is older than what the client has seen")
		return
	}
	c.connected = true
	c.session, c.count = session, m.ConnectionCount
	c.socket.gate.limit = int64(c.server.o.MessageBytesMax)
	set := c.server.app.NewQuerySet(encodeQuery, c.changed)

	now := c.server.o.Clock.Now()
	closed := false
	c.change(func() {
		if closed = c.mu.closed; closed {
			return
		}
		c.mu.set = set
		c.mu.queries = map[uint32]int64{}
		c.mu.fresh = map[uint32]struct{}{}
		if m.ClientTS != 0 {
			skew := int64(m.ClientTS) - now.UnixMilli()
			c.mu.skew = &skew
		}
		if m.ConnectionCount > 0 {
			// What it sent before is on its way too.
			c.replaying.Store(true)
			c.mu.replayUntil = now.Add(replayHoldMax)
		}
	})
	if closed {
		set.Close()
		return
	}
	c.server.claimSession(c)
}

func (c *conn) handleModifyQuerySet(m *protocol.ModifyQuerySet) {
	// The timestamp of the first Transition is that of a round, also when the
	// set is empty.
	newest := c.server.app.Durable()
	problem := ""
	c.change(func() { problem = c.modifyLocked(m, newest) })
	switch problem {
	case "":
	case unread:
		c.closeNow(closeTryAgain, reasonBusy)
	default:
		c.fatal("%s", problem)
	}
}

// modifyLocked applies a ModifyQuerySet and returns what is wrong with it. The arguments of a query are read last, when there is room for it: as
// values they take many times their text, and a message may have megabytes of them.
func (c *conn) modifyLocked(m *protocol.ModifyQuerySet, newest engine.Timestamp) (problem string) {
	if c.mu.closed {
		return ""
	}
	if m.Base != c.mu.querySet || m.New != m.Base+1 {
		return fmt.Sprintf("BaseVersionMismatch: the query set is at version %d, and the change leads from %d to %d.", c.mu.querySet, m.Base, m.New)
	}
	c.mu.querySet = m.New
	c.mu.answer = true
	c.pollWanted.Store(true)
	if c.mu.sent.TS == 0 {
		c.needLocked(newest)
	}
	for _, mod := range m.Modifications {
		has, known := c.mu.queries[mod.QueryID]
		if len(c.mu.removed)+len(c.mu.failed) >= 2*c.server.o.QueriesPerConnectionMax {
			return unread // what is to be told must not pile up before a client that does not read
		}
		if mod.Remove {
			if known {
				c.unwatchLocked(has)
				delete(c.mu.queries, mod.QueryID)
				delete(c.mu.fresh, mod.QueryID)
				c.mu.set.Remove(mod.QueryID)
			}
			c.mu.removed = append(c.mu.removed, mod.QueryID)
			continue
		}
		if known {
			return fmt.Sprintf("The query id %d is in use.", mod.QueryID)
		}
		charge, refused := watchedBytes(mod), ""
		var args value.Value
		switch {
		case mod.Component != "":
			refused = noComponents
		case len(c.mu.queries) >= c.server.o.QueriesPerConnectionMax:
			refused = fmt.Sprintf("TooManyQueries: a connection may have %d live queries.", c.server.o.QueriesPerConnectionMax)
		case !c.watchLocked(charge):
			refused = fmt.Sprintf("TooManyQueries: the live queries of a connection may take %d bytes, and those of all connections %d.",
				c.server.o.LiveQueryBytesPerConnectionMax, c.server.o.LiveQueryBytesMax)
		default:
			var err error
			if args, err = parseArgs(mod.Args); err != nil {
				c.unwatchLocked(charge)
				refused = badArgs(err)
			}
		}
		if refused != "" {
			// It is not remembered, so that refusals do not add up either.
			c.mu.failed = append(c.mu.failed, engine.Change{ID: mod.QueryID, Body: protocol.AppendQueryFailed(nil, refused, nil, nil, mod.Journal)})
			continue
		}
		c.mu.queries[mod.QueryID] = charge
		c.mu.fresh[mod.QueryID] = struct{}{}
		c.mu.set.Add(mod.QueryID, mod.Path, args, mod.Journal)
	}
	return ""
}

// unread is the problem of a client that changes its query set all the time and
// does not read what it is told of that.
const unread = "unread"

// watchedBytes is about what a live query takes besides its result: its arguments
// are kept as values, and more than once.
func watchedBytes(mod protocol.Modification) int64 {
	text := len(mod.Path) + len(mod.Args)
	if mod.Journal != nil {
		text += len(*mod.Journal)
	}
	return 1<<10 + 4*int64(text)
}

// watchLocked takes what one more query needs, if it is there.
func (c *conn) watchLocked(n int64) bool {
	if c.mu.watched+n > c.server.o.LiveQueryBytesPerConnectionMax || !c.server.watched.take(n) {
		return false
	}
	c.mu.watched += n
	return true
}

func (c *conn) unwatchLocked(n int64) {
	c.mu.watched -= n
	c.server.watched.put(n)
}

// needLocked makes the query set come to at, although nothing may have changed.
func (c *conn) needLocked(at engine.Timestamp) {
	c.out.Lock()
	c.out.need = max(c.out.need, at)
	c.out.Unlock()
}

func (c *conn) handleMutation(m *protocol.Mutation, size int, claim *int64) {
	// Until its first Transition a client that came back sends again what it has
	// been waiting for. It was accepted before, and is not refused for coming late.
	again := c.replaying.Load()
	if !again && c.server.app.Overloaded(engine.Mutations) && !c.mutations.busy() {
		if !c.refuseMutation(m.RequestID) {
			c.closeNow(closeTryAgain, reasonBusy)
		}
		return
	}
	call := mutation{request: m.RequestID, path: m.Path, args: bytes.Clone(m.Args), again: again, caller: c.caller, size: size, claim: *claim}
	if m.Component != "" {
		call.refused = noComponents
	}
	if call.claim == 0 {
		call.claim = int64(size)
		if !c.server.inbound.take(call.claim) {
			c.closeNow(closeTryAgain, reasonBusy)
			return
		}
	}
	*claim = 0
	if !c.queueMutation(call) {
		c.server.inbound.put(call.claim)
		c.closeNow(closeTryAgain, reasonMutations)
	}
}

// refuseMutation answers a mutation that nothing has been done for, because the
// database has more to do than it can. It reports false when the client does not
// take what it is sent. REQUIRES: no mutation of the connection waits, since
// responses go in the order of the mutations.
func (c *conn) refuseMutation(request uint32) bool {
	r, _ := c.server.responseOf(request, halcyon.Outcome{}, halcyon.Refuse(halcyon.CodeOverloaded, nil))
	c.out.Lock()
	ok := len(c.out.items) < c.server.o.MutationsQueuedMax
	if ok && !c.out.closed {
		ok = c.queueLocked(outgoing{response: r}, 0)
	}
	c.out.Unlock()
	c.wake(true)
	return ok
}

// encodeQuery makes the part of a query's change that all connections share.
func encodeQuery(out halcyon.Outcome) []byte {
	if out.Failure != nil {
		return protocol.AppendQueryFailed(nil, out.Failure.Message, encodeData(out.Failure.Data), out.Logs, out.Journal)
	}
	return protocol.AppendQueryUpdated(nil, value.AppendJSON(nil, out.Value), out.Logs, out.Journal)
}

// parseUUID reads the text form of a UUID.
func parseUUID(text string) (id engine.ClientID, err error) {
	if len(text) != 36 {
		return id, fmt.Errorf("%d characters, want 36", len(text))
	}
	n := 0
	for i := 0; i < len(text); {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if text[i] != '-' {
				return id, fmt.Errorf("no - at character %d", i)
			}
			i++
			continue
		}
		high, ok1 := hexDigit(text[i])
		low, ok2 := hexDigit(text[i+1])
		if !ok1 || !ok2 {
			return id, fmt.Errorf("no hexadecimal digits at character %d", i)
		}
		id[n] = high<<4 | low
		n++
		i += 2
	}
	return id, nil
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
