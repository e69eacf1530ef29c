package main

import (
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
)

// State is how far a payment is.
type State string

// The states of a payment.
const (
	StateNew       State = "new"       // recorded; its worth is being asked for
	StateConverted State = "converted" // Euros says what it is worth
	StateFailed    State = "failed"    // Problem says why its worth is not known
)

// Values makes State a union of literals.
func (State) Values() []State { return []State{StateNew, StateConverted, StateFailed} }

// Payment is one delivery of the payment service.
type Payment struct {
	ID       halcyon.ID[Payment] `halcyon:"id"`
	At       time.Time           `halcyon:"creationTime"`
	Delivery string              `json:"delivery"` // the service's id of it, the same however often it is sent
	Order    string              `json:"order"`
	Amount   float64             `json:"amount"`
	Currency string              `json:"currency"`
	State    State               `json:"state"`
	Euros    *float64            `json:"euros"`
	Problem  string              `json:"problem,omitzero"`
}

// Payments is the table. No two of its documents are the same delivery.
var Payments = halcyon.NewTable[Payment]("payments").Unique("by_delivery", "delivery")

// Module is the webhook: its table, its functions, its routes, its page, and what it needs to know from its environment.
func Module() *halcyon.Module {
	m := halcyon.NewModule("payments", Payments)
	m.Env(
		halcyon.Variable{Name: "WEBHOOK_SECRET", Help: "what the payment service signs its deliveries with", Secret: true},
		halcyon.Variable{Name: "RATES_URL", Help: "where exchange rates are asked for", Default: "https://api.frankfurter.dev/v1/latest"},
	)
	m.Query("latest", latest)
	m.Internal.Mutation("record", record)
	m.Internal.Mutation("settle", settle)
	m.Internal.Action("convert", convert)
	m.HTTP("POST", "/payments", receive).BodyMax(64 << 10).TimeMax(10 * time.Second)
	m.HTTP("GET", "/payments/live", stream).TimeMax(24 * time.Hour)
	m.Handle("GET /{$}", http.HandlerFunc(page))
	return m
}

// delivery is the body of a request of the payment service.
type delivery struct {
	ID       string  `json:"id"`
	Order    string  `json:"order"`
	Amount   float64 `json:"amount"`
	Currency string  `json:"currency"`
}

var currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)

// receive takes a delivery. Its signature is the HMAC-SHA256 of the body, so nobody without the secret can make one. A delivery that was sent
// before, because its sender did not get the answer, is answered the same and recorded once.
func receive(c *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
	secret, err := c.Secret("WEBHOOK_SECRET")
	if err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if !signed(body, r.Header.Get("X-Signature"), secret) {
		w.WriteHeader(http.StatusUnauthorized)
		return nil
	}
	var d delivery
	if err := json.Unmarshal(body, &d); err != nil || d.ID == "" || d.Order == "" || d.Amount <= 0 || !currencyCode.MatchString(d.Currency) {
		return &halcyon.Error{Code: "BadDelivery", Message: "A delivery has an id, an order, an amount above 0 and a currency of three letters."}
	}
	var recorded Recorded
	if err := c.RunMutation("record", RecordArgs(d), &recorded); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(recorded)
}

// signed reports whether a signature, sha256= and the digits, is that of a body.
func signed(body []byte, signature, secret string) bool {
	given, err := hex.DecodeString(strings.TrimPrefix(signature, "sha256="))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return err == nil && hmac.Equal(given, mac.Sum(nil))
}

// RecordArgs are the arguments of record.
type RecordArgs struct {
	ID       string  `json:"id"`
	Order    string  `json:"order"`
	Amount   float64 `json:"amount"`
	Currency string  `json:"currency"`
}

// Recorded is what the sender of a delivery is told.
type Recorded struct {
	Payment halcyon.ID[Payment] `json:"payment"`
	Again   bool                `json:"again"` // the delivery had been recorded before
}

// record writes a delivery down and schedules what follows from it, both or neither.
func record(tx *halcyon.Tx, args RecordArgs) (Recorded, error) {
	known, found, err := Payments.By("by_delivery").Eq(args.ID).First(tx)
	if err != nil || found {
		return Recorded{known.ID, found}, err
	}
	id, err := Payments.Insert(tx, Payment{Delivery: args.ID, Order: args.Order, Amount: args.Amount, Currency: args.Currency, State: StateNew})
	if err != nil {
		return Recorded{}, err
	}
	_, err = tx.RunAfter(0, "convert", ConvertArgs{id, args.Amount, args.Currency})
	return Recorded{id, false}, err
}

// ConvertArgs are the arguments of convert.
type ConvertArgs struct {
	Payment  halcyon.ID[Payment] `json:"payment"`
	Amount   float64             `json:"amount"`
	Currency string              `json:"currency"`
}

// convert asks what a payment is worth in euros, and has it written down. It is an action: mutations can't talk to other services.
func convert(c *halcyon.Ctx, args ConvertArgs) error {
	result := SettleArgs{Payment: args.Payment}
	rate, err := exchangeRate(c, args.Currency)
	if err != nil {
		c.Warn("no exchange rate", err)
		result.Problem = "the service for exchange rates did not answer with one"
	} else {
		euros := args.Amount * rate
		result.Euros = &euros
	}
	return c.RunMutation("settle", result, nil)
}

// exchangeRate returns how many euros one of a currency is.
func exchangeRate(c *halcyon.Ctx, currency string) (float64, error) {
	if currency == "EUR" {
		return 1, nil
	}
	address, _ := c.Env("RATES_URL") // has a default
	r, err := http.NewRequestWithContext(c, http.MethodGet, address+"?"+url.Values{"base": {currency}, "symbols": {"EUR"}}.Encode(), nil)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Rates map[string]float64 `json:"rates"`
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the service for exchange rates answers %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return 0, fmt.Errorf("read an exchange rate: %w", err)
	}
	rate, ok := answer.Rates["EUR"]
	if !ok || rate <= 0 {
		return 0, errors.New("the answer has no rate for EUR")
	}
	return rate, nil
}

// SettleArgs are the arguments of settle.
type SettleArgs struct {
	Payment halcyon.ID[Payment] `json:"payment"`
	Euros   *float64            `json:"euros"`
	Problem string              `json:"problem,omitzero"`
}

// settle writes down what a payment is worth, or why nobody knows.
func settle(tx *halcyon.Tx, args SettleArgs) error {
	if args.Euros == nil {
		return Payments.Patch(tx, args.Payment, halcyon.Fields{"state": StateFailed, "problem": args.Problem})
	}
	return Payments.Patch(tx, args.Payment, halcyon.Fields{"state": StateConverted, "euros": *args.Euros})
}

// latest returns the newest payments, the newest first.
func latest(tx *halcyon.Tx) ([]Payment, error) { return Payments.All().Desc().Take(tx, 20) }

// stream sends the newest payments as server-sent events, now and after each change, for as long as the page is open.
func stream(c *halcyon.Ctx, w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", halcyon.CacheControl{NoStore: true}.String())
	for payments, err := range halcyon.Watch[[]Payment](c, "latest", nil) {
		if err != nil {
			return err
		}
		text, err := json.Marshal(payments)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil {
			return err
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
	}
	return nil
}

//go:embed page.html
var pageText []byte

// page shows the payments.
func page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", halcyon.CacheControl{NoCache: true}.String())
	if !halcyon.NotModified(w, r, halcyon.ETag(pageText)) {
		_, _ = w.Write(pageText) // a reader who went away needs no page
	}
}
