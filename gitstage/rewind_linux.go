package gitstage

import (
	"os"
	"strings"
	"time"
)

// maxReachedFrom bounds the refs whose ancestors are looked at for each commit.
const maxReachedFrom = 16

// KeepMoved is called before refs of the git directory dir, a path relative to
// root, are moved behind git's back. What no ref leads to afterwards gets one
// below RefPrefix, so that git keeps it. It has a sentence for each move.
func KeepMoved(root *os.File, dir string, moves []Move, o Options) (lines []string) {
	title := strings.TrimSuffix(strings.TrimSuffix(dir, ".git"), "/")
	m := mover{
		leads:   func(string, string) bool { return false },
		reached: func(string) bool { return false },
		keep:    func(string, string) (string, error) { return "", os.ErrNotExist },
	}
	err := asOwner(o.UID, o.GID, func() error {
		real, err := tree{int(root.Fd())}.sub(dir)
		if err != nil {
			return err
		}
		defer real.close()
		now, err := real.readRefs()
		if err != nil {
			return err
		}
		p := &Publisher{o: o}
		r := &repo{p: p, real: real}
		r.expireUndo()
		m.stays = staying(now, moves)
		m.leads = real.leadsTo
		m.reached = func(oid string) bool {
			looked := 0
			for c := range m.stays {
				if looked++; looked > maxReachedFrom {
					return false
				}
				if real.leadsTo(c, oid) {
					return true
				}
			}
			return false
		}
		kept := map[string]string{}
		m.keep = func(name, oid string) (string, error) {
			if ref := kept[oid]; ref != "" {
				return ref, nil
			}
			ref := undoRef(p.now(), name, oid)
			err := waitLocked(func() error { return r.plainRef(ref, oid) })
			if err == nil {
				kept[oid] = ref
			}
			return ref, err
		}
		lines = m.tell(title, moves)
		for _, v := range moves {
			if v.Name == "refs/stash" {
				keepStash(real, m)
			}
		}
		return nil
	})
	if err != nil {
		return m.tell(title, moves)
	}
	return lines
}

// staying are the objects that refs point to after the moves. Those of this
// package do not count: they go with time.
func staying(now refs, moves []Move) map[string]bool {
	out, moved := map[string]bool{}, map[string]bool{}
	for _, v := range moves {
		moved[v.Name] = true
		if isOID(v.To) {
			out[v.To] = true
		}
	}
	for _, m := range []map[string]string{now.loose, now.packed} {
		for name := range m {
			if v := now.value(name); !moved[name] && !strings.HasPrefix(name, RefPrefix) && isOID(v) {
				out[v] = true
			}
		}
	}
	return out
}

// keepStash keeps the older entries of the stash, which only its log names.
func keepStash(real tree, m mover) {
	b, err := real.read("logs/refs/stash", maxPacked)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && isOID(f[1]) && !m.stays[f[1]] {
			_, _ = m.keep("refs/stash", f[1])
		}
	}
}

// undoRef is the name under which what another ref pointed to is kept.
func undoRef(now time.Time, name, oid string) string {
	return RefPrefix + "undo/" + now.UTC().Format("20060102") + "/" + strings.TrimPrefix(name, "refs/") + "-" + oid[:10]
}
