package server

import (
	"log"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
)

// ErrorLog returns a logger for the errors of an [net/http.Server], at the level
// Debug: most of them are what clients do. net/http names the address of the client
// in them, and addresses are never written, so it is taken out.
func ErrorLog(logger *slog.Logger) *log.Logger {
	return log.New(addressless{slog.NewLogLogger(logger.Handler(), slog.LevelDebug)}, "", 0)
}

// addressless hands messages on without addresses.
type addressless struct{ to *log.Logger }

// addressLike matches what may be an address of version 4 or 6, with or without
// brackets and a zone.
var addressLike = regexp.MustCompile(`[0-9]+(?:\.[0-9]+){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[0-9A-Za-z_.]+)?`)

// Write logs one message.
func (a addressless) Write(message []byte) (int, error) {
	a.to.Print(withoutAddresses(string(message)))
	return len(message), nil
}

// withoutAddresses takes addresses out of a text, such as that of an error of a
// connection.
func withoutAddresses(text string) string {
	return addressLike.ReplaceAllStringFunc(text, func(found string) string {
		address := strings.TrimRight(found, ":.") // of the sentence around it
		if _, err := netip.ParseAddr(address); err != nil {
			return found
		}
		return "[address]" + found[len(address):]
	})
}
