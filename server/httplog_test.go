package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestErrorsOfHTTPNameNoAddress(t *testing.T) {
	for message, want := range map[string]string{
		"http: TLS handshake error from 203.0.113.9:4711: EOF":                    "http: TLS handshake error from [address]:4711: EOF",
		"http: TLS handshake error from [2001:db8::1]:4711: EOF":                  "http: TLS handshake error from [[address]]:4711: EOF",
		"http: TLS handshake error from [fe80::1%eth0]:4711: EOF":                 "http: TLS handshake error from [[address]]:4711: EOF",
		"http: panic serving [::ffff:203.0.113.9]:4711: boom at 12:30:05":         "http: panic serving [[address]]:4711: boom at 12:30:05",
		"read tcp 127.0.0.1:443->203.0.113.9:4711: connection reset by peer":      "read tcp [address]:443->[address]:4711: connection reset by peer",
		"http: response.WriteHeader on hijacked connection from main.go:12 1.2.3": "http: response.WriteHeader on hijacked connection from main.go:12 1.2.3",
	} {
		var out bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		ErrorLog(logger).Println(message)
		if got := out.String(); !strings.Contains(got, "level=DEBUG") || !strings.Contains(got, want) {
			t.Errorf("%q is logged as %q, want %q", message, got, want)
		}
	}
}
