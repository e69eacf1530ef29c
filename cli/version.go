package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// modulePath is the Go module whose version is shown beside the program's own.
const modulePath = "github.com/halcyon-db/halcyon"

// versionVerb is `version`.
type versionVerb struct {
	JSON bool `name:"json" help:"Print it as JSON."`
}

// versions is what `version` tells.
type versions struct {
	Program  string `json:"program"`
	Version  string `json:"version"`
	Halcyon  string `json:"halcyon"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
}

// Run prints the versions.
func (v *versionVerb) Run(e *env) error {
	found := e.versions()
	if v.JSON {
		return json.NewEncoder(e.stdout).Encode(found)
	}
	built := found.Go
	if found.Halcyon != found.Version {
		built = "halcyon " + found.Halcyon + ", " + built
	}
	_, err := fmt.Fprintf(e.stdout, "%s %s (%s)\n", found.Program, found.Version, built)
	return err
}

// versions returns the versions of the running program.
func (e *env) versions() versions {
	info, _ := debug.ReadBuildInfo()
	return readVersions(e.program, info)
}

// readVersions reads them from what the Go linker left in the binary; info may
// be nil.
func readVersions(program string, info *debug.BuildInfo) versions {
	found := versions{Program: program, Version: "(devel)", Halcyon: "(devel)", Go: runtime.Version()}
	if info == nil {
		return found
	}
	if info.Main.Version != "" {
		found.Version = info.Main.Version
	}
	if info.Main.Path == modulePath {
		found.Halcyon = found.Version
	}
	for _, dependency := range info.Deps {
		if dependency.Path == modulePath && dependency.Version != "" && dependency.Replace == nil {
			found.Halcyon = dependency.Version
		}
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			found.Revision = setting.Value
		}
	}
	return found
}
