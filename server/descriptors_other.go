//go:build !unix

package server

import "math"

// descriptorsMax returns how many files and connections the process may have open.
func descriptorsMax() int { return math.MaxInt32 }
