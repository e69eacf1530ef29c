package server

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The numbers of connections are lowered to what the process may have open, and files are left room.
func TestFitDescriptors(t *testing.T) {
	for _, tc := range []struct {
		name              string
		connections, http int
		max               int
		wantConnections   int
		wantHTTP          int
	}{
		{"plenty", 20_000, 4_096, 1 << 20, 20_000, 4_096},
		{"no limit at all", 20_000, 4_096, 1<<31 - 1, 20_000, 4_096},
		{"just enough", 20_000, 4_096, 20_000 + 4_096 + storeDescriptors, 20_000, 4_096},
		{"one too few", 20_000, 4_096, 20_000 + 4_096 + storeDescriptors - 1, 19_999, 4_096},
		{"a quarter is for HTTP", 20_000, 4_096, 10_000, 6_375, 2_125},
		{"half is for files when there are few", 20_000, 4_096, 1_024, 384, 128},
		{"what is set to less stays", 100, 50, 1_024, 100, 50},
		{"only the larger one is lowered", 20_000, 50, 1_024, 462, 50},
		{"nearly none", 20_000, 4_096, 8, 3, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log bytes.Buffer
			o := Options{ConnectionsMax: tc.connections, HTTPConnectionsMax: tc.http}
			fitDescriptors(&o, tc.max, slog.New(slog.NewTextHandler(&log, nil)))
			if o.ConnectionsMax != tc.wantConnections || o.HTTPConnectionsMax != tc.wantHTTP {
				t.Errorf("%d connections and %d of HTTP, want %d and %d", o.ConnectionsMax, o.HTTPConnectionsMax, tc.wantConnections, tc.wantHTTP)
			}
			lowered := o.ConnectionsMax != tc.connections || o.HTTPConnectionsMax != tc.http
			if told := strings.Contains(log.String(), fmt.Sprintf("connections=%d", o.ConnectionsMax)); told != lowered {
				t.Errorf("lowered is %v, and the log says: %s", lowered, log.String())
			}
			if left := tc.max - o.ConnectionsMax - o.HTTPConnectionsMax; left < min(storeDescriptors, tc.max/2) {
				t.Errorf("%d of %d descriptors are left for files", left, tc.max)
			}
		})
	}
}

// Under TLS too those go that have said nothing for longest, be it that they did not even shake hands, and whoever asks is answered.
func TestDoorUnderTLS(t *testing.T) {
	listener, roots := listenTLS(t, "http/1.1")
	f := newFixture(t)
	const places = 16 // of half of which a request may be awaited
	s := serveOn(t, f.app, Options{HTTPConnectionsMax: places, HeaderTimeout: waitMax}, listener)
	config := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}}
	deadline := time.Now().Add(waitMax)

	for _, kind := range []struct {
		name string
		open func() net.Conn
	}{
		{"no handshake", func() net.Conn {
			c, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}},
		{"a header without an end", func() net.Conn {
			c, err := tls.Dial("tcp", s.address, config)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "GET /hello HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
				t.Fatal(err)
			}
			return c
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			var silent []net.Conn
			for range 3 * places {
				c := kind.open()
				defer c.Close()
				if err := c.SetDeadline(deadline); err != nil {
					t.Fatal(err)
				}
				silent = append(silent, c)
			}
			for i, c := range silent[:2*places] { // there is no room for them
				if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 {
					t.Errorf("connection %d was answered", i)
				} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
					t.Fatalf("connection %d was kept", i)
				}
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: waitMax}
			defer client.CloseIdleConnections()
			for range 2 * places {
				resp, err := client.Get("https://" + s.address + "/hello")
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || string(text) != "hello" {
					t.Errorf("beside them: %s %q, %v", resp.Status, text, err)
				}
			}
		})
	}
}
