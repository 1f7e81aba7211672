package main

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestTwoSteps takes two steps on a real server, where their programs are.
func TestTwoSteps(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	t.Chdir("..") // as the program is run
	r, err := measure(t.Context(), options{binary: os.Getenv("MCP_SANDBOX_TEST_BIN"), only: []string{"unittest", "npm"}, limit: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.rows {
		if row.notTried != nil {
			t.Logf("%s: %v", row.name, row.notTried)
			continue
		}
		if !row.works() || row.inside[1].took <= 0 || len(row.notes()) > 0 {
			t.Errorf("%s: %s, %q, outside %+v, inside %+v", row.name, row.verdict(), row.notes(), row.outside, row.inside)
		}
		if out := row.inside[0].output; strings.Contains(out, "npm warn") && !strings.Contains(row.outside[0].output, "npm warn") {
			t.Errorf("npm warns of the session's environment: %s", out)
		}
	}
	if len(r.rows) != 2 {
		t.Errorf("%d rows", len(r.rows))
	}
}

func TestSteps(t *testing.T) {
	names := map[string]bool{}
	for _, s := range steps() {
		if names[s.name] || s.what == "" || s.cmd == "" || s.want == "" || len(s.needs) == 0 {
			t.Errorf("%s is named twice or lacks something", s.name)
		}
		names[s.name] = true
	}
	if len(names) != 25 {
		t.Errorf("%d steps, not 25", len(names))
	}
	if _, err := measure(t.Context(), options{only: []string{"fly"}}); err == nil || !strings.Contains(err.Error(), `"fly"`) {
		t.Errorf("got %v", err)
	}
}

func TestReportTellsWhatWasNotTried(t *testing.T) {
	works := run{took: 2 * time.Second}
	rows := []row{
		{step: step{name: "a"}, notTried: errors.New("gcc is not installed")},
		{step: step{name: "b"}, outside: [2]run{{err: errors.New("exit code 1"), output: "error: down"}}},
		{step: step{name: "c"}, outside: [2]run{works, works}, inside: [2]run{{took: 3 * time.Second, notes: []string{"x|y"}}, works}},
		{step: step{name: "d"}, outside: [2]run{works, works}, inside: [2]run{{err: errors.New("exit code 2"), output: "a\nError: b|c\nend\n"}, works}},
	}
	var b strings.Builder
	if err := (&report{rows: rows}).write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 of 4 rows were tried; 1 of them work inside.",
		"| a:  | not tried: gcc is not installed | - | - | - | - | - |\n",
		"| b:  | not tried: it fails outside too: exit code 1: error: down |",
		"| c:  | yes | 3.00 / 2.00 | 1.50 | 2.00 / 2.00 | 1.00 | 1, below |\n",
		"| d:  | **no**: exit code 2: Error: b\\|c | failed / 2.00 | - | 2.00 / 2.00 | 1.00 | none |\n",
		"\nc shows:\n\n- `x|y`\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}
