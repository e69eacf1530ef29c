package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// What a program inherits that `serve --dev` runs, besides the three standard streams.
const (
	devListenerFile = 3 + iota // a listening socket, which outlives the program
	devControlFile             // a pipe that ends when the program is to end, also because nobody runs it any more
	devStatusFile              // a pipe for one byte: the program serves
)

// devVariable tells a program that `serve --dev` runs it: devFirst or devAgain.
const (
	devVariable = "HALCYON_DEV_RUN"
	devFirst    = "first"
	devAgain    = "again" // it takes the place of another one
)

// devParent is the `serve --dev` that runs this program.
type devParent struct {
	again           bool
	control, status *os.File
	listener        net.Listener
}

// findDevParent returns the `serve --dev` that runs this program, and nil when none does.
func findDevParent() (*devParent, error) {
	how, ok := os.LookupEnv(devVariable)
	if !ok {
		return nil, nil
	}
	if err := os.Unsetenv(devVariable); err != nil { // it is not for what this program runs
		return nil, err
	}
	socket := inheritedFile(devListenerFile)
	p := &devParent{again: how == devAgain, control: inheritedFile(devControlFile), status: inheritedFile(devStatusFile)}
	listener, err := net.FileListener(socket)
	if err := errors.Join(err, socket.Close()); err != nil {
		return nil, fmt.Errorf("take over the socket of serve --dev: %w", err)
	}
	p.listener = listener
	return p, nil
}

// follow returns a context that ends when this program is to end. release frees what it takes.
func (p *devParent) follow(ctx context.Context) (followed context.Context, release func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with the pipe
		defer close(done)
		defer cancel()
		_, _ = p.control.Read(make([]byte, 1))
	}()
	return ctx, func() {
		_ = p.control.Close()
		<-done
	}
}

// serves says that this program serves.
func (p *devParent) serves() error {
	_, err := p.status.Write([]byte{1})
	if err = errors.Join(err, p.status.Close()); err != nil {
		return fmt.Errorf("tell serve --dev: %w", err)
	}
	return nil
}
