package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// salesSchema has one aggregate with all there is.
func salesSchema(def engine.AggregateDef) engine.Schema {
	return engine.Schema{Tables: []engine.TableDef{{Name: "sales", Aggregates: []engine.AggregateDef{def}}}}
}

var salesDef = engine.AggregateDef{Name: "by_shop", GroupBy: []string{"shop"}, OrderBy: []string{"day"}, Sum: "bill.price", Ranked: true}

func openSales(t testing.TB, fs vfs.FS, def engine.AggregateDef) *engine.DB {
	t.Helper()
	db, err := engine.Open("db", salesSchema(def), &engine.Options{FS: fs, Seed: 1, FunctionTimeMax: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil && !errors.Is(err, engine.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// someSale makes the fields of a document: few shops and days, prices of all
// kinds and none.
func someSale(rnd *rand.Rand) value.Value {
	var price value.Value
	switch rnd.IntN(8) {
	case 0: // none
	case 1:
		price = value.String("free")
	case 2:
		price = value.Float64([]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 1e300}[rnd.IntN(5)])
	case 3, 4:
		price = value.Int64(rnd.Int64N(100) - 20)
	default:
		price = value.Float64(float64(rnd.IntN(10_000)) / 100)
	}
	return value.Object(
		value.Field{Name: "shop", Value: value.String(fmt.Sprintf("shop %d", rnd.IntN(6)*rnd.IntN(6)))},
		value.Field{Name: "day", Value: value.Float64(float64(rnd.IntN(5)))},
		value.Field{Name: "bill", Value: value.Object(value.Field{Name: "price", Value: price})},
	)
}

// sales are all documents a transaction sees, in the order of the aggregate.
func sales(tx *engine.Tx, t *engine.Table) ([]engine.Document, error) {
	var docs []engine.Document
	for d, err := range tx.Scan(t.Index(engine.IndexByCreationTime), engine.Range{}, false) {
		if err != nil {
			return nil, err
		}
		docs = append(docs, d)
	}
	slices.SortFunc(docs, func(a, b engine.Document) int {
		for _, f := range []string{"shop", "day"} {
			if c := value.Compare(a.Fields.Path(f), b.Fields.Path(f)); c != 0 {
				return c
			}
		}
		if a.CreationTime != b.CreationTime {
			if a.CreationTime < b.CreationTime {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.ID.Key[:], b.ID.Key[:])
	})
	return docs, nil
}

// someRange draws a range of the aggregate and returns the documents in it.
func someRange(rnd *rand.Rand, docs []engine.Document) (r engine.Range, in []engine.Document) {
	keep := func(path string, ok func(c int) bool, v value.Value) {
		in = slices.DeleteFunc(slices.Clone(in), func(d engine.Document) bool { return !ok(value.Compare(d.Fields.Path(path), v)) })
	}
	in = docs
	next := "shop"
	some := func() value.Value {
		if next == "shop" {
			return value.String(fmt.Sprintf("shop %d", rnd.IntN(8)))
		}
		return value.Float64(float64(rnd.IntN(6)))
	}
	if rnd.IntN(2) == 0 {
		v := some()
		r.Eq = append(r.Eq, v)
		keep(next, func(c int) bool { return c == 0 }, v)
		next = "day"
	}
	if rnd.IntN(3) == 0 {
		v, inclusive := some(), rnd.IntN(2) == 0
		r.Lower = &engine.Bound{Value: v, Inclusive: inclusive}
		keep(next, func(c int) bool { return c > 0 || inclusive && c == 0 }, v)
	}
	if rnd.IntN(3) == 0 {
		v, inclusive := some(), rnd.IntN(2) == 0
		r.Upper = &engine.Bound{Value: v, Inclusive: inclusive}
		keep(next, func(c int) bool { return c < 0 || inclusive && c == 0 }, v)
	}
	return r, in
}

// checkSales holds the aggregate against the documents of the transaction.
func checkSales(tx *engine.Tx, t *engine.Table, rnd *rand.Rand) error {
	docs, err := sales(tx, t)
	if err != nil {
		return err
	}
	a := t.Aggregate("by_shop")
	if err := checkTop(tx, a, rnd.IntN(20), docs); err != nil {
		return err
	}
	for range 3 {
		if err := checkWithout(tx, a, rnd, docs); err != nil {
			return err
		}
		if err := checkDocuments(tx, a, rnd, docs); err != nil {
			return err
		}
		r, in := someRange(rnd, docs)
		if n, err := tx.Count(a, r); err != nil || n != int64(len(in)) {
			return fmt.Errorf("count of %+v: got %d, %v, want %d", r, n, err, len(in))
		}
		if err := checkTotal(tx, a, r, in); err != nil {
			return err
		}
		desc := rnd.IntN(2) == 0
		if desc {
			in = slices.Clone(in)
			slices.Reverse(in)
		}
		offset := rnd.IntN(len(in) + 1)
		d, ok, err := tx.DocumentAt(a, r, int64(offset), desc)
		if err != nil || ok != (offset < len(in)) || ok && (d.ID != in[offset].ID || !value.Equal(d.Fields, in[offset].Fields)) {
			return fmt.Errorf("document %d of %+v, reverse %v: got %v, %v, %v, want it of %d", offset, r, desc, d, ok, err, len(in))
		}
		if len(docs) == 0 {
			continue
		}
		d = docs[rnd.IntN(len(docs))]
		want := slices.IndexFunc(in, func(o engine.Document) bool { return o.ID == d.ID })
		rank, ok, err := tx.Rank(a, r, d.ID, desc)
		if err != nil || ok != (want >= 0) || ok && rank != int64(want) {
			return fmt.Errorf("rank of %v in %+v, reverse %v: got %d, %v, %v, want %d", d, r, desc, rank, ok, err, want)
		}
	}
	return nil
}

// checkTop compares the n largest groups, and the number of all, with the
// documents, which are in the order of groups. There are those in without too, which
// are not to count.
func checkTop(tx *engine.Tx, a *engine.Aggregate, n int, docs []engine.Document, without ...engine.Document) error {
	var want []engine.GroupCount
	for _, d := range docs {
		shop := d.Fields.Get("shop")
		if last := len(want) - 1; last >= 0 && value.Equal(want[last].Group[0], shop) {
			want[last].Count++
		} else {
			want = append(want, engine.GroupCount{Group: []value.Value{shop}, Count: 1})
		}
	}
	total := int64(len(want))
	if groups, err := tx.CountGroups(a, without...); err != nil || groups != total {
		return fmt.Errorf("number of groups: got %d, %v, want %d", groups, err, total)
	}
	slices.SortStableFunc(want, func(x, y engine.GroupCount) int { return int(y.Count - x.Count) })
	want = want[:min(n, len(want))]
	same := func(x, y engine.GroupCount) bool {
		return x.Count == y.Count && slices.EqualFunc(x.Group, y.Group, value.Equal)
	}
	top, err := tx.Top(a, n, without...)
	if err != nil || !slices.EqualFunc(top, want, same) {
		return fmt.Errorf("top %d: got %v, %v, want %v", n, top, err, want)
	}
	top, groups, err := tx.TopAndGroups(a, n, without...)
	if err != nil || groups != total || !slices.EqualFunc(top, want, same) {
		return fmt.Errorf("top %d of all groups: got %v of %d, %v, want %v of %d", n, top, groups, err, want, total)
	}
	return nil
}

func checkTotal(tx *engine.Tx, a *engine.Aggregate, r engine.Range, in []engine.Document) error {
	total, err := tx.Total(a, r)
	if err != nil {
		return err
	}
	var least, most value.Value
	sum, float, special, numbers := new(big.Rat), false, 0.0, int64(0)
	for _, d := range in {
		v := d.Fields.Path("bill.price")
		i, isInt := v.AsInt64()
		f, isFloat := v.AsFloat64()
		switch {
		case isInt:
			sum.Add(sum, new(big.Rat).SetInt64(i))
		case isFloat && (math.IsInf(f, 0) || f != f):
			special += f
			float = true
		case isFloat:
			sum.Add(sum, new(big.Rat).SetFloat64(f))
			float = true
		default:
			continue
		}
		if numbers++; numbers == 1 || value.Compare(v, least) < 0 {
			least = v
		}
		if numbers == 1 || value.Compare(v, most) > 0 {
			most = v
		}
	}
	f, _ := sum.Float64()
	want := value.Float64(f + special)
	if numbers > 0 && !float {
		want = value.Int64(sum.Num().Int64())
	}
	got, err := total.Sum()
	same := value.Equal(got, want)
	if f, ok := want.AsFloat64(); ok && f != f {
		f, _ := got.AsFloat64()
		same = f != f
	}
	if err != nil || !same || total.Count != int64(len(in)) || total.Numbers != numbers || !value.Equal(total.Min, least) || !value.Equal(total.Max, most) {
		return fmt.Errorf("total of %+v: got %+v with sum %v, %v, want count %d, numbers %d, sum %v, least %v, greatest %v",
			r, total, got, err, len(in), numbers, want, least, most)
	}
	return nil
}

// changeSales inserts, changes and removes some documents.
func changeSales(tx *engine.Tx, t *engine.Table, rnd *rand.Rand, most int) error {
	docs, err := sales(tx, t)
	if err != nil {
		return err
	}
	for range rnd.IntN(most) {
		kind := rnd.IntN(8)
		if len(docs) == 0 || kind < 4 {
			if _, err := tx.Insert(t, someSale(rnd)); err != nil {
				return err
			}
			continue
		}
		i := rnd.IntN(len(docs))
		id, fresh := docs[i].ID, someSale(rnd)
		switch kind {
		case 4:
			err = tx.Replace(t, id, fresh)
		case 5, 6: // the price alone: no key moves
			err = tx.Patch(t, id, value.Object(value.Field{Name: "bill", Value: fresh.Get("bill")}))
		default:
			err = tx.Delete(t, id)
			docs = slices.Delete(docs, i, i+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestAggregateAgainstDocuments changes documents in transactions of one after
// the other and holds the aggregate against them, in the middle of each
// transaction, afterwards, and when the database was opened again.
func TestAggregateAgainstDocuments(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			fs := vfs.NewMem()
			salesDef := salesDef
			salesDef.Ranked = seed%2 == 0
			db := openSales(t, fs, salesDef)
			for round := range 40 {
				if round%15 == 14 {
					if err := db.Close(); err != nil {
						t.Fatal(err)
					}
					db = openSales(t, fs, salesDef)
				}
				table := db.Table("sales")
				mutate(t, db, func(tx *engine.Tx) error {
					for range 3 {
						if err := changeSales(tx, table, rnd, 12); err != nil {
							return err
						}
						if err := checkSales(tx, table, rnd); err != nil {
							return err
						}
					}
					return nil
				})
				query(t, db, func(tx *engine.Tx) error { return checkSales(tx, table, rnd) })
			}
			verify(t, db)
		})
	}
}

// TestAggregateInTurn does the same in transactions that all conflict, so that
// most run in the committer's turn on top of what others of their group did.
func TestAggregateInTurn(t *testing.T) {
	db := openSales(t, vfs.NewMem(), salesDef)
	table := db.Table("sales")
	var clients sync.WaitGroup
	for client := range uint64(6) {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(client, 2))
			for range 15 {
				seed := rnd.Uint64()
				_, err := db.Mutate(context.Background(), engine.Call{Name: "change"}, func(tx *engine.Tx) ([]byte, error) {
					rnd := rand.New(rand.NewPCG(seed, 3)) // the same in every attempt
					if err := checkSales(tx, table, rnd); err != nil {
						return nil, err
					}
					if err := changeSales(tx, table, rnd, 6); err != nil {
						return nil, err
					}
					return nil, checkSales(tx, table, rnd)
				})
				if err != nil {
					t.Errorf("client %d: %v", client, err)
					return
				}
			}
		})
	}
	clients.Wait()
	verify(t, db)
}

// TestAggregateAtOldSnapshot holds a state while a thousand transactions change
// everything, files are flushed and rewritten and caches forget: the aggregate is
// still that of the documents there were, and now that of those there are.
func TestAggregateAtOldSnapshot(t *testing.T) {
	for name, cache := range map[string]int{"no cache": 1, "small cache": 64 << 10, "cache": 16 << 20} {
		t.Run(name, func(t *testing.T) {
			db := enginetest.OpenWith(t, salesSchema(salesDef), engine.Options{Seed: 1, AggregateCacheBytes: cache, RowCacheBytes: cache, CacheBytes: 1 << 20})
			table := db.Table("sales")
			rnd := rand.New(rand.NewPCG(7, uint64(cache)))
			for range 20 {
				mutate(t, db, func(tx *engine.Tx) error { return changeSales(tx, table, rnd, 40) })
			}
			changes := fewer(1000, 200)
			query(t, db, func(old *engine.Tx) error {
				before, err := sales(old, table)
				if err != nil {
					return err
				}
				for i := range changes {
					mutate(t, db, func(tx *engine.Tx) error { return changeSales(tx, table, rnd, 2) })
					if i%(changes/4) == 0 {
						if err := db.Compact(t.Context()); err != nil {
							return err
						}
						if err := checkSales(old, table, rnd); err != nil {
							return fmt.Errorf("as of before, after %d changes: %w", i+1, err)
						}
					}
				}
				query(t, db, func(tx *engine.Tx) error {
					if tx.At() <= old.At() {
						t.Errorf("the newest state is at %d, the one held at %d", tx.At(), old.At())
					}
					return checkSales(tx, table, rnd)
				})
				after, err := sales(old, table)
				if err != nil {
					return err
				}
				if !slices.EqualFunc(before, after, func(a, b engine.Document) bool { return a.ID == b.ID && value.Equal(a.Fields, b.Fields) }) {
					t.Errorf("the state held has other documents now: %d, before %d", len(after), len(before))
				}
				return checkSales(old, table, rnd)
			})
			verify(t, db)
		})
	}
}

// TestSumOfInt64s goes past the range of a sum and back: nothing is refused or
// lost on the way, only the answer cannot be given.
func TestSumOfInt64s(t *testing.T) {
	db := openSales(t, vfs.NewMem(), salesDef)
	table := db.Table("sales")
	price := func(n int64) value.Value {
		return value.Object(value.Field{Name: "shop", Value: value.String("s")},
			value.Field{Name: "bill", Value: value.Object(value.Field{Name: "price", Value: value.Int64(n)})})
	}
	sum := func(tx *engine.Tx) (value.Value, error) {
		total, err := tx.Total(table.Aggregate("by_shop"), engine.Range{})
		if err != nil {
			return value.Value{}, err
		}
		if !value.Equal(total.Max, value.Int64(math.MaxInt64)) {
			return value.Value{}, fmt.Errorf("greatest is %v", total.Max)
		}
		return total.Sum()
	}
	var second value.ID
	mutate(t, db, func(tx *engine.Tx) (err error) {
		if _, err = tx.Insert(table, price(math.MaxInt64)); err != nil {
			return err
		}
		if second, err = tx.Insert(table, price(math.MaxInt64)); err != nil {
			return err
		}
		if _, err := sum(tx); !errors.Is(err, engine.ErrSumRange) {
			return fmt.Errorf("inside: %v, want ErrSumRange", err)
		}
		return nil
	})
	query(t, db, func(tx *engine.Tx) error {
		if _, err := sum(tx); !errors.Is(err, engine.ErrSumRange) {
			return fmt.Errorf("committed: %v, want ErrSumRange", err)
		}
		return nil
	})
	mutate(t, db, func(tx *engine.Tx) error { return tx.Replace(table, second, price(-1)) })
	query(t, db, func(tx *engine.Tx) error {
		if v, err := sum(tx); err != nil || !value.Equal(v, value.Int64(math.MaxInt64-1)) {
			return fmt.Errorf("back in range: %v, %v", v, err)
		}
		return nil
	})
}

func TestTotalRejects(t *testing.T) {
	plain := engine.AggregateDef{Name: "by_shop", GroupBy: []string{"shop"}}
	db := openSales(t, vfs.NewMem(), plain)
	query(t, db, func(tx *engine.Tx) error {
		a := db.Table("sales").Aggregate("by_shop")
		if _, err := tx.Total(a, engine.Range{}); !errors.Is(err, engine.ErrNoSum) {
			return fmt.Errorf("total without a sum: got %v, want ErrNoSum", err)
		}
		two := engine.Range{Eq: []value.Value{value.String("a"), value.Float64(1), value.Float64(2)}}
		var rangeErr *engine.RangeError
		if _, _, err := tx.DocumentAt(a, two, 0, false); !errors.As(err, &rangeErr) {
			return fmt.Errorf("document by offset: got %v, want a RangeError", err)
		}
		if _, ok, err := tx.DocumentAt(a, engine.Range{}, -1, false); ok || err != nil {
			return fmt.Errorf("document before the first: got %v, %v", ok, err)
		}
		if _, ok, err := tx.Rank(a, engine.Range{}, value.ID{}, false); ok || err != nil {
			return fmt.Errorf("rank of nothing: got %v, %v", ok, err)
		}
		return nil
	})
	plain.Sum = "_creationTime"
	if _, err := engine.Open("db", salesSchema(plain), &engine.Options{FS: vfs.NewMem()}); err == nil {
		t.Error("a sum of a reserved field is accepted")
	}
}

// TestAggregateRedeclared opens one database with declaration after declaration.
// What changed is built again, from documents that were there before.
func TestAggregateRedeclared(t *testing.T) {
	fs := vfs.NewMem()
	rnd := rand.New(rand.NewPCG(1, 5))
	plain := engine.AggregateDef{Name: "by_shop", GroupBy: []string{"shop"}, OrderBy: []string{"day"}}
	sum, other, ranked, both := plain, plain, plain, salesDef
	sum.Sum, other.Sum, ranked.Ranked = "bill.price", "day", true
	for i, step := range []struct {
		name string
		def  engine.AggregateDef
	}{
		{"plain", plain}, {"with a sum", sum}, {"another sum", other}, {"ranked", ranked}, {"both", both},
		{"without the ranking", sum}, {"both again", both}, {"as it is", both}, {"plain again", plain},
	} {
		t.Run(step.name, func(t *testing.T) {
			db := openSales(t, fs, step.def)
			table := db.Table("sales")
			a := table.Aggregate("by_shop")
			check := func(tx *engine.Tx) error {
				docs, err := sales(tx, table)
				if err != nil {
					return err
				}
				if err := checkTop(tx, a, 10, docs); err != nil {
					return err
				}
				total, err := tx.Total(a, engine.Range{})
				switch step.def.Sum {
				case "":
					if !errors.Is(err, engine.ErrNoSum) {
						return fmt.Errorf("total: got %v, want ErrNoSum", err)
					}
					return nil
				case "bill.price":
					return checkTotal(tx, a, engine.Range{}, docs)
				}
				if err != nil || total.Numbers != int64(len(docs)) {
					return fmt.Errorf("total of days: got %+v, %v, want %d numbers", total, err, len(docs))
				}
				return nil
			}
			query(t, db, check)
			verify(t, db)
			// The first round makes more documents than a chunk of a build has.
			for range max(1, 24-24*i) {
				mutate(t, db, func(tx *engine.Tx) error {
					for range 50 {
						if _, err := tx.Insert(table, someSale(rnd)); err != nil {
							return err
						}
					}
					return nil
				})
			}
			mutate(t, db, func(tx *engine.Tx) error { return changeSales(tx, table, rnd, 10) })
			query(t, db, check)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestRankingOfManyGroups builds the ranking of more groups than a chunk of a
// build has, and lets groups come, go and change places.
func TestRankingOfManyGroups(t *testing.T) {
	fs := vfs.NewMem()
	def := engine.AggregateDef{Name: "by_shop", GroupBy: []string{"shop", "day"}}
	db := openSales(t, fs, def)
	table := db.Table("sales")
	const groups = 700
	sale := func(n int) value.Value {
		return fields("shop", fmt.Sprintf("s%d", n%10), "day", n)
	}
	ids := map[int][]value.ID{}
	add := func(tx *engine.Tx, n int) error {
		id, err := tx.Insert(table, sale(n))
		ids[n] = append(ids[n], id)
		return err
	}
	for from := 0; from < groups; from += 100 {
		mutate(t, db, func(tx *engine.Tx) error {
			for n := from; n < from+100; n++ {
				for range 1 + n%3 {
					if err := add(tx, n); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	def.Ranked = true
	db = openSales(t, fs, def)
	waitBuilt(t, db)
	table = db.Table("sales")
	a := table.Aggregate("by_shop")
	expect := func(groups, first int, counts ...int64) {
		t.Helper()
		query(t, db, func(tx *engine.Tx) error {
			n, err := tx.CountGroups(a)
			if err != nil || n != int64(groups) {
				return fmt.Errorf("number of groups: got %d, %v, want %d", n, err, groups)
			}
			top, err := tx.Top(a, len(counts))
			if err != nil || len(top) != len(counts) {
				return fmt.Errorf("top: got %v, %v, want %d groups", top, err, len(counts))
			}
			for i, g := range top {
				if g.Count != counts[i] {
					return fmt.Errorf("group %d is %v, want a count of %d", i, g, counts[i])
				}
			}
			if day, _ := top[0].Group[1].AsFloat64(); day != float64(first) {
				return fmt.Errorf("first is %v, want day %d", top[0], first)
			}
			return nil
		})
	}
	expect(groups, 20, 3, 3, 3)
	mutate(t, db, func(tx *engine.Tx) error { return errors.Join(add(tx, 472), add(tx, groups), add(tx, 472)) })
	expect(groups+1, 472, 4, 3)
	mutate(t, db, func(tx *engine.Tx) error {
		for _, id := range ids[472] {
			if err := tx.Delete(table, id); err != nil {
				return err
			}
		}
		return nil
	})
	expect(groups, 20, 3, 3)
	verify(t, db)

	// The groups of one shop, as a transaction sees them that adds to one, adds one
	// and takes one away.
	mutate(t, db, func(tx *engine.Tx) error {
		if err := errors.Join(add(tx, 13), add(tx, groups+3)); err != nil {
			return err
		}
		for _, id := range ids[23] {
			if err := tx.Delete(table, id); err != nil {
				return err
			}
		}
		var got, want []string
		for g, err := range tx.Groups(a, value.String("s3")) {
			if err != nil {
				return err
			}
			got = append(got, fmt.Sprint(g.Group, g.Count))
		}
		for n := 3; n <= groups+3; n += 10 {
			count := 1 + n%3
			switch n {
			case 13:
				count++
			case 23:
				continue
			case groups + 3:
				count = 1
			}
			want = append(want, fmt.Sprint([]value.Value{value.String("s3"), value.Float64(float64(n))}, count))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("groups of a shop (-want +got):\n%s", diff)
		}
		for _, err := range tx.Groups(a, value.String("s3"), value.Float64(3), value.Float64(0)) {
			if err == nil {
				return errors.New("groups of more values than they have: no error")
			}
		}
		return nil
	})
}

// TestTopRunsWhenTheTopChanges counts the runs of live queries: they depend on
// the groups they show, not on every document.
func TestTopRunsWhenTheTopChanges(t *testing.T) {
	db := openSales(t, vfs.NewMem(), salesDef)
	table := db.Table("sales")
	a := table.Aggregate("by_shop")
	sell := func(shop string, n int) {
		mutate(t, db, func(tx *engine.Tx) error {
			for range n {
				if _, err := tx.Insert(table, fields("shop", shop)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	sell("a", 9)
	sell("b", 7)
	sell("c", 3)
	ready := make(chan struct{}, 1)
	set := db.NewQuerySet(func() {
		select {
		case ready <- struct{}{}:
		default:
		}
	})
	defer set.Close()
	runs := map[string]*atomic.Int64{"top": {}, "groups": {}}
	set.Add(1, engine.LiveQuery{Key: "top", Run: func(tx *engine.Tx) []byte {
		runs["top"].Add(1)
		top, err := tx.Top(a, 2)
		return fmt.Appendf(nil, "%v %v", top, err)
	}})
	set.Add(2, engine.LiveQuery{Key: "groups", Run: func(tx *engine.Tx) []byte {
		runs["groups"].Add(1)
		n, err := tx.CountGroups(a)
		return fmt.Appendf(nil, "%d %v", n, err)
	}})
	// round waits for the results at the newest state.
	last := engine.Timestamp(0)
	round := func() {
		t.Helper()
		for at := db.Durable(); last < at; {
			if r, ok := set.Poll(at); ok {
				last = r.At
			} else {
				<-ready
			}
		}
	}
	round()
	tests := []struct {
		name        string
		change      func()
		top, groups int64 // runs that it costs
	}{
		{"nothing", func() {}, 0, 0},
		{"a small group grows", func() { sell("c", 1) }, 0, 0},
		{"a new small group", func() { sell("d", 1) }, 0, 1},
		{"a group of the top grows", func() { sell("b", 1) }, 1, 0},
		{"a small group comes to the top", func() { sell("c", 5) }, 1, 0},
		{"and the one it replaced changes", func() { sell("b", 1); sell("b", 1) }, 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			top, groups := runs["top"].Load(), runs["groups"].Load()
			tt.change()
			round()
			top, groups = runs["top"].Load()-top, runs["groups"].Load()-groups
			// Two commits may be one run.
			if top > tt.top || tt.top > 0 && top == 0 || groups != tt.groups {
				t.Errorf("the top was run %d times and the number of groups %d, want %d and %d", top, groups, tt.top, tt.groups)
			}
		})
	}
}

func TestRankedNeedsGroups(t *testing.T) {
	def := engine.AggregateDef{Name: "all", Ranked: true}
	if _, err := engine.Open("db", salesSchema(def), &engine.Options{FS: vfs.NewMem()}); err == nil {
		t.Error("a ranked aggregate without groups is accepted")
	}
}
