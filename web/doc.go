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
//	GET /stats             the page
//	GET /stats/stats.js    its script, on the official Convex client
//	GET /stats/stats.css   its look
//	GET /stats/icon.svg    its icon
//
// The page names its files by these paths. Everything is in memory, packed once
// on first use, and answered with an ETag; nothing here is ever written, so all
// functions may be called at any time from any goroutine.
package web
