package cli

import (
	"archive/zip"
	"bytes"
	"strings"
	"testing"
)

// FuzzConvexZip reads archives that are no export of a Convex project, or nearly one: bytes of any kind, and a zip that has one file of any name and
// content beside others. They are read or refused; tables have names of tables, and their numbers come with one.
func FuzzConvexZip(f *testing.F) {
	whole := func(files ...string) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for i := 0; i < len(files); i += 2 {
			out, err := w.Create(files[i])
			if err == nil {
				_, err = out.Write([]byte(files[i+1]))
			}
			if err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	id := "jd75rw3cr5tqq2z0k7q5k6t0vh6xyz12"
	f.Add(whole("_tables/documents.jsonl", `{"name":"rooms","id":10007}`, "rooms/documents.jsonl", `{"_id":"`+id+`"}`), "", "", "")
	f.Add([]byte("PK\x05\x06"+strings.Repeat("\x00", 18)), "_tables/documents.jsonl", "{\"name\":\"a\",\"id\":-1}\n\n", "")
	f.Add([]byte{}, "rooms/documents.jsonl", "{\"_id\":7}\n", "")
	f.Add([]byte{}, "_components/talk/rooms/documents.jsonl", "{}", "talk")
	f.Add([]byte{}, "../rooms/documents.jsonl", "[]", "..")
	f.Add([]byte{}, "/documents.jsonl", "{}", "")
	f.Add([]byte{}, "_storage/documents.jsonl", "{", "")
	f.Add([]byte{}, "rooms/generated_schema.jsonl", `"x"`, "")
	f.Fuzz(func(t *testing.T, raw []byte, name, text, component string) {
		archives := [][]byte{raw}
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, file := range [][2]string{{name, text}, {"rooms/documents.jsonl", `{"_id":"` + id + `"}`}} {
			out, err := w.Create(file[0])
			if err != nil {
				return
			}
			if _, err := out.Write([]byte(file[1])); err != nil { // the name is that of a folder
				return
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, data := range append(archives, b.Bytes()) {
			archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				continue
			}
			x, err := readConvexExport(archive, component)
			if err != nil {
				continue
			}
			for table, file := range x.tables {
				if table == "" || strings.HasPrefix(table, "_") || strings.Contains(table, "/") || file == nil {
					t.Errorf("%q is taken for a table", table)
				}
			}
			for number, table := range x.numbers {
				if number == 0 || table == "" {
					t.Errorf("a table has the number %d and the name %q", number, table)
				}
			}
		}
	})
}
