// Package tidy keeps the rules of this repository that a machine can check.
//
// A rule is a function from a [Tree], the files of the repository, to the
// [Problem] values it finds. All of them run as tests:
//
//	go test ./internal/tidy
//
// Each rule also has a test on a small tree that breaks it, so that a rule
// which has stopped finding anything is noticed.
//
// testdata/arrows.txt lists which package imports which. It is compared with
// the sources, and written from them by
//
//	go test ./internal/tidy -run TestArrows -update
//
// so that a new arrow is seen in review. The file is also the picture of the
// house: who stands above whom. Tests are not part of it, nor of the edges
// that are forbidden, since a test of one room may use any other; that a test
// makes no cycle is the compiler's business.
package tidy
