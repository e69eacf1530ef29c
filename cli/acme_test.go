package cli

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// acmeIssuer is an issuer of certificates as RFC 8555 has it, for one order at a time. It offers one kind of proof, and asks for it at an address of
// the test in place of port 80 or 443 of the domain.
type acmeIssuer struct {
	t      *testing.T
	url    string
	method string // of the proof: http-01 or tls-alpn-01
	at     string // host and port where the proof is
	roots  *x509.CertPool

	key  *ecdsa.PrivateKey
	root *x509.Certificate

	mu struct {
		sync.Mutex
		account jose.JSONWebKey
		domain  string
		proven  bool
		chain   []byte
		orders  int
	}
}

func newACMEIssuer(t *testing.T, method, at string) *acmeIssuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &acmeIssuer{t: t, method: method, at: at, key: key, root: root, roots: x509.NewCertPool()}
	a.roots.AddCert(root)
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

// ServeHTTP answers the requests of a client that does all in order.
func (a *acmeIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", base64.RawURLEncoding.EncodeToString([]byte(time.Now().String())))
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(v); err != nil {
			a.t.Error(err)
		}
	}
	var message struct{ Protected, Payload string }
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
			a.t.Error(err)
		}
	}
	decode := func(text string, into any) {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			a.t.Errorf("%s: %v", r.URL, err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch r.URL.Path {
	case "/":
		answer(200, map[string]string{"newNonce": a.url + "/nonce", "newAccount": a.url + "/account", "newOrder": a.url + "/order"})
	case "/nonce":
	case "/account":
		var protected struct{ JWK jose.JSONWebKey }
		decode(message.Protected, &protected)
		a.mu.account = protected.JWK
		w.Header().Set("Location", a.url+"/accounts/1")
		answer(201, map[string]string{"status": "valid"})
	case "/order":
		var order struct{ Identifiers []struct{ Value string } }
		decode(message.Payload, &order)
		a.mu.domain, a.mu.proven, a.mu.chain = order.Identifiers[0].Value, false, nil
		a.mu.orders++
		w.Header().Set("Location", a.url+"/orders/1")
		answer(201, a.orderLocked())
	case "/orders/1":
		answer(200, a.orderLocked())
	case "/proof/1":
		status := map[bool]string{true: "valid", false: "pending"}[a.mu.proven]
		challenge := map[string]string{"type": a.method, "url": a.url + "/challenge/1", "token": "a-token", "status": status}
		answer(200, map[string]any{"status": status, "identifier": map[string]string{"type": "dns", "value": a.mu.domain}, "challenges": []any{challenge}})
	case "/challenge/1":
		a.mu.proven = a.proveLocked()
		answer(200, map[string]string{"type": a.method, "url": a.url + "/challenge/1", "token": "a-token", "status": "processing"})
	case "/finalize/1":
		var request struct{ CSR string }
		decode(message.Payload, &request)
		a.signLocked(request.CSR)
		w.Header().Set("Location", a.url+"/orders/1")
		answer(200, a.orderLocked())
	case "/certificate/1":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(a.mu.chain)
	default:
		a.t.Errorf("the issuer was asked for %s", r.URL)
		http.NotFound(w, r)
	}
}

func (a *acmeIssuer) orderLocked() map[string]any {
	status := "pending"
	switch {
	case a.mu.chain != nil:
		status = "valid"
	case a.mu.proven:
		status = "ready"
	}
	return map[string]any{
		"status": status, "identifiers": []any{map[string]string{"type": "dns", "value": a.mu.domain}}, "authorizations": []string{a.url + "/proof/1"},
		"finalize": a.url + "/finalize/1", "certificate": a.url + "/certificate/1",
	}
}

// proveLocked asks for the proof.
func (a *acmeIssuer) proveLocked() bool {
	print, err := a.mu.account.Thumbprint(crypto.SHA256)
	if err != nil {
		a.t.Error(err)
		return false
	}
	want := "a-token." + base64.RawURLEncoding.EncodeToString(print)
	if a.method == "tls-alpn-01" {
		return a.proveByTLSLocked(want)
	}
	r, err := http.NewRequest(http.MethodGet, "http://"+a.at+"/.well-known/acme-challenge/a-token", nil)
	if err != nil {
		a.t.Error(err)
		return false
	}
	r.Host = a.mu.domain
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Error(err)
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Error(err)
	}
	if string(text) != want {
		a.t.Errorf("the proof is %s %q, want %q", resp.Status, text, want)
		return false
	}
	return true
}

// proveByTLSLocked asks for the proof as RFC 8737 has it: a certificate of its own for the domain, which has the digest of what is wanted.
func (a *acmeIssuer) proveByTLSLocked(want string) bool {
	// It is signed by itself: there is nothing to verify but what it has.
	conn, err := tls.Dial("tcp", a.at, &tls.Config{ServerName: a.mu.domain, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
	if err != nil {
		a.t.Error(err)
		return false
	}
	defer conn.Close()
	state := conn.ConnectionState()
	digest := sha256.Sum256([]byte(want))
	octets, err := asn1.Marshal(digest[:])
	if err != nil {
		a.t.Error(err)
		return false
	}
	leaf := state.PeerCertificates[0]
	for _, x := range leaf.Extensions {
		if x.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) && x.Critical && bytes.Equal(x.Value, octets) {
			return state.NegotiatedProtocol == "acme-tls/1" && slices.Equal(leaf.DNSNames, []string{a.mu.domain})
		}
	}
	a.t.Errorf("the certificate of the proof has %v", leaf.Extensions)
	return false
}

func (a *acmeIssuer) signLocked(text string) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		a.t.Error(err)
		return
	}
	request, err := x509.ParseCertificateRequest(raw)
	if err != nil {
		a.t.Error(err)
		return
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: request.DNSNames, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, request.PublicKey, a.key)
	if err != nil {
		a.t.Error(err)
		return
	}
	for _, block := range [][]byte{der, a.root.Raw} {
		a.mu.chain = append(a.mu.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block})...)
	}
}

// A certificate is got by answering the issuer, over plain HTTP or, where port 80 is another program's, by TLS itself. HTTPS is spoken with it then, also
// after a start that finds it in the folder of the data, and asks nobody.
func TestHTTPSByProof(t *testing.T) {
	t.Run("http-01", func(t *testing.T) { httpsByProof(t, "http-01") })
	t.Run("tls-alpn-01", func(t *testing.T) { httpsByProof(t, "tls-alpn-01") })
}

func httpsByProof(t *testing.T, method string) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	dir := t.TempDir()
	plain, inner := listen(), listen()
	at := plain.Addr().String()
	if method == "tls-alpn-01" {
		at = inner.Addr().String()
	}
	issuer := newACMEIssuer(t, method, at)
	flags := tlsFlags{Domains: []string{"www.example.com"}, Issuer: issuer.url}
	secure, manager, err := flags.listen(inner, dir)
	if err != nil {
		t.Fatal(err)
	}
	if method == "http-01" {
		defer flags.answerPlain(plain, manager, secure.Addr(), slog.New(slog.DiscardHandler))()
	} else {
		_ = plain.Close()
	}
	getByHTTPS(t, issuer, secure)
	again, _, err := flags.listen(listen(), dir)
	if err != nil {
		t.Fatal(err)
	}
	getByHTTPS(t, issuer, again)
	issuer.mu.Lock()
	defer issuer.mu.Unlock()
	if issuer.mu.orders != 1 {
		t.Errorf("%d certificates were ordered, want 1", issuer.mu.orders)
	}
}

// getByHTTPS serves on a listener and asks for a page there, with a certificate of an issuer.
func getByHTTPS(t *testing.T, issuer *acmeIssuer, secure net.Listener) {
	t.Helper()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	served := make(chan error, 1)
	go func() { served <- s.Serve(secure) }()
	defer func() {
		_ = s.Close()
		<-served
	}()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: issuer.roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, secure.Addr().String())
		},
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://www.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "hello" || resp.TLS.PeerCertificates[0].Issuer.CommonName != "issuer" {
		t.Errorf("%q, %v, by a certificate of %s", text, err, resp.TLS.PeerCertificates[0].Issuer)
	}
}

func TestRedirectToHTTPS(t *testing.T) {
	for _, tt := range []struct{ name, method, host, path, port, want string }{
		{"a page", "GET", "www.example.com", "/a?b=c", "443", "308 https://www.example.com/a?b=c"},
		{"with a port", "GET", "www.example.com:8080", "/", "443", "308 https://www.example.com/"},
		{"to another port", "HEAD", "localhost:8080", "/", "8443", "308 https://localhost:8443/"},
		{"an address", "GET", "[::1]:80", "/", "443", "308 https://[::1]/"},
		{"two slashes", "GET", "www.example.com", "//evil.example/", "443", "308 https://www.example.com//evil.example/"},
		{"a call", "POST", "www.example.com", "/api/mutation", "443", "400 "},
		{"no host", "GET", "", "/", "443", "400 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "http://x"+tt.path, strings.NewReader(""))
			r.Host = tt.host
			w := httptest.NewRecorder()
			redirect{tt.port}.ServeHTTP(w, r)
			if got := fmt.Sprintf("%d %s", w.Code, w.Header().Get("Location")); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// An address that was asked for and can't be had is an error; the one that nobody asked for is not.
func TestPlainHTTPThatCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := (tlsFlags{HTTP: taken.Addr().String(), Cert: "c"}).servePlain(t.Context(), nil, taken.Addr(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--tls.http") {
		t.Errorf("an address that is taken: %v", err)
	}
	stop, err := tlsFlags{}.servePlain(t.Context(), nil, taken.Addr(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop()
}
