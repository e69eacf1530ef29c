package halcyon

import (
	"errors"
	"fmt"
	"log/slog"
)

// Settings is what a module reads of its environment when the App opens; see [Module.Configure].
type Settings struct {
	run    *runtime
	module *Module
}

// Configure adds something to do each time the App opens, before anything of it runs: a module takes over the settings that it has declared
// with Env. An error does not keep the App from being opened, since a backup needs no settings, but from starting.
func (m *Module) Configure(hook func(Settings) error) { m.configure = append(m.configure, hook) }

// Env returns a setting that is no secret, or the default that the module has declared, and "" when there is neither.
func (s Settings) Env(name string) string {
	text, _ := s.run.env.value(name)
	return text
}

// Secret returns a secret, from the file that NAME_FILE names or the variable itself, and "" when it is not set.
func (s Settings) Secret(name string) string {
	text, _, _ := s.run.env.secret(name) // an error is that of Start already
	return text
}

// Publish lets clients call an internal function of the module while the App is open.
func (s Settings) Publish(function string) error {
	f := s.run.app.functions[s.module.name+":"+function]
	if f == nil {
		return fmt.Errorf("module %q has no function %q", s.module.name, function)
	}
	s.run.published[f] = true
	return nil
}

// hidden reports whether clients can't call a function.
func (r *runtime) hidden(f *function) bool { return f.internal && !r.published[f] }

// Logger is the program's, for what a module goes on to tell about its settings.
func (s Settings) Logger() *slog.Logger { return s.run.logger }

// configure has the modules take over their settings.
func (r *runtime) configure() error {
	var errs []error
	for _, m := range r.app.modules {
		for _, hook := range m.configure {
			if err := hook(Settings{r, m}); err != nil {
				errs = append(errs, fmt.Errorf("settings of module %q: %w", m.name, err))
			}
		}
	}
	return errors.Join(errs...)
}
