package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"syscall"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/internal/gcfloor"
	"github.com/halcyon-db/halcyon/server"
)

// counterRow is a document that clients increment.
type counterRow struct {
	ID   halcyon.ID[counterRow] `halcyon:"id"`
	Name string                 `json:"name"`
	N    float64                `json:"n"`
	Sent float64                `json:"sent"` // the writer's clock, in microseconds
}

var counters = halcyon.NewTable[counterRow]("counters").Index("by_name", "name")

type incrementArgs struct {
	Name string  `json:"name"`
	Sent float64 `json:"sent"`
}

func increment(tx *halcyon.Tx, args incrementArgs) error {
	row, ok, err := counters.By("by_name").Eq(args.Name).First(tx)
	if err != nil {
		return err
	}
	if !ok {
		_, err := counters.Insert(tx, counterRow{Name: args.Name, N: 1, Sent: args.Sent})
		return err
	}
	return counters.Patch(tx, row.ID, halcyon.Fields{"n": row.N + 1, "sent": args.Sent})
}

type latestArgs struct {
	Name string `json:"name"`
}

type latestResult struct {
	N    float64 `json:"n"`
	Sent float64 `json:"sent"`
}

func latest(tx *halcyon.Tx, args latestArgs) (latestResult, error) {
	row, _, err := counters.By("by_name").Eq(args.Name).First(tx)
	return latestResult{N: row.N, Sent: row.Sent}, err
}

// note is a document that clients insert.
type note struct {
	Body string  `json:"body"`
	N    float64 `json:"n"`
}

var notes = halcyon.NewTable[note]("notes")

func insert(tx *halcyon.Tx, args note) (halcyon.ID[note], error) { return notes.Insert(tx, args) }

func newApp() (*halcyon.App, error) {
	m := halcyon.NewModule("bench", counters, notes)
	m.Mutation("insert", insert)
	m.Mutation("increment", increment)
	m.Query("latest", latest)
	m.Handle("POST /collect", http.HandlerFunc(collect))
	return halcyon.NewApp(m, replicate.New(replicate.Options{Name: "docs"}).Module())
}

// memory is what is in use, in bytes.
type memory struct{ Heap, Stacks uint64 }

// collect frees what is not used, so that a figure of memory is of what is, and answers with that of the Go runtime.
func collect(w http.ResponseWriter, r *http.Request) {
	for range 4 { // stacks shrink by half at each
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if name := r.FormValue("profile"); name != "" {
		_ = pprof.Lookup(name).WriteTo(w, 0) // whoever reads it sees that it is cut
		return
	}
	_ = json.NewEncoder(w).Encode(memory{m.HeapAlloc, m.StackInuse})
}

// serve is the server process: it prints its address and serves until told to stop.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	dir := flags.String("dir", "", "")
	profile := flags.String("cpuprofile", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	defer gcfloor.Keep(gcfloor.Default)() // as `serve` does
	app, err := newApp()
	if err != nil {
		return err
	}
	if err := app.Open(*dir, nil); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := app.Start(ctx); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	if err := server.New(app, nil).Serve(ctx, l); err != nil {
		return err
	}
	return app.Close()
}

// child is a running server process.
type child struct {
	cmd  *exec.Cmd
	addr string
	dir  string

	orders io.Writer     // of a server of Hocuspocus
	lines  *bufio.Reader // what it answers
}

func startChild(s settings) (*child, error) {
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, "serve", "-dir", dir, "-cpuprofile", s.profile), dir: dir}
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		return nil, fmt.Errorf("the server did not start: %w", err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	c.addr = strings.TrimSpace(string(line[:n]))
	return c, nil
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	_ = c.cmd.Wait()
	_ = os.RemoveAll(c.dir)
}

// memory returns a figure of /proc/PID/status in KiB, such as VmRSS.
func (c *child) memory(field string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			var kib float64
			_, err := fmt.Sscanf(rest, "%f kB", &kib)
			return kib, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of the process", field)
}

// processor returns the seconds of processor time the server has used.
func (c *child) processor() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var user, system float64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, err
	}
	return (user + system) / 100, nil
}
