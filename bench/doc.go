// Command bench measures Halcyon as a whole and prints, from the same run,
// what the machine could do at best, so that a figure means something on
// another machine too.
//
//	go run . mutate     mutations a second in process, beside raw Pebble writes
//	go run . websocket  mutations a second over 64 WebSockets, beside echoes
//	go run . viewers    commit to screen with 10,000 viewers of one query, their memory, and all of them coming back
//	go run . overload   four times as many mutations as can be answered
//	go run . http       durable inserts over HTTP, beside PocketBase where -pocketbase names it
//	go run . idle       resident memory of an empty store after a minute
//	go run . yjs        the Yjs package beside npm yjs and ywasm
//	go run . open       the second half of rooms
//	go run . rooms      50 writers of one Yjs document, and 1,000 open documents, beside Hocuspocus
//
//	go run . transfer   transfers between two of 100,000 accounts, beside Pebble and PostgreSQL
//	go run . hot        one document that 64 clients change, beside 10,000 in turn
//	go run . documents  64 writers of documents, beside a counter row, and handlers that roll back; batches; sizes
//	go run . getstats   the query of the statistics page at three sizes, bytes on disk a view
//	go run . contention 1,000 visitors with 3 tabs that beat in step, beside the algorithm with conflicts
//	go run . slow       16 clients beside a function of 900 ms
//	go run . hotscan    a scan of 1,000 rows that are touched 20,000 times a second
//	go run . load       a table filled by sorted ingest, and its aggregate at three sizes
//	go run . aggregate  what an aggregate costs on inserts
//	go run . build      an index built under 2,000 writes a second
//	go run . reopen     open after a kill, with 1 GB of data
//	go run . subscriptions  100,000 live queries, 10,000 screens on one, 10,000 that wait for a time
//
// Each workload runs several times, interleaved with its yardstick; the line
// printed is the median with the smallest and largest figure. Some figures have
// a bound to reach, which is printed with them. Load generator and server share the
// machine; the server is a process of its own in http, websocket, viewers
// and idle.
package main
