package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docPages are the pages that people read, all but the changelog.
func docPages(t *testing.T) []string {
	t.Helper()
	var pages []string
	for _, glob := range []string{"*.md", "docs/*.md", "packaging/*.md", "packaging/*/*.md", "examples/*/*.md", "sdk/*/*.md", ".claude-plugin/*.md"} {
		found, err := filepath.Glob(filepath.Join("..", "..", glob))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if rel, _ := filepath.Rel(filepath.Join("..", ".."), f); rel != "CHANGELOG.md" {
				pages = append(pages, rel)
			}
		}
	}
	if len(pages) < 30 {
		t.Fatalf("only %d pages: %q", len(pages), pages)
	}
	return pages
}

// A docCommand is one command of a fenced block.
type docCommand struct {
	page, section, language string
	line                    int // of the page, from 1
	text                    string
	// shown is the output that the page prints, nil where it prints none.
	shown []string
}

func (c docCommand) where() string { return fmt.Sprintf("%s:%d", c.page, c.line) }

// Fences of these languages hold commands, or calls of tools; those hold none.
var (
	docRuns = []string{"sh", "console", "mcp"}
	docData = []string{"text", "json", "toml", "yaml", "go", "ts", "diff", "ini"}
)

var docFence = regexp.MustCompile("^(`{3,}|~{3,})(\\S*)\\s*$")

// docCommands reads the commands of a page. A block of any other kind is an error:
// nothing that looks like a command may go untried. In a console block commands stand
// behind "$ ", in a block of calls behind "> ", and what follows is their output. In
// a block of sh every line is a command, unless it goes on where the one before ends
// with a backslash.
func docCommands(t *testing.T, page string) []docCommand {
	t.Helper()
	var out []docCommand
	section, language, fence := "", "", ""
	before, list := "", false
	for i, line := range strings.Split(string(repoFile(t, page)), "\n") {
		m := docFence.FindStringSubmatch(line)
		switch {
		case fence == "" && m != nil:
			fence, language = m[1], m[2]
			if !slices.Contains(docRuns, language) && !slices.Contains(docData, language) {
				t.Errorf("%s:%d: a block of the language %q; use one of %q for commands, %q for others", page, i+1, language, docRuns, docData)
			}
		case fence != "" && strings.TrimSpace(line) == fence:
			fence = ""
		case fence == "":
			list = strings.HasPrefix(line, "- ") || regexp.MustCompile(`^\d+\. `).MatchString(line) || list && (line == "" || line[0] == ' ')
			if strings.HasPrefix(line, "    ") && before == "" && !list {
				t.Errorf("%s:%d: an indented block; fence it, with its language", page, i+1)
			}
			if h := strings.TrimLeft(line, "#"); h != line {
				section = strings.TrimSpace(h)
			}
			if docFence.MatchString(strings.TrimSpace(line)) {
				t.Errorf("%s:%d: an indented fence; begin it at the margin", page, i+1)
			}
		case language == "sh" && len(out) > 0 && strings.HasSuffix(before, `\`):
			out[len(out)-1].text += "\n" + line
		case language == "sh" && line != "":
			out = append(out, docCommand{page: page, section: section, language: language, line: i + 1, text: line})
		case language == "console" && strings.HasPrefix(line, "$ "), language == "mcp" && strings.HasPrefix(line, "> "):
			out = append(out, docCommand{page: page, section: section, language: language, line: i + 1, text: line[2:], shown: []string{}})
		case language == "console" || language == "mcp":
			if len(out) == 0 || out[len(out)-1].shown == nil {
				t.Errorf("%s:%d: output of no command", page, i+1)
				break
			}
			last := &out[len(out)-1]
			last.shown = append(last.shown, line)
		}
		before = line
	}
	if fence != "" {
		t.Errorf("%s: a block has no end", page)
	}
	return out
}

// docAside are the commands that TestDocCommands does not run, by how they begin, and
// why. Those of this program are still read as the program reads them.
var docAside = []struct{ page, begin, why string }{
	{"README.md", "go test ./...", "it is the run that this test is part of"},
	{"README.md", "make install", "TestFirstDay runs it, with a stand-in for the compiler"},
	{"CONTRIBUTING.md", "go test ./...", "it is the run that this test is part of"},
	{"docs/clients.md", "claude mcp add", "Claude Code is not here; TestClientsDoc compares the line, and clients/run has the client start the server"},
	{"docs/clients.md", "mcp-sandbox serve --transport http --listen 0.0.0.0", "it needs a certificate and listens for other machines; TestTLS makes one"},
	{"docs/commands.md", ". ~/.bashrc", "it is for what a user's own ~/.bashrc installs"},
	{"docs/commands.md", `. "$NVM_DIR/nvm.sh"`, "nvm is not here"},
	{"docs/commands.md", `eval "$(direnv`, "direnv is not here"},
	{"docs/docker.md", "docker build", "no container engine runs in the tests; hosts/ has one in guests"},
	{"docs/docker.md", "docker run", "no container engine runs in the tests; TestDockerLine reads the line, hosts/ runs it in guests"},
	{"docs/http.md", "(umask 077; echo", "it writes below /etc; docs/recipes.md has a line that runs"},
	{"docs/http.md", "mcp-sandbox serve --transport http --token-file /etc", "it reads a file below /etc; docs/recipes.md has a line that runs"},
	{"docs/http.md", "mcp-sandbox serve --transport http --listen :8765 --tls-cert", "there is no such issuer; TestOAuthServer has one of its own"},
	{"docs/operations.md", "install -m 0755", "it installs into the system; hosts/ does the same with the packages in guests"},
	{"docs/operations.md", "install -m 0644 packaging/systemd/mcp-sandbox.service", "it installs into the system; hosts/ does the same with the packages in guests"},
	{"docs/operations.md", "install -m 0644 packaging/systemd/mcp-sandbox.sysusers", "it installs into the system; hosts/ does the same with the packages in guests"},
	{"docs/operations.md", "install -d", "it installs into the system; hosts/ does the same with the packages in guests"},
	{"docs/operations.md", "install -o", "it installs into the system; hosts/ does the same with the packages in guests"},
	{"docs/operations.md", "systemctl", "no systemd runs in the tests; hosts/ has it in guests"},
	{"docs/recipes.md", "mcp-sandbox exec --root ~/project --network allow --allow-preset pypi", "it asks a registry; TestCompanyCA installs from one of its own"},
	{"docs/recipes.md", "mcp-sandbox exec --root ~/project --network allow --allow-preset npm -- 'npm", "it asks a registry; TestCompanyCA installs from one of its own"},
	{"docs/recipes.md", "docker build", "no container engine runs in the tests; hosts/ has one in guests"},
	{"docs/recipes.md", "mcp-sandbox setup cursor --docker", "it needs an ordinary user; TestSetupDocker runs it as one"},
	{"docs/teams.md", "mcp-sandbox doctor --store", "the bucket is a placeholder; team_test.go has one of its own"},
	{"docs/teams.md", "mcp-sandbox serve", "the bucket is a placeholder; team_test.go has one of its own"},
	{"docs/tokens.md", "go run -C bench", "it takes minutes; it is how the page's tables were made"},
	{"docs/tokens.md", "go generate", "it downloads the vocabularies"},
	{"examples/agents-sdk/README.md", "npm install", "it asks a registry; sdk/typescript/run installs the same"},
	{"examples/agents-sdk/README.md", "node local.ts", "sdk/typescript/run runs it"},
	{"examples/agents-sdk/README.md", "node confined.ts", "sdk/typescript/run runs it"},
	{"packaging/npm/README.md", "npx", "the package is published by a release; .ci/installs runs it from a file"},
}

// aside says why a command is not run, "" when it is.
func (c docCommand) aside() string {
	for _, a := range docAside {
		if a.page == c.page && strings.HasPrefix(c.text, a.begin) {
			return a.why
		}
	}
	return ""
}

// TestDocCommandsKnown: every fenced command of every page is one that TestDocCommands
// runs, or has a reason why not; and no reason is left over.
func TestDocCommandsKnown(t *testing.T) {
	run, aside := 0, map[string]int{}
	for _, page := range docPages(t) {
		for _, c := range docCommands(t, page) {
			why := c.aside()
			if why == "" {
				run++
				continue
			}
			for _, a := range docAside {
				if a.page == page && strings.HasPrefix(c.text, a.begin) {
					aside[a.page+" "+a.begin]++
				}
			}
			understood(t, c.where(), c.text)
		}
	}
	for _, a := range docAside {
		if aside[a.page+" "+a.begin] == 0 {
			t.Errorf("%s: %q begins no command; take the reason out", a.page, a.begin)
		}
		if len(strings.Fields(a.why)) < 3 {
			t.Errorf("%s: %q has no reason", a.page, a.begin)
		}
	}
	t.Logf("%d commands are run, %d are not", run, len(docAside))
}

// understood says whether the program takes the words of a line that calls it.
func understood(t *testing.T, where, line string) {
	t.Helper()
	rest, ours := strings.CutPrefix(line, "mcp-sandbox ")
	if !ours {
		return
	}
	out, err := exec.Command("sh", "-c", "set -f; for w in "+rest+"\ndo printf '%s\\n' \"$w\"; done").Output()
	if err != nil {
		t.Errorf("%s: %s: %v", where, line, err)
		return
	}
	found, words, err := newRoot().Find(strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"))
	if err == nil {
		err = found.ParseFlags(words)
	}
	if err != nil {
		t.Errorf("%s: %s: %v", where, line, err)
	}
}

// shownAs compares an output with what a page prints of it: "..." alone on a line
// stands for any lines, and within a line for anything.
func shownAs(t *testing.T, c docCommand, got string) {
	t.Helper()
	var re strings.Builder
	re.WriteString(`^`)
	for _, line := range c.shown {
		line = strings.TrimRight(line, " ")
		if line == "..." {
			re.WriteString(`(?:[^\n]*\n)*`)
			continue
		}
		re.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, `[^\n]*`) + `\n`)
	}
	re.WriteString(`$`)
	lines := strings.Split(strings.TrimRight(got, " \n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \r")
	}
	if text := strings.TrimLeft(strings.Join(lines, "\n")+"\n", "\n"); !regexp.MustCompile(re.String()).MatchString(text) {
		t.Errorf("%s: %s\nprints\n%s\nand the page shows\n%s", c.where(), c.text, text, strings.Join(c.shown, "\n"))
	}
}

// writeTree writes files of a project below dir.
func writeTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
