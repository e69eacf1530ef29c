// Package accesslog reads web server access logs and decides which of their
// lines are page views.
//
// It owns four things, each of them usable alone:
//
//   - [Parse] takes one line of the common or the combined log format apart.
//   - [Rules] tell a page view from everything else a server answers: pictures,
//     scripts, feeds, failed requests, form posts, robots.
//   - [Reader] yields the page views of one file, gzipped or not, in the order
//     of their times as long as the file is out of order by at most [Window].
//     Every other line is reported with its [Reason] and none ends the reading.
//     A [Mark] is a place from which a later Reader goes on.
//   - [Fingerprints] tell a log that was read before.
//
// Entries hold the visitor's address and agent as they stand in the log. They
// are there so that a caller can tell visitors apart in memory; this package
// neither stores nor logs them, and no error it returns contains a part of a
// line, nor does a Mark or a fingerprint contain a part of an address.
package accesslog
