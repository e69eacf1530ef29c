package geoiptest

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// Version4 is a kind of file that knows no addresses of version 6.
const Version4 = "version 4 alone"

// Write writes a file of the kind, with the entry of each network: texts, numbers and
// maps of them. It comes under its name at once.
func Write(t testing.TB, path, kind string, entries map[string]map[string]any) {
	t.Helper()
	options := mmdbwriter.Options{DatabaseType: kind, IPVersion: 6}
	if kind == Version4 {
		options.IPVersion = 4
	}
	tree, err := mmdbwriter.New(options)
	if err != nil {
		t.Fatal(err)
	}
	for network, entry := range entries {
		_, parsed, err := net.ParseCIDR(network)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(parsed, typed(t, entry)); err != nil {
			t.Fatal(err)
		}
	}
	var text bytes.Buffer
	if _, err := tree.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(filepath.Dir(path), ".fresh-"+filepath.Base(path))
	if err := os.WriteFile(fresh, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, path); err != nil {
		t.Fatal(err)
	}
}

func typed(t testing.TB, v any) mmdbtype.DataType {
	t.Helper()
	switch v := v.(type) {
	case string:
		return mmdbtype.String(v)
	case float64:
		return mmdbtype.Float64(v)
	case map[string]any:
		m := make(mmdbtype.Map, len(v))
		for name, inner := range v {
			m[mmdbtype.String(name)] = typed(t, inner)
		}
		return m
	}
	t.Fatalf("a %T has no type in the file", v)
	return nil
}
