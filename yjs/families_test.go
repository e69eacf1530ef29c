package yjs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The randomised tests of npm yjs, rebuilt: users edit one kind of type, some
// of them cut off for a while, messages arrive in any order, and in the end all
// have the same. What observers of a text and an array are told, followed from
// the beginning, must come to what there is.

// networkUser is one of the users.
type networkUser struct {
	*Doc
	rnd    *rand.Rand
	online bool
	inbox  [][]byte
	text   Text  // follows the events of the text
	list   []any // follows the events of the array
}

// network carries updates between users.
type network struct {
	t     *testing.T
	rnd   *rand.Rand
	users []*networkUser
}

func newNetwork(t *testing.T, rnd *rand.Rand, n int) *network {
	net := &network{t: t, rnd: rnd}
	for i := range n {
		u := &networkUser{Doc: NewDoc(&Options{ClientID: uint64(i + 1), GC: i%2 == 0}), rnd: rnd, online: true, text: NewDoc(nil).Text("mirror")}
		net.users = append(net.users, u)
		u.OnUpdate(func(up Update) {
			if up.Origin == "network" || !u.online {
				return
			}
			for _, other := range net.users {
				if other != u && other.online {
					other.inbox = append(other.inbox, bytes.Clone(up.Bytes))
				}
			}
		})
		u.Map("map")
		u.XMLFragment("xml")
		u.Text("text").Observe(func(e *Event) { must(t, u.text.Apply(e.Delta())) })
		u.Array("array").Observe(func(e *Event) { u.list = followed(u.list, e.Delta()) })
	}
	return net
}

// followed applies the change of a list.
func followed(list []any, d Delta) (out []any) {
	at := 0
	for _, op := range d {
		switch {
		case op.Retain > 0:
			out = append(out, list[at:at+op.Retain]...)
			at += op.Retain
		case op.Delete > 0:
			at += op.Delete
		default:
			out = append(out, op.Insert.([]any)...)
		}
	}
	return append(out, list[at:]...)
}

// step lets something happen on the network, or a user do something.
func (net *network) step(actions []func(u *networkUser) error) {
	net.t.Helper()
	u := net.users[net.rnd.IntN(len(net.users))]
	switch net.rnd.IntN(20) {
	case 0:
		u.online = false
	case 1, 2:
		net.reconnect(u)
	case 3, 4, 5:
		for range net.rnd.IntN(4) {
			u.receive(net.t)
		}
	default:
		must(net.t, actions[net.rnd.IntN(len(actions))](u))
	}
}

// receive takes any of the messages that have arrived.
func (u *networkUser) receive(t *testing.T) {
	t.Helper()
	if len(u.inbox) == 0 {
		return
	}
	i := u.rnd.IntN(len(u.inbox))
	must(t, u.Apply(u.inbox[i], "network"))
	u.inbox[i] = u.inbox[len(u.inbox)-1]
	u.inbox = u.inbox[:len(u.inbox)-1]
}

// reconnect has a user and the others exchange what they lack.
func (net *network) reconnect(u *networkUser) {
	net.t.Helper()
	u.online = true
	for _, other := range net.users {
		if other != u && other.online {
			u.inbox = append(u.inbox, other.EncodeState(u.State()))
			other.inbox = append(other.inbox, u.EncodeState(other.State()))
		}
	}
}

// settle delivers everything to everybody.
func (net *network) settle() {
	net.t.Helper()
	for range net.users {
		for _, u := range net.users {
			net.reconnect(u)
		}
		for _, u := range net.users {
			for len(u.inbox) > 0 {
				u.receive(net.t)
			}
		}
	}
}

// compare holds the users against each other, and each against what its
// observers were told.
func (net *network) compare() {
	t, first := net.t, net.users[0]
	t.Helper()
	for i, u := range net.users {
		if p := u.Pending(); p != nil {
			t.Fatalf("user %d waits for %+v", i, p)
		}
		if !cmp.Equal(first.State(), u.State()) || !first.Deleted().Equal(u.Deleted()) {
			t.Fatalf("user %d has %v and %v deleted, user 0 %v and %v", i, u.State(), u.Deleted(), first.State(), first.Deleted())
		}
		if got, want := string(u.AppendJSON(nil)), string(first.AppendJSON(nil)); got != want {
			t.Fatalf("user %d has\n%s\nuser 0\n%s", i, got, want)
		}
		if got, want := string(u.Text("text").Delta().AppendJSON(nil)), string(first.Text("text").Delta().AppendJSON(nil)); got != want {
			t.Fatalf("the text of user %d is\n%s\nof user 0\n%s", i, got, want)
		}
		if got, want := unitsOf(u.text), unitsOf(u.Text("text")); got != want {
			t.Fatalf("by its events the text of user %d is\n%s\nit is\n%s", i, got, want)
		}
		if got, want := fmt.Sprint(plainValue(u.list)), fmt.Sprint(plainValue(u.Array("array").Values())); len(u.list)+u.Array("array").Len() > 0 && got != want {
			t.Fatalf("by its events the array of user %d is\n%s\nit is\n%s", i, got, want)
		}
	}
}

// unitsOf returns a text with each unit by itself: where its parts are divided
// depends on marks that an event need not tell of.
func unitsOf(t Text) string {
	var out strings.Builder
	for _, op := range t.Delta() {
		text, ok := op.Insert.(string)
		if !ok {
			fmt.Fprintf(&out, "%s\n", Delta{op}.AppendJSON(nil))
			continue
		}
		for _, r := range text {
			op.Insert = string(r)
			fmt.Fprintf(&out, "%s\n", Delta{op}.AppendJSON(nil))
		}
	}
	return out.String()
}

// within returns a place in something of that length.
func (u *networkUser) within(length int) int { return u.rnd.IntN(length + 1) }

// some returns a part of something of that length, at most three units.
func (u *networkUser) some(length int) (at, n int) {
	if length == 0 {
		return 0, 0
	}
	at = u.rnd.IntN(length)
	return at, 1 + u.rnd.IntN(min(3, length-at))
}

func (u *networkUser) word() string {
	return strings.Repeat(string(rune('a'+u.rnd.IntN(26))), 1+u.rnd.IntN(4))
}

// families are the edits of each kind of type.
var families = []struct {
	name    string
	actions []func(u *networkUser) error
}{
	{"array", []func(u *networkUser) error{
		func(u *networkUser) error {
			a := u.Array("array")
			return a.Insert(u.within(a.Len()), []any{u.rnd.IntN(1000), u.word(), nil, true}[:1+u.rnd.IntN(4)]...)
		},
		func(u *networkUser) error {
			inner, err := NewArray(1, 2, u.rnd.IntN(9))
			if err != nil {
				return err
			}
			a := u.Array("array")
			return a.Insert(u.within(a.Len()), inner)
		},
		func(u *networkUser) error {
			inner, err := NewMap(Member{Key: "someprop", Value: u.rnd.IntN(9)})
			if err != nil {
				return err
			}
			a := u.Array("array")
			if err := a.Insert(u.within(a.Len()), inner); err != nil {
				return err
			}
			return inner.Set("someprop", 44)
		},
		func(u *networkUser) error { return u.Array("array").Push(u.word()) },
		func(u *networkUser) error {
			a := u.Array("array")
			at, n := u.some(a.Len())
			if n == 0 {
				return nil
			}
			if v, _ := a.Get(at); u.rnd.IntN(2) == 0 {
				if inner, ok := v.(Array); ok && inner.Len() > 0 {
					return inner.Delete(u.rnd.IntN(inner.Len()), 1)
				}
			}
			return a.Delete(at, n)
		},
	}},
	{"map", []func(u *networkUser) error{
		func(u *networkUser) error { return u.Map("map").Set([]string{"one", "two"}[u.rnd.IntN(2)], u.word()) },
		func(u *networkUser) error {
			var v any
			var err error
			if v, err = NewArray(1, 2, 3, 4); u.rnd.IntN(2) == 0 && err == nil {
				v, err = NewMap(Member{Key: "deepkey", Value: "deepvalue"})
			}
			if err != nil {
				return err
			}
			return u.Map("map").Set([]string{"one", "two"}[u.rnd.IntN(2)], v)
		},
		func(u *networkUser) error {
			if inner, ok := u.Map("map").Get("one"); ok {
				if m, ok := inner.(Map); ok {
					return m.Set(u.word(), u.rnd.IntN(9))
				}
			}
			return u.Map("map").Delete([]string{"one", "two"}[u.rnd.IntN(2)])
		},
	}},
	{"text", []func(u *networkUser) error{
		func(u *networkUser) error { t := u.Text("text"); return t.Insert(u.within(t.Len()), u.word(), nil) },
		func(u *networkUser) error {
			t := u.Text("text")
			at, n := u.some(t.Len())
			return t.Delete(at, n)
		},
	}},
	{"quill", []func(u *networkUser) error{
		func(u *networkUser) error {
			t := u.Text("text")
			return t.Insert(u.within(t.Len()), u.word(), []Attributes{nil, {}, {"bold": true}, {"italic": true}, {"bold": true, "color": "#888"}}[u.rnd.IntN(5)])
		},
		func(u *networkUser) error {
			t := u.Text("text")
			return t.InsertEmbed(u.within(t.Len()), map[string]any{"image": u.word()}, []Attributes{nil, {"width": u.rnd.IntN(99)}}[u.rnd.IntN(2)])
		},
		func(u *networkUser) error {
			t := u.Text("text")
			at, n := u.some(t.Len())
			return t.Delete(at, n)
		},
		func(u *networkUser) error {
			t := u.Text("text")
			at, n := u.some(t.Len())
			return t.Format(at, n, []Attributes{{"bold": true}, {"bold": nil}, {"italic": true}, {"color": "#" + u.word()}, {"color": nil, "italic": nil}}[u.rnd.IntN(5)])
		},
		func(u *networkUser) error { // a code block: an empty line with a format, as an editor makes it
			t := u.Text("text")
			at := u.within(t.Len())
			if err := t.Insert(at, "\n\n", nil); err != nil {
				return err
			}
			return t.Format(at, 1, Attributes{"code-block": true})
		},
	}},
	{"xml", []func(u *networkUser) error{
		func(u *networkUser) error {
			x := u.XMLFragment("xml")
			return x.Insert(u.within(x.Len()), NewXMLText(u.word()))
		},
		func(u *networkUser) error {
			e, err := NewXMLElement(u.word(), NewXMLText("x"))
			if err != nil {
				return err
			}
			x := u.XMLFragment("xml")
			if err := x.Insert(u.within(x.Len()), e); err != nil {
				return err
			}
			return e.SetAttribute("class", u.word())
		},
		func(u *networkUser) error {
			x := u.XMLFragment("xml")
			for node := range x.Children() {
				if e, ok := node.(XMLElement); ok && u.rnd.IntN(2) == 0 {
					if e.Len() > 0 && u.rnd.IntN(2) == 0 {
						return e.Delete(0, 1)
					}
					return e.Insert(u.within(e.Len()), NewXMLText(u.word()))
				}
			}
			at, n := u.some(x.Len())
			return x.Delete(at, n)
		},
	}},
}

func TestRandomFamilies(t *testing.T) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 0))
			for _, steps := range []int{6, 40, 42, 44, 46, 120, 300, 400} {
				for range 1 + histories(t, 400)/steps/8 {
					net := newNetwork(t, rnd, 2+rnd.IntN(4))
					for range steps {
						net.step(family.actions)
					}
					net.settle()
					net.compare()
				}
			}
		})
	}
}
