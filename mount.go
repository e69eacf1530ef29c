package halcyon

import (
	"reflect"

	"github.com/halcyon-db/halcyon/engine/value"
)

// moduleTables tells tables apart as a module sees them: those that it lists itself before those of others, so that a module which is
// mounted twice takes no ids of its other mount.
type moduleTables struct {
	run    *runtime
	module string
}

var _ tableNames = moduleTables{}

func (m moduleTables) nameOf(document reflect.Type) string {
	name, _ := m.find(document)
	return name
}

// find returns the name of the table of such documents, and whether it is the module's own.
func (m moduleTables) find(document reflect.Type) (name string, own bool) {
	name = document.Name()
	for _, t := range m.run.app.tables {
		if t.def.typ != document {
			continue
		}
		if name = t.def.name; t.module == m.module {
			return name, true
		}
	}
	return name, false
}

func (m moduleTables) check(document reflect.Type, id value.ID) (ok bool, other string) {
	t, known := m.run.numbers[id.Table]
	switch {
	case !known:
		return false, ""
	case t.def.typ != document:
		return false, t.def.name
	case t.module == m.module:
		return true, ""
	}
	if _, own := m.find(document); own {
		return false, engineName(t.module, t.def.name) // of the module's other mount
	}
	return true, ""
}
