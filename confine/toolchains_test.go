package confine

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// fakeHost is a host of directories and links.
type fakeHost struct {
	dirs  []string
	links map[string]string // link to directory or file
}

func (h fakeHost) Resolve(p string) (string, bool) {
	for range 10 {
		again := false
		for l, target := range h.links {
			if rest, ok := beneath(l, p); ok {
				p, again = path.Join(target, rest), true
			}
		}
		if !again {
			break
		}
	}
	ok := h.IsDir(p)
	if !ok { // a file in a known directory
		ok = h.IsDir(path.Dir(p))
	}
	return p, ok
}

func (h fakeHost) IsDir(p string) bool {
	return slices.ContainsFunc(h.dirs, func(d string) bool { return within(d, p) })
}

func (h fakeHost) Links(dir string) []string {
	var out []string
	for l := range h.links {
		if path.Dir(l) == dir {
			if r, ok := h.Resolve(l); ok {
				out = append(out, r)
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestToolchainDirs(t *testing.T) {
	h := fakeHost{
		dirs: []string{"/usr/bin", "/usr/local/bin", "/opt/tool/bin", "/home/u/.cargo/bin", "/home/u/.rustup/toolchains", "/home/u/.ssh/bin", "/home/u/.local/bin",
			"/home/u/.local/lib", "/home/u/.local/share/keyrings", "/home/u/go/bin", "/home/u/venv/bin", "/home/u/venv/lib", "/home/u/bin", "/home/u/protoc/bin", "/home/u/protoc/include", "/home/u/protoc/share", "/home/u/protoc/private", "/home/u/etc", "/srv/node/bin", "/srv/node/lib",
			"/srv/plain/bin", "/tmp/x/bin", "/home/bin", "/nix/store/a/bin", "/data/jdk/bin", "/data/jdk/lib", "/home/u/.aws"},
		links: map[string]string{"/usr/local/bin/java": "/data/jdk/bin/java", "/jdk": "/data/jdk"},
	}
	for _, c := range []struct{ search, want string }{
		{"/usr/bin:/bin", ""},
		{"/opt/tool/bin", "/opt"},
		{"/nix/store/a/bin", "/nix"},
		{"/home/u/.cargo/bin", "/home/u/.cargo /home/u/.rustup"},
		{"/home/u/.ssh/bin", "/home/u/.ssh/bin"},
		{"/home/u/.local/bin", "/home/u/.local/bin /home/u/.local/lib"},
		{"/home/u/go/bin", "/home/u/go/bin"},
		{"/home/u/venv/bin", "/home/u/venv"},
		{"/home/u/bin", "/home/u/bin"},
		{"/home/u/protoc/bin", "/home/u/protoc/bin /home/u/protoc/include /home/u/protoc/share"},
		{"/home/u", ""},
		{"/", ""},
		{"/srv/node/bin", "/srv/node"},
		{"/srv/plain/bin", "/srv/plain/bin"},
		{"/tmp/x/bin", ""},
		{"/home/u/missing/bin", ""},
		{"relative:.:", ""},
		{"/usr/local/bin", "/data/jdk"},
		{"/jdk/bin", "/data/jdk"},
		{"/home/u/.aws:/home/u/.cargo/bin/../bin", "/home/u/.aws /home/u/.cargo /home/u/.rustup"},
	} {
		if got := strings.Join(toolchainDirs(h, c.search, []string{"/home/u"}), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.search, got, c.want)
		}
	}
}

// What rustup's programs need is found in the real home, or where the server's
// environment says, if commands can read it.
func TestToolchainEnviron(t *testing.T) {
	h := fakeHost{dirs: []string{"/home/u/.rustup", "/usr/local/rustup", "/srv/rustup"}}
	for _, c := range []struct {
		set, shown, want string
	}{
		{"", "/home/u/.cargo /home/u/.rustup", "RUSTUP_HOME=/home/u/.rustup"},
		{"", "/home/u/.cargo", ""},
		{"/usr/local/rustup", "", "RUSTUP_HOME=/usr/local/rustup"},
		{"/srv/rustup", "/home/u/.rustup", ""},
		{"/missing", "/home/u/.rustup", ""},
		{"usr/local/rustup", "", ""},
	} {
		t.Setenv("RUSTUP_HOME", c.set)
		if got := strings.Join(toolchainEnviron(h, []string{"/home/u"}, strings.Fields(c.shown)), " "); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

// Credentials beside a toolchain's programs are hidden on every system; in the
// workspace they are the user's own matter.
func TestSecretPaths(t *testing.T) {
	got := secretPaths([]string{"/home/u/.cargo", "/home/u/ws/bin", "/home"}, "/home/u/ws")
	if len(got) != len(toolchainSecrets) || !slices.Contains(got, "/home/u/.cargo/credentials.toml") || !slices.Contains(got, "/home/u/.cargo/.netrc") {
		t.Errorf("%q", got)
	}
}
