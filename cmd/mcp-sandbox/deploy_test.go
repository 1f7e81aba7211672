package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// takes reports a flag of a shipped command line that serve does not have.
func takes(t *testing.T, file string, args []string) {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	(&settings{}).register(flags)
	for _, a := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if strings.HasPrefix(a, "--") && flags.Lookup(name) == nil {
			t.Errorf("%s: there is no flag %s", file, a)
		}
	}
}

// TestSystemdUnits: the units are ones that systemd takes, start a command line
// that we take, and leave the sandbox what it is made of.
func TestSystemdUnits(t *testing.T) {
	service := string(repoFile(t, "packaging/systemd/mcp-sandbox.service"))
	m := regexp.MustCompile(`(?m)^ExecStart=(\S+) serve (.+)$`).FindStringSubmatch(service)
	if m == nil {
		t.Fatal("no ExecStart")
	}
	takes(t, "mcp-sandbox.service", strings.Fields(m[2]))
	if !slices.Contains(strings.Fields(m[2]), "systemd:") {
		t.Error("the socket unit's socket is not used")
	}
	for _, takesAway := range []string{"RestrictNamespaces", "ProtectHostname", "ProtectProc", "ProcSubset", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectControlGroups", "MemoryDenyWriteExecute", "RestrictSUIDSGID"} {
		if regexp.MustCompile(`(?m)^` + takesAway + `=`).MatchString(service) {
			t.Errorf("%s= takes the strongest level away", takesAway)
		}
	}
	if !strings.Contains(m[2], "--min-confinement namespaces ") {
		t.Error("a fall from the strongest level is no failed start")
	}
	// Without both, sessions get no limits of their own.
	if !regexp.MustCompile(`(?m)^Delegate=yes\nDelegateSubgroup=[a-z]+$`).MatchString(service) {
		t.Error("the server is not beside its sessions' control groups")
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("MCP_SANDBOX_TEST_NOSKIP") == "1" {
			t.Fatal("systemd-analyze is missing")
		}
		t.Skip("systemd-analyze is missing")
	}
	// It wants the program to be there.
	dir := t.TempDir()
	units := []string{filepath.Join(dir, "mcp-sandbox.service"), filepath.Join(dir, "mcp-sandbox.socket")}
	socket := string(repoFile(t, "packaging/systemd/mcp-sandbox.socket"))
	for i, text := range []string{strings.Replace(service, m[1], "/bin/true", 1), socket} {
		if err := os.WriteFile(units[i], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	version, _ := exec.Command(analyze, "--version").Output()
	if n := regexp.MustCompile(`^systemd (\d+)`).FindSubmatch(version); n != nil && string(n[1]) < "254" {
		out = regexp.MustCompile(`(?m)^.*mcp-sandbox\.service:\d+: Unknown key.* 'DelegateSubgroup' .*, ignoring\.\n`).ReplaceAll(out, nil)
	}
	// What it says of units of the host is none of ours.
	if err != nil || strings.Contains(string(out), "mcp-sandbox") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestContainerRecipe: the image starts what we take, as an ordinary user, and
// compose gives it no privilege.
func TestContainerRecipe(t *testing.T) {
	recipe := string(repoFile(t, "packaging/docker/Dockerfile"))
	m := regexp.MustCompile(`(?m)^CMD \["serve", (.+)\]$`).FindStringSubmatch(recipe)
	if m == nil || !regexp.MustCompile(`(?m)^USER [1-9][0-9]*:[1-9][0-9]*$`).MatchString(recipe) {
		t.Fatal("no CMD, or no ordinary user")
	}
	var args []string
	for _, a := range strings.Split(m[1], ", ") {
		args = append(args, strings.Trim(a, `"`))
	}
	takes(t, "Dockerfile", args)
	mod := string(repoFile(t, "go.mod"))
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(mod)
	if language == nil || !strings.Contains(recipe, "FROM golang:"+language[1]+"-") {
		t.Error("the image is built with another Go than go.mod names")
	}

	type service struct {
		Image string `yaml:"image"`
		Build struct {
			Context    string `yaml:"context"`
			Dockerfile string `yaml:"dockerfile"`
		} `yaml:"build"`
		Init        bool              `yaml:"init"`
		Restart     string            `yaml:"restart"`
		StopGrace   string            `yaml:"stop_grace_period"`
		Ports       []string          `yaml:"ports"`
		ReadOnly    bool              `yaml:"read_only"`
		CapDrop     []string          `yaml:"cap_drop"`
		SecurityOpt []string          `yaml:"security_opt"`
		PidsLimit   int               `yaml:"pids_limit"`
		MemLimit    string            `yaml:"mem_limit"`
		Tmpfs       []string          `yaml:"tmpfs"`
		Volumes     []string          `yaml:"volumes"`
		Environment map[string]string `yaml:"environment"`
	}
	var options []string
	for _, name := range []string{"compose.yaml", "compose.namespaces.yaml"} {
		var c struct {
			Services map[string]service        `yaml:"services"`
			Volumes  map[string]map[string]any `yaml:"volumes"`
		}
		d := yaml.NewDecoder(strings.NewReader(string(repoFile(t, "packaging/docker/"+name))))
		d.KnownFields(true) // these are all that is used, and all that is known to be right
		if err := d.Decode(&c); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := c.Services["mcp-sandbox"]
		// Compose adds the second file's list to the first one's, and refuses what is
		// in it twice.
		for _, o := range s.SecurityOpt {
			if slices.Contains(options, o) {
				t.Errorf("%s: %s stands twice", name, o)
			}
			options = append(options, o)
		}
		if !slices.Contains(options, "no-new-privileges:true") {
			t.Errorf("%s: %v", name, options)
		}
		if name == "compose.yaml" && (!slices.Equal(s.CapDrop, []string{"ALL"}) || !s.ReadOnly || !s.Init || len(s.SecurityOpt) != 1) {
			t.Errorf("%s: %+v", name, s)
		}
		for _, o := range s.SecurityOpt {
			if file, ok := strings.CutPrefix(o, "seccomp="); ok {
				repoFile(t, "packaging/docker/"+file)
			}
		}
		flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
		(&settings{}).register(flags)
		for key := range s.Environment {
			flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(key, envPrefix), "_", "-"))
			if flags.Lookup(flag) == nil {
				t.Errorf("%s: %s is no setting", name, key)
			}
		}
	}
}
