package halcyon

import (
	"cmp"
	"slices"
)

// FunctionInfo names a function of an App.
type FunctionInfo struct {
	Path     string // "module:function"
	Kind     FunctionKind
	Internal bool
}

// Functions returns the functions of all modules, by path. The App need not be open.
func (a *App) Functions() []FunctionInfo {
	out := make([]FunctionInfo, 0, len(a.functions))
	for _, f := range a.functions {
		out = append(out, FunctionInfo{f.path, f.kind, f.internal})
	}
	slices.SortFunc(out, func(a, b FunctionInfo) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// TableNames returns the names of the tables of all modules, "module/table", in the order in which they are declared. The App need not be
// open.
func (a *App) TableNames() []string {
	var out []string
	for _, t := range a.tables {
		out = append(out, engineName(t.module, t.def.name))
	}
	return out
}
