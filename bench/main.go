package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
)

// settings are what the command line says.
type settings struct {
	rounds   int
	length   time.Duration
	viewers  int
	dir      string
	wait     time.Duration
	rows     int
	views    int
	bytes    int64
	hot      time.Duration
	overload time.Duration
	profile  string
	memory   string

	pocketBase string

	accessLog string
	halcyon   string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "serve" {
		return serve(args[1:])
	}
	if len(args) > 0 && args[0] == "write" {
		return write(args[1:])
	}
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&s.rounds, "rounds", 5, "how often each workload runs")
	flags.DurationVar(&s.length, "length", 3*time.Second, "how long one run takes")
	flags.IntVar(&s.viewers, "viewers", 10_000, "connections that watch the query in viewers")
	flags.DurationVar(&s.overload, "overload", 20*time.Second, "how long overload sends too much; 10m for what is published")
	flags.StringVar(&s.dir, "dir", "", "folder for data (default: the system's temporary folder)")
	flags.DurationVar(&s.wait, "wait", time.Minute, "how long idle waits")
	flags.IntVar(&s.rows, "rows", 1_000_000, "documents in load and build; 10,000,000 for what is published")
	flags.IntVar(&s.views, "views", 1_000_000, "views in getstats; 10,000,000 for what is published")
	flags.Int64Var(&s.bytes, "bytes", 1<<30, "size of the store in reopen")
	flags.DurationVar(&s.hot, "hot", 20*time.Second, "how long rows are touched in hotscan; 10m for what is published")
	flags.StringVar(&s.profile, "cpuprofile", "", "file for the processor profile of the server process, of the last run")
	flags.StringVar(&s.memory, "memprofile", "", "file for the heap profile of the server process in open, of the last run")
	flags.StringVar(&s.pocketBase, "pocketbase", "", "program of PocketBase to run beside http")
	flags.StringVar(&s.accessLog, "log", "", "access log in the combined format for import, gzipped or not")
	flags.StringVar(&s.halcyon, "halcyon", "", "program of Halcyon for import")
	if err := flags.Parse(args); err != nil {
		return err
	}
	workloads := map[string]func(settings) error{
		"mutate": mutate, "http": httpInsert, "websocket": webSocket, "viewers": viewers, "overload": overload, "idle": idle, "yjs": yjsBeside,
		"transfer": transfer, "hot": hot, "slow": slow, "hotscan": hotScan, "load": load, "aggregate": aggregate,
		"build": build, "import": importLogs, "rooms": rooms, "open": openRooms, "reopen": reopen, "subscriptions": subscriptions,
		"documents": documents, "getstats": getStats, "contention": contention,
	}
	names := flags.Args()
	if len(names) == 0 {
		names = []string{
			"mutate", "http", "websocket", "viewers", "idle",
			"transfer", "hot", "slow", "hotscan", "load", "aggregate", "build", "reopen", "subscriptions",
		}
	}
	fmt.Printf("%s %s/%s, %d processors, %d runs of %s each\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), s.rounds, s.length)
	for _, name := range names {
		w := workloads[name]
		if w == nil {
			return fmt.Errorf("there is no workload %q; see `go doc`", name)
		}
		if err := w(s); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println()
	}
	return nil
}

// figures are the results of several runs of one workload.
type figures []float64

func (f figures) median() float64 {
	s := slices.Sorted(slices.Values(f))
	return s[len(s)/2]
}

func (f figures) String() string {
	return fmt.Sprintf("%10.0f  (%.0f to %.0f)", f.median(), slices.Min(f), slices.Max(f))
}

// report prints a workload beside its yardstick.
func report(name string, got figures, yardstick string, best figures, unit string) {
	fmt.Printf("%-44s %s %s\n", name, got, unit)
	fmt.Printf("%-44s %s %s\n", yardstick, best, unit)
	fmt.Printf("%-44s %10.2f\n", "  ratio of the medians", got.median()/best.median())
}

// percentile returns the p-th part of sorted durations, in milliseconds.
func percentile(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	return float64(d[min(len(d)-1, int(p*float64(len(d))))].Microseconds()) / 1000
}
