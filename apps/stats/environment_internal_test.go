package stats

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

func TestSettingsOfTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("secret in a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const day = dayLength
	tests := []struct {
		environment map[string]string
		ok          func(Options) bool
		want        string // in the error of the start
	}{
		{nil, func(o Options) bool {
			return o.Visibility == "" && o.Key == "of the program" && o.TimeZone == time.UTC && o.ViewRetention == 400*day && o.VisitorRetention == 800*day
		}, ""},
		{map[string]string{"VISIBLE": "off", "KEY": "of twelve by"}, func(o Options) bool { return o.Visibility == VisibleOff && o.Key == "of twelve by" }, ""},
		{map[string]string{"KEY_FILE": file}, func(o Options) bool { return o.Key == "secret in a file" }, ""},
		{map[string]string{"TIME_ZONE": "UTC"}, func(o Options) bool { return o.TimeZone.String() == "UTC" }, ""},
		{map[string]string{"TRUSTED_PROXIES": "10.1.2.3/8, ::1"}, func(o Options) bool {
			return len(o.TrustedProxies) == 2 && o.TrustedProxies[0].String() == "10.0.0.0/8" && o.TrustedProxies[1].String() == "::1/128"
		}, ""},
		{map[string]string{"VIEW_RETENTION": "90d", "VISITOR_RETENTION": "off"}, func(o Options) bool {
			return o.ViewRetention == 90*day && o.VisitorRetention == -1
		}, ""},
		{map[string]string{"VIEW_RETENTION": "36h"}, func(o Options) bool { return o.ViewRetention == 36*time.Hour }, ""},
		{map[string]string{"VIEW_WINDOW": "1h", "BEAT_WINDOW": "5s", "VISITOR_TIMEOUT": "90s"}, func(o Options) bool {
			return o.ViewWindow == time.Hour && o.BeatWindow == 5*time.Second && o.VisitorTimeout == 90*time.Second
		}, ""},
		{map[string]string{"CLIENT_PLACE": "ignore", "SIGNALS": "ignore", "LEAVE": "at-once", "ROBOTS": "count"}, func(o Options) bool {
			return o.IgnoreClientPlace && o.IgnoreSignals && o.LeaveAtOnce && o.CountRobots
		}, ""},
		{map[string]string{"CLIENT_PLACE": "believe", "SIGNALS": "honour", "LEAVE": "timeout", "ROBOTS": "name"}, func(o Options) bool {
			return !o.IgnoreClientPlace && !o.IgnoreSignals && !o.LeaveAtOnce && !o.CountRobots
		}, ""},
		{map[string]string{"SITES": "www.Example.org, b.org,::1"}, func(o Options) bool {
			return slices.Equal(o.Sites, []string{"example.org", "b.org", "::1"})
		}, ""},
		{map[string]string{"SITES": "a.org,"}, nil, `HALCYON_STATS_SITES, Options.Sites: "" is no host name`},
		{map[string]string{"SITES": "a.org:8080"}, nil, `"a.org:8080" is no host name such as example.org, without a port`},
		{map[string]string{"SITES": "https://a.org/"}, nil, `"https://a.org/" is no host name`},
		{map[string]string{"VISITOR_TIMEOUT": "15s"}, nil, "HALCYON_STATS_BEAT_WINDOW, Options.BeatWindow: it is 20s and has to be shorter than HALCYON_STATS_VISITOR_TIMEOUT, which is 15s"},
		{map[string]string{"VIEW_WINDOW": "30"}, nil, `HALCYON_STATS_VIEW_WINDOW: "30" is no time such as`},
		{map[string]string{"BEAT_WINDOW": "-1s"}, nil, `HALCYON_STATS_BEAT_WINDOW: "-1s" is no time such as`},
		{map[string]string{"SIGNALS": "off"}, nil, `HALCYON_STATS_SIGNALS: "off" is neither honour nor ignore`},
		{map[string]string{"VIEW_RETENTION": "23h"}, nil, `HALCYON_STATS_VIEW_RETENTION: "23h" is no time of at least a day`},
		{map[string]string{"VISITOR_RETENTION": "-3d"}, nil, `HALCYON_STATS_VISITOR_RETENTION: "-3d" is no time`},
		{map[string]string{"VISITOR_RETENTION": "999999999d"}, nil, `"999999999d" is no time`},
		{map[string]string{"VISIBLE": "yes"}, nil, `HALCYON_STATS_VISIBLE: "yes" is none of`},
		{map[string]string{"KEY": "only eleven"}, nil, "HALCYON_STATS_KEY: it has 11 bytes and needs 12"},
		{map[string]string{"KEY_FILE": file + "x"}, nil, "secret HALCYON_STATS_KEY: open"},
		{map[string]string{"TIME_ZONE": "Mars"}, nil, "HALCYON_STATS_TIME_ZONE: unknown time zone Mars"},
		{map[string]string{"TRUSTED_PROXIES": "10.0.0.0/8,x"}, nil, `HALCYON_STATS_TRUSTED_PROXIES: "x" is neither`},
	}
	for _, tt := range tests {
		var got Options
		listener := halcyon.NewModule("listener")
		listener.Configure(func(s halcyon.Settings) (err error) {
			got, err = Options{Key: "of the program"}.from(s)
			_ = err // the module's own is what stops the start
			return nil
		})
		app, err := halcyon.NewApp(Module(Options{}), listener)
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Open("data", &halcyon.Options{
			Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute},
			LookupEnv: func(name string) (string, bool) {
				v, ok := tt.environment[strings.TrimPrefix(name, "HALCYON_STATS_")]
				return v, ok
			},
		}); err != nil {
			t.Fatal(err)
		}
		if tt.ok != nil && !tt.ok(got) {
			t.Errorf("%v: %+v", tt.environment, got)
		}
		err = app.Start(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%v: start: %v, want %q", tt.environment, err, tt.want)
		}
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSettingsOfTheProgramAreChecked: the start says which can't be meant, and does not
// run with others.
func TestSettingsOfTheProgramAreChecked(t *testing.T) {
	for want, options := range map[string]Options{
		"Options.BeatWindow: it is 2m0s and has to be shorter": {BeatWindow: 2 * time.Minute},
		`Options.Visibility: "pubic" is none of public`:        {Visibility: "pubic"},
		`Options.Sites: "a/b" is no host name`:                 {Sites: []string{"a.org", "a/b"}},
	} {
		app, err := halcyon.NewApp(Module(options))
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute}}); err != nil {
			t.Fatal(err)
		}
		if err := app.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("start: %v, want %q", err, want)
		}
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}
}
