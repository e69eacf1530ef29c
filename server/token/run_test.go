package token_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/halcyon-db/halcyon/server/token"
)

// provider answers as an identity provider does, without a network.
type provider struct {
	down    atomic.Bool
	fetches atomic.Int64
	keys    []byte
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.down.Load() {
		return nil, errors.New("no route to host")
	}
	body := `{"issuer":"https://a.test","jwks_uri":"https://a.test/keys"}`
	if r.URL.Path == "/keys" {
		p.fetches.Add(1)
		body = string(p.keys)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// lines is a log that one goroutine writes and another reads.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was written since the last call.
func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// Keys are fetched ahead of need. A provider that can't be reached does not stop anything: it is named in the log and tried again, ever more
// rarely, and its keys are renewed each hour.
func TestRunKeepsKeys(t *testing.T) {
	public, _ := mustEd25519(t)
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := &provider{keys: keys}
		p.down.Store(true)
		var log lines
		v, err := token.New([]token.Provider{{Issuer: "https://a.test", Audience: "x"}}, &token.Options{
			Logger: slog.New(slog.NewTextHandler(&log, nil)), Client: &http.Client{Transport: p},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			v.Run(ctx)
			close(ended)
		}()
		logged := func(after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after) // of the bubble
			synctest.Wait()
			got := log.take()
			if len(want) == 0 && got != "" {
				t.Errorf("logged %q", got)
			}
			for _, w := range want {
				if !strings.Contains(got, w) {
					t.Errorf("logged %q, want %q", got, w)
				}
			}
		}
		logged(0, "level=WARN", "issuer=https://a.test", "no route to host", "retry_in=1s")
		logged(time.Second, "retry_in=2s")
		logged(2*time.Second, "retry_in=4s")
		logged(time.Hour, "retry_in=1m0s")
		p.down.Store(false)
		logged(time.Minute, "level=INFO", "issuer=https://a.test")
		if n := p.fetches.Load(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		logged(24 * time.Hour)
		if n := p.fetches.Load(); n != 25 {
			t.Errorf("%d fetches after a day, want 25", n)
		}
		cancel()
		<-ended
	})
}
