package main

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// TestPackageInitialisation holds down what every start of the program does
// before main: the server pays for it, exec pays for it twice, and each session's
// init once. Bytes are compared, as they are the same on every machine.
func TestPackageInitialisation(t *testing.T) {
	t.Parallel()
	const (
		most    = 128 << 10 // of one package: tables, but no compiled set of schemas or expressions
		mostAll = 512 << 10
	)
	cmd := exec.Command(binary, "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := regexp.MustCompile(`(?m)^init (\S+) @.* ms clock, (\d+) bytes, `).FindAllStringSubmatch(string(out), -1)
	if len(all) < 20 {
		t.Fatalf("GODEBUG=inittrace=1 told of %d packages:\n%s", len(all), out)
	}
	sum := 0
	for _, m := range all {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if n > most {
			t.Errorf("package %s allocates %d bytes when the program starts, more than %d; make it on first use (sync.OnceValue)", m[1], n, most)
		}
		sum += n
	}
	if sum > mostAll {
		t.Errorf("all packages allocate %d bytes when the program starts, more than %d", sum, mostAll)
	}
	t.Logf("%d bytes in %d packages", sum, len(all))
}
