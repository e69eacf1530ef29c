package yjs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// oracle is npm yjs in a node process.
type oracle struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

var (
	oracleOnce    sync.Once
	oracleProcess *oracle
	oracleErr     error
)

const oracleDir = "testdata/oracle"

// startOracle returns the running oracle, installing and starting it for the
// first test that asks. Without node it skips the test, unless HALCYON_E2E says
// that everything is required.
func startOracle(t testing.TB) *oracle {
	t.Helper()
	oracleOnce.Do(func() { oracleProcess, oracleErr = newOracle() })
	if oracleErr != nil {
		if os.Getenv("HALCYON_E2E") == "required" {
			t.Fatalf("npm yjs: %v", oracleErr)
		}
		t.Skipf("npm yjs is not available: %v", oracleErr)
	}
	return oracleProcess
}

// eachSeed calls f for the seeds 0 to n-1 on several processors, with an oracle
// for each, and says how many ran.
func eachSeed(t *testing.T, n int, f func(t *testing.T, o *oracle, seed uint64)) {
	t.Helper()
	startOracle(t)
	var ran atomic.Int64
	workers := runtime.GOMAXPROCS(0)
	t.Run("npm", func(t *testing.T) {
		for w := range workers {
			t.Run(strconv.Itoa(w), func(t *testing.T) {
				t.Parallel()
				o, err := newOracle()
				must(t, err)
				defer o.stop()
				for seed := uint64(w); seed < uint64(n); seed += uint64(workers) {
					f(t, o, seed)
					ran.Add(1)
				}
			})
		}
	})
	t.Logf("%d seeds ran beside npm yjs", ran.Load())
}

// stop ends the process, which it does when its standard input closes.
func (o *oracle) stop() {
	_ = o.in.Close()
	_ = o.cmd.Wait()
}

func newOracle() (*oracle, error) {
	if _, err := exec.LookPath("node"); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(oracleDir, "node_modules", "yjs", "package.json")); err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
		cmd.Dir = oracleDir
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("npm ci: %w: %s", err, bytes.TrimSpace(out))
		}
	}
	cmd := exec.Command("node", "--stack-size=4000", "oracle.mjs")
	cmd.Dir = oracleDir
	cmd.Stderr = io.Discard
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// The process ends with ours: its standard input closes.
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &oracle{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 1<<20)}, nil
}

// ask sends a request and reads the answer into to. An error is what yjs threw.
func (o *oracle) ask(t testing.TB, request, to any) error {
	t.Helper()
	line, err := json.Marshal(request)
	must(t, err)
	if _, err := o.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("npm yjs: %v", err)
	}
	answer, err := o.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("npm yjs: %v", err)
	}
	var a struct {
		OK  json.RawMessage
		Err string
	}
	must(t, json.Unmarshal(answer, &a))
	if a.Err != "" {
		return fmt.Errorf("npm yjs: %s", a.Err)
	}
	return json.Unmarshal(a.OK, to)
}
