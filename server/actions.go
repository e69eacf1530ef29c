package server

import (
	"log/slog"
	"runtime/debug"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// action is one that a client of the sync protocol has asked for.
type action struct {
	request uint32
	path    string
	args    value.Value
	caller  caller
	refused string // it fails with this text and is not run
	claim   int64  // of the budget for inbound bytes
}

// handleAction starts an action beside whatever else runs. It is not tied to its
// connection: what it has begun can't be undone, so it goes on when the client
// has gone, who calls it lost and does not ask again.
func (c *conn) handleAction(m *protocol.Action, size int, claim *int64) {
	call := action{request: m.RequestID, path: m.Path, caller: c.caller, claim: *claim}
	if call.claim == 0 {
		call.claim = int64(size)
		if !c.server.inbound.take(call.claim) {
			c.closeNow(closeTryAgain, reasonBusy)
			return
		}
	}
	*claim = 0
	if c.actions.Add(1) > int64(c.server.o.ActionsPerConnectionMax) {
		c.actions.Add(-1)
		c.server.inbound.put(call.claim)
		c.closeNow(closeTryAgain, reasonActions)
		return
	}
	switch args, err := parseArgs(m.Args); {
	case m.Component != "":
		call.refused = noComponents
	case err != nil:
		call.refused = badArgs(err)
	default:
		call.args = args
	}
	c.server.runners.begin()
	go c.runAction(call) // Shutdown waits for it by the gauge
}

func (c *conn) runAction(call action) {
	defer c.server.runners.end()
	defer c.actions.Add(-1)
	defer c.server.inbound.put(call.claim)
	defer func() {
		if p := recover(); p != nil {
			c.server.log.Error("running an action panicked", slog.String("function", call.path), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			c.closeNow(closeInternal, reasonInternal)
		}
	}()
	answer := protocol.ActionResponse{RequestID: call.request}
	var failure *halcyon.Failure
	if call.refused != "" {
		failure = &halcyon.Failure{Message: call.refused}
	} else {
		out, err := c.server.app.Action(c.server.acting, halcyon.Request{Path: call.path, Args: call.args, Identity: call.caller.identity, Admin: call.caller.admin})
		switch {
		case err != nil:
			failure = c.server.refusal(err).Failure()
		case out.Failure != nil:
			failure, answer.LogLines = out.Failure, out.Logs
		default:
			answer.Success, answer.LogLines = true, out.Logs
			answer.Value = value.AppendJSON(nil, out.Value)
		}
	}
	if failure != nil {
		answer.ErrorMessage, answer.ErrorData = failure.Message, encodeData(failure.Data)
	}
	claim := int64(len(answer.Value))
	if !c.server.outbound.take(claim) {
		c.closeNow(closeTryAgain, reasonBusy)
		return
	}
	c.awaitRoom() // a client that takes nothing must not pile up results
	c.server.outbound.put(claim)
	if !c.send(&answer) {
		c.closeNow(closeTryAgain, reasonBusy)
	}
}
