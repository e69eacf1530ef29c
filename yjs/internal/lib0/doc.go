// Package lib0 holds the primitives of the lib0 encoding that Yjs is written
// in: variable-length integers, strings, the "any" value format, the
// run-length column coders of update format V2, and the arithmetic of UTF-16
// offsets over UTF-8 text.
//
// A [Reader] works on a string, so every substring it hands out shares the
// input without a copy and can never be changed behind the reader's back. It
// keeps the first failure and answers zero values from then on: a caller may
// read a whole record and look at [Reader.Err] once. No read allocates because
// of a number found in the input.
package lib0
