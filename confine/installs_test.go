package confine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInstallsIn: programs go into the usual places of the home, and into another
// where the user's own are shown there.
func TestInstallsIn(t *testing.T) {
	in := installsIn("/home/a", []string{"/opt/go", "/home/a/.cargo"})
	if got := in.searched("/usr/bin"); got != "/home/a/.local/bin:/home/a/go/bin:/usr/bin" {
		t.Errorf("PATH is %s", got)
	}
	if want := []string{"npm_config_prefix=/home/a/.local", "CARGO_INSTALL_ROOT=/home/a/.local"}; !slices.Equal(in.env, want) || len(in.files) != 0 {
		t.Errorf("%q, %v", in.env, in.files)
	}
	home := t.TempDir()
	for _, d := range []string{"/.local/bin", "/.local/lib/python3.11/site-packages", "/.local/lib/python3.12/site-packages", "/go/bin"} {
		if err := os.MkdirAll(filepath.Join(home, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in = installsIn(home, []string{home + "/.local/bin", home + "/.local/lib/python3.11", home + "/go/bin"})
	if got := in.searched("/usr/bin"); got != home+"/.session/bin:"+home+"/.session/go/bin:/usr/bin" {
		t.Errorf("PATH is %s", got)
	}
	for _, want := range []string{"PYTHONUSERBASE=" + home + "/.session", "GOPATH=" + home + "/.session/go", "npm_config_prefix=" + home + "/.session"} {
		if !slices.Contains(in.env, want) {
			t.Errorf("%q has no %s", in.env, want)
		}
	}
	if len(in.files) != 1 || in.files[0].Path != home+"/.session/lib/python3.11/site-packages/host.pth" || !strings.Contains(in.files[0].Content, home+"/.local/lib/python3.11/site-packages") {
		t.Errorf("%+v", in.files)
	}
}
