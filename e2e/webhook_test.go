package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var webhook = newProgram("../examples/webhook")

// readPayments gives what the page of the webhook shows.
const readPayments = `[document.getElementById("state").textContent,
	...[...document.querySelectorAll("#payments tr")].map((row) => [...row.cells].map((cell) => cell.textContent).join(" | "))]`

// A delivery comes in, another service is asked about it, and a page that is open shows both, also across a restart.
func TestWebhookInABrowser(t *testing.T) {
	const secret = "of-the-test"
	answer := make(chan struct{})
	rates := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-answer
		fmt.Fprint(w, `{"rates":{"EUR":0.8}}`)
	}))
	defer rates.Close()
	t.Setenv("WEBHOOK_SECRET", secret) // so this test is not parallel
	t.Setenv("RATES_URL", rates.URL)
	b := openBrowser(t, "shop")
	b.expect("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|502|503") // of the stream, while the server restarts
	s := serve(t, webhook)
	await := func(want ...string) {
		t.Helper()
		poll(t, "the page shows it", func() (bool, string) {
			diff := cmp.Diff(want, evaluate[[]string](b, readPayments))
			return diff == "", "(-want +got)\n" + diff
		})
	}
	deliver := func(body string) {
		t.Helper()
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(body))
		r, err := http.NewRequestWithContext(impatient(t), http.MethodPost, s.url()+"/http/payments", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("the delivery was answered %s", resp.Status)
		}
	}
	b.visit(s.url() + "/")
	await("No payment yet.")
	deliver(`{"id":"d1","order":"A-17","amount":12.5,"currency":"USD"}`)
	await("Live.", "A-17 | 12.50 USD | …")
	close(answer)
	await("Live.", "A-17 | 12.50 USD | 10.00 EUR")
	b.screenshot("payments")

	if status := s.terminate(); status != 0 {
		t.Errorf("the program ended with %d\n%s", status, s.output)
	}
	s.launch()
	s.awaitReady()
	deliver(`{"id":"d1","order":"A-17","amount":12.5,"currency":"USD"}`)
	deliver(`{"id":"d2","order":"<b>A-18</b>","amount":1,"currency":"EUR"}`)
	await("Live.", "<b>A-18</b> | 1.00 EUR | 1.00 EUR", "A-17 | 12.50 USD | 10.00 EUR")
	if strings.Contains(s.output.String(), secret) {
		t.Errorf("the secret is in the log:\n%s", s.output)
	}
}
