package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate/internal/room"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/yjs"
)

// Sockets are the settings of a collection's WebSockets, on which providers of Yjs open its documents: y-websocket and Hocuspocus. The zero
// value has them at /yjs/NAME for pages of the server's own origin.
type Sockets struct {
	// Off leaves them out.
	Off bool

	// Origins are those of pages that may connect besides the server's own, such as "https://app.example.com". Programs send none and are let
	// in. "*" stands for all.
	Origins []string

	// Stateless is given the messages that an app's pages send with Hocuspocus' sendStateless. An *halcyon.Error closes the connection with
	// its code. Default: they are dropped.
	Stateless func(c *halcyon.Ctx, m *Stateless) error

	// AwarenessBytesMax is the size of the state, as JSON, that one client shows the others of a document. Default 16 KiB.
	AwarenessBytesMax int

	// DocumentsMax is how many documents one connection of Hocuspocus opens. Default 2,000.
	DocumentsMax int
}

// Stateless is a message of an app's page, and what is to be answered. Clients of y-websocket know no such messages.
type Stateless struct {
	Document, Payload string

	caller  *halcyon.Identity
	answers []string
	toAll   []string
}

// Identity returns who has opened the document, and false for nobody.
func (m *Stateless) Identity() (halcyon.Identity, bool) {
	if m.caller == nil {
		return halcyon.Identity{}, false
	}
	return *m.caller, true
}

// Answer sends a message to the client.
func (m *Stateless) Answer(payload string) { m.answers = append(m.answers, payload) }

// Broadcast sends a message to all clients of Hocuspocus that have the document open, the one that sent this included.
func (m *Stateless) Broadcast(payload string) { m.toAll = append(m.toAll, payload) }

// rooms is who has which document open: a hub while the App runs.
type rooms struct{ hub atomic.Pointer[room.Hub] }

// socketFrameBytes is the room for what is around an update in a message.
const socketFrameBytes = 4 << 10

// serveRooms adds the WebSockets to the module.
func (c *Collection) serveRooms(m *halcyon.Module) {
	o := c.options.Sockets
	if o.Off {
		return
	}
	m.Internal.Query("roomAccess", c.roomAccess)
	m.Internal.Query("roomLoad", c.roomLoad)
	m.Internal.Query("roomSince", c.roomSince)
	m.Internal.Query("roomNewest", c.roomNewest)
	m.Internal.Query("roomChanges", c.roomChanges)
	m.Internal.Mutation("roomWrite", c.roomWrite)
	for _, path := range []string{"/yjs/" + c.options.Name, "/yjs/" + c.options.Name + "/{document...}"} {
		m.SocketReceiver(path, c.openSocket).Origins(o.Origins...).MessageMax(c.options.UpdateBytesMax + socketFrameBytes).RefuseSlow()
	}
	// Before the server takes connections, and until the App closes.
	m.OnStart(func(_ context.Context, app *halcyon.App) error {
		c.rooms.hub.Store(room.New(&roomStore{c, app}, &room.Options{
			UpdateBytesMax: c.options.UpdateBytesMax,
			StateBytesMax:  o.AwarenessBytesMax,
			DocumentsMax:   o.DocumentsMax,
			NameBytesMax:   DocumentIDBytesMax,
		}, app.Logger()))
		return nil
	})
	m.Background(func(ctx context.Context, _ *halcyon.App) error {
		<-ctx.Done()
		c.rooms.hub.Swap(nil).Close()
		return nil
	})
}

// openSocket begins to serve one connection. A token may be in the parameter token of the address, as y-websocket's clients can have it, and comes
// with each document from those of Hocuspocus.
func (c *Collection) openSocket(s *halcyon.Socket) (halcyon.SocketReceiver, error) {
	hub := c.rooms.hub.Load()
	if hub == nil {
		return nil, &halcyon.SocketClosed{Code: halcyon.SocketTryAgain, Reason: "Unavailable"}
	}
	if token := s.Request().URL.Query().Get("token"); token != "" {
		err := s.SignIn(token)
		if told, ok := errors.AsType[*halcyon.Error](err); ok {
			return nil, &halcyon.SocketClosed{Code: room.CloseUnauthorized, Reason: told.Code + ": " + told.Message}
		}
		if err != nil {
			return nil, err
		}
	}
	var stateless func(*room.Stateless) error
	if tell := c.options.Sockets.Stateless; tell != nil {
		stateless = func(m *room.Stateless) error {
			told := Stateless{Document: m.Document, Payload: m.Payload, caller: m.Caller}
			err := tell(s.Ctx, &told)
			m.Answers, m.ToAll = told.answers, told.toAll
			return err
		}
	}
	authenticate := func(token string) (room.User, error) {
		as, release, err := s.As(token)
		if err != nil {
			return room.User{}, err
		}
		return room.User{Identity: identityOf(as), Token: as, Release: release}, nil
	}
	// The address is cut out of the request, which is to be freed.
	return hub.Open(s, s, strings.Clone(s.PathValue("document")), identityOf(s.Ctx), authenticate, stateless), nil
}

// identityOf returns for whom something runs, nil for nobody.
func identityOf(c *halcyon.Ctx) *halcyon.Identity {
	if who, ok := c.Identity(); ok {
		return &who
	}
	return nil
}

type roomArgs struct {
	Document string `json:"document"`
	Vector   []byte `json:"vector"`
	After    Seq    `json:"after"`
}

type roomState struct {
	Level  Level  `json:"level"`
	Update []byte `json:"update"` // V2
	Vector []byte `json:"vector"`
	Seq    Seq    `json:"seq"`
}

// roomAccess tells what the caller may do. What the rule says to the caller is that nothing may be done.
func (c *Collection) roomAccess(tx *halcyon.Tx, args roomArgs) (Level, error) {
	if checkDocument(args.Document) != nil {
		return None, nil
	}
	_, level, err := c.Lookup(tx, args.Document)
	if _, told := errors.AsType[*halcyon.Error](err); told {
		return None, nil
	}
	return level, err
}

func (c *Collection) roomLoad(tx *halcyon.Tx, args roomArgs) (roomState, error) {
	vector, err := yjs.DecodeStateVector(args.Vector)
	if err != nil {
		return roomState{}, err
	}
	return told(c.Diff(tx, args.Document, vector))
}

func (c *Collection) roomSince(tx *halcyon.Tx, args roomArgs) (roomState, error) {
	return told(c.Since(tx, args.Document, args.After))
}

// told makes a state of what was read. A rule or hook that has something to say to the caller lets nothing be read.
func told(s Stored, err error) (roomState, error) {
	if _, told := errors.AsType[*halcyon.Error](err); told {
		return roomState{Update: emptyUpdate, Vector: yjs.StateVector{}.Encode()}, nil
	}
	return roomState{s.Level, s.Update, s.Vector.Encode(), s.Seq}, err
}

// roomNewest returns the newest place in the order of the collection. It is watched for changes.
func (c *Collection) roomNewest(tx *halcyon.Tx) (Seq, error) {
	newest, ok, err := c.deltas.By("by_at").Desc().First(tx)
	if err != nil || !ok {
		return 0, err
	}
	return seqOf(newest.At), nil
}

type roomChange struct {
	Document string `json:"document"`
	Seq      Seq    `json:"seq"`
	Update   []byte `json:"update"` // V2
}

type roomChanges struct {
	Changes []roomChange `json:"changes"`
	Seq     Seq          `json:"seq"`
	More    bool         `json:"more"`
}

// roomChanges returns what came after a place in the order of the collection, whoever may see it. All of a timestamp is on one page.
func (c *Collection) roomChanges(tx *halcyon.Tx, args roomArgs) (roomChanges, error) {
	page := roomChanges{Changes: []roomChange{}, Seq: args.After}
	size, rows := 0, 0
	for u, err := range whole(c.deltas.By("by_at").Gt(args.After.time()).Each(tx)) {
		if err != nil {
			return roomChanges{}, err
		}
		if u.seq > page.Seq && (size > pageBytesMax || rows > pageRowsMax || rows > 0 && tx.HalfSpent()) {
			page.More = true
			break
		}
		page.Seq = u.seq
		page.Changes = append(page.Changes, roomChange{u.document, u.seq, u.bytes})
		size += len(u.bytes) + len(u.document)
		rows += u.rows
	}
	return page, nil
}

type roomWrite struct {
	Document string   `json:"document"`
	Updates  [][]byte `json:"updates"` // V1, those of one caller
}

type roomResult struct {
	Status  Status `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// errApart is why a transaction writes one by one what does not go together.
var errApart = errors.New("not all of it can be applied")

// roomWrite writes updates of one caller: together, which costs what one update does, or one by one when something is wrong with one of them.
// Where there is no time for all of these the results are of the first ones, and the rest is to be written by another call.
func (c *Collection) roomWrite(tx *halcyon.Tx, args roomWrite) ([]roomResult, error) {
	results := make([]roomResult, len(args.Updates))
	if len(args.Updates) > 1 {
		merged, err := yjs.MergeUpdates(args.Updates...)
		if err == nil {
			err = tx.Nested(func() error {
				r, err := c.Write(tx, args.Document, merged, yjs.V1)
				if err == nil && r.Status != Applied && r.Status != Known {
					err = errApart
				}
				for i := range results {
					results[i] = roomResult{Status: r.Status}
				}
				return err
			})
		}
		if err == nil || !errors.Is(err, errApart) && !errors.Is(err, yjs.ErrMalformed) && !errors.Is(err, yjs.ErrLimit) {
			return results, err
		}
	}
	for i, update := range args.Updates {
		if i > 0 && tx.HalfSpent() {
			return results[:i], nil
		}
		r, err := c.Write(tx, args.Document, update, yjs.V1)
		if err != nil {
			return nil, err
		}
		results[i] = roomResult{r.Status, r.Code, r.Message}
	}
	return results, nil
}

// roomStore is the collection as the hub sees it.
type roomStore struct {
	c   *Collection
	app *halcyon.App
}

var _ room.Store = (*roomStore)(nil)

// run calls a function of the collection on behalf of somebody.
func (s *roomStore) run(ctx context.Context, as *halcyon.Identity, function string, args, result any, onCommit func(halcyon.Outcome)) error {
	encoded, err := halcyon.Encode(args)
	if err != nil {
		return fmt.Errorf("arguments of %s: %w", function, err)
	}
	out, err := s.app.Call(ctx, halcyon.Request{Path: s.c.options.Name + ":" + function, Args: encoded, Admin: true, Identity: as, OnCommit: onCommit})
	switch {
	case err != nil:
		return fmt.Errorf("run %s: %w", function, err)
	case out.Failure != nil:
		return fmt.Errorf("run %s: %w", function, out.Failure)
	}
	return halcyon.Decode(out.Value, result)
}

func (s *roomStore) Access(ctx context.Context, caller *halcyon.Identity, document string) (room.Access, error) {
	var level Level
	err := s.run(ctx, caller, "roomAccess", roomArgs{Document: document, Vector: noVector}, &level, nil)
	return room.Access(level), err
}

// noVector is an empty state vector.
var noVector = yjs.StateVector{}.Encode()

func (s *roomStore) Load(ctx context.Context, caller *halcyon.Identity, document string, have yjs.StateVector) (room.State, error) {
	var state roomState
	if err := s.run(ctx, caller, "roomLoad", roomArgs{Document: document, Vector: have.Encode()}, &state, nil); err != nil {
		return room.State{}, err
	}
	missing, err := s.c.stored.Convert(state.Update, yjs.V1)
	if err != nil {
		return room.State{}, fmt.Errorf("document %q: %w", document, err)
	}
	vector, err := yjs.DecodeStateVector(state.Vector)
	return room.State{Access: room.Access(state.Level), Missing: missing, Vector: vector, At: room.Position(state.Seq)}, err
}

func (s *roomStore) Since(ctx context.Context, caller *halcyon.Identity, document string, after room.Position) ([]byte, room.Position, error) {
	var state roomState
	if err := s.run(ctx, caller, "roomSince", roomArgs{Document: document, After: Seq(after), Vector: noVector}, &state, nil); err != nil {
		return nil, 0, err
	}
	update, err := s.c.stored.Convert(state.Update, yjs.V1)
	return update, room.Position(state.Seq), err
}

// callersMax is how many callers' updates of one document are written at a time.
const callersMax = 32

// Write writes the edits in a transaction for each caller, or in one where it makes no difference who the caller is.
func (s *roomStore) Write(ctx context.Context, document string, edits []room.Edit, durable func(room.Position, ...int)) ([]room.Result, error) {
	results := make([]room.Result, len(edits))
	byCaller := map[string][]int{}
	for i, e := range edits {
		key := ""
		if e.Caller != nil && (s.c.options.Access != nil || s.c.options.OnChange != nil) {
			key = e.Caller.TokenIdentifier
		}
		byCaller[key] = append(byCaller[key], i)
	}
	errs := make(chan error, len(byCaller))
	places := make(chan struct{}, callersMax)
	var work sync.WaitGroup
	for _, group := range byCaller {
		places <- struct{}{}
		work.Go(func() {
			errs <- s.write(ctx, document, edits, group, results, durable)
			<-places
		})
	}
	work.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// write writes the edits of one caller, and puts what became of each into results.
func (s *roomStore) write(ctx context.Context, document string, edits []room.Edit, group []int, results []room.Result, durable func(room.Position, ...int)) error {
	for rest := group; len(rest) > 0; {
		left := rest // which the call below may go on to look at
		args := roomWrite{Document: document}
		for _, i := range left {
			args.Updates = append(args.Updates, edits[i].Update)
		}
		var became []roomResult
		err := s.run(ctx, edits[left[0]].Caller, "roomWrite", args, &became, func(out halcyon.Outcome) {
			durable(room.Position(out.At), left[:min(out.Value.Len(), len(left))]...)
		})
		if err != nil {
			return err
		}
		if n := len(became); n == 0 || n > len(left) {
			return fmt.Errorf("write document %q: %d results for %d updates", document, n, len(left))
		}
		for k, b := range became {
			r := &results[left[k]]
			switch b.Status {
			case Gapped:
				r.Fate = room.Gapped
			case Refused:
				r.Fate, r.Code, r.Reason = room.Refused, b.Code, b.Message
			}
		}
		rest = left[len(became):]
	}
	return nil
}

// Follow watches the newest place in the order of the collection, and reads what came before it whenever it moves: one live query, however
// many documents are open.
func (s *roomStore) Follow(ctx context.Context, ready func(), open func(string) bool, told func([]room.Change, room.Position)) error {
	news := make(chan struct{}, 1)
	set := s.app.NewQuerySet(encodeNewest, func() {
		select {
		case news <- struct{}{}:
		default: // there is one already
		}
	})
	defer set.Close()
	set.SetCaller(nil, true)
	set.Add(0, s.c.options.Name+":roomNewest", value.Object(), nil)
	var after Seq
	begun := false
	for {
		for {
			round, ok := set.Poll(0)
			if !ok {
				break
			}
			for _, change := range round.Changes {
				if text, failed := bytes.CutPrefix(change.Body, failedNewest); failed {
					return fmt.Errorf("watch for changes: %s", text)
				}
			}
			if !begun {
				// What is committed from here on changes the result that is watched.
				if err := s.run(ctx, nil, "roomNewest", struct{}{}, &after, nil); err != nil {
					return err
				}
				begun = true
				ready()
			}
			var err error
			if after, err = s.catchUp(ctx, after, open, told); err != nil {
				return err
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// failedNewest begins the body of a result that is none.
var failedNewest = []byte("failed: ")

// encodeNewest makes a body that is another one when the result is.
func encodeNewest(out halcyon.Outcome) []byte {
	if out.Failure != nil {
		return append(slices.Clone(failedNewest), out.Failure.Error()...)
	}
	return value.AppendBinary(nil, out.Value)
}

// catchUp tells all that came after a place and returns the place up to which it has.
func (s *roomStore) catchUp(ctx context.Context, after Seq, open func(string) bool, told func([]room.Change, room.Position)) (Seq, error) {
	for {
		var page roomChanges
		if err := s.run(ctx, nil, "roomChanges", roomArgs{After: after, Vector: noVector}, &page, nil); err != nil {
			return after, err
		}
		var changes []room.Change
		for _, c := range page.Changes {
			if !open(c.Document) || len(c.Update) == len(emptyUpdate) && string(c.Update) == string(emptyUpdate) {
				continue
			}
			update, err := s.c.stored.Convert(c.Update, yjs.V1)
			if err != nil {
				return after, fmt.Errorf("document %q: %w", c.Document, err)
			}
			changes = append(changes, room.Change{Document: c.Document, At: room.Position(c.Seq), Update: update})
		}
		after = page.Seq
		told(changes, room.Position(after))
		if !page.More {
			return after, nil
		}
	}
}
