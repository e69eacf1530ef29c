// Package enginetest helps to test what is built on package engine: databases
// in memory, a clock that a test moves, and a history that checks that
// transactions were serializable.
//
// Open and OpenWith give a database that is closed when the test ends; a disk
// failure or an error of Close fails the test.
//
// Clock implements engine.Clock. Time stands still until the test calls
// Advance, which runs every timer that falls due, in order, before it returns.
//
// History runs transactions on a database and remembers what each read and
// wrote. Check replays them in the order of their timestamps against a plain
// model in memory and compares every single read, those of queries and of
// failed functions included. Since the engine gives every commit a place in one
// order, that is all there is to serializability. A Screen of a history watches
// live queries, whose rounds are checked the same way: what is shown at a
// timestamp is what was so at that timestamp.
//
// # Caveats
//
// A history has to see every write from an empty database on. It keeps all it
// has seen in memory, and checking costs transactions times documents.
package enginetest
