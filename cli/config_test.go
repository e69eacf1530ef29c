package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// grammarOf returns the command line of a program without modules.
func grammarOf(t testing.TB) *kong.Application {
	t.Helper()
	parser, err := kong.New(&grammar{})
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model
}

// writeConfig makes a configuration file that its owner alone may read.
func writeConfig(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "halcyon.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParseConfig(t *testing.T) {
	tests := []struct {
		name, text string
		want       map[string]any
		problems   []string
	}{
		{name: "nothing", want: map[string]any{}},
		{name: "comments", text: "# none\n", want: map[string]any{}},
		{name: "tables", text: "[server]\nlisten = ':80'\n[storage]\ndir = '/data'\nfree-min = '200MiB'", want: map[string]any{
			"server.listen": ":80", "storage.dir": "/data", "storage.free-min": "200MiB"}},
		{name: "paths of keys", text: "storage.dir = 'a'\nlog.level = 'debug'", want: map[string]any{"storage.dir": "a", "log.level": "debug"}},
		{name: "a key outside of tables", text: "url = 'http://127.0.0.1'", want: map[string]any{"url": "http://127.0.0.1"}},
		{name: "a number for a size", text: "storage.free-min = 1048576", want: map[string]any{"storage.free-min": "1048576"}},
		{name: "an empty table", text: "[server]", want: map[string]any{}},
		{name: "a slip in a key", text: "[server]\nlistn = ':80'", want: map[string]any{}, problems: []string{"server.listn is not a setting; did you mean server.listen?"}},
		{name: "a slip in a table", text: "[sever]\nlisten = ':80'", want: map[string]any{}, problems: []string{"there are no settings in [sever]; did you mean server?"}},
		{name: "an empty table that is none", text: "[nonsense]", want: map[string]any{}, problems: []string{"there are no settings in [nonsense]"}},
		{name: "a key without its table", text: "listen = ':80'", want: map[string]any{}, problems: []string{"listen is not a setting; did you mean server.listen?"}},
		{name: "a key like nothing", text: "[server]\ncertificates = 'x'", want: map[string]any{}, problems: []string{"server.certificates is not a setting"}},
		{name: "a path in quotes", text: `"storage.dir" = "a"`, want: map[string]any{}, problems: []string{`"storage.dir" is not a setting; did you mean storage.dir?`}},
		{name: "a flag of one call", text: "json = true", want: map[string]any{}, problems: []string{"json is not a setting"}},
		{name: "the file's own name", text: "config = 'other.toml'", want: map[string]any{}, problems: []string{"config is not a setting"}},
		{name: "a value that does not fit", text: "[log]\nformat = 'yaml'\nlevel = 'loud'\n[storage]\nfree-min = 'much'", want: map[string]any{}, problems: []string{
			`log.format: "yaml" is none of text, json`, "log.level: ", `storage.free-min: `}},
		{name: "what is right beside what is wrong", text: "[log]\nformat = 'json'\nlevl = 'info'", want: map[string]any{"log.format": "json"}, problems: []string{"log.levl"}},
		{name: "a list for one value", text: "storage.dir = ['a', 'b']", want: map[string]any{}, problems: []string{"storage.dir: takes one value, not a list"}},
		{name: "a date", text: "storage.dir = 2026-11-27", want: map[string]any{}, problems: []string{"storage.dir: takes a text"}},
		{name: "a table for a value", text: "[storage.dir]\npath = 'a'", want: map[string]any{}, problems: []string{"storage.dir is a value, not a table"}},
		{name: "a value for a table", text: "storage = 'a'", want: map[string]any{}, problems: []string{"storage is not a setting"}},
		{name: "tables in a list", text: "[[server]]\nlisten = ':80'", want: map[string]any{}, problems: []string{"server is not a setting"}},
		{name: "no TOML", text: "[server]\nlisten: ':80'", problems: []string{"line 2"}},
		{name: "a key twice", text: "storage.dir = 'a'\nstorage.dir = 'b'", problems: []string{"line 2", "storage.dir"}},
	}
	known := settingsOf(grammarOf(t))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseConfig([]byte(tt.text), known)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (err != nil) != (len(tt.problems) > 0) {
				t.Fatalf("error %v, want %q", err, tt.problems)
			}
			if err != nil && len(strings.Split(err.Error(), "\n")) != len(tt.problems) && tt.want != nil {
				t.Errorf("problems %q, want %d: %q", err, len(tt.problems), tt.problems)
			}
			for _, problem := range tt.problems {
				if !strings.Contains(err.Error(), problem) {
					t.Errorf("problems %q lack %q", err, problem)
				}
			}
		})
	}
}

func TestSecretsAreNotInErrors(t *testing.T) {
	known := settingsOf(grammarOf(t))
	for _, text := range []string{"key = hunter2", "key = ['hunter2']", "key = 'hunter2\n'", "[key]\nhunter2 = 1"} {
		if _, err := parseConfig([]byte(text), known); err == nil || strings.Contains(strings.ReplaceAll(err.Error(), "[key", ""), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzParseConfig holds that what a file sets is what flags take.
func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{"", "storage.dir = 'a'", "[log]\nlevel = 'debug'", "[[server]]", "a.b.c = 1", `"a.b" = [1, {x = 2}]`, "storage.free-min = 9e99", "key = inf"} {
		f.Add([]byte(seed))
	}
	known := settingsOf(grammarOf(f))
	f.Fuzz(func(t *testing.T, text []byte) {
		values, _ := parseConfig(text, known)
		for name, v := range values {
			s, ok := known[name]
			if !ok {
				t.Fatalf("%q set %s, which is no setting", text, name)
			}
			if _, err := s.parse(v); err != nil {
				t.Fatalf("%q set %s: %v", text, name, err)
			}
		}
	})
}

// TestSettingsOfOneNameAreOne keeps verbs from understanding a key differently.
func TestSettingsOfOneNameAreOne(t *testing.T) {
	app := grammarOf(t)
	known := settingsOf(app)
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, flag := range n.Flags {
			s, ok := known[flag.Name]
			if !ok {
				continue
			}
			if flag.Default != s.Default || flag.Enum != s.Enum || !slices.Equal(flag.Envs, s.Envs) || flag.Target.Type() != s.Target.Type() {
				t.Errorf("--%s of %s is another flag than that of other verbs", flag.Name, n.FullPath())
			}
			if want := "HALCYON_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(flag.Name)); flag.Name != "key" && flag.Envs[0] != want {
				t.Errorf("--%s has the variable %s, want %s", flag.Name, flag.Envs[0], want)
			}
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(app.Node)
	if len(known) < 5 {
		t.Errorf("there are only %d settings", len(known))
	}
}

func TestConfigSetsFlags(t *testing.T) {
	base := t.TempDir()
	dirs := map[string]string{}
	for _, name := range []string{"file", "env", "flag", "default"} {
		dirs[name] = filepath.Join(base, name)
	}
	file := writeConfig(t, "[storage]\ndir = '"+dirs["file"]+"'\n[log]\nlevel = 'error'\n")
	used := func(name string, args ...string) {
		t.Helper()
		if got := call(t, "", append([]string{"run", "notes:list"}, args...)...); got.status != exitOK {
			t.Fatalf("%s: %+v", name, got)
		}
		for other, dir := range dirs {
			if _, err := os.Stat(dir); (err == nil) != (other == name) {
				t.Errorf("%q: the folder of the %s: %v", args, other, err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	used("file", "--config", file)
	used("flag", "--config", file, "--storage.dir", dirs["flag"])
	t.Setenv("HALCYON_CONFIG", file)
	used("file")
	t.Setenv("HALCYON_STORAGE_DIR", dirs["env"])
	used("env")
	used("flag", "--storage.dir", dirs["flag"])
}

func TestConfigOfTheWorkingFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(configDefault, []byte("storage.dir = 'here'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := call(t, "", "notes", "count-notes"); got.status != exitOK {
		t.Fatal(got)
	}
	if _, err := os.Stat("here"); err != nil {
		t.Errorf("the file of the working folder was not used: %v", err)
	}
	if got := call(t, "", "run", "--config", "", "notes:list"); got.status != exitOK {
		t.Fatal(got)
	}
	if _, err := os.Stat("halcyon-data"); err != nil {
		t.Errorf("--config '' did not turn the file off: %v", err)
	}
}

func TestConfigThatIsWrong(t *testing.T) {
	slip := writeConfig(t, "[storage]\ndri = 'a'\n")
	open := writeConfig(t, "key = 'hunter2'\n")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	large := writeConfig(t, strings.Repeat("#", configBytesMax+1))
	missing := filepath.Join(t.TempDir(), "none.toml")
	tests := []struct {
		name, file string
		want       []string
	}{
		{"a slip", slip, []string{slip, "storage.dri is not a setting; did you mean storage.dir?", "config check"}},
		{"a named file that is not there", missing, []string{missing, "no such file"}},
		{"a secret that all may read", open, []string{open, "chmod 600"}},
		{"a file that is too large", large, []string{large, "larger than"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, verb := range [][]string{{"run", "notes:list"}, {"serve"}, {"notes", "count-notes"}, {"config", "check"}} {
				got := call(t, "", append(verb, "--config", tt.file)...)
				if got.status != exitUsage || strings.Contains(got.stderr+got.stdout, "hunter2") {
					t.Errorf("%q: %+v", verb, got)
				}
				for _, want := range tt.want {
					if verb[0] != "config" && !strings.Contains(got.stderr, want) || want == tt.file && !strings.Contains(got.stderr, want) {
						t.Errorf("%q: standard error lacks %q:\n%s", verb, want, got.stderr)
					}
				}
			}
			// What has no settings works with any file.
			for _, verb := range [][]string{{"version"}, {"codegen", "--out", t.TempDir()}, {"serve", "--help"}} {
				if got := call(t, "", append(verb, "--config", tt.file)...); got.status != exitOK {
					t.Errorf("%q: %+v", verb, got)
				}
			}
		})
	}
}

func TestConfigCheck(t *testing.T) {
	file := writeConfig(t, "key = 'hunter2'\n[storage]\ndir = '/data'\n[log]\nlevel = 'warn'\nformat = 'json'\n")
	t.Setenv("HALCYON_LOG_LEVEL", "debug")
	t.Setenv("HALCYON_LOG_LEVLE", "debug")
	args := []string{"config", "check", "--config", file, "--storage.free-min", "2GiB"}
	got := call(t, "", args...)
	if got.status != exitOK {
		t.Fatal(got)
	}
	lines := map[string]string{}
	for line := range strings.Lines(got.stdout) {
		fields := strings.Fields(line)
		lines[fields[0]] = strings.Join(fields[1:], " ")
	}
	for name, want := range map[string]string{
		"server.listen": "127.0.0.1:3210 default", "storage.dir": "/data " + file, "storage.free-min": "2GiB --storage.free-min",
		"log.level": "debug HALCYON_LOG_LEVEL", "log.format": "json " + file, "key": "(secret) " + file, "url": "(not set) default",
	} {
		if lines[name] != want {
			t.Errorf("%s: %q, want %q", name, lines[name], want)
		}
	}
	if !strings.Contains(got.stderr, "HALCYON_LOG_LEVLE is in the environment and sets nothing here; did you mean HALCYON_LOG_LEVEL?") {
		t.Errorf("standard error: %s", got.stderr)
	}
	shown := map[string]shownSetting{}
	got = call(t, "", append(args, "--json")...)
	for line := range strings.Lines(got.stdout) {
		var s shownSetting
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		shown[s.Name] = s
	}
	for _, want := range []shownSetting{
		{Name: "key", Source: "file", From: file, Secret: true},
		{Name: "log.level", Value: "debug", Source: "environment", From: "HALCYON_LOG_LEVEL"},
		{Name: "server.listen", Value: "127.0.0.1:3210", Source: "default"},
		{Name: "storage.free-min", Value: "2GiB", Source: "flag", From: "--storage.free-min"},
	} {
		if diff := cmp.Diff(want, shown[want.Name]); diff != "" {
			t.Errorf("--json (-want +got):\n%s", diff)
		}
	}
	if strings.Contains(got.stdout+got.stderr, "hunter2") {
		t.Errorf("the secret was printed: %+v", got)
	}

	bad := writeConfig(t, "[log]\nformat = 'json'\nlevl = 'info'\n[sever]\n")
	got = call(t, "", "config", "check", "--config", bad)
	if got.status != exitUsage || !strings.Contains(got.stdout, "json") {
		t.Errorf("what is wrong beside what is right: %+v", got)
	}
	// What is wrong with a value does not hide the value.
	wrong := writeConfig(t, "key = ['hunter2']\n[log]\nformat = 'yaml'\n[storage]\nfree-min = 'much'\ndir = ['a', 'b']\n")
	for name, want := range map[string]string{
		"log.format": `yaml ` + wrong + ` wrong: "yaml" is none of text, json`, "storage.free-min": "much " + wrong + " wrong: ", "storage.dir": "a b " + wrong + " wrong: takes one value",
		"key": "(secret) " + wrong + " wrong: ",
	} {
		got := call(t, "", "config", "check", "--config", wrong)
		if got.status != exitUsage || strings.Contains(got.stdout+got.stderr, "hunter2") || !strings.Contains(got.stderr, wrong+": ") {
			t.Errorf("values that do not fit: %+v", got)
		}
		line := ""
		for l := range strings.Lines(got.stdout) {
			if fields := strings.Fields(l); fields[0] == name {
				line = strings.Join(fields[1:], " ")
			}
		}
		if !strings.HasPrefix(line, want) {
			t.Errorf("%s: %q, want %q", name, line, want)
		}
	}
	for _, want := range []string{"log.levl", "[sever]"} {
		if got := call(t, "", "config", "check", "--config", bad); !strings.Contains(got.stderr, want) {
			t.Errorf("standard error lacks %q:\n%s", want, got.stderr)
		}
	}
	t.Setenv("HALCYON_LOG_LEVEL", "loud")
	if got := call(t, "", "config", "check"); got.status != exitUsage || !strings.Contains(got.stderr, "HALCYON_LOG_LEVEL") {
		t.Errorf("a variable that does not fit: %+v", got)
	}
}

func TestDidYouMean(t *testing.T) {
	names := []string{"log.format", "log.level", "server.listen", "storage.dir"}
	for wrong, want := range map[string]string{
		"log.levle": "log.level", "dir": "storage.dir", "server.listn": "server.listen", "storage-dir": "storage.dir", "x": "", "certificates": "", "": "",
	} {
		if got := didYouMean(wrong, names); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("didYouMean(%q) = %q, want %q", wrong, got, want)
		}
	}
}

func TestByteSizeIsWrittenAsItIsRead(t *testing.T) {
	for _, text := range []string{"1", "1000", "1KiB", "200MiB", "1536MiB", "2GiB", "3TiB"} {
		var size byteSize
		if err := size.UnmarshalText([]byte(text)); err != nil || size.String() != text {
			t.Errorf("%s is written as %s, %v", text, size, err)
		}
	}
}

// TestConfigCheckTakesWhatServeTakes: a flag of serve that config check does not know could not be tried out with it.
func TestConfigCheckTakesWhatServeTakes(t *testing.T) {
	check := reflect.TypeFor[configCheckVerb]()
	for field := range reflect.TypeFor[serveVerb]().Fields() {
		same, ok := check.FieldByName(field.Name)
		if field.Tag.Get("prefix") != "" && (!ok || same.Type != field.Type || same.Tag != field.Tag) {
			t.Errorf("config check lacks the flags --%s...", field.Tag.Get("prefix"))
		}
	}
	if got := call(t, "", "config", "check", "--tls.email", "a@example.com"); got.status != exitOK || !strings.Contains(got.stdout, "a@example.com") {
		t.Errorf("config check with a flag of serve: %+v", got)
	}
}
