package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// OperatorPrefix is where the operator's API is on a server, for requests with an admin key.
const OperatorPrefix = "/api/admin/"

// Operator returns the API of whoever runs the program, without any check of who asks: give it to those only who may do everything, as
// through a socket in the folder of the data. A Server has it below OperatorPrefix and asks for an admin key there. docs/ops/operator-api.md
// describes its requests. Where a Server serves the app, its own Operator knows more.
func Operator(app *halcyon.App) http.Handler { return operator{app: app}.handler() }

// Operator is the API of the function of that name, which also tells what the server noticed.
func (s *Server) Operator() http.Handler {
	m, ok := s.app.(mounted)
	if !ok {
		return http.HandlerFunc(s.serveNothing)
	}
	return operator{app: m.App, brokenRules: s.BrokenRules}.handler()
}

func (o operator) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+OperatorPrefix+"call", o.call)
	mux.HandleFunc("GET "+OperatorPrefix+"tables", o.tables)
	mux.HandleFunc("POST "+OperatorPrefix+"documents", o.documents)
	mux.HandleFunc("GET "+OperatorPrefix+"export", o.export)
	mux.HandleFunc("POST "+OperatorPrefix+"import", o.importDocuments)
	mux.HandleFunc("POST "+OperatorPrefix+"backup", o.backup)
	mux.HandleFunc("POST "+OperatorPrefix+"verify", o.verify)
	mux.HandleFunc("GET "+OperatorPrefix+"keys", o.keys)
	mux.HandleFunc("POST "+OperatorPrefix+"keys", o.createKey)
	mux.HandleFunc("DELETE "+OperatorPrefix+"keys", o.revokeKey)
	mux.HandleFunc("GET "+OperatorPrefix+"insights", o.insights)
	mux.HandleFunc("GET "+OperatorPrefix+"logs", o.logs)
	mux.HandleFunc(OperatorPrefix, func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "NotFound", "The operator's API has nothing here.")
	})
	return mux
}

// serveOperator is Operator for requests with an admin key.
func (s *Server) serveOperator(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.AdminKey(r); err != nil {
			refused := s.refusal(err)
			writeError(w, refused.Status, string(refused.Code), refused.Message)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// operator answers the requests of an operator.
type operator struct {
	app         *halcyon.App
	brokenRules func() int64 // nil where no server is
}

// operatorRequestMax is the size of the largest body that is read as a whole, and of a line of an import.
const operatorRequestMax = 17 << 20

// read parses the body, one JSON object.
func (operator) read(w http.ResponseWriter, r *http.Request) (value.Value, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, operatorRequestMax))
	if err == nil {
		var v value.Value
		if v, err = value.ParseJSON(body); err == nil && v.Kind() == value.KindObject {
			return v, true
		}
	}
	if err == nil {
		err = errors.New("it is not an object")
	}
	writeError(w, http.StatusBadRequest, "BadJsonBody", "The body cannot be read: "+err.Error())
	return value.Value{}, false
}

// refuse tells an error, by what it is.
func (operator) refuse(w http.ResponseWriter, err error) {
	status, code := operatorCode(err)
	writeError(w, status, code, err.Error())
}

func operatorCode(err error) (status int, code string) {
	var bad *halcyon.ImportError
	var syntax *lineError
	var schemaRange *engine.RangeError
	switch {
	case errors.Is(err, halcyon.ErrUnknownTable):
		return http.StatusNotFound, "NoTable"
	case errors.Is(err, halcyon.ErrUnknownIndex):
		return http.StatusNotFound, "NoIndex"
	case errors.Is(err, halcyon.ErrNoAdminKey):
		return http.StatusNotFound, "NoAdminKey"
	case errors.Is(err, halcyon.ErrAdminKeyExists):
		return http.StatusConflict, "AdminKeyExists"
	case errors.Is(err, engine.ErrTableNotEmpty):
		return http.StatusConflict, "TableNotEmpty"
	case errors.Is(err, engine.ErrExists):
		return http.StatusConflict, "Exists"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return http.StatusForbidden, "NotPermitted"
	case errors.As(err, &bad), errors.As(err, &syntax):
		return http.StatusUnprocessableEntity, "BadDocument"
	case errors.As(err, &schemaRange), errors.Is(err, engine.ErrInvalidCursor):
		return http.StatusBadRequest, "BadRange"
	case errors.Is(err, engine.ErrCorrupt):
		return http.StatusInternalServerError, "Corrupt"
	case errors.Is(err, engine.ErrDiskFull):
		return http.StatusInsufficientStorage, "DiskFull"
	}
	return http.StatusInternalServerError, "Failed"
}

// call runs a function of any kind, also an internal one.
func (o operator) call(w http.ResponseWriter, r *http.Request) {
	req, ok := o.read(w, r)
	if !ok {
		return
	}
	path, _ := req.Get("path").AsString()
	out, err := o.app.Call(r.Context(), halcyon.Request{Path: path, Args: req.Get("args"), Admin: true})
	if err != nil {
		var refused *halcyon.RequestError
		if errors.As(err, &refused) {
			writeError(w, refused.Status, string(refused.Code), err.Error())
			return
		}
		o.refuse(w, err)
		return
	}
	text := protocol.AppendHTTPSuccess(nil, value.AppendJSON(nil, out.Value), out.Logs)
	if f := out.Failure; f != nil {
		var data []byte
		if !f.Data.IsUndefined() {
			data = value.AppendJSON(nil, f.Data)
		}
		text = protocol.AppendHTTPFailure(nil, f.Message, data, out.Logs)
		w.Header().Set("X-Halcyon-Code", string(f.Code))
	}
	writeJSON(w, http.StatusOK, text)
}

// tables lists the tables.
func (o operator) tables(w http.ResponseWriter, r *http.Request) {
	tables, err := o.app.StoredTables(r.Context())
	if err != nil {
		o.refuse(w, err)
		return
	}
	out := []ListedTable{}
	for _, t := range tables {
		lt := ListedTable{Name: t.Name, Number: t.Number, Documents: t.Documents, Bytes: t.Bytes, Indexes: []ListedIndex{}, Aggregates: t.Aggregates}
		for _, ix := range t.Indexes {
			lt.Indexes = append(lt.Indexes, ListedIndex(ix))
		}
		out = append(out, lt)
	}
	o.write(w, out)
}

// ListedTable is a table as the operator's API lists it.
type ListedTable struct {
	Name       string        `json:"name"`
	Number     uint32        `json:"number"` // in the ids of its documents
	Documents  int64         `json:"documents"`
	Bytes      uint64        `json:"bytes"`
	Indexes    []ListedIndex `json:"indexes"`
	Aggregates []string      `json:"aggregates,omitempty"`
}

// ListedIndex is an index of a ListedTable.
type ListedIndex struct {
	Name   string   `json:"name"`
	Fields []string `json:"fields"`
	Unique bool     `json:"unique,omitempty"`
}

func (operator) write(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "Failed", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, append(text, '\n'))
}

// documentsMax is how many documents one request may ask for.
const documentsMax = 8_192

// documents reads a part of a table: {table, index, eq, lower, upper, desc, cursor, limit}.
func (o operator) documents(w http.ResponseWriter, r *http.Request) {
	req, ok := o.read(w, r)
	if !ok {
		return
	}
	q := halcyon.StoredQuery{Limit: 100}
	q.Table, _ = req.Get("table").AsString()
	q.Index, _ = req.Get("index").AsString()
	q.Cursor, _ = req.Get("cursor").AsString()
	q.Desc, _ = req.Get("desc").AsBool()
	if limit, given := req.Get("limit").AsFloat64(); given {
		if !(limit >= 1 && limit <= documentsMax) {
			writeError(w, http.StatusBadRequest, "BadLimit", fmt.Sprintf("The limit is a number from 1 to %d.", documentsMax))
			return
		}
		q.Limit = int(limit)
	}
	for i := range req.Get("eq").Len() {
		q.Range.Eq = append(q.Range.Eq, req.Get("eq").Index(i))
	}
	q.Range.Lower, q.Range.Upper = bound(req.Get("lower")), bound(req.Get("upper"))
	page, err := o.app.StoredDocuments(r.Context(), q)
	if err != nil {
		o.refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, value.AppendJSON(nil, value.Object(
		value.Field{Name: "documents", Value: value.Array(page.Documents...)},
		value.Field{Name: "next", Value: value.String(page.Next)},
		value.Field{Name: "done", Value: value.Bool(page.Done)},
	)))
}

// bound reads {value, inclusive}.
func bound(v value.Value) *engine.Bound {
	if v.Kind() != value.KindObject {
		return nil
	}
	inclusive, _ := v.Get("inclusive").AsBool()
	return &engine.Bound{Value: v.Get("value"), Inclusive: inclusive}
}

// ExportedTrailer is the trailer of an export: the number of documents in it. An export without it was cut short.
const ExportedTrailer = "X-Halcyon-Documents"

// export writes a table as lines of JSON, by creation time: of encoded JSON, or with format=convex of clean JSON as Convex's exports have it.
func (o operator) export(w http.ResponseWriter, r *http.Request) {
	q := halcyon.StoredQuery{Table: r.URL.Query().Get("table"), Limit: documentsMax}
	appendValue := value.AppendJSON
	if r.URL.Query().Get("format") == "convex" {
		appendValue = value.AppendCleanJSON
	}
	var line []byte
	written := 0
	for first := true; ; first = false {
		page, err := o.app.StoredDocuments(r.Context(), q)
		if err != nil && first {
			o.refuse(w, err)
			return
		}
		if first {
			w.Header().Set("Trailer", ExportedTrailer)
			w.Header().Set("Content-Type", "application/jsonl")
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the reader misses the trailer
		}
		for _, d := range page.Documents {
			line = append(appendValue(line[:0], d), '\n')
			if _, err := w.Write(line); err != nil {
				return // the reader is gone
			}
			written++
		}
		if page.Done {
			break
		}
		q.Cursor = page.Next
	}
	w.Header().Set(ExportedTrailer, strconv.Itoa(written))
}

// importDocuments fills a table with the lines of the body.
func (o operator) importDocuments(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var convex halcyon.ConvexTables
	if text := q.Get("convexTables"); text != "" {
		if err := json.Unmarshal([]byte(text), &convex); err != nil {
			writeError(w, http.StatusBadRequest, "BadTables", "convexTables is a JSON object with the names of tables by their numbers.")
			return
		}
	}
	t := newTeller(w)
	done, err := o.app.Import(r.Context(), q.Get("table"), jsonLines(r.Body), halcyon.ImportOptions{
		Mode: halcyon.ImportMode(q.Get("mode")), NewIDs: q.Get("newIds") == "true", Convex: convex,
		Progress: func(im halcyon.Imported) { t.progress(importedOf(im)) },
	})
	t.end(importedOf(done), err)
	if err != nil {
		// What the client still sends is read until it has read the answer and hangs up: to close before that would break its connection, and
		// it would not learn why.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(hangUpTimeMax))
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// hangUpTimeMax is how long a client may go on to send what was refused.
const hangUpTimeMax = 10 * time.Second

// ImportedDocuments is what an import has done, see halcyon.Imported.
type ImportedDocuments struct {
	Table    string `json:"table"`
	Taken    int64  `json:"taken"`
	Inserted int64  `json:"inserted"`
	Known    int64  `json:"known"`
	Removed  int64  `json:"removed"`
}

func importedOf(im halcyon.Imported) ImportedDocuments { return ImportedDocuments(im) }

// lineError is a line of an import that is no JSON.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// jsonLines reads one value a line; empty lines are passed over.
func jsonLines(r io.Reader) iter.Seq2[value.Value, error] {
	return func(yield func(value.Value, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 64<<10), operatorRequestMax)
		n := 0
		for lines.Scan() {
			n++
			if len(lines.Bytes()) == 0 {
				continue
			}
			v, err := value.ParseJSON(append([]byte(nil), lines.Bytes()...))
			if err != nil {
				yield(value.Value{}, &lineError{n, err})
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(value.Value{}, &lineError{n + 1, err})
		}
	}
}

// backup makes a copy in a folder of the server's machine.
func (o operator) backup(w http.ResponseWriter, r *http.Request) {
	req, ok := o.read(w, r)
	if !ok {
		return
	}
	dir, _ := req.Get("dir").AsString()
	if dir == "" {
		writeError(w, http.StatusBadRequest, "BadDir", "Name the folder to make.")
		return
	}
	made, err := o.app.Backup(r.Context(), dir)
	if err != nil {
		o.refuse(w, err)
		return
	}
	o.write(w, BackupMade{At: uint64(made.At), Files: made.Files, Bytes: made.Bytes})
}

// BackupMade is a backup that was made.
type BackupMade struct {
	At    uint64 `json:"at"` // microseconds since 1970: what was committed until then is in it
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"`
}

// verify reads everything.
func (o operator) verify(w http.ResponseWriter, r *http.Request) {
	t := newTeller(w)
	report, err := o.app.Verify(r.Context(), func(r engine.Report) { t.progress(verifiedOf(r)) })
	t.end(verifiedOf(report), err)
}

// Verified is the report of a verification, see engine.Report.
type Verified struct {
	OK          bool            `json:"ok"`
	At          uint64          `json:"at"` // microseconds since 1970
	Documents   int64           `json:"documents"`
	Entries     int64           `json:"entries"`
	Records     int64           `json:"records"`
	FaultsTotal int64           `json:"faultsTotal"`
	Faults      []VerifiedFault `json:"faults"`
}

// VerifiedFault is one thing that is wrong.
type VerifiedFault struct {
	Table string `json:"table,omitempty"`
	Part  string `json:"part,omitempty"`
	ID    string `json:"id,omitempty"`
	What  string `json:"what"`
}

func verifiedOf(r engine.Report) Verified {
	out := Verified{
		OK: r.OK(), At: uint64(r.At), Documents: r.Documents, Entries: r.Entries, Records: r.Records,
		FaultsTotal: r.FaultsTotal, Faults: []VerifiedFault{},
	}
	for _, f := range r.Faults {
		out.Faults = append(out.Faults, VerifiedFault{f.Table, f.Part, f.ID, f.What})
	}
	return out
}

// ListedKey is an admin key as the operator's API lists it.
type ListedKey struct {
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"lastUsed,omitzero"`
}

func (o operator) keys(w http.ResponseWriter, r *http.Request) {
	keys, err := o.app.AdminKeys(r.Context())
	if err != nil {
		o.refuse(w, err)
		return
	}
	out := []ListedKey{}
	for _, k := range keys {
		out = append(out, ListedKey(k))
	}
	o.write(w, out)
}

func (o operator) createKey(w http.ResponseWriter, r *http.Request) {
	req, ok := o.read(w, r)
	if !ok {
		return
	}
	name, _ := req.Get("name").AsString()
	key, err := o.app.CreateAdminKey(r.Context(), name)
	if err != nil {
		o.refuse(w, err)
		return
	}
	o.write(w, map[string]string{"key": key})
}

func (o operator) revokeKey(w http.ResponseWriter, r *http.Request) {
	if err := o.app.RevokeAdminKey(r.Context(), r.URL.Query().Get("name")); err != nil {
		o.refuse(w, err)
		return
	}
	o.write(w, struct{}{})
}

// Told is one line of an answer that takes long: how far it is, or its end.
type Told struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *ToldError      `json:"error,omitempty"`
}

// ToldError is an error at the end of an answer. What was done until then may be in the Result beside it.
type ToldError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// tellEvery is the least time between two lines of progress.
const tellEvery = 500 * time.Millisecond

// teller writes lines of Told.
type teller struct {
	w    http.ResponseWriter
	last time.Time
}

func newTeller(w http.ResponseWriter) *teller {
	w.Header().Set("Content-Type", "application/jsonl")
	// The body of an import is read while its progress is written.
	_ = http.NewResponseController(w).EnableFullDuplex()
	return &teller{w: w, last: time.Now()}
}

func (t *teller) progress(v any) {
	if time.Since(t.last) < tellEvery {
		return
	}
	t.last = time.Now()
	t.line(Told{Progress: raw(v)})
}

func (t *teller) end(v any, err error) {
	told := Told{Result: raw(v)}
	if err != nil {
		_, code := operatorCode(err)
		told.Error = &ToldError{Code: code, Message: err.Error()}
	}
	t.line(told)
}

func (t *teller) line(told Told) {
	text, _ := json.Marshal(told) // of plain structs
	_, _ = t.w.Write(append(text, '\n'))
	_ = http.NewResponseController(t.w).Flush()
}

func raw(v any) json.RawMessage {
	text, _ := json.Marshal(v) // of plain structs
	return text
}
