package halcyon

import "net"

// OnListen adds something to do when the program begins to listen, before it answers anybody: a module may open to this machine what it
// keeps from others. It is not called in programs that serve nobody, such as the run of a command.
func (m *Module) OnListen(hook func(net.Addr)) { m.onListen = append(m.onListen, hook) }

// Listening tells the modules where the program listens. Package cli calls it; a program that serves by itself should, before it serves.
func (a *App) Listening(at net.Addr) {
	for _, m := range a.modules {
		for _, hook := range m.onListen {
			hook(at)
		}
	}
}
