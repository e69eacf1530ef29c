package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// tlsFlags say how clients reach the server by HTTPS. Without any they do not.
type tlsFlags struct {
	Cert    string   `env:"HALCYON_TLS_CERT" placeholder:"FILE" help:"Certificate chain in PEM, for HTTPS. It is read again when it changes."`
	Key     string   `env:"HALCYON_TLS_KEY" placeholder:"FILE" help:"Its private key."`
	Domains []string `env:"HALCYON_TLS_DOMAINS" placeholder:"DOMAIN" help:"Domains to get certificates for by themselves, from Let's Encrypt. They must lead to port 443 of this machine, or to port 80."`
	Email   string   `env:"HALCYON_TLS_EMAIL" placeholder:"ADDRESS" help:"Where the issuer of these writes to when something is wrong."`
	Issuer  string   `env:"HALCYON_TLS_ISSUER" placeholder:"URL" help:"ACME directory of another issuer."`
	HTTP    string   `name:"http" env:"HALCYON_TLS_HTTP" placeholder:"HOST:PORT" help:"Address at which plain HTTP is answered: by a redirect to HTTPS, and by the proof that a domain is yours. (default: :80 with --tls.domains, and else none)"`
}

// certificateFolder is where certificates of the issuer are kept, below the data.
const certificateFolder = "certificates"

// config returns how TLS is spoken, and nil when it is not; and who gets the certificates, or nil.
func (f tlsFlags) config(dataDir string) (*tls.Config, *autocert.Manager, error) {
	switch {
	case len(f.Domains) > 0 && (f.Cert != "" || f.Key != ""):
		return nil, nil, usageError{errors.New("--tls.domains gets certificates by itself: leave --tls.cert and --tls.key out, or it")}
	case (f.Cert == "") != (f.Key == ""):
		return nil, nil, usageError{errors.New("--tls.cert and --tls.key belong together")}
	case f.HTTP != "" && len(f.Domains) == 0 && f.Cert == "":
		return nil, nil, usageError{errors.New("--tls.http redirects to HTTPS: it needs --tls.cert and --tls.key, or --tls.domains")}
	case f.Cert != "":
		files := &certificateFiles{cert: f.Cert, key: f.Key}
		if _, err := files.get(time.Now()); err != nil {
			return nil, nil, hinted{err, "both are PEM files: the certificate with its chain, and its private key"}
		}
		return &tls.Config{
			MinVersion:     tls.VersionTLS12,
			NextProtos:     []string{"h2", "http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return files.get(time.Now()) },
		}, nil, nil
	case len(f.Domains) > 0:
		manager := &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			HostPolicy: autocert.HostWhitelist(f.Domains...),
			Cache:      autocert.DirCache(filepath.Join(dataDir, certificateFolder)),
			Email:      f.Email,
		}
		if f.Issuer != "" {
			manager.Client = &acme.Client{DirectoryURL: f.Issuer}
		}
		config := manager.TLSConfig()
		config.MinVersion = tls.VersionTLS12
		return config, manager, nil
	}
	return nil, nil, nil
}

// url returns the address of the server as a browser has it, which it finds at a host and port.
func (f tlsFlags) url(address string) string {
	switch {
	case len(f.Domains) > 0:
		return "https://" + f.Domains[0]
	case f.Cert != "":
		return "https://" + address
	}
	return "http://" + address
}

// listen makes TLS of a listener. Who gets the certificates is returned too, if somebody does.
func (f tlsFlags) listen(inner net.Listener, dataDir string) (net.Listener, *autocert.Manager, error) {
	config, manager, err := f.config(dataDir)
	if err != nil || config == nil {
		return inner, nil, err
	}
	return tls.NewListener(inner, config), manager, nil
}

// plainPort is where browsers and issuers speak plain HTTP.
const plainPort = ":80"

// servePlain answers plain HTTP beside the server at an address until stop is called: an issuer that asks whether a domain is ours, and
// everybody else by a redirect. Where nobody has asked for it, that it can't listen is no error: certificates are got by port 443 then.
func (f tlsFlags) servePlain(ctx context.Context, manager *autocert.Manager, secure net.Addr, logger *slog.Logger) (stop func(), err error) {
	at := f.HTTP
	if at == "" && manager != nil {
		at = plainPort
	}
	if at == "" {
		return func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
	switch {
	case err != nil && f.HTTP == "":
		logger.Warn("plain HTTP is not answered, so nobody is redirected to HTTPS", "address", at, "error", err)
		return func() {}, nil
	case err != nil:
		return nil, hinted{fmt.Errorf("--tls.http: %w", err), "choose an address that is free and allowed; ports below 1024 need privileges"}
	}
	return f.answerPlain(listener, manager, secure, logger), nil
}

// answerPlain is servePlain on a listener.
func (f tlsFlags) answerPlain(listener net.Listener, manager *autocert.Manager, secure net.Addr, logger *slog.Logger) (stop func()) {
	var handler http.Handler = redirect{portOf(secure)}
	if manager != nil {
		handler = manager.HTTPHandler(handler) // by this it may prove by http-01 as well
	}
	srv := &http.Server{
		Handler: handler, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(listener) // ends with Close
	}()
	return func() {
		_ = srv.Close()
		<-done
	}
}

// redirect sends browsers to the same address by HTTPS.
type redirect struct{ port string }

func (h redirect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if host == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		// What was sent has been on the network in the clear: that its client goes on must not be made easy.
		http.Error(w, "Use HTTPS.", http.StatusBadRequest)
		return
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if h.port != "443" && h.port != "" {
		host += ":" + h.port
	}
	http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusPermanentRedirect)
}

func portOf(address net.Addr) string {
	_, port, _ := net.SplitHostPort(address.String())
	return port
}

// certificateCheckEvery is how often files are looked at for a change.
const certificateCheckEvery = 10 * time.Second

// certificateFiles is a certificate in files, which may be replaced while the program runs.
type certificateFiles struct {
	cert, key string

	mu struct {
		sync.Mutex
		current  *tls.Certificate
		checked  time.Time
		modified [2]time.Time
	}
}

// get returns the certificate. One that can't be read takes the place of none: the one before goes on, and its end shows.
func (f *certificateFiles) get(now time.Time) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.current != nil && now.Sub(f.mu.checked) < certificateCheckEvery {
		return f.mu.current, nil
	}
	f.mu.checked = now
	var modified [2]time.Time
	for i, name := range []string{f.cert, f.key} {
		info, err := os.Stat(name)
		if err != nil {
			return f.orErrorLocked(err)
		}
		modified[i] = info.ModTime()
	}
	if f.mu.current != nil && modified == f.mu.modified {
		return f.mu.current, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return f.orErrorLocked(err)
	}
	f.mu.current, f.mu.modified = &pair, modified
	return f.mu.current, nil
}

// orErrorLocked returns what is in use, and the error where nothing is.
func (f *certificateFiles) orErrorLocked(err error) (*tls.Certificate, error) {
	if f.mu.current != nil {
		return f.mu.current, nil
	}
	return nil, fmt.Errorf("load the certificate: %w", err)
}
