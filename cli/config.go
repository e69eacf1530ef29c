package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"github.com/alecthomas/kong"
)

const (
	// configFlag names the file, and configDefault is the one that is read when it is there.
	configFlag    = "config"
	configDefault = "halcyon.toml"

	// configBytesMax is the size of a configuration file that is still read.
	configBytesMax = 1 << 20
)

// setting is a flag that the configuration file may set as well. Every flag with an environment variable is one; the others belong to
// one call.
type setting struct {
	*kong.Flag
	secret bool // never printed
}

// settingsOf returns the settings of all verbs by their names, which are the paths of their keys in the file: storage.dir is the key dir of
// the table storage. Verbs that share a setting have flags of one definition.
func settingsOf(app *kong.Application) map[string]setting {
	found := make(map[string]setting)
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, flag := range n.Flags {
			if isSetting(flag) {
				found[flag.Name] = setting{flag, flag.Tag.Has("secret")}
			}
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(app.Node)
	return found
}

func isSetting(flag *kong.Flag) bool { return len(flag.Envs) > 0 && flag.Name != configFlag }

// environment returns the variable that sets the flag, and what to. As for kong, the first that exists counts, also when it is empty.
func environment(flag *kong.Flag) (name, text string, ok bool) {
	for _, name := range flag.Envs {
		if text, ok := os.LookupEnv(name); ok {
			return name, text, true
		}
	}
	return "", "", false
}

// parse reads a value as the command line would, without setting anything.
func (s setting) parse(v any) (reflect.Value, error) {
	target := reflect.New(s.Target.Type()).Elem()
	scan := kong.Scan().PushTyped(v, kong.FlagValueToken)
	if err := s.Mapper.Decode(&kong.DecodeContext{Value: s.Value, Scan: scan}, target); err != nil {
		return target, s.hideIn(err)
	}
	if text := fmt.Sprint(target.Interface()); s.Enum != "" && !slices.Contains(s.EnumSlice(), text) {
		return target, s.hideIn(fmt.Errorf("%q is none of %s", text, strings.Join(s.EnumSlice(), ", ")))
	}
	return target, nil
}

// hideIn keeps the value of a secret out of an error.
func (s setting) hideIn(err error) error {
	if s.secret {
		return errors.New("its value does not fit")
	}
	return err
}

// config is what a configuration file sets.
type config struct {
	path   string         // as it was named; empty when there is no file
	values map[string]any // by the setting's name: a string, or a []any for a flag that takes several
}

// Validate is a part of kong.Resolver. The file was checked when it was read.
func (c *config) Validate(*kong.Application) error { return nil }

// Resolve gives kong the value of a flag that was not on the command line. The environment, which kong has looked at before, wins.
func (c *config) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !isSetting(flag) {
		return nil, nil
	}
	if _, _, ok := environment(flag); ok {
		return nil, nil
	}
	return c.values[flag.Name], nil
}

var _ kong.Resolver = (*config)(nil)

// useConfig is called by kong between the environment and the file. Verbs without settings of their own do not read the file, so that they work with a
// broken one; `config check` reads it by itself.
func (e *env) useConfig(ctx *kong.Context) error {
	if e.configured {
		return nil // kong calls once for each part of the command line
	}
	e.configured = true
	uses := slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool { return p.App == nil && slices.ContainsFunc(p.Flags, isSetting) })
	if !uses || strings.HasPrefix(ctx.Command(), "config ") {
		return nil
	}
	found, err := configOf(ctx)
	if err != nil {
		return usageError{hinted{err, fmt.Sprintf("`%s config check` shows every setting and where its value is from", e.program)}}
	}
	ctx.AddResolver(found)
	return nil
}

// configOf reads the file that the command line names, or the one that is read without being named. With an error that is about single
// settings comes what the others are.
func configOf(ctx *kong.Context) (*config, error) {
	path, named := configDefault, false
	for _, flag := range ctx.Model.Flags {
		if flag.Name == configFlag {
			path, _ = ctx.FlagValue(flag).(string)
			_, _, named = environment(flag)
			named = named || onCommandLine(ctx, flag)
		}
	}
	if path == "" {
		return &config{}, nil // somebody wants no file
	}
	text, private, err := readConfigFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return &config{}, nil
	}
	if err != nil {
		return &config{}, fmt.Errorf("read the configuration: %w", err)
	}
	known := settingsOf(ctx.Model)
	values, err := parseConfig(text, known)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if known[name].secret && !private {
			err = errors.Join(err, fmt.Errorf("%s holds a secret, %s, and every user of this machine may read it: chmod 600 %s", path, name, path))
		}
	}
	return &config{path, values}, err
}

// onCommandLine reports whether a flag was given as such.
func onCommandLine(ctx *kong.Context, flag *kong.Flag) bool {
	return slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool { return p.Flag == flag && !p.Resolved })
}

// readConfigFile returns what is in the file, and whether it is kept from users who are neither its owner nor of its group.
func readConfigFile(path string) (text []byte, private bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	text, err = io.ReadAll(io.LimitReader(f, configBytesMax+1))
	if err == nil && len(text) > configBytesMax {
		err = fmt.Errorf("%s is larger than %d bytes", path, configBytesMax)
	}
	return text, runtime.GOOS == "windows" || info.Mode().Perm()&0o004 == 0, err
}

// parseConfig reads a file and checks all that is in it, whichever verb it is for. It returns the settings that are right, and an error that
// names all that are not.
func parseConfig(text []byte, known map[string]setting) (map[string]any, error) {
	var tree map[string]any
	if _, err := toml.NewDecoder(bytes.NewReader(text)).Decode(&tree); err != nil {
		return nil, explainTOML(err, known)
	}
	p := configParser{known: known, values: make(map[string]any)}
	p.table(nil, tree)
	return p.values, errors.Join(p.problems...)
}

func explainTOML(err error, known map[string]setting) error {
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return err
	}
	if known[parse.LastKey].secret {
		return fmt.Errorf("line %d: the value of %s is not TOML", parse.Position.Line, parse.LastKey)
	}
	return errors.New(strings.TrimPrefix(parse.Error(), "toml: "))
}

// configParser goes through the tables of a file.
type configParser struct {
	known    map[string]setting
	values   map[string]any
	problems []error
}

// settingError is a value of a file that its setting does not take.
type settingError struct {
	name, value string
	cause       error
}

func (e *settingError) Error() string { return e.name + ": " + e.cause.Error() }
func (e *settingError) Unwrap() error { return e.cause }

// settingErrors returns those among the errors that err is made of, by the names of their settings.
func settingErrors(err error) map[string]*settingError {
	found := map[string]*settingError{}
	var visit func(error)
	visit = func(err error) {
		if one, ok := err.(*settingError); ok {
			found[one.name] = one
			return
		}
		switch err := err.(type) {
		case interface{ Unwrap() error }:
			visit(err.Unwrap())
		case interface{ Unwrap() []error }:
			for _, one := range err.Unwrap() {
				visit(one)
			}
		}
	}
	visit(err)
	return found
}

// displayed returns a value of a file as config check prints it.
func displayed(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	return strings.Trim(fmt.Sprint(v), "[]")
}

func (p *configParser) problem(format string, args ...any) {
	p.problems = append(p.problems, fmt.Errorf(format, args...))
}

func (p *configParser) table(path toml.Key, table map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(table)) {
		path := append(path[:len(path):len(path)], key)
		name := path.String() // which quotes what has a dot, so that it is not taken for a path
		s, isSetting := p.known[name]
		inner, isTable := table[key].(map[string]any)
		switch {
		case isTable && p.isTable(name):
			p.table(path, inner)
		case isTable && isSetting:
			p.problem("%s is a value, not a table", name)
		case isTable:
			p.problem("there are no settings in [%s]%s", name, didYouMean(name, p.tables()))
		case !isSetting:
			p.problem("%s is not a setting%s", name, didYouMean(name, slices.Sorted(maps.Keys(p.known))))
		default:
			v, err := settingValue(table[key], s)
			if err == nil {
				_, err = s.parse(v)
			}
			if err != nil {
				p.problems = append(p.problems, &settingError{name, displayed(table[key]), err})
				continue
			}
			p.values[name] = v
		}
	}
}

// isTable reports whether settings are below the name.
func (p *configParser) isTable(name string) bool { return slices.Contains(p.tables(), name) }

// tables returns the names of the tables that settings are in, in order.
func (p *configParser) tables() []string {
	found := make(map[string]bool)
	for name := range p.known {
		for i, r := range name {
			if r == '.' {
				found[name[:i]] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// settingValue turns a value of the file into one that the flag takes.
func settingValue(v any, s setting) (any, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case []any:
		if s.IsCumulative() {
			return v, nil
		}
		return nil, errors.New("takes one value, not a list")
	}
	return nil, errors.New("takes a text, a number, true or false")
}

// didYouMean returns a question about the name that is most like a wrong one, or "" when none is.
func didYouMean(wrong string, names []string) string {
	best, least := "", max(1, utf8.RuneCountInString(wrong)/3)+1
	for _, name := range names {
		distance := editDistance(wrong, name)
		if _, last, ok := cutLast(name); ok && last == wrong {
			distance = 0 // the right key outside of its table
		}
		if distance < least {
			best, least = name, distance
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

func cutLast(name string) (before, last string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// editDistance is how many letters have to be added, removed or exchanged to make one text of the other.
func editDistance(a, b string) int {
	from, to := []rune(a), []rune(b)
	row := make([]int, len(to)+1) // distances of what was seen of a to every beginning of b
	for j := range row {
		row[j] = j
	}
	for i, x := range from {
		diagonal := row[0]
		row[0] = i + 1
		for j, y := range to {
			exchanged := diagonal
			if x != y {
				exchanged++
			}
			diagonal = row[j+1]
			row[j+1] = min(exchanged, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(to)]
}

// String writes a size as the command line takes it, in the largest unit that divides it.
func (b byteSize) String() string {
	units := slices.SortedFunc(slices.Values(byteUnits), func(a, c struct {
		name  string
		bytes float64
	}) int {
		return cmp.Compare(c.bytes, a.bytes)
	})
	for _, unit := range units {
		if size := int64(unit.bytes); size > 1 && b != 0 && int64(b)%size == 0 {
			return strconv.FormatInt(int64(b)/size, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
