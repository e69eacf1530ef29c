package halcyon

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLists names what two modules declare, also before anything is open.
func TestLists(t *testing.T) {
	type row struct{ N int }
	first := NewModule("first", NewTable[row]("rows"))
	first.Mutation("write", func(*Tx) error { return nil })
	first.Internal.Query("count", func(*Tx) (int, error) { return 0, nil })
	second := NewModule("second", NewTable[row]("rows"))
	second.Action("act", func(*Ctx) error { return nil })
	app, err := NewApp(second, first)
	if err != nil {
		t.Fatal(err)
	}
	want := []FunctionInfo{{"first:count", KindQuery, true}, {"first:write", KindMutation, false}, {"second:act", KindAction, false}}
	if diff := cmp.Diff(want, app.Functions()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"second/rows", "first/rows"}, app.TableNames()[:2]); diff != "" {
		t.Error(diff)
	}
}
