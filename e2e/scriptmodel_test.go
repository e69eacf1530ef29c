package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// scriptEntry is one mutation that has happened.
type scriptEntry struct {
	Seq                      int
	Mark, Op, Key, Text, Who string
}

// scriptCounts is what the check of scripts has seen.
type scriptCounts struct {
	screens, done, refused, connections, faults int
}

func (c *scriptCounts) add(d scriptCounts) {
	c.screens += d.screens
	c.done += d.done
	c.refused += d.refused
	c.connections += d.connections
}

// scriptItem is a line of the model.
type scriptItem struct{ text, owner string }

// scriptModel has the states of a space after each of its mutations.
type scriptModel struct{ states []map[string]scriptItem }

// newScriptModel does all mutations again, and checks what is independent of clients.
func newScriptModel(entries []scriptEntry) (*scriptModel, map[string]scriptEntry, error) {
	m := &scriptModel{states: []map[string]scriptItem{{}}}
	byMark := map[string]scriptEntry{}
	for i, e := range entries {
		if e.Seq != i+1 {
			return nil, nil, fmt.Errorf("entry %d has the number %d", i+1, e.Seq)
		}
		if _, twice := byMark[e.Mark]; twice {
			return nil, nil, fmt.Errorf("mutation %s happened twice", e.Mark)
		}
		byMark[e.Mark] = e
		state := maps.Clone(m.states[i])
		switch e.Op {
		case "put":
			state[e.Key] = scriptItem{e.Text, e.Who}
		case "append":
			state[e.Key] = scriptItem{state[e.Key].text + e.Text, e.Who}
		case "remove":
			delete(state, e.Key)
		default:
			return nil, nil, fmt.Errorf("mutation %s, a %s, happened", e.Mark, e.Op)
		}
		m.states = append(m.states, state)
	}
	return m, byMark, nil
}

type scriptLine struct {
	Key  string `json:"key"`
	Text string `json:"text"`
}

func (m *scriptModel) lines(at int) []scriptLine {
	state := m.states[at]
	lines := []scriptLine{}
	for _, key := range slices.Sorted(maps.Keys(state)) {
		lines = append(lines, scriptLine{key, state[key].text})
	}
	return lines
}

// shows reports whether a subscription of a user may show a value in a state. shown is the last key that its pages had come to before.
func (m *scriptModel) shows(op scriptOp, value json.RawMessage, at int, user, shown string) bool {
	state := m.states[at]
	var want any
	switch op.Path {
	case "script:list":
		want = m.lines(at)
	case "script:count":
		want = len(state)
	case "script:get":
		want = state[op.Args["key"].(string)].text
	case "script:even":
		text := state[op.Args["key"].(string)].text
		if want = text; len(text)%2 == 1 {
			want = map[string]string{"error": "Odd"}
		}
	case "script:mine":
		keys := []string{}
		for key, item := range state {
			if item.owner == user {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		want = map[string]any{"who": user, "keys": keys}
	default:
		return m.showsPages(value, at, shown)
	}
	return canonical(value) == canonical(encode(want))
}

// scriptPages is what a paginated subscription shows.
type scriptPages struct {
	Results []scriptLine
	Status  string
}

// showsPages reports whether pages are the first lines of a state, all of them when there are no more, and none less than where the pages had
// come to: their ends stay where they are.
func (m *scriptModel) showsPages(value json.RawMessage, at int, shown string) bool {
	var pages scriptPages
	if json.Unmarshal(value, &pages) != nil || pages.Status == "" {
		return false
	}
	if pages.Status == "LoadingFirstPage" {
		return true
	}
	lines := m.lines(at)
	n := len(pages.Results)
	if n > len(lines) || !slices.Equal(pages.Results, lines[:n]) {
		return false
	}
	if pages.Status == "Exhausted" {
		return n == len(lines)
	}
	// A line that was removed and put again may be behind the end.
	return n == len(lines) || lines[n].Key >= shown
}

// canonical is a JSON text in the one form that equal values have.
func canonical(text json.RawMessage) string {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return "not JSON: " + err.Error()
	}
	return string(encode(v))
}

// scriptClient is what the check knows of one client at a point of the trace.
type scriptClient struct {
	values map[int]json.RawMessage
	come   map[int]string // by subscription: the last key that its pages have shown
	users  []string       // that it has been, in order
	// Its screen is of a state from seq on, and of a user from user on.
	seq, user int
	sent      []string
	sentAs    map[string]int // by mark: user when it was sent
	last      int            // number of its newest mutation
	ended     bool
}

// checkScript compares what the clients of a script saw with the model.
func checkScript(script *clientScript, trace *scriptTrace, entries []scriptEntry) (counts scriptCounts, err error) {
	if trace.Error != "" {
		err = errors.Join(err, errors.New(trace.Error))
	}
	for _, thrown := range trace.Thrown {
		err = errors.Join(err, fmt.Errorf("a client threw: %s", thrown))
	}
	model, happened, modelErr := newScriptModel(entries)
	if modelErr != nil {
		return counts, errors.Join(err, modelErr)
	}
	ops := map[int]scriptOp{}
	for _, op := range script.Ops {
		if op.Do == "subscribe" || op.Do == "paginate" {
			ops[op.ID] = op
		}
	}
	clients := make([]*scriptClient, script.Clients)
	for i := range clients {
		clients[i] = &scriptClient{values: map[int]json.RawMessage{}, come: map[int]string{}, users: []string{"nobody"}, sentAs: map[string]int{}}
	}
	settled := map[string]bool{}
	for i, e := range trace.Trace {
		c := clients[e.Client]
		problem := ""
		switch {
		case e.Sees != nil:
			counts.screens++
			problem = c.see(model, ops, e.Sees)
		case e.Sent != "":
			c.sent = append(c.sent, e.Sent)
			c.sentAs[e.Sent] = c.user
		case e.Done != "":
			settled[e.Done] = true
			done, is := happened[e.Done]
			switch {
			case e.Value == nil:
				counts.refused++
				if is || e.Error != "Refused" {
					problem = fmt.Sprintf("mutation %s failed with %q, and in the database is %+v", e.Done, e.Error, done)
				}
			case !is:
				problem = fmt.Sprintf("mutation %s was answered %+v and is lost", e.Done, *e.Value)
			default:
				counts.done++
				problem = c.settle(model, e, done)
			}
		case e.User != "":
			c.users = append(c.users, e.User)
		case e.Ended != 0:
			delete(c.values, e.Ended)
		case e.Refused:
			problem = "a sign-in failed that is good, or the other way around"
		case e.End:
			counts.connections += e.Connections
			c.ended = true
			if !c.isAt(model, ops, len(entries), len(c.users)-1) {
				problem = fmt.Sprintf("in the end it does not show the newest state, of %s: %s; the state is %v", c.users[len(c.users)-1], encode(c.values), model.states[len(entries)])
			}
		}
		if problem != "" {
			return counts, errors.Join(err, fmt.Errorf("event %d, client %d: %s\nthe events: %s", i, e.Client, problem, encode(before(trace.Trace[:i+1], e.Client))))
		}
	}
	sent := 0
	for i, c := range clients {
		sent += len(c.sent)
		for _, mark := range c.sent {
			if !settled[mark] {
				err = errors.Join(err, fmt.Errorf("client %d: mutation %s was never settled", i, mark))
			}
		}
		if !c.ended && trace.Error == "" {
			err = errors.Join(err, fmt.Errorf("client %d did not come to its end", i))
		}
	}
	if len(happened) != counts.done && trace.Error == "" {
		err = errors.Join(err, fmt.Errorf("%d mutations happened, and %d of %d that were sent succeeded", len(happened), counts.done, sent))
	}
	return counts, err
}

// before returns the last events of a client.
func before(events []scriptEvent, client int) []scriptEvent {
	var own []scriptEvent
	for _, e := range events {
		if e.Client == client {
			own = append(own, e)
		}
	}
	return own[max(0, len(own)-60):]
}

// see takes a change of the screen, and looks for a state that it can be.
func (c *scriptClient) see(model *scriptModel, ops map[int]scriptOp, sees map[string]json.RawMessage) (problem string) {
	for text, value := range sees {
		id, err := strconv.Atoi(text)
		if err != nil {
			return err.Error()
		}
		if string(value) == `"gone"` {
			if c.values[id] != nil {
				return fmt.Sprintf("subscription %d, %s, shows nothing any more; it showed %s", id, ops[id].Path, c.values[id])
			}
			continue
		}
		c.values[id] = value
	}
	for seq := c.seq; seq < len(model.states); seq++ {
		for user := c.user; user < len(c.users); user++ {
			if c.isAt(model, ops, seq, user) {
				c.seq, c.user = seq, user
				c.turn(ops)
				return ""
			}
		}
	}
	return fmt.Sprintf("the screen is of no state from %d of %d on, of no user of %q from %d on: %s\nthe states: %v",
		c.seq, len(model.states)-1, c.users, c.user, encode(c.values), model.states[c.seq:])
}

// isAt reports whether the screen may be of a state and a user.
func (c *scriptClient) isAt(model *scriptModel, ops map[int]scriptOp, seq, user int) bool {
	for id, value := range c.values {
		if !model.shows(ops[id], value, seq, c.users[user], c.come[id]) {
			return false
		}
	}
	return true
}

// turn notes how far the pages have come.
func (c *scriptClient) turn(ops map[int]scriptOp) {
	for id, value := range c.values {
		var pages scriptPages
		if ops[id].Do != "paginate" || json.Unmarshal(value, &pages) != nil {
			continue
		}
		for _, line := range pages.Results {
			c.come[id] = max(c.come[id], line.Key)
		}
	}
}

// settle takes the answer of a mutation.
func (c *scriptClient) settle(model *scriptModel, e scriptEvent, done scriptEntry) (problem string) {
	was := model.states[done.Seq-1][done.Key].text
	switch {
	case e.Value.Seq != done.Seq || e.Value.Was != was || e.Value.Who != done.Who:
		return fmt.Sprintf("mutation %s was answered %+v; it is %+v, and the text was %q", e.Done, *e.Value, done, was)
	case done.Seq <= c.last:
		return fmt.Sprintf("mutation %s is number %d, and one that was sent before it %d", e.Done, done.Seq, c.last)
	case !slices.Contains(c.users[c.sentAs[e.Done]:], done.Who):
		return fmt.Sprintf("mutation %s was done for %s; the client has been %q since it showed what it showed", e.Done, done.Who, c.users[c.sentAs[e.Done]:])
	}
	c.last = done.Seq
	c.seq = max(c.seq, done.Seq) // its own write is on its screen
	return ""
}
