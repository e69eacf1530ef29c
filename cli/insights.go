package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/server"
)

// logsVerb is `logs`.
type logsVerb struct {
	targetFlags

	Follow   bool   `short:"f" help:"Go on with what comes, until a signal."`
	Function string `placeholder:"PREFIX" help:"Only functions whose path begins so, for example stats: for a module."`
	Request  string `name:"request-id" placeholder:"ID" help:"Only the request of that id, as a client is told it."`
	Failed   bool   `help:"Only calls that failed."`
	JSON     bool   `name:"json" help:"Print one JSON object a line."`
}

// Help is the part of the help page below the flags.
func (logsVerb) Help() string {
	return `Prints the calls of a running server that logged something or failed, the oldest first. The server keeps the newest 4,096 of them, or 4 MiB, in memory. What the server itself has to say goes to its standard error. ` + targetHelp
}

// Run prints the log.
func (v *logsVerb) Run(e *env, app *halcyon.App) error {
	return v.on(e, app, func(t *target) error {
		if t.here {
			return hinted{fmt.Errorf("no server has %s open, so there are no logs", v.Storage.Dir), "logs are in the memory of a running server; start it, or name one with --url"}
		}
		query := url.Values{"function": {v.Function}}
		for name, set := range map[string]bool{"follow": v.Follow, "failed": v.Failed} {
			if set {
				query.Set(name, "true")
			}
		}
		if v.Request != "" {
			query.Set("requestId", v.Request)
		}
		resp, err := t.Do(e.ctx, http.MethodGet, "logs", query, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		for lines := json.NewDecoder(resp.Body); ; {
			var entry json.RawMessage
			err := lines.Decode(&entry)
			switch {
			case errors.Is(err, io.EOF) && v.Follow:
				return errors.New("the server has stopped")
			case errors.Is(err, io.EOF), e.ctx.Err() != nil:
				return nil
			case err != nil:
				return fmt.Errorf("read the log: %w", err)
			}
			if err := v.print(e, entry); err != nil {
				return err
			}
		}
	})
}

func (v *logsVerb) print(e *env, text json.RawMessage) error {
	if v.JSON {
		_, err := fmt.Fprintf(e.stdout, "%s\n", text)
		return err
	}
	var l server.ListedLog
	if err := json.Unmarshal(text, &l); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s(%s)", l.Time.Format("2006-01-02T15:04:05.000Z"), string(l.Kind[0]), l.Function)
	if l.Took > 0 {
		fmt.Fprintf(&b, " %.1f ms", l.Took)
	}
	if l.RequestID != "" {
		fmt.Fprintf(&b, " %s", l.RequestID)
	}
	b.WriteByte('\n')
	for _, line := range l.Lines {
		fmt.Fprintf(&b, "  %s\n", strings.ReplaceAll(line, "\n", "\n  "))
	}
	if l.Failure != "" {
		fmt.Fprintf(&b, "  failed: %s\n", strings.ReplaceAll(l.Failure, "\n", "\n  "))
	}
	_, err := io.WriteString(e.stdout, b.String())
	return err
}

// insightsVerb is `insights`.
type insightsVerb struct {
	targetFlags

	Watch bool `short:"w" help:"Print them again every 2 seconds, until a signal."`
	JSON  bool `name:"json" help:"Print one JSON object."`
}

// Help is the part of the help page below the flags.
func (insightsVerb) Help() string {
	return `Tells what a running server noticed in the last hour: how often functions were called and failed, how long they took (within 7 %), how often they met other transactions and what became of that, how close they came to limits, and over which documents they met. A call that meets another takes longer; it does not fail, so the count of failures for contention is 0. Since the start of the server it counts the connections that it ended because what they were about to be sent would have broken the protocol, which is 0 unless the server has a bug. ` + targetHelp
}

// Run prints the insights.
func (v *insightsVerb) Run(e *env, app *halcyon.App) error {
	return v.on(e, app, func(t *target) error {
		if t.here {
			return hinted{fmt.Errorf("no server has %s open, so there are no insights", v.Storage.Dir), "insights are in the memory of a running server; start it, or name one with --url"}
		}
		for {
			var in server.ListedInsights
			if err := t.Get(e.ctx, "insights", nil, &in); err != nil {
				return err
			}
			if v.JSON {
				if err := json.NewEncoder(e.stdout).Encode(in); err != nil {
					return err
				}
			} else if err := tabulateInsights(e.stdout, in); err != nil {
				return err
			}
			if !v.Watch {
				return nil
			}
			select {
			case <-e.ctx.Done():
				return nil
			case <-time.After(2 * time.Second):
				fmt.Fprintln(e.stdout)
			}
		}
	})
}

func tabulateInsights(w io.Writer, in server.ListedInsights) error {
	fmt.Fprintf(w, "%s to %s UTC\n\n", in.Since.Format("2006-01-02 15:04"), in.Now.Format("15:04:05"))
	if len(in.Functions) == 0 {
		fmt.Fprintln(w, "No function was called.")
	} else {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(table, "CALLS\tFAILED\tRUNS\tP50 ms\tP95 ms\tMAX ms\tMET OTHERS\tIN TURN\tAGAIN\tHELD UP\tSLOW\t  FUNCTION")
		for _, f := range in.Functions {
			fmt.Fprintf(table, "%d\t%d\t%d\t%.2f\t%.2f\t%.2f\t%d\t%d\t%d\t%d\t%d\t  %s\n",
				f.Calls, f.Failures, f.Runs, f.P50, f.P95, f.Max, f.Conflicts, f.InTurn, f.Retried, f.Parked, f.Slow, f.Function)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\nCalls that failed because others wrote: %d\n", in.Contention)
	fmt.Fprintf(w, "Connections ended before they were sent what breaks the protocol: %d\n", in.BrokenRules)
	if in.BrokenRules > 0 {
		fmt.Fprintln(w, "  This is a mistake in the server. Its log names the rule, at level error; please report it.")
	}
	for _, f := range in.Functions {
		for _, limit := range slices.Sorted(maps.Keys(f.Limits)) {
			fmt.Fprintf(w, "%s came to %.0f %% of a limit: %s\n", f.Function, 100*f.Limits[limit], limit)
		}
		for _, code := range slices.Sorted(maps.Keys(f.Codes)) {
			what := code
			if code == "" {
				what = "an error of its own"
			}
			fmt.Fprintf(w, "%s failed %d times: %s\n", f.Function, f.Codes[code], what)
		}
		if f.Stray > 0 {
			fmt.Fprintf(w, "%s went on after its time %d times\n", f.Function, f.Stray)
		}
	}
	if len(in.Documents) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nWhere transactions met, and who lost to whom the last time:")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TIMES\tTABLE\tINDEX\tDOCUMENT\tFUNCTION\tWRITER")
	for _, d := range in.Documents[:min(len(in.Documents), 10)] {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\n", d.Conflicts, d.Table, orDash(d.Index), orDash(d.ID), d.Function, orDash(d.Writer))
	}
	return table.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
