//go:build unix

package server

import "syscall"

// canTryWrite tells whether tryWrite works here.
const canTryWrite = true

// tryWrite writes as much of text as a non-blocking descriptor takes at once.
func tryWrite(fd uintptr, text []byte) (written int, err error) {
	for len(text) > 0 {
		n, err := syscall.Write(int(fd), text)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return written, nil
		case err != nil:
			return written, err
		case n <= 0:
			return written, nil
		}
		written += n
		text = text[n:]
	}
	return written, nil
}
