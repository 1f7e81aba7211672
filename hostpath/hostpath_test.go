package hostpath

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestResolve(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ws, out := filepath.Join(top, "ws"), filepath.Join(top, "out")
	for _, d := range []string{ws + "/real/deep", out + "/secret"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		ws + "/abs": out, ws + "/rel": "../out", ws + "/inner": "real", ws + "/real/up": "../../out", out + "/back": ws + "/inner", out + "/ok": "secret",
		ws + "/loop": "loop", top + "/toWs": ws,
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ path, want, planted string }{
		{ws + "/real/deep", ws + "/real/deep", ""},
		{out + "/ok", out + "/secret", ""},
		{top + "/toWs/real", ws + "/real", ""},
		{ws + "/abs", "", ws + "/abs"},
		{ws + "/rel/secret", "", ws + "/rel"},
		{ws + "/inner/deep", "", ws + "/inner"},
		{ws + "/real/up", "", ws + "/real/up"},
		{out + "/back/deep", "", ws + "/inner"},
		{top + "/toWs/abs", "", ws + "/abs"},
		{ws + "/loop", "", ws + "/loop"},
		{ws + "/missing", "", ""},
	} {
		got, err := Resolve(c.path, []string{ws})
		var planted *PlantedError
		switch {
		case c.planted != "":
			if !errors.As(err, &planted) || planted.Link != c.planted {
				t.Errorf("%s: %q, %v; want the link %s refused", c.path, got, err, c.planted)
			}
		case c.want == "" && !os.IsNotExist(err), c.want != "" && (err != nil || got != c.want):
			t.Errorf("%s: %q, %v; want %q", c.path, got, err, c.want)
		}
	}
}
