package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/server"
)

// dataVerb is `data`.
type dataVerb struct {
	Tables tablesVerb `cmd:"" help:"List the tables, with documents, bytes and indexes."`
	List   listVerb   `cmd:"" help:"Print documents of a table, by an index."`
	Export exportVerb `cmd:"" help:"Write a table as lines of JSON."`
	Import importVerb `cmd:"" help:"Fill a table with lines of JSON."`
}

// tablesVerb is `data tables`.
type tablesVerb struct {
	targetFlags

	JSON bool `name:"json" help:"Print one JSON object for each table."`
}

// Help is the part of the help page below the flags.
func (tablesVerb) Help() string { return targetHelp }

// Run lists the tables.
func (v *tablesVerb) Run(e *env, app *halcyon.App) error {
	return v.on(e, app, func(t *target) error {
		var tables []server.ListedTable
		if err := t.Get(e.ctx, "tables", nil, &tables); err != nil {
			return err
		}
		if v.JSON {
			out := json.NewEncoder(e.stdout)
			for _, t := range tables {
				if err := out.Encode(t); err != nil {
					return err
				}
			}
			return nil
		}
		out := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(out, "TABLE\tDOCUMENTS\tBYTES\tINDEXES")
		for _, t := range tables {
			var indexes []string
			for _, ix := range t.Indexes {
				indexes = append(indexes, fmt.Sprintf("%s(%s)", ix.Name, strings.Join(ix.Fields, ", ")))
			}
			fmt.Fprintf(out, "%s\t%d\t%d\t%s\n", t.Name, t.Documents, t.Bytes, strings.Join(indexes, " "))
		}
		return out.Flush()
	})
}

// listVerb is `data list`.
type listVerb struct {
	targetFlags

	Table string   `arg:"" complete:"table" help:"MODULE/TABLE, or TABLE alone where one module has it."`
	Index string   `placeholder:"INDEX" help:"The index to go by. (default: by_creation_time)"`
	Eq    []string `sep:"none" placeholder:"JSON" help:"What the index's first fields are equal to, one flag for each field."`
	From  string   `placeholder:"JSON" help:"The least value of the next field."`
	To    string   `placeholder:"JSON" help:"The greatest value of the next field."`
	Desc  bool     `help:"Begin with the last."`
	Limit int      `default:"20" help:"At most so many documents; 0 for all. (default: ${default})"`
}

// Help is the part of the help page below the flags.
func (listVerb) Help() string {
	return `Prints one document a line, as JSON. Values of --eq, --from and --to are JSON, quoted for your shell: --index by_path --eq '"/about"' --from 1700000000000. ` + targetHelp
}

// Run prints documents.
func (v *listVerb) Run(e *env, app *halcyon.App) error {
	query := []value.Field{{Name: "table", Value: value.String(v.Table)}, {Name: "desc", Value: value.Bool(v.Desc)}}
	add := func(name string, v value.Value) { query = append(query, value.Field{Name: name, Value: v}) }
	if v.Index != "" {
		add("index", value.String(v.Index))
	}
	var eq []value.Value
	for _, text := range v.Eq {
		parsed, err := jsonFlag("--eq", text)
		if err != nil {
			return err
		}
		eq = append(eq, parsed)
	}
	if len(eq) > 0 {
		add("eq", value.Array(eq...))
	}
	for flag, text := range map[string]string{"lower": v.From, "upper": v.To} {
		if text == "" {
			continue
		}
		name := "--from"
		if flag == "upper" {
			name = "--to"
		}
		parsed, err := jsonFlag(name, text)
		if err != nil {
			return err
		}
		add(flag, value.Object(value.Field{Name: "value", Value: parsed}, value.Field{Name: "inclusive", Value: value.Bool(true)}))
	}
	if v.Limit < 0 {
		return usageError{fmt.Errorf("--limit %d is negative", v.Limit)}
	}
	return v.on(e, app, func(t *target) error { return v.print(e, t, query) })
}

func jsonFlag(name, text string) (value.Value, error) {
	v, err := value.ParseJSON([]byte(text))
	if err != nil {
		return v, usageError{hinted{fmt.Errorf("read %s: %w", name, err), `a text is quoted twice, for JSON and for the shell: '"text"'`}}
	}
	return v, nil
}

// print asks for pages until there are enough documents.
func (v *listVerb) print(e *env, t *target, query []value.Field) error {
	for left, cursor := v.Limit, ""; ; {
		limit := 1000
		if v.Limit > 0 {
			limit = min(limit, left)
		}
		asked := append(query[:len(query):len(query)],
			value.Field{Name: "limit", Value: value.Float64(float64(limit))}, value.Field{Name: "cursor", Value: value.String(cursor)})
		resp, err := t.Do(e.ctx, http.MethodPost, "documents", nil, bytes.NewReader(value.AppendJSON(nil, value.Object(asked...))))
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		page, err := value.ParseJSON(text)
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		documents := page.Get("documents")
		for i := range documents.Len() {
			if _, err := fmt.Fprintf(e.stdout, "%s\n", value.AppendJSON(nil, documents.Index(i))); err != nil {
				return err
			}
		}
		cursor, _ = page.Get("next").AsString()
		left -= documents.Len()
		if done, _ := page.Get("done").AsBool(); done || v.Limit > 0 && left <= 0 {
			return nil
		}
	}
}

// exportVerb is `data export`.
type exportVerb struct {
	targetFlags

	Table string `arg:"" complete:"table" help:"MODULE/TABLE, or TABLE alone where one module has it."`
	File  string `arg:"" complete:"file" optional:"" help:"The file to make, which must not exist; standard output when left out."`
}

// Help is the part of the help page below the flags.
func (exportVerb) Help() string {
	return `Writes one document a line, as JSON, by creation time. What others write meanwhile may be in it or not; for a copy as of one moment use backup. ` + targetHelp
}

// Run exports.
func (v *exportVerb) Run(e *env, app *halcyon.App) (err error) {
	return v.on(e, app, func(t *target) (err error) {
		var n int64
		write := func(out io.Writer) (err error) {
			n, err = e.copyTable(t, out, url.Values{"table": {v.Table}})
			return err
		}
		if v.File == "" {
			err = write(e.stdout)
		} else {
			err = writeNew(v.File, write)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(e.stderr, "exported %d documents.\n", n)
		return nil
	})
}

// writeNew makes a file that does not exist yet, on the disk when it returns. After an error there is none.
func writeNew(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return hinted{err, "name a file that does not exist"}
	}
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// copyTable writes the documents of a table, one a line, and returns how many there are.
func (e *env) copyTable(t *target, out io.Writer, query url.Values) (int64, error) {
	resp, err := t.Do(e.ctx, http.MethodGet, "export", query, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	shown := e.progress("exported")
	if _, err := io.Copy(out, countLines{resp.Body, shown}); err != nil {
		return 0, fmt.Errorf("export %s: it was cut short: %w", query.Get("table"), err)
	}
	n, err := strconv.ParseInt(resp.Trailer.Get(server.ExportedTrailer), 10, 64)
	if err != nil || n != shown.n {
		return 0, fmt.Errorf("export %s: it was cut short after %d documents", query.Get("table"), shown.n)
	}
	return n, nil
}

// progress says on standard error, once a second, how many documents there are so far.
func (e *env) progress(verb string) *progress { return &progress{e: e, verb: verb, last: time.Now()} }

type progress struct {
	e    *env
	verb string
	n    int64
	last time.Time
}

func (p *progress) add(n int64) {
	p.n += n
	if time.Since(p.last) >= time.Second {
		p.last = time.Now()
		fmt.Fprintf(p.e.stderr, "%s %d documents\n", p.verb, p.n)
	}
}

// countLines counts the lines that are read.
type countLines struct {
	r io.Reader
	p *progress
}

func (c countLines) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.p.add(int64(bytes.Count(b[:n], []byte{'\n'})))
	return n, err
}

// importVerb is `data import`.
type importVerb struct {
	targetFlags

	Table   string `arg:"" complete:"table" help:"MODULE/TABLE, or TABLE alone where one module has it."`
	File    string `arg:"" complete:"file" help:"Lines of JSON, as export writes them; - for standard input."`
	Append  bool   `xor:"mode" help:"Keep the documents that are there, and pass over what is there already."`
	Replace bool   `xor:"mode" help:"Remove the documents that are there first."`
	DryRun  bool   `xor:"mode" name:"dry-run" help:"Check each line, and change nothing."`
	NewIDs  bool   `name:"new-ids" help:"Give new ids and creation times in place of those in the file."`
	JSON    bool   `name:"json" help:"Print what was done as one JSON object."`
}

// Help is the part of the help page below the flags.
func (importVerb) Help() string {
	return `The table must be empty, unless --append or --replace is given, and every document must fit the program's schema. Into an empty table all documents come at once, or none. With --append they come in batches: after a mistake or an interruption, import the same file again, and what is there is passed over. With --replace the whole file is checked before the first document is removed; standard input can't be, so there the old documents are gone when the new ones cannot be read. ` + targetHelp
}

// mode is what becomes of the documents that are there.
func (v *importVerb) mode() halcyon.ImportMode {
	switch {
	case v.Append:
		return halcyon.ImportAppend
	case v.Replace:
		return halcyon.ImportReplace
	case v.DryRun:
		return halcyon.ImportCheck
	}
	return halcyon.ImportEmpty
}

// Run imports.
func (v *importVerb) Run(e *env, app *halcyon.App) (err error) {
	in := e.stdin
	var file *os.File
	if v.File != "-" {
		if file, err = os.Open(v.File); err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	return v.on(e, app, func(t *target) error {
		if v.Replace && file != nil {
			if _, err := v.send(e, t, in, halcyon.ImportCheck); err != nil {
				return err
			}
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				return hinted{fmt.Errorf("read it again, after it was checked: %w", err), "give a file, or - for standard input"}
			}
		}
		out, err := v.send(e, t, in, v.mode())
		if v.JSON && out.Table != "" {
			if err := json.NewEncoder(e.stdout).Encode(out); err != nil {
				return err
			}
		}
		if err != nil {
			if v.Append && out.Inserted > 0 {
				fmt.Fprintf(e.stderr, "imported %d documents before this:\n", out.Inserted)
			}
			return err
		}
		if v.DryRun {
			fmt.Fprintf(e.stderr, "%s: %d documents can be imported; nothing was changed.\n", out.Table, out.Taken)
			return nil
		}
		fmt.Fprintf(e.stderr, "%s: imported %d documents", out.Table, out.Inserted)
		if out.Known > 0 {
			fmt.Fprintf(e.stderr, ", %d were there", out.Known)
		}
		if out.Removed > 0 {
			fmt.Fprintf(e.stderr, ", %d were removed", out.Removed)
		}
		fmt.Fprintln(e.stderr, ".")
		return nil
	})
}

// send sends the documents.
func (v *importVerb) send(e *env, t *target, in io.Reader, mode halcyon.ImportMode) (out server.ImportedDocuments, err error) {
	query := url.Values{"table": {v.Table}, "mode": {string(mode)}, "newIds": {strconv.FormatBool(v.NewIDs)}}
	// Not the file itself, which the transport would close.
	err = t.Told(e.ctx, "import", query, io.MultiReader(in), func(line json.RawMessage) {
		var im server.ImportedDocuments
		if json.Unmarshal(line, &im) != nil {
			return
		}
		if mode == halcyon.ImportCheck {
			fmt.Fprintf(e.stderr, "checked %d documents\n", im.Taken)
		} else {
			fmt.Fprintf(e.stderr, "read %d documents, removed %d\n", im.Taken, im.Removed)
		}
	}, &out)
	return out, err
}
