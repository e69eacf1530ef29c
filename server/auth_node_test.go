package server

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/halcyon-db/halcyon/engine"
)

// shiftedClock is the system's clock, ahead by what a test says. What waits goes by real time.
type shiftedClock struct{ ahead atomic.Int64 }

var _ engine.Clock = (*shiftedClock)(nil)

func (c *shiftedClock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *shiftedClock) AfterFunc(d time.Duration, f func()) func() {
	return systemClock{}.AfterFunc(d, f)
}

// The official clients sign in, renew their tokens, are told that one has ended, and sign out. What a scenario prints asks for something that
// the server's side does.
func TestNPMClientsSignIn(t *testing.T) {
	dir := nodeClients(t)
	for _, tt := range []struct{ file, name string }{
		{"auth.mjs", "signIn"}, {"auth.mjs", "renewal"}, {"auth.mjs", "expiry"}, {"auth.mjs", "refused"}, {"auth.mjs", "http"}, {"auth.mjs", "admin"},
		{"reactauth.mjs", "provider"}, {"reactauth.mjs", "refused"},
	} {
		t.Run(strings.TrimSuffix(tt.file, ".mjs")+"/"+tt.name, func(t *testing.T) {
			clock := &shiftedClock{}
			w := newAuthWorld(t, Options{Clock: clock})
			key, err := w.app.CreateAdminKey(t.Context(), "ops")
			if err != nil {
				t.Fatal(err)
			}
			script(t, dir, tt.file, w.address, tt.name+" "+key, func(line string) {
				switch line {
				case "an hour later":
					clock.ahead.Add(int64(time.Hour))
				case "rotate":
					w.issuer.Rotate(jose.RS256)
				}
			})
		})
	}
}
