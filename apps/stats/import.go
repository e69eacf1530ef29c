package stats

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/accesslog"
	"github.com/halcyon-db/halcyon/apps/stats/internal/source"
)

const (
	// importBatch is how many page views of a log go into one transaction.
	importBatch = 500

	// importLines is after how many lines without so many views one is made all
	// the same, so that an interrupted run goes on from there.
	importLines = 50_000

	// importTries is how often a transaction is tried that had no time on a busy
	// machine.
	importTries = 5
)

// The reasons for which a page view of a log is not counted, beside those of
// the access log reader.
const (
	reasonRepeated accesslog.Reason = "a repeated view within the view window"
	reasonRefused  accesslog.Reason = "a path that is too long"
)

// importFlags are what the command takes beside files.
type importFlags struct {
	rules        accesslog.Rules
	agents       *agents
	site         string
	follow       bool
	again        bool
	transactions bool
	files        []string
}

// importUsage is the error of a wrong call.
type importUsage struct{ text string }

func (u importUsage) Error() string { return "import: " + u.text }

// ExitCode tells the command line that the call was wrong, and not that it failed.
func (importUsage) ExitCode() int { return 2 }

// parseImport reads the arguments of the command.
func parseImport(args []string, talk io.Writer) (importFlags, error) {
	f := importFlags{rules: accesslog.DefaultRules()}
	f.agents = &agents{}
	f.rules.Robot = func(text string) (string, bool) {
		a := f.agents.look(text)
		return a.robot, a.robot != ""
	}
	var statuses, assets, pages string
	var robots bool
	set := flag.NewFlagSet("stats import", flag.ContinueOnError)
	set.SetOutput(talk)
	set.StringVar(&f.site, "site", "", "host name of the site that the log is of")
	set.BoolVar(&f.follow, "follow", false, "go on when the file is read, with what is appended to it, also after it was rotated; until SIGINT")
	set.StringVar(&statuses, "statuses", "200,203,304", "answers that show a page")
	set.StringVar(&assets, "assets", "", "further endings of what is no page, such as .mp4,.gz")
	set.StringVar(&pages, "pages", "", "endings of assets that are pages all the same, such as .pdf")
	set.BoolVar(&f.rules.Feeds, "feeds", false, "count requests for feeds")
	set.BoolVar(&robots, "robots", false, "count robots, and requests without a user agent")
	set.BoolVar(&f.again, "again", false, "count the log from its beginning though it was imported before")
	set.BoolVar(&f.transactions, "transactions", false, "count by transactions also into empty tables")
	set.Usage = func() { fmt.Fprintf(talk, "Usage of stats import:\n%s", usageOf(set)) }
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return f, err
		}
		return f, importUsage{err.Error()}
	}
	f.files = set.Args()
	if robots {
		f.rules.Robot = nil
	}
	f.rules.Statuses = nil
	for _, text := range strings.Split(statuses, ",") {
		status, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || status < 100 || status > 999 {
			return f, importUsage{fmt.Sprintf("%q is no status of an answer", text)}
		}
		f.rules.Statuses = append(f.rules.Statuses, status)
	}
	for _, list := range []struct {
		text  string
		asset bool
	}{{assets, true}, {pages, false}} {
		for ending := range strings.SplitSeq(list.text, ",") {
			if ending = strings.ToLower(strings.TrimSpace(ending)); ending == "" {
				continue
			}
			if !strings.HasPrefix(ending, ".") || len(ending) < 2 || strings.ContainsAny(ending[1:], "./") {
				return f, importUsage{fmt.Sprintf("%q is no ending; one looks like .pdf", ending)}
			}
			f.rules.Assets[ending] = list.asset
		}
	}
	if f.site != "" {
		host := source.CleanHost(f.site)
		if host == "" {
			return f, importUsage{fmt.Sprintf("%q is no host name", f.site)}
		}
		f.site = host
	}
	switch {
	case len(f.files) == 0:
		return f, importUsage{"name the log files to read, or - for standard input"}
	case f.follow && (len(f.files) != 1 || f.files[0] == "-"):
		return f, importUsage{"--follow takes one file"}
	}
	return f, nil
}

// declareImport declares what the import of logs needs.
func (a *app) declareImport(m *halcyon.Module) {
	m.Internal.Mutation("importViews", a.importViews)
	m.Internal.Mutation("beginImport", beginImport)
	m.Internal.Mutation("noteLoads", noteLoads)
	m.Internal.Mutation("knowVisitors", knowVisitors)
	m.Internal.Mutation("endLoads", a.endLoads)
	m.Internal.Query("findImport", findImport)
	m.Internal.Query("isEmpty", isEmpty)
	m.Internal.Query("getLoads", getLoads)
	m.Internal.Query("loadedVisitors", loadedVisitors)
	m.OnStart(a.finishLoads)
	m.Command("import", "Count the page views of access logs: files, gzipped or not, or - for standard input.", a.importLogs,
		halcyon.WithHelp(func(w io.Writer) { _, _ = parseImport([]string{"-help"}, w) })) // it is the only error then
}

// importLogs is the command `import`.
func (a *app) importLogs(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
	flags, err := parseImport(args, env.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(a.PlaceFiles) > 0 && a.places == nil {
		return fmt.Errorf("import: %w", a.openPlaces(env.App.Logger()))
	}
	run := &importRun{
		importFlags: flags, stats: a, app: env.App, dir: env.Dir, stdin: env.Stdin, talk: env.Stderr, random: rand.Reader, wait: waitFor,
		progress: &progress{out: env.Stderr, live: isTerminal(env.Stderr), clock: time.Now},
	}
	if err := removeOldKeys(run.dir, time.Now()); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	err = run.all(ctx)
	run.progress.clear()
	return errors.Join(err, run.summarise(env.Stdout))
}

// importRun is one run of the command.
type importRun struct {
	importFlags
	stats    *app
	app      *halcyon.App
	dir      string // of the database; "" when it is in memory
	stdin    io.Reader
	talk     io.Writer
	random   io.Reader
	wait     func(context.Context, time.Duration) error
	progress *progress

	visitors *visitorNames
	name     string // of the run
	seen     seenVisitors
	done     ImportState // what this run did
}

// all reads all logs.
func (r *importRun) all(ctx context.Context) error {
	if err := r.stats.finishLoads(ctx, r.app); err != nil {
		return err
	}
	for _, name := range r.files {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			r.progress.total += info.Size()
		}
	}
	if slices.Contains(r.files, "-") {
		r.progress.total = 0
	}
	r.name = newRun()
	var err error
	if r.visitors, _, err = newVisitorNames(r.random, r.dir, r.name); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if r.follow {
		err = r.followFile(ctx, r.files[0])
	} else {
		err = r.readFiles(ctx)
	}
	if errors.Is(err, errStopped) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.visitors.end()
}

// readFiles reads the logs one after the other, or all at once into empty tables.
func (r *importRun) readFiles(ctx context.Context) error {
	loaded, err := r.tryLoad(ctx)
	if err != nil || loaded {
		return err
	}
	for _, name := range r.files {
		l, err := r.open(ctx, name)
		if err == nil {
			err = errors.Join(r.read(ctx, l), l.close())
		}
		if err != nil {
			return fmt.Errorf("import %s: %w", name, err)
		}
	}
	return nil
}

// openLog is a log that is being read.
type openLog struct {
	*accesslog.Reader
	close func() error
	file  *os.File // nil when it is no regular one
	row   Import
	views []accesslog.Entry
	// failed says that a flush has failed: its views are taken for counted, so that
	// another flush would leave them out and note that they were read.
	failed bool
	lines  int64       // that are noted
	state  ImportState // what is not noted yet
	heads  func() ([]string, error)
}

// open opens a log, finds out whether it is known, and goes to the place where
// reading it goes on.
func (r *importRun) open(ctx context.Context, name string) (*openLog, error) {
	l, in, err := r.find(ctx, name)
	if err != nil {
		return nil, err
	}
	return l, r.begin(ctx, l, in)
}

// find opens a log and finds out whether it is known.
func (r *importRun) find(ctx context.Context, name string) (*openLog, io.Reader, error) {
	in, closeLog := r.stdin, func() error { return nil }
	l := &openLog{row: Import{ImportedLog: ImportedLog{Source: name}}}
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, err
		}
		in, closeLog = f, f.Close
		l.row.Source = filepath.Base(name)
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			// Of this file, whatever is called by its name meanwhile.
			l.file, l.heads = f, func() ([]string, error) { return accesslog.Fingerprints(io.NewSectionReader(f, 0, math.MaxInt64)) }
		}
	}
	var heads []string
	var err error
	if l.heads != nil {
		heads, err = l.heads()
	} else {
		var head bytes.Buffer
		heads, err = accesslog.Fingerprints(io.TeeReader(in, &head))
		in = io.MultiReader(&head, in)
	}
	if err != nil {
		return nil, nil, errors.Join(err, closeLog())
	}
	l.close = closeLog
	var known halcyon.Nullable[Import]
	if !r.again {
		if err := r.app.Run(ctx, "stats:findImport", findImportArgs{Source: l.row.Source, Heads: heads}, &known); err != nil {
			return nil, nil, errors.Join(err, closeLog())
		}
	}
	if known.Valid {
		now, was := l.row.Source, known.Value.Source
		l.row = known.Value
		l.row.Source = now
		r.tell("%s was imported before%s: %d lines of it are passed over", name, asOther(was, now), l.row.Lines)
	} else if len(heads) > 0 {
		l.row.Head, l.row.Heads = heads[len(heads)-1], len(heads)
	}
	return l, &counting{in, r.progress}, nil
}

func asOther(was, is string) string {
	if was == is {
		return ""
	}
	return " as " + was
}

// begin notes that the log is read from now on, and opens the reader. When this
// fails the log is closed.
func (r *importRun) begin(ctx context.Context, l *openLog, in io.Reader) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	var old *visitorNames
	if l.row.ID != "" && !l.row.Done && l.row.Run != "" && l.row.Run != r.name {
		// The run before was cut short: its visitors keep their names.
		var known bool
		if old, known, err = newVisitorNames(r.random, r.dir, l.row.Run); err != nil {
			return err
		}
		if !known && l.row.Position > 0 {
			r.tell("the keys of the run that was cut short are gone: visitors of the day it had come to may be counted twice")
		}
		if err := r.visitors.adopt(old); err != nil {
			return err
		}
	}
	l.row.Run = r.name
	args := beginImportArgs{Log: l.row.ImportedLog}
	if l.row.ID != "" {
		args.ID = &l.row.ID
	}
	if err := r.app.Run(ctx, "stats:beginImport", args, &l.row.ID); err != nil {
		return err
	}
	if old != nil {
		// One log of a run can have been cut short: nobody else needs its keys.
		if err := old.end(); err != nil {
			return err
		}
	}
	l.Reader, err = accesslog.NewReader(in, r.rules, l.row.mark())
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w; the file is shorter than when it was imported, --again counts it from its beginning", err)
	}
	return err
}

// read reads a log to its end. What was read before an error is kept.
func (r *importRun) read(ctx context.Context, l *openLog) error {
	err := r.readOn(ctx, l)
	if !errors.Is(err, io.EOF) {
		if ctx.Err() == nil && !l.failed {
			// A broken file: what came before counts.
			l.views, _ = l.Finish(l.views)
			err = errors.Join(err, r.flush(ctx, l, false))
		}
		return err
	}
	var reason accesslog.Reason
	l.views, reason = l.Finish(l.views)
	if reason != accesslog.Unfinished {
		l.state.add(reason, one(reason))
		return r.flush(ctx, l, true)
	}
	if err := r.flush(ctx, l, true); err != nil {
		return err
	}
	// It is told, and not noted: whoever reads the log again reads it again.
	r.done.Lines++
	r.done.add(reason, 1)
	return nil
}

// readOn reads a log as far as it goes, until the error io.EOF.
func (r *importRun) readOn(ctx context.Context, l *openLog) error {
	for {
		var reason accesslog.Reason
		var err error
		if l.views, reason, err = l.Next(l.views); err != nil {
			return err
		}
		l.state.add(reason, one(reason))
		if len(l.views) < importBatch && l.Lines()-l.lines < importLines {
			continue
		}
		if err := r.flush(ctx, l, false); err != nil {
			return err
		}
	}
}

// one counts a line that is left out for a reason, if there is one.
func one(reason accesslog.Reason) int {
	if reason == "" {
		return 0
	}
	return 1
}

// flush counts what was read, and notes in the same transaction how far that is.
func (r *importRun) flush(ctx context.Context, l *openLog, done bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	args := importViewsArgs{Views: make([]importedView, 0, len(l.views)), Note: &importNote{ID: l.row.ID, Done: done}}
	for i := range l.views {
		view := r.imported(&l.views[i])
		switch fate := r.look(&view); fate {
		case reasonRepeated, reasonRefused:
			l.state.add(fate, 1)
		default:
			args.Views = append(args.Views, view)
		}
	}
	r.seen.forget(l.Mark().Low)
	l.state.setMark(l.Mark())
	l.state.Lines = int(l.Lines() - l.lines)
	args.Note.State = l.state
	if l.row.Heads < accesslog.FingerprintLines && l.heads != nil && !l.row.Done {
		heads, err := l.heads()
		if err == nil && len(heads) > l.row.Heads && l.row.ID != "" {
			l.row.Heads, l.row.Head = len(heads), heads[len(heads)-1]
			args.Note.Heads, args.Note.Head = l.row.Heads, l.row.Head
		}
	}
	if err := r.visitors.save(); err != nil {
		l.failed = true
		return err
	}
	for {
		var result importViewsResult
		if err := r.count(ctx, args, &result); err != nil {
			l.failed = true
			return err
		}
		l.state.Counted += result.Counted
		l.state.add(reasonRepeated, result.Repeated)
		l.state.add(reasonRefused, result.Refused)
		if result.Taken == len(args.Views) {
			break
		}
		args.Views, args.Note.State = args.Views[result.Taken:], l.state
	}
	r.done.merge(l.state)
	l.views, l.state, l.lines = l.views[:0], ImportState{}, l.Lines()
	r.progress.show(r.done.Lines, r.done.Counted, "")
	return nil
}

// count runs importViews. A failure that says that nothing has happened, and that
// another try may go well, gets one.
func (r *importRun) count(ctx context.Context, args importViewsArgs, result *importViewsResult) error {
	for try := 1; ; try++ {
		err := r.app.Run(ctx, "stats:importViews", args, result)
		var code halcyon.Code
		if failure, ok := errors.AsType[*halcyon.Failure](err); ok {
			code = failure.Code
		} else if refused, ok := errors.AsType[*halcyon.RequestError](err); ok {
			code = refused.Code
		}
		if try == importTries || code != halcyon.CodeTimeout && code != halcyon.CodeOverloaded {
			return err
		}
		if err := r.wait(ctx, time.Duration(try)*time.Second); err != nil {
			return err
		}
	}
}

// imported makes of an entry what is told to the database: the visitor's id, and
// families of agents instead of the agent.
func (r *importRun) imported(e *accesslog.Entry) importedView {
	hit, site := r.hit(e), ""
	if r.site == "" {
		site = hit.Site
	}
	return importedView{Path: e.Path, SessionID: r.visitors.name(e, site), Timestamp: e.Time, Hit: hit}
}

// hostOf returns a host name as sites are named, without the port that may follow it.
func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return source.CleanHost(host)
}

// hit tells the circumstances of a request.
func (r *importRun) hit(e *accesslog.Entry) *Hit {
	h := &Hit{Site: r.site}
	if h.Site == "" && e.Host != "" {
		h.Site = hostOf(e.Host)
	}
	if e.Agent != "" && e.Agent != "-" {
		ua := r.agents.look(e.Agent)
		h.Device, h.Browser, h.System = ua.Device, ua.Browser, ua.System
	}
	if at, err := netip.ParseAddr(e.Address); err == nil && r.stats.places != nil {
		found, _ := r.stats.places.Lookup(at)
		if country := countryCode(found.Country); country != nil {
			h.Country = *country
		}
	}
	if strings.Contains(e.Query, "utm_") || strings.Contains(e.Query, "source=") || strings.Contains(e.Query, "ref=") {
		if query, err := url.ParseQuery(e.Query); err == nil {
			h.UTMSource = field(firstOf(query, "utm_source", "source", "ref"))
			h.UTMMedium, h.UTMCampaign = field(query.Get("utm_medium")), field(query.Get("utm_campaign"))
		}
	}
	from := ""
	if e.Referrer != "" && e.Referrer != "-" {
		from = source.Host(e.Referrer)
	}
	utm := source.UTM{Source: h.UTMSource, Medium: h.UTMMedium, Campaign: h.UTMCampaign}
	// A link inside of the site is no source.
	if inside := h.Site != "" && from == h.Site; !inside {
		h.Referrer = from
		h.Channel = source.Channel(from, utm)
	} else if utm != (source.UTM{}) {
		h.Channel = source.Channel("", utm)
	}
	return h
}

// look finds out what becomes of a view without the database, where that is known.
// It returns why the view is not counted, if so.
func (r *importRun) look(given *importedView) accesslog.Reason {
	view, err := given.view()
	if tooLongPath(err) {
		return reasonRefused
	}
	if err != nil || !r.visitors.own[view.Timestamp.UTC().Format(time.DateOnly)] {
		return "" // a run before may have counted views of this visitor
	}
	switch r.seen.look(&view, r.stats.ViewWindow) {
	case fateRepeated:
		return reasonRepeated
	case fateCounted:
		given.Told, given.Before, given.BeforeHere = true, view.Before, view.BeforeHere
	}
	return ""
}

// tell says something to the person at the terminal.
func (r *importRun) tell(format string, args ...any) {
	r.progress.clear()
	fmt.Fprintf(r.talk, format+"\n", args...)
}

// summarise tells what became of every line.
func (r *importRun) summarise(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%8d lines read\n%8d views counted\n", r.done.Lines, r.done.Counted)
	type left struct {
		reason string
		n      int
	}
	var reasons []left
	total, robots := 0, 0
	for reason, n := range r.done.LeftOut {
		total += n
		if strings.HasPrefix(reason, accesslog.RobotPrefix) {
			robots += n
			continue
		}
		reasons = append(reasons, left{reason, n})
	}
	if robots > 0 {
		reasons = append(reasons, left{"robots", robots})
	}
	if total > 0 {
		fmt.Fprintf(&text, "%8d left out:\n", total)
	}
	byNumber := func(x, y left) int { return cmp.Or(y.n-x.n, strings.Compare(x.reason, y.reason)) }
	slices.SortFunc(reasons, byNumber)
	for _, l := range reasons {
		fmt.Fprintf(&text, "%8d   %s\n", l.n, l.reason)
		if l.reason != "robots" {
			continue
		}
		var names []left
		for reason, n := range r.done.LeftOut {
			if name, ok := strings.CutPrefix(reason, accesslog.RobotPrefix); ok {
				names = append(names, left{name, n})
			}
		}
		slices.SortFunc(names, byNumber)
		for _, name := range names {
			fmt.Fprintf(&text, "%8d     %s\n", name.n, name.reason)
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}
