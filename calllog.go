package halcyon

import (
	"context"
	"strings"
	"sync"
	"time"
)

// LogEntry is a call that logged something or failed, as an operator reads it.
type LogEntry struct {
	Seq       uint64 // counts up from 1
	Time      time.Time
	Function  string
	Kind      FunctionKind
	RequestID string // empty where nobody asked
	Took      time.Duration
	Lines     []string
	Failure   string // as its client was told; empty when it succeeded
	Code      Code   // of the failure
}

// The log of calls keeps the newest, as many as these allow.
const (
	callLogMax      = 4_096
	callLogBytesMax = 4 << 20
)

// callLog keeps what calls have logged, in memory. It is safe for concurrent use.
type callLog struct {
	mu struct {
		sync.Mutex
		entries []LogEntry
		bytes   int
		last    uint64        // Seq of the newest
		changed chan struct{} // closed with the next entry; nil when nobody waits
	}
}

func (e *LogEntry) size() int {
	n := 128 + len(e.Function) + len(e.RequestID) + len(e.Failure)
	for _, l := range e.Lines {
		n += 16 + len(l)
	}
	return n
}

func (l *callLog) add(e LogEntry) {
	if len(e.Lines) == 0 && e.Failure == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.last++
	e.Seq = l.mu.last
	l.mu.entries = append(l.mu.entries, e)
	l.mu.bytes += e.size()
	drop := 0
	for ; len(l.mu.entries)-drop > callLogMax || l.mu.bytes > callLogBytesMax && len(l.mu.entries)-drop > 1; drop++ {
		l.mu.bytes -= l.mu.entries[drop].size()
		l.mu.entries[drop] = LogEntry{}
	}
	l.mu.entries = l.mu.entries[drop:]
	if l.mu.changed != nil {
		close(l.mu.changed)
		l.mu.changed = nil
	}
}

// Logs returns what calls have logged after an entry, the oldest first, 0 for all there is; and the failures of those that failed. When
// there is nothing and wait is set, it waits until there is. Entries are in memory, the newest 4,096 or 4 MiB of them; a gap in Seq says
// that some are gone.
func (a *App) Logs(ctx context.Context, after uint64, wait bool) ([]LogEntry, error) {
	r := a.running.Load()
	if r == nil {
		return nil, ErrNotOpen
	}
	for {
		l := &r.calls
		l.mu.Lock()
		var out []LogEntry
		for _, e := range l.mu.entries {
			if e.Seq > after {
				out = append(out, e)
			}
		}
		if len(out) > 0 || !wait {
			l.mu.Unlock()
			return out, nil
		}
		if l.mu.changed == nil {
			l.mu.changed = make(chan struct{})
		}
		changed := l.mu.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.closing.Done():
			return nil, ErrNotOpen
		}
	}
}

// ended notes the end of a call, for operators.
func (r *runtime) ended(f *function, requestID string, began time.Time, out Outcome, err error) {
	took := r.clock.Now().Sub(began)
	r.insights.called(f.path, took, out, err)
	e := LogEntry{Time: began, Function: f.path, Kind: f.kind, RequestID: requestID, Took: took, Lines: out.Logs}
	if code, failed := failureCode(out, err); failed {
		e.Code = code
		if e.Failure = string(code); out.Failure != nil {
			e.Failure = strings.TrimSpace(out.Failure.Message)
		}
	}
	r.calls.add(e)
}

func failureText(f *Failure) string {
	if f == nil {
		return ""
	}
	return strings.TrimSpace(f.Message)
}
