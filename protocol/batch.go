package protocol

// DecodeHTTPQueryAt reads the body of a POST to /api/query_at_ts: a call with the
// timestamp to run it at. Every error wraps ErrSyntax.
func DecodeHTTPQueryAt(data []byte) (HTTPCall, Timestamp, error) {
	c, ts, err := decodeHTTPCall(data, true, true)
	return c, ts, err
}

// DecodeHTTPRun reads the body of a POST to /api/run/...: a call without its path.
// Every error wraps ErrSyntax.
func DecodeHTTPRun(data []byte) (HTTPCall, error) {
	c, _, err := decodeHTTPCall(data, false, false)
	return c, err
}

// DecodeHTTPBatch reads the body of a POST to /api/query_batch: at most max calls.
// Every error wraps ErrSyntax.
func DecodeHTTPBatch(data []byte, max int) ([]HTTPCall, error) {
	var calls []HTTPCall
	var seen fields
	s := &scanner{data: data}
	err := s.object(func(key string) error {
		if key != "queries" {
			return s.skip()
		}
		seen |= 1
		calls = nil
		return s.array(func() error {
			if len(calls) == max {
				return s.fail("a batch may have %d queries", max)
			}
			raw, err := s.raw()
			if err != nil {
				return err
			}
			call, err := DecodeHTTPCall(raw)
			if err != nil {
				return s.fail("query %d: %v", len(calls), err)
			}
			calls = append(calls, call)
			return nil
		})
	})
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = seen.require(s, "queries")
	}
	return calls, err
}
