package halcyon

import "time"

// Limits of one function call and of what an author may declare. They are Convex's documented ones; past each of them the call fails with
// [CodeLimitExceeded], or NewApp returns an error, and nothing is half done.
const (
	argsSizeMax   = 16 << 20 // Convex size of the arguments of one call
	resultSizeMax = 16 << 20 // Convex size of the result of one call

	logLinesMax     = 256     // lines a call keeps; the last of them says that there were more
	logLineBytesMax = 4 << 10 // one line with its level, cut with a marker

	indexesPerTableMax = 32
	fieldsPerIndexMax  = 16
	nameBytesMax       = 64 // modules, functions, tables, indexes, aggregates, crons, top-level fields

	displayBytesMax = 8 << 10 // a value or validator quoted in an error message

	actionTimeMax      = 10 * time.Minute // Options.ActionTimeMax when it is not set
	actionsMax         = 1_000            // Options.ActionsMax when it is not set
	actionGrace        = 5 * time.Second  // Options.ActionGrace when it is not set
	socketSendBytesMax = 1 << 20          // SocketRoute.SendMax when it is not set
	httpBodyBytesMax   = 20 << 20         // HTTPRoute.BodyMax when it is not set

	actionDepthMax = 8 // actions that run actions
	secretBytesMin = 4 // a shorter secret is not looked for in logs: it would hide half of them

	cronIntervalMin = time.Second
	cronMissedMax   = 1_000       // skipped runs that are counted one by one; there were at least so many
	cronRetryAfter  = time.Second // after the store refused a run before it started

	scheduledPerCallMax  = 1_000                    // functions that one call schedules
	scheduledArgsSizeMax = 1_000_000                // Convex size of their arguments, which lie in a document
	scheduledAwayMax     = 5 * 366 * 24 * time.Hour // into the future and the past
	scheduledKept        = 7 * 24 * time.Hour       // after they have ended
	scheduledInMemory    = 50_000                   // pending ones of a lane that the scheduler knows by heart; twice as many for a moment
	scheduledMutations   = 64                       // that run at once
	scheduledActions     = 64                       // that run at once
	scheduledRetryMin    = 100 * time.Millisecond   // doubled at each further try
	scheduledRetryMax    = time.Minute
	scheduledSweepEvery  = time.Hour
	scheduledSweepBatch  = 200   // documents that one transaction removes or ends
	scheduledMarkEvery   = 1_000 // functions that ended after which the low-water mark moves
)
