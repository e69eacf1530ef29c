package replicate

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// Docs returns the module "docs", which has no functions and gives the program commands for the documents of collections: `docs list`,
// `docs export`, `docs import` and `docs delete`.
func Docs(collections ...*Collection) *halcyon.Module {
	m := halcyon.NewModule("docs")
	for _, v := range docsVerbs {
		m.Command(v.name, v.help, func(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
			return v.call(ctx, env, collections, args)
		}, halcyon.Served(), halcyon.WithHelp(func(w io.Writer) { v.explain(w, "PROGRAM") }))
	}
	return m
}

// docsVerb is a command for documents.
type docsVerb struct {
	name, help string
	takes      string // after the name of the collection
	about      string
	flags      func(*flag.FlagSet, *docsCall)
	examples   []string // without "docs" and the name
	run        func(*docsCall, context.Context) error
}

// docsCall is a call of a command.
type docsCall struct {
	*halcyon.CommandEnv
	c    *Collection
	args []string // after the name of the collection
	docsFlags
}

// docsFlags are what the flags of all commands say.
type docsFlags struct {
	json, v2, erase bool
	document        string
}

func flagJSON(help string) func(*flag.FlagSet, *docsCall) {
	return func(s *flag.FlagSet, d *docsCall) { s.BoolVar(&d.json, "json", false, help) }
}

var docsVerbs = []docsVerb{
	{
		name: "list", help: "List the documents of a collection.",
		about: "Prints the name, the bytes and the last write of each document, those that are deleted included, in the order of their names. " +
			"\"waiting\" counts the updates that lack what they build on; a document that is \"not begun\" has nothing but updates that were set aside.",
		flags:    flagJSON("write one JSON object a line: document, written, bytes, deleted, waiting, and unbegun and aside of one that has not begun"),
		examples: []string{"tasks", "tasks --json"},
		run:      (*docsCall).list,
	},
	{
		name: "export", help: "Write documents to standard output.",
		about: "Writes one JSON object a line for each document, {\"document\", \"update\", \"deleted\"}: the update is all of the document, as " +
			"Y.encodeStateAsUpdate gives it, in base64. What others write meanwhile may be in it or not. With --document it writes the bytes of one document.",
		flags: func(s *flag.FlagSet, d *docsCall) {
			s.StringVar(&d.document, "document", "", "write the state of the document with this `name` alone, as Yjs has it")
			s.BoolVar(&d.v2, "v2", false, "with --document: in the format V2")
			s.BoolVar(&d.json, "json", false, "with --document: as a line of JSON, which is how all documents are written")
		},
		examples: []string{"tasks > tasks.ndjson", "tasks --document plan > plan.yjs", "tasks --document plan --v2 > plan.v2"},
		run:      (*docsCall).export,
	},
	{
		name: "import", help: "Merge Yjs state into documents.", takes: "[FILE...]",
		about: "Takes files of lines as export writes them, or standard input. A folder stands for the files in it, each the state of one document: its name " +
			"is the path below the folder without \".yjs\", and what begins with a dot is passed over. States are merged into what is there, with no regard to " +
			"the rules of the collection; to import the same again changes nothing, so after an interruption import it again.\n\n" +
			"What can't be imported is named, with where it is and why, and the rest is imported; the exit status is 1 then.",
		flags: func(s *flag.FlagSet, d *docsCall) {
			s.StringVar(&d.document, "document", "", "take the one file as the state of the document with this `name`, as Yjs has it")
			s.BoolVar(&d.v2, "v2", false, "the states are in the format V2")
			s.BoolVar(&d.json, "json", false, "write one JSON object a line: each document that was not imported, and at last how many were")
		},
		examples: []string{"tasks tasks.ndjson", "tasks notes/    # notes/plan.yjs becomes the document plan", "tasks --document plan plan.yjs", "tasks --json < tasks.ndjson"},
		run:      (*docsCall).importAll,
	},
	{
		name: "delete", help: "Mark documents as deleted, for all clients.", takes: "NAME...",
		about: "Deletes as a client does: the history stays. With --erase nothing of a document stays, and who has it open in a Yjs provider is sent away. " +
			"A name that can't be deleted is told, and the others are; the exit status is 1 then.",
		flags: func(s *flag.FlagSet, d *docsCall) {
			s.BoolVar(&d.erase, "erase", false, "remove all that is stored of them; clients that have not heard of the deletion can bring them back")
			s.BoolVar(&d.json, "json", false, "write one JSON object a line: document, status (deleted, known for one that was before, erased or failed), code, message")
		},
		examples: []string{"tasks plan", "tasks --erase plan 'an old plan'"},
		run:      (*docsCall).remove,
	},
}

// misuse is the error of a command that was called in a wrong way.
type misuse struct{ text string }

func (m misuse) Error() string { return m.text }

// ExitCode tells the command line that the call was wrong, and not that it failed.
func (misuse) ExitCode() int { return 2 }

// explain writes what the command is, what flags it has, and examples.
func (v *docsVerb) explain(w io.Writer, program string) {
	s := flag.NewFlagSet(v.name, flag.ContinueOnError)
	v.flags(s, new(docsCall))
	s.SetOutput(w)
	fmt.Fprintf(w, "%s\n\nCalled as, with flags of the program before the collection:\n\n  %s docs %s [flags] %s\n\nFlags of the command:\n\n", v.about, program, v.name, strings.TrimSpace("COLLECTION "+v.takes))
	s.PrintDefaults()
	fmt.Fprint(w, "\nExamples:\n\n")
	for _, example := range v.examples {
		fmt.Fprintf(w, "  %s docs %s %s\n", program, v.name, example)
	}
	fmt.Fprintln(w, "\nExit status: 0 all went well, 1 something failed, 2 the command was called wrongly.")
}

// call reads the arguments, in which flags may come anywhere before "--", and runs the command.
func (v *docsVerb) call(ctx context.Context, env *halcyon.CommandEnv, collections []*Collection, args []string) error {
	d := &docsCall{CommandEnv: env}
	s := flag.NewFlagSet(v.name, flag.ContinueOnError)
	s.SetOutput(io.Discard)
	v.flags(s, d)
	for rest := args; len(rest) > 0; {
		if err := s.Parse(rest); errors.Is(err, flag.ErrHelp) {
			v.explain(env.Stdout, env.Program)
			return nil
		} else if err != nil {
			return misuse{fmt.Sprintf("docs %s: %v; those of the program, such as --storage.dir and --url, come before the collection; docs %s --help lists all", v.name, err, v.name)}
		}
		n := len(rest) - s.NArg() // that were read
		if ended := n > 0 && rest[n-1] == "--"; ended || s.NArg() == 0 {
			d.args = append(d.args, s.Args()...)
			break
		}
		d.args, rest = append(d.args, s.Arg(0)), s.Args()[1:]
	}
	var names []string
	for _, c := range collections {
		names = append(names, c.Name())
	}
	if len(d.args) == 0 {
		return misuse{fmt.Sprintf("docs %s: name a collection: %s", v.name, strings.Join(names, ", "))}
	}
	i := slices.Index(names, d.args[0])
	if i < 0 {
		return misuse{fmt.Sprintf("docs %s: there is no collection %q, only %s", v.name, d.args[0], strings.Join(names, ", "))}
	}
	d.c, d.args = collections[i], d.args[1:]
	if len(d.args) > 0 && v.takes == "" {
		return misuse{fmt.Sprintf("docs %s: %q is one argument too many", v.name, d.args[0])}
	}
	return v.run(d, ctx)
}

// function calls a function of the collection.
func (d *docsCall) function(ctx context.Context, name string, args, result any) error {
	return d.Call(ctx, d.c.Name()+":"+name, args, result)
}

// print writes a line of JSON.
func (d *docsCall) print(v any) error { return json.NewEncoder(d.Stdout).Encode(v) }

// each calls f for all documents, in the order of their names.
func (d *docsCall) each(ctx context.Context, f func(docsRow) error, page func() error) error {
	args := docsListArgs{}
	for {
		var rows []docsRow
		if err := d.function(ctx, "docsList", args, &rows); err != nil {
			return err
		}
		for _, row := range rows {
			if err := f(row); err != nil {
				return err
			}
			args.After = row.Document
		}
		if len(rows) == 0 {
			return nil
		}
		if err := page(); err != nil {
			return err
		}
	}
}

func (d *docsCall) list(ctx context.Context) error {
	out := tabwriter.NewWriter(d.Stdout, 0, 8, 2, ' ', 0)
	if !d.json {
		fmt.Fprintln(out, "DOCUMENT\tBYTES\tWRITTEN\tSTATE")
	}
	err := d.each(ctx, func(row docsRow) error {
		if d.json {
			return d.print(row)
		}
		state := ""
		if row.Deleted {
			state = "deleted"
		}
		if row.Unbegun {
			state = fmt.Sprintf("not begun, %d set aside", row.Aside)
		}
		if row.Waiting > 0 {
			state = strings.TrimPrefix(fmt.Sprintf("%s, %d waiting", state, row.Waiting), ", ")
		}
		_, err := fmt.Fprintf(out, "%q\t%d\t%s\t%s\n", row.Document, row.Bytes, row.Written.Format("2006-01-02 15:04:05"), state)
		return err
	}, out.Flush)
	return errors.Join(err, out.Flush())
}

// exported is a line of an export: a document.
type exported struct {
	Document string `json:"document"`
	Update   []byte `json:"update"` // the whole document, in V1; base64 in JSON
	Deleted  bool   `json:"deleted,omitzero"`
}

func (d *docsCall) export(ctx context.Context) error {
	if d.document != "" {
		return d.exportOne(ctx)
	}
	if d.v2 {
		return misuse{"docs export: --v2 goes with --document; lines are in V1"}
	}
	shown := newDocsProgress(d.Stderr, "exported")
	err := d.each(ctx, func(row docsRow) error {
		if row.Unbegun {
			return nil // there is no state to write
		}
		e, err := d.load(ctx, row.Document, yjs.V1)
		if told, ok := errors.AsType[*halcyon.Error](err); ok && told.Code == codeNoDocument {
			return nil // it was erased meanwhile
		}
		if err == nil {
			err = d.print(e)
		}
		if err == nil {
			shown.add()
		}
		return err
	}, func() error { return nil })
	if err != nil {
		return fmt.Errorf("the export stopped after %d documents: %w", shown.n, err)
	}
	fmt.Fprintf(d.Stderr, "exported %d documents.\n", shown.n)
	return nil
}

// exportOne writes the state of one document.
func (d *docsCall) exportOne(ctx context.Context) error {
	version := yjs.V1
	if d.v2 {
		version = yjs.V2
	}
	if d.v2 && d.json {
		return misuse{"docs export: --v2 or --json; a line is in V1"}
	}
	e, err := d.load(ctx, d.document, version)
	switch {
	case err != nil:
		return forOperator(err)
	case d.json:
		return d.print(e)
	}
	_, err = d.Stdout.Write(e.Update)
	return err
}

// load returns a document. It is converted here: a document that is as large as it may be in V2 can be larger than an answer in V1.
func (d *docsCall) load(ctx context.Context, document string, version yjs.Version) (exported, error) {
	var got docsLoaded
	if err := d.function(ctx, "docsLoad", docsLoadArgs{document}, &got); err != nil {
		return exported{}, err
	}
	e := exported{document, got.Update, got.Deleted}
	if version == yjs.V2 {
		return e, nil
	}
	var err error
	if e.Update, err = d.c.stored.Convert(got.Update, version); err != nil {
		return exported{}, fmt.Errorf("document %q: %w", document, err)
	}
	return e, nil
}

// forOperator returns what a function meant its caller to read, without what is for clients around it.
func forOperator(err error) error {
	if e, ok := errors.AsType[*halcyon.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

// removed is a line of `docs delete --json`.
type removed struct {
	Document string `json:"document"`
	Status   string `json:"status"` // deleted, known, erased or failed
	Code     string `json:"code,omitzero"`
	Message  string `json:"message,omitzero"`
}

func (d *docsCall) remove(ctx context.Context) error {
	if len(d.args) == 0 {
		return misuse{"docs delete: name the documents"}
	}
	done, failed := "deleted", 0
	if d.erase {
		done = "erased"
	}
	shown := newDocsProgress(d.Stderr, done)
	for _, name := range d.args {
		line := removed{Document: name, Status: done}
		changed, err := true, error(nil)
		if d.erase {
			err = d.function(ctx, "docsErase", docsDeleteArgs{name}, nil)
		} else {
			err = d.function(ctx, "docsDelete", docsDeleteArgs{name}, &changed)
		}
		told, ok := errors.AsType[*halcyon.Error](err)
		switch {
		case ok:
			line.Status, line.Code, line.Message = "failed", told.Code, told.Message
			failed++
			if !d.json {
				fmt.Fprintln(d.Stderr, told.Message)
			}
		case err != nil:
			return fmt.Errorf("document %q: %w; %d were %s before, and are when it is called again", name, err, shown.n, done)
		default:
			if !changed {
				line.Status = "known"
			}
			shown.add()
		}
		if d.json {
			if err := d.print(line); err != nil {
				return err
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d documents were %s, %d were not", shown.n, done, failed)
	}
	fmt.Fprintf(d.Stderr, "%s %d documents.\n", done, shown.n)
	return nil
}

// docsProgress says on standard error, once a second, how many documents there are so far.
type docsProgress struct {
	out  io.Writer
	verb string
	n    int
	now  func() time.Time
	last time.Time
}

func newDocsProgress(out io.Writer, verb string) *docsProgress {
	return &docsProgress{out: out, verb: verb, now: time.Now, last: time.Now()}
}

func (p *docsProgress) add() {
	p.n++
	if now := p.now(); now.Sub(p.last) >= time.Second {
		p.last = now
		fmt.Fprintf(p.out, "%s %d documents\n", p.verb, p.n)
	}
}

// The functions of the commands.

type docsListArgs struct {
	After string `json:"after"`
}

type docsRow struct {
	Document string    `json:"document"`
	Written  time.Time `json:"written"`
	Bytes    int       `json:"bytes"`
	Deleted  bool      `json:"deleted"`
	Waiting  int       `json:"waiting"`          // updates that lack what they build on
	Unbegun  bool      `json:"unbegun,omitzero"` // there is nothing of it but updates that were set aside
	Aside    int       `json:"aside,omitzero"`   // these, whether they wait or can't be read
}

// docsListMax is how many documents a page of a list has at most.
const docsListMax = 1_000

// docsList returns the documents after a name, in the order of their names; none only when there are no more. Those that have not begun are among
// them: what their first writers sent waits, and nothing else tells of it.
func (c *Collection) docsList(tx *halcyon.Tx, args docsListArgs) ([]docsRow, error) {
	infos, err := c.List(tx, args.After, docsListMax)
	if err != nil {
		return nil, err
	}
	rows := []docsRow{}
	after := args.After
	for _, info := range infos {
		if rows, err = c.unbegun(tx, rows, after, info.ID); err != nil || len(rows) >= docsListMax || len(rows) > 0 && tx.HalfSpent() {
			return rows, err
		}
		rows = append(rows, docsRow{Document: info.ID, Written: info.Written, Bytes: info.Bytes, Deleted: info.Deleted, Waiting: info.Aside})
		after = info.ID
	}
	if len(infos) > 0 {
		return rows, nil // there may be more documents, and before them others that have not begun
	}
	return c.unbegun(tx, rows, after, "")
}

// unbegun appends the documents between two names, or after one, of which only updates are stored that were set aside. It looks at one of each
// document that has some, and then behind it.
func (c *Collection) unbegun(tx *halcyon.Tx, rows []docsRow, after, before string) ([]docsRow, error) {
	for len(rows) < docsListMax && (len(rows) == 0 || !tx.HalfSpent()) {
		query := c.asides.By("by_document").Gt(after)
		if before != "" {
			query = query.Lt(before)
		}
		first, ok, err := query.First(tx)
		if err != nil || !ok {
			return rows, err
		}
		after = first.Document
		row := docsRow{Document: first.Document, Unbegun: true}
		for one, err := range c.asides.By("by_document").Eq(first.Document).Each(tx) {
			if err != nil {
				return nil, err
			}
			row.Aside++
			row.Bytes += len(one.Bytes)
			if one.Code == CodeGapped {
				row.Waiting++
			}
			if one.Time.After(row.Written) {
				row.Written = one.Time
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

type docsLoadArgs struct {
	Document string `json:"document"`
}

type docsLoaded struct {
	Update  []byte `json:"update"` // V2
	Deleted bool   `json:"deleted"`
}

func (c *Collection) docsLoad(tx *halcyon.Tx, args docsLoadArgs) (docsLoaded, error) {
	h, err := c.docsHead(tx, args.Document)
	if err != nil {
		return docsLoaded{}, err
	}
	stored, err := c.content(tx, args.Document)
	return docsLoaded{stored.bytes, h.Deleted}, err
}

type docsWriteArgs struct {
	Writes []docsState `json:"writes"`
}

type docsState struct {
	Document string `json:"document"`
	Update   []byte `json:"update"` // V2; may be all of a document
}

type docsWritten struct {
	Status  Status `json:"status"`
	Code    string `json:"code,omitzero"`
	Message string `json:"message,omitzero"`
}

// docsWrite writes updates as the operator's, who is asked for no rule. It ends early when time is short: those that have no result were not looked at.
func (c *Collection) docsWrite(tx *halcyon.Tx, args docsWriteArgs) ([]docsWritten, error) {
	results := []docsWritten{}
	for i, one := range args.Writes {
		if i > 0 && tx.HalfSpent() {
			break
		}
		if f := checkDocument(one.Document); f != nil {
			results = append(results, docsWritten{Refused, f.code, f.message})
			continue
		}
		w := &write{c: c, tx: tx, document: one.Document, whole: true}
		result, err := w.run(one.Update, yjs.V2)
		if err == nil && result.Status == Applied && w.head.Aside > 0 {
			err = c.retryAside(tx, one.Document, operator)
		}
		if err != nil {
			return nil, err
		}
		results = append(results, docsWritten{result.Status, result.Code, result.Message})
	}
	return results, nil
}

type docsDeleteArgs struct {
	Document string `json:"document"`
}

// codeNoDocument is the code of the error about a name under which nothing is stored.
const codeNoDocument = "NoDocument"

func (c *Collection) docsHead(tx *halcyon.Tx, document string) (head, error) {
	h, ok, err := c.find(tx, document)
	if err == nil && !ok {
		err = noDocument(document)
	}
	return h, err
}

func noDocument(document string) error {
	return &halcyon.Error{Code: codeNoDocument, Message: fmt.Sprintf("there is no document %q", document)}
}

// docsDelete marks a document as deleted, and reports whether it was not.
func (c *Collection) docsDelete(tx *halcyon.Tx, args docsDeleteArgs) (bool, error) {
	h, err := c.docsHead(tx, args.Document)
	if err != nil || h.Deleted {
		return false, err
	}
	_, err = c.Edit(tx, args.Document, func(doc *yjs.Doc) error { return doc.Map(rootMeta).Set(metaGone, true) })
	return true, err
}

// docsErase removes a document and sends away who has it open, since what they went on to write would build on what is gone.
func (c *Collection) docsErase(ctx *halcyon.Ctx, args docsDeleteArgs) error {
	if err := ctx.RunMutation(c.Name()+":docsRemove", args, nil); err != nil {
		return err
	}
	if hub := c.rooms.hub.Load(); hub != nil {
		hub.Dismiss(args.Document)
	}
	return nil
}

func (c *Collection) docsRemove(tx *halcyon.Tx, args docsDeleteArgs) error {
	h, begun, err := c.find(tx, args.Document)
	if err != nil {
		return err
	}
	if !begun {
		if _, waits, err := c.asides.By("by_document").Eq(args.Document).First(tx); err != nil {
			return err
		} else if !waits {
			return noDocument(args.Document)
		}
	}
	for row, err := range c.deltas.By("by_document").Eq(args.Document).Each(tx) {
		if err != nil {
			return err
		}
		if err := c.deltas.Delete(tx, row.ID); err != nil {
			return err
		}
	}
	for row, err := range c.asides.By("by_document").Eq(args.Document).Each(tx) {
		if err != nil {
			return err
		}
		if err := c.asides.Delete(tx, row.ID); err != nil {
			return err
		}
	}
	for row, err := range c.presences.By("by_document").Eq(args.Document).Each(tx) {
		if err != nil {
			return err
		}
		if err := c.presences.Delete(tx, row.ID); err != nil {
			return err
		}
	}
	if !begun {
		return nil
	}
	return c.heads.Delete(tx, h.ID)
}
