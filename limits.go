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

	actionTimeMax  = 10 * time.Minute // Options.ActionTimeMax when it is not set
	actionsMax     = 1_000            // Options.ActionsMax when it is not set
	actionGrace    = 5 * time.Second  // Options.ActionGrace when it is not set
	actionDepthMax = 8                // actions that run actions
	secretBytesMin = 4                // a shorter secret is not looked for in logs: it would hide half of them

	cronIntervalMin = time.Second
	cronRetryAfter  = time.Second // after the store refused a run before it started
)
