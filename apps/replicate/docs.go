package replicate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
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
	d := docsCommands(collections)
	m := halcyon.NewModule("docs")
	m.Command("list", "List the documents of a collection: docs list COLLECTION", d.list, halcyon.Served())
	m.Command("export", "Write documents to standard output: docs export [--document NAME [--v2]] COLLECTION", d.export, halcyon.Served())
	m.Command("import", "Merge Yjs state into documents: docs import [--document NAME [--v2]] COLLECTION [FILE]", d.importAll, halcyon.Served())
	m.Command("delete", "Mark documents as deleted, for all clients: docs delete [--erase] COLLECTION NAME...", d.remove, halcyon.Served())
	return m
}

type docsCommands []*Collection

// misuse is the error of a command that was called in a wrong way.
type misuse struct{ text string }

func (m misuse) Error() string { return m.text }

// ExitCode tells the command line that the call was wrong, and not that it failed.
func (misuse) ExitCode() int { return 2 }

// exported is a line of an export: a document.
type exported struct {
	Document string `json:"document"`
	Update   []byte `json:"update"` // the whole document, in V1; base64 in JSON
	Deleted  bool   `json:"deleted,omitzero"`
}

// find reads flags and the name of the collection, which comes first of what follows them.
func (d docsCommands) find(flags *flag.FlagSet, args []string) (c *Collection, rest []string, err error) {
	flags.SetOutput(io.Discard)
	if err := flags.Parse(args); err != nil {
		var usage strings.Builder
		flags.SetOutput(&usage)
		flags.PrintDefaults()
		return nil, nil, misuse{strings.TrimRight(fmt.Sprintf("docs %s: %v\n%s", flags.Name(), err, &usage), "\n")}
	}
	var names []string
	for _, c := range d {
		names = append(names, c.Name())
	}
	if flags.NArg() == 0 {
		return nil, nil, misuse{fmt.Sprintf("docs %s: name a collection: %s", flags.Name(), strings.Join(names, ", "))}
	}
	i := slices.Index(names, flags.Arg(0))
	if i < 0 {
		return nil, nil, misuse{fmt.Sprintf("docs %s: there is no collection %q, only %s", flags.Name(), flags.Arg(0), strings.Join(names, ", "))}
	}
	return d[i], flags.Args()[1:], nil
}

// each calls f for all documents, in the order of their names.
func (c *Collection) each(ctx context.Context, env *halcyon.CommandEnv, f func(docsRow) error) error {
	args := docsListArgs{}
	for {
		var rows []docsRow
		if err := env.Call(ctx, c.Name()+":docsList", args, &rows); err != nil {
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
	}
}

func (d docsCommands) list(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
	flags := flag.NewFlagSet("list", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "write one JSON object a line")
	c, _, err := d.find(flags, args)
	if err != nil {
		return err
	}
	out := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	if !*asJSON {
		fmt.Fprintln(out, "DOCUMENT\tBYTES\tWRITTEN\tSTATE")
	}
	err = c.each(ctx, env, func(row docsRow) error {
		if *asJSON {
			return json.NewEncoder(env.Stdout).Encode(row)
		}
		state := ""
		if row.Deleted {
			state = "deleted"
		}
		if row.Aside > 0 {
			state = strings.TrimPrefix(fmt.Sprintf("%s, %d waiting", state, row.Aside), ", ")
		}
		_, err := fmt.Fprintf(out, "%q\t%d\t%s\t%s\n", row.Document, row.Bytes, row.Written.Format("2006-01-02 15:04:05"), state)
		return err
	})
	return errors.Join(err, out.Flush())
}

func (d docsCommands) export(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
	flags := flag.NewFlagSet("export", flag.ContinueOnError)
	document := flags.String("document", "", "write the state of this document alone, as Yjs has it")
	v2 := flags.Bool("v2", false, "with --document: in the format V2")
	c, _, err := d.find(flags, args)
	if err != nil {
		return err
	}
	load := func(name string) (out exported, err error) {
		err = env.Call(ctx, c.Name()+":docsLoad", docsLoadArgs{name, *v2}, &out)
		return out, forOperator(err)
	}
	if *document != "" {
		e, err := load(*document)
		if err != nil {
			return err
		}
		_, err = env.Stdout.Write(e.Update)
		return err
	}
	if *v2 {
		return misuse{"docs export: --v2 goes with --document; lines are in V1"}
	}
	return c.each(ctx, env, func(row docsRow) error {
		e, err := load(row.Document)
		if err != nil {
			return err
		}
		return json.NewEncoder(env.Stdout).Encode(e)
	})
}

func (d docsCommands) importAll(ctx context.Context, env *halcyon.CommandEnv, args []string) (err error) {
	flags := flag.NewFlagSet("import", flag.ContinueOnError)
	document := flags.String("document", "", "take the whole input as the state of this document, as Yjs has it")
	v2 := flags.Bool("v2", false, "with --document: it is in the format V2")
	c, rest, err := d.find(flags, args)
	if err != nil {
		return err
	}
	in := env.Stdin
	if len(rest) > 0 && rest[0] != "-" {
		f, err := os.Open(rest[0])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		in = f
	}
	counts := map[Status]int{}
	write := func(name string, update []byte) error {
		var got docsWritten
		if err := env.Call(ctx, c.Name()+":docsWrite", docsWriteArgs{name, update, *v2}, &got); err != nil {
			return fmt.Errorf("document %q: %w", name, err)
		}
		if counts[got.Status]++; got.Status == Gapped || got.Status == Refused {
			fmt.Fprintf(env.Stderr, "document %q: %s: %s\n", name, got.Code, got.Message)
		}
		return nil
	}
	if *document != "" {
		state, err := io.ReadAll(io.LimitReader(in, int64(c.options.UpdateBytesMax)+1))
		if err != nil {
			return err
		}
		if err := write(*document, state); err != nil {
			return err
		}
	} else if err := importLines(in, write); err != nil {
		return err
	}
	fmt.Fprintf(env.Stderr, "%d documents written, %d had all of it, %d lack what they build on, %d refused\n",
		counts[Applied], counts[Known], counts[Gapped], counts[Refused])
	if n := counts[Gapped] + counts[Refused]; n > 0 {
		return fmt.Errorf("%d documents were not imported", n)
	}
	return nil
}

// forOperator returns what a function meant its caller to read, without what is for clients around it.
func forOperator(err error) error {
	if e, ok := errors.AsType[*halcyon.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

// importLines reads an export.
func importLines(in io.Reader, write func(document string, update []byte) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 32<<20)
	for n := 1; lines.Scan(); n++ {
		if len(strings.TrimSpace(lines.Text())) == 0 {
			continue
		}
		var e exported
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf(`line %d is not as docs export writes it, {"document": ..., "update": ...}: %w; for the state of one document use --document`, n, err)
		}
		if err := write(e.Document, e.Update); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (d docsCommands) remove(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
	flags := flag.NewFlagSet("delete", flag.ContinueOnError)
	erase := flags.Bool("erase", false, "remove all that is stored of them; clients that have not heard of the deletion can bring them back")
	c, names, err := d.find(flags, args)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return misuse{"docs delete: name the documents"}
	}
	function := c.Name() + ":docsDelete"
	if *erase {
		function = c.Name() + ":docsErase"
	}
	for _, name := range names {
		if err := env.Call(ctx, function, docsDeleteArgs{name}, nil); err != nil {
			return forOperator(err)
		}
	}
	return nil
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
	Aside    int       `json:"waiting"` // updates that lack what they build on
}

func (c *Collection) docsList(tx *halcyon.Tx, args docsListArgs) ([]docsRow, error) {
	infos, err := c.List(tx, args.After, 1_000)
	if err != nil {
		return nil, err
	}
	rows := make([]docsRow, len(infos))
	for i, info := range infos {
		rows[i] = docsRow{info.ID, info.Written, info.Bytes, info.Deleted, info.Aside}
	}
	return rows, nil
}

type docsLoadArgs struct {
	Document string `json:"document"`
	V2       bool   `json:"v2"`
}

func (c *Collection) docsLoad(tx *halcyon.Tx, args docsLoadArgs) (exported, error) {
	h, err := c.docsHead(tx, args.Document)
	if err != nil {
		return exported{}, err
	}
	out := exported{Document: args.Document, Deleted: h.Deleted}
	stored, err := c.content(tx, args.Document)
	if out.Update = stored.bytes; err != nil || args.V2 {
		return out, err
	}
	out.Update, err = c.stored.Convert(out.Update, yjs.V1)
	return out, err
}

type docsWriteArgs struct {
	Document string `json:"document"`
	Update   []byte `json:"update"`
	V2       bool   `json:"v2"`
}

type docsWritten struct {
	Status  Status `json:"status"`
	Code    string `json:"code,omitzero"`
	Message string `json:"message,omitzero"`
}

func (c *Collection) docsWrite(tx *halcyon.Tx, args docsWriteArgs) (docsWritten, error) {
	version := yjs.V1
	if args.V2 {
		version = yjs.V2
	}
	if f := checkDocument(args.Document); f != nil {
		return docsWritten{Refused, f.code, f.message}, nil
	}
	w := &write{c: c, tx: tx, document: args.Document} // the operator is asked for no rule
	result, err := w.run(args.Update, version)
	return docsWritten{result.Status, result.Code, result.Message}, err
}

type docsDeleteArgs struct {
	Document string `json:"document"`
}

func (c *Collection) docsHead(tx *halcyon.Tx, document string) (head, error) {
	h, ok, err := c.find(tx, document)
	if err == nil && !ok {
		err = &halcyon.Error{Code: "NoDocument", Message: fmt.Sprintf("there is no document %q", document)}
	}
	return h, err
}

func (c *Collection) docsDelete(tx *halcyon.Tx, args docsDeleteArgs) error {
	h, err := c.docsHead(tx, args.Document)
	if err != nil || h.Deleted {
		return err
	}
	_, err = c.Edit(tx, args.Document, func(doc *yjs.Doc) error { return doc.Map(rootMeta).Set(metaGone, true) })
	return err
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
	h, err := c.docsHead(tx, args.Document)
	if err != nil {
		return err
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
	return c.heads.Delete(tx, h.ID)
}
