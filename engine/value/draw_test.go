package value_test

import (
	"math"

	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/value"
)

// The generators draw from few and awkward parts, so that drawn values are often equal, prefixes of each
// other, or next to each other in the order.
var (
	awkwardInts = []int64{
		math.MinInt64, math.MinInt64 + 1, -1<<53 - 1, -1 << 53, -256, -255, -1,
		0, 1, 63, 64, 127, 128, 255, 256, 1<<53 - 1, 1 << 53, 1<<53 + 1, math.MaxInt64 - 1, math.MaxInt64,
	}
	awkwardFloats = []uint64{
		0xFFFFFFFFFFFFFFFF, 0xFFF8000000000000, 0xFFF0000000000001, 0xFFF0000000000000, // -NaN..., -Inf
		0x8000000000000000, 0x0000000000000000, 0x0000000000000001, 0x8000000000000001, // -0, 0, denormals
		0x3FF0000000000000, 0xBFF0000000000000, 0x3FF8000000000000, 0x3FB999999999999A, // 1, -1, 1.5, 0.1
		0x433FFFFFFFFFFFFF, 0x4340000000000000, 0x4340000000000001, 0x444B1AE4D6E2EF50, // 2^53..., 1e21
		0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0x7FF0000000000001, 0x7FF8000000000000, // max, Inf, NaN...
	}
	awkwardRunes = []rune{0, 1, 2, ' ', '"', '\\', '\n', 'a', 'b', '~', 0x7F, 0x80, 0xFF, 0xE9, 0x2028, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x1F600, 0x10FFFF}
)

func drawScalar() *rapid.Generator[value.Value] {
	return rapid.OneOf(
		rapid.Just(value.Null()),
		rapid.Map(rapid.Bool(), value.Bool),
		rapid.Map(rapid.OneOf(rapid.SampledFrom(awkwardInts), rapid.Int64()), value.Int64),
		rapid.Map(rapid.OneOf(rapid.SampledFrom(awkwardFloats), rapid.Uint64()), func(bits uint64) value.Value {
			return value.Float64(math.Float64frombits(bits))
		}),
		rapid.Map(rapid.StringOfN(rapid.SampledFrom(awkwardRunes), 0, 6, -1), value.String),
		rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 'a', 0xFE, 0xFF}), 0, 6), value.Bytes),
	)
}

// drawName draws names that are allowed in Convex JSON, which excludes some that the codecs can hold.
func drawName() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"", "a", "aa", "b", "a b", "~"}), rapid.StringMatching(`[ -#%-~][ -~]{0,5}`))
}

// drawValue draws a value of at most the given depth.
func drawValue(depth int) *rapid.Generator[value.Value] {
	if depth == 0 {
		return drawScalar()
	}
	return rapid.OneOf(
		drawScalar(),
		rapid.Map(rapid.SliceOfN(drawValue(depth-1), 0, 4), func(elems []value.Value) value.Value {
			return value.Array(elems...)
		}),
		drawObject(depth),
	)
}

func drawObject(depth int) *rapid.Generator[value.Value] {
	field := rapid.Custom(func(t *rapid.T) value.Field {
		return value.Field{Name: drawName().Draw(t, "name"), Value: drawValue(depth-1).Draw(t, "value")}
	})
	return rapid.Map(rapid.SliceOfN(field, 0, 4), func(fields []value.Field) value.Value {
		return value.Object(fields...)
	})
}

// drawAny draws any value, undefined and arrays of undefined included.
func drawAny() *rapid.Generator[value.Value] {
	return rapid.OneOf(
		drawValue(3), drawValue(3), drawValue(3), rapid.Just(value.Value{}),
		rapid.Map(rapid.SliceOfN(rapid.OneOf(rapid.Just(value.Value{}), drawScalar()), 0, 3), func(elems []value.Value) value.Value {
			return value.Array(elems...)
		}),
	)
}

// nested returns a scalar inside depth arrays, or inside depth objects.
func nested(depth int, objects bool) value.Value {
	v := value.Null()
	for range depth {
		if objects {
			v = value.Object(value.Field{Name: "a", Value: v})
		} else {
			v = value.Array(v)
		}
	}
	return v
}
