package confine

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// installs is where package managers put programs for the session's user (cargo
// install, go install, npm install -g, pip install --user, uv, pipx): into the home,
// in directories that are on PATH from the start.
type installs struct {
	path  []string
	env   []string
	files []file
}

// installsIn plans them for a home. Where the home has the place of the user's own,
// what is shown of that lies over the usual directories, read-only.
func installsIn(home string, shown []string) installs {
	covered := func(dir string) bool {
		return slices.ContainsFunc(shown, func(s string) bool { return within(s, dir) || within(dir, s) })
	}
	base, gopath := path.Join(home, ".local"), path.Join(home, "go")
	var in installs
	if covered(base) {
		usual := base
		base = path.Join(home, ".session")
		bin := path.Join(base, "bin")
		in.env = append(in.env, "PYTHONUSERBASE="+base, "UV_TOOL_BIN_DIR="+bin, "PIPX_BIN_DIR="+bin)
		in.files = pythonPaths(usual, base, shown)
	}
	if covered(gopath) {
		gopath = path.Join(base, "go")
		in.env = append(in.env, "GOPATH="+gopath)
	}
	in.env = append(in.env, "npm_config_prefix="+base, "CARGO_INSTALL_ROOT="+base)
	in.path = []string{path.Join(base, "bin"), path.Join(gopath, "bin")}
	return in
}

// pythonPaths has Python find what the user has installed for each version in
// addition to what the session does, see site.addsitedir.
func pythonPaths(usual, base string, shown []string) []file {
	lib := path.Join(usual, "lib")
	found, _ := filepath.Glob(lib + "/python3.*/site-packages")
	var out []file
	for _, packages := range found {
		if rest, ok := strings.CutPrefix(packages, lib); ok && within(packages, shown...) && !strings.ContainsAny(packages, "'\\\n") {
			out = append(out, file{path.Join(base, "lib", rest, "host.pth"), "import site; site.addsitedir('" + packages + "')\n", 0o644})
		}
	}
	return out
}

// searched is a PATH that finds them first.
func (in installs) searched(search string) string {
	return strings.Join(append(slices.Clone(in.path), search), ":")
}
