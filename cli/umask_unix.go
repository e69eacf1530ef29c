//go:build unix

package cli

import "syscall"

// restrictNewFiles makes every file and folder the process creates from now on
// usable by its user alone, also those a library creates with wider permissions.
func restrictNewFiles() { syscall.Umask(0o077) }
