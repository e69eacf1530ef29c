package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
)

// postgres is a PostgreSQL of our own, durable, on a port of its own. nil stands
// for a machine without one.
type postgres struct {
	bin, dir string
	as       *syscall.SysProcAttr // initdb refuses to run as root
}

const postgresPort = "15433"

// scripts are those of pgbench, by name.
var scripts = map[string]string{
	"xfer_u": pgTransfer("random(1,100000)"),
	"xfer_z": pgTransfer("random_zipfian(1,100000,1.5)"),
}

func pgTransfer(draw string) string {
	return `\set a ` + draw + `
\set b ` + draw + `
begin isolation level serializable;
select bal from acc where id=:a;
select bal from acc where id=:b;
update acc set bal=bal-1 where id=:a;
update acc set bal=bal+1 where id=:b;
commit;
`
}

// startPostgres starts one if it is installed, with 100,000 accounts.
func startPostgres(s settings) (*postgres, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		if p, err := exec.LookPath("pg_ctl"); err == nil {
			found = []string{p}
		}
	}
	if len(found) == 0 {
		fmt.Println("(PostgreSQL is not installed, so there is nothing beside it)")
		return nil, nil
	}
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-pg-")
	if err != nil {
		return nil, err
	}
	p := &postgres{bin: filepath.Dir(slices.Max(found)), dir: dir}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return nil, err
		}
		if err := os.Chown(dir, uid, -1); err != nil {
			return nil, err
		}
		p.as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name+".sql"), []byte(script), 0o644); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(dir, "data")
	for _, args := range [][]string{
		{"initdb", "-D", data, "-U", "postgres", "-A", "trust"},
		{"pg_ctl", "-D", data, "-w", "-l", filepath.Join(dir, "log"), "start",
			"-o", "-p " + postgresPort + " -c listen_addresses=127.0.0.1 -c unix_socket_directories=" + dir},
		{"psql", "-h", "127.0.0.1", "-p", postgresPort, "-U", "postgres", "-d", "postgres", "-qc",
			"create table acc(id int primary key, bal int); insert into acc select g,1000000 from generate_series(1,100000) g; checkpoint"},
	} {
		if out, err := p.command(args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	return p, nil
}

func (p *postgres) command(args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(p.bin, args[0]), args[1:]...)
	c.Dir, c.SysProcAttr = p.dir, p.as
	return c
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// run returns transactions a second of 16 clients, which try again until they
// succeed.
func (p *postgres) run(s settings, script string) (float64, error) {
	if p == nil {
		return 0, nil
	}
	out, err := p.command("pgbench", "-h", "127.0.0.1", "-p", postgresPort, "-U", "postgres", "-n", "-c", "16", "-j", "2",
		"-T", fmt.Sprint(max(1, int(s.length.Seconds()))), "-f", filepath.Join(p.dir, script+".sql"), "--max-tries=0", "postgres").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	m := tps.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench said no rate: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func (p *postgres) stop() {
	if p == nil {
		return
	}
	_ = p.command("pg_ctl", "-D", filepath.Join(p.dir, "data"), "-m", "fast", "stop").Run()
	_ = os.RemoveAll(p.dir)
}
