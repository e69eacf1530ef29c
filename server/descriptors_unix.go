//go:build unix

package server

import (
	"math"
	"syscall"
)

// descriptorsMax returns how many files and connections the process may have
// open, as far as the system tells.
func descriptorsMax() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}
