package session

import (
	"os"
	"strings"
	"testing"
)

// TestProtectedNamesDoc: the names in docs/files.md are those of the code.
func TestProtectedNamesDoc(t *testing.T) {
	const file, begin, end = "../docs/files.md", "<!-- protected names -->\n", "<!-- end of the protected names -->"
	quote := func(names []string) string { return "`" + strings.Join(names, "`, `") + "`" }
	list := "At the root of the workspace and of every grant for writing: " + quote(DefaultProtected()) + ".\n\n" +
		"For the file tools at any depth: " + quote(nestedProtected()) + ".\n\n" +
		"For the file tools alone, as a restore may change it (`*` is any name, `!` an exception): " + quote(protectedData()) + ".\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("docs/files.md has no marks of the protected names")
	}
	want := before + begin + list + end + after
	if want == string(text) {
		return
	}
	if os.Getenv("MCP_SANDBOX_TEST_UPDATE") == "" {
		t.Fatal("docs/files.md: the protected names are not current: run MCP_SANDBOX_TEST_UPDATE=1 go test ./session -run TestProtectedNamesDoc")
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
