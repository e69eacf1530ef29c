package halcyon_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Score is a document of the table scores.
type Score struct {
	ID     halcyon.ID[Score] `halcyon:"id"`
	Game   string            `json:"game"`
	Player string            `json:"player"`
	Points int               `json:"points"`
	Coins  int64             `json:"coins"`
	Bonus  *float64          `json:"bonus"`
}

var scores = halcyon.NewTable[Score]("scores").
	Aggregate("points", halcyon.GroupBy("game"), halcyon.OrderBy("points"), halcyon.Sum("points"), halcyon.Ranked()).
	Aggregate("walk", halcyon.GroupBy("game")).
	Aggregate("coins", halcyon.Sum("coins")).
	Aggregate("bonus", halcyon.Sum("bonus"))

// inScores runs f in a mutation of an app with the table scores.
func inScores(t testing.TB, f func(tx *halcyon.Tx) error) {
	t.Helper()
	m := halcyon.NewModule("games", scores)
	m.Mutation("run", f)
	app, err := halcyon.NewApp(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := app.Run(context.Background(), "games:run", nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestCounterTotals(t *testing.T) {
	inScores(t, func(tx *halcyon.Tx) error {
		points := scores.Count("points")
		if sum, err := points.Sum(tx); sum != 0 || err != nil {
			t.Errorf("sum of nothing: %v, %v", sum, err)
		}
		if _, ok, err := points.Min(tx); ok || err != nil {
			t.Errorf("least of nothing: %v, %v", ok, err)
		}
		bonus := 0.5
		for i, p := range []int{30, 10, 20, 10, 40} {
			s := Score{Game: fmt.Sprintf("g%d", i%2), Points: p, Coins: 1 << 60}
			if i > 2 {
				s.Bonus = &bonus
			}
			if _, err := scores.Insert(tx, s); err != nil {
				return err
			}
		}
		for name, tt := range map[string]struct {
			counter         halcyon.Counter[Score]
			sum, least, max float64
		}{
			"all":   {points, 110, 10, 40},
			"group": {points.Eq("g0"), 90, 20, 40},
			"range": {points.Eq("g0").Gt(20).Lt(40), 30, 30, 30},
			"bonus": {scores.Count("bonus"), 1, 0.5, 0.5},
		} {
			sum, err1 := tt.counter.Sum(tx)
			least, ok1, err2 := tt.counter.Min(tx)
			most, ok2, err3 := tt.counter.Max(tx)
			if err := errors.Join(err1, err2, err3); err != nil || !ok1 || !ok2 || sum != tt.sum || least != tt.least || most != tt.max {
				t.Errorf("%s: got %v, %v, %v, %v, want %v, %v, %v", name, sum, least, most, err, tt.sum, tt.least, tt.max)
			}
		}
		total, err := scores.Count("bonus").Total(tx)
		if err != nil || total.Count != 5 || total.Numbers != 2 {
			t.Errorf("total of a field that is missing in some: %+v, %v", total, err)
		}
		// 5 << 60 is within int64, 9 << 60 is not.
		total, err = scores.Count("coins").Total(tx)
		if err != nil || !value.Equal(total.Sum, value.Int64(5<<60)) {
			t.Errorf("sum of int64: %+v, %v", total, err)
		}
		if _, err := scores.Insert(tx, Score{Coins: math.MaxInt64}); err != nil {
			return err
		}
		if _, err := scores.Count("coins").Sum(tx); !errors.Is(err, engine.ErrSumRange) {
			t.Errorf("sum beyond int64: %v", err)
		}
		if most, ok, err := scores.Count("coins").Max(tx); !ok || err != nil || most != 1<<63 {
			t.Errorf("greatest of int64: %v, %v, %v", most, ok, err)
		}
		if _, err := scores.Count("walk").Sum(tx); !errors.Is(err, engine.ErrNoSum) {
			t.Errorf("sum of an aggregate without: %v", err)
		}
		return nil
	})
}

func TestCounterOrder(t *testing.T) {
	inScores(t, func(tx *halcyon.Tx) error {
		ids := map[int]halcyon.ID[Score]{}
		for _, p := range []int{30, 10, 20, 40} {
			id, err := scores.Insert(tx, Score{Game: "g", Points: p})
			if err != nil {
				return err
			}
			ids[p] = id
		}
		other, err := scores.Insert(tx, Score{Game: "h", Points: 15})
		if err != nil {
			return err
		}
		game := scores.Count("points").Eq("g")
		for i, want := range []int{10, 20, 30, 40} {
			s, ok, err := game.At(tx, int64(i))
			if err != nil || !ok || s.Points != want || s.ID != ids[want] {
				t.Errorf("at %d: %+v, %v, %v, want %d", i, s, ok, err, want)
			}
			if s, ok, err := game.Desc().At(tx, int64(3-i)); err != nil || !ok || s.Points != want {
				t.Errorf("at %d from the end: %+v, %v, %v, want %d", 3-i, s, ok, err, want)
			}
			if rank, ok, err := game.Rank(tx, ids[want]); err != nil || !ok || rank != int64(i) {
				t.Errorf("rank of %d: %d, %v, %v, want %d", want, rank, ok, err, i)
			}
			if rank, ok, err := game.Desc().Rank(tx, ids[want]); err != nil || !ok || rank != int64(3-i) {
				t.Errorf("rank of %d from the end: %d, %v, %v, want %d", want, rank, ok, err, 3-i)
			}
		}
		if _, ok, err := game.At(tx, 4); ok || err != nil {
			t.Errorf("at the end: %v, %v", ok, err)
		}
		if _, ok, err := game.Rank(tx, other); ok || err != nil {
			t.Errorf("rank in another group: %v, %v", ok, err)
		}
		if _, _, err := game.Rank(tx, "nonsense"); err == nil {
			t.Error("rank of what is no id: no error")
		}
		return nil
	})
}

func TestCounterTop(t *testing.T) {
	inScores(t, func(tx *halcyon.Tx) error {
		for i := range 30 {
			if _, err := scores.Insert(tx, Score{Game: fmt.Sprintf("g%d", i%7%4)}); err != nil {
				return err
			}
		}
		// Of g0 to g3: 9, 9, 8 and 4.
		for _, name := range []string{"points", "walk"} {
			counter := scores.Count(name)
			top, err := counter.Top(tx, 3)
			if err != nil {
				return err
			}
			var got []string
			for _, g := range top {
				var game string
				if err := g.Decode(&game); err != nil {
					return err
				}
				got = append(got, fmt.Sprintf("%s %d", game, g.Count))
			}
			if s := strings.Join(got, ", "); s != "g0 9, g1 9, g2 8" {
				t.Errorf("top of %s: %s", name, s)
			}
			if n, err := counter.CountGroups(tx); err != nil || n != 4 {
				t.Errorf("groups of %s: %d, %v", name, n, err)
			}
			if _, err := counter.Eq("g0").Top(tx, 1); err == nil {
				t.Errorf("top of a narrowed %s: no error", name)
			}
			if _, err := counter.Eq("g0").CountGroups(tx); err == nil {
				t.Errorf("groups of a narrowed %s: no error", name)
			}
		}
		return nil
	})
}

func TestAggregatesThatCanNotBe(t *testing.T) {
	table := func(options ...halcyon.AggregateOption) *halcyon.Table[Score] {
		return halcyon.NewTable[Score]("scores").Aggregate("a", options...)
	}
	for want, table := range map[string]*halcyon.Table[Score]{
		"no field":      table(halcyon.Sum("weight")),
		"not a number":  table(halcyon.Sum("game")),
		"has no groups": table(halcyon.OrderBy("points"), halcyon.Ranked()),
	} {
		if _, err := halcyon.NewApp(halcyon.NewModule("games", table)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error saying %q", err, want)
		}
	}
}

func ExampleCounter() {
	type Order struct {
		ID    halcyon.ID[Order] `halcyon:"id"`
		Shop  string            `json:"shop"`
		Price float64           `json:"price"`
	}
	orders := halcyon.NewTable[Order]("orders").
		Aggregate("byPrice", halcyon.GroupBy("shop"), halcyon.OrderBy("price"), halcyon.Sum("price"), halcyon.Ranked())

	m := halcyon.NewModule("shops", orders)
	m.Mutation("fill", func(tx *halcyon.Tx) error {
		for _, order := range []Order{{Shop: "books", Price: 12.5}, {Shop: "tea", Price: 4}, {Shop: "tea", Price: 6.25}, {Shop: "tea", Price: 3}} {
			if _, err := orders.Insert(tx, order); err != nil {
				return err
			}
		}
		return nil
	})
	m.Query("report", func(tx *halcyon.Tx) ([]string, error) {
		tea := orders.Count("byPrice").Eq("tea")
		sum, err := tea.Sum(tx)
		if err != nil {
			return nil, err
		}
		dearest, _, err := tea.Desc().At(tx, 0)
		if err != nil {
			return nil, err
		}
		cheap, err := tea.Lt(5).Count(tx)
		if err != nil {
			return nil, err
		}
		report := []string{fmt.Sprintf("tea for %v, %d below 5, the dearest %v", sum, cheap, dearest.Price)}
		top, err := orders.Count("byPrice").Top(tx, 10)
		for _, group := range top {
			var shop string
			if err := group.Decode(&shop); err != nil {
				return nil, err
			}
			report = append(report, fmt.Sprintf("%s: %d orders", shop, group.Count))
		}
		return report, err
	})

	app, err := halcyon.NewApp(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute}}); err != nil {
		fmt.Println(err)
		return
	}
	defer app.Close()
	var report []string
	if err := errors.Join(app.Run(context.Background(), "shops:fill", nil, nil), app.Run(context.Background(), "shops:report", nil, &report)); err != nil {
		fmt.Println(err)
	}
	fmt.Println(strings.Join(report, "\n"))
	// Output:
	// tea for 13.25, 2 below 5, the dearest 6.25
	// tea: 3 orders
	// books: 1 orders
}

// TestCounterWithoutRows leaves out the first documents of an order.
func TestCounterWithoutRows(t *testing.T) {
	inScores(t, func(tx *halcyon.Tx) error {
		for i, p := range []int{30, 10, 20, 10, 40, 50} {
			if _, err := scores.Insert(tx, Score{Game: []string{"go", "chess"}[min(i%3, 1)], Player: fmt.Sprint("p", i), Points: p}); err != nil {
				return err
			}
		}
		points := scores.Count("points")
		rows, err := points.Eq("chess").Lt(50).Rows(tx, 3)
		if err != nil || len(rows) != 3 {
			t.Fatalf("%d rows, %v; want 3", len(rows), err)
		}
		for i, want := range []string{"p1", "p2", "p4"} {
			if score, err := rows[i].Decode(); err != nil || score.Player != want || score.ID == "" {
				t.Errorf("row %d is %+v, %v; want %s", i, score, err, want)
			}
		}
		rest := points.Without(rows[:1]...).Without(rows[1:]...)
		top, groups, err := rest.TopAndGroups(tx, 5)
		if got := fmt.Sprint(top, groups, err); got != `[{["go"] 2} {["chess"] 1}] 2 <nil>` {
			t.Errorf("top without three of chess: %s", got)
		}
		all, err := points.Top(tx, 1)
		if got := fmt.Sprint(all, err); got != `[{["chess"] 4}] <nil>` {
			t.Errorf("top of all: %s", got)
		}
		if n, err := rest.Eq("chess").Count(tx); n != 1 || err != nil {
			t.Errorf("chess without three: %d, %v", n, err)
		}
		last, err := points.Eq("chess").Gte(50).Rows(tx, 9)
		if err != nil {
			return err
		}
		if n, err := rest.Without(last...).CountGroups(tx); n != 1 || err != nil {
			t.Errorf("groups without all of chess: %d, %v", n, err)
		}
		for g, err := range rest.Eq("chess").Groups(tx) {
			if err != nil || g.Count != 1 {
				t.Errorf("group %v, %v; want 1", g, err)
			}
		}
		if _, err := rest.Sum(tx); err == nil {
			t.Error("a sum without some documents is not refused")
		}
		if _, err := points.Desc().Rows(tx, 1); err == nil {
			t.Error("rows in reverse are not refused")
		}
		return nil
	})
}
