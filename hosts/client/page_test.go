package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPage holds docs/hosts.md to what hosts/run writes from hosts/seen, and every
// guest that was run to its end to a place in the table.
func TestPage(t *testing.T) {
	if _, err := exec.LookPath("awk"); err != nil {
		t.Skip("no awk")
	}
	cmd := exec.Command("awk", "-f", "table.awk", "rows")
	cmd.Dir = ".."
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/hosts.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("docs/hosts.md is not what hosts/seen says: hosts/run --write")
	}
	table, err := os.ReadFile("../rows")
	if err != nil {
		t.Fatal(err)
	}
	seen, err := os.ReadDir("../seen")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range seen {
		if !strings.Contains(string(table), "\n"+e.Name()+"|") {
			t.Errorf("hosts/seen/%s is of no guest in hosts/rows", e.Name())
		}
	}
}
