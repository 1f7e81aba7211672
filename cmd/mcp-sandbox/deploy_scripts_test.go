package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestDockerLine: the line of docs/docker.md starts the image that the repository
// builds, whose entrypoint is the program, with options and flags that there are.
func TestDockerLine(t *testing.T) {
	text := string(repoFile(t, "docs/docker.md"))
	m := regexp.MustCompile("(?s)docker run --rm -i \\\\\n(.*?)\n```").FindStringSubmatch(text)
	if m == nil {
		t.Fatal("no docker run line")
	}
	var words []string
	for _, w := range strings.Fields(m[1]) {
		if w != "\\" {
			words = append(words, w)
		}
	}
	at := len(words) - 1
	for at >= 0 && words[at] != "mcp-sandbox" {
		at--
	}
	if at < 0 || strings.Count(strings.Join(words, " "), " mcp-sandbox ") != 1 || words[at+1] != "serve" {
		t.Fatalf("the program's name stands twice, or there is no image: %q", words)
	}
	takes(t, "docs/docker.md", words[at+1:])
	recipe := string(repoFile(t, "packaging/docker/Dockerfile"))
	if !strings.Contains(recipe, `ENTRYPOINT ["/usr/bin/mcp-sandbox"]`) || !strings.Contains(recipe, "ENV TMPDIR=/var/lib/mcp-sandbox\n") || !strings.Contains(recipe, "chmod 1777 /var/lib/mcp-sandbox\n") {
		t.Error("the image does not run as any user")
	}
	if !strings.Contains(text, "-t mcp-sandbox .") {
		t.Error("the image is not named as the line has it")
	}
}

// TestPackageScripts: what runs at installation and removal is in both recipes and
// is shell that dash takes.
func TestPackageScripts(t *testing.T) {
	for _, recipe := range []string{"packaging/nfpm.yaml", ".goreleaser.yaml"} {
		text := string(repoFile(t, recipe))
		for _, script := range []string{"postinstall", "preremove", "postremove"} {
			if !strings.Contains(text, script+": packaging/scripts/"+script+".sh\n") {
				t.Errorf("%s does not run %s", recipe, script)
			}
			if out, err := exec.Command("sh", "-n", "../../packaging/scripts/"+script+".sh").CombinedOutput(); err != nil {
				t.Errorf("%s: %v %s", script, err, out)
			}
		}
		if !strings.Contains(text, "templates: packaging/scripts/templates\n") {
			t.Errorf("%s asks nothing before state is removed", recipe)
		}
	}
}
