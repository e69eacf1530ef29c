package halcyon_test

import (
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon"
)

// TestModulesTakeOverTheirSettings at each opening anew, from where the program looks settings up.
func TestModulesTakeOverTheirSettings(t *testing.T) {
	var color, key string
	m := halcyon.NewModule("paint")
	m.Env(halcyon.Variable{Name: "PAINT_COLOR", Default: "grey"}, halcyon.Variable{Name: "PAINT_KEY", Secret: true, Optional: true},
		halcyon.Variable{Name: "PAINT_OPEN", Optional: true})
	m.Internal.Mutation("mix", func(*halcyon.Tx) error { return nil })
	m.Configure(func(s halcyon.Settings) error {
		color, key = s.Env("PAINT_COLOR"), s.Secret("PAINT_KEY")
		if open := s.Env("PAINT_OPEN"); open != "" {
			return s.Publish(open)
		}
		return nil
	})
	for _, tt := range []struct {
		given      []string
		color, key string
		start      string // in the error of Start
		public     bool
	}{
		{[]string{"PAINT_COLOR", "blue", "PAINT_KEY", "hunter22", "PAINT_OPEN", "mix"}, "blue", "hunter22", "", true},
		{nil, "grey", "", "", false},
		{[]string{"PAINT_OPEN", "stir"}, "grey", "", `settings of module "paint": module "paint" has no function "stir"`, false},
	} {
		app := openApp(t, halcyon.Options{LookupEnv: settings(tt.given...)}, m)
		if color != tt.color || key != tt.key {
			t.Errorf("%v: color %q, key %q; want %q, %q", tt.given, color, key, tt.color, tt.key)
		}
		out, err := app.Mutation(t.Context(), halcyon.Request{Path: "paint:mix"})
		if err != nil || (out.Failure == nil) != tt.public {
			t.Errorf("%v: a client calls the function: %v, %v; want it public: %v", tt.given, out.Failure, err, tt.public)
		}
		err = app.Start(t.Context())
		if (err == nil) != (tt.start == "") || err != nil && !strings.Contains(err.Error(), tt.start) {
			t.Errorf("%v: start: %v, want %q", tt.given, err, tt.start)
		}
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMutationsKnowTheAgentOfTheirCaller, and queries, which are run once for all who watch them, do not.
func TestMutationsKnowTheAgentOfTheirCaller(t *testing.T) {
	m := halcyon.NewModule("who")
	m.Mutation("calls", func(tx *halcyon.Tx) (string, error) { return tx.UserAgent(), nil })
	m.Query("asks", func(tx *halcyon.Tx) (string, error) { return tx.UserAgent(), nil })
	app := openApp(t, halcyon.Options{}, m)
	for path, want := range map[string]string{"who:calls": "Agent/1", "who:asks": ""} {
		out, err := app.Call(t.Context(), halcyon.Request{Path: path, UserAgent: "Agent/1"})
		if err != nil || out.Failure != nil {
			t.Fatal(path, out.Failure, err)
		}
		if got, _ := out.Value.AsString(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
