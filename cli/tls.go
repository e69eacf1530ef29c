package cli

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// tlsFlags say how clients reach the server by HTTPS. Without any they do not.
type tlsFlags struct {
	Cert    string   `env:"HALCYON_TLS_CERT" placeholder:"FILE" help:"Certificate chain in PEM, for HTTPS. It is read again when it changes."`
	Key     string   `env:"HALCYON_TLS_KEY" placeholder:"FILE" help:"Its private key."`
	Domains []string `env:"HALCYON_TLS_DOMAINS" placeholder:"DOMAIN" help:"Domains to get certificates for by themselves, from Let's Encrypt. They must lead to port 443 of this machine."`
	Email   string   `env:"HALCYON_TLS_EMAIL" placeholder:"ADDRESS" help:"Where the issuer of these writes to when something is wrong."`
	Issuer  string   `env:"HALCYON_TLS_ISSUER" placeholder:"URL" help:"ACME directory of another issuer."`
}

// certificateFolder is where certificates of the issuer are kept, below the data.
const certificateFolder = "certificates"

// config returns how TLS is spoken, and nil when it is not.
func (f tlsFlags) config(dataDir string) (*tls.Config, error) {
	switch {
	case len(f.Domains) > 0 && (f.Cert != "" || f.Key != ""):
		return nil, usageError{errors.New("--tls.domains gets certificates by itself: leave --tls.cert and --tls.key out, or it")}
	case (f.Cert == "") != (f.Key == ""):
		return nil, usageError{errors.New("--tls.cert and --tls.key belong together")}
	case f.Cert != "":
		files := &certificateFiles{cert: f.Cert, key: f.Key}
		if _, err := files.get(time.Now()); err != nil {
			return nil, hinted{err, "both are PEM files: the certificate with its chain, and its private key"}
		}
		return &tls.Config{
			MinVersion:     tls.VersionTLS12,
			NextProtos:     []string{"h2", "http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return files.get(time.Now()) },
		}, nil
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
		return config, nil
	}
	return nil, nil
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

// listen makes TLS of a listener.
func (f tlsFlags) listen(inner net.Listener, dataDir string) (net.Listener, error) {
	config, err := f.config(dataDir)
	if err != nil || config == nil {
		return inner, err
	}
	return tls.NewListener(inner, config), nil
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
