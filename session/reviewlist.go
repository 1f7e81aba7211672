package session

import (
	"errors"
	"os"
	"slices"

	"mcp-sandbox/stage"
)

// Stages lists what can be reviewed in a state directory: its stages, and what of git
// directories stayed in sessions.
func Stages(c Config) ([]StageInfo, error) {
	st, err := stateThere(c)
	if err != nil || st == nil {
		return nil, err
	}
	defer st.close()
	all, err := stage.List(st.dir)
	if err != nil {
		return nil, err
	}
	kept, err := leftsOf(st.dir).list(c.now())
	for _, f := range kept {
		i := slices.IndexFunc(all, func(i StageInfo) bool { return i.Root == f.Root && i.Session == f.Session })
		if i < 0 {
			i, all = len(all), append(all, StageInfo{Root: f.Root, Session: f.Session, Created: f.Created})
		}
		all[i].GitLeft = len(f.Items)
	}
	return all, err
}

// CleanStages removes the stages in which nothing waits, and those of projects that
// are gone, and what stayed of git directories when it is too old; left are the others.
func CleanStages(c Config) (removed, left int, err error) {
	st, err := stateThere(c)
	if err != nil || st == nil {
		return 0, 0, err
	}
	all, err := stage.List(st.dir)
	removed, left, lerr := leftsOf(st.dir).clean(c.now())
	st.close()
	if err != nil {
		return 0, 0, err
	}
	errs := []error{lerr}
	for _, i := range all {
		gone := false
		if i.InUse {
			left++
			continue
		}
		if _, err := os.Lstat(i.Root); os.IsNotExist(err) {
			gone = true
		} else if s, err := stage.Open(i.Dir); err == nil {
			_ = c.openStagedGit(s, i.Root) // without it git directories count path by path
			errs = append(errs, s.Prune())
			gone, _ = s.Empty()
			errs = append(errs, s.Close())
		}
		if !gone {
			left++
			continue
		}
		removed++
		errs = append(errs, stage.Delete(i.Dir))
	}
	return removed, left, errors.Join(errs...)
}
