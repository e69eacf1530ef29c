package halcyon_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

// TestFunctionsRunFunctions: a mutation that another one runs fails alone.
func TestFunctionsRunFunctions(t *testing.T) {
	type noteArgs struct {
		Text string
		Fail bool
	}
	m := halcyon.NewModule("lines", lines)
	count := func(tx *halcyon.Tx) (n int, err error) {
		err = tx.RunQuery("count", nil, &n)
		return n, err
	}
	m.Internal.Query("count", func(tx *halcyon.Tx) (int, error) {
		all, err := lines.All().Collect(tx)
		tx.Log("counted", len(all))
		return len(all), err
	})
	m.Internal.Mutation("note", func(tx *halcyon.Tx, a noteArgs) (string, error) {
		tx.Log("noting", a.Text)
		if _, err := lines.Insert(tx, Line{List: a.Text}); err != nil {
			return "", err
		}
		switch {
		case a.Fail && a.Text == "panic":
			panic("no")
		case a.Fail:
			return "", &halcyon.Error{Code: "No", Message: a.Text}
		}
		return "noted " + a.Text, nil
	})
	m.Internal.Mutation("deep", func(tx *halcyon.Tx, a struct{ N int }) error {
		return tx.RunMutation("deep", struct{ N int }{a.N + 1}, nil)
	})
	m.Query("writes", func(tx *halcyon.Tx) error { return tx.RunMutation("note", noteArgs{Text: "x"}, nil) })
	m.Mutation("all", func(tx *halcyon.Tx) ([]string, error) {
		said := []string{}
		for _, a := range []noteArgs{{"a", false}, {"b", true}, {"panic", true}, {"c", false}} {
			var result string
			err := tx.RunMutation("note", a, &result)
			n, countErr := count(tx)
			if countErr != nil {
				return nil, countErr
			}
			told, _ := errors.AsType[*halcyon.Error](err)
			said = append(said, fmt.Sprint(result, told != nil, err != nil, n))
		}
		err := tx.Nested(func() error {
			_, err := lines.Insert(tx, Line{List: "d"})
			return errors.Join(err, errors.New("no"))
		})
		n, countErr := count(tx)
		said = append(said, fmt.Sprint(err, n))
		for _, wrong := range []error{
			tx.RunMutation("count", nil, nil), tx.RunQuery("nothing", nil, nil), tx.RunMutation("note", struct{ Text int }{1}, nil),
		} {
			said = append(said, strings.SplitN(wrong.Error(), "\n", 2)[0])
		}
		return said, countErr
	})
	app := openApp(t, halcyon.Options{ShowErrors: true}, m)
	var got []string
	if err := app.Run(t.Context(), "lines:all", nil, &got); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"noted afalse false 1", "true true 1", "false true 1", "noted cfalse false 2", "no 2",
		"run lines:count: Trying to execute lines:count as Mutation, but it is defined as Query.",
		"run lines:nothing: Could not find public function for 'lines:nothing'.",
		"run lines:note: ArgumentValidationError: Object is missing the required field `fail`. Consider wrapping the field validator in `v.optional(...)` if this is expected.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the mutation saw (-want +got):\n%s", diff)
	}
	if err := app.Run(t.Context(), "lines:deep", struct{ N int }{}, nil); err == nil || !strings.Contains(err.Error(), "deeper than 16") {
		t.Errorf("without end: %v", err)
	}
	if err := app.Run(t.Context(), "lines:writes", nil, nil); err == nil || !strings.Contains(err.Error(), "can't run a mutation") {
		t.Errorf("a query that writes: %v", err)
	}
	out, err := app.Mutation(t.Context(), halcyon.Request{Path: "lines:all"})
	if err != nil || out.Failure != nil {
		t.Fatal(out.Failure, err)
	}
	wantLogs := []string{"[LOG] 'noting' 'a'", "[LOG] 'counted' 3", "[LOG] 'noting' 'b'", "[LOG] 'counted' 3"}
	if diff := cmp.Diff(wantLogs, out.Logs[:min(4, len(out.Logs))]); diff != "" {
		t.Errorf("its log (-want +got):\n%s", diff)
	}
}
