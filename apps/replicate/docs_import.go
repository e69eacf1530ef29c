package replicate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

const (
	docsBatch      = 100     // documents that one transaction imports
	docsBatchBytes = 1 << 20 // likewise, in V2; a larger one is alone
	// docsStateMax is the largest state that is read, in either format: of a document that is as large as it may be, V1 can be twice as large.
	docsStateMax = 32 << 20
	docsLineMax  = docsStateMax/3*4 + 4<<10
	docsWaits    = 10 // for a server that has too much to do
)

// docsImport is a run of `docs import`.
type docsImport struct {
	*docsCall
	version yjs.Version
	shown   *docsProgress
	batch   []importing // that are not written yet
	size    int         // of them
	counts  map[Status]int
}

// importing is a document on its way.
type importing struct {
	source string // where it is
	docsState
}

// notImported is a line of `docs import --json`.
type notImported struct {
	Source   string `json:"source"`
	Document string `json:"document,omitzero"` // where it can be told
	Status   Status `json:"status"`
	Code     string `json:"code"`
	Message  string `json:"message"`
}

// imported is the last line of `docs import --json`.
type imported struct {
	Collection string `json:"collection"`
	Written    int    `json:"written"`
	Known      int    `json:"known"`   // had all of it
	Waiting    int    `json:"waiting"` // lack what they build on, and are kept until it comes
	Refused    int    `json:"refused"`
	Done       bool   `json:"done"`           // all of the input was read
	Error      string `json:"error,omitzero"` // why not
}

func (d *docsCall) importAll(ctx context.Context) error {
	files := d.args
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, name := range files {
		if name == "-" {
			continue
		}
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return err // before anything was done
		case d.document != "" && info.IsDir():
			return misuse{fmt.Sprintf("docs import: %s is a folder, and --document takes a file", name)}
		}
	}
	if d.document != "" && len(files) > 1 {
		return misuse{"docs import: --document takes one file"}
	}
	im := &docsImport{docsCall: d, version: yjs.V1, shown: newDocsProgress(d.Stderr, "imported"), counts: map[Status]int{}}
	if d.v2 {
		im.version = yjs.V2
	}
	err := im.files(ctx, files)
	if err == nil || ctx.Err() == nil {
		err = errors.Join(err, im.flush(ctx)) // what came before an error is kept
	}
	return im.end(err)
}

// end says what was done, and returns the error of the command.
func (im *docsImport) end(err error) error {
	out := imported{Collection: im.c.Name(), Written: im.counts[Applied], Known: im.counts[Known], Waiting: im.counts[Gapped], Refused: im.counts[Refused], Done: err == nil}
	if err != nil {
		out.Error = err.Error()
	}
	if im.json {
		if err := im.print(out); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(im.Stderr, "%d documents written, %d had all of it, %d lack what they build on, %d refused\n", out.Written, out.Known, out.Waiting, out.Refused)
	}
	switch n := out.Waiting + out.Refused; {
	case err != nil:
		return fmt.Errorf("the import stopped after %d documents, which stay: %w; import the same again to go on, what is there is passed over", im.shown.n, err)
	case n > 0:
		return fmt.Errorf("%d documents or files were not imported", n)
	}
	return nil
}

// files reads all that was named.
func (im *docsImport) files(ctx context.Context, names []string) error {
	for _, name := range names {
		if name == "-" {
			if err := im.read(ctx, "standard input", im.document, im.Stdin); err != nil {
				return err
			}
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		if info.IsDir() {
			err = im.folder(ctx, name)
		} else {
			err = im.file(ctx, name, name, im.document, os.Open)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// folder reads the files below a folder, each the state of a document, in the order of their names. Links out of the folder are not followed.
func (im *docsImport) folder(ctx context.Context, folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	open := func(name string) (*os.File, error) { return root.Open(name) }
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		source := path.Join(folder, name)
		hidden := name != "." && strings.HasPrefix(entry.Name(), ".")
		switch {
		case err != nil:
			return fmt.Errorf("read %s: %w", source, err)
		case entry.IsDir() && hidden:
			return fs.SkipDir
		case entry.IsDir() || hidden:
			return nil
		case !entry.Type().IsRegular():
			return im.fail(source, "", &fault{CodeMalformed, "it is no file"})
		}
		return im.file(ctx, source, name, strings.TrimSuffix(name, ".yjs"), open)
	})
	return errors.Join(err, root.Close())
}

// file reads a file: the state of a document, or lines when none is named.
func (im *docsImport) file(ctx context.Context, source, name, document string, open func(string) (*os.File, error)) (err error) {
	f, err := open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err == nil && document != "" && info.Size() > docsStateMax {
		return im.fail(source, document, tooLarge(info.Size()))
	}
	return im.read(ctx, source, document, f)
}

func tooLarge(bytes int64) *fault {
	return &fault{CodeTooLarge, fmt.Sprintf("it has %d bytes; no document has a state of more than %d", bytes, docsStateMax)}
}

// read reads the state of a document, or lines when none is named.
func (im *docsImport) read(ctx context.Context, source, document string, in io.Reader) error {
	if document == "" {
		return im.lines(ctx, source, in)
	}
	state, err := io.ReadAll(io.LimitReader(in, docsStateMax+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", source, err)
	}
	return im.take(ctx, source, document, state)
}

// lines reads an export.
func (im *docsImport) lines(ctx context.Context, source string, in io.Reader) error {
	lines := bufio.NewReaderSize(in, 64<<10)
	var line []byte
	begun := false
	for n := 1; ; n++ {
		var size int
		var ended, err error
		if line, size, ended = readLine(lines, line[:0]); ended != nil && ended != io.EOF {
			return fmt.Errorf("read %s: %w", source, ended)
		}
		here := fmt.Sprintf("%s:%d", source, n)
		text := bytes.TrimSpace(line)
		switch {
		case len(text) == 0 && size <= docsLineMax:
		case !begun && !bytes.HasPrefix(text, []byte("{")):
			return im.fail(source, "", &fault{CodeMalformed,
				`it is not as docs export writes it: each line is {"document": ..., "update": ...}. For the state of one document use --document, for a folder of them name the folder`})
		case size > docsLineMax:
			err = im.fail(here, nameIn(text), &fault{CodeTooLarge, fmt.Sprintf("the line has %d bytes, at most %d are allowed", size, docsLineMax)})
		default:
			err = im.line(ctx, here, text, ended != nil)
		}
		if begun = begun || len(text) > 0; err != nil || ended != nil {
			return err
		}
	}
}

// line takes a line of an export. last says that no other follows it, nor the end of it.
func (im *docsImport) line(ctx context.Context, source string, text []byte, last bool) error {
	var e struct {
		Document *string `json:"document"`
		Update   *[]byte `json:"update"`
	}
	wrong := &fault{code: CodeMalformed}
	err := json.Unmarshal(text, &e)
	switch {
	case !utf8.Valid(text):
		wrong.message = "the line is not UTF-8"
	case err != nil:
		wrong.message = `the line is not as docs export writes it, {"document": ..., "update": ...}: ` + err.Error()
		if last {
			wrong.message += "; the file ends within it"
		}
	case e.Document == nil:
		wrong.message = "the line has no document"
	case e.Update == nil:
		wrong.message = "the line has no update"
	default:
		return im.take(ctx, source, *e.Document, *e.Update)
	}
	return im.fail(source, nameIn(text), wrong)
}

// readLine appends a line to dst, as much of it as a line may have, and returns how long it is.
func readLine(in *bufio.Reader, dst []byte) (line []byte, size int, err error) {
	for {
		part, err := in.ReadSlice('\n')
		size += len(part)
		if size <= docsLineMax {
			dst = append(dst, part...)
		} else if room := 1<<10 - len(dst); room > 0 {
			dst = append(dst, part[:min(room, len(part))]...)
		} else {
			dst = dst[:1<<10] // enough to say what it was of
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return dst, size, err
		}
	}
}

// nameIn returns the document that a broken line names, or "" when it does not get as far.
func nameIn(line []byte) string {
	tokens := json.NewDecoder(bytes.NewReader(line))
	for _, want := range []json.Token{json.Delim('{'), "document"} {
		if got, err := tokens.Token(); err != nil || got != want {
			return ""
		}
	}
	got, _ := tokens.Token()
	name, _ := got.(string)
	return name
}

// take takes the state of a document. It is written with others.
func (im *docsImport) take(ctx context.Context, source, document string, state []byte) error {
	if f := checkDocument(document); f != nil {
		return im.fail(source, document, f)
	}
	update, f := stateOf(state, im.version)
	if f != nil {
		return im.fail(source, document, f)
	}
	if len(im.batch) > 0 && im.size+len(update) > docsBatchBytes {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	im.batch = append(im.batch, importing{source, docsState{document, update}})
	if im.size += len(update); len(im.batch) < docsBatch {
		return nil
	}
	return im.flush(ctx)
}

// stateOf returns the state of a document in V2, or what is wrong with it.
func stateOf(state []byte, version yjs.Version) ([]byte, *fault) {
	switch n := len(state); {
	case n == 0:
		return nil, &fault{CodeMalformed, "it is empty; the state of a document in which there is nothing has 2 bytes"}
	case n > docsStateMax:
		return nil, tooLarge(int64(n))
	}
	codec := yjs.Codec{Version: version, Limits: yjs.Limits{Structs: DocumentStructsMax, Subdocs: SubdocsMax}}
	update, err := codec.Convert(state, yjs.V2)
	over, ok := errors.AsType[*yjs.LimitError](err)
	switch {
	case err == nil:
		return update, nil
	case ok && over.Limit == "Structs":
		return nil, &fault{CodeTooLarge, fmt.Sprintf("it has %d structs, at most %d are allowed", over.Got, over.Max)}
	}
	f := &fault{CodeMalformed, err.Error()}
	if ok && over.Limit == "Subdocs" {
		f.code = CodeTooLarge
	}
	other, advice := yjs.V2, "; it is in the format V2: use --v2"
	if version == yjs.V2 {
		other, advice = yjs.V1, "; it is in the format V1: leave --v2 out"
	}
	codec.Version = other
	if codec.Validate(state) == nil {
		f.message += advice
	}
	return nil, f
}

// fail counts a document or a file that can't be imported, and names it.
func (im *docsImport) fail(source, document string, f *fault) error {
	return im.tell(importing{source, docsState{Document: document}}, docsWritten{Refused, f.code, f.message})
}

// tell counts what became of a document, and names it if that is no good.
func (im *docsImport) tell(one importing, w docsWritten) error {
	im.counts[w.Status]++
	if w.Status == Applied || w.Status == Known {
		im.shown.add()
		return nil
	}
	if im.json {
		return im.print(notImported{one.source, one.Document, w.Status, w.Code, w.Message})
	}
	where := one.source
	if one.Document != "" {
		where += fmt.Sprintf(": document %q", one.Document)
	}
	fmt.Fprintf(im.Stderr, "%s: %s: %s\n", where, w.Code, w.Message)
	return nil
}

// flush writes the batch, in one transaction where it can. After an error there is no batch.
func (im *docsImport) flush(ctx context.Context) error {
	batch := im.batch
	im.batch, im.size = nil, 0
	for most := docsBatch; len(batch) > 0; {
		n := min(most, len(batch))
		args := docsWriteArgs{}
		for _, one := range batch[:n] {
			args.Writes = append(args.Writes, one.docsState)
		}
		var got []docsWritten
		err := im.write(ctx, args, &got)
		if f := itsOwn(err); f != nil {
			if n > 1 { // one of them is at fault, or they are too many for the time
				most = n / 2
				continue
			}
			got, err = []docsWritten{{Refused, f.code, f.message}}, nil
		}
		if err != nil {
			return fmt.Errorf("%s: document %q and what follows: %w", batch[0].source, batch[0].Document, err)
		}
		if len(got) == 0 || len(got) > n {
			return fmt.Errorf("%d results for %d documents", len(got), n)
		}
		for i, w := range got {
			if err := im.tell(batch[i], w); err != nil {
				return err
			}
		}
		batch = batch[len(got):]
	}
	return nil
}

// write writes some documents, and waits for a server that has too much to do.
func (im *docsImport) write(ctx context.Context, args docsWriteArgs, got *[]docsWritten) error {
	wait := 100 * time.Millisecond
	for try := 1; ; try++ {
		err := im.function(ctx, "docsWrite", args, got)
		if request, ok := errors.AsType[*halcyon.RequestError](err); !ok || request.Code != halcyon.CodeOverloaded || try == docsWaits {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
			wait = min(2*wait, 5*time.Second)
		}
	}
}

// itsOwn returns what is wrong with documents that could not be written, or nil when that may be none of theirs, so that the next ones could not be
// written either.
func itsOwn(err error) *fault {
	failure, ok := errors.AsType[*halcyon.Failure](err)
	if !ok {
		return nil
	}
	if told, ok := errors.AsType[*halcyon.Error](err); ok {
		return &fault{told.Code, told.Message}
	}
	switch failure.Code {
	case halcyon.CodeTimeout, halcyon.CodeLimitExceeded:
		return &fault{string(failure.Code), failure.Message}
	}
	return nil
}
