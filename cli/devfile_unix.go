//go:build unix

package cli

import (
	"os"
	"syscall"
)

// devPossible says that programs can inherit sockets here.
const devPossible = true

// inheritedFile returns an open file that this program was started with, and keeps it from those that it starts.
func inheritedFile(descriptor int) *os.File {
	syscall.CloseOnExec(descriptor)
	_ = syscall.SetNonblock(descriptor, true) // so that Close ends a Read
	return os.NewFile(uintptr(descriptor), "inherited")
}
