//go:build !unix

package cli

import "os"

// devPossible says that programs can't inherit sockets here.
const devPossible = false

func inheritedFile(descriptor int) *os.File { return os.NewFile(uintptr(descriptor), "inherited") }
