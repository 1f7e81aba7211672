package session

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mcp-sandbox/gitstage"
	"mcp-sandbox/stage"
)

// stagedGit has reviews publish git directories as other sessions do.
type stagedGit struct{ layer *gitstage.Layer }

// openStagedGit gives a stage its publisher; without one all of git directories is
// protected.
func (c *Config) openStagedGit(st *stage.Stage, root string) error {
	project, err := openRoot(root)
	if err != nil {
		return err
	}
	defer project.Close()
	upper, err := openRoot(filepath.Join(st.Layers(), "upper"))
	if err != nil {
		return err
	}
	defer upper.Close()
	uid, gid := -1, -1
	if os.Geteuid() == 0 {
		if uid, gid, err = ownerOf(project); err != nil {
			return err
		}
	}
	l, err := gitstage.OpenLayer(project, upper, filepath.Join(filepath.Dir(st.Layers()), "git.json"), gitstage.Options{UID: uid, GID: gid, Log: c.Log, Now: c.now})
	if err != nil {
		return err
	}
	st.Git = stagedGit{l}
	return nil
}

// Look sums up what waits.
func (g stagedGit) Look(dir string) (stage.GitView, error) {
	v, err := g.layer.Look(dir)
	out := stage.GitView{New: v.New, Seen: v.Seen, Stays: v.Stays}
	var words, conflicts []string
	for _, i := range v.Items {
		words = append(words, i.Text)
		if len(i.Lines) > 0 {
			out.Lines = append(out.Lines, i.Lines...)
		} else {
			out.Lines = append(out.Lines, i.Name)
		}
		if i.Conflict != "" && !slices.Contains(conflicts, i.Conflict) {
			conflicts = append(conflicts, i.Conflict)
		}
	}
	out.Title, out.Conflict = strings.Join(words, ", "), strings.Join(conflicts, ", ")
	return out, err
}

func (g stagedGit) Begin(dirs []string, since int64) error { return g.layer.Begin(dirs, since) }

func (g stagedGit) Reload() { g.layer.Reload() }

func (g stagedGit) Publish(dir, seen string) ([]string, error) { return g.layer.Publish(dir, seen) }

func (g stagedGit) Wrote() map[string][2]string { return g.layer.Wrote() }

func (g stagedGit) Close() { g.layer.Close() }
