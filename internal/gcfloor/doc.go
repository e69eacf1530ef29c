// Package gcfloor keeps a program whose heap is small from collecting garbage all the time.
//
// The collector runs when the heap has grown by GOGC percent of what was live, at least by 4 MB. A server of a small store has 3 MB live and
// makes 50 MB of garbage a second when it is busy: it would collect a dozen times a second, each time with a quarter of the processors, which
// is felt by whoever waits for an answer. A large heap is left as it is, since there GOGC already means what it should.
//
// [Keep] is all of it: it changes the percentage of the whole process until its stop is called.
package gcfloor
