package aggregate

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// someWeight draws numbers of all kinds, the difficult ones often.
func someWeight() *rapid.Generator[Weight] {
	return rapid.OneOf(
		rapid.Just(Weight{}),
		rapid.Map(rapid.Int64Range(-100, 100), IntWeight),
		rapid.Map(rapid.Int64(), IntWeight),
		rapid.Map(rapid.IntRange(-1000, 1000), func(v int) Weight { return FloatWeight(float64(v)) }),
		rapid.Map(rapid.IntRange(-1000, 1000), func(v int) Weight { return FloatWeight(float64(v) / 100) }),
		rapid.Map(rapid.Uint64(), func(bits uint64) Weight { return FloatWeight(math.Float64frombits(bits)) }),
		rapid.Map(rapid.SampledFrom([]float64{math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 53, 1<<53 + 2,
			math.Copysign(0, -1), 1e16, 1, math.Inf(1), math.Inf(-1), math.NaN()}), FloatWeight),
	)
}

// modelTotal is Total with rational numbers.
type modelTotal struct {
	count, numbers int64
	sum            Weight
	err            error
	min, max       Weight
}

func totalOf(weights []Weight) (m modelTotal) {
	sum, special, float := new(big.Rat), 0.0, false
	for _, w := range weights {
		m.count++
		if w.None() {
			continue
		}
		if m.numbers++; m.numbers == 1 || w.Compare(m.min) < 0 {
			m.min = w
		}
		if m.numbers == 1 || w.Compare(m.max) > 0 {
			m.max = w
		}
		if v, ok := w.Int(); ok {
			sum.Add(sum, new(big.Rat).SetInt64(v))
			continue
		}
		float = true
		if f, _ := w.Float(); math.IsInf(f, 0) || f != f {
			special += f
		} else {
			sum.Add(sum, new(big.Rat).SetFloat64(f))
		}
	}
	switch {
	case m.numbers == 0:
	case !float && !sum.Num().IsInt64():
		m.err = ErrSumRange
	case !float:
		m.sum = IntWeight(sum.Num().Int64())
	case special != 0:
		m.sum = FloatWeight(special)
	default:
		f, _ := sum.Float64()
		m.sum = FloatWeight(f + 0)
	}
	return m
}

func (m modelTotal) equal(t *Total) bool {
	sum, err := t.Sum()
	sameSum := sum == m.sum
	if f, ok := sum.Float(); ok && f != f {
		want, ok := m.sum.Float()
		sameSum = ok && want != want
	}
	return t.Count == m.count && t.Numbers == m.numbers && sameSum && errors.Is(err, m.err) && t.Min() == m.min && t.Max() == m.max
}

// TestTotalIsExact adds numbers one by one, and in groups that were packed, and
// compares with rational arithmetic.
func TestTotalIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		weights := rapid.SliceOfN(someWeight(), 0, 30).Draw(rt, "weights")
		want := totalOf(weights)
		var one Total
		for _, w := range weights {
			one.Add(w)
		}
		if !want.equal(&one) {
			sum, err := one.Sum()
			rt.Fatalf("%v: got %+v, %v, %v, want %+v", weights, sum, err, one, want)
		}
		var grouped Total
		order := rapid.Permutation(weights).Draw(rt, "order")
		for rest := order; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "group")
			s := sumOf(rest[:n]...)
			again := scanner{rest: s.append(nil)}
			if back := again.summary(int64(n)); again.bad || len(again.rest) > 0 || !back.equal(&s) {
				rt.Fatalf("summary of %v reads back as %+v, want %+v", rest[:n], back, s)
			}
			grouped.merge(int64(n), &s)
			rest = rest[n:]
		}
		if !want.equal(&grouped) {
			sum, err := grouped.Sum()
			rt.Fatalf("%v in groups: got %+v, %v, %v, want %+v", order, sum, err, grouped, want)
		}
		if a, b := one.summary(), grouped.summary(); !a.equal(&b) {
			rt.Fatalf("the summary depends on the order: %+v and %+v", a, b)
		}
	})
}

// TestSumRounds holds single sums whose rounding is easy to get wrong.
func TestSumRounds(t *testing.T) {
	tests := []struct {
		name string
		add  []float64
		want float64
	}{
		{"none", nil, 0},
		{"negative zeros", []float64{math.Copysign(0, -1), math.Copysign(0, -1)}, 0},
		{"cancelled", []float64{1e308, 1, -1e308}, 1},
		{"tie to even, down", []float64{1 << 53, 1}, 1 << 53},
		{"tie to even, up", []float64{1<<53 + 2, 1}, 1<<53 + 4},
		{"just above the tie", []float64{1 << 53, 1, math.SmallestNonzeroFloat64}, 1<<53 + 2},
		{"just below the tie", []float64{1<<53 + 2, 1, -math.SmallestNonzeroFloat64}, 1<<53 + 2},
		{"subnormal", []float64{math.SmallestNonzeroFloat64, 2 * math.SmallestNonzeroFloat64}, 3 * math.SmallestNonzeroFloat64},
		{"overflow", []float64{math.MaxFloat64, math.MaxFloat64}, math.Inf(1)},
		{"back from overflow", []float64{math.MaxFloat64, math.MaxFloat64, -math.MaxFloat64}, math.MaxFloat64},
		{"negative overflow", []float64{-math.MaxFloat64, -math.MaxFloat64}, math.Inf(-1)},
		{"rounded up to the next power", []float64{math.MaxFloat64, math.Ldexp(1, 970)}, math.Inf(1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s exactSum
			for _, f := range tt.add {
				s.addFloat(f)
			}
			if got := s.float(); math.Float64bits(got) != math.Float64bits(tt.want) {
				t.Errorf("sum of %v: got %v, want %v", tt.add, got, tt.want)
			}
		})
	}
}

// TestModelWeighted is TestModel with a number at every entry.
func TestModelWeighted(t *testing.T) {
	for _, name := range []string{"short", "entries", "heavy separators", "mixed"} {
		t.Run(name, func(t *testing.T) {
			universe := uint32(2000)
			if name == "heavy separators" {
				universe = 600
			}
			rapid.Check(t, func(rt *rapid.T) { checkWeighted(rt, universe, keyShapes[name]) })
		})
	}
}

// weightedEpoch is a version with its entries.
type weightedEpoch struct {
	epoch
	weights []Weight // by position in keys
}

func checkWeighted(rt *rapid.T, universe uint32, shape func(uint32) []byte) {
	v := newVersions()
	caches := []*Cache{nil, NewCache(100 << 10), NewCache(64 << 20)}
	number := rapid.Uint32Range(0, universe)
	epochs := []weightedEpoch{{epoch: epoch{tree: Tree{Agg: 7, Weighted: true}}}}
	// Few drawn numbers serve many entries, which keeps the test quick.
	palette := rapid.SliceOfN(someWeight(), 1, 12).Draw(rt, "weights")
	pick := uint64(1)
	for step := range rapid.IntRange(1, 8).Draw(rt, "steps") {
		last := epochs[len(epochs)-1]
		at := last.at + 10
		changes, keys := drawChanges(rt, last.keys, universe, shape)
		next := func() Weight {
			pick = pick*6364136223846793005 + 1442695040888963407
			return palette[pick>>33%uint64(len(palette))]
		}
		model := map[string]Weight{}
		for i, k := range last.keys {
			model[string(k)] = last.weights[i]
		}
		changed := map[string]bool{}
		for i := range changes {
			changed[string(changes[i].Key)] = true
			if changes[i].Delta > 0 {
				changes[i].Weight = next()
				model[string(changes[i].Key)] = changes[i].Weight
			}
		}
		every := rapid.SampledFrom([]int{1, 5, 100, 1 << 20}).Draw(rt, "reweigh every")
		for i, k := range last.keys {
			if (i+1)%every == 0 && !changed[string(k)] {
				w := next()
				changes = append(changes, Change{Key: k, Weight: w})
				model[string(k)] = w
			}
		}
		sortChanges(changes)
		weights := make([]Weight, len(keys))
		for i, k := range keys {
			weights[i] = model[string(k)]
		}
		cache := rapid.SampledFrom(caches).Draw(rt, "cache")
		tree, _, err := apply(last.tree, v, cache, at, changes)
		if err != nil {
			rt.Fatalf("step %d: %v", step, err)
		}
		if err := verify(tree, v, at, keys); err != nil {
			rt.Fatalf("step %d: %v", step, err)
		}
		if len(changes) > 0 {
			epochs = append(epochs, weightedEpoch{epoch{tree, at, keys}, weights})
		}
		for range 4 {
			e := rapid.SampledFrom(epochs).Draw(rt, "epoch")
			reader := &Reader{Cache: rapid.SampledFrom(caches).Draw(rt, "cache"), Blocks: v.at(e.at)}
			checkReads(rt, e.epoch, reader, number, shape)
			checkTotals(rt, e, reader, number, shape)
		}
	}
}

func checkTotals(rt *rapid.T, e weightedEpoch, r *Reader, number *rapid.Generator[uint32], shape func(uint32) []byte) {
	var from, to []byte
	if rapid.Bool().Draw(rt, "bounded below") {
		from = shape(number.Draw(rt, "from"))
	}
	if rapid.Bool().Draw(rt, "bounded above") {
		to = shape(number.Draw(rt, "to"))
	}
	lo, hi := 0, len(e.keys)
	if from != nil {
		lo, _ = slices.BinarySearchFunc(e.keys, from, bytes.Compare)
	}
	if to != nil {
		hi, _ = slices.BinarySearchFunc(e.keys, to, bytes.Compare)
	}
	var got Total
	err := e.tree.Total(r, from, to, &got)
	if want := totalOf(e.weights[lo:max(lo, hi)]); err != nil || !want.equal(&got) {
		rt.Fatalf("total of [%x, %x) at %d: got %+v, %v, want %+v", from, to, e.at, got, err, want)
	}
}

// TestTotalReads bounds the nodes that a total touches.
func TestTotalReads(t *testing.T) {
	v := newVersions()
	changes := stretch(1, 0, 4000, func(n int) []byte { return keyShapes["heavy separators"](uint32(n)) })
	sortChanges(changes)
	for i := range changes {
		changes[i].Weight = IntWeight(int64(i))
	}
	tree := mustApply(t, Tree{Agg: 1, Weighted: true}, v, nil, 10, changes)
	for i := 0; i < len(changes); i += 7 {
		for j := i; j < len(changes); j += 501 {
			c := &counting{Blocks: v.at(10)}
			var total Total
			if err := tree.Total(&Reader{Blocks: c}, changes[i].Key, changes[j].Key, &total); err != nil {
				t.Fatal(err)
			}
			sum, err := total.Sum()
			want := int64((i + j - 1) * (j - i) / 2)
			if got, _ := sum.Int(); err != nil || got != want || c.reads > 2*tree.Height-1 {
				t.Fatalf("entries %d to %d: sum %d, %v with %d blocks read of a tree of height %d, want %d", i, j, got, err, c.reads, tree.Height, want)
			}
		}
	}
}

func TestApplyWeightRules(t *testing.T) {
	v := newVersions()
	weighted := mustApply(t, Tree{Agg: 1, Weighted: true}, v, nil, 10, []Change{{Key: number(1), Delta: 1, Weight: IntWeight(5)}})
	plain := mustApply(t, Tree{Agg: 1}, newVersions(), nil, 10, []Change{{Key: number(1), Delta: 1}})
	tests := []struct {
		name   string
		tree   Tree
		change Change
		want   error
	}{
		{"a weight in a tree without", plain, Change{Key: number(2), Delta: 1, Weight: IntWeight(1)}, ErrInvalidChanges},
		{"another weight in a tree without", plain, Change{Key: number(1)}, ErrInvalidChanges},
		{"another weight of an absent entry", weighted, Change{Key: number(2), Weight: IntWeight(1)}, ErrCorrupt},
		{"removal of an absent entry", weighted, Change{Key: number(2), Delta: -1}, ErrCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.tree.Apply(&Reader{Blocks: v.at(10)}, 20, []Change{tt.change}, nil, nil); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if err := plain.Total(&Reader{Blocks: v.at(10)}, nil, nil, new(Total)); !errors.Is(err, ErrInvalidChanges) {
		t.Errorf("total of a tree without weights: got %v, want ErrInvalidChanges", err)
	}
	// A block of a tree without weights is not one of a tree with them.
	mixed := weighted
	mixed.Weighted = false
	if _, err := mixed.Count(&Reader{Blocks: v.at(10)}, number(0), nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("weighted block in a tree without weights: got %v, want ErrCorrupt", err)
	}
}

// TestCheckFindsSums gives a branch a summary that is sound and wrong.
func TestCheckFindsSums(t *testing.T) {
	v := newVersions()
	changes := stretch(1, 0, 1000, number)
	for i := range changes {
		changes[i].Weight = FloatWeight(float64(i) / 8)
	}
	tree := mustApply(t, Tree{Agg: 1, Weighted: true}, v, nil, 10, changes)
	if tree.Height != 2 {
		t.Fatalf("height is %d, want 2", tree.Height)
	}
	edits := map[string]func(s *summary){
		"numbers": func(s *summary) { s.numbers-- },
		"sum":     func(s *summary) { s.sum = sumOf(FloatWeight(1)).sum },
		"least":   func(s *summary) { s.min = FloatWeight(-1) },
		"most":    func(s *summary) { s.max = FloatWeight(1e9) },
		"has NaN": func(s *summary) { s.has |= hasNaN },
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			blocks := v.at(10).all()
			root, err := decodeBlock(1, tree.Root.Node, blocks[tree.Root.Node])
			if err != nil {
				t.Fatal(err)
			}
			edit(&root.sums[1])
			blocks[tree.Root.Node] = appendBlock(nil, 1, tree.Root.Node, root)
			if err := tree.Check(&Reader{Blocks: blocks}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
		})
	}
}

// TestTotalRemove takes entries off a total, those that it lets go.
func TestTotalRemove(t *testing.T) {
	removed := 0
	rapid.Check(t, func(rt *rapid.T) {
		rest := rapid.SliceOfN(someWeight(), 1, 20).Draw(rt, "weights")
		var total Total
		for _, w := range rest {
			total.Add(w)
		}
		for range rapid.IntRange(1, 10).Draw(rt, "removals") {
			if len(rest) == 0 {
				break
			}
			i := rapid.IntRange(0, len(rest)-1).Draw(rt, "entry")
			if total.Remove(rest[i]) {
				removed++
				rest = slices.Delete(rest, i, i+1)
			}
			if want := totalOf(rest); !want.equal(&total) {
				sum, err := total.Sum()
				rt.Fatalf("%v are left: got %+v, %v, %v, want %+v", rest, sum, err, total, want)
			}
		}
	})
	if removed == 0 {
		t.Error("nothing was ever removed")
	}
}
