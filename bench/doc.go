// Command bench measures Halcyon as a whole and prints, from the same run,
// what the machine could do at best, so that a figure means something on
// another machine too.
//
//	go run . mutate     mutations a second in process, beside raw Pebble writes
//	go run . websocket  mutations a second over 64 WebSockets, beside echoes
//	go run . viewers    commit to screen with 1,000 viewers of one query
//	go run . idle       resident memory of an empty store after a minute
//
// Each workload runs several times, interleaved with its yardstick; the line
// printed is the median with the smallest and largest figure. Load generator
// and server share the machine; the server is a process of its own, except in
// mutate.
package main
