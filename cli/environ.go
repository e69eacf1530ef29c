package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/halcyon-db/halcyon"
)

// environmentFlags say where settings of modules are, besides the environment of the process.
type environmentFlags struct {
	File string `complete:"file" env:"HALCYON_ENVIRONMENT_FILE" placeholder:"FILE" help:"File of settings for modules, NAME=VALUE in each line. Variables of the environment, also as HALCYON_ENV_NAME, win over it."`
}

// environmentPrefix is what a variable of the process may have in front of the name that a module knows.
const environmentPrefix = "HALCYON_ENV_"

// environmentBytesMax is the size of the largest file of settings.
const environmentBytesMax = 1 << 20

// moduleSettings is where modules find their settings: in the environment of the process, and in a file.
type moduleSettings struct {
	file map[string]string
	path string // of the file
}

// find returns a setting, and the variable or the file that it is from.
func (s moduleSettings) find(name string) (value, from string, ok bool) {
	for _, key := range []string{environmentPrefix + name, name} {
		if value, ok := os.LookupEnv(key); ok {
			return value, key, true
		}
	}
	value, ok = s.file[name]
	return value, s.path, ok
}

// lookup is find as [halcyon.Options] has it.
func (s moduleSettings) lookup(name string) (string, bool) {
	value, _, ok := s.find(name)
	return value, ok
}

// read returns where modules find their settings.
func (f environmentFlags) read(e *env) (moduleSettings, error) {
	found := moduleSettings{path: f.File}
	if f.File != "" {
		text, err := os.ReadFile(f.File)
		if err != nil {
			return found, hinted{fmt.Errorf("read the settings of modules: %w", err), "--environment.file names a file with NAME=VALUE in each line"}
		}
		if found.file, err = parseEnvironment(text); err != nil {
			return found, hinted{fmt.Errorf("read the settings of modules: %s: %w", f.File, err), `a line is NAME=VALUE, NAME="VALUE" or a comment that begins with #`}
		}
		if info, err := os.Stat(f.File); err == nil && info.Mode().Perm()&0o077 != 0 {
			fmt.Fprintf(e.stderr, "%s: %s can be read by other users of this machine; chmod 600 keeps what is secret in it\n", e.program, f.File)
		}
	}
	return found, nil
}

// parseEnvironment reads a file of settings. Its errors name lines and nothing of what is in them, which may be secret.
//
// A value goes to the end of its line, without the blanks around it. In double quotes \n, \t, \" and \\ stand for a line break, a tab, a quote and
// a backslash; in single quotes everything stands for itself. A line may begin with "export".
func parseEnvironment(text []byte) (map[string]string, error) {
	if len(text) > environmentBytesMax {
		return nil, fmt.Errorf("the file has %d bytes, and may have %d", len(text), environmentBytesMax)
	}
	settings := map[string]string{}
	number := 0
	for raw := range bytes.Lines(text) {
		number++
		line := strings.TrimSpace(string(raw))
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		if name = strings.TrimSpace(name); !ok || !isVariableName(name) {
			return nil, fmt.Errorf("line %d does not begin with NAME=", number)
		}
		if _, twice := settings[name]; twice {
			return nil, fmt.Errorf("line %d sets %s again", number, name)
		}
		value, err := unquote(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		settings[name] = value
	}
	return settings, nil
}

func isVariableName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '_' || '0' <= c && c <= '9' && i > 0) {
			return false
		}
	}
	return name != ""
}

// unquote returns what a value stands for.
func unquote(value string) (string, error) {
	if value == "" || value[0] != '"' && value[0] != '\'' {
		return value, nil
	}
	quote := value[0]
	var b strings.Builder
	for i := 1; i < len(value); i++ {
		c := value[i]
		switch {
		case c == quote && i == len(value)-1:
			return b.String(), nil
		case c == quote:
			return "", errors.New("something follows the closing quote")
		case c == '\\' && quote == '"' && i+1 < len(value):
			i++
			switch value[i] {
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case '"', '\\':
				c = value[i]
			default:
				return "", errors.New(`after \ in double quotes come n, t, " and \`)
			}
		}
		b.WriteByte(c)
	}
	return "", errors.New("the closing quote is missing")
}

// explainEnvironment says how to set what is missing.
func explainEnvironment(err error) error {
	missing, ok := errors.AsType[*halcyon.EnvironmentError](err)
	if !ok || len(missing.Missing) == 0 {
		return err
	}
	var ways []string
	for _, m := range missing.Missing {
		if m.Secret {
			ways = append(ways, m.Name+"_FILE to the name of a file that holds it, or "+m.Name)
		} else {
			ways = append(ways, m.Name)
		}
	}
	return hinted{err, "set " + strings.Join(ways, "; ") + "; in the environment, or in a file that --environment.file names"}
}
