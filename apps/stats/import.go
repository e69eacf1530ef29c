package stats

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/accesslog"
)

// importBatch is how many page views of a log go into one transaction.
const importBatch = 500

// progressEvery is how often the progress line is rewritten.
const progressEvery = 200 * time.Millisecond

// The reasons for which a page view of a log is not counted, beside those of
// the access log reader.
const (
	reasonRepeated accesslog.Reason = "a repeated view within the view window"
	reasonRefused  accesslog.Reason = "a path that is too long"
)

type importViewsArgs struct {
	Views []importedView `json:"views"`
}

type importedView struct {
	Path      string    `json:"path"`
	SessionID string    `json:"sessionId"`
	Timestamp time.Time `json:"timestamp"`
}

type importViewsResult struct {
	Counted  int `json:"counted"`
	Repeated int `json:"repeated"`
	Refused  int `json:"refused"` // the path is too long
}

// importViews counts views that have happened, by the rules and into the tables
// of recordPageView.
func (a *app) importViews(tx *halcyon.Tx, args importViewsArgs) (importViewsResult, error) {
	var result importViewsResult
	views := make([]PageView, 0, len(args.Views))
	for _, view := range args.Views {
		view, err := newView(recordPageViewArgs{
			Path: view.Path, PageType: pageTypeOf(cleanPath(view.Path)), SessionID: view.SessionID,
		}, view.Timestamp)
		var told *halcyon.Error
		if errors.As(err, &told) && told.Code == CodePath {
			result.Refused++
			continue
		}
		if err != nil {
			return result, err
		}
		views = append(views, view)
	}
	counted, err := a.countViews(tx, views)
	if err != nil {
		return result, err
	}
	for _, ok := range counted {
		if ok {
			result.Counted++
		} else {
			result.Repeated++
		}
	}
	return result, nil
}

// importLogs is the command `import`.
func (a *app) importLogs(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
	if len(args) == 0 {
		return importUsage{}
	}
	run := &logImport{
		app: env.App, stdin: env.Stdin, visitors: newVisitorNames(rand.Reader),
		leftOut: make(map[accesslog.Reason]int), out: env.Stderr, live: isTerminal(env.Stderr), clock: time.Now,
	}
	var failed error
	for _, name := range args {
		if err := run.file(ctx, name); err != nil {
			failed = fmt.Errorf("import %s: %w", name, err)
			break
		}
	}
	run.clearProgress()
	return errors.Join(failed, run.summarise(env.Stdout))
}

// importUsage is the error of a call without a file.
type importUsage struct{}

func (importUsage) Error() string {
	return "import: name the log files to read, or - for standard input"
}

// ExitCode tells the command line that the call was wrong, and not that it failed.
func (importUsage) ExitCode() int { return 2 }

// A logImport is one run of the command.
type logImport struct {
	app      *halcyon.App
	stdin    io.Reader
	visitors *visitorNames
	batch    []importedView

	lines    int64 // of the files read so far, without the current
	counted  int
	leftOut  map[accesslog.Reason]int
	out      io.Writer // where progress goes
	live     bool      // whether it is a terminal
	clock    func() time.Time
	reported time.Time // when progress was last shown
}

// file counts the page views of one log. What was read before an error is kept.
func (r *logImport) file(ctx context.Context, name string) error {
	in := r.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close() // read only: nothing can be lost
		in = f
	}
	reader, err := accesslog.NewReader(in)
	if err != nil {
		return err
	}
	err = r.read(ctx, reader)
	r.lines += reader.Lines
	return errors.Join(err, r.flush(ctx))
}

func (r *logImport) read(ctx context.Context, reader *accesslog.Reader) error {
	leftOut := func(reason accesslog.Reason) {
		r.leftOut[reason]++
		r.progress(reader.Lines)
	}
	for entry, err := range reader.PageViews(leftOut) {
		if err != nil {
			return err
		}
		r.batch = append(r.batch, importedView{
			Path: entry.Path, SessionID: r.visitors.name(entry), Timestamp: entry.Time,
		})
		if len(r.batch) < importBatch {
			continue
		}
		if err := r.flush(ctx); err != nil {
			return err
		}
		r.progress(reader.Lines)
	}
	return ctx.Err()
}

// flush counts the batch in one transaction.
func (r *logImport) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	var result importViewsResult
	if err := r.app.Run(ctx, "stats:importViews", importViewsArgs{r.batch}, &result); err != nil {
		return err
	}
	r.counted += result.Counted
	r.leftOut[reasonRepeated] += result.Repeated
	r.leftOut[reasonRefused] += result.Refused
	r.batch = r.batch[:0]
	return nil
}

// progress rewrites the progress line, on a terminal and not too often.
func (r *logImport) progress(lines int64) {
	if !r.live {
		return
	}
	if now := r.clock(); now.Sub(r.reported) >= progressEvery {
		r.reported = now
		fmt.Fprintf(r.out, "\r%d lines read, %d views counted", r.lines+lines, r.counted)
	}
}

func (r *logImport) clearProgress() {
	if !r.reported.IsZero() {
		fmt.Fprintf(r.out, "\r%60s\r", "")
	}
}

// summarise tells what became of every line.
func (r *logImport) summarise(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%8d lines read\n%8d views counted\n", r.lines, r.counted)
	reasons := make([]accesslog.Reason, 0, len(r.leftOut))
	total := 0
	for reason, n := range r.leftOut {
		if n > 0 {
			reasons = append(reasons, reason)
			total += n
		}
	}
	if total > 0 {
		fmt.Fprintf(&text, "%8d left out:\n", total)
	}
	slices.SortFunc(reasons, func(x, y accesslog.Reason) int {
		if r.leftOut[x] != r.leftOut[y] {
			return r.leftOut[y] - r.leftOut[x]
		}
		return strings.Compare(string(x), string(y))
	})
	for _, reason := range reasons {
		fmt.Fprintf(&text, "%8d   %s\n", r.leftOut[reason], reason)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// isTerminal reports whether w is a terminal, where a line can be rewritten.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// visitorNames gives visitors of a log their ids: a keyed hash of day, address
// and agent. The key is random and lives as long as the run, so that nobody can
// find an address by hashing all there are, and one visitor has unrelated ids
// on two days.
type visitorNames struct{ hash hash.Hash }

// newVisitorNames takes its key from random.
func newVisitorNames(random io.Reader) *visitorNames {
	key := make([]byte, sha256.Size)
	if _, err := io.ReadFull(random, key); err != nil {
		panic(fmt.Sprintf("stats: the source of random bytes failed: %v", err)) // crypto/rand never does
	}
	return &visitorNames{hmac.New(sha256.New, key)}
}

// name returns the id of the visitor who made a request.
func (v *visitorNames) name(e accesslog.Entry) string {
	v.hash.Reset()
	// The day has a fixed length and an address no zero byte, so that no two
	// visitors are written alike.
	fmt.Fprintf(v.hash, "%s%s\x00%s", e.Time.UTC().Format(time.DateOnly), e.Address, e.Agent)
	sum := v.hash.Sum(nil)
	return "log-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))
}
