package server

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
)

// ListedInsights are halcyon.Insights as the operator's API tells them. Durations are in milliseconds.
type ListedInsights struct {
	Since      time.Time         `json:"since"`
	Now        time.Time         `json:"now"`
	Functions  []ListedFunction  `json:"functions"`
	Tables     []ListedConflicts `json:"tables"`
	Documents  []ListedDocument  `json:"documents"`
	Contention int64             `json:"contentionFailures"`
	// BrokenRules is what Server.BrokenRules returns: how many connections were ended, since the start of the process, because they were about
	// to be sent what would have broken a rule of the protocol.
	BrokenRules int64 `json:"brokenRules"`
}

// ListedFunction are the insights of one function.
type ListedFunction struct {
	Function  string             `json:"function"`
	Kind      string             `json:"kind"`
	Calls     int64              `json:"calls"`
	Failures  int64              `json:"failures"`
	Codes     map[string]int64   `json:"failuresByCode,omitempty"` // "" for errors of the function itself
	Runs      int64              `json:"runs"`
	P50       float64            `json:"p50"`
	P95       float64            `json:"p95"`
	Max       float64            `json:"max"`
	Conflicts int64              `json:"conflicts"`
	InTurn    int64              `json:"inTurn"`
	Retried   int64              `json:"retried"`
	Parked    int64              `json:"parked"`
	Slow      int64              `json:"slow"`
	Stray     int64              `json:"stray"`
	Limits    map[string]float64 `json:"limits,omitempty"` // 1 is the limit
}

// ListedConflicts is how often transactions met in a table, over the listed documents.
type ListedConflicts struct {
	Table     string `json:"table"`
	Conflicts int64  `json:"conflicts"`
}

// ListedDocument are the insights of one document.
type ListedDocument struct {
	Table     string `json:"table"`
	Index     string `json:"index,omitempty"`
	ID        string `json:"id,omitempty"`
	Conflicts int64  `json:"conflicts"`
	Function  string `json:"function"`
	Writer    string `json:"writer"`
}

func (o operator) insights(w http.ResponseWriter, _ *http.Request) {
	in := o.app.Insights()
	out := ListedInsights{
		Since: in.Since.UTC(), Now: in.Now.UTC(), Contention: in.Contention,
		Functions: []ListedFunction{}, Tables: []ListedConflicts{}, Documents: []ListedDocument{},
	}
	if o.brokenRules != nil {
		out.BrokenRules = o.brokenRules()
	}
	for _, f := range in.Functions {
		lf := ListedFunction{
			Function: f.Function, Kind: f.Kind.String(), Calls: f.Calls, Failures: f.Failures, Runs: f.Runs,
			P50: milliseconds(f.P50), P95: milliseconds(f.P95), Max: milliseconds(f.Max),
			Conflicts: f.Conflicts, InTurn: f.InTurn, Retried: f.Retried, Parked: f.Parked, Slow: f.Slow, Stray: f.Stray, Limits: f.Limits,
		}
		for code, n := range f.Codes {
			if lf.Codes == nil {
				lf.Codes = map[string]int64{}
			}
			lf.Codes[string(code)] = n
		}
		out.Functions = append(out.Functions, lf)
	}
	place := map[string]int{}
	for _, d := range in.Documents {
		out.Documents = append(out.Documents, ListedDocument(d))
		i, known := place[d.Table]
		if !known {
			i = len(out.Tables)
			place[d.Table] = i
			out.Tables = append(out.Tables, ListedConflicts{Table: d.Table})
		}
		out.Tables[i].Conflicts += d.Conflicts
	}
	o.write(w, out)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// ListedLog is a halcyon.LogEntry as the operator's API tells it.
type ListedLog struct {
	Seq       uint64    `json:"seq"`
	Time      time.Time `json:"time"`
	Function  string    `json:"function"`
	Kind      string    `json:"kind"`
	RequestID string    `json:"requestId,omitempty"`
	Took      float64   `json:"took"` // milliseconds
	Lines     []string  `json:"lines,omitempty"`
	Failure   string    `json:"failure,omitempty"`
	Code      string    `json:"code,omitempty"`
}

// logs writes what calls have logged, a line each, and with follow goes on until the reader leaves. function selects by the beginning of
// its path, requestId one request, failed those that failed, after what is newer than an entry.
func (o operator) logs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	follow, failed := q.Get("follow") == "true", q.Get("failed") == "true"
	var after uint64
	if text := q.Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			writeError(w, http.StatusBadRequest, "BadRange", "The parameter after is the seq of an entry.")
			return
		}
	}
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	_ = control.Flush()
	for wait := false; ; wait = true {
		entries, err := o.app.Logs(r.Context(), after, wait)
		if err != nil {
			return // the reader has left, or the app closes
		}
		for _, e := range entries {
			after = e.Seq
			if !strings.HasPrefix(e.Function, q.Get("function")) || failed && e.Failure == "" || q.Has("requestId") && q.Get("requestId") != e.RequestID {
				continue
			}
			text, _ := json.Marshal(listedLog(e)) // of plain fields
			if _, err := w.Write(append(text, '\n')); err != nil {
				return
			}
		}
		_ = control.Flush()
		if !follow {
			return
		}
	}
}

func listedLog(e halcyon.LogEntry) ListedLog {
	return ListedLog{
		Seq: e.Seq, Time: e.Time.UTC(), Function: e.Function, Kind: e.Kind.String(), RequestID: e.RequestID, Took: milliseconds(e.Took),
		Lines: e.Lines, Failure: e.Failure, Code: string(e.Code),
	}
}
