package halcyon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

// settings makes a lookup of pairs.
func settings(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func envModule(name string, variables ...halcyon.Variable) *halcyon.Module {
	m := halcyon.NewModule(name)
	m.Env(variables...)
	m.Action("env", func(c *halcyon.Ctx, args struct {
		Name string `json:"name"`
	}) (string, error) {
		text, ok := c.Env(args.Name)
		c.Log("it is", text)
		return fmt.Sprint(text, " ", ok), nil
	})
	return m
}

func TestEnvironmentDecidesTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	modules := func() []*halcyon.Module {
		return []*halcyon.Module{
			envModule("mail", halcyon.Variable{Name: "MAIL_KEY", Help: "the key of the mail service", Secret: true}, halcyon.Variable{Name: "MAIL_FROM"}),
			envModule("pay",
				halcyon.Variable{Name: "PAY_URL", Default: "https://pay.example"}, halcyon.Variable{Name: "PAY_HINT", Optional: true},
				halcyon.Variable{Name: "MAIL_FROM", Help: "who sends receipts"}),
		}
	}
	for _, tt := range []struct {
		name  string
		given []string
		want  string // the error; "" for none
	}{
		{"nothing", nil, `settings are missing: module "mail" needs MAIL_KEY (the key of the mail service); module "mail" needs MAIL_FROM; module "pay" needs MAIL_FROM (who sends receipts)`},
		{"empty is as good as missing", []string{"MAIL_KEY", "", "MAIL_FROM", "a@b.example"}, `settings are missing: module "mail" needs MAIL_KEY (the key of the mail service)`},
		{"all", []string{"MAIL_KEY", "s3cret", "MAIL_FROM", "a@b.example"}, ""},
		{"from a file", []string{"MAIL_KEY_FILE", file, "MAIL_FROM", "a@b.example"}, ""},
		{"file that is not there", []string{"MAIL_KEY_FILE", file + "x", "MAIL_FROM", "a@b.example"}, `settings are missing: module "mail": secret MAIL_KEY: open ` + file + `x: no such file or directory`},
		{"only secrets come from files", []string{"MAIL_KEY", "s3cret", "MAIL_FROM_FILE", file}, `settings are missing: module "mail" needs MAIL_FROM; module "pay" needs MAIL_FROM (who sends receipts)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := openApp(t, halcyon.Options{LookupEnv: settings(tt.given...)}, modules()...)
			err := app.Start(t.Context())
			if got := fmt.Sprint(err); err != nil && got != tt.want || err == nil && tt.want != "" {
				t.Errorf("Start: %v\nwant %s", err, tt.want)
			}
			if problem, ok := errors.AsType[*halcyon.EnvironmentError](err); ok != (tt.want != "") {
				t.Errorf("the error is %T %v", err, problem)
			}
		})
	}
}

func TestEnvironmentOfActions(t *testing.T) {
	app := openApp(t, halcyon.Options{LookupEnv: settings("PAY_HINT", "", "UNDECLARED", "u", "PAY_REGION", "eu")}, envModule("pay",
		halcyon.Variable{Name: "PAY_URL", Default: "https://pay.example"}, halcyon.Variable{Name: "PAY_HINT", Optional: true},
		halcyon.Variable{Name: "PAY_REGION", Default: "us"}, halcyon.Variable{Name: "PAY_KEY", Secret: true, Optional: true}))
	for name, want := range map[string]string{
		"PAY_URL": "https://pay.example true", "PAY_REGION": "eu true", "PAY_HINT": " true", "PAY_KEY": " false", "UNDECLARED": "u true", "NONE": " false",
	} {
		if got := act(t, app, "pay:env", `{"name":"`+name+`"}`); got != `"`+want+`"` {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	want := []halcyon.DeclaredVariable{
		{Module: "pay", Variable: halcyon.Variable{Name: "PAY_URL", Default: "https://pay.example"}},
		{Module: "pay", Variable: halcyon.Variable{Name: "PAY_HINT", Optional: true}},
		{Module: "pay", Variable: halcyon.Variable{Name: "PAY_REGION", Default: "us"}, Set: true},
		{Module: "pay", Variable: halcyon.Variable{Name: "PAY_KEY", Secret: true, Optional: true}, Set: true},
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("k\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, app.Variables(settings("PAY_REGION", "eu", "PAY_KEY_FILE", file))); diff != "" {
		t.Errorf("Variables (-want +got):\n%s", diff)
	}
	// What is wrong is what Start would say.
	app, err := halcyon.NewApp(envModule("pay", halcyon.Variable{Name: "PAY_FROM"}, halcyon.Variable{Name: "PAY_TO"}, halcyon.Variable{Name: "PAY_KEY", Secret: true}))
	if err != nil {
		t.Fatal(err)
	}
	found := app.Variables(settings("PAY_FROM", "", "PAY_TO", "x", "PAY_KEY_FILE", file+".none"))
	if !found[0].Missing || found[0].Set || found[1].Missing || !found[1].Set || found[2].Missing || found[2].Set || !errors.Is(found[2].Err, fs.ErrNotExist) {
		t.Errorf("Variables: %+v", found)
	}
}

// A declared secret is in no log, whoever writes it there.
func TestSecretsAreNotLogged(t *testing.T) {
	const secret, longer = "hunter22", "hunter22-and-more"
	var log bytes.Buffer
	m := envModule("pay", halcyon.Variable{Name: "PAY_KEY", Secret: true}, halcyon.Variable{Name: "PAY_KEY_2", Secret: true})
	m.Action("leak", func(c *halcyon.Ctx) error { return fmt.Errorf("refused %s and %s", secret, longer) }) // which it has not even asked for
	m.HTTP("GET", "/leak", func(*halcyon.Ctx, http.ResponseWriter, *http.Request) error { panic("panic with " + longer) })
	var logger *slog.Logger
	m.OnStart(func(_ context.Context, app *halcyon.App) error {
		logger = app.Logger()
		return nil
	})
	app := openApp(t, halcyon.Options{
		Logger:     slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		LookupEnv:  settings("PAY_KEY", secret, "PAY_KEY_2", longer),
		ShowErrors: true,
	}, m)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := act(t, app, "pay:leak", `{}`); !strings.Contains(got, "refused [secret] and [secret]") || strings.Contains(got, secret) {
		t.Errorf("the client is told %s", got)
	}
	out, err := app.Action(t.Context(), halcyon.Request{Path: "pay:env", Args: parse(t, `{"name":"PAY_KEY"}`)})
	if diff := cmp.Diff([]string{"[LOG] 'it is' '[secret]'"}, out.Logs); err != nil || diff != "" {
		t.Errorf("log lines, %v (-want +got):\n%s", err, diff)
	}
	inner := logger.With("key", secret, slog.Group("deep", "key", longer)).WithGroup("inner")
	inner.Info("with "+secret, "error", errors.New(longer), "bytes", []string{secret}, "url", struct{ Key string }{secret}, "n", 5)
	if text := log.String(); strings.Contains(text, secret) || strings.Count(text, "[secret]") < 8 || !strings.Contains(text, "inner.n=5") {
		t.Errorf("the log:\n%s", text)
	}
}

func TestEnvironmentMistakes(t *testing.T) {
	for _, tt := range []struct {
		v    []halcyon.Variable
		want string
	}{
		{[]halcyon.Variable{{Name: "lower"}}, `environment variable "lower": a name has capital letters`},
		{[]halcyon.Variable{{Name: "1A"}}, "begins with a letter"},
		{[]halcyon.Variable{{Name: ""}}, "begins with a letter"},
		{[]halcyon.Variable{{Name: strings.Repeat("A", 65)}}, "at most 64 bytes"},
		{[]halcyon.Variable{{Name: "A"}, {Name: "A"}}, "it is declared twice"},
		{[]halcyon.Variable{{Name: "A", Secret: true, Default: "x"}}, "a secret has no default"},
	} {
		if _, err := halcyon.NewApp(envModule("m", tt.v...)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("NewApp with %+v: %v, want %q in it", tt.v, err, tt.want)
		}
	}
}

// Queries and mutations must do the same whenever they are executed, so their Tx has no way to the environment.
func TestTxHasNoEnvironment(t *testing.T) {
	for _, name := range []string{"Env", "Secret"} {
		if _, has := reflect.TypeFor[*halcyon.Tx]().MethodByName(name); has {
			t.Errorf("Tx has a method %s", name)
		}
	}
}
