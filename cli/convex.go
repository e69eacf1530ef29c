package cli

import (
	"archive/zip"
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/server"
)

// convexVerb is `convex`.
type convexVerb struct {
	Import convexImportVerb `cmd:"" help:"Fill a module's tables with the export of a Convex project."`
	Export convexExportVerb `cmd:"" help:"Write a module's tables as a Convex project imports them."`
}

// The layout of an export, as https://docs.convex.dev/database/import-export describes it: a folder for each table with its documents as
// lines of clean JSON, and the numbers of the tables, which ids have, in a folder of their own.
const (
	convexDocuments  = "documents.jsonl"
	convexTables     = "_tables"
	convexStorage    = "_storage"
	convexComponents = "_components"
)

// convexTable is a line of _tables/documents.jsonl.
type convexTable struct {
	Name string `json:"name"`
	ID   uint32 `json:"id"`
}

// convexImportVerb is `convex import`.
type convexImportVerb struct {
	targetFlags

	File      string   `arg:"" complete:"file" help:"The zip that npx convex export has made."`
	Module    string   `placeholder:"MODULE" help:"The module whose tables are filled. It may be left out when each of the tables is in one module only."`
	Component string   `placeholder:"NAME" help:"Take the tables of this component of the project, in place of its own."`
	Skip      []string `placeholder:"TABLE" help:"Leave this table out."`
	Append    bool     `xor:"mode" help:"Keep the documents that are there, and pass over what is there already."`
	Replace   bool     `xor:"mode" help:"Remove the documents that are there first."`
	DryRun    bool     `xor:"mode" name:"dry-run" help:"Check every document, and change nothing."`
}

// Help is the part of the help page below the flags.
func (convexImportVerb) Help() string {
	return `Reads the zip of "npx convex export". Documents keep their ids and creation times, so references between them hold; only the part of an id that says which table it is of is changed to this program's. Every document of every table is checked against the program's schema before the first is written. Then table after table is filled, each at once: after a mistake or an interruption the same command goes on, and passes over the tables that it has filled. Files of the project's storage are not taken. ` + targetHelp
}

func (v *convexImportVerb) mode() halcyon.ImportMode {
	return (&importVerb{Append: v.Append, Replace: v.Replace, DryRun: v.DryRun}).mode()
}

// Run imports.
func (v *convexImportVerb) Run(e *env, app *halcyon.App) error {
	archive, err := zip.OpenReader(v.File)
	if err != nil {
		return hinted{fmt.Errorf("open %s: %w", v.File, err), "give the zip that `npx convex export --path` has made"}
	}
	defer archive.Close()
	x, err := readConvexExport(&archive.Reader, v.Component)
	if err != nil {
		return fmt.Errorf("read %s: %w", v.File, err)
	}
	for _, name := range v.Skip {
		if x.tables[name] == nil {
			return usageError{fmt.Errorf("--skip %s: %s has no such table", name, v.File)}
		}
		delete(x.tables, name)
	}
	for what, n := range x.others {
		fmt.Fprintf(e.stderr, "%s: %d files are left out.\n", what, n)
	}
	return v.on(e, app, func(t *target) error { return v.fill(e, t, x) })
}

// fill checks all tables, and then fills them.
func (v *convexImportVerb) fill(e *env, t *target, x *convexExport) error {
	tables, err := v.known(e, t, x)
	if err != nil {
		return err
	}
	numbers, err := json.Marshal(x.numbers)
	if err != nil {
		return err
	}
	send := func(table convexTarget, mode halcyon.ImportMode) (server.ImportedDocuments, error) {
		query := url.Values{"table": {table.name}, "mode": {string(mode)}, "convexTables": {string(numbers)}}
		out, err := sendConvexTable(e, t, table.from, query, mode)
		if err != nil {
			err = fmt.Errorf("table %s: %w", table.name, err)
		}
		return out, err
	}
	var left []convexTarget
	for _, table := range tables {
		checked, err := send(table, halcyon.ImportCheck)
		if err != nil {
			return err
		}
		if v.mode() != halcyon.ImportEmpty || table.documents == 0 {
			left = append(left, table)
			continue
		}
		if checked.Known != checked.Taken || checked.Known != table.documents {
			return hinted{
				fmt.Errorf("table %s has %d documents, and %d of the %d of the export are among them", table.name, table.documents, checked.Known, checked.Taken),
				fmt.Sprintf("use --append to keep what is there, --replace to remove it, or --skip %s to leave the table as it is", table.own),
			}
		}
		fmt.Fprintf(e.stderr, "%s: all is there already.\n", checked.Table)
	}
	if v.DryRun {
		return nil
	}
	for i, table := range left {
		if _, err := send(table, v.mode()); err != nil {
			return hinted{err, fmt.Sprintf("%d of %d tables were filled before this one; when the cause is mended, give the same command again", len(tables)-len(left)+i, len(tables))}
		}
	}
	return nil
}

// convexTarget is a table to fill.
type convexTarget struct {
	own, name string // in the export, and in this program
	documents int64  // that it has
	from      *zip.File
}

// table is the name of a table in this program.
func (v *convexImportVerb) table(name string) string {
	if v.Module != "" {
		return v.Module + "/" + name
	}
	return name
}

// known returns the tables to fill, and refuses an export with others. Those that have documents come first, since they may be refused.
func (v *convexImportVerb) known(e *env, t *target, x *convexExport) (found []convexTarget, err error) {
	var tables []server.ListedTable
	if err := t.Get(e.ctx, "tables", nil, &tables); err != nil {
		return nil, err
	}
	documents := map[string]int64{}
	for _, t := range tables {
		documents[t.Name] = t.Documents
		_, own, _ := strings.Cut(t.Name, "/")
		documents[own] = t.Documents
	}
	var unknown []string
	for name, from := range x.tables {
		n, ok := documents[v.table(name)]
		if !ok {
			unknown = append(unknown, name)
		}
		found = append(found, convexTarget{name, v.table(name), n, from})
	}
	slices.SortFunc(found, func(a, b convexTarget) int {
		if (a.documents == 0) != (b.documents == 0) {
			return cmp.Compare(b.documents, a.documents)
		}
		return strings.Compare(a.own, b.own)
	})
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, hinted{
			fmt.Errorf("the program has no table for these of the export: %s", strings.Join(unknown, ", ")),
			fmt.Sprintf("`%s data tables` lists those it has; name their --module, or leave one out with --skip %s", e.program, unknown[0]),
		}
	}
	if len(found) == 0 {
		return nil, errors.New("the export has no tables")
	}
	return found, nil
}

// sendConvexTable sends the documents of one table.
func sendConvexTable(e *env, t *target, f *zip.File, query url.Values, mode halcyon.ImportMode) (out server.ImportedDocuments, err error) {
	in, err := f.Open()
	if err != nil {
		return out, err
	}
	defer in.Close()
	verb := "imported"
	if mode == halcyon.ImportCheck {
		verb = "checked"
	}
	err = t.Told(e.ctx, "import", query, io.MultiReader(in), func(line json.RawMessage) {
		var im server.ImportedDocuments
		if json.Unmarshal(line, &im) == nil {
			fmt.Fprintf(e.stderr, "%s: %s %d documents so far\n", im.Table, verb, im.Taken)
		}
	}, &out)
	if err != nil {
		return out, err
	}
	fmt.Fprintf(e.stderr, "%s: %s %d documents", out.Table, verb, out.Taken)
	if out.Known > 0 {
		fmt.Fprintf(e.stderr, ", of which %d were there", out.Known)
	}
	if out.Removed > 0 {
		fmt.Fprintf(e.stderr, "; %d were removed", out.Removed)
	}
	fmt.Fprintln(e.stderr, ".")
	return out, nil
}

// convexExport is what a zip has.
type convexExport struct {
	tables  map[string]*zip.File // the documents of each table
	numbers halcyon.ConvexTables
	others  map[string]int // files of what is not taken, by what it is
}

// readConvexExport finds the tables of a project, or of one of its components.
func readConvexExport(archive *zip.Reader, component string) (*convexExport, error) {
	x := &convexExport{tables: map[string]*zip.File{}, numbers: halcyon.ConvexTables{}, others: map[string]int{}}
	root := ""
	if component != "" {
		root = path.Join(convexComponents, component) + "/"
	}
	var numbers *zip.File
	inside := 0
	for _, f := range archive.File {
		name, within := strings.CutPrefix(f.Name, root)
		if within {
			inside++
		}
		table, file, _ := strings.Cut(name, "/")
		switch {
		case !within || strings.HasSuffix(f.Name, "/") || table == "":
		case table == convexStorage:
			x.others["files of the storage"]++
		case table == convexComponents:
			x.others["tables of components, which --component takes"]++
		case file != convexDocuments:
		case table == convexTables:
			numbers = f
		case !strings.HasPrefix(table, "_"):
			x.tables[table] = f
		}
	}
	if component != "" && inside == 0 {
		return nil, fmt.Errorf("it has no component %q", component)
	}
	if numbers != nil {
		if err := eachLine(numbers, func(line []byte) (bool, error) {
			var t convexTable
			if err := json.Unmarshal(line, &t); err != nil {
				return false, err
			}
			if t.Name == "" || t.ID == 0 {
				return false, errors.New("a table has a name and an id, which is its number")
			}
			x.numbers[t.ID] = t.Name
			return true, nil
		}); err != nil {
			return nil, fmt.Errorf("%s: %w", numbers.Name, err)
		}
	}
	// A zip that was made by hand has the numbers in its ids alone.
	for name, f := range x.tables {
		if err := eachLine(f, func(line []byte) (bool, error) {
			var d struct {
				ID string `json:"_id"`
			}
			if err := json.Unmarshal(line, &d); err != nil {
				return false, err
			}
			if id, err := value.ParseID(d.ID); err == nil {
				x.numbers[id.Table] = name
			}
			return false, nil
		}); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return x, nil
}

// convexLineBytesMax is the size of the longest line that is read here: a document has at most 1 MiB, and JSON makes it longer.
const convexLineBytesMax = 16 << 20

// eachLine calls take for each line that is not empty, until it returns false.
func eachLine(f *zip.File, take func(line []byte) (bool, error)) error {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, convexLineBytesMax)
	for n := 1; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if more, err := take(lines.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		} else if !more {
			return nil
		}
	}
	return lines.Err()
}

// convexExportVerb is `convex export`.
type convexExportVerb struct {
	targetFlags

	File   string `arg:"" complete:"file" help:"The zip to make, which must not exist."`
	Module string `required:"" placeholder:"MODULE" help:"The module whose tables are written."`
}

// Help is the part of the help page below the flags.
func (convexExportVerb) Help() string {
	return `Writes a zip for "npx convex import": a folder for each table, with its documents as lines of JSON. Ids and creation times stay. An int64 becomes a text of digits and bytes become a text of base64, as in Convex's own exports; convex import of this program makes of them what they were. What others write meanwhile may be in it or not. ` + targetHelp
}

// Run exports.
func (v *convexExportVerb) Run(e *env, app *halcyon.App) error {
	return v.on(e, app, func(t *target) error {
		var all []server.ListedTable
		if err := t.Get(e.ctx, "tables", nil, &all); err != nil {
			return err
		}
		var tables []convexTable
		for _, t := range all {
			if module, own, _ := strings.Cut(t.Name, "/"); module == v.Module {
				tables = append(tables, convexTable{own, t.Number})
			}
		}
		if len(tables) == 0 {
			return usageError{hinted{fmt.Errorf("there is no module %q with tables", v.Module), fmt.Sprintf("`%s data tables` lists MODULE/TABLE", e.program)}}
		}
		return writeNew(v.File, func(f io.Writer) error { return v.write(e, t, f, tables) })
	})
}

// write writes the zip.
func (v *convexExportVerb) write(e *env, t *target, f io.Writer, tables []convexTable) error {
	archive := zip.NewWriter(f)
	out, err := archive.Create(convexTables + "/" + convexDocuments)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := json.NewEncoder(out).Encode(table); err != nil {
			return err
		}
	}
	for _, table := range tables {
		out, err := archive.Create(table.Name + "/" + convexDocuments)
		if err != nil {
			return err
		}
		name := v.Module + "/" + table.Name
		n, err := e.copyTable(t, out, url.Values{"table": {name}, "format": {"convex"}})
		if err != nil {
			return err
		}
		fmt.Fprintf(e.stderr, "%s: exported %d documents.\n", name, n)
	}
	return archive.Close()
}
