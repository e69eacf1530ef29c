package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/halcyon-db/halcyon/engine"
)

// hinted is an error with the next thing to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// hintFor returns what to do about err, or "".
func hintFor(err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

// explainOpen says what to do when the folder dir cannot be opened.
func explainOpen(program, dir string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, engine.ErrLocked):
		hint = fmt.Sprintf("another process has %s open, probably a running `%s serve`: stop it first, or choose another folder with --storage.dir", dir, program)
	case errors.Is(err, engine.ErrNewerFormat):
		hint = fmt.Sprintf("%s was written by a newer version: run that version or a newer one", dir)
	case errors.Is(err, engine.ErrOlderFormat):
		hint = fmt.Sprintf("before version 0.1 the data of one version is not promised to be readable by the next: run the version that wrote %s, or begin with another folder", dir)
	case errors.Is(err, engine.ErrCorrupt):
		hint = fmt.Sprintf("keep a copy of %s as it is, then restore a backup into another folder and name it with --storage.dir", dir)
	case errors.Is(err, engine.ErrNotDatabase):
		hint = fmt.Sprintf("%s holds something else: name the folder of the data, or a new one, with --storage.dir", dir)
	case errors.Is(err, engine.ErrPermission), errors.Is(err, fs.ErrPermission):
		hint = fmt.Sprintf("the user who runs %s must be able to read and write %s; or choose another folder with --storage.dir", program, dir)
	case errors.Is(err, syscall.ENOSPC):
		hint = "the disk is full: free some space"
	case errors.Is(err, syscall.ENOTDIR):
		hint = fmt.Sprintf("%s or a part of it is a file: choose a folder with --storage.dir", dir)
	}
	return hinted{err, hint}
}

// explainListen says what to do when the address cannot be listened on.
func explainListen(address string, err error) error {
	hint := "--server.listen takes HOST:PORT, for example 127.0.0.1:3210, or :3210 for every address of this machine"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another program listens there, perhaps another server of yours: stop it, or choose another port with --server.listen 127.0.0.1:PORT"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "this machine does not have that address: choose one it has with --server.listen, for example 127.0.0.1:3210"
	case errors.Is(err, fs.ErrPermission):
		hint = "ports below 1024 need privileges: choose a higher one with --server.listen, for example 127.0.0.1:3210"
	}
	cause := err
	if op, ok := errors.AsType[*net.OpError](err); ok {
		cause = op.Err // the rest repeats the address
	}
	return hinted{fmt.Errorf("listen on %s: %w", address, cause), hint}
}
