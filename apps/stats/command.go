package stats

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
)

// misuse is the error of a command that was called in a wrong way.
type misuse struct{ text string }

func (m misuse) Error() string { return m.text }

// ExitCode tells the command line that the call was wrong, and not that it failed.
func (misuse) ExitCode() int { return 2 }

// parseFlags reads the flags of a command.
func parseFlags(flags *flag.FlagSet, args []string) error {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) || err != nil {
		return misuse{fmt.Sprintf("%s: %v\n%s", flags.Name(), err, strings.TrimRight(usageOf(flags), "\n"))}
	}
	return nil
}

// usageOf returns what flags there are, as the command line takes them: with two dashes.
func usageOf(flags *flag.FlagSet) string {
	var text strings.Builder
	defer flags.SetOutput(flags.Output())
	flags.SetOutput(&text)
	flags.PrintDefaults()
	return strings.TrimPrefix(strings.ReplaceAll("\n"+text.String(), "\n  -", "\n  --"), "\n")
}

// exportBatch is how many rows one query of an export reads.
const exportBatch = 1000

type exportArgs struct {
	Events bool                     `json:"events"`
	From   time.Time                `json:"from"`
	To     time.Time                `json:"to"`
	Cursor halcyon.Nullable[string] `json:"cursor"`
}

// exportRow is a view or an event as it is exported.
type exportRow struct {
	Time     time.Time         `json:"time"`
	Name     string            `json:"name"` // pageview, or that of the event
	Path     string            `json:"path"`
	PageType string            `json:"pageType,omitzero"`
	Visitor  string            `json:"visitor"`
	Props    map[string]string `json:"props,omitempty"`
	Hit
}

// columns are the columns of a CSV export.
var columns = []string{"time", "name", "site", "path", "pageType", "visitor", "referrer", "channel", "utmSource", "utmMedium", "utmCampaign",
	"device", "browser", "system", "country", "props"}

func (r *exportRow) fields() ([]string, error) {
	props := ""
	if len(r.Props) > 0 {
		text, err := json.Marshal(r.Props)
		if err != nil {
			return nil, err
		}
		props = string(text)
	}
	return []string{r.Time.Format(time.RFC3339Nano), r.Name, r.Site, r.Path, r.PageType, r.Visitor, r.Referrer, r.Channel,
		r.UTMSource, r.UTMMedium, r.UTMCampaign, r.Device, r.Browser, r.System, r.Country, props}, nil
}

// exportRows returns a page of rows in the order of time.
func (a *app) exportRows(tx *halcyon.Tx, args exportArgs) (halcyon.Page[exportRow], error) {
	options := halcyon.PageOptions{NumItems: exportBatch, Cursor: args.Cursor}
	if args.Events {
		page, err := Events.By("by_timestamp").Gte(args.From).Lt(args.To).Page(tx, options)
		if err != nil {
			return halcyon.Page[exportRow]{}, err
		}
		return halcyon.MapPage(page, func(e Event) (exportRow, error) {
			return exportRow{Time: e.Timestamp, Name: e.Name, Path: e.Path, Visitor: e.SessionID, Props: e.Props, Hit: e.Hit}, nil
		})
	}
	page, err := PageViews.By("by_timestamp").Gte(args.From).Lt(args.To).Page(tx, options)
	if err != nil {
		return halcyon.Page[exportRow]{}, err
	}
	return halcyon.MapPage(page, func(v PageView) (exportRow, error) {
		return exportRow{Time: v.Timestamp, Name: eventView, Path: v.Path, PageType: v.PageType, Visitor: v.SessionID, Hit: v.Hit}, nil
	})
}

// export is the command `export`.
func (a *app) export(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
	flags := flag.NewFlagSet("export", flag.ContinueOnError)
	format := flags.String("format", "csv", "csv, or jsonl for one JSON object a line")
	events := flags.Bool("events", false, "export events instead of views")
	from := flags.String("from", "", "first `day`, as 2006-01-02; the default is the first there is")
	to := flags.String("to", "", "last `day`; the default is the last there is")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *format != "csv" && *format != "jsonl" {
		return misuse{"export: the format is csv or jsonl, and there are no other arguments than flags"}
	}
	query := exportArgs{Events: *events, To: never}
	for _, day := range []struct {
		text  string
		into  *time.Time
		shift int
	}{{*from, &query.From, 0}, {*to, &query.To, 1}} {
		if day.text == "" {
			continue
		}
		at, err := time.ParseInLocation(time.DateOnly, day.text, a.TimeZone)
		if err != nil {
			return misuse{fmt.Sprintf("export: %q is no day such as 2026-03-14", day.text)}
		}
		*day.into = at.AddDate(0, 0, day.shift)
	}
	if query.From.IsZero() {
		query.From = time.Unix(0, 0)
	}
	write, flush := csvWriter(env.Stdout)
	if *format == "jsonl" {
		lines := json.NewEncoder(env.Stdout)
		lines.SetEscapeHTML(false)
		write, flush = func(r *exportRow) error { return lines.Encode(r) }, func() error { return nil }
	}
	for {
		var page halcyon.Page[exportRow]
		if err := env.Call(ctx, "stats:exportRows", query, &page); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		for i := range page.Page {
			if err := write(&page.Page[i]); err != nil {
				return fmt.Errorf("export: %w", err)
			}
		}
		if page.IsDone {
			return flush()
		}
		query.Cursor = halcyon.NotNull(page.ContinueCursor)
	}
}

// plainCell keeps a spreadsheet from taking a text for a formula, which anybody may have
// sent: an apostrophe goes before what begins as one. See "CSV injection" of OWASP.
func plainCell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

func csvWriter(out io.Writer) (write func(*exportRow) error, flush func() error) {
	table := csv.NewWriter(out)
	_ = table.Write(columns) // an error is that of Flush too
	write = func(r *exportRow) error {
		fields, err := r.fields()
		if err != nil {
			return err
		}
		for i, text := range fields {
			fields[i] = plainCell(text)
		}
		return table.Write(fields)
	}
	return write, func() error {
		table.Flush()
		return table.Error()
	}
}

// forgetBatch is how many rows one forgetVisitor deletes.
const forgetBatch = 300

type forgetArgs struct {
	SessionID string `json:"sessionId"`
}

// forgetResult is what forgetVisitor deleted.
type forgetResult struct {
	Views  int  `json:"views"`
	Events int  `json:"events"`
	Others int  `json:"others"` // that the visitor was known, or is here
	More   bool `json:"more"`
}

// forgetVisitor deletes what there is of a visitor, on all sites, as if the
// visitor had never come: rows and their part in the rollups. It is called until
// nothing is left.
func (a *app) forgetVisitor(tx *halcyon.Tx, args forgetArgs) (forgetResult, error) {
	var result forgetResult
	if err := checkVisitorID(args.SessionID); err != nil {
		return result, err
	}
	done, err := a.progress(tx)
	if err != nil {
		return result, err
	}
	sums := newSheets(a.TimeZone)
	views, err := PageViews.By("by_session_time").Eq(args.SessionID).Take(tx, forgetBatch)
	if err != nil {
		return result, err
	}
	for i := range views {
		if done.has(views[i].Stored) {
			sums.addView(&views[i], -1)
			done.Rows--
		}
		if err := PageViews.Delete(tx, views[i].ID); err != nil {
			return result, err
		}
		if err := leavePath(tx, views[i].Site, views[i].Path); err != nil {
			return result, err
		}
	}
	events, err := Events.By("by_session_name").Eq(args.SessionID).Take(tx, forgetBatch)
	if err != nil {
		return result, err
	}
	for i := range events {
		if !events[i].Stored.IsZero() && !events[i].Stored.After(done.Events) {
			sums.addEvent(&events[i], -1)
		}
		if err := Events.Delete(tx, events[i].ID); err != nil {
			return result, err
		}
	}
	result.Views, result.Events = len(views), len(events)
	if len(sums.of) > 0 {
		if err := sums.save(tx); err != nil {
			return result, err
		}
		if err := done.save(tx); err != nil {
			return result, err
		}
	}
	if result.More = max(len(views), len(events)) == forgetBatch; result.More {
		return result, nil
	}
	visitors, err := Visitors.By("by_sessionId").Eq(args.SessionID).Collect(tx)
	if err != nil {
		return result, err
	}
	if secret, used, err := secretInUse(tx); err != nil {
		return result, err
	} else if used {
		hidden, err := Visitors.By("by_sessionId").Eq(secret.hash(args.SessionID)).Collect(tx)
		if err != nil {
			return result, err
		}
		visitors = append(visitors, hidden...)
	}
	for _, visitor := range visitors {
		if err := Visitors.Delete(tx, visitor.ID); err != nil {
			return result, err
		}
	}
	here, err := ActiveSessions.By("by_sessionId").Eq(args.SessionID).Collect(tx)
	if err != nil {
		return result, err
	}
	for _, session := range here {
		if err := ActiveSessions.Delete(tx, session.ID); err != nil {
			return result, err
		}
	}
	result.Others = len(visitors) + len(here)
	return result, nil
}

// forget is the command `forget`.
func (a *app) forget(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
	args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return arg == "--" })
	if len(args) != 1 || args[0] == "" {
		return misuse{"forget: name one visitor: the id that the tracker keeps in the browser"}
	}
	if refused, ok := errors.AsType[*halcyon.Error](checkVisitorID(args[0])); ok {
		return misuse{"forget: " + refused.Message}
	}
	var total forgetResult
	for more := true; more; {
		var result forgetResult
		if err := env.Call(ctx, "stats:forgetVisitor", forgetArgs{args[0]}, &result); err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		total.Views += result.Views
		total.Events += result.Events
		total.Others += result.Others
		more = result.More
	}
	if total.Views+total.Events+total.Others == 0 {
		return fmt.Errorf("forget: there is no visitor %.*q", visitorIDSizeMax, args[0])
	}
	_, err := fmt.Fprintf(env.Stdout, "%8d views deleted\n%8d events deleted\n", total.Views, total.Events)
	if err == nil {
		_, err = fmt.Fprintln(env.Stderr, "The files of the data have what was deleted for up to 7 days while the server runs, and backups until they are removed.")
	}
	return err
}
