package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
)

const (
	// devLookEvery is how often sources are looked at, and devRestFactor how many times as long as a look took is rested after it, at least.
	devLookEvery  = 200 * time.Millisecond
	devRestFactor = 20
	// devSettle is how long sources have to be at rest before they are built, and devSettleMax how long that is waited for at most.
	devSettle    = 100 * time.Millisecond
	devSettleMax = 5 * time.Second
	// devStopMax is how long a program may take to end before it is killed.
	devStopMax = 10 * time.Second
	// devShutdown is how long a program that is replaced waits for calls that run.
	devShutdown = 2 * time.Second
	// devGrace is how long it waits for actions that go on then.
	devGrace = time.Second
)

// workshop is what `serve --dev` is: it owns the socket that is listened on, runs the program as a process of its own that inherits the
// socket, and puts a new one into its place when sources have changed. Nobody is refused meanwhile: who connects while no program accepts
// waits in the queue of the socket.
//
// One goroutine does it all, in run. In compile two more build and look, and are waited for.
type workshop struct {
	*env
	program  goPackager
	listener *os.File
	binaries string   // folder of the programs that were built
	types    []string // folders to keep types in; nil: those where some are
	settings []string // files that the program reads when it starts
	args     []string // of the program, without its name
	name     string   // that the program is called by
	head     string   // the first line of generated types

	sources *sources
	seen    stamps // of the sources of the newest build, also if it failed
	built   int    // programs
	binary  string // of the program that ran last; empty for none
	child   *devProcess
	served  bool // a program has
}

// goPackager is the go command: a [goProgram], and in tests what takes less time.
type goPackager interface {
	// build makes the program. A *buildError says what is wrong with it.
	build(ctx context.Context, binary string) error
	// sources finds out what the program is made of.
	sources(ctx context.Context) (*sources, error)
}

// develop runs the program again and again, until the context ends.
func (v *serveVerb) develop(e *env, app *halcyon.App) error {
	if !devPossible {
		return hinted{errors.New("--dev needs a Unix: programs can't inherit sockets here"), "build the program and start it again after a change, or run it in WSL"}
	}
	if _, err := exec.LookPath("go"); err != nil {
		return hinted{fmt.Errorf("--dev builds the program: %w", err), "install Go, or serve without --dev"}
	}
	program, err := runningProgram()
	if err != nil {
		return err
	}
	sources, err := program.sources(e.ctx)
	if err != nil {
		return hinted{fmt.Errorf("--dev builds the program: %w", err), "run it in the folder of its Go module, for example with go run . serve --dev"}
	}
	listener, err := new(net.ListenConfig).Listen(e.ctx, "tcp", v.Server.Listen)
	if err != nil {
		return explainListen(v.Server.Listen, err)
	}
	socket, err := listener.(*net.TCPListener).File()
	if err = errors.Join(err, listener.Close()); err != nil { // the file is the same socket
		return fmt.Errorf("listen on %s: %w", v.Server.Listen, err)
	}
	defer socket.Close()
	binaries, err := os.MkdirTemp("", e.program+"-dev-")
	if err != nil {
		return fmt.Errorf("make a folder for the programs that are built: %w", err)
	}
	defer os.RemoveAll(binaries)
	head, _, _ := strings.Cut(app.TypeScript()["api.d.ts"], "\n")
	w := &workshop{
		env: e, program: program, listener: socket, binaries: binaries, types: v.Types, sources: sources, head: head,
		settings: e.settingsFiles, args: e.args[1:], name: e.args[0],
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program itself: %w", err)
	}
	return w.run(self)
}

// run runs programs until the context ends. self is one that is built already, and may be of older sources.
func (w *workshop) run(self string) error {
	defer w.stop()
	w.seen = w.look()
	if info, err := os.Stat(self); err == nil && !w.seen.since(info.ModTime()) {
		w.writeTypes(self)
		w.replace(self)
	} else {
		w.say("building %s ...", shorten(w.sources.dir))
		w.renew(false)
	}
	if w.ctx.Err() == nil {
		w.say("watching the %d files of %s; a change builds the program again", len(w.seen), shorten(w.sources.dir))
	}
	rest := time.NewTimer(devLookEvery)
	defer rest.Stop()
	for {
		var exited chan struct{}
		if w.child != nil {
			exited = w.child.exited
		}
		select {
		case <-w.ctx.Done():
			w.stop()
			fmt.Fprintln(w.stderr, "Stopped.")
			return nil
		case <-exited:
			_ = w.child.control.Close()
			if w.ctx.Err() == nil {
				w.say("the program has ended (%v); it is started again when a file changes", w.child.cmd.ProcessState)
			}
			w.child = nil
			continue
		case <-rest.C:
		}
		began := time.Now()
		now := w.look()
		rest.Reset(max(devLookEvery, devRestFactor*time.Since(began)))
		changed := now.changed(w.seen)
		if len(changed) == 0 {
			continue
		}
		w.say("%s; building ...", describeChange(changed))
		w.renew(slices.ContainsFunc(changed, func(path string) bool { return slices.Contains(w.settings, path) }))
	}
}

// describeChange names what has changed.
func describeChange(changed []string) string {
	text := shorten(changed[0])
	if len(changed) > 1 {
		text += fmt.Sprintf(" and %d more files", len(changed)-1)
		if len(changed) == 2 {
			text = shorten(changed[0]) + " and " + shorten(changed[1])
		}
		return text + " have changed"
	}
	return text + " has changed"
}

// look returns the stamps of all that the program depends on.
func (w *workshop) look() stamps {
	found := w.sources.stamps()
	for _, path := range w.settings {
		found.add(path)
	}
	return found
}

// settle returns the stamps of the sources once they are at rest: an editor or a bundler may be about to write more.
func (w *workshop) settle() stamps {
	began := time.Now()
	before := w.look()
	for w.sleep(devSettle) {
		now := w.look()
		if len(now.changed(before)) == 0 || time.Since(began) > devSettleMax {
			return now
		}
		before = now
	}
	return before
}

// sleep waits, and reports whether the context goes on.
func (w *workshop) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// renew builds the program of the sources as they are, and runs it if it differs from the one that runs. restart has it run in any case.
func (w *workshop) renew(restart bool) {
	began := time.Now()
	binary, err := w.build()
	took := time.Since(began)
	switch _, wrong := errors.AsType[*buildError](err); {
	case w.ctx.Err() != nil:
		return
	case wrong:
		fmt.Fprintf(w.stderr, "\n%s\n\n", err)
		w.say("it does not build; %s", w.goesOn())
		return
	case err != nil:
		w.say("building failed: %v; %s", err, w.goesOn())
		return
	}
	w.writeTypes(binary)
	if !restart && w.child != nil && sameFile(binary, w.binary) {
		w.say("the program is the same")
		_ = os.Remove(binary)
		return
	}
	w.say("built in %s", readable(took))
	w.replace(binary)
}

// goesOn says what happens after a change that is no good.
func (w *workshop) goesOn() string {
	if w.child == nil {
		return "nothing runs until a file changes"
	}
	return "the program from before goes on"
}

// build makes the program of what the sources are when they are at rest. What changes while it builds is built too.
func (w *workshop) build() (binary string, err error) {
	w.built++
	binary = filepath.Join(w.binaries, fmt.Sprintf("%s-%d", w.env.program, w.built))
	for {
		w.seen = w.settle()
		if w.ctx.Err() != nil {
			return "", w.ctx.Err()
		}
		began := time.Now()
		found, err := w.compile(binary)
		if len(w.look().changed(w.seen)) > 0 {
			continue
		}
		if found == nil { // what it is made of can't be told, as its error says
			return binary, err
		}
		// What it has not been made of before was looked at by nobody yet.
		w.sources = found
		before := w.seen
		w.seen = w.look()
		late := false
		for path, now := range w.seen {
			_, known := before[path]
			late = late || !known && now.modified >= began.UnixNano()
		}
		if !late {
			return binary, err
		}
	}
}

// compile builds the program, and finds out what it is made of then. It ends early when a source changes.
func (w *workshop) compile(binary string) (*sources, error) {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var found *sources
	built := make(chan error, 1)
	go func() {
		listed := make(chan struct{})
		go func() {
			defer close(listed)
			found, _ = w.program.sources(ctx) // the build says what is wrong
		}()
		err := w.program.build(ctx, binary)
		<-listed
		built <- err
	}()
	tick := time.NewTicker(devLookEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-built:
			return found, err
		case <-tick.C:
			if len(w.look().changed(w.seen)) > 0 {
				cancel()
			}
		}
	}
}

// writeTypes has a program write its types where some are, or are wanted.
func (w *workshop) writeTypes(binary string) {
	folders := w.types
	if len(folders) == 0 {
		folders = generatedFolders(w.sources.dir, w.head)
	}
	for _, dir := range folders {
		cmd := exec.CommandContext(w.ctx, binary, "codegen", "--out", dir)
		cmd.Args[0], cmd.Env = w.name, w.environ("")
		var out, talk bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &talk
		if err := cmd.Run(); err != nil && w.ctx.Err() == nil {
			w.say("the types were not written: %v\n%s", err, bytes.TrimSpace(talk.Bytes()))
			continue
		}
		for line := range strings.Lines(out.String()) {
			w.say("wrote %s", shorten(strings.TrimSpace(line)))
		}
	}
}

// replace has another program take the place of the one that runs. When it does not start, the one from before is run again.
func (w *workshop) replace(binary string) {
	before, running := w.binary, w.child != nil
	began := time.Now()
	w.stop()
	if err := w.start(binary); err == nil {
		if running {
			w.say("the new program serves; nobody was served for %s", readable(time.Since(began)))
		}
		w.binary = binary
		w.discard(before)
		return
	} else if w.ctx.Err() != nil {
		return
	} else if errors.Is(err, errDevSuperseded) {
		w.discard(binary)
		return
	} else if !errors.Is(err, errDevExited) { // it has told itself why
		w.say("%v", err)
	}
	w.discard(binary)
	if !running {
		w.say("the program does not start; it is tried again when a file changes")
		return
	}
	switch err := w.start(before); {
	case w.ctx.Err() != nil, errors.Is(err, errDevSuperseded):
	case err != nil:
		w.say("the new program does not start, nor does the one from before any more; nothing runs until a file changes")
	default:
		w.say("the new program does not start; the one from before goes on")
	}
}

// discard removes a program that was built and is not needed.
func (w *workshop) discard(binary string) {
	if binary != w.binary && filepath.Dir(binary) == w.binaries {
		_ = os.Remove(binary)
	}
}

// devProcess is a program that runs.
type devProcess struct {
	cmd     *exec.Cmd
	control *os.File      // closing it asks the program to end
	serves  chan struct{} // closed when it serves
	exited  chan struct{} // closed when it has ended
}

var (
	// errDevExited says that a program has ended without having served.
	errDevExited = errors.New("the program has ended")
	// errDevSuperseded says that a source changed before a program served, and that it was ended for this.
	errDevSuperseded = errors.New("a source has changed")
)

// start runs a program and waits until it serves.
func (w *workshop) start(binary string) error {
	controlled, control, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the program: %w", err)
	}
	told, status, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("start the program: %w", err), controlled.Close(), control.Close())
	}
	how := devFirst
	if w.served {
		how = devAgain
	}
	cmd := exec.Command(binary, w.args...)
	cmd.Args[0], cmd.Env = w.name, w.environ(how)
	cmd.Stdout, cmd.Stderr = w.stdout, w.stderr
	cmd.ExtraFiles = []*os.File{w.listener, controlled, status} // the order of devListenerFile and so on
	err = cmd.Start()
	_ = controlled.Close()
	_ = status.Close()
	if err != nil {
		return errors.Join(fmt.Errorf("start the program: %w", err), control.Close(), told.Close())
	}
	p := &devProcess{cmd: cmd, control: control, serves: make(chan struct{}), exited: make(chan struct{})}
	go func() { // ends with the program
		defer close(p.exited)
		if _, err := io.ReadFull(told, make([]byte, 1)); err == nil {
			close(p.serves)
		}
		_ = told.Close()
		_ = cmd.Wait()
	}()
	w.child = p
	return w.awaitServing(p)
}

// awaitServing returns when the program that runs serves, or no longer will.
func (w *workshop) awaitServing(p *devProcess) error {
	tick := time.NewTicker(devLookEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.serves:
			w.served = true
			return nil
		case <-w.ctx.Done():
			return w.ctx.Err() // run stops it
		case <-p.exited:
			select {
			case <-p.serves: // it served before it ended, which is known at once on a busy machine; that it has ended is for run to tell
				w.served = true
				return nil
			default:
			}
			_ = p.control.Close()
			w.child = nil
			return errDevExited
		case <-tick.C: // it may never serve, and the change be what has it do so
			if len(w.look().changed(w.seen)) > 0 {
				w.stop()
				return errDevSuperseded
			}
		}
	}
}

// environ returns the environment of a program that is run.
func (w *workshop) environ(how string) []string {
	all := slices.DeleteFunc(os.Environ(), func(setting string) bool { return strings.HasPrefix(setting, devVariable+"=") })
	if how != "" {
		all = append(all, devVariable+"="+how)
	}
	return all
}

// stop ends the program that runs, if one does.
func (w *workshop) stop() {
	p := w.child
	if p == nil {
		return
	}
	w.child = nil
	_ = p.control.Close()
	kill := time.AfterFunc(devStopMax, func() { _ = p.cmd.Process.Kill() })
	<-p.exited
	kill.Stop()
}

// say tells the developer.
func (w *workshop) say(format string, args ...any) {
	fmt.Fprintf(w.stderr, "dev: "+format+"\n", args...)
}

// readable returns a duration to two digits or so.
func readable(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// sameFile reports whether two files hold the same bytes.
func sameFile(a, b string) bool {
	one, err := os.ReadFile(a)
	if err != nil {
		return false
	}
	other, err := os.ReadFile(b)
	return err == nil && bytes.Equal(one, other)
}
