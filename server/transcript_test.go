package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/protocol"
)

var updateTranscripts = flag.Bool("server.transcripts", false, "record the transcripts of the npm clients again")

// transcripts are the scenarios of transcripts.mjs. Each is a file of lines of JSON in testdata/transcripts, which says what the official
// clients send and what they are answered.
var transcripts = []string{"sync", "reconnect", "auth", "large", "pages"}

func transcriptFile(name string) string {
	return filepath.Join("testdata", "transcripts", name+".jsonl")
}

// Who a line of a transcript is from.
const (
	fromScript  = "script"  // a step begins
	fromClient  = "client"  // a message
	fromServer  = "server"  // a message
	fromNetwork = "network" // the connection is cut, or a message of the server is lost with it
)

// line is one line of a transcript.
type line struct {
	From    string          `json:"from"`
	On      int             `json:"on"` // the connection, from 0
	Step    string          `json:"step,omitempty"`
	Cut     bool            `json:"cut,omitempty"`
	Message json.RawMessage `json:"message,omitempty"`
}

func (l line) String() string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// conversation turns what was said into the lines of a transcript, in which nothing is left that depends on the time or on chance. What the
// server says between two other lines is put together: the responses, and then one Transition with all that the Transitions changed, since how
// many they are depends on the time. Where that hides a break between two Transitions it is an error.
type conversation struct {
	names names
	ends  map[int]protocol.Version // of the last Transition of a connection
}

func newConversation() *conversation {
	return &conversation{newNames(), map[int]protocol.Version{}}
}

// answers returns the lines of what the server said on a connection before anybody else said something.
func (c *conversation) answers(on int, said [][]byte) ([]line, error) {
	var lines []line
	var whole *protocol.Transition
	var assembler protocol.Assembler
	parts := 0
	add := func(m protocol.ServerMessage) error {
		text, err := c.names.replace(m.Append(nil))
		lines = append(lines, line{From: fromServer, On: on, Message: text})
		return err
	}
	end := c.ends[on]
	for _, text := range said {
		m, err := protocol.DecodeServer(text)
		if err != nil {
			return nil, fmt.Errorf("the server said %.300s: %w", text, err)
		}
		if again := m.Append(nil); !bytes.Equal(again, text) {
			return nil, fmt.Errorf("the server said %.300s, which is understood as %.300s", text, again)
		}
		if _, ok := m.(*protocol.TransitionChunk); ok {
			parts++
		}
		if m, err = assembler.Add(m); err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case nil, *protocol.Ping:
		case *protocol.Transition:
			if m.Start != end {
				return nil, fmt.Errorf("a Transition from %+v does not start at %+v", m.Start, end)
			}
			end = m.End
			whole = merge(whole, m)
		default:
			if err := add(m); err != nil {
				return nil, err
			}
		}
	}
	c.ends[on] = end
	if whole != nil {
		if err := add(whole); err != nil {
			return nil, err
		}
		if parts > 0 {
			lines[len(lines)-1].Step = "in parts"
		}
	}
	return lines, nil
}

// merge returns one Transition with the changes of two, in the order of the queries.
func merge(a, b *protocol.Transition) *protocol.Transition {
	if a == nil {
		a = &protocol.Transition{Start: b.Start}
	}
	out := &protocol.Transition{Start: a.Start, End: b.End, ClockSkew: a.ClockSkew, ServerTS: a.ServerTS}
	if out.ServerTS == nil {
		out.ClockSkew, out.ServerTS = b.ClockSkew, b.ServerTS
	}
	changes := map[uint32]protocol.QueryChange{}
	last := uint32(0)
	for _, m := range append(a.Modifications[:len(a.Modifications):len(a.Modifications)], b.Modifications...) {
		changes[m.QueryID] = m
		last = max(last, m.QueryID)
	}
	for id := range last + 1 {
		if m, ok := changes[id]; ok {
			out.Modifications = append(out.Modifications, m)
		}
	}
	return out
}

// event is what a recorder has seen.
type event struct {
	line
	text []byte
}

// lines returns the transcript of what was seen.
func (c *conversation) lines(events []event) ([]line, error) {
	var out []line
	for at := 0; at < len(events); {
		e := events[at]
		switch {
		case e.From == fromServer:
			var said [][]byte
			for ; at < len(events) && events[at].From == fromServer && events[at].On == e.On; at++ {
				said = append(said, events[at].text)
			}
			answers, err := c.answers(e.On, said)
			if err != nil {
				return out, err
			}
			out = append(out, answers...)
			continue
		case e.text != nil:
			text, err := c.names.replace(e.text)
			if err != nil {
				return out, err
			}
			e.Message = text
		}
		out = append(out, e.line)
		at++
	}
	return out, nil
}

// recorder is the network between a client and a server. It notes what both say.
type recorder struct {
	t      testing.TB
	target string
	token  func(subject string, claims map[string]any) string

	running sync.WaitGroup // of the connections; a new one is counted under mu

	mu struct {
		sync.Mutex
		ended   bool
		events  []event
		conns   []*recorded
		tokens  int
		losing  bool // the next response of a mutation
		changed chan struct{}
	}
}

// recorded is one connection through a recorder.
type recorded struct {
	on   int
	end  context.CancelFunc
	gone bool
	account
}

// settled reports whether all that was asked is answered.
func (c *recorded) settled() bool { return c.gone || c.account.settled() }

// account is what is asked and what is answered on a connection.
type account struct {
	asked    protocol.Version // by the client; TS: of the newest response
	shown    protocol.Version
	calls    map[uint32]bool // not answered
	assemble protocol.Assembler
}

func newAccount() account { return account{calls: map[uint32]bool{}} }

func (a *account) settled() bool {
	return len(a.calls) == 0 && a.shown.QuerySet == a.asked.QuerySet && a.shown.Identity == a.asked.Identity && a.shown.TS >= a.asked.TS
}

// hears takes a message of the client.
func (a *account) hears(m protocol.ClientMessage) {
	switch m := m.(type) {
	case *protocol.ModifyQuerySet:
		a.asked.QuerySet = m.New
	case *protocol.Authenticate:
		a.asked.Identity = m.Base + 1
	case *protocol.Mutation:
		a.calls[m.RequestID] = true
	case *protocol.Action:
		a.calls[m.RequestID] = true
	}
}

// says takes a message of the server, and returns it; a part of one as nil.
func (a *account) says(text []byte) (protocol.ServerMessage, error) {
	m, err := protocol.DecodeServer(text)
	if err == nil {
		m, err = a.assemble.Add(m)
	}
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *protocol.Transition:
		a.shown = m.End
	case *protocol.MutationResponse:
		delete(a.calls, m.RequestID)
		a.asked.TS = max(a.asked.TS, m.TS)
	case *protocol.ActionResponse:
		delete(a.calls, m.RequestID)
	}
	return m, nil
}

func (r *recorder) noteLocked(e event) {
	r.mu.events = append(r.mu.events, e)
	close(r.mu.changed)
	r.mu.changed = make(chan struct{})
}

// settle waits until the newest connection has asked for a version of its query set, and all that was asked is answered. Then it notes something.
func (r *recorder) settle(ctx context.Context, querySet uint32, then func()) error {
	for {
		r.mu.Lock()
		settled := querySet == 0 || len(r.mu.conns) > 0 && r.mu.conns[len(r.mu.conns)-1].asked.QuerySet >= querySet
		for _, c := range r.mu.conns {
			settled = settled && c.settled()
		}
		changed := r.mu.changed
		if settled {
			then()
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.New("not all that was asked is answered")
		}
	}
}

func (r *recorder) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/{version}/sync", r.carry)
	mux.HandleFunc("POST /transcript/step", func(w http.ResponseWriter, q *http.Request) {
		querySet, err := strconv.ParseUint(q.FormValue("querySet"), 10, 32)
		if err == nil {
			err = r.settle(q.Context(), uint32(querySet), func() { r.noteLocked(event{line: line{From: fromScript, Step: q.FormValue("name")}}) })
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("POST /transcript/cut", func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cutLocked(r.mu.conns[len(r.mu.conns)-1])
	})
	mux.HandleFunc("POST /transcript/lose", func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.mu.losing = true
	})
	mux.HandleFunc("POST /transcript/token", func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.mu.tokens++
		fmt.Fprint(w, mintToken(r.token, q.FormValue("sub"), r.mu.tokens, q.FormValue("forged") != ""))
	})
	return mux
}

// end ends all connections, and returns what was seen.
func (r *recorder) end() []event {
	r.mu.Lock()
	r.mu.ended = true
	events := r.mu.events
	for _, c := range r.mu.conns {
		c.end()
	}
	r.mu.Unlock()
	r.running.Wait()
	return events
}

// mintToken returns the token number n, or one that looks like it.
func mintToken(token func(subject string, claims map[string]any) string, subject string, n int, forged bool) string {
	if !forged {
		return token(subject, map[string]any{"n": n})
	}
	text := token(subject, map[string]any{"n": n, "forged": true})
	at := strings.LastIndexByte(text, '.') + 1
	return text[:at] + strings.Repeat("A", len(text)-at)
}

// cutLocked ends a connection without a word.
func (r *recorder) cutLocked(c *recorded) {
	if !c.gone {
		c.gone = true
		r.noteLocked(event{line: line{From: fromNetwork, On: c.on, Cut: true}})
		c.end()
	}
}

// carry is one connection. A message of the server goes on when those that the client has sent before are noted, so the order of the
// transcript is that of the client.
func (r *recorder) carry(w http.ResponseWriter, q *http.Request) {
	down, err := websocket.Accept(w, q, nil)
	if err != nil {
		return // the client is gone
	}
	defer down.CloseNow()
	down.SetReadLimit(-1)
	ctx, cancel := context.WithCancel(q.Context())
	defer cancel()
	up, _, err := websocket.Dial(ctx, "ws://"+r.target+q.URL.Path, &websocket.DialOptions{HTTPHeader: http.Header{clientHeader: q.Header.Values(clientHeader)}})
	if err != nil {
		r.t.Errorf("dial the server: %v", err)
		return
	}
	defer up.CloseNow()
	up.SetReadLimit(-1)
	r.mu.Lock()
	if r.mu.ended {
		r.mu.Unlock()
		return
	}
	r.running.Add(1)
	defer r.running.Done()
	c := &recorded{on: len(r.mu.conns), end: cancel, account: newAccount()}
	r.mu.conns = append(r.mu.conns, c)
	r.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() {
		defer cancel()
		for {
			_, text, err := down.Read(ctx)
			if err != nil || !r.heard(c, text) || up.Write(ctx, websocket.MessageText, text) != nil {
				return
			}
		}
	})
	both.Go(func() {
		defer cancel()
		for {
			_, text, err := up.Read(ctx)
			if err != nil {
				return // the client closes first in all that is recorded, save after a refused token, when both do
			}
			if down.Ping(ctx) != nil || !r.said(c, text) || down.Write(ctx, websocket.MessageText, text) != nil {
				return
			}
		}
	})
	both.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	c.gone = true
	close(r.mu.changed)
	r.mu.changed = make(chan struct{})
}

// heard notes what a client says, and reports whether it arrives.
func (r *recorder) heard(c *recorded, text []byte) bool {
	m, err := protocol.DecodeClient(text)
	if err != nil {
		r.t.Errorf("the client said %.300s: %v", text, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.gone {
		return false
	}
	c.hears(m)
	r.noteLocked(event{line{From: fromClient, On: c.on}, text})
	return true
}

// said notes what the server says, and reports whether it arrives.
func (r *recorder) said(c *recorded, text []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.gone {
		return false
	}
	m, err := c.says(text)
	if err != nil {
		r.t.Errorf("the server said %.300s: %v", text, err)
	}
	switch m.(type) {
	case *protocol.Ping:
		return true
	case *protocol.MutationResponse:
		if r.mu.losing {
			r.mu.losing = false
			r.noteLocked(event{line{From: fromNetwork, On: c.on}, text})
			r.cutLocked(c)
			return false
		}
	}
	r.noteLocked(event{line{From: fromServer, On: c.on}, text})
	return true
}

// transcriptWorld is a server with what a scenario needs, and a source of tokens.
func transcriptWorld(t *testing.T, name string) (s *testServer, token func(subject string, claims map[string]any) string) {
	if name == "auth" {
		w := newAuthWorld(t, Options{})
		return w.testServer, func(subject string, claims map[string]any) string { return w.issuer.Token(subject, time.Hour, claims) }
	}
	f := newFixture(t)
	return serve(t, f.app, Options{}), nil
}

// The npm clients send what they sent when the transcripts were recorded. With -server.transcripts they are recorded again.
func TestNPMClientsSendTheTranscripts(t *testing.T) {
	dir := nodeClients(t)
	for _, name := range transcripts {
		t.Run(name, func(t *testing.T) {
			r := &recorder{t: t}
			r.mu.changed = make(chan struct{})
			s, token := transcriptWorld(t, name)
			r.target, r.token = s.address, token
			proxy := httptest.NewServer(r.handler())
			defer proxy.Close()
			script(t, dir, "transcripts.mjs", strings.TrimPrefix(proxy.URL, "http://"), name, nil)
			lines, err := newConversation().lines(r.end())
			if err != nil {
				t.Fatal(err)
			}
			if *updateTranscripts {
				if !t.Failed() {
					writeTranscript(t, name, lines)
				}
				return
			}
			ofClient := func(lines []line) (texts []string) {
				for _, l := range lines {
					if l.From != fromServer {
						texts = append(texts, l.String())
					}
				}
				return texts
			}
			if diff := cmp.Diff(ofClient(readTranscript(t, name)), ofClient(lines)); diff != "" {
				t.Errorf("the client does not send what was recorded (-recorded +sent); if that is meant to be, record again with -server.transcripts:\n%s", diff)
			}
		})
	}
}

func writeTranscript(t *testing.T, name string, lines []line) {
	t.Helper()
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.String())
		b.WriteByte('\n')
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(transcriptFile(name)), 0o755), os.WriteFile(transcriptFile(name), []byte(b.String()), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func readTranscript(t *testing.T, name string) (lines []line) {
	t.Helper()
	text, err := os.ReadFile(transcriptFile(name))
	if err != nil {
		t.Fatal(err)
	}
	for n, row := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		var l line
		if err := json.Unmarshal(row, &l); err != nil {
			t.Fatalf("%s:%d: %v", transcriptFile(name), n+1, err)
		}
		lines = append(lines, l)
	}
	return lines
}

// A fresh server answers what the npm clients sent with what was recorded.
func TestTranscriptsAreAnswered(t *testing.T) {
	for _, name := range transcripts {
		t.Run(name, func(t *testing.T) {
			p := &player{t: t, c: newConversation(), conns: map[int]*client{}, accounts: map[int]*account{}}
			p.s, p.token = transcriptWorld(t, name)
			lines := readTranscript(t, name)
			for at := 0; at < len(lines); {
				l := lines[at]
				at++
				switch {
				case l.Cut:
					_ = p.conns[l.On].ws.CloseNow() // that is the cut
				case l.From == fromClient:
					p.send(l)
				case l.From == fromNetwork:
					p.loses(l)
				case l.From == fromServer:
					want := []line{l}
					for ; at < len(lines) && lines[at].From == fromServer && lines[at].On == l.On; at++ {
						want = append(want, lines[at])
					}
					p.awaits(want, at < len(lines) && lines[at].From == fromScript)
				}
			}
		})
	}
}

// player plays the part of the clients of a transcript.
type player struct {
	t     *testing.T
	s     *testServer
	token func(subject string, claims map[string]any) string
	c     *conversation
	conns map[int]*client
	// accounts are those of the conns.
	accounts map[int]*account
}

func (p *player) send(l line) {
	c := p.conns[l.On]
	if c == nil {
		c = dial(p.t, p.s, nil)
		a := newAccount()
		p.conns[l.On], p.accounts[l.On] = c, &a
	}
	text, err := p.c.names.restore(l.Message, func(name string) (string, bool) {
		// $token SUBJECT NUMBER [forged]
		words := strings.Fields(name)
		if len(words) < 3 || words[0] != "$token" {
			return "", false
		}
		n, err := strconv.Atoi(words[2])
		return mintToken(p.token, words[1], n, len(words) > 3), err == nil
	})
	if err != nil {
		p.t.Fatalf("%s: %v", l, err)
	}
	m, err := protocol.DecodeClient(text)
	if err != nil {
		p.t.Fatal(err)
	}
	p.accounts[l.On].hears(m)
	c.sendText(string(text))
}

// next returns what the server says next.
func (p *player) next(on int) ([]byte, error) {
	for {
		_, text, err := p.conns[on].hear()
		if err != nil || string(text) != `{"type":"Ping"}` {
			return text, err
		}
	}
}

// awaits reads until the server has said what was recorded and, at the end of a step, has answered all that was asked.
func (p *player) awaits(want []line, all bool) {
	p.t.Helper()
	on := want[0].On
	wanted := texts(want)
	var said [][]byte
	diff := ""
	for {
		text, err := p.next(on)
		if err != nil {
			p.t.Fatalf("connection %d: %v; what came is not what was recorded (-recorded +answered):\n%s", on, err, diff)
		}
		if _, err := p.accounts[on].says(text); err != nil {
			p.t.Fatal(err)
		}
		said = append(said, text)
		if all && !p.accounts[on].settled() {
			continue
		}
		try := p.c.clone()
		got, err := try.answers(on, said)
		if err != nil {
			p.t.Fatal(err)
		}
		if diff = cmp.Diff(wanted, texts(got)); diff == "" {
			p.c = try
			return
		}
	}
}

func texts(lines []line) (out []string) {
	for _, l := range lines {
		out = append(out, l.String())
	}
	return out
}

// loses reads until a message comes that was lost.
func (p *player) loses(l line) {
	p.t.Helper()
	for {
		text, err := p.next(l.On)
		if err != nil {
			p.t.Fatalf("connection %d: %v, want %s", l.On, err, l)
		}
		if m, err := protocol.DecodeServer(text); err != nil {
			p.t.Fatal(err)
		} else if _, ok := m.(*protocol.Transition); ok {
			continue // lost too
		}
		got, err := p.c.names.replace(text)
		if err != nil {
			p.t.Fatal(err)
		}
		if diff := cmp.Diff(l.String(), line{From: fromNetwork, On: l.On, Message: got}.String()); diff != "" {
			p.t.Fatalf("what was lost (-recorded +answered):\n%s", diff)
		}
		return
	}
}
