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
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// salesSchema has one aggregate with all there is.
func salesSchema(def engine.AggregateDef) engine.Schema {
	return engine.Schema{Tables: []engine.TableDef{{Name: "sales", Aggregates: []engine.AggregateDef{def}}}}
}

var salesDef = engine.AggregateDef{Name: "by_shop", GroupBy: []string{"shop"}, OrderBy: []string{"day"}, Sum: "bill.price"}

func openSales(t testing.TB, fs vfs.FS, def engine.AggregateDef) *engine.DB {
	t.Helper()
	db, err := engine.Open("db", salesSchema(def), &engine.Options{FS: fs, Seed: 1})
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
	for range 3 {
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
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			fs := vfs.NewMem()
			db := openSales(t, fs, salesDef)
			for round := range 60 {
				if round%20 == 19 {
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
			for range 25 {
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

// TestAggregateAtOldSnapshot holds a snapshot while others change everything.
func TestAggregateAtOldSnapshot(t *testing.T) {
	db := openSales(t, vfs.NewMem(), salesDef)
	table := db.Table("sales")
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 20 {
		mutate(t, db, func(tx *engine.Tx) error { return changeSales(tx, table, rnd, 40) })
	}
	query(t, db, func(tx *engine.Tx) error {
		for range 30 {
			mutate(t, db, func(tx *engine.Tx) error { return changeSales(tx, table, rnd, 10) })
			if err := checkSales(tx, table, rnd); err != nil {
				return err
			}
		}
		return nil
	})
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
