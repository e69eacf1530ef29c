package e2e

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the process that cmd starts killed when the test ends
// without a chance to do it, as after a timeout.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
