package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/server"
)

// targetFlags say whose data a verb works on: a folder, which it opens itself or finds open in a server on this machine, or a server
// somewhere.
type targetFlags struct {
	Storage storageFlags `embed:"" prefix:"storage."`
	Log     logFlags     `embed:"" prefix:"log."`

	URL string `name:"url" env:"HALCYON_URL" placeholder:"URL" help:"Work on the server there, with an admin key, in place of a folder."`
	Key string `name:"key" env:"HALCYON_ADMIN_KEY" secret:"" placeholder:"KEY" help:"The admin key for --url; better in the environment, where other users do not see it."`
}

// targetHelp is for the help page of verbs with targetFlags.
const targetHelp = `Works on the folder of --storage.dir, also when a server on this machine has it open, or with --url and an admin key on a server elsewhere.`

// target is whose data a verb works on.
type target struct {
	*server.OperatorClient
	// remote says that the server may be on another machine, so that its files are not this one's.
	remote bool
	// here says that nobody serves the data: this process has opened it.
	here  bool
	close func() error
}

// open finds the data. The caller closes what it gets.
func (f *targetFlags) open(e *env, app *halcyon.App) (*target, error) {
	if f.URL != "" {
		base, err := url.Parse(f.URL)
		if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
			return nil, usageError{hinted{fmt.Errorf("--url %q is not the URL of a server", f.URL), "for example https://stats.example.com"}}
		}
		if f.Key == "" {
			return nil, usageError{hinted{errors.New("--url needs an admin key"), fmt.Sprintf("put one into HALCYON_ADMIN_KEY; `%s key create NAME` makes one on the server's machine", e.program)}}
		}
		client := &server.OperatorClient{Base: strings.TrimSuffix(f.URL, "/"), Key: f.Key, HTTP: &http.Client{}}
		return &target{OperatorClient: client, remote: true, close: func() error { return nil }}, nil
	}
	err := openApp(e, app, f.Storage, f.Log.logger(e.stderr))
	switch {
	case errors.Is(err, engine.ErrLocked):
		client, dialErr := dialOperator(e.ctx, f.Storage.Dir)
		if dialErr != nil {
			return nil, err // the folder is open in something that is no server, or one that is ending
		}
		return &target{OperatorClient: client, close: func() error { return nil }}, nil
	case err != nil:
		return nil, err
	}
	client, stop := serveOperatorHere(app)
	return &target{OperatorClient: client, here: true, close: func() error { stop(); return closeApp(app) }}, nil
}

// on opens the data, runs f, and explains an error.
func (f *targetFlags) on(e *env, app *halcyon.App, run func(t *target) error) (err error) {
	t, err := f.open(e, app)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	err = run(t)
	var refused *server.OperatorError
	var unreachable *url.Error
	switch {
	case errors.As(err, &refused):
		return f.explain(e, err, refused)
	case errors.As(err, &unreachable) && f.URL != "":
		return hinted{err, "see whether the server runs and the URL is right"}
	}
	return err
}

// explain says what to do about a refusal.
func (f *targetFlags) explain(e *env, err error, refused *server.OperatorError) error {
	hint := ""
	switch refused.Code {
	case string(halcyon.CodeBadAdminKey), string(halcyon.CodeNeedsAdmin):
		hint = fmt.Sprintf("`%s key create NAME` makes an admin key on the server's machine; put it into HALCYON_ADMIN_KEY", e.program)
	case "NoTable":
		hint = fmt.Sprintf("`%s data tables` lists the tables", e.program)
	case "NoIndex":
		hint = fmt.Sprintf("`%s data tables` lists the indexes of each table; by_id and by_creation_time are in all", e.program)
	case "TableNotEmpty":
		hint = "use --append to keep what is there, or --replace to remove it"
	case "DiskFull":
		hint = "free some space; or keep less of it free, with --storage.free-min 200MiB"
	case "Corrupt":
		hint = "keep a copy of the data as it is, then restore a backup into another folder and name it with --storage.dir"
	case "NotHalcyon":
		hint = "see whether the URL is that of a server of this version"
	case "AdminKeyExists":
		hint = fmt.Sprintf("choose another name, or end the use of the old key with `%s key revoke`", e.program)
	case "NoAdminKey":
		hint = fmt.Sprintf("`%s key list` shows the names there are", e.program)
	}
	if hint == "" {
		return err
	}
	return hinted{err, hint}
}

// The operator's socket in the folder of the data: whoever may write the folder owns what is in it.
const operatorSocket = "operator.sock"

// socketPathMax is how long the path of a Unix socket may be on every system.
const socketPathMax = 100

// socketPath calls f with a path of the socket that is short enough.
func socketPath(dir string, f func(path string) error) error {
	path := filepath.Join(dir, operatorSocket)
	if len(path) <= socketPathMax {
		return f(path)
	}
	if runtime.GOOS == "linux" {
		// The folder's own descriptor is a shorter way to it.
		opened, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer opened.Close()
		return f(fmt.Sprintf("/proc/self/fd/%d/%s", opened.Fd(), operatorSocket))
	}
	return fmt.Errorf("the path %s is too long for a socket", path)
}

// listenOperator listens on the socket of a folder that this process has open.
func listenOperator(dir string) (listener net.Listener, err error) {
	err = socketPath(dir, func(path string) error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that was killed
			return err
		}
		unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		unix.SetUnlinkOnClose(false) // the path may be by a descriptor that is closed
		listener = unix
		return os.Chmod(path, 0o600)
	})
	if err != nil && listener != nil {
		err = errors.Join(err, listener.Close())
	}
	return listener, err
}

// serveOperator serves the operator's API on the socket of the folder until stop is called.
func serveOperator(api http.Handler, dir string, logger *slog.Logger) (stop func()) {
	listener, err := listenOperator(dir)
	if err != nil {
		logger.Warn("commands on this machine can't work on the data while it is served", "error", err)
		return func() {}
	}
	srv := &http.Server{Handler: api, ReadHeaderTimeout: 10 * time.Second, ErrorLog: server.ErrorLog(logger)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(listener) // ends with Close
	}()
	return func() {
		_ = srv.Close()
		<-done
		_ = os.Remove(filepath.Join(dir, operatorSocket))
	}
}

// dialOperator returns a client of the process that has the folder open.
func dialOperator(ctx context.Context, dir string) (*server.OperatorClient, error) {
	dial := func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		err = socketPath(dir, func(path string) (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
			return err
		})
		return conn, err
	}
	first, err := dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	_ = first.Close()
	return &server.OperatorClient{Base: "http://local", HTTP: &http.Client{Transport: &http.Transport{DialContext: dial, ExpectContinueTimeout: time.Second}}}, nil
}

// serveOperatorHere serves the API in this process, to this process.
func serveOperatorHere(app *halcyon.App) (client *server.OperatorClient, stop func()) {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: server.Operator(app), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with Close
	}()
	transport := &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx) },
		ExpectContinueTimeout: time.Second,
	}
	client = &server.OperatorClient{Base: "http://here", HTTP: &http.Client{Transport: transport}}
	return client, func() {
		transport.CloseIdleConnections()
		_ = srv.Close()
		<-done
	}
}

// pipeListener accepts connections of this process.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

// pipeAddr is the address of a pipeListener.
type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
