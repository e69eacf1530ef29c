// Package stats is live site statistics: who is on a site right now, on which
// page, and what has been read.
//
// [Module] publishes the functions of the module "stats":
//
//	recordPageView       mutation {path, pageType, sessionId} -> null
//	heartbeat            mutation {sessionId, currentPath, city?, country?, latitude?, longitude?} -> null
//	getStats             query    {} or {now} -> Stats
//	getBreakdown         query    {dimension, site?, path?, country?, from?, to?, limit?} -> Breakdown
//	getSeries            query    {unit, timeZone?, site?, path?, country?, from?, to?} -> Series
//	getActiveCurve       query    {site?} -> Curve
//	getSites             query    {} -> SitesResult
//	cleanupStaleSessions internal mutation {} -> number
//	backfillAggregates   internal mutation {} -> {message}
//	backfillAggregatesChunk internal mutation {cursor, totalProcessed, seenSessionIds} -> {status, processed, uniqueSessions, cursor}
//	importViews          internal mutation {views} -> {counted, repeated, refused}
//	fold                 internal mutation {} -> number
//
// the crons "cleanup stale sessions" and "sample and roll up" and "fold old views", the intake POST /api/event, the pages /track.js
// and /stats, and the command `import`, which counts the page views of access logs.
//
// # How numbers are counted
//
// A view is one visitor on one path, counted again after the view window (30
// minutes). A visitor is one random id that the tracker keeps in the browser.
// A visitor is active from one beat until the visitor timeout (2 minutes)
// after the last: at that very moment the answer of getStats changes, with no
// write and no polling, because the query names it with WakeAt.
//
// Numbers come from the aggregates of the tables, never from reading the
// views, so that the cost of getStats grows with the visitors who are here and
// with the number of different paths, not with the views.
//
// # What is kept
//
// Views and events are rows for Options.ViewRetention, and in sums after that.
// A path without query, fragment and e-mail-like parts, a time, the visitor's
// id, and the families and sources of Hit. Places are kept only while a visitor is active. Addresses are
// never kept: the import of a log uses them in memory to tell visitors apart,
// under a secret that ends with it.
package stats
