package halcyon_test

import (
	"fmt"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// slowMachine is a clock on which every look at it takes a step: each call of the engine takes that long.
type slowMachine struct {
	start time.Time
	step  atomic.Int64
	now   atomic.Int64
}

func (m *slowMachine) Now() time.Time {
	return m.start.Add(time.Duration(m.now.Add(m.step.Load())))
}

func (m *slowMachine) AfterFunc(d time.Duration, f func()) (stop func()) {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// What the App does by itself, in batches, ends on a machine on which a whole batch takes longer than a function may.
func TestBatchesOnASlowMachine(t *testing.T) {
	machine := &slowMachine{start: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
	machine.step.Store(int64(20 * time.Millisecond)) // fifty calls of the engine in a second
	slow := halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), Clock: machine, FunctionTimeMax: time.Second}}
	app := openApp(t, slow, halcyon.NewModule("shop", parts))
	some := func(from, n int) iter.Seq2[value.Value, error] {
		return func(yield func(value.Value, error) bool) {
			for i := from; i < from+n; i++ {
				if v, err := value.ParseJSON(fmt.Appendf(nil, `{"name":"n","price":%d}`, i)); !yield(v, err) {
					return
				}
			}
		}
	}
	const n = 300
	for _, tt := range []struct {
		mode halcyon.ImportMode
		from int
		want halcyon.Imported
	}{
		{halcyon.ImportEmpty, 0, halcyon.Imported{Table: "shop/parts", Taken: 1, Inserted: 1}},
		{halcyon.ImportAppend, 1, halcyon.Imported{Table: "shop/parts", Taken: n, Inserted: n}},
		{halcyon.ImportReplace, 0, halcyon.Imported{Table: "shop/parts", Taken: n, Inserted: n, Removed: n + 1}},
	} {
		count := n
		if tt.mode == halcyon.ImportEmpty {
			count = 1
		}
		got, err := app.Import(t.Context(), "shop/parts", some(tt.from, count), halcyon.ImportOptions{Mode: tt.mode})
		if err != nil || got != tt.want {
			t.Fatalf("%s: %+v, %v, want %+v", tt.mode, got, err, tt.want)
		}
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	// Whether the documents fit is looked at when the struct is another one.
	type part struct {
		Name  string  `json:"name"`
		Price float64 `json:"price"`
		Note  string  `json:"note,omitzero"`
	}
	app = openApp(t, slow, halcyon.NewModule("shop", halcyon.NewTable[part]("parts").Index("by_name", "name").Unique("by_price", "price")))
	machine.step.Store(int64(200 * time.Millisecond)) // it looks at the clock less often
	if err := app.Start(t.Context()); err != nil {
		t.Errorf("whether the documents fit: %v", err)
	}
}
