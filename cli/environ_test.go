package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

func TestParseEnvironment(t *testing.T) {
	got, err := parseEnvironment([]byte("# comment\n\nA=1\r\n export B = two words # and this \nC=\"a\\n\\\"b\\\" \\\\\"\nD='$x \\n'\nE=\n_f9=x=y"))
	want := map[string]string{"A": "1", "B": "two words # and this", "C": "a\n\"b\" \\", "D": `$x \n`, "E": "", "_f9": "x=y"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for text, want := range map[string]string{
		"A=1\nsecret": "line 2 does not begin with NAME=", "=secret": "line 1", "9=secret": "line 1", "A B=secret": "line 1",
		"A=1\nA=secret": "line 2 sets A again", `A="secret`: "line 1: the closing quote is missing", `A='secret' x`: "something follows",
		`A="secret\x"`: `after \ in double quotes`, `A="secret\"`: "the closing quote is missing",
		"A=" + strings.Repeat("x", 1<<20): "may have 1048576",
	} {
		if _, err := parseEnvironment([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseEnvironment(f *testing.F) {
	f.Add([]byte("A=1\nexport B=\"x\\ny\"\n#c\nC='z'"))
	f.Add([]byte("A=\"\\"))
	f.Fuzz(func(t *testing.T, text []byte) {
		settings, err := parseEnvironment(text)
		if err != nil {
			return
		}
		for name := range settings {
			if !isVariableName(name) {
				t.Errorf("a name is %q", name)
			}
		}
		again, err := parseEnvironment(text)
		if diff := cmp.Diff(settings, again); err != nil || diff != "" {
			t.Errorf("read again: %v\n%s", err, diff)
		}
	})
}

// envModule needs a setting and a secret.
func envTestModule() *halcyon.Module {
	m := halcyon.NewModule("mail")
	m.Env(halcyon.Variable{Name: "TEST_MAIL_KEY", Help: "the key of the mail service", Secret: true}, halcyon.Variable{Name: "TEST_MAIL_FROM"})
	m.Internal.Action("env", func(c *halcyon.Ctx) (string, error) {
		from, _ := c.Env("TEST_MAIL_FROM")
		key, err := c.Secret("TEST_MAIL_KEY")
		c.Log("key", key)
		return from + " " + key, err
	})
	return m
}

func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "settings")
	if err := os.WriteFile(file, []byte("TEST_MAIL_KEY=file-key\nTEST_MAIL_FROM=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := []string{"run", "--storage.dir", filepath.Join(dir, "data"), "mail:env"}
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"file", nil, []string{"--environment.file", file}, "file file-key"},
		{"file by the environment", map[string]string{"HALCYON_ENVIRONMENT_FILE": file}, nil, "file file-key"},
		{"environment wins", map[string]string{"TEST_MAIL_FROM": "env"}, []string{"--environment.file", file}, "env file-key"},
		{"prefix wins", map[string]string{"TEST_MAIL_FROM": "env", "HALCYON_ENV_TEST_MAIL_FROM": "prefixed", "HALCYON_ENV_TEST_MAIL_KEY": "prefixed-key"}, []string{"--environment.file", file}, "prefixed prefixed-key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			got := callWith(t, envTestModule(), append(ask, tt.args...)...)
			if got.status != exitOK || got.stdout != `"`+tt.want+"\"\n" {
				t.Errorf("status %d, %q, %q; want %q", got.status, got.stdout, got.stderr, tt.want)
			}
			if !strings.Contains(got.stderr, "[secret]") || strings.Contains(got.stderr, "-key") || strings.Contains(got.stderr, "chmod") {
				t.Errorf("on standard error: %s", got.stderr)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		got := callWith(t, envTestModule(), "serve", "--server.listen", "127.0.0.1:0", "--storage.dir", filepath.Join(dir, "data"))
		for _, want := range []string{
			`module "mail" needs TEST_MAIL_KEY (the key of the mail service); module "mail" needs TEST_MAIL_FROM`,
			"hint: set TEST_MAIL_KEY_FILE to the name of a file that holds it, or TEST_MAIL_KEY; TEST_MAIL_FROM; in the environment, or in a file that --environment.file names",
		} {
			if got.status != exitFailed || !strings.Contains(got.stderr, want) {
				t.Errorf("status %d, %s\nwant %q in it", got.status, got.stderr, want)
			}
		}
	})
	t.Run("no file", func(t *testing.T) {
		got := callWith(t, envTestModule(), append(ask, "--environment.file", file+"x")...)
		if got.status != exitFailed || !strings.Contains(got.stderr, "no such file") || !strings.Contains(got.stderr, "hint: --environment.file") {
			t.Errorf("status %d, %s", got.status, got.stderr)
		}
	})
	t.Run("bad file", func(t *testing.T) {
		bad := filepath.Join(dir, "bad")
		if err := os.WriteFile(bad, []byte("hunter22"), 0o644); err != nil {
			t.Fatal(err)
		}
		got := callWith(t, envTestModule(), append(ask, "--environment.file", bad)...)
		if got.status != exitFailed || !strings.Contains(got.stderr, "line 1") || strings.Contains(got.stderr, "hunter22") {
			t.Errorf("status %d, %s", got.status, got.stderr)
		}
	})
	t.Run("open to others", func(t *testing.T) {
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := callWith(t, envTestModule(), append(ask, "--environment.file", file)...); got.status != exitOK || !strings.Contains(got.stderr, "chmod 600") {
			t.Errorf("status %d, %s", got.status, got.stderr)
		}
	})
}

// callWith runs a program of one module.
func callWith(t *testing.T, m *halcyon.Module, args ...string) outcome {
	t.Helper()
	var stdout, stderr strings.Builder
	status := run(t.Context(), append([]string{"/usr/bin/prog"}, args...), strings.NewReader(""), &stdout, &stderr, m)
	return outcome{status, stdout.String(), stderr.String()}
}

func TestEnvList(t *testing.T) {
	m := halcyon.NewModule("mail")
	m.Env(
		halcyon.Variable{Name: "TEST_MAIL_KEY", Help: "the key of the mail service", Secret: true},
		halcyon.Variable{Name: "TEST_MAIL_FROM", Help: "who writes"},
		halcyon.Variable{Name: "TEST_MAIL_HOST", Default: "mail.example"},
		halcyon.Variable{Name: "TEST_MAIL_CC", Optional: true},
	)
	list := func(args ...string) outcome {
		t.Helper()
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), append([]string{"prog", "env", "list"}, args...), strings.NewReader(""), &stdout, &stderr, m)
		return outcome{status, stdout.String(), stderr.String()}
	}
	states := func(got outcome) map[string]string {
		found := map[string]string{}
		for line := range strings.Lines(got.stdout) {
			fields := strings.Fields(line)
			found[fields[0]] = strings.Join(fields[1:], " ")
		}
		delete(found, "NAME")
		return found
	}
	dir := t.TempDir()
	key, file := filepath.Join(dir, "key"), filepath.Join(dir, "settings.env")
	for path, text := range map[string]string{key: "hunter2\n", file: "TEST_MAIL_FROM=ann@example.com\nTEST_MAIL_KEY_FILE=" + key + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := list()
	want := map[string]string{
		"TEST_MAIL_KEY": "mail missing, secret - the key of the mail service", "TEST_MAIL_FROM": "mail missing - who writes",
		"TEST_MAIL_HOST": "mail default the program", "TEST_MAIL_CC": "mail not set -",
	}
	if diff := cmp.Diff(want, states(got)); got.status != exitFailed || diff != "" || !strings.Contains(got.stderr, "TEST_MAIL_KEY_FILE to the name of a file") {
		t.Errorf("nothing is set: %+v (-want +got):\n%s", got, diff)
	}
	t.Setenv("HALCYON_ENV_TEST_MAIL_HOST", "other.example")
	got = list("--environment.file", file)
	want = map[string]string{
		"TEST_MAIL_KEY": "mail set, secret " + file + " the key of the mail service", "TEST_MAIL_FROM": "mail set " + file + " who writes",
		"TEST_MAIL_HOST": "mail set HALCYON_ENV_TEST_MAIL_HOST", "TEST_MAIL_CC": "mail not set -",
	}
	if diff := cmp.Diff(want, states(got)); got.status != exitOK || diff != "" {
		t.Errorf("all is set: %+v (-want +got):\n%s", got, diff)
	}
	t.Setenv("TEST_MAIL_KEY_FILE", key+".none")
	got = list("--environment.file", file)
	if got.status != exitFailed || states(got)["TEST_MAIL_KEY"] != "mail unreadable, secret TEST_MAIL_KEY_FILE the key of the mail service" || !strings.Contains(got.stderr, "no such file") {
		t.Errorf("a file that is not there: %+v", got)
	}
	t.Setenv("TEST_MAIL_KEY_FILE", key)
	got = list("--environment.file", file, "--json")
	var first shownVariable
	if err := json.Unmarshal([]byte(got.stdout[:strings.Index(got.stdout, "\n")]), &first); err != nil {
		t.Fatal(err)
	}
	one := shownVariable{Name: "TEST_MAIL_KEY", Module: "mail", Set: true, From: "TEST_MAIL_KEY_FILE", Secret: true, Help: "the key of the mail service"}
	if diff := cmp.Diff(one, first); diff != "" {
		t.Errorf("--json (-want +got):\n%s", diff)
	}
	if strings.Contains(got.stdout+got.stderr, "hunter2") || strings.Contains(got.stdout, "ann@example.com") {
		t.Errorf("a value was printed: %+v", got)
	}
	if got := call(t, "", "env", "list"); got.status != exitOK || got.stdout != "" || !strings.Contains(got.stderr, "take no settings") {
		t.Errorf("a program without settings: %+v", got)
	}
}
