package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// importMonths is how many times importLog repeats a log, each time in a month of
// its own so that visitors and views are new ones.
const importMonths = 30

// importLogs counts a real log, repeated over many months, into an empty database:
// at once and by transactions, beside GoAccess, which reads it into memory. The
// programs are run as a person would, from start to end.
func importLogs(s settings) error {
	if s.accessLog == "" || s.halcyon == "" {
		fmt.Println("(import takes -log, an access log in the combined format, and -halcyon, the program)")
		return nil
	}
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-import-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left of it is in the temporary folder
	log := filepath.Join(dir, "access.log")
	lines, err := repeatLog(s.accessLog, log)
	if err != nil {
		return err
	}
	goaccess, err := exec.LookPath("goaccess")
	if err != nil {
		fmt.Println("(GoAccess is not installed, so there is nothing beside it)")
	}
	run := func(name string, args ...string) (float64, error) {
		cmd := exec.Command(name, args...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		began := time.Now()
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("%s: %w\n%s", cmd, err, out.String())
		}
		return float64(lines) / time.Since(began).Seconds(), nil
	}
	var loaded, counted, beside figures
	for range s.rounds {
		for _, way := range []struct {
			to    *figures
			flags []string
		}{{&loaded, nil}, {&counted, []string{"--transactions"}}} {
			data := filepath.Join(dir, "data")
			args := append([]string{"stats", "import", "--storage.dir", data}, way.flags...)
			speed, err := run(s.halcyon, append(args, log)...)
			if err := errors.Join(err, os.RemoveAll(data)); err != nil {
				return err
			}
			*way.to = append(*way.to, speed)
		}
		if goaccess != "" {
			speed, err := run(goaccess, log, "--log-format=COMBINED", "--no-progress", "-o", filepath.Join(dir, "report.json"))
			if err != nil {
				return err
			}
			beside = append(beside, speed)
		}
	}
	fmt.Printf("%d lines\n", lines)
	if goaccess == "" {
		fmt.Printf("%-44s %s lines/s\n%-44s %s lines/s\n", "import into empty tables", loaded, "import by transactions", counted)
		return nil
	}
	report("import into empty tables", loaded, "GoAccess", beside, "lines/s")
	report("import by transactions", counted, "GoAccess", beside, "lines/s")
	return nil
}

// repeatLog writes a log of many months.
func repeatLog(from, to string) (lines int, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }() // it was only read
	var text io.Reader = in
	if strings.HasSuffix(from, ".gz") {
		if text, err = gzip.NewReader(in); err != nil {
			return 0, err
		}
	}
	all, err := io.ReadAll(text)
	if err != nil {
		return 0, err
	}
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriter(out)
	for month := range importMonths {
		at := time.Date(2015, time.Month(month+1), 1, 0, 0, 0, 0, time.UTC).Format("/Jan/2006:")
		for line := range bytes.Lines(all) {
			// [17/May/2015:10:05:03
			i := bytes.IndexByte(line, '[')
			if i < 0 || len(line) < i+13 || line[len(line)-1] != '\n' {
				continue
			}
			lines++
			// A bufio.Writer keeps its first error; Flush tells it.
			_, _ = w.Write(line[:i+3])
			_, _ = w.WriteString(at)
			_, _ = w.Write(line[i+13:])
		}
	}
	return lines, errors.Join(err, w.Flush(), out.Close())
}
