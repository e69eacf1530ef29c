package halcyon_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

func TestFunctionsOfTheWrongShape(t *testing.T) {
	type in struct{ A string }
	tests := []struct {
		name string
		fn   any
		want string
	}{
		{"nil", nil, "is not a function"},
		{"not a function", 5, "is not a function"},
		{"nil function", (func(*halcyon.Tx) error)(nil), "is not a function"},
		{"no Tx", func() error { return nil }, "want func(*halcyon.Tx, Args) (Result, error)"},
		{"other first argument", func(context.Context) error { return nil }, "want func("},
		{"no error", func(*halcyon.Tx) string { return "" }, "want func("},
		{"no results", func(*halcyon.Tx) {}, "want func("},
		{"three arguments", func(*halcyon.Tx, in, in) error { return nil }, "want func("},
		{"variadic", func(*halcyon.Tx, ...in) error { return nil }, "want func("},
		{"arguments that are no struct", func(*halcyon.Tx, string) error { return nil }, "arguments are a struct, not string"},
		{"arguments without a value", func(*halcyon.Tx, struct{ C chan int }) error { return nil }, "arguments: type struct { C chan int }: field C"},
		{"result without a value", func(*halcyon.Tx) (func(), error) { return nil, nil }, "result: type func()"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, tt.want) || !strings.Contains(got, "m:f") {
					t.Errorf("panic %q, want %q and the path in it", got, tt.want)
				}
			}()
			halcyon.NewModule("m").Query("f", tt.fn)
		})
	}
}

func TestNewAppRefuses(t *testing.T) {
	nothing := func(*halcyon.Tx) error { return nil }
	mutation := func(m *halcyon.Module) { m.Internal.Mutation("f", nothing) }
	table := func(f func(*halcyon.Table[Visit])) *halcyon.Module {
		tb := halcyon.NewTable[Visit]("visits")
		f(tb)
		return halcyon.NewModule("m", tb)
	}
	module := func(f func(*halcyon.Module)) *halcyon.Module {
		m := halcyon.NewModule("m")
		f(m)
		return m
	}
	tests := []struct {
		name string
		m    *halcyon.Module
		want string
	}{
		{"module name", halcyon.NewModule("a/b"), `module "a/b": module name "a/b": use letters`},
		{"system module", halcyon.NewModule("_system"), "with a letter first"},
		{"no module name", halcyon.NewModule(""), "needs a name"},
		{"long module name", halcyon.NewModule(strings.Repeat("x", 65)), "longer than 64"},
		{"table name", halcyon.NewModule("m", halcyon.NewTable[Visit]("vis its")), `table "vis its"`},
		{"two tables", halcyon.NewModule("m", halcyon.NewTable[Visit]("t"), halcyon.NewTable[Visit]("t")), "used by two tables"},
		{"document that is no struct", halcyon.NewModule("m", halcyon.NewTable[string]("t")), "a document is a struct, not string"},
		{"document with a channel", halcyon.NewModule("m", halcyon.NewTable[struct{ C chan int }]("t")), "field C"},
		{"id of another table", halcyon.NewModule("m", halcyon.NewTable[struct {
			ID halcyon.ID[Visit] `halcyon:"id"`
		}]("t")), "the id of a"},
		{"reserved field", halcyon.NewModule("m", halcyon.NewTable[struct {
			A int `json:"_a"`
		}]("t")), "reserved"},
		{"field name", halcyon.NewModule("m", halcyon.NewTable[struct {
			A int `json:"a-b"`
		}]("t")), `field name "a-b"`},
		{"index field", table(func(t *halcyon.Table[Visit]) { t.Index("by_x", "path", "nope") }), `index "by_x": halcyon_test.Visit has no field "nope"`},
		{"index dotted field", table(func(t *halcyon.Table[Visit]) { t.Index("by_x", "where.street") }), `no field "street"`},
		{"index through a string", table(func(t *halcyon.Table[Visit]) { t.Index("by_x", "path.x") }), "has no fields"},
		{"index of nothing", table(func(t *halcyon.Table[Visit]) { t.Index("by_x") }), "has no fields"},
		{"index field twice", table(func(t *halcyon.Table[Visit]) { t.Index("by_x", "path", "path") }), "twice"},
		{"index with the creation time", table(func(t *halcyon.Table[Visit]) { t.Index("by_x", "_creationTime") }), "by itself"},
		{"reserved index name", table(func(t *halcyon.Table[Visit]) { t.Index("by_id", "path") }), "reserved or used twice"},
		{"index name of an aggregate", table(func(t *halcyon.Table[Visit]) { t.Index("x", "path").Aggregate("x") }), "reserved or used twice"},
		{"aggregate field", table(func(t *halcyon.Table[Visit]) { t.Aggregate("x", halcyon.GroupBy("nope")) }), `aggregate "x"`},
		{"too many indexes", table(func(t *halcyon.Table[Visit]) {
			for i := range 33 {
				t.Index(fmt.Sprintf("i%d", i), "path")
			}
		}), "33 indexes"},
		{"too many fields", table(func(t *halcyon.Table[Visit]) { t.Index("x", strings.Split(strings.Repeat("path,", 17), ",")...) }), "at most 16"},
		{"function name", module(func(m *halcyon.Module) { m.Query("a:b", nothing) }), `function "a:b"`},
		{"two functions", module(func(m *halcyon.Module) { m.Query("f", nothing); m.Internal.Mutation("f", nothing) }), "used by two functions"},
		{"cron without function", module(func(m *halcyon.Module) { m.Cron("c", halcyon.Every(time.Minute), "f") }), `no function "f"`},
		{"cron of a query", module(func(m *halcyon.Module) { m.Query("f", nothing); m.Cron("c", halcyon.Every(time.Minute), "f") }), "is a query"},
		{"cron of a function with arguments", module(func(m *halcyon.Module) {
			m.Mutation("f", func(*halcyon.Tx, nameArgs) error { return nil })
			m.Cron("c", halcyon.Every(time.Minute), "f")
		}), "can't be called without arguments"},
		{"cron too often", module(func(m *halcyon.Module) { mutation(m); m.Cron("c", halcyon.Every(time.Millisecond), "f") }), "at least 1s"},
		{"cron at no time", module(func(m *halcyon.Module) { mutation(m); m.Cron("c", halcyon.Daily(24, 0), "f") }), "an hour is from 0 to 23, not 24"},
		{"cron at no minute", module(func(m *halcyon.Module) { mutation(m); m.Cron("c", halcyon.Hourly(60), "f") }), "not 60"},
		{"cron without schedule", module(func(m *halcyon.Module) { mutation(m); m.Cron("c", halcyon.Schedule{}, "f") }), "no schedule"},
		{"cron name", module(func(m *halcyon.Module) { mutation(m); m.Cron("a\nb", halcyon.Every(time.Minute), "f") }), "printable"},
		{"two crons", module(func(m *halcyon.Module) {
			mutation(m)
			m.Cron("c", halcyon.Every(time.Minute), "f")
			m.Cron("c", halcyon.Every(time.Hour), "f")
		}), "used by two crons"},
		{"route", module(func(m *halcyon.Module) { m.Handle("GET stats", http.NotFoundHandler()) }), `route "GET stats" of module "m"`},
		{"two routes", module(func(m *halcyon.Module) {
			m.Handle("/x", http.NotFoundHandler())
			m.Handle("/x", http.NotFoundHandler())
		}), `stands where the route "/x" of module "m" does`},
		{"command", module(func(m *halcyon.Module) { m.Command("c", "", nil) }), `command "c"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := halcyon.NewApp(tt.m); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewApp: %v\nwant %q in it", err, tt.want)
			}
		})
	}
	t.Run("two modules", func(t *testing.T) {
		if _, err := halcyon.NewApp(halcyon.NewModule("m"), halcyon.NewModule("m")); err == nil || !strings.Contains(err.Error(), "two modules") {
			t.Errorf("NewApp: %v", err)
		}
	})
	t.Run("all mistakes at once", func(t *testing.T) {
		_, err := halcyon.NewApp(halcyon.NewModule("1"), module(func(m *halcyon.Module) { m.Query("2", nothing); m.Query("3", nothing) }))
		if err == nil || strings.Count(err.Error(), "use letters") != 3 {
			t.Errorf("NewApp: %v\nwant three mistakes", err)
		}
	})
}

func TestRoutesCommandsAndStart(t *testing.T) {
	m, _ := counterModule()
	m.Handle("GET /plain", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "plain") }))
	m.HandleApp("GET /counter/{name}", func(app *halcyon.App) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var n int
			if err := app.Run(r.Context(), "counters:get", nameArgs{r.PathValue("name")}, &n); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
			_, _ = fmt.Fprint(w, n)
		})
	})
	m.Command("show", "Print a counter.", func(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
		var n int
		err := env.App.Run(ctx, "counters:get", nameArgs{args[0]}, &n)
		_, _ = fmt.Fprintf(env.Stdout, "%s %d", args[0], n)
		return err
	})
	m.OnStart(func(ctx context.Context, app *halcyon.App) error {
		return app.Run(ctx, "counters:add", nameArgs{"starts"}, nil)
	})
	app := openApp(t, halcyon.Options{}, m)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}

	mux := http.NewServeMux()
	for _, r := range app.Routes() {
		mux.Handle(r.Pattern, r.Handler)
	}
	for path, want := range map[string]string{"/plain": "plain", "/counter/starts": "1"} {
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		if rec.Body.String() != want {
			t.Errorf("GET %s: %q, want %q", path, rec.Body, want)
		}
	}
	commands := app.Commands()
	if len(commands) != 1 || commands[0].Module != "counters" || commands[0].Name != "show" || commands[0].Help != "Print a counter." {
		t.Fatalf("commands %+v", commands)
	}
	var out strings.Builder
	if err := commands[0].Run(t.Context(), &halcyon.CommandEnv{App: app, Stdout: &out}, []string{"starts"}); err != nil || out.String() != "starts 1" {
		t.Errorf("the command says %q, %v", out.String(), err)
	}
}

func TestStartStopsAtAFailedHook(t *testing.T) {
	var ran []string
	hook := func(name string, err error) *halcyon.Module {
		m := halcyon.NewModule(name)
		m.OnStart(func(context.Context, *halcyon.App) error { ran = append(ran, name); return err })
		return m
	}
	app := openApp(t, halcyon.Options{}, hook("a", nil), hook("b", io.ErrUnexpectedEOF), hook("c", nil))
	err := app.Start(t.Context())
	if err == nil || err.Error() != `start module "b": unexpected EOF` {
		t.Errorf("Start: %v", err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, ran); diff != "" {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
}
