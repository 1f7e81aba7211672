package gitstage

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"mcp-sandbox/gitconfig"
)

// Where there is no stage, commands write git directories where they are. What
// follows judges afterwards what git obeys there, by the rules of Publish.

// harmless are settings of the session's own that name no program. With a stage
// they stay in it, without one they have no other place.
var harmless = strings.Fields("user.name user.email pull.rebase pull.ff push.default push.autosetupremote fetch.prune rebase.autostash rebase.autosquash " +
	"merge.conflictstyle diff.algorithm core.autocrlf core.eol core.quotepath color.ui commit.verbose extensions.worktreeconfig extensions.partialclone " +
	"remote.promisor remote.partialclonefilter index.version feature.manyfiles gc.auto core.untrackedcache")

// ConfigOptions are what a configuration is judged by.
type ConfigOptions struct {
	// Made says that there was none before, Bare that the directory is one of a
	// bare repository, Module that it is one of a submodule.
	Made, Bare, Module bool
	// Writable says whether the session can write a local path that git would
	// push to, with the hooks that are there.
	Writable func(path string) bool
	// Tree says whether a submodule may have its files there.
	Tree func(path string) bool
}

// MergeConfig gives the configuration before with what of after names no program,
// and the settings that it left out. Of text that is not configuration nothing is
// taken.
func MergeConfig(before, after string, o ConfigOptions) (text string, left []string, err error) {
	real, err := gitconfig.Parse(before)
	if err != nil {
		return before, nil, err
	}
	now, err := gitconfig.Parse(after)
	if err != nil {
		return before, []string{"all of it"}, nil
	}
	check := &configCheck{writable: o.Writable, bare: o.Bare, harmless: true}
	if o.Module {
		check.tree = o.Tree
	}
	_, left, conflicts, err := mergeConfig(real, variables(real), variables(now), o.Made, check)
	if len(conflicts) > 0 {
		err = errors.Join(err, errors.New("a setting was changed twice"))
	}
	return real.Text(), left, err
}

// SafeState says whether git runs nothing by going on with the state of a rebase or
// of picks: unit is its directory, files are what it holds.
func SafeState(unit string, files map[string]string) bool {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !goodState(unit, name, files[name]) {
			return false
		}
	}
	return true
}

// States are the directories of such states in a git directory.
func States() []string { return units }

// SafeIndex says whether git writes nothing into a git directory by checking out
// what an index names.
func SafeIndex(index []byte) bool {
	_, err := parseIndex(index, 40)
	if err != nil {
		_, err = parseIndex(index, 64)
	}
	return err == nil
}

// Gitlinks are the paths of an index at which another repository is.
func Gitlinks(index []byte) (paths []string) {
	entries, err := parseIndex(index, 40)
	if err != nil {
		entries, _ = parseIndex(index, 64)
	}
	for _, e := range entries {
		if e.mode == 0o160000 {
			paths = append(paths, e.path)
		}
	}
	return paths
}
