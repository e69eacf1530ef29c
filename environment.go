package halcyon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Variable is a setting that a module takes from the environment of the program: where a service is, or what opens it. Actions, HTTP routes and
// sockets read it by its name; queries and mutations can't, since they must do the same whenever they are executed.
type Variable struct {
	// Name is what actions ask for: capital letters, digits and "_", such as PAYMENTS_KEY.
	Name string
	// Help says what it is for, to whoever has to set it: "the key of the account at payments.example".
	Help string
	// Secret keeps the value from being seen: it is read from the file that NAME_FILE names, if that is set, and wherever it turns up in the
	// log, in log lines of functions or in errors, [secret] stands in its place.
	Secret bool
	// Optional lets the App start without it.
	Optional bool
	// Default is the value when nothing is set. A Secret has none.
	Default string
}

// Env declares settings that the module takes from the environment. An App does not start while one is missing that is neither Optional nor has
// a Default.
func (m *Module) Env(variables ...Variable) { m.env = append(m.env, variables...) }

// MissingVariable is a setting that a module needs and nobody has set.
type MissingVariable struct {
	Module string
	Variable
}

// EnvironmentError is why an App does not start: settings that its modules need are missing, or can't be read.
type EnvironmentError struct {
	Missing []MissingVariable
	Causes  []error // of files that could not be read
}

// Error names all of them, who needs them, and what for.
func (e *EnvironmentError) Error() string {
	var parts []string
	for _, m := range e.Missing {
		part := fmt.Sprintf("module %q needs %s", m.Module, m.Name)
		if m.Help != "" {
			part += " (" + m.Help + ")"
		}
		parts = append(parts, part)
	}
	for _, cause := range e.Causes {
		parts = append(parts, cause.Error())
	}
	return "settings are missing: " + strings.Join(parts, "; ")
}

// Unwrap returns the causes.
func (e *EnvironmentError) Unwrap() []error { return e.Causes }

// DeclaredVariable is a setting of a module as an operator may see it.
type DeclaredVariable struct {
	Module string
	Variable
	Set     bool  // it has a value other than its default
	Missing bool  // the App does not start for want of it
	Err     error // why the file of a secret can't be read; the App does not start then either
}

// Variables returns the settings that the modules take from the environment, with no value of any. lookup is where to look; nil stands for
// os.LookupEnv.
func (a *App) Variables(lookup func(string) (string, bool)) []DeclaredVariable {
	if lookup == nil {
		lookup = os.LookupEnv
	}
	e := declarations(a.modules, lookup)
	var declared []DeclaredVariable
	for _, m := range a.modules {
		for _, v := range m.env {
			text, ok, err := e.look(v)
			declared = append(declared, DeclaredVariable{
				Module: m.name, Variable: v, Set: ok && text != e.defaults[v.Name], Missing: err == nil && !ok && !v.Optional, Err: err,
			})
		}
	}
	return declared
}

// SecretFileSuffix makes the name of the variable that names a file from that of a secret.
const SecretFileSuffix = "_FILE"

var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// checkEnv finds the mistakes in a module's declarations.
func checkEnv(variables []Variable) error {
	var errs []error
	names := map[string]bool{}
	for _, v := range variables {
		var err error
		switch {
		case !variableName.MatchString(v.Name) || len(v.Name) > nameBytesMax:
			err = errors.New("a name has capital letters, digits and _, begins with a letter, and has at most 64 bytes")
		case names[v.Name]:
			err = errors.New("it is declared twice")
		case v.Secret && v.Default != "":
			err = errors.New("a secret has no default: everybody who reads the program would know it")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("environment variable %q: %w", v.Name, err))
		}
		names[v.Name] = true
	}
	return errors.Join(errs...)
}

// environment is what the program's modules read of its environment. It never changes.
type environment struct {
	lookup   func(string) (string, bool)
	defaults map[string]string
	secrets  map[string]bool // names that were declared as secret by any module
	hide     []string        // values of those, longest first
}

// newEnvironment looks up what the modules declare. The error is for Start: an App may be open without all of it.
func newEnvironment(modules []*Module, lookup func(string) (string, bool)) (*environment, error) {
	if lookup == nil {
		lookup = os.LookupEnv
	}
	e := declarations(modules, lookup)
	problem := &EnvironmentError{}
	for _, m := range modules {
		for _, v := range m.env {
			text, ok, err := e.look(v)
			if ok && e.secrets[v.Name] {
				e.hide = addSecret(e.hide, text)
			}
			switch {
			case err != nil:
				problem.Causes = append(problem.Causes, fmt.Errorf("module %q: %w", m.name, err))
			case !ok && !v.Optional:
				problem.Missing = append(problem.Missing, MissingVariable{m.name, v})
			}
		}
	}
	if len(problem.Missing)+len(problem.Causes) > 0 {
		return e, problem
	}
	return e, nil
}

// declarations returns what the modules declare, with nothing looked up yet.
func declarations(modules []*Module, lookup func(string) (string, bool)) *environment {
	e := &environment{lookup: lookup, defaults: map[string]string{}, secrets: map[string]bool{}}
	for _, m := range modules {
		for _, v := range m.env {
			if v.Default != "" {
				e.defaults[v.Name] = v.Default
			}
			if v.Secret {
				e.secrets[v.Name] = true
			}
		}
	}
	return e
}

// look returns the value of a declared variable; ok is false when there is none, or an empty one.
func (e *environment) look(v Variable) (text string, ok bool, err error) {
	if e.secrets[v.Name] {
		return e.secret(v.Name)
	}
	text, _ = e.value(v.Name)
	return text, text != "", nil
}

func (e *environment) value(name string) (string, bool) {
	if text, ok := e.lookup(name); ok {
		return text, true
	}
	text, ok := e.defaults[name]
	return text, ok
}

// secret returns a secret; ok is false when it is not set.
func (e *environment) secret(name string) (text string, ok bool, err error) {
	if file, named := e.lookup(name + SecretFileSuffix); named {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", false, fmt.Errorf("secret %s: %w", name, err)
		}
		text = strings.TrimRight(string(content), "\r\n")
	} else {
		text, _ = e.lookup(name)
	}
	return text, text != "", nil
}

// addSecret adds a value to those that are hidden. A longer one goes first, since it may have a shorter one in it.
func addSecret(hide []string, secret string) []string {
	if len(secret) < secretBytesMin || slices.Contains(hide, secret) {
		return hide
	}
	hide = append(slices.Clone(hide), secret)
	slices.SortStableFunc(hide, func(a, b string) int { return len(b) - len(a) })
	return hide
}

// hidingHandler keeps secrets out of a log.
type hidingHandler struct {
	slog.Handler
	hide []string
}

// Handle passes the record on without the secrets in it.
func (h hidingHandler) Handle(ctx context.Context, record slog.Record) error {
	clean := slog.NewRecord(record.Time, record.Level, hideSecrets(record.Message, h.hide), record.PC)
	record.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

// WithAttrs returns a handler whose records have the attributes, without the secrets in them.
func (h hidingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.attr(a)
	}
	return hidingHandler{h.Handler.WithAttrs(clean), h.hide}
}

// WithGroup returns a handler whose records are in a group.
func (h hidingHandler) WithGroup(name string) slog.Handler {
	return hidingHandler{h.Handler.WithGroup(name), h.hide}
}

// attr returns the attribute without secrets. A value that shows one, whatever its type, becomes a text.
func (h hidingHandler) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		group := v.Group()
		clean := make([]slog.Attr, len(group))
		for i, inner := range group {
			clean[i] = h.attr(inner)
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(clean...)}
	}
	if v.Kind() == slog.KindString || v.Kind() == slog.KindAny {
		text := v.String()
		if err, ok := v.Any().(error); ok {
			text = err.Error()
		}
		if clean := hideSecrets(text, h.hide); clean != text {
			return slog.String(a.Key, clean)
		}
	}
	return slog.Attr{Key: a.Key, Value: v}
}
