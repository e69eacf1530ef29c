package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
)

const testSecret = "a secret of the test"

// world is the webhook on an empty database, with a service for exchange rates.
type world struct {
	app   *halcyon.App
	hooks *httptest.Server
	asked atomic.Int64 // times the service was asked
	log   bytes.Buffer // to be read after the end of all handlers
}

func open(t *testing.T) *world {
	t.Helper()
	w := &world{}
	rates := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		switch r.URL.Query().Get("base") {
		case "USD":
			fmt.Fprint(answer, `{"base":"USD","rates":{"EUR":0.5}}`)
		case "XXX":
			fmt.Fprint(answer, `{"rates":{}}`)
		default:
			http.Error(answer, "no such currency", http.StatusNotFound)
		}
	}))
	t.Cleanup(rates.Close)
	settings := map[string]string{"WEBHOOK_SECRET": testSecret, "RATES_URL": rates.URL}
	app, err := halcyon.NewApp(Module())
	if err != nil {
		t.Fatal(err)
	}
	err = app.Open(t.TempDir(), &halcyon.Options{
		LookupEnv: func(name string) (string, bool) { text, ok := settings[name]; return text, ok },
		Logger:    slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err == nil {
		err = app.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	w.app, w.hooks = app, httptest.NewServer(app.HTTPHandler())
	t.Cleanup(func() {
		w.hooks.CloseClientConnections()
		w.hooks.Close()
		if err := app.Close(); err != nil {
			t.Error(err)
		}
		if text := w.log.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, testSecret) {
			t.Errorf("the log:\n%s", text)
		}
	})
	return w
}

func signatureOf(body string) string {
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// deliver sends a delivery as the payment service does.
func (w *world) deliver(t *testing.T, body, signature string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.hooks.URL+"/http/payments", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Signature", signature)
	resp, err := w.hooks.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// await reads the stream until it shows what is wanted.
func (w *world) await(t *testing.T, what string, holds func([]Payment) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.hooks.URL+"/http/payments/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.hooks.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var newest string
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		newest = text
		var payments []Payment
		if err := json.Unmarshal([]byte(text), &payments); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if holds(payments) {
			return
		}
	}
	t.Fatalf("the stream ended before %s: %v; the newest was %s", what, lines.Err(), newest)
}

func TestDeliveries(t *testing.T) {
	w := open(t)
	const body = `{"id":"d1","order":"A-1","amount":10,"currency":"USD"}`
	for _, tt := range []struct {
		name, body, signature string
		status                int
		want                  string
	}{
		{"no signature", body, "", 401, ""},
		{"wrong signature", body, signatureOf(body + " "), 401, ""},
		{"no hexadecimal digits", body, "sha256=xyz", 401, ""},
		{"no JSON", "hello", signatureOf("hello"), 400, `"BadDelivery"`},
		{"no order", `{"id":"d1","amount":10,"currency":"USD"}`, signatureOf(`{"id":"d1","amount":10,"currency":"USD"}`), 400, `"BadDelivery"`},
		{"too large", strings.Repeat(" ", 64<<10+1), "", 413, `"RequestTooLarge"`},
		{"good", body, signatureOf(body), 200, `"again":false`},
		{"again", body, signatureOf(body), 200, `"again":true`},
	} {
		if status, answer := w.deliver(t, tt.body, tt.signature); status != tt.status || !strings.Contains(answer, tt.want) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, status, answer, tt.status, tt.want)
		}
	}
	w.await(t, "the payment is converted", func(p []Payment) bool {
		return len(p) == 1 && p[0].State == StateConverted && *p[0].Euros == 5 && p[0].Order == "A-1"
	})
	if n := w.asked.Load(); n != 1 {
		t.Errorf("the service for exchange rates was asked %d times, want 1", n)
	}
	for _, currency := range []string{"XXX", "YYY"} {
		body := `{"id":"` + currency + `","order":"B-1","amount":1,"currency":"` + currency + `"}`
		if status, answer := w.deliver(t, body, signatureOf(body)); status != 200 {
			t.Errorf("%s: %d %s", currency, status, answer)
		}
		w.await(t, "the payment has failed", func(p []Payment) bool {
			return p[0].Delivery == currency && p[0].State == StateFailed && p[0].Problem != ""
		})
	}
}

// A delivery that is sent many times at once is recorded, and converted, once.
func TestImpatientSender(t *testing.T) {
	w := open(t)
	const body = `{"id":"d1","order":"A-1","amount":10,"currency":"USD"}`
	var group sync.WaitGroup
	var first atomic.Int64
	for range 20 {
		group.Go(func() {
			status, answer := w.deliver(t, body, signatureOf(body))
			if status != 200 {
				t.Errorf("%d %s", status, answer)
			}
			if strings.Contains(answer, `"again":false`) {
				first.Add(1)
			}
		})
	}
	group.Wait()
	w.await(t, "the payment is converted", func(p []Payment) bool { return len(p) == 1 && p[0].State == StateConverted })
	if n := first.Load(); n != 1 {
		t.Errorf("%d senders were told that theirs is the first", n)
	}
	if n := w.asked.Load(); n != 1 {
		t.Errorf("the service for exchange rates was asked %d times, want 1", n)
	}
}
