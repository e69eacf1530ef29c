// Package mutants breaks the engine on purpose, to show that its tests notice.
//
// Each file testdata/NAME.patch plants one bug of the kind that a database must
// not have: a read that is not validated, something shown before it is durable,
// an index that misses a change. It begins with a sentence on what the bug does,
// and names the tests that must catch it, each of which has to catch it alone:
//
//	A commit is shown before it is on the disk.
//
//	Caught by ./engine/sim -test.run=TestSeeds -sim.seeds=40 -sim.first=1
//
//	--- a/engine/committer.go
//	+++ b/engine/committer.go
//	@@ ...
//
// The rest is what git diff prints. The numbers of lines are not looked at: the
// lines that a hunk takes away, with those around them, must be in the file
// exactly once. A patch that no longer applies is a failure, as a bug that
// nothing catches is: somebody who changes the code refreshes the patch, by
//
//	git apply engine/mutants/testdata/NAME.patch   # by hand where it fails
//	git diff -U2                                   # into the file, below its head
//	git checkout engine
//
// TestPatchesApply is quick and always runs. TestMutantsAreCaught compiles the
// engine once for each patch and needs minutes; it runs with the flag -mutants,
// or for some of them: -mutants=NAME,NAME. The tree itself is never touched: a
// mutant is compiled from an overlay of the files it changes.
package mutants
