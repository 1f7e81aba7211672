package confine

import (
	"embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

//go:embed testdata/*.golden
var golden embed.FS

var updateGolden = flag.Bool("update", false, "rewrite the golden files")

func seatbeltExample(n sandbox.Network) seatbeltSpec {
	return seatbeltSpec{
		Workspace:  "/Users/ann/work",
		Home:       "/private/var/folders/x/T/mcp-sandbox-1/home",
		Tmp:        "/private/var/folders/x/T/mcp-sandbox-1/tmp",
		Toolchains: []string{"/opt/homebrew", "/Users/ann/.cargo"},
		Read:       []string{"/Users/ann/work/vendor", "/Users/ann/docs"},
		Write:      []string{"/Users/ann/out"},
		DenyRead:   []string{"/Users/ann/work/.env"},
		StateDirs:  []string{"/Users/ann/.local/state/mcp-sandbox"},
		Protect:    []string{"/Users/ann/work/.git/hooks", "/Users/ann/work/.git/config", "/Users/ann/work/.mcp.json"},
		Network:    n,
		TTY:        "/dev/ttys007",
	}
}

func TestSeatbeltGolden(t *testing.T) {
	for name, s := range map[string]seatbeltSpec{
		"none": seatbeltExample(sandbox.NetworkNone), "loopback": seatbeltExample(sandbox.NetworkLoopback), "host": seatbeltExample(sandbox.NetworkHost),
		"allow":   func() seatbeltSpec { s := seatbeltExample(sandbox.NetworkAllow); s.Ports = []int{50123}; return s }(),
		"minimal": {Workspace: "/w", Home: "/w", Tmp: "/private/tmp/s", Network: sandbox.NetworkNone},
	} {
		profile, params, err := seatbeltProfile(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var b strings.Builder
		for _, p := range params {
			fmt.Fprintf(&b, "-D %s=%s\n", p.Name, p.Value)
		}
		got := b.String() + "\n" + profile
		file := filepath.Join("testdata", "seatbelt_"+name+".golden")
		if *updateGolden {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := golden.ReadFile(filepath.ToSlash(file))
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the profile differs from %s; look at the difference, then run with -update\n%s", name, file, got)
		}
	}
}

// What must be true of every profile, golden or not.
func TestSeatbeltProfileIsSound(t *testing.T) {
	hostile := seatbeltExample(sandbox.NetworkHost)
	hostile.Workspace = `/Users/a"b) (allow default) ;`
	hostile.Protect = []string{hostile.Workspace + `/.git/hooks`}
	for name, s := range map[string]seatbeltSpec{"host": seatbeltExample(sandbox.NetworkHost), "none": seatbeltExample(sandbox.NetworkNone), "hostile names": hostile} {
		profile, params, err := seatbeltProfile(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.HasPrefix(profile, "(version 1)\n(deny default)\n") || strings.Contains(profile, "allow default") {
			t.Errorf("%s: does not deny by default", name)
		}
		if open, closed := strings.Count(profile, "("), strings.Count(profile, ")"); open != closed {
			// Parentheses of regular expressions come in pairs, too.
			t.Errorf("%s: %d opening and %d closing parentheses", name, open, closed)
		}
		defined := map[string]bool{}
		for _, p := range params {
			if defined[p.Name] {
				t.Errorf("%s: parameter %s defined twice", name, p.Name)
			}
			defined[p.Name] = true
			if strings.Contains(profile, p.Value) && !slices.Contains(seatbeltAncestors, p.Value) {
				t.Errorf("%s: the path %s stands in the text", name, p.Value)
			}
		}
		used := map[string]bool{}
		for _, m := range regexp.MustCompile(`\(param "(\w+)"\)`).FindAllStringSubmatch(profile, -1) {
			used[m[1]] = true
			if !defined[m[1]] {
				t.Errorf("%s: parameter %s is not defined", name, m[1])
			}
		}
		if len(used) != len(defined) {
			t.Errorf("%s: %d parameters defined, %d used", name, len(defined), len(used))
		}
		// The reference's weak places: nothing of other processes, no whole /dev,
		// no whole /private, /Users, /Library, /usr, no unscoped IPC.
		for _, bad := range []string{"procargs", `(subpath "/dev")`, `(subpath "/private")`, `(subpath "/private/var")`, `(subpath "/private/etc")`, `(subpath "/Users")`,
			`(subpath "/Library")`, `(subpath "/usr")`, `(subpath "/Applications")`, `(subpath "/private/tmp")`, "(allow mach-lookup)", "(allow sysctl-read)", "(allow ipc-posix", "(allow file-read*)", "(allow network*)"} {
			if strings.Contains(profile, bad) && !strings.HasPrefix(bad, "(allow ipc-posix") {
				t.Errorf("%s: contains %s", name, bad)
			}
		}
		for _, line := range strings.Split(profile, "\n") {
			if strings.HasPrefix(line, "(allow ipc-posix") && !strings.Contains(line, "ipc-posix-name") {
				t.Errorf("%s: %s has no name", name, line)
			}
		}
		if name == "none" && regexp.MustCompile(`network-\w+[^)]*\((local|remote) (ip|tcp|udp)`).MatchString(profile) {
			t.Errorf("%s: opens the network", name)
		}
	}
}

// lastRule says what a profile decides about one path by the rule that wins.
func lastRule(t *testing.T, s seatbeltSpec, op, file string) string {
	t.Helper()
	profile, params, err := seatbeltProfile(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range params {
		profile = strings.ReplaceAll(profile, `(param "`+p.Name+`")`, `"`+p.Value+`"`)
	}
	filter := regexp.MustCompile(`\((subpath|literal) "([^"]*)"\)`)
	decision := "deny"
	for _, rule := range strings.Split(strings.ReplaceAll(profile, "\n\t", " "), "\n") {
		rest, ok := strings.CutPrefix(rule, "(")
		if !ok {
			continue
		}
		verb, rest, _ := strings.Cut(rest, " ")
		ops, _, _ := strings.Cut(rest, "(")
		matchesOp := slices.ContainsFunc(strings.Fields(ops), func(o string) bool {
			prefix, star := strings.CutSuffix(o, "*")
			return o == op || star && strings.HasPrefix(op, prefix)
		})
		if !matchesOp || strings.Contains(rule, "require-all") || strings.Contains(rule, "unix-socket") {
			continue
		}
		for _, m := range filter.FindAllStringSubmatch(rule, -1) {
			if m[2] == file || m[1] == "subpath" && strings.HasPrefix(file, m[2]+"/") {
				decision = verb
			}
		}
	}
	return decision
}

func TestSeatbeltDecisions(t *testing.T) {
	s := seatbeltExample(sandbox.NetworkNone)
	for _, c := range []struct{ op, file, want string }{
		{"file-read-data", "/Users/ann/work/main.go", "allow"},
		{"file-write-data", "/Users/ann/work/main.go", "allow"},
		{"file-write-data", "/Users/ann/work/vendor/x.go", "deny"}, // read-only inside a writable tree
		{"file-read-data", "/Users/ann/work/vendor/x.go", "allow"},
		{"file-read-data", "/Users/ann/work/.env", "deny"},
		{"file-write-create", "/Users/ann/work/.env", "deny"},
		{"file-write-create", "/Users/ann/work/.git/hooks/pre-commit", "deny"},
		{"file-write-create", "/Users/ann/work/.git/hooks", "deny"},
		{"file-write-unlink", "/Users/ann/work/.git", "deny"}, // AC-21: the parent cannot be renamed
		{"file-write-create", "/Users/ann/work/.git/objects/aa", "allow"},
		{"file-write-unlink", "/Users/ann/work", "deny"},
		{"file-write-create", "/Users/ann/work/.mcp.json", "deny"},
		{"file-read-data", "/Users/ann/.ssh/id_ed25519", "deny"}, // AC-70
		{"file-read-metadata", "/Users/ann/.ssh", "deny"},
		{"file-read-metadata", "/Users/ann", "allow"}, // the way to the workspace
		{"file-read-data", "/Users/ann", "deny"},      // but no listing of it
		{"file-read-data", "/Users/ann/work_evil/x", "deny"},
		{"file-read-data", "/Users/ann/.local/state/mcp-sandbox/token", "deny"},
		{"file-write-data", "/opt/homebrew/bin/git", "deny"},
		{"file-read-data", "/opt/homebrew/bin/git", "allow"},
		{"file-read-data", "/usr/bin/git", "allow"},
		{"file-write-data", "/usr/bin/git", "deny"},
		{"file-read-data", "/usr/local/bin/x", "deny"},
		{"file-read-data", "/private/etc/master.passwd", "deny"},
		{"file-read-data", "/private/tmp/other", "deny"},
		{"file-write-create", "/private/tmp/other", "deny"},
		{"file-write-create", "/private/var/folders/x/T/mcp-sandbox-1/tmp/f", "allow"},
		{"file-write-create", "/private/var/folders/x/T/other", "deny"},
		{"file-write-data", "/dev/null", "allow"},
		{"file-write-data", "/dev/ttys007", "allow"},
		{"file-write-data", "/dev/ttys001", "deny"}, // AC-25: no terminal of anybody else
		{"file-read-data", "/dev/disk0", "deny"},
		{"file-read-data", "/Applications/Mail.app/x", "deny"},
		{"file-read-data", "/Volumes/Backup/x", "deny"},
	} {
		if got := lastRule(t, s, c.op, c.file); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.op, c.file, got, c.want)
		}
	}
	// A writable grant inside a read-only one is writable; the same path in both
	// is read-only; the workspace itself stays writable whatever is granted.
	s = seatbeltSpec{Workspace: "/r/w", Home: "/r/w", Tmp: "/t", Read: []string{"/r", "/both", "/r/w"}, Write: []string{"/r/out", "/both"}, Network: sandbox.NetworkNone}
	for file, want := range map[string]string{"/r/out/f": "allow", "/r/x": "deny", "/both/f": "deny", "/r/w/f": "allow", "/t/f": "allow"} {
		if got := lastRule(t, s, "file-write-data", file); got != want {
			t.Errorf("write %s: %s, want %s", file, got, want)
		}
	}
}

func TestSeatbeltRefuses(t *testing.T) {
	change := func(f func(*seatbeltSpec)) seatbeltSpec {
		s := seatbeltExample(sandbox.NetworkAllow)
		f(&s)
		return s
	}
	for name, s := range map[string]seatbeltSpec{
		"relative workspace":        change(func(s *seatbeltSpec) { s.Workspace, s.Protect = "work", nil }),
		"dots":                      change(func(s *seatbeltSpec) { s.Read = []string{"/a/../b"} }),
		"a line end":                change(func(s *seatbeltSpec) { s.Read = []string{"/a\nb"} }),
		"NUL":                       change(func(s *seatbeltSpec) { s.Write = []string{"/a\x00"} }),
		"the whole file system":     change(func(s *seatbeltSpec) { s.Read = []string{"/"} }),
		"protecting outside":        change(func(s *seatbeltSpec) { s.Protect = []string{"/Users/ann/work_evil/.git"} }),
		"protecting everything":     change(func(s *seatbeltSpec) { s.Protect = []string{s.Workspace} }),
		"unknown network":           change(func(s *seatbeltSpec) { s.Network = "everything" }),
		"port 0":                    change(func(s *seatbeltSpec) { s.Ports = []int{0} }),
		"port out of range":         change(func(s *seatbeltSpec) { s.Ports = []int{65536} }),
		"a relative terminal":       change(func(s *seatbeltSpec) { s.TTY = "ttys001" }),
		"a relative directory":      change(func(s *seatbeltSpec) { s.Tmp = "tmp" }),
		"a state directory of dots": change(func(s *seatbeltSpec) { s.StateDirs = []string{"/a/."} }),
	} {
		_, _, err := seatbeltProfile(s)
		var e *sandbox.Error
		if !errors.As(err, &e) || e.Code() != "invalid_argument" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSeatbeltArgs(t *testing.T) {
	got := seatbeltArgs("(version 1)", []seatbeltParam{{"A", "/x=y z"}}, []string{"-p", "--", "ls"})
	want := []string{"/usr/bin/sandbox-exec", "-p", "(version 1)", "-D", "A=/x=y z", "--", "-p", "--", "ls"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// fakeMac is a host of directories and links.
type fakeMac map[string]string // path -> what it resolves to

func (m fakeMac) Resolve(p string) (string, bool) { r, ok := m[p]; return r, ok }
func (m fakeMac) IsDir(p string) bool             { _, ok := m[p]; return ok }
func (m fakeMac) Links(string) []string           { return nil }

func TestSystemToolchains(t *testing.T) {
	xcode := "/Applications/Xcode.app/Contents/Developer"
	for _, c := range []struct {
		name, path string
		host       fakeMac
		want       []string
	}{
		{"nothing", "/usr/bin:/bin", fakeMac{"/usr/bin": "/usr/bin"}, nil},
		{"Homebrew on Intel", "/usr/local/bin:/usr/bin:/usr/local/sbin", fakeMac{"/usr/local/bin": "/usr/local/bin", "/usr/local/sbin": "/usr/local/sbin"}, []string{"/usr/local"}},
		{"a missing entry opens nothing", "/usr/local/none", fakeMac{}, nil},
		{"a prefix is not beneath", "/usr/localevil/bin", fakeMac{"/usr/localevil/bin": "/usr/localevil/bin"}, nil},
		{"Xcode", "/usr/bin", fakeMac{"/private/var/db/xcode_select_link": xcode, xcode: xcode}, []string{xcode}},
		{"a link to somewhere else", "/usr/bin", fakeMac{"/private/var/db/xcode_select_link": "/Users/ann", "/Users/ann": "/Users/ann"}, nil},
	} {
		if got := systemToolchains(c.host, c.path); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
