// Package authsessions remembers when a signed-in user was last seen, without
// a write for every request.
//
// [Module] publishes the functions of the module "authSessions":
//
//	touchSession mutation {sessionId, lastSeenAt, ipAddress?, userAgent?}
//	             -> null | {success: true} | {success: true, skipped: true}
//	create       internal mutation, the same arguments -> the row's id
//
// touchSession is called on every authenticated request, from many tabs and
// servers at once. It is a conditional update, the pattern for all stamps of
// this kind: it writes only what has become stale, so that nearly every call
// ends after one point read.
//
//   - null: there is no such auth session. A touch never makes one.
//   - skipped: the row says enough already. Nothing was written.
//   - otherwise the row was written.
//
// # The rules of a touch
//
// The stamp of a call is its lastSeenAt, or the server's time when that is
// earlier: a caller whose clock is ahead must not make a row look fresh for
// ever.
//
// A row is stale when it has no lastSeenAt or when the stamp is later by the
// threshold (30 seconds) or more. After a call the row's lastSeenAt is
// therefore less than 30 seconds older than the call's stamp. It never goes
// backward.
//
// A new address or agent is applied at once, also inside the 30 seconds,
// because it is what somebody who looks for a stolen session needs to see; but
// only from a call that is not older than the row, so that a request that was
// under way for long does not undo newer news. An address is compared as it is
// kept: moving within one /24 is no news with the default setting.
//
// An absent or null address or agent leaves the row's as it is.
//
// Calls that touch one row at once do not fail: they are put in order, the
// first writes and the others find the row fresh.
//
// # What is kept of a user
//
// This is the one module that keeps something of an address. [Options.Details]
// says how much: addresses truncated to their network (the default), whole, or
// neither address nor agent.
package authsessions
