package server

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// listenTLS listens on an address of this machine with a certificate that the roots vouch for.
func listenTLS(t *testing.T, protocols ...string) (net.Listener, *x509.CertPool) {
	t.Helper()
	issuer := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(issuer.Close)
	roots := x509.NewCertPool()
	roots.AddCert(issuer.Certificate())
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return tls.NewListener(inner, &tls.Config{Certificates: issuer.TLS.Certificates, NextProtos: protocols}), roots
}

// Under TLS a connection has no descriptor to write to without waiting; all else is the same, WebSockets beside HTTP/2 included.
func TestOverTLS(t *testing.T) {
	listener, roots := listenTLS(t, "h2", "http/1.1")
	w := newSocketWorldOn(t, Options{}, listener)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	resp, err := client.Post("https://"+w.address+"/api/query_ts", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("query_ts: %s by %s", resp.Status, resp.Proto)
	}
	sockets := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}}}}
	for _, origin := range []string{"", "https://" + w.address} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		ws, _, err := websocket.Dial(t.Context(), "wss://"+w.address+"/echo", &websocket.DialOptions{HTTPClient: sockets, HTTPHeader: header})
		if err != nil {
			t.Fatal(err)
		}
		ws.SetReadLimit(-1)
		large := strings.Repeat("x", 1<<20)
		for _, text := range []string{"hello", large, large, "bye"} {
			say(t, ws, websocket.MessageText, text)
			if got := hear(t, ws); got != text {
				t.Errorf("echo of %d bytes: %d bytes", len(text), len(got))
			}
		}
		_ = ws.Close(4001, "done")
		if err := w.seen(t); err == nil || !strings.Contains(err.Error(), "4001 done") {
			t.Errorf("the handler ended with %v", err)
		}
	}
}
