// Package web holds the browser code of Halcyon as it is served: the tracker
// script, the live statistics page, and the look the site shares with it.
//
// The sources are TypeScript and CSS in the npm workspace of this folder; their
// bundles are committed, so building Halcyon needs neither node nor npm. Package
// web/build makes them.
//
// Who mounts the statistics serves, with [TrackHandler] and [StatsHandler]:
//
//	GET /track.js          the tracker, for a script tag on any site
//	GET /stats             the page, with its style, the numbers of the moment and a
//	                       script that has the rest wait for the first paint
//	GET /stats/stats.js    its script, on the official Convex client
//	GET /stats/stats.css   its look, for the page that says that there are no statistics
//	GET /stats/icon.svg    its icon
//	GET /stats/world.svg   the land of its map
//
// # The tracker
//
// A site that wants to be counted carries one line, with the address of the server:
//
//	<script defer src="https://your-server.example/track.js"></script>
//
// It sends to /api/event of that server what the page "The tracker" of
// docs/guide/statistics.md lists: a view when a page is opened, a heartbeat at once
// and every 30 seconds, give or take 5, while the page is visible, and a word when the
// last tab is closed. All tabs of a browser are one visitor, with one random id in
// localStorage, who is on the page that had the focus last. With Do Not Track or
// Global Privacy Control nothing is stored.
//
// The same watching is a React hook, usePageTracking in tracker/src/react.ts, on the
// official Convex client.
//
// # Offline documents
//
// replicate is a library for pages of other programs, and is not served: see
// docs/guide/replicate-client.md. Its bundles leave out yjs, convex and react.
//
// # Caching
//
// The page names its files by these paths. Everything is in memory, packed once
// on first use, and answered with an ETag; nothing here is ever written, so all
// functions may be called at any time from any goroutine.
package web
