package cli

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/internal/gcfloor"
	"github.com/halcyon-db/halcyon/server"
)

// serverFlags say where to listen.
type serverFlags struct {
	Listen string `default:"127.0.0.1:3210" env:"HALCYON_SERVER_LISTEN" placeholder:"HOST:PORT" help:"Address to listen on; port 0 takes any free one. (default: ${default})"`
}

// serveVerb is `serve`.
type serveVerb struct {
	Server  serverFlags  `embed:"" prefix:"server."`
	Auth    authFlags    `embed:"" prefix:"auth."`
	TLS     tlsFlags     `embed:"" prefix:"tls."`
	Storage storageFlags `embed:"" prefix:"storage."`
	Log     logFlags     `embed:"" prefix:"log."`

	Dev   bool     `help:"For development: build and run the program again whenever its Go files change, and show clients the text of all errors."`
	Types []string `complete:"file" placeholder:"DIR" help:"With --dev: folder to keep the files of codegen up to date in. (default: those of the program that have some)"`
}

// Help is the part of the help page below the flags.
func (serveVerb) Help() string {
	return "Opens the data, listens, says on standard error where to look, and serves until SIGINT or SIGTERM; then finishes what it began and exits with 0."
}

// Run serves until the context ends.
func (v *serveVerb) Run(e *env, app *halcyon.App) error {
	if !v.Dev {
		if len(v.Types) > 0 {
			return usageError{hinted{errors.New("--types belongs to --dev"), fmt.Sprintf("`%s codegen --out DIR` writes types once", e.program)}}
		}
		return v.serve(e, app, nil)
	}
	parent, err := findDevParent()
	if err != nil {
		return err
	}
	if parent == nil {
		return v.develop(e, app)
	}
	defer parent.status.Close()
	var release func()
	e.ctx, release = parent.follow(e.ctx)
	defer release()
	e.dev = true
	return v.serve(e, app, parent)
}

// listen returns what the server listens on.
func (v *serveVerb) listen(e *env, parent *devParent) (net.Listener, error) {
	if parent != nil {
		return parent.listener, nil
	}
	listener, err := new(net.ListenConfig).Listen(e.ctx, "tcp", v.Server.Listen)
	if err != nil {
		return nil, explainListen(v.Server.Listen, err)
	}
	return listener, nil
}

// serve is Run for a program that serves by itself. parent is what runs it for development, or nil.
func (v *serveVerb) serve(e *env, app *halcyon.App, parent *devParent) (err error) {
	defer gcfloor.Keep(gcfloor.Default)()
	logger := v.Log.logger(e.stderr)
	if _, err := v.Auth.verifier(logger); err != nil { // before anything is opened or made
		return err
	}
	if err := openApp(e, app, v.Storage, logger); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeApp(app)) }()

	listener, err := v.listen(e, parent)
	if err != nil {
		return err
	}
	address := listener.Addr()
	listener, issuer, err := v.TLS.listen(listener, v.Storage.Dir)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	stopPlain, err := v.TLS.servePlain(e.ctx, issuer, address, logger)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer stopPlain()
	if err := app.Start(e.ctx); err != nil {
		return errors.Join(explainEnvironment(fmt.Errorf("start: %w", err)), listener.Close())
	}
	app.Listening(address)
	verifier, err := v.Auth.verifier(app.Logger())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	options := &server.Options{Logger: app.Logger(), Verifier: verifier, InstanceName: e.program, Version: e.versions().Version}
	if parent != nil {
		options.ShutdownTimeout = devShutdown
	}
	srv := server.New(app, options)
	defer serveOperator(srv.Operator(), v.Storage.Dir, app.Logger())()
	if parent == nil || !parent.again {
		e.announce(app, v.TLS.url(reachable(address)), v.Storage.Dir)
	}
	if parent != nil {
		if err := parent.serves(); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	if err := srv.Serve(e.ctx, listener); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if parent == nil {
		fmt.Fprintln(e.stderr, "Stopped.")
	}
	return nil
}

// announce tells a person where to look.
func (e *env) announce(app *halcyon.App, base, dir string) {
	fmt.Fprintf(e.stderr, "\n%s is running.\n\n", e.program)
	site := "Address"
	stats := false
	for _, route := range app.Routes() {
		switch route.Pattern[strings.Index(route.Pattern, " ")+1:] { // without the method
		case "/", "/{$}":
			site = "Site"
		case "/stats":
			stats = true
		}
	}
	fmt.Fprintf(e.stderr, "  %-12s%s/\n", site, base)
	if stats {
		fmt.Fprintf(e.stderr, "  %-12s%s/stats\n", "Statistics", base)
	}
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole
	}
	fmt.Fprintf(e.stderr, "  %-12s%s\n\nPress Ctrl-C to stop.\n\n", "Data", dir)
}

// reachable returns the host and port at which a browser on this machine finds
// a listener.
func reachable(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return address.String()
	}
	if tcp.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", tcp.Port)
	}
	return tcp.String()
}
