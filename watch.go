package halcyon

import (
	"context"
	"fmt"
	"iter"

	"github.com/halcyon-db/halcyon/engine/value"
)

// watchSpace sets the keys of queries that Go code watches apart: their outcome is encoded in another way than that of clients' queries, and
// internal ones are among them.
const watchSpace = "watch\x00"

// Watch yields the result of a query now and after each change of it, as clients see it that subscribe, until the context ends or the loop
// does. Results that nobody had the time for are left out: the newest one always comes.
//
//	for stats, err := range halcyon.Watch[Stats](s.Ctx, "stats:getStats", nil) {
//		if err != nil {
//			return err
//		}
//		...
//	}
//
// path and args are those of [Ctx.RunQuery]. A query that fails yields its *Failure, and goes on to be watched if the loop does. When the
// context has ended its cause is yielded last. Equal queries that are watched by many run once.
func Watch[Result any](c *Ctx, path string, args any) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		var none Result
		encoded, err := encodeArgs(args)
		if err != nil {
			yield(none, fmt.Errorf("arguments of %s: %w", path, err))
			return
		}
		path := c.fn.absolute(path)
		news := make(chan struct{}, 1)
		set := &QuerySet{run: c.run, encode: encodeWatched, space: watchSpace, inner: c.run.db.NewQuerySet(func() {
			select {
			case news <- struct{}{}:
			default: // there is one already
			}
		})}
		defer set.Close()
		set.SetCaller(c.identity.Load(), true)
		set.Add(0, path, encoded, nil)
		for {
			for {
				round, ok := set.Poll(0)
				if !ok {
					break
				}
				for _, change := range round.Changes {
					result, err := decodeWatched[Result](path, change.Body)
					if !yield(result, err) {
						return
					}
				}
			}
			select {
			case <-news:
			case <-c.Done():
				yield(none, fmt.Errorf("watch %s: %w", path, context.Cause(c)))
				return
			}
		}
	}
}

// The first byte of an encoded outcome.
const (
	watchedValue   = 0 // the value follows
	watchedFailure = 1 // an object follows: message, code, and data where there is some
)

func encodeWatched(out Outcome) []byte {
	if out.Failure == nil {
		v, _ := orNull(out.Value, nil)
		return value.AppendBinary([]byte{watchedValue}, v)
	}
	fields := []value.Field{
		{Name: "code", Value: value.String(string(out.Failure.Code))},
		{Name: "message", Value: value.String(out.Failure.Message)},
	}
	if !out.Failure.Data.IsUndefined() {
		fields = append(fields, value.Field{Name: "data", Value: out.Failure.Data})
	}
	return value.AppendBinary([]byte{watchedFailure}, value.Object(fields...))
}

func decodeWatched[Result any](path string, body []byte) (result Result, err error) {
	v, err := value.DecodeBinary(body[1:])
	if err != nil {
		return result, fmt.Errorf("result of %s: %w", path, err)
	}
	out := Outcome{Value: v}
	if body[0] == watchedFailure {
		message, _ := v.Get("message").AsString()
		code, _ := v.Get("code").AsString()
		out = Outcome{Failure: &Failure{Message: message, Code: Code(code), Data: v.Get("data")}}
	}
	err = finishCall(path, out, nil, &result)
	return result, err
}
