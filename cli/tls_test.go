package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// writeCertificate writes a certificate for 127.0.0.1 and its key, and returns it.
func writeCertificate(t *testing.T, cert, key string, serial int64) *x509.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestHTTPSByFiles(t *testing.T) {
	dir := t.TempDir()
	flags := tlsFlags{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	roots := x509.NewCertPool()
	roots.AddCert(writeCertificate(t, flags.Cert, flags.Key, 1))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, _, err := flags.listen(inner, dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Proto", r.Proto) })}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	defer func() {
		_ = s.Close()
		<-served
	}()
	for _, h2 := range []bool{true, false} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: h2}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
		if want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[h2]; resp.Header.Get("X-Proto") != want {
			t.Errorf("the request came by %s, want %s", resp.Header.Get("X-Proto"), want)
		}
	}
	if _, err := tls.Dial("tcp", inner.Addr().String(), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

// Files that were replaced are used without a restart, and broken ones do not take the certificate away.
func TestCertificateFilesChange(t *testing.T) {
	dir := t.TempDir()
	files := &certificateFiles{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	now := time.Now()
	serial := func(after time.Duration) int64 {
		t.Helper()
		pair, err := files.get(now.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	if _, err := files.get(now); err == nil {
		t.Error("no error without files")
	}
	writeCertificate(t, files.cert, files.key, 1)
	if got := serial(0); got != 1 {
		t.Errorf("certificate %d, want 1", got)
	}
	writeCertificate(t, files.cert, files.key, 2)
	later := now.Add(time.Minute)
	for _, name := range []string{files.cert, files.key} {
		if err := os.Chtimes(name, later, later); err != nil {
			t.Fatal(err)
		}
	}
	if got := serial(time.Second); got != 1 {
		t.Errorf("a second later certificate %d, want 1", got)
	}
	if got := serial(certificateCheckEvery); got != 2 {
		t.Errorf("after the next look certificate %d, want 2", got)
	}
	if err := os.WriteFile(files.cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(2 * certificateCheckEvery); got != 2 {
		t.Errorf("with a broken file certificate %d, want 2", got)
	}
	if err := os.Remove(files.cert); err != nil {
		t.Fatal(err)
	}
	if got := serial(3 * certificateCheckEvery); got != 2 {
		t.Errorf("without a file certificate %d, want 2", got)
	}
}

// Certificates are asked for at the issuer, for the listed domains and no others.
func TestHTTPSByItself(t *testing.T) {
	var asked atomic.Int64
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Error(w, "not today", http.StatusForbidden) // a 5xx would be tried again
	}))
	defer issuer.Close()
	config, _, err := tlsFlags{Domains: []string{"www.example.com"}, Issuer: issuer.URL}.config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	hello := func(name string) error {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		go func() { _ = tls.Client(client, &tls.Config{ServerName: name}).Handshake() }()
		return tls.Server(server, config).HandshakeContext(t.Context())
	}
	if err := hello("other.example.com"); err == nil || !strings.Contains(err.Error(), "not configured") {
		t.Errorf("a domain that is not listed: %v", err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the issuer was asked %d times for a domain that is not listed", n)
	}
	if err := hello("www.example.com"); err == nil || asked.Load() == 0 {
		t.Errorf("a listed domain: %v, and the issuer was asked %d times", err, asked.Load())
	}
}

func TestTLSFlags(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, tt := range []struct {
		name, want string
		status     int
		args       []string
	}{
		{"no key", "--tls.cert and --tls.key belong together", exitUsage, []string{"--tls.cert", cert}},
		{"both ways", "leave --tls.cert and --tls.key out", exitUsage, []string{"--tls.cert", cert, "--tls.key", key, "--tls.domains", "a.example"}},
		{"a redirect to nothing", "--tls.http redirects to HTTPS", exitUsage, []string{"--tls.http", ":80"}},
		{"no files", "no such file", exitFailed, []string{"--tls.cert", cert, "--tls.key", key}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := call(t, "", append([]string{"serve", "--server.listen", "127.0.0.1:0", "--storage.dir", filepath.Join(dir, "data")}, tt.args...)...)
			if got.status != tt.status || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("status %d, %s; want %d, %s", got.status, got.stderr, tt.status, tt.want)
			}
		})
	}
	for want, flags := range map[string]tlsFlags{
		"http://127.0.0.1:80": {}, "https://127.0.0.1:80": {Cert: cert, Key: key}, "https://a.example": {Domains: []string{"a.example", "b.example"}},
	} {
		if got := flags.url("127.0.0.1:80"); got != want {
			t.Errorf("url %s, want %s", got, want)
		}
	}
}
