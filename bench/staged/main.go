// Command staged runs the same work in a staged workspace and in one that is not, in
// turns, and prints the table of docs/staged.md:
//
//	go run -C bench ./staged -binary ../bin/mcp-sandbox -rounds 5
//
// Times are taken inside, so the start of a session is not in them. It needs Linux.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"mcp-sandbox/bench/internal/stats"
)

// steps are what is measured: make is run outside, in the directory of the project;
// run inside.
var steps = []struct{ name, make, run string }{
	{"git status, 10,000 files, first", manyFiles + " git init -q . && git add -A && git -c user.name=x -c user.email=x commit -qm x", "git status --short"},
	{"git status, again", manyFiles + " git init -q . && git add -A && git -c user.name=x -c user.email=x commit -qm x; echo x > 1/1", "git status --short; t0; git status --short"},
	{"git checkout -b, rm 50 files, commit", manyFiles + " git init -q . && git add -A && git -c user.name=x -c user.email=x commit -qm x", "git checkout -qb two; git rm -q 1/[1-4]?; git -c user.name=x -c user.email=x commit -qm two"},
	{"build with make: 60 C files", cProject, "make -s -j2"},
	{"build again, one file changed", cProject + " make -s -j2", "touch f7.c; make -s -j2"},
	{"npm install of 120 packages", npmProject, "npm install --offline --no-audit --no-fund --silent"},
	{"npm install, one more", npmProject + " npm install --offline --no-audit --no-fund --silent >/dev/null 2>&1;", "npm install --offline --no-audit --no-fund --silent ./pk/extra-1.0.0.tgz"},
	{"10,000 small files made", "", "mkdir n; cd n; for i in {1..10000}; do echo $i > $i; done"},
	{"10,000 files read (grep -r)", manyFiles, "grep -r nothing-like-this . || true"},
	{"10,000 files copied and removed", manyFiles, "mkdir c; cp -a [0-9]* c; rm -rf c"},
	{"sed -i on 500 files", manyFiles, "sed -i s/1/2/ 1/* 2/* 3/* 4/* 5/*"},
}

const manyFiles = `for d in {1..100}; do mkdir $d; for f in {1..100}; do echo "$d $f" > $d/$f; done; done;`

const cProject = `for i in {1..60}; do echo "#include <stdio.h>
int f$i(int a) { printf(\"%d\", a); return a + $i; }" > f$i.c; done
printf 'OBJ=$(patsubst %%.c,%%.o,$(wildcard f*.c))\nlib.a: $(OBJ)\n\tar rc $@ $(OBJ)\n' > Makefile;`

const npmProject = `mkdir pk; deps=""
for i in {1..120} extra; do mkdir -p b/package/lib; for f in {1..20}; do echo "exports.x=$f" > b/package/lib/$f.js; done
echo "{\"name\":\"p$i\",\"version\":\"1.0.0\"}" > b/package/package.json; n=p$i; [ $i = extra ] && n=extra
tar -C b -czf pk/$n-1.0.0.tgz package; rm -rf b; [ $i = extra ] || deps="$deps,\"p$i\":\"file:pk/p$i-1.0.0.tgz\""; done
echo "{\"name\":\"w\",\"version\":\"1.0.0\",\"dependencies\":{${deps#,}}}" > package.json;`

func main() {
	binary := flag.String("binary", "../bin/mcp-sandbox", "the server")
	rounds := flag.Int("rounds", 5, "rounds of each step")
	only := flag.String("only", "", "steps whose names hold this")
	dir := flag.String("dir", "", "directory of projects and state (default: a temporary one)")
	flag.Parse()
	if err := measure(*binary, *rounds, *only, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "staged:", err)
		os.Exit(1)
	}
}

func measure(binary string, rounds int, only, dir string) error {
	top, err := os.MkdirTemp(dir, "staged-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(top)
	if err := os.Chmod(top, 0o755); err != nil {
		return err
	}
	fmt.Println("| | plain, ms | staged, ms | ratio |\n|---|---|---|---|")
	for _, s := range steps {
		if !strings.Contains(s.name, only) {
			continue
		}
		template := filepath.Join(top, "template")
		if err := os.Mkdir(template, 0o755); err != nil {
			return err
		}
		if err := bash(template, s.make); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		var times [2][]float64
		for r := range rounds {
			for i := range 2 {
				mode := (i + r) % 2 // neither is always first
				ms, err := once(binary, filepath.Join(top, fmt.Sprintf("p%d-%d", r, mode)), template, s.run, mode == 1)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				times[mode] = append(times[mode], ms)
			}
		}
		if err := os.RemoveAll(template); err != nil {
			return err
		}
		a, b := stats.Median(times[0]), stats.Median(times[1])
		fmt.Printf("| %s | %.0f | %.0f | %.2f |\n", s.name, a, b, b/a)
	}
	return nil
}

func bash(dir, script string) error {
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// once runs one step in a copy of the template.
func once(binary, dir, template, run string, staged bool) (ms float64, err error) {
	project := filepath.Join(dir, "project")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	// An index of git holds the inodes, which are others in a copy.
	if err := bash(dir, "cp -a "+template+" project; cd project; if [ -d .git ]; then git update-index -q --refresh || true; fi; sync -f ."); err != nil {
		return 0, err
	}
	args := []string{"exec", "--root", project, "--state-dir", filepath.Join(dir, "state"), "--no-baseline"}
	if staged {
		args = append(args, "--staged")
	}
	line := `t0() { began=${EPOCHREALTIME/./}; }; t0; { ` + run + `; } >&2; echo $(( ${EPOCHREALTIME/./} - began ))`
	out, err := exec.Command(binary, append(args, "--", line)...).Output()
	if err != nil {
		return 0, err
	}
	us, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	return us / 1000, err
}
